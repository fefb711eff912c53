"""Decision -> the words for the person who can act on it. Pure: the language comes in as a value.

An administrator gets the cause and the error; an end user gets advice, and never an exception text, a host or a path.
"""

from __future__ import annotations

from regrow.model import Action, Audience, Decision, Due, Failure, Message, Reason, Verdict
from regrow.ports import Words


def compose(failure: Failure, verdict: Verdict, decision: Decision, attempt: int, _: Words) -> tuple[Message, ...]:
    """The messages that a decision calls for; none while Regrow itself still handles the failure."""
    if decision.action is Action.RETRY or decision.reason is Reason.EXPECTED:
        return ()
    key = f"{failure.task_id}:{attempt}:{decision.action}"
    to_user = decision.action is Action.HAND_OVER and verdict.category.audience is Audience.USER
    if to_user and failure.user_id:
        return (_to_user(failure, verdict, f"{key}:user", _),)
    return (_to_administrator(failure, verdict, decision, f"{key}:administrator", _, no_user=to_user),)


def _to_user(failure: Failure, verdict: Verdict, key: str, _: Words) -> Message:
    return Message(
        key=key,
        audience=Audience.USER,
        category=verdict.category.key,
        priority="normal",
        title=_("Your request could not be completed"),
        body=advice(verdict.category.key, _),
        task_id=failure.task_id,
        task_name=failure.task_name,
        user_id=failure.user_id,
    )


def _to_administrator(
    failure: Failure, verdict: Verdict, decision: Decision, key: str, _: Words, *, no_user: bool
) -> Message:
    lines = (
        _("Cause: {cause}").format(cause=verdict.root_cause),
        explain(decision.reason, _),
        _("The end user must change the request, but nobody knows who that is, so this comes to you.")
        if no_user
        else advice(verdict.category.key, _),
        _("More: regrow show {task_id}").format(task_id=failure.task_id),
    )
    return Message(
        key=key,
        audience=Audience.ADMINISTRATOR,
        category=verdict.category.key,
        priority="high",
        title=_("Task {task} failed: {category}").format(
            task=failure.task_name, category=name(verdict.category.key, _)
        ),
        body="\n".join(lines),
        task_id=failure.task_id,
        task_name=failure.task_name,
        user_id=failure.user_id,
    )


def compose_silent(due: Due, reason: Reason, _: Words) -> Message:
    """The message about an attempt that fell silent and is not sent again."""
    return Message(
        key=f"{due.task_id}:{due.attempts + 1}:{due.deaths}:{reason}",
        audience=Audience.ADMINISTRATOR,
        category=due.category,
        priority="high",
        title=_("Task {task} needs your decision").format(task=due.task_name),
        body="\n".join(
            (
                explain(reason, _),
                _("Check whether its work was done before you run it again: regrow show {failure}").format(
                    failure=due.failure
                ),
            )
        ),
        task_id=due.task_id,
        task_name=due.task_name,
    )


def explain(reason: Reason, _: Words) -> str:
    """Why a decision was taken, as a sentence."""
    return {
        Reason.CAN_HEAL: _("Time may heal this; it will be tried again."),
        Reason.NOT_HEALABLE: _("Trying again would fail in the same way."),
        Reason.UNKNOWN_CAUSE: _("Nothing in the failure says why it failed, so it is not tried again."),
        Reason.EXPECTED: _("The task itself declares this error as expected."),
        Reason.OWNER_SAID_NO: _("The task's owner forbids automatic retries."),
        Reason.CALL_NOT_KEPT: _(
            "The call cannot be kept exactly (its arguments are not JSON, or too large), so it cannot be sent again."
        ),
        Reason.WORK_MAY_BE_DONE: _("Its work may be done already; a person must say whether it may run again."),
        Reason.WAIT_TOO_LONG: _("The other side asks for a wait of more than a day."),
        Reason.WOULD_EXPIRE: _("The task expires before the next retry would be due."),
        Reason.RETRIES_USED_UP: _("Every retry failed; no more are left."),
        Reason.RETRIES_OFF: _("Automatic retries are switched off."),
        Reason.OBSERVING: _("Observe mode: it would have been tried again."),
        Reason.CANNOT_BE_SENT: _("The stored call cannot be sent again; the dispatcher's log says why."),
        Reason.ALREADY_FAILED: _("Celery has marked it failed while it was held here, so it is not tried again alone."),
        Reason.REVOKED: _("A person revoked the task."),
        Reason.DISMISSED: _("A person dismissed it."),
        Reason.FELL_SILENT: _("A retry began and was never heard of again; its work may be done already."),
    }[reason]


def name(category: str, _: Words) -> str:
    """A category's name for people."""
    return {
        "recoverable_network": _("network trouble"),
        "recoverable_system": _("out of resources on the worker"),
        "recoverable_temporary": _("a service is unavailable for now"),
        "unrecoverable_data": _("bad data"),
        "unrecoverable_config": _("wrong set-up"),
        "unrecoverable_business": _("a business rule said no"),
        "unknown": _("unknown cause"),
    }.get(category, category)


def advice(category: str, _: Words) -> str:
    """What the person who is told can do."""
    return {
        "recoverable_network": _("Check the network and whether the other side is up."),
        "recoverable_system": _("Check memory, disk, open files and limits on the worker's machine."),
        "recoverable_temporary": _("Check the database, cache, broker or service that could not serve."),
        "unrecoverable_data": _("Look at the task's input and at the code that reads it; correct one of them."),
        "unrecoverable_config": _("Correct the set-up (credentials, settings, missing parts), then run it again."),
        "unrecoverable_business": _("Please check what you asked for, change it and try again, or ask our support."),
        "unknown": _("Look at the traceback."),
    }.get(category, _("Look at the traceback."))
