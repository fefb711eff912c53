"""What is done about failures beside the straight line: scans, a person's orders, reports and alerts."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from time import monotonic
from typing import Any

from regrow import decide, notify, report
from regrow.capture import Redaction, fingerprint
from regrow.capture.clean import text_of
from regrow.errors import LedgerError, RegrowError, StillParking
from regrow.model import (
    Answer,
    Audience,
    Begun,
    Cause,
    Ending,
    Failure,
    Handled,
    Hindrance,
    Left,
    Leftover,
    Message,
    Reason,
    Record,
    Refusal,
    ScanResult,
)
from regrow.pipeline import BATCH, Regrow
from regrow.ports import Backlog, Ledger, Source

log = logging.getLogger("regrow")

#: Failures that a scan takes in with one transaction.
SCAN_BATCH = 100

#: Nobody else scans or reports for so long, even if the one who does has died.
SCAN_LEASE = timedelta(minutes=10)
REPORT_LEASE = timedelta(minutes=2)

#: Thresholds are looked at once in this time, by whichever dispatcher is first.
WATCH_LEASE = timedelta(seconds=55)

#: Rest between two rounds of emptying the ledger.
DRAIN_REST_SECONDS = 0.5

#: Failures in one report at most; what is left comes into the next one.
REPORT_LIMIT = 10_000

#: The class of a worker's death, as Celery has it.
LOST = "billiard.exceptions.WorkerLostError"

#: Channel that shows alerts as open until they are closed.
ALERTS = "alerts"


@dataclass(frozen=True, slots=True)
class Emptying:
    """How a person wants the ledger emptied.

    Args:
        by: Who wants it.
        fail: End what is scheduled as failed, without a last run.
        telling: Deliver the messages to people that wait, though in observe mode no new ones are written.
        timeout_seconds: Stop after this time.
    """

    by: str = ""
    fail: bool = False
    telling: bool = True
    timeout_seconds: float = 600


@dataclass(frozen=True)
class Oversight(Regrow):
    """The pipeline, and what looks after it.

    Args:
        ledger: The ledger to read from.
        sources: Records of failed work that no door saw.
        scan_hours: How far back a scan looks.
        thresholds: When the administrator is alerted.
        write_report: Writes a report of a kind, made at a moment, to where people find it.
        zone: The readers' time zone; None is the machine's.
        in_force: The switches as a report shows them.
        redact: What is taken out of the texts of failures that a scan found.
    """

    ledger: Ledger = field(kw_only=True)
    sources: Sequence[Source] = ()
    scan_hours: float = 24
    thresholds: report.Thresholds = field(default_factory=report.Thresholds)
    write_report: Callable[[str, Mapping[str, Any], datetime], object] = lambda _kind, _report, _at: None
    zone: tzinfo | None = None
    in_force: Mapping[str, Any] = field(default_factory=dict)
    redact: Redaction = field(default_factory=Redaction)

    # -- scans ------------------------------------------------------------------------------------------------------

    def scan(self) -> ScanResult:
        """Take in the failures of the last hours that no door saw; each of them once, however many scan at a time."""
        with self._alone("scan", SCAN_LEASE) as mine:
            if not mine:
                return ScanResult(busy=True)
            since = self.clock() - timedelta(hours=self.scan_hours)
            found = taken = 0
            errors: list[str] = []
            for source in self.sources:
                name = type(source).__name__
                try:
                    failures = list(source.failed(since))
                except Exception as error:  # anybody's code: the other sources are scanned all the same
                    log.exception("regrow cannot scan %s", name)
                    errors.append(f"{name}: {type(error).__name__}: {text_of(error, 500)}")
                    continue
                found += len(failures)
                taken += self._take_in(name, failures, errors)
            return ScanResult(found=found, taken=taken, errors=tuple(errors))

    def _take_in(self, source: str, failures: Sequence[Failure], errors: list[str]) -> int:
        known = self.ledger.known([failure.task_id for failure in failures])
        new = [self.redact.failure(failure) for failure in failures if failure.task_id not in known]
        taken = 0
        for batch in (new[start : start + SCAN_BATCH] for start in range(0, len(new), SCAN_BATCH)):
            try:
                handled = self.handle(batch)
            except Exception:  # noqa: BLE001  # one that cannot be kept must not cost the others
                handled = [one for failure in batch for one in self._alone_taken_in(source, failure, errors)]
            # A door may have been quicker: then it is a duplicate, and nothing was written.
            taken += sum(not one.duplicate for one in handled)
        return taken

    def _alone_taken_in(self, source: str, failure: Failure, errors: list[str]) -> list[Handled]:
        try:
            return self.handle([failure])
        except Exception as error:
            log.exception("regrow cannot take in task %s, which %s has found", failure.task_id, source)
            errors.append(f"{source}: task {failure.task_id}: {text_of(error, 500)}")
            return []

    # -- orphans ----------------------------------------------------------------------------------------------------

    def find_orphans(self, *, skew_seconds: float = 0) -> int:
        """Take in the tasks that a worker began and that died with it, as the start ledger knows; return how many.

        Args:
            skew_seconds: By how much our clock is ahead of the database's.
        """
        with self._alone("orphans", SCAN_LEASE) as mine:
            if not mine:
                return 0
            now = self.clock()
            found = self.store.orphans(now - timedelta(seconds=skew_seconds) - self.lease.run, limit=SCAN_BATCH)
            over: list[Begun] = []
            taken = 0
            endings = self.dispatcher.endings([one.task_id for one in found])
            for one in found:
                failure = self._orphan(one, endings.get(one.task_id), now)
                if failure is not None and not self._alone_taken_in("the start ledger", failure, []):
                    continue  # it is found again, and must not cost the others
                taken += failure is not None
                over.append(one)
            self.store.forget(over, now=now)
            return taken

    def _orphan(self, one: Begun, ending: Ending | None, now: datetime) -> Failure | None:
        """The failure of a task that died with its worker; None if it had ended after all."""
        if one.call is None or ending in (Ending.SUCCEEDED, Ending.REVOKED):
            return None
        if ending is Ending.FAILED and one.task_id in self.ledger.known([one.task_id]):
            return None
        last = f", last seen at {one.seen_at:%Y-%m-%d %H:%M:%S} UTC" if one.seen_at else ""
        causes = (Cause(LOST, f"worker {one.worker or one.call.worker}{last}, began this task and never ended it"),)
        return replace(
            one.call,
            causes=causes,
            failed_at=now,
            traceback="",
            error=json.dumps(
                {"exc_type": "WorkerLostError", "exc_module": "billiard.exceptions", "exc_message": [causes[0].message]}
            ),
            fingerprint=fingerprint(causes, ""),
            # One beginning dies once, however often this is found.
            key=f"{one.boot}:{one.task_id}:{one.call.failed_at.timestamp()}",
            died=True,
            parkable=ending is None,
            # Celery has stored no end: it waits for one already.
            parked=ending is None and self.policies.acting,
            ended=ending is not None,
        )

    # -- a person's orders ------------------------------------------------------------------------------------------

    def again(self, which: str, *, force: bool = False, by: str = "") -> Answer:
        """A person (`by`) wants a failure retried now.

        Args:
            which: Its id in the ledger, or its task id.
            force: Retry it even if as many retries as the settings allow were made.
            by: Who wants it.
        """
        record = self.ledger.find(which)
        if record is None:
            return Answer(success=False, refusal=Refusal.UNKNOWN)
        category = self.category(record.category)
        refusal = decide.refusal(record, category, self.policies, force=force)
        if refusal is None and not self.store.again(record.id, now=self.clock(), by=by):
            refusal = Refusal.CHANGED
        limit = decide.retries_allowed(category, self.policies)
        return Answer(success=refusal is None, refusal=refusal, retries=record.retries, limit=limit)

    # -- emptying the ledger ----------------------------------------------------------------------------------------

    def drain(self, wish: Emptying, since: datetime, backlog: Backlog) -> Left:
        """Do one round of emptying the ledger, which began at `since`; any number of processes may do it at once.

        Raises:
            StillParking: In recover mode new tasks would be parked meanwhile.
        """
        if self.policies.acting:
            raise StillParking
        if backlog.waiting():
            backlog.replay(self.handle)
        now = self.clock()
        while self.store.end_waiting(since, scheduled=wish.fail, now=now, by=wish.by, limit=BATCH) == BATCH:
            pass
        while self.store.order_last_runs(since, now=now, by=wish.by, limit=BATCH) == BATCH:
            pass
        tick = self.act()
        _, _, undelivered = self._deliver(telling=wish.telling)
        left = self.ledger.left(since, audiences=self._hearing(wish.telling))
        left = replace(left, spooled=backlog.waiting(), more=tick.more or undelivered)
        return left if self.projection is not None else replace(left, copies=0)

    def as_owner(self) -> Oversight:
        """The same, taking in orphans as tasks that Celery waits for: whoever empties the ledger ends them too."""
        return replace(self, policies=replace(self.policies, acting=True))

    def leftovers(self, since: datetime, *, limit: int) -> list[tuple[Leftover, Hindrance]]:
        """What is left in the ledger that was to be emptied, and why."""
        members, now = self.ledger.members(), self.clock()
        return [
            (one, decide.hindrance(one, members, since=since, now=now, silence=self.lease.run))
            for one in self.ledger.leftovers(limit=limit)
        ]

    # -- reports ----------------------------------------------------------------------------------------------------

    def report(self, *, errors: Sequence[str] = ()) -> dict[str, Any]:
        """Report every failure handled since the last report, by whichever door it came; write it to a file (G11).

        Args:
            errors: What went wrong meanwhile, for the report's `errors`.

        Raises:
            RegrowError: Another report is being written, or this one cannot be.
        """
        with self._alone("report", REPORT_LEASE) as mine:
            if not mine:
                raise RegrowError("another report is being written at this moment; try again in a minute")
            records = self.ledger.unreported(limit=REPORT_LIMIT)
            now = self._local(self.clock())
            made = report.processing(
                records,
                ids=self._ids(records),
                errors=[*errors, *self.ledger.undelivered(limit=100)],
                settings=self.in_force,
                now=now,
                retry_text=lambda seconds: notify.retry_text(seconds, self.words),
                explain=lambda reason: notify.explain(Reason(reason), self.words),
                _=self.words,
            )
            # The file first: were we to die now, the next report would say it again, and nothing would be lost.
            self.write_report("failure_processing", made, now)
            self.store.reported({record.id: record.history[-1].number for record in records}, now=now)
        return made

    def analyze(self, *, days: int = 7) -> dict[str, Any]:
        """Report the pattern of the last days' failures; write it to a file (G12).

        Raises:
            RegrowError: The report cannot be written.
        """
        now = self.clock()
        breakdown = self.ledger.breakdown(now - timedelta(days=days), now)
        made = report.analysis(breakdown, days=days, retryable=self.policies.by_category.keys(), _=self.words)
        self.write_report("failure_analysis", made, self._local(now))
        return made

    def _ids(self, records: Sequence[Record]) -> Mapping[str, Any]:
        if self.projection is None:
            return {}
        try:
            return dict(self.projection.ids([record.task_id for record in records]))
        except Exception:  # anybody's code: the report then names Celery's ids
            log.exception("regrow: the projection cannot name its tasks")
            return {}

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(self.zone)

    # -- alerts -----------------------------------------------------------------------------------------------------

    def watch(self) -> bool:
        """Raise and clear alerts, once a minute however many dispatchers run; return whether it was our turn (G18)."""
        now = self.clock()
        if self.store.take_lease("watch", now=now, until=now + WATCH_LEASE) is None:
            return False
        self.store.settle_alerts(now=now)
        if not self.telling:
            return True
        since = now - timedelta(minutes=self.thresholds.window_minutes)
        breaches = {one.name: one for one in report.breaches(self.ledger.figures(since, now), self.thresholds)}
        for name in report.THRESHOLDS:
            if name in breaches:
                self.alert(name, report.breach_text(breaches[name], self.words))
            else:
                self.over(name, report.over_text(name, self.words))
        return True

    def alert(self, about: str, text: str) -> bool:
        """Open an alert that is about no single failure, and tell the administrator; False if one about it is open."""
        now = self.clock()
        alert = _about(about, text, "high", now)
        return self.store.raise_alert(alert, self.routed([alert], leave_out=ALERTS), now=now)

    def over(self, about: str, text: str = "") -> bool:
        """Close such an alert, and tell the administrator if there is a text; False if none is open."""
        now = self.clock()
        told = self.routed([_about(about, text, "normal", now)], leave_out=ALERTS) if text else ()
        return self.store.clear_alert(about, told, now=now)

    @contextmanager
    def _alone(self, name: str, lease: timedelta) -> Iterator[bool]:
        """Be the only one who does this; False if somebody else is at it."""
        now = self.clock()
        token = self.store.take_lease(name, now=now, until=now + lease)
        try:
            yield token is not None
        finally:
            if token is not None:
                self.store.give_lease(name, token)


def _about(group: str, text: str, priority: str, now: datetime) -> Message:
    return Message(
        key=f"{group}:{priority}:{now.isoformat()}",
        audience=Audience.ADMINISTRATOR,
        category="",
        priority=priority,
        title=text,
        body=text,
        task_id="",
        task_name="",
        group=group,
    )


def empty(
    live: Callable[[], Oversight],
    wish: Emptying,
    backlog: Backlog,
    *,
    beat: Callable[[Oversight], object],
    tell: Callable[[Left], object],
    rest: Callable[[float], bool],
) -> tuple[datetime, Left]:
    """Empty the ledger, round by round, until nothing is left or the time is over.

    Args:
        live: Gives the pipeline, with the settings as they are now.
        wish: How.
        backlog: What waits on this machine's disk.
        beat: Gives a sign of life, and looks for orphans, if it is time for that.
        tell: Hears what is left after each round.
        rest: Waits so many seconds; True if somebody wants us to stop.

    Returns:
        When it began, and what is left.

    Raises:
        StillParking: It is recover mode, or has become it.
    """
    since, end = live().clock(), monotonic() + wish.timeout_seconds
    left: Left | None = None
    while True:
        try:
            regrow = live()
            beat(regrow.as_owner())
            left = regrow.drain(wish, since, backlog)
            tell(left)
            if left.nothing and not regrow.as_owner().find_orphans():
                return since, left
        except LedgerError as error:
            if left is None:  # it never was there
                raise
            log.error("regrow: %s", error)
            left = replace(left, more=False)
        if rest(0 if left.more else DRAIN_REST_SECONDS) or monotonic() >= end:
            return since, left
