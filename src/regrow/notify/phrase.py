"""Words for single things: a reason, a category, a refusal, a duration."""

from __future__ import annotations

from regrow.model import Answer, Reason, Refusal
from regrow.ports import Words

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400

#: A duration of at least so many of its unit is told without the rest: 12 min, not 12 min 5 s.
_COARSE = 10


def explain(reason: str, _: Words) -> str:
    """Why a decision was taken, as a sentence; a reason that is none of `Reason` stays as it is."""
    sentences: dict[str, str] = {
        Reason.CAN_HEAL: _("Time may heal this; it will be tried again."),
        Reason.NOT_HEALABLE: _("Trying again would fail in the same way."),
        Reason.UNKNOWN_CAUSE: _("Nothing in the failure says why it failed, so it is not tried again."),
        Reason.EXPECTED: _("The task itself declares this error as expected."),
        Reason.OWNER_SAID_NO: _("The task's owner forbids automatic retries."),
        Reason.CALL_NOT_KEPT: _(
            "The call cannot be kept exactly (its arguments are not JSON, or too large), so it cannot be sent again."
        ),
        Reason.WORK_MAY_BE_DONE: _("Its work may be done already; a person must say whether it may run again."),
        Reason.CAUSE_UNSURE: _(
            "Only its wording suggests that time may heal it; a person must say whether to retry it."
        ),
        Reason.WAIT_TOO_LONG: _("The other side asks for a wait of more than a day."),
        Reason.WOULD_EXPIRE: _("The task expires before the next retry would be due."),
        Reason.RETRIES_USED_UP: _("Every retry failed; no more are left."),
        Reason.RETRIES_OFF: _("Automatic retries are switched off."),
        Reason.OBSERVING: _("Observe mode: it would have been tried again."),
        Reason.CANNOT_BE_SENT: _("The stored call cannot be sent again; the dispatcher's log says why."),
        Reason.ALREADY_FAILED: _(
            "Celery has marked it failed while it was held here, so it is not tried again by itself."
        ),
        Reason.REVOKED: _("A person revoked the task."),
        Reason.DISMISSED: _("A person dismissed it."),
        Reason.BY_HAND: _("A person has ordered a retry."),
        Reason.FELL_SILENT: _("A retry began and was never heard of again; its work may be done already."),
        Reason.POISON: _("It was begun again and again, and its worker died each time; it is not begun again."),
        Reason.REJECTED: _("The task itself has rejected its message."),
        Reason.NOT_RUN: _("No worker could run it; its message is gone from the queue."),
        Reason.EXPIRED: _("It had expired before a worker took it."),
    }
    return sentences.get(reason, reason)


def name(category: str, _: Words) -> str:
    """A category's name for people; one of a user's own is called as he calls it."""
    return {
        "recoverable_network": _("network trouble"),
        "recoverable_system": _("out of resources on the worker"),
        "recoverable_temporary": _("a service is unavailable for now"),
        "unrecoverable_data": _("bad data"),
        "unrecoverable_config": _("wrong set-up"),
        "unrecoverable_business": _("a business rule said no"),
        "unknown": _("unknown cause"),
    }.get(category) or _(category)


def refusal(answer: Answer, _: Words) -> str:
    """Why a person's order to retry a failure is not followed, as a sentence; '' if it is."""
    if answer.refusal is None:
        return ""
    return {
        Refusal.UNKNOWN: _("There is no such failure."),
        Refusal.RECOVERED: _("A retry has succeeded before."),
        Refusal.RUNNING: _("A retry is on its way or running already."),
        Refusal.ENDING: _("Celery is about to end it as failed; order it again in a minute."),
        Refusal.LIMIT_REACHED: _("It has had {retries}, and {limit} are allowed; a forced retry ignores this limit."),
        Refusal.CALL_NOT_KEPT: _("Its call was not kept, so it cannot be sent again."),
        Refusal.CHANGED: _("It has changed in this moment; look at it again."),
    }[answer.refusal].format(retries=retries(answer.retries, _), limit=answer.limit)


def retries(number: int, _: Words) -> str:
    """So many retries."""
    return _("1 retry") if number == 1 else _("{n} retries").format(n=number)


def retry_text(seconds: float, _: Words) -> str:
    """That a task will be retried after so many seconds."""
    if _rounded(seconds) == 0:
        return _("The task will be retried at once")
    return _("The task will be retried in {time}").format(time=duration(seconds, _))


def duration(seconds: float, _: Words) -> str:
    """A time span for people: `1.5 s`, `90 s`, `5 min`, `2 h 30 min`; of two units only if that says more."""
    seconds = _rounded(seconds)
    if seconds < 2 * _MINUTE:
        return _("{n} s").format(n=f"{seconds:g}")
    units = ((_DAY, _("{n} d")), (_HOUR, _("{n} h")), (_MINUTE, _("{n} min")), (1, _("{n} s")))
    # The largest unit of which there are two or more: 90 min say more than 1 h 30 min.
    at = next(index for index, (size, _form) in enumerate(units) if seconds >= 2 * size)
    (size, form), (smaller, small_form) = units[at], units[at + 1]
    if seconds >= _COARSE * size:
        return form.format(n=round(seconds / size))
    whole, rest = divmod(round(seconds / smaller) * smaller, size)
    if not rest:
        return form.format(n=whole)
    return _("{long} {short}").format(long=form.format(n=whole), short=small_form.format(n=rest // smaller))


def _rounded(seconds: float) -> float:
    """Tenths matter only in a short wait; the past is now."""
    return max(0.0, round(seconds, 1) if seconds < _COARSE else float(round(seconds)))
