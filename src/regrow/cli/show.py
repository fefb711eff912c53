"""What `status`, `failures` and `show` look like."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from regrow import notify
from regrow.cli.explain import label_text, percent, stored_verdict
from regrow.cli.screen import STATE_STYLES, Screen, state_meaning
from regrow.cli.text import one_line, plain
from regrow.model import Action, AttemptRecord, Balance, Label, Reason, Record, State
from regrow.ports import Words

#: The order in which the ledger equation is written.
EQUATION = (
    State.RECOVERED,
    State.SCHEDULED,
    State.HELD,
    State.DISPATCHED,
    State.HANDED_OVER,
    State.EXHAUSTED,
    State.DISMISSED,
    State.NEW,
)


def show_balance(balance: Balance, *, database: str, mode: str, spool: Text, screen: Screen) -> None:
    """The ledger at a glance: how many failures stand where, and whether any is lost; what waits outside of it."""
    _ = screen.words
    observing = _("observe: failures are recorded and explained, nothing is retried")
    recovering = _("recover: what time can heal is retried")
    screen.facts(
        (
            (_("Ledger"), database),
            (_("Mode"), observing if mode == "observe" else recovering),
        )
    )
    screen.print()
    screen.table(
        (_("State"), _("Tasks"), _("Meaning")),
        [_state_row(state, balance.by_state[state], _) for state in State],
        numbers=(1,),
    )
    screen.print()
    verdict = Text(_("balanced: yes"), "green") if balance.balanced else Text(_("balanced: no"), "bold red")
    screen.facts(
        (
            (_("Equation"), Text(equation(balance))),
            ("", verdict),
            (_("Overdue"), _overdue(balance, _)),
            (_("Parked"), _("{n}: Celery waits for these tasks to end").format(n=balance.parked)),
            (_("Messages"), _("{n} not delivered yet").format(n=balance.undelivered)),
            (_("Spool"), spool),
        )
    )


def equation(balance: Balance) -> str:
    """The ledger equation in the words of the state names."""
    terms = " + ".join(f"{state} {balance.by_state[state]}" for state in EQUATION)
    return f"captured {balance.captured} {'=' if balance.balanced else '≠'} {terms}"


def _state_row(state: State, count: int, _: Words) -> tuple[Text, Text, Text]:
    style = STATE_STYLES[state] if count else "dim"
    return Text(state, style), Text(str(count), style), Text(state_meaning(state, _), "" if count else "dim")


def _overdue(balance: Balance, _: Words) -> Text:
    text = Text(_("{n} due and not yet looked at").format(n=balance.overdue))
    if balance.overdue:
        text.append("\n" + _("If this does not fall, start a dispatcher: regrow -A proj run"), "yellow")
    return text


def show_failures(records: Sequence[Record], *, more: bool, screen: Screen) -> None:
    """A page of failures, newest first."""
    _ = screen.words
    if screen.piped:
        _print_lines(records, screen)
    elif records and screen.narrow:
        screen.table((_("Id"), _("Task, error")), [_stacked(record, screen) for record in records], numbers=(0,))
    elif records:
        titles = (_("Id"), _("Last failed"), _("State, category"), _("Task, error"))
        screen.table(titles, [_side_by_side(record, screen) for record in records], numbers=(0,))
    if not records:
        screen.remark(_("No failures."))
    elif more:
        screen.remark(_("Older ones: add --before {id}").format(id=records[-1].id))


def _side_by_side(record: Record, screen: Screen) -> tuple[RenderableType, ...]:
    when, where, what = _parts(record, screen)
    return Text(str(record.id)), Text("\n").join(when), Text("\n").join(where), what


def _stacked(record: Record, screen: Screen) -> tuple[RenderableType, ...]:
    when, where, what = _parts(record, screen)
    return Text(str(record.id)), Group(what, Text("  ").join(where), Text("  ").join(when))


def _parts(record: Record, screen: Screen) -> tuple[list[Text], list[Text], Group]:
    """When it failed, where it stands, what it is."""
    _ = screen.words
    runs = _("runs: {n}").format(n=record.attempts)
    when = [Text(screen.moment(record.last_failed_at, short=True)), Text(runs, "dim")]
    where = [Text(record.state, STATE_STYLES[record.state]), Text(plain(record.category), "dim")]
    # A name's end tells most, so it is shown whole; of an error the beginning will do, without its class's path.
    task = Text(one_line(record.task_name), "bold", overflow="fold")
    path, colon, message = record.message.partition(": ")
    error = Text(one_line(path.rpartition(".")[2] + colon + message), no_wrap=True, overflow="ellipsis")
    return when, where, Group(task, error)


def _print_lines(records: Sequence[Record], screen: Screen) -> None:
    """One line per failure with tabs between the fields, for grep, cut and awk."""
    for record in records:
        fields = (
            str(record.id),
            screen.moment(record.last_failed_at),
            record.state,
            record.category,
            str(record.attempts),
            record.task_id,
            record.task_name,
            record.message,
        )
        sys.stdout.write("\t".join(one_line(field) for field in fields) + "\n")


def show_record(record: Record, screen: Screen, *, label: Label | None = None) -> None:
    """The whole story of one failed task, and what an operator has said of its group."""
    _ = screen.words
    screen.heading(record.task_name)
    screen.facts(_summary(record, label, screen))
    for attempt in record.history:
        screen.print()
        title = _("Run {number}, failed {time}").format(number=attempt.number, time=screen.moment(attempt.failed_at))
        screen.heading(title)
        screen.facts(_attempt(attempt, screen))
    if record.notes:  # what happened beside the failed runs: orders by hand, the recovery
        screen.print()
        screen.heading(_("In short"))
        for line in notify.story(record, _, zone=screen.zone).splitlines():
            screen.print(Text(f"  {plain(line)}"))
    last = record.history[-1] if record.history else None
    if last and last.traceback.strip():
        screen.print()
        screen.heading(_("Traceback of run {number}").format(number=last.number))
        screen.print(Text(plain(last.traceback.rstrip("\n")).expandtabs(4)), wrap=False)


def _summary(record: Record, label: Label | None, screen: Screen) -> list[tuple[str, str | Text]]:
    _ = screen.words
    state = Text(record.state, STATE_STYLES[record.state]).append(
        _(": {meaning}").format(meaning=state_meaning(record.state, _)), "default"
    )
    if record.state is State.SCHEDULED and record.due_at:
        state.append(f"\n{screen.moment(record.due_at)} ({screen.until(record.due_at)})", "default")
    last = f"{screen.moment(record.last_failed_at)} ({screen.until(record.last_failed_at)})"
    return [
        (_("Failure"), str(record.id)),
        (_("Task id"), record.task_id),
        (_("State"), state),
        (
            _("Category"),
            _("{name} ({key})").format(name=notify.name(record.category, _), key=record.category),
        ),
        (_("Relabelled"), "" if label is None else label_text(label, screen)),
        (_("Decision"), reason(record.reason, _)),
        (_("Advice"), _advice(record, label, _)),
        (_("First failed"), screen.moment(record.first_failed_at)),
        (_("Last failed"), last),
        (_("Ended"), screen.moment(record.ended_at)),
        (_("Time zone"), screen.zone_name()),
        (_("Parked"), _("yes, Celery waits for this task to end") if record.parked else ""),
        (_("Queue"), record.queue),
        (_("User"), record.user_id),
        (_("Fingerprint"), record.fingerprint),
    ]


def _advice(record: Record, label: Label | None, _: Words) -> str:
    if label is not None:
        return notify.advice(label.category, _)
    return notify.advice(stored_verdict(record.history[-1]) if record.history else record.category, _)


def _attempt(attempt: AttemptRecord, screen: Screen) -> list[tuple[str, str | Text]]:
    _ = screen.words
    verdict = stored_verdict(attempt)
    error = f"{attempt.exception_type}: {attempt.message}"
    cause = _("{name}, {percent} sure, rule {rule}").format(
        name=notify.name(attempt.category, _), percent=percent(attempt.confidence), rule=attempt.rule
    )
    return [
        (_("Error"), Text(plain(error), "red")),
        (_("Root cause"), "" if verdict.root_cause == error else verdict.root_cause),
        (_("Verdict"), cause if verdict.layer != "none" else notify.name(attempt.category, _)),
        (_("Matched"), one_line(verdict.matched)),
        (_("Caution"), _(verdict.caution)),
        (_("Decision"), _deed(attempt, screen)),
        (_("Worker"), attempt.worker),
    ]


def _deed(attempt: AttemptRecord, screen: Screen) -> str:
    _ = screen.words
    deeds: dict[str, str] = {
        Action.RETRY: _("retry at {time}").format(time=screen.moment(attempt.retry_at)),
        Action.HOLD: _("held"),
        Action.HAND_OVER: _("handed over"),
        Action.GIVE_UP: _("given up"),
    }
    deed = deeds.get(attempt.action, attempt.action)
    return _("{deed}: {why}").format(deed=deed, why=reason(attempt.reason, _))


def reason(key: str, _: Words) -> str:
    """Why a decision was taken, as a sentence; the key itself if another version wrote one we do not know."""
    return notify.explain(Reason(key), _) if key in set(Reason) else key
