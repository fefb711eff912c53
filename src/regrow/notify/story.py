"""The history of a failed task as a person tells it (G22)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, tzinfo
from operator import itemgetter

from regrow.model import DRAIN, Action, AttemptRecord, Audience, Deed, Note, Reason, Record, State
from regrow.notify import phrase
from regrow.notify.text import one_line, short_error
from regrow.ports import Words


def story(record: Record, _: Words, *, zone: tzinfo | None = None) -> str:
    """What has happened to a failed task, one event a line in the order of time, and where it stands.

    A line with the date stands over each day's events.

    Args:
        record: The failure; without its history the story is short, and true.
        zone: The reader's time zone; None is the machine's.
    """
    runs = [(run.failed_at, _run(run, zone, _)) for run in record.history] or _runs_unseen(record, _)
    notes = [(note.at, _note(note, record, _)) for note in record.notes]
    lines: list[str] = []
    today = ""
    events = sorted([*runs, *notes], key=itemgetter(0))
    for at, text in events:
        local = at.astimezone(zone)
        if (day := _day(local, _)) != today:
            lines.append(today := day)
        lines.append(f"{local:%H:%M:%S} {text}")
    due = "" if record.due_at is None else _moment(record.due_at, events[-1][0], zone)
    return "\n".join([*lines, _("Now: {state}").format(state=_now(record, due, _))])


def _day(local: datetime, _: Words) -> str:
    offset = f"{local:%z}"
    return _("{date} (UTC{offset})").format(date=f"{local:%Y-%m-%d}", offset=f"{offset[:3]}:{offset[3:5]}")


def _moment(at: datetime, beside: datetime, zone: tzinfo | None) -> str:
    """An instant as it is read beside another one: the time alone if it is the same day."""
    local = at.astimezone(zone)
    same_day = local.date() == beside.astimezone(zone).date()
    return f"{local:%H:%M:%S}" if same_day else f"{local:%Y-%m-%d %H:%M:%S}"


# -- failed runs ------------------------------------------------------------------------------------------------------


def _run(run: AttemptRecord, zone: tzinfo | None, _: Words) -> str:
    return _("Run {number} failed: {what}. {decided}").format(
        number=run.number, what=_what(run.category, _error(run), _), decided=_decided(run, zone, _)
    )


def _runs_unseen(record: Record, _: Words) -> Iterator[tuple[datetime, str]]:
    """The failed runs as far as a record without its history knows them: the first one's time, and the last one."""
    if record.attempts > 1:
        yield record.first_failed_at, _("Run 1 failed.")
    what = _what(record.category, record.message, _)
    yield (
        record.last_failed_at,
        _("Run {number} failed: {what}. {decided}").format(
            number=record.attempts, what=what, decided=phrase.explain(record.reason, _)
        ),
    )


def _what(category: str, error: str, _: Words) -> str:
    """The category in words, with the error."""
    category, error = one_line(phrase.name(category, _)), short_error(error)
    return _("{name} ({key})").format(name=category, key=error) if error else category


def _error(run: AttemptRecord) -> str:
    """The exception that the verdict is about; the outermost one if that cannot be read."""
    try:
        cause = json.loads(run.verdict)["root_cause"]
    except (ValueError, LookupError, TypeError):  # written by another version
        cause = ""
    return str(cause) or ": ".join(part for part in (run.exception_type, run.message) if part)


def _decided(run: AttemptRecord, zone: tzinfo | None, _: Words) -> str:
    if run.action == Action.RETRY and run.retry_at is not None:
        seconds = (run.retry_at - (run.decided_at or run.failed_at)).total_seconds()
        if seconds < 1:
            return _("Retry at once.")
        at = _moment(run.retry_at, run.failed_at, zone)
        return _("Retry in {time}, at {moment}.").format(time=phrase.duration(seconds, _), moment=at)
    done: dict[str, str] = {Action.HOLD: _("{why} It was held."), Action.GIVE_UP: _("{why} It was given up.")}
    why = done.get(run.action, "{why}").format(why=phrase.explain(run.reason, _))
    told: dict[str, str] = {
        Audience.ADMINISTRATOR: _("{why} The administrator was told."),
        Audience.USER: _("{why} The user was told."),
    }
    return told.get(run.told, "{why}").format(why=why)


# -- what else happened -----------------------------------------------------------------------------------------------


def _note(note: Note, record: Record, _: Words) -> str:
    by, detail = one_line(note.by), one_line(note.detail)
    match note.deed:
        case Deed.RETRIED if detail == DRAIN:
            text = _("A last run was ordered by {who}, who empties the ledger.")
        case Deed.DISMISSED if detail == DRAIN:
            text = _("It was ended as failed by {who}, who empties the ledger.")
        case Deed.RETRIED:
            text = _("A retry was ordered by {who}.") if by else _("A retry was ordered by hand.")
        case Deed.DISMISSED:
            text = _("It was dismissed by {who}.") if by else _("It was dismissed by hand.")
        case Deed.CONFIRMED if not detail:
            text = _("What was said of its category was taken back by {who}.")
        case Deed.CONFIRMED:
            detail = phrase.name(detail, _)
            text = _("Its category was confirmed by {who}: {what}.") if by else _("Its category was confirmed: {what}.")
        case Deed.RECOVERED:
            text = _("Run {number} succeeded.")
        case Deed.STOPPED:
            detail = phrase.explain(detail, _)
            text = "{what}" if detail else _("It was stopped.")
    return text.format(who=by, what=detail, number=_last_run(record, note.at) + 1)


def _last_run(record: Record, at: datetime) -> int:
    """Number of the last run that had failed by then."""
    return max((run.number for run in record.history if run.failed_at <= at), default=record.attempts)


# -- where it stands --------------------------------------------------------------------------------------------------


def _now(record: Record, due: str, _: Words) -> str:
    """Where it stands; `due` is when its retry is due, '' if it is not."""
    retries = phrase.retries(record.retries, _)
    user_knows = bool(record.history) and record.history[-1].told == Audience.USER
    text = {
        State.NEW: _("recorded, nothing decided yet."),
        State.SCHEDULED: _("waits for its retry at {moment}.") if due else _("waits for its retry."),
        State.HELD: _("waits for a person to say whether it may run again."),
        State.HANDED_OVER: _("the user was told; it is not retried by itself.")
        if user_knows
        else _("needs a person; it is not retried by itself."),
        State.DISPATCHED: _("a retry is on its way or running."),
        State.RECOVERED: _("recovered after {retries}."),
        State.EXHAUSTED: _("given up after {retries}.") if record.retries else _("given up."),
        State.DISMISSED: _("dismissed; nothing more is done about it."),
    }[record.state]
    if record.state is State.HANDED_OVER and record.reason == Reason.EXPECTED:
        text = _("it failed as the task declares; nothing is done about it.")
    return text.format(retries=retries, moment=due)
