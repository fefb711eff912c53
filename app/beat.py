"""What Celery's beat sends, and when; and a beat of which only one runs however it is started.

The pid file is locked for as long as beat lives, by the kernel: so a pid that is left there, or that by now belongs to
another program, is never taken for beat. Without the lock a second beat would not only send everything twice: it would
find the first one's schedule locked, take it for corrupt, and delete it.
Source: `PersistentScheduler._destroy_open_corrupted_schedule` of Celery 5.7.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, TextIO

from celery.beat import PersistentScheduler
from celery.schedules import crontab
from celery.utils.log import get_logger

from app.home import VAR
from regrow import config
from regrow.config import Settings
from regrow.errors import SettingsError

log = get_logger("celery.beat")

FOLDER = VAR / "beat"

#: Locked by the beat that runs, and names it.
PID = FOLDER / "beat.pid"

#: What beat itself remembers, without the ending that its database adds.
SCHEDULE = FOLDER / "schedule"

#: Somebody who looks whether beat runs holds the lock for a moment; a beat that starts just then must not give up.
_PATIENCE_SECONDS = 3.0


#: What each entry is for, by language. Not in the entries: Celery knows no key `description`, and beat would die of it.
DESCRIPTIONS = {
    "scan-and-process-failed-tasks": {
        "zh": "扫描失败任务，自动分析和恢复可恢复的任务",
        "en": "Scan failed tasks, analyse them and recover those that can be recovered",
    },
    "analyze-failure-patterns": {
        "zh": "分析失败任务模式，生成趋势报告和改进建议",
        "en": "Analyse the patterns of failed tasks, write a trend report with suggestions",
    },
    "check-failure-recovery-health": {
        "zh": "检查恢复成功率和最近的失败数量，超出阈值时告警",
        "en": "Check the recovery rate and the number of recent failures, alert beyond the thresholds",
    },
}


def entries(settings: Settings) -> dict[str, dict[str, Any]]:
    """What beat sends, as Celery's `beat_schedule`.

    Each message expires, in seconds, when the next one is due: one that no worker has taken by then is of no use.
    """
    minutes = settings.scan_interval_minutes
    # A crontab keeps to the clock whenever beat was started, but its */45 would mean the minutes 0 and 45.
    scan = crontab(minute=f"*/{minutes}") if 60 % minutes == 0 else timedelta(minutes=minutes)
    return {
        "scan-and-process-failed-tasks": {
            "task": "app.tasks.failure_tasks.scan_and_process_failed_tasks",
            "schedule": scan,
            "options": {"queue": "recovery", "expires": 60 * minutes},
        },
        "analyze-failure-patterns": {
            "task": "app.tasks.failure_tasks.analyze_failure_patterns",
            "schedule": crontab(minute=0, hour="*/6"),
            "options": {"queue": "monitoring", "expires": 6 * 3600},
        },
        "check-failure-recovery-health": {
            "task": "app.tasks.failure_tasks.check_failure_recovery_health",
            "schedule": crontab(minute="*/30"),
            "options": {"queue": "monitoring", "expires": 30 * 60},
        },
    }


# -- beat itself -------------------------------------------------------------------------------------------------------


class Scheduler(PersistentScheduler):
    """Celery's own scheduler: alone, following the settings, and noting when it has sent what."""

    #: Held by this process from its first schedule on until it ends.
    _lock: ClassVar[TextIO | None] = None
    _seen: tuple[object, ...]

    def setup_schedule(self) -> None:
        """Open the schedule, if no other beat runs."""
        if Scheduler._lock is not None:  # SIGTERM came while it was being opened: Celery asks for it again, to close it
            Scheduler._lock.truncate(0)
            raise SystemExit(0)
        Scheduler._lock = _take()
        self._seen = config.stamps(Path())
        super().setup_schedule()

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """Send what is due, at the intervals that the settings give now."""
        if (seen := config.stamps(Path())) != self._seen:
            self._seen = seen
            try:
                wanted = entries(config.load())
            except SettingsError as error:
                log.error("beat goes on with the schedule that it has: %s", error)
            else:
                for name, entry in wanted.items():
                    self.schedule[name].update(self.Entry(**entry, name=name, app=self.app))
                self._heap = None  # made anew by this very tick
        return super().tick(*args, **kwargs)

    def apply_async(self, entry: Any, *args: Any, **kwargs: Any) -> Any:
        """Send an entry's task, and note when."""
        result = super().apply_async(entry, *args, **kwargs)
        (FOLDER / f"{entry.name}.sent").touch()
        return result

    def close(self) -> None:
        """Save the schedule; an empty pid file says that beat has ended in order. Called twice when beat is stopped."""
        super().close()
        if Scheduler._lock is not None:
            Scheduler._lock.truncate(0)


def _take() -> TextIO:
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = PID.open("a+", encoding="utf-8")
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < end:
                time.sleep(0.05)
                continue
            log.critical("another beat is running (process %s); this one ends", PID.read_text(encoding="utf-8"))
            raise SystemExit(1) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        return file


# -- what others ask about it ------------------------------------------------------------------------------------------


def running() -> int | None:
    """The process id of the beat that runs, None if none does.

    Raises:
        OSError: The pid file cannot be read, or whoever holds it does not say who it is.
    """
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            file = PID.open(encoding="utf-8")
        except FileNotFoundError:
            return None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = file.read()
            else:
                return None
        if pid.isdecimal():
            return int(pid)
        if time.monotonic() > end:  # beat is about to write it, or about to end
            raise OSError(f"{PID} is locked by a process that does not name itself")
        time.sleep(0.05)


def left_behind() -> str:
    """The process id of a beat that was killed, '' if the last one ended in order. Ask when none is running."""
    with suppress(FileNotFoundError):
        return PID.read_text(encoding="utf-8").strip()
    return ""


def started_at() -> datetime:
    """When the beat that runs has started."""
    return _time_of(PID)


def sent_at(entry: str) -> datetime | None:
    """When beat has last sent the entry with this name, None if never."""
    with suppress(FileNotFoundError):
        return _time_of(FOLDER / f"{entry}.sent")
    return None


def _time_of(file: Path) -> datetime:
    return datetime.fromtimestamp(file.stat().st_mtime, UTC)
