"""What broker and result backend say about a set-up."""

from __future__ import annotations

from collections.abc import Iterator

from regrow.model import Finding, SetUp, Switches, Symptom, TaskFacts
from regrow.ports import Words
from regrow.report.finding import fine, listed, problem, setting, span, warning

_HOUR = 3600


def of_broker(setup: SetUp, switches: Switches, _: Words) -> Iterator[Finding]:
    """Whether the broker works, and what becomes of messages whose worker dies."""
    broker = setup.broker
    place = {"place": broker.place}
    if broker.error:
        text = _("The broker {place} cannot be reached: {error}.")
        mend = _("start it, or correct broker_url of the application")
        yield problem(Symptom.BROKER_UNREACHABLE, text.format(**place, error=broker.error), mend)
    elif broker.redelivers:
        text = _("The broker {place} can be reached; it delivers again what a killed worker has not acknowledged.")
        yield fine(Symptom.BROKER, text.format(**place))
    else:
        yield fine(Symptom.BROKER, _("The broker {place} can be reached.").format(**place))
    if broker.loses_messages:
        text = _("The transport of {place} loses messages even while all is well (celery/kombu#1551).")
        mend = _("let broker_url name RabbitMQ or Redis: amqp://..., redis://...")
        yield problem(Symptom.BROKER_LOSES_MESSAGES, text.format(**place), mend)
    if not broker.redelivers:
        if switches.track_starts:
            text = _("The broker {place} delivers nothing again, but the ledger notes each task that begins.")
            yield fine(Symptom.STARTS_TRACKED, text.format(**place))
        else:
            text = _("The broker {place} delivers nothing again: the task that a killed worker was running is gone.")
            yield warning(Symptom.NO_REDELIVERY, text.format(**place), setting("track_starts", "true", setup))
    if broker.visibility_seconds is not None:
        yield from _visibility(setup, broker.visibility_seconds, _)


def _visibility(setup: SetUp, limit: float, _: Words) -> Iterator[Finding]:
    """What is held without an acknowledgement for longer than the broker waits: it is delivered and run again."""
    held = setup.workers.scheduled if setup.workers is not None else None
    if held is not None and held.seconds > limit:
        text = _("A worker holds {task} for another {time}; the broker delivers it again every {limit}: it runs twice.")
        yield problem(
            Symptom.ETA_ABOVE_VISIBILITY,
            text.format(task=held.task, time=span(held.seconds, _), limit=span(limit, _)),
            _mend(held.seconds, _),
        )
    waiting = [task for task in setup.app.tasks if task.retry_seconds > limit]
    said = [task for task in waiting if task.retry_said]
    if said:
        text = _(
            "The broker delivers again after {limit} what waits longer for its own retry, so it runs twice: {tasks}."
        )
        longest = max(task.retry_seconds for task in said)
        shown = listed([_of(task, task.retry_seconds, _) for task in said], _)
        yield problem(
            Symptom.RETRY_DELAY_ABOVE_VISIBILITY,
            text.format(limit=span(limit, _), tasks=shown),
            _mend(longest, _),
        )
    elif waiting:
        text = _(
            "The broker delivers again after {limit}; a task that calls self.retry() waits {time}, so it runs twice."
        )
        longest = max(task.retry_seconds for task in waiting)
        yield warning(
            Symptom.RETRY_DELAY_ABOVE_VISIBILITY,
            text.format(limit=span(limit, _), time=span(longest, _)),
            _mend(longest, _),
        )
    slow = [(task, task.limit_seconds) for task in setup.app.tasks if task.late and task.limit_seconds]
    slow = [(task, seconds) for task, seconds in slow if seconds and seconds > limit]
    if slow:
        text = _("The broker delivers an acks_late task again after {limit}, while it may run for longer: {tasks}.")
        shown = listed([_of(task, seconds or 0, _) for task, seconds in slow], _)
        longest = max(seconds or 0 for _task, seconds in slow)
        yield problem(
            Symptom.TIME_LIMIT_ABOVE_VISIBILITY, text.format(limit=span(limit, _), tasks=shown), _mend(longest, _)
        )


def _of(task: TaskFacts, seconds: float, _: Words) -> str:
    return _("{name} ({key})").format(name=task.name, key=span(seconds, _))


def _mend(seconds: float, _: Words) -> str:
    hours = int(seconds // _HOUR + 1)
    options = f'broker_transport_options = {{"visibility_timeout": {hours * _HOUR}}}'
    return _("{options} in all processes, or shorter times").format(options=options)


def of_results(setup: SetUp, _: Words) -> Iterator[Finding]:
    """Whether anybody can see how a task has ended."""
    results = setup.results
    if results.disabled:
        text = _(
            "There is no result backend: .get() and chords do not work, and Regrow cannot see how a task has ended."
        )
        mend = _("result_backend = 'redis://...' or 'db+postgresql://...' in the application")
        yield warning(Symptom.RESULTS_DISABLED, text, mend)
    elif results.error:
        text = _("The result backend {place} cannot be reached: {error}.")
        mend = _("start it, or correct result_backend of the application")
        yield problem(Symptom.RESULTS_UNREACHABLE, text.format(place=results.place, error=results.error), mend)
    elif results.chords:
        yield fine(Symptom.RESULTS, _("The result backend {place} can be reached.").format(place=results.place))
    if not results.chords:
        text = _("The result backend {place} can do no chords, and shows a result only to whoever has sent the task.")
        mend = _("result_backend = 'redis://...' or 'db+postgresql://...' in the application")
        yield warning(Symptom.RESULTS_WITHOUT_CHORDS, text.format(place=results.place), mend)
