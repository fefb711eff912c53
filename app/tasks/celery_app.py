"""The Celery application of the reference application: `celery -A app.tasks.celery_app ...`.

It needs no service: messages are files, results lie in SQLite. Both stand under APP_VAR (`app.home`), unless
CELERY_BROKER_URL and CELERY_RESULT_BACKEND name something else. Regrow's own settings: see `regrow.config`.
A setting that is wrong ends the import with a message that names it.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from celery import Celery, signals
from celery.app.log import TaskFormatter
from kombu.entity import Exchange, Queue

import regrow
from app import beat, bookkeeping, broker, channels, monitoring
from app.categories import PATTERNS
from app.home import VAR
from app.mirror import TaskMirror
from app.strategy import custom_recovery_strategy
from regrow import wiring
from regrow.errors import LedgerError

settings = wiring.load_settings()
VAR.mkdir(parents=True, exist_ok=True)

#: Everything that worker and beat log from INFO on, whatever they show on the console.
LOG = Path(settings.logs_dir).absolute() / "celery.log"

celery_app = Celery("app", include=["app.tasks.business", "app.tasks.failure_tasks"])
celery_app.conf.update(
    broker_url=os.environ.get("CELERY_BROKER_URL") or f"{broker.SCHEME}://localhost",
    result_backend=os.environ.get("CELERY_RESULT_BACKEND") or f"db+sqlite:///{VAR / 'results.db'}",
    broker_connection_retry_on_startup=True,
    timezone=settings.timezone,
    # A worker takes from all three; `-Q recovery` makes one that takes from one. Each queue has a routing key of its
    # own, or a message to one would reach them all.
    task_queues=[Queue(name, Exchange(name), routing_key=name) for name in ("celery", "recovery", "monitoring")],
    beat_schedule=beat.entries(settings),
    beat_scheduler=f"{beat.__name__}:{beat.Scheduler.__name__}",
    beat_schedule_filename=str(beat.SCHEDULE),
    # Beat remembers what it has sent even if it is killed a moment later, and sees within a minute that a setting has
    # changed.
    beat_sync_every=1,
    beat_max_loop_interval=60,
)
if celery_app.conf.broker_url.startswith(f"{broker.SCHEME}:"):
    messages, control = VAR / "broker", VAR / "broker" / "control"
    control.mkdir(parents=True, exist_ok=True)
    celery_app.conf.broker_transport_options = {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(control),
        # kombu's default is a second, which each link of a chain would pay.
        "polling_interval": 0.1,
    }


# -- logs/celery.log ---------------------------------------------------------------------------------------------------


class LogFile(WatchedFileHandler):
    """A log file whose folder may come and go: a line that cannot be written never breaks the task that logs it."""

    def _open(self) -> Any:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)


def _log_to_file(logger: logging.Logger, loglevel: int, logfile: object, formatter: logging.Formatter) -> None:
    if logfile and Path(str(logfile)).absolute() == LOG:
        return  # the console's lines go there already
    file = LogFile(LOG, encoding="utf-8")
    file.setFormatter(formatter)
    # The file shows which tasks ran even if the console is to show warnings only, Celery's default.
    for handler in logger.handlers:
        handler.setLevel(loglevel)
    logger.setLevel(min(loglevel, logging.INFO))
    logger.addHandler(file)


@signals.worker_init.connect
def _log_from_the_start(**_: Any) -> None:
    """Celery sets logging up after this signal; what is said before, that Regrow is not active for example, counts."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    with suppress(OSError):
        handlers.append(LogFile(LOG, encoding="utf-8"))
    logging.basicConfig(format=celery_app.conf.worker_log_format, handlers=handlers)


@signals.after_setup_logger.connect
def _log_all(logger: logging.Logger, loglevel: int, logfile: object, **_: Any) -> None:
    try:
        _log_to_file(logger, loglevel, logfile, logging.Formatter(celery_app.conf.worker_log_format))
    except OSError as error:
        chinese = settings.language == "zh"
        text = (
            "无法写入 %s：%s。程序照常运行，日志只显示在控制台"
            if chinese
            else "cannot write %s: %s; logging to the console alone"
        )
        logger.warning(text, LOG, error.strerror)


@signals.after_setup_task_logger.connect
def _log_tasks(logger: logging.Logger, loglevel: int, logfile: object, **_: Any) -> None:
    with suppress(OSError):  # _log_all has said it
        _log_to_file(logger, loglevel, logfile, TaskFormatter(celery_app.conf.worker_task_log_format, use_color=False))


# -- Regrow ------------------------------------------------------------------------------------------------------------


@signals.worker_init.connect
def _set_up_the_ledger(**_: Any) -> None:
    """A fresh machine needs no `regrow db upgrade`. Connected before Regrow, which opens the ledger next."""
    try:
        wiring.upgrade(settings)
    except LedgerError as error:  # Regrow says what that means for this worker
        logging.getLogger("regrow").error("%s", error)


bookkeeping.connect(celery_app)
mirror = TaskMirror(celery_app, settings.language, ZoneInfo(settings.timezone) if settings.timezone else None)
regrow.install(
    celery_app,
    dispatcher=True,
    sources=[mirror],
    projection=mirror,
    channels=channels.channels(),
    sinks=monitoring.sinks(),
    strategy=custom_recovery_strategy,
    patterns=PATTERNS,
    user_of=mirror.user_of,
)
