"""What settings, ledger and signs of life say about a set-up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from regrow.model import DISPATCHER, WORKER, Balance, Finding, LedgerFacts, Member, SetUp, Switches, Symptom
from regrow.ports import Words
from regrow.report.finding import app_name, fine, listed, problem, setting, span, warning

#: A clock may be wrong by so much: waits and leases are longer.
SKEW_SECONDS = 5.0

#: A dispatcher that is busy may look at due work so late.
OVERDUE_SECONDS = 30.0


def of_settings(setup: SetUp, switches: Switches, _: Words) -> Iterator[Finding]:
    """What is switched off."""
    name = app_name(setup)
    if not setup.app.installed:
        text = _("Regrow is not installed in the application {app}: its workers record no failure.")
        mend = _("call regrow.install(app) where the application is made, and restart the workers")
        yield problem(Symptom.NOT_INSTALLED, text.format(app=name), mend)
    if setup.app.error:
        text = _("The tasks of the application {app} cannot be loaded: {error}.")
        mend = _("mend that error; celery -A {app} report shows where it comes from")
        yield problem(Symptom.TASKS_NOT_LOADED, text.format(app=name, error=setup.app.error), mend.format(app=name))
    if switches.mode == "observe":
        text = _("The mode is observe: failures are recorded and explained, but nothing is retried and nobody is told.")
        yield warning(Symptom.OBSERVING, text, setting("mode", "recover", setup))
    if not switches.recovery_enabled:
        text = _("FAILURE_RECOVERY_ENABLED is false: nothing is retried automatically.")
        yield warning(Symptom.RETRIES_OFF, text, setting("recovery_enabled", "true", setup))
    if not switches.max_recovery_attempts:
        text = _("FAILURE_MAX_RECOVERY_ATTEMPTS is 0: nothing is retried automatically.")
        yield warning(Symptom.RETRIES_OFF, text, setting("max_recovery_attempts", "3", setup))
    if not switches.notification_enabled:
        text = _("FAILURE_NOTIFICATION_ENABLED is false: neither administrators nor users are told anything.")
        yield warning(Symptom.MESSAGES_OFF, text, setting("notification_enabled", "true", setup))


def of_ledger(setup: SetUp, switches: Switches, _: Words) -> Iterator[Finding]:
    """Whether the ledger works, and what waits in it."""
    ledger = setup.ledger
    if ledger.balance is None:
        yield _closed(ledger, app_name(setup), _)
        return
    if ledger.balance.balanced:
        text = _("The ledger {place} can be read, is up to date and balanced; failures captured: {n}.")
        yield fine(Symptom.LEDGER, text.format(place=ledger.place, n=ledger.balance.captured))
    else:
        text = _("The ledger does not balance: {captured} failures were captured, {counted} stand in its states.")
        mend = _("keep a copy of the database and report it with the output of: regrow -A {app} status --json")
        counted = sum(ledger.balance.by_state.values())
        yield problem(
            Symptom.LEDGER_UNBALANCED,
            text.format(captured=ledger.balance.captured, counted=counted),
            mend.format(app=app_name(setup)),
        )
    yield from _dispatchers(setup, ledger.balance, switches, _)
    yield from _overdue(setup, ledger.balance, switches, _)
    yield from _clocks(setup, switches, _)
    if ledger.refused:
        text = _("Messages that could not be delivered: {n}; the first one: {why}.")
        mend = _("mend that channel; they are sent again by themselves: regrow -A {app} status")
        yield warning(
            Symptom.UNDELIVERED_MESSAGES,
            text.format(n=len(ledger.refused), why=ledger.refused[0].rstrip(".")),
            mend.format(app=app_name(setup)),
        )
    if ledger.alerts:
        text = _("Open alerts: {n}; the newest one: {title}.")
        mend = _("regrow -A {app} alerts; when it is settled: regrow -A {app} alerts close {id}")
        newest = ledger.alerts[0]
        yield warning(
            Symptom.OPEN_ALERTS,
            text.format(n=len(ledger.alerts), title=newest.title.rstrip(".")),
            mend.format(app=app_name(setup), id=newest.id),
        )


def _closed(ledger: LedgerFacts, name: str, _: Words) -> Finding:
    """Why the ledger could not be read."""
    upgrade = f"regrow -A {name} db upgrade"
    if ledger.error:
        text = _("The ledger {place} cannot be reached: {error}.")
        mend = _("start its database, or let FAILURE_DATABASE_URL name another one")
        return problem(Symptom.LEDGER_UNREACHABLE, text.format(place=ledger.place, error=ledger.error), mend)
    if ledger.revision is None:
        text = _("There is no ledger at {place} yet.")
        return problem(Symptom.LEDGER_NOT_SET_UP, text.format(place=ledger.place), upgrade)
    versions = {"place": ledger.place, "revision": ledger.revision, "needed": ledger.needed}
    if ledger.revision < ledger.needed:
        text = _("The ledger {place} has version {revision}, and this Regrow needs version {needed}.")
        mend = _("stop workers and dispatchers, then: {command}").format(command=upgrade)
        return problem(Symptom.LEDGER_OUTDATED, text.format(**versions), mend)
    text = _("The ledger {place} has version {revision}, and this Regrow knows no version after {needed}.")
    mend = _("install the newer Regrow here too: pip install --upgrade regrow")
    return problem(Symptom.LEDGER_TOO_NEW, text.format(**versions), mend)


# -- signs of life ----------------------------------------------------------------------------------------------------


def alive(setup: SetUp, switches: Switches, kind: str) -> list[Member]:
    """Members of this kind whose last sign of life is no older than the lease."""
    return [one for one in setup.ledger.members if one.kind == kind and silence(one, setup) <= switches.lease_seconds]


def silence(one: Member, setup: SetUp) -> float:
    """For how many seconds a member has been silent, both clocks set right by the database's."""
    return (setup.now - one.seen_at).total_seconds() - setup.ledger.skew_seconds + one.skew_seconds


def _dispatchers(setup: SetUp, balance: Balance, switches: Switches, _: Words) -> Iterator[Finding]:
    found = alive(setup, switches, DISPATCHER)
    waits = balance.parked or balance.overdue or setup.ledger.waiting
    if found:
        text = _("Dispatchers alive: {n} ({names}).")
        names = listed([f"{one.name} {one.pid}" for one in found], _)
        yield fine(Symptom.DISPATCHER, text.format(n=len(found), names=names))
    elif switches.mode == "observe" and not waits:
        yield fine(Symptom.DISPATCHER, _("No dispatcher is alive, and in observe mode none is needed."))
    else:
        last = min((silence(one, setup) for one in setup.ledger.members if one.kind == DISPATCHER), default=None)
        if last is None:
            text = _("No dispatcher is alive: nothing is retried and no message is sent.")
        else:
            text = _("No dispatcher is alive, the last one fell silent {time} ago: nothing is retried or sent.")
        mend = _("regrow -A {app} run (as a service; or regrow.install(app, dispatcher=True) in the application)")
        yield problem(Symptom.NO_DISPATCHER, text.format(time=span(last or 0, _)), mend.format(app=app_name(setup)))


def _overdue(setup: SetUp, balance: Balance, switches: Switches, _: Words) -> Iterator[Finding]:
    if balance.overdue_since is None:
        return
    late = (setup.now - balance.overdue_since).total_seconds() - setup.ledger.skew_seconds
    if late <= max(OVERDUE_SECONDS, switches.lease_seconds):
        return
    text = _("Failures that are due and that nobody has looked at: {n}, the oldest for {time}.")
    if alive(setup, switches, DISPATCHER):
        mend = _("look for errors in the dispatcher's log; start another one: regrow -A {app} run")
    else:
        mend = _("start a dispatcher: regrow -A {app} run")
    yield problem(
        Symptom.OVERDUE_WORK,
        text.format(n=balance.overdue, time=span(late, _)),
        mend.format(app=app_name(setup)),
    )


def _clocks(setup: SetUp, switches: Switches, _: Words) -> Iterator[Finding]:
    wrong = [(_("this machine"), setup.ledger.skew_seconds)]
    for one in setup.ledger.members:
        # By its own clock or by the ledger's: of who is dead the clock does not matter.
        if min(silence(one, setup), (setup.now - one.seen_at).total_seconds()) > switches.lease_seconds:
            continue
        kind = _("worker {name}") if one.kind == WORKER else _("dispatcher {name}")
        # A member whose skew nobody knows may still be caught with a sign of life out of the future.
        ahead = one.skew_seconds if abs(one.skew_seconds) > SKEW_SECONDS else max(0.0, -silence(one, setup))
        wrong.append((kind.format(name=one.name), ahead))
    wrong = sorted((one for one in wrong if abs(one[1]) > SKEW_SECONDS), key=lambda one: -abs(one[1]))
    if not wrong:
        return
    worst = abs(wrong[0][1])
    text = _("Clocks differ from the ledger's: {clocks}.").format(clocks=listed(_shown(wrong, _), _))
    mend = _("synchronise the clocks of these machines, e.g.: timedatectl set-ntp true")
    # Beyond half a lease whoever is alive counts as dead, or the other way round.
    make = problem if worst > switches.lease_seconds / 2 else warning
    yield make(Symptom.CLOCK_SKEW, text, mend)


def _shown(wrong: Sequence[tuple[str, float]], _: Words) -> list[str]:
    ahead, behind = _("{who} is {time} ahead"), _("{who} is {time} behind")
    return [(ahead if skew > 0 else behind).format(who=who, time=span(abs(skew), _)) for who, skew in wrong]
