"""The straight line. READ FIRST.

A failed task goes `capture -> classify -> decide -> one transaction` in `Regrow.handle`, which touches only the ledger.
`Regrow.act` does what has come due, and is the only place with effects outside the ledger: so a kill -9 between any two
of its lines is a test (tests/crash), not a mystery. The retry's end comes back through `Regrow.recovered`, or as the
next failure through `handle`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta

from regrow import decide, notify
from regrow.capture.clean import text_of
from regrow.errors import Deadlock, DeliveryError, DispatchError
from regrow.model import (
    CATEGORIES,
    Action,
    Audience,
    Category,
    Decision,
    Due,
    Ending,
    Failure,
    Handled,
    Header,
    History,
    Lease,
    Message,
    Plan,
    Reason,
    State,
    Tick,
    Verdict,
)
from regrow.ports import Channel, Classifier, Clock, Dispatcher, Projection, Store, Strategy, Teaching, Words

log = logging.getLogger("regrow")

#: Failures and messages handled per claim: larger batches gained little when measured.
BATCH = 500

#: Wait after the broker or a channel refused something.
SEND_AGAIN = timedelta(seconds=10)

#: A message that no channel took is tried again after 10 s, 20 s, 40 s ... at most an hour, and never dropped.
LONGEST_DELIVERY_WAIT = timedelta(hours=1)

#: For so long messages are delivered and failures projected, then the dispatcher looks at its retries again.
DELIVERY_TIME = timedelta(seconds=2)

#: What the dispatcher looks at when it is due: waiting retries, silent attempts, ended tasks that Celery waits for.
DUE_STATES = (State.SCHEDULED, State.DISPATCHED, State.HANDED_OVER, State.EXHAUSTED, State.DISMISSED)


@dataclass(frozen=True)
class Regrow:
    """Everything that happens to a failed task.

    Args:
        store: The ledger.
        classify: Says why a task failed.
        policies: Schedules and switches.
        dispatcher: Puts tasks back on the road.
        channels: How each audience is reached: by every one of its channels, by name.
        words: The language of the messages.
        clock: Tells the time.
        luck: Gives a random number in [0, 1) for the jitter.
        lease: When silence counts as death.
        telling: False if the administrator switched messages off (FAILURE_NOTIFICATION_ENABLED), or in observe mode.
        strategy: The user's own recovery strategy, asked first.
        user_of: Finds the end user of a failure that does not name one.
        projection: The application's own record of its tasks.
        teaching: What operators have taught.
    """

    store: Store
    classify: Classifier
    policies: decide.Policies
    dispatcher: Dispatcher
    channels: Mapping[Audience, Mapping[str, Channel]]
    words: Words
    clock: Clock
    luck: Callable[[], float]
    lease: Lease = field(default_factory=Lease)
    telling: bool = True
    strategy: Strategy | None = None
    user_of: Callable[[Failure], object] | None = None
    projection: Projection | None = None
    teaching: Teaching | None = None

    # -- why it failed ----------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Hear what operators have taught since we asked last, if it is time for that."""
        if self.teaching is not None:
            self.teaching.refresh(self.store.lessons)

    def judge(self, failure: Failure) -> Verdict:
        """Why it failed: as an operator says of its group, else as the classifier finds."""
        verdict = self.classify(failure.causes)
        return verdict if self.teaching is None else self.teaching.judge(failure, verdict)

    def category(self, key: str) -> Category:
        """A category by its key; one that nobody here knows is the administrator's."""
        known = CATEGORIES if self.teaching is None else self.teaching.categories
        return known.get(key) or Category(key, Audience.ADMINISTRATOR)

    # -- a run failed -----------------------------------------------------------------------------------------------

    def handle(self, failures: Sequence[Failure]) -> list[Handled]:
        """Record failed runs with everything that follows from them, in one transaction."""
        now = self.clock()
        failures = [self._with_user(failure) for failure in failures]
        self.listen()
        verdicts = [self.judge(failure) for failure in failures]
        plans = [self._plan(failure, verdict) for failure, verdict in zip(failures, verdicts, strict=True)]
        # A row that may be parked is about to become the only copy of its task; facts that are on a disk go from there.
        only_copy = any(failure.key for failure in failures) or (
            self.policies.acting
            and any(
                failure.parkable and (verdict.category.retry or plan is not None)
                for failure, verdict, (plan, _) in zip(failures, verdicts, plans, strict=True)
            )
        )

        def record() -> list[Handled]:
            with self.store.transaction(durable=only_copy) as ledger:
                histories = ledger.histories(failures)
                return ledger.write(
                    [self._line(*one, now) for one in zip(failures, verdicts, plans, histories, strict=True)]
                )

        try:
            return record()
        except Deadlock:  # nothing of it was kept
            return record()

    def _line(
        self, failure: Failure, verdict: Verdict, planned: tuple[Plan | None, str], history: History, now: datetime
    ) -> Handled:
        plan, trouble = planned
        attempt, duplicate = decide.number(failure, history)
        decision = decide.decide(
            failure, verdict, history, attempt, now=now, policies=self.policies, luck=self.luck(), plan=plan
        )
        messages: tuple[Message, ...] = ()
        if not duplicate:
            told = (
                notify.compose(failure, verdict, decision, attempt, self.words, since=history.since)
                if self.telling
                else ()
            )
            events = (notify.event(failure, verdict, decision, attempt),) if self.channels.get(Audience.MACHINE) else ()
            messages = self.routed((*told, *events))
        return Handled(
            failure, verdict, decision, messages, history, attempt, duplicate, trouble=trouble, decided_at=now
        )

    def routed(self, messages: Iterable[Message], *, leave_out: str = "") -> tuple[Message, ...]:
        """Each message once for each channel of its audience, so that each channel is tried until it takes it."""
        return tuple(
            replace(message, key=f"{message.key}@{name}", channel=name)
            for message in messages
            for name in self.channels.get(message.audience, ())
            if name != leave_out
        )

    def _with_user(self, failure: Failure) -> Failure:
        if failure.user_id or self.user_of is None:
            return failure
        try:
            return replace(failure, user_id=str(self.user_of(failure) or ""))
        except Exception:  # anybody's code: without a user the administrator is told
            log.exception("regrow: user_of failed for task %s[%s]", failure.task_name, failure.task_id)
            return failure

    def _plan(self, failure: Failure, verdict: Verdict) -> tuple[Plan | None, str]:
        """What the user's own strategy wants, and what went wrong in it; wrong answers leave the built-in schedule."""
        if self.strategy is None:
            return None, ""
        try:
            analysis = {**asdict(verdict), "category": verdict.category.key}
            return decide.plan_of(self.strategy(failure, verdict.category.key, analysis)), ""
        except Exception as error:  # noqa: BLE001  # anybody's code
            why = _said(error, ValueError)
            trouble = f"custom recovery strategy, task {failure.task_name}: {why}; the built-in schedule was used"
            log.error("regrow: %s", trouble)
            return None, trouble

    def would_park(self, failure: Failure) -> bool:
        """Would the task be kept open, as far as that can be said without asking the ledger?"""
        verdict = self.judge(failure)
        decision = decide.decide(
            failure, verdict, History(), failure.attempt, now=self.clock(), policies=self.policies, luck=self.luck()
        )
        return decision.park

    # -- a retry runs -----------------------------------------------------------------------------------------------

    def start(self, header: Header, *, retries: int, idempotent: bool, wait: timedelta = timedelta()) -> bool:
        """May this worker run the attempt? See `Store.start`."""
        due_at = self.clock() + wait + self.lease.run
        return self.store.start(header, retries=retries, idempotent=idempotent, due_at=due_at)

    def history(self, task_id: str) -> History:
        """What the ledger knows of a task."""
        return self.store.history(task_id)

    def renew(self, headers: Sequence[Header], *, wait: timedelta = timedelta()) -> None:
        """These attempts are alive; `wait` is how long they will be quiet, for example before a native retry."""
        self.store.renew(headers, due_at=self.clock() + wait + self.lease.run)

    def recovered(self, failure: int) -> bool:
        """A retry succeeded. False if the failure had ended before."""
        return self.store.recovered(failure, now=self.clock())

    def closed(self, failure: int) -> None:
        """Celery has ended the task as failed, so nobody waits for it any longer."""
        self.store.closed([failure], now=self.clock())

    # -- what has come due ------------------------------------------------------------------------------------------

    def act(self) -> Tick:
        """Do one batch of what has come due: retries, silent attempts, endings, messages."""
        now = self.clock()
        # What a person has ordered is sent in any case (`Store.claim`).
        # Observe mode takes no new task, but sends what was parked before: Celery still waits for it.
        sending = self.policies.enabled
        states = [state for state in DUE_STATES if sending or state is not State.SCHEDULED]
        due = self.store.claim(now, limit=BATCH, lease=self.lease.claim, states=states)
        ended = [one for one in due if one.state not in (State.SCHEDULED, State.DISPATCHED)]
        waiting = self._not_over([one for one in due if one.state in (State.SCHEDULED, State.DISPATCHED)])
        again = self._rescue([one for one in waiting if one.state is State.DISPATCHED])
        if again and not sending:  # switched off while they were on their way: they wait until it is switched on
            self.store.postpone(again[0].token, [one.failure for one in again], due_at=now + SEND_AGAIN)
            again = []
        batch = [one for one in waiting if one.state is State.SCHEDULED] + again
        sent = self._settle(batch, self.dispatcher.retry(batch))
        closed = self._close(ended)
        behind = self._project()  # first: whoever is told may look into the application's own record
        delivered, undelivered, more = self._deliver()
        return Tick(
            sent=sum(sent.values()),
            rescued=sum(one.state is State.DISPATCHED for one in due),
            closed=sum(closed.values()),
            delivered=delivered,
            failed=list(sent.values()).count(False) + list(closed.values()).count(False) + undelivered,
            # A broker that refuses is not asked again without a rest.
            more=(len(due) == BATCH and all(sent.values()) and all(closed.values())) or more or behind,
        )

    def _not_over(self, waiting: Sequence[Due]) -> list[Due]:
        """Settle those whose task Celery has ended without us; return the others."""
        endings = self.dispatcher.endings([one.task_id for one in waiting])
        return [one for one in waiting if not self._over(one, endings.get(one.task_id))]

    def _over(self, due: Due, ending: Ending | None) -> bool:
        over = decide.ended(due, ending)
        if over is None:
            return False
        state, reason = over
        if state is State.RECOVERED:
            self.recovered(due.failure)
        else:
            told = self.telling and state is not State.DISMISSED
            messages = self.routed([notify.compose_silent(due, reason, self.words)] if told else [])
            self.store.over(due.token, [due.failure], messages, state=state, reason=reason, now=self.clock())
        return True

    def _rescue(self, silent: Sequence[Due]) -> list[Due]:
        """Sort out attempts whose lease ran out; return those to send again."""
        again: list[Due] = []
        for due in silent:
            decision = decide.rescue(due)
            if decision.action is Action.RETRY:
                again.append(due)
            else:
                self._stop(due, decision)
        return again

    def _stop(self, due: Due, decision: Decision) -> None:
        messages = self.routed([notify.compose_silent(due, decision.reason, self.words)] if self.telling else [])
        stop = self.store.hold if decision.action is Action.HOLD else self.store.exhausted
        stop(due.token, [due.failure], messages, reason=decision.reason, now=self.clock())

    def _settle(self, batch: Sequence[Due], refused: Mapping[int, DispatchError]) -> dict[int, bool]:
        """Write down what has become of a batch; return for each failure whether it was taken."""
        if not batch:
            return {}
        now, token = self.clock(), batch[0].token
        stopped: set[int] = set()
        for due in batch:
            error = refused.get(due.failure)
            if error is not None and error.permanent and due.state.live:
                log.error("regrow could not send task %s [%s]: %s", due.task_name, due.task_id, error)
                self._stop(due, Decision(Action.HOLD, Reason.CANNOT_BE_SENT))
                stopped.add(due.failure)
        for rescues in {due.rescues for due in batch}:
            ids = [due.failure for due in batch if due.rescues == rescues and due.failure not in refused]
            self.store.sent(token, ids, due_at=now + decide.lease(self.lease.run, rescues))
        again = [due for due in batch if due.failure in refused and due.failure not in stopped]
        if again:
            first = again[0]
            why = refused[first.failure]
            log.error(
                "regrow could not send %d tasks, the first is %s [%s]: %s",
                len(again),
                first.task_name,
                first.task_id,
                why,
            )
            self.store.postpone(token, [due.failure for due in again], due_at=now + SEND_AGAIN)
        return {due.failure: due.failure not in refused for due in batch}

    def _close(self, ended: Sequence[Due]) -> dict[int, bool]:
        """End tasks that Celery still waits for: by order first, from here if no worker took the order in time."""
        first = [due for due in ended if not due.closing]
        refused = dict(self.dispatcher.close(first))
        lost = [due for due in first if due.failure in refused and refused[due.failure].permanent]
        for due in lost:
            why = refused.pop(due.failure)
            log.error("regrow cannot order the end of task %s [%s]: %s", due.task_name, due.task_id, why)
        ordered = self._settle([due for due in first if due not in lost], refused)
        late = [due for due in ended if due.closing] + lost
        forced = self._settle(late, self._end(late))
        self.store.closed([failure for failure, ok in forced.items() if ok], now=self.clock())
        return ordered | forced

    def _end(self, late: Sequence[Due]) -> dict[int, DispatchError]:
        refused: dict[int, DispatchError] = {}
        for due in late:
            try:
                self.dispatcher.end(due)
            except DispatchError as error:
                refused[due.failure] = error
        return refused

    def _deliver(self, *, telling: bool | None = None) -> tuple[int, int, bool]:
        """Deliver what the outbox holds; return how many went out, how many did not, and whether more may wait."""
        audiences = self._hearing(self.telling if telling is None else telling)
        until = self.clock() + DELIVERY_TIME
        batch = self.store.claim_messages(self.clock(), limit=BATCH, lease=self.lease.messages, audiences=audiences)
        taken = refused = 0
        for number, due in enumerate(batch):
            if self.clock() >= until:  # slow channels must not hold up the retries
                self.store.release(due.token, [one.id for one in batch[number:]], due_at=self.clock())
                return taken, refused, True
            try:
                self._channel(due.message).send(due.message)
            except Exception as error:  # noqa: BLE001  # anybody's code: one that fails must not stop the rest
                log.error("regrow could not deliver %s: %s", due.message.key, text_of(error, 500))
                wait = min(SEND_AGAIN * 2 ** min(due.tries, 10), LONGEST_DELIVERY_WAIT)
                due_at = None if getattr(error, "permanent", False) else self.clock() + wait
                why = _said(error, DeliveryError)
                self.store.undelivered(due.token, {due.id: why}, due_at=due_at)
                refused += 1
            else:
                self.store.delivered(due.token, [due.id], now=self.clock())
                taken += 1
        return taken, refused, len(batch) == BATCH

    @staticmethod
    def _hearing(telling: bool) -> list[Audience]:  # noqa: FBT001  # the switch itself
        """Who gets messages: machines in any case."""
        return [one for one in Audience if telling or one is Audience.MACHINE]

    def _channel(self, message: Message) -> Channel:
        channels = self.channels.get(message.audience, {})
        # Written before 0002, when an audience had one channel: the log file, which still stands first.
        name = message.channel or next(iter(channels), "")
        if name not in channels:
            raise DeliveryError(f"this dispatcher has no channel {name!r} for the {message.audience}")
        return channels[name]

    def _project(self) -> bool:
        """Let the application's own record follow; return whether more is waiting."""
        if self.projection is None:
            return False
        until = self.clock() + DELIVERY_TIME
        records = self.store.changed(self.clock(), limit=BATCH)
        done: dict[int, int] = {}
        failed: list[int] = []
        for record in records:
            if self.clock() >= until:  # what is left stays marked
                break
            try:
                self.projection.project(record)
                done[record.id] = record.revision
            except Exception:  # anybody's code: one that fails must not stop the rest
                log.exception("regrow could not project failure %s (task %s)", record.id, record.task_id)
                failed.append(record.id)
        self.store.projected(done)
        self.store.unprojected(failed, due_at=self.clock() + SEND_AGAIN)
        return len(records) == BATCH or len(done) + len(failed) < len(records)


def _said(error: Exception, clear: type[Exception]) -> str:
    """What a plug-in's error says; one of the `clear` kind needs no class name before its text."""
    text = text_of(error, 500)
    return text if isinstance(error, clear) else f"{type(error).__name__}: {text}"
