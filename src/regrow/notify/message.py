"""Who is told what about a decision."""

from __future__ import annotations

from datetime import datetime
from shlex import quote

from regrow.model import UNKNOWN, Action, Audience, Decision, Due, Failure, Message, Reason, Verdict, type_of
from regrow.notify import phrase
from regrow.notify.advice import advice, cause, user_advice
from regrow.notify.text import one_line, short_error
from regrow.ports import Words


def compose(
    failure: Failure,
    verdict: Verdict,
    decision: Decision,
    attempt: int,
    _: Words,
    *,
    since: datetime | None = None,
) -> tuple[Message, ...]:
    """The messages that a decision calls for; none while Regrow itself still handles the failure.

    Args:
        failure: What happened.
        verdict: Why.
        decision: What is done about it.
        attempt: Number of the run that failed; `attempt - 1` retries were made before it.
        since: When the task's first run failed, to say how long it was retried; None if nobody knows.
    """
    if decision.action is Action.RETRY or decision.reason is Reason.EXPECTED:
        return ()
    key = f"{failure.task_id}:{attempt}:{decision.action}"
    to_user = decision.action is Action.HAND_OVER and verdict.category.audience is Audience.USER
    if to_user and failure.user_id:
        return (_to_user(failure, verdict, f"{key}:user", _),)
    retries = attempt - 1
    return (
        Message(
            key=f"{key}:administrator",
            audience=Audience.ADMINISTRATOR,
            category=verdict.category.key,
            priority="high",
            title=_title(failure, verdict, decision, retries, _),
            body="\n".join(_body(failure, verdict, decision, retries, since, _)),
            task_id=failure.task_id,
            task_name=failure.task_name,
            user_id=failure.user_id,
            group=failure.fingerprint,
        ),
    )


def _to_user(failure: Failure, verdict: Verdict, key: str, _: Words) -> Message:
    why, text = user_advice(verdict, _)
    title = _("Your request could not be completed: {why}") if why else _("Your request could not be completed")
    return Message(
        key=key,
        audience=Audience.USER,
        category=verdict.category.key,
        priority="normal",
        title=title.format(why=why),
        body=text,
        task_id=failure.task_id,
        task_name=failure.task_name,
        user_id=failure.user_id,
        group=failure.fingerprint,
    )


def _title(failure: Failure, verdict: Verdict, decision: Decision, retries: int, _: Words) -> str:
    """What failed and why, on one line: a phone at night shows no more."""
    if decision.action is Action.HOLD:
        title = _("{task} waits for your decision: {why}")
    elif decision.action is Action.GIVE_UP and retries:
        title = _("{task} still fails after {retries}: {why}")
    else:
        title = _("{task} failed: {why}")
    return title.format(task=one_line(failure.task_type), retries=phrase.retries(retries, _), why=_in_short(verdict, _))


def _in_short(verdict: Verdict, _: Words) -> str:
    """The cause for a title; where nobody knows it, the error itself says most."""
    why, error = one_line(cause(verdict, _)), short_error(verdict.root_cause)
    if verdict.category != UNKNOWN or not error:
        return why
    return _("{name} ({key})").format(name=why, key=error)


def _body(
    failure: Failure, verdict: Verdict, decision: Decision, retries: int, since: datetime | None, _: Words
) -> list[str]:
    """What an administrator needs: which task, the error, what was decided, what to do about it."""
    todo = advice(verdict, _)
    if verdict.category.audience is Audience.USER:
        todo = _("What the user can do: {advice}").format(advice=todo)
    lines = [
        _("Task: {task} ({category})").format(task=failure.task_name, category=phrase.name(verdict.category.key, _)),
        _("Cause: {cause}").format(cause=verdict.root_cause),
        _why(failure, decision, retries, since, _),
    ]
    if decision.action is Action.HAND_OVER and verdict.category.audience is Audience.USER:
        lines.append(_("The end user must change the request, but nobody knows who that is, so this comes to you."))
    lines.append(todo)
    if failure.envelope is not None and decision.reason not in (Reason.WOULD_EXPIRE, Reason.EXPIRED):
        lines.append(_how_to_retry(failure.task_id, decision, _))
    lines.append(_more(failure.task_id, _))
    return lines


def _why(failure: Failure, decision: Decision, retries: int, since: datetime | None, _: Words) -> str:
    if decision.reason is not Reason.RETRIES_USED_UP or not retries:
        return phrase.explain(decision.reason, _)
    if since is None:
        return _("Every retry failed ({retries}); no more are left.").format(retries=phrase.retries(retries, _))
    return _("Every retry failed ({retries} in {time}); no more are left.").format(
        retries=phrase.retries(retries, _),
        time=phrase.duration((failure.failed_at - since).total_seconds(), _),
    )


def _how_to_retry(task_id: str, decision: Decision, _: Words) -> str:
    # An id is anybody's text: it must not become a command where an administrator pastes it into a shell.
    task_id = quote(task_id)
    if decision.reason is Reason.WORK_MAY_BE_DONE:
        return _check_first(task_id, _)
    if decision.reason is Reason.POISON:
        return _poison(task_id, _)
    if decision.action is Action.HOLD:
        return _("Run it again: regrow retry {task_id}; leave it: regrow dismiss {task_id}").format(task_id=task_id)
    if decision.reason is Reason.RETRIES_USED_UP:
        return _("When that is done, run it again: regrow retry {task_id} --force").format(task_id=task_id)
    return _("When that is done, run it again: regrow retry {task_id}").format(task_id=task_id)


def _poison(task_id: str, _: Words) -> str:
    return _(
        "Find out what in it kills the worker (memory, a C library, a time limit); then run it again: "
        "regrow retry {task_id} --force"
    ).format(task_id=task_id)


def _check_first(task_id: str, _: Words) -> str:
    return _(
        "Check whether its work was done. If not: regrow retry {task_id}; if it was: regrow dismiss {task_id}"
    ).format(task_id=task_id)


def _more(task_id: str, _: Words) -> str:
    return _("More: regrow show {task_id}").format(task_id=quote(task_id))


def compose_silent(due: Due, reason: Reason, _: Words) -> Message:
    """The message about an attempt that is not sent again: it fell silent, or cannot be sent, or Celery ended it."""
    whys: dict[Reason, str] = {
        Reason.FELL_SILENT: _("its retry fell silent"),
        Reason.CANNOT_BE_SENT: _("it cannot be sent again"),
        Reason.ALREADY_FAILED: _("Celery has ended it as failed"),
        Reason.POISON: _("it kills its worker"),
    }
    lines = [
        _("Task: {task} ({category})").format(task=due.task_name, category=phrase.name(due.category, _)),
        phrase.explain(reason, _),
    ]
    if due.deaths > 1 and reason is not Reason.POISON:
        lines.append(
            _("{n} retries ended in that way: does something in the task kill the worker?").format(n=due.deaths)
        )
    lines.append(_todo(due, reason, _))
    lines.append(_more(due.task_id, _))
    return Message(
        key=f"{due.task_id}:{due.attempts + 1}:{due.token}:{reason}",
        audience=Audience.ADMINISTRATOR,
        category=due.category,
        priority="high",
        title=_("{task} waits for your decision: {why}").format(
            task=one_line(type_of(due.task_name)), why=whys.get(reason, one_line(phrase.name(due.category, _)))
        ),
        body="\n".join(lines),
        task_id=due.task_id,
        task_name=due.task_name,
        group=due.fingerprint,
    )


def _todo(due: Due, reason: Reason, _: Words) -> str:
    task_id = quote(due.task_id)
    if reason is Reason.CANNOT_BE_SENT:
        return _(
            "When that is put right, run it again: regrow retry {task_id}; or leave it: regrow dismiss {task_id}"
        ).format(task_id=task_id)
    if reason is Reason.POISON:
        return _poison(task_id, _)
    if reason is Reason.ALREADY_FAILED:
        return _("If its work is still needed, run it again: regrow retry {task_id}").format(task_id=task_id)
    return _check_first(task_id, _)
