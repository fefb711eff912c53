"""What the workers say about a set-up: who is there, who records failures, and which queue nobody consumes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from regrow.model import WORKER, Finding, QueueFacts, SetUp, Switches, Symptom, WorkersFacts
from regrow.ports import Words
from regrow.report.finding import app_name, fine, listed, problem, warning
from regrow.report.of_ledger import alive


def of_workers(setup: SetUp, switches: Switches, _: Words) -> Iterator[Finding]:
    """Whether there are workers, and whether they do what they should."""
    workers, members = setup.workers, alive(setup, switches, WORKER)
    if workers is None:  # the broker is down
        return
    silent = [one.name for one in members if one.name not in workers.queues]
    living = {one.name for one in members}
    mine = _ours(setup, workers, living)
    yield from _presence(setup, workers, mine, silent, _)
    deaf = [name for name in mine if name not in living]
    if deaf and setup.app.installed and setup.ledger.balance is not None:
        text = _("Workers that run tasks and give the ledger no sign of life: {names}; nobody sees what fails there.")
        mend = _(
            "look for `regrow is NOT active` in the worker's log; start it anew with this application and the same "
            "settings (ledger: {place})"
        )
        yield problem(
            Symptom.WORKER_WITHOUT_REGROW,
            text.format(names=listed(deaf, _)),
            mend.format(place=setup.ledger.place),
        )
    consumed = [queue for queues in workers.queues.values() for queue in queues]
    known = {queue.name: queue for queue in setup.app.queues}
    for one in members:
        if one.name in silent:
            consumed.extend(known.get(queue, QueueFacts(queue, queue)) for queue in one.queues)
    if mine or silent:
        yield from _queues(setup, consumed, _)


def _presence(
    setup: SetUp, workers: WorkersFacts, mine: Sequence[str], silent: Sequence[str], _: Words
) -> Iterator[Finding]:
    if workers.error:
        text = _("The workers cannot be asked: {error}.")
        mend = "celery -A {app} inspect ping"
        yield warning(Symptom.WORKERS_SILENT, text.format(error=workers.error), mend.format(app=app_name(setup)))
    elif silent:
        text = _("Workers that give the ledger signs of life and do not answer Celery: {names}.")
        mend = _("wait if they have one process (-P solo) that is at work; else restart them")
        yield warning(Symptom.WORKERS_SILENT, text.format(names=listed(silent, _)), mend)
    if mine:
        text = _("Workers that answer: {n} ({names}).")
        yield fine(Symptom.WORKERS, text.format(n=len(mine), names=listed(mine, _)))
    elif not silent and not workers.error:
        text = _("No worker of this application answers, and none gives the ledger a sign of life: nothing runs.")
        yield problem(Symptom.NO_WORKER, text, _command(setup, *_in_use(setup)))


def _ours(setup: SetUp, workers: WorkersFacts, living: Collection[str]) -> list[str]:
    """Workers of this application: others may use the same broker."""
    mine = {*(queue.name for queue in setup.app.queues), *_in_use(setup)}
    return sorted(
        name for name, queues in workers.queues.items() if name in living or any(queue.name in mine for queue in queues)
    )


def _in_use(setup: SetUp) -> list[str]:
    """The queues to which the application is known to send."""
    return list(dict.fromkeys((setup.app.default_queue, *setup.app.beat.values(), *_waiting(setup))))


def _queues(setup: SetUp, consumed: Sequence[QueueFacts], _: Words) -> Iterator[Finding]:
    """The queues that get messages and that no worker consumes."""

    def lonely(queue: str) -> bool:
        return not any(one.takes(queue) for one in consumed)

    named: set[str] = set()
    for queue, count in _waiting(setup).items():
        if lonely(queue):
            text = _("No worker consumes the queue {queue}, where failed tasks wait to run again: {n}.")
            yield problem(Symptom.PARKED_QUEUE_UNCONSUMED, text.format(queue=queue, n=count), _command(setup, queue))
            named.add(queue)
    entries: dict[str, list[str]] = {}
    for entry, queue in setup.app.beat.items():
        entries.setdefault(queue, []).append(entry)
    for queue, names in entries.items():
        if lonely(queue):
            text = _("No worker consumes the queue {queue}, to which beat sends: {entries}.")
            yield problem(
                Symptom.BEAT_QUEUE_UNCONSUMED,
                text.format(queue=queue, entries=listed(names, _)),
                _command(setup, queue),
            )
            named.add(queue)
    default = setup.app.default_queue
    if lonely(default) and default not in named:
        text = _("No worker consumes the default queue {queue}: a task that names no other never runs.")
        yield warning(Symptom.DEFAULT_QUEUE_UNCONSUMED, text.format(queue=default), _command(setup, default))
    elif not named:
        text = _("Every queue in use has a worker: {names}.")
        yield fine(Symptom.QUEUES, text.format(names=listed(_in_use(setup), _)))


def _waiting(setup: SetUp) -> Mapping[str, int]:
    """How many failures wait to run again, by the name of the queue."""
    counts: dict[str, int] = {}
    for key, count in setup.ledger.waiting.items():
        name = next((queue.name for queue in setup.app.queues if queue.takes(key)), key)
        counts[name] = counts.get(name, 0) + count
    return counts


def _command(setup: SetUp, *queues: str) -> str:
    return f"celery -A {app_name(setup)} worker -Q {','.join(queues)}"
