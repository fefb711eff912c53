"""What the doctor looks at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regrow.config import Settings
from regrow.model import SetUp, Switches
from regrow.wiring.parts import PATIENCE_SECONDS, clock, open_spool

if TYPE_CHECKING:
    from celery import Celery


def examine(app: Celery, settings: Settings, *, app_name: str) -> SetUp:
    """Look at everything that a set-up needs; changes nothing, and waits half a minute at most.

    Args:
        app: The Celery application.
        settings: The settings.
        app_name: How the command line names the application.
    """
    from regrow.adapters.examination import examine as look
    from regrow.adapters.sql import Database

    return look(
        app,
        app_name,
        database=Database(settings.database_url, patience_seconds=PATIENCE_SECONDS),
        spool=open_spool(settings),
        folders={name: Path(getattr(settings, name)) for name in ("logs_dir", "reports_dir", "spool_dir")},
        clock=clock,
        redact=settings.redaction().text,
    )


def switches(settings: Settings) -> Switches:
    """The settings that the findings of an examination depend on."""
    return Switches(**{name: getattr(settings, name) for name in Switches.__slots__})
