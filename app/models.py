"""The table of tasks (G22): what was asked for, and what has become of it.

Regrow's ledger is the truth about failures. What stands here of them is a copy that `app.mirror` keeps.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import JSON, DateTime, Dialect, String, Text
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from app.db import Base

PENDING: Final = "pending"
RUNNING: Final = "running"
RETRYING: Final = "retrying"  # waits for its next retry, or for a person who says whether there is one
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"


class Instant(TypeDecorator[datetime]):
    """An aware datetime in UTC, also where the database knows no time zones (SQLite)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database; a naive value is the machine's local time, as everywhere in Python."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Task(Base):
    """One task.

    Attributes:
        id: What people call it; `manual_recovery_task(task_id=...)` takes it.
        task_type: The last part of the task's name, e.g. `tracking_update`.
        params: `{"args": [...], "kwargs": {...}}`; None if they are no JSON.
        call: The whole call as JSON text, with its place in a chain or chord; None if only type and params are known.
        celery_task_id: Celery's id; the same for every retry.
        status: `pending`, `running`, `retrying`, `succeeded` or `failed`.
        user_id: The end user whom it serves.
        worker: The worker that has it, or had it last.
        created_at: When it was sent.
        failed_at: When it failed the last time.
        error_type: Dotted name of the exception of that failure.
        error_message: Its text.
        recovery_attempts: How many retries Regrow has sent.
        recovery_notes: What happened to it, told for people.
        recovery_revision: Revision of the ledger's record that this row shows; 0: the ledger has told nothing of it.
    """

    __tablename__ = "task"

    id: Mapped[int] = mapped_column(primary_key=True)
    task_type: Mapped[str] = mapped_column(String(255))
    params: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    call: Mapped[str | None] = mapped_column(Text)
    celery_task_id: Mapped[str] = mapped_column(String(255), unique=True, default=lambda: str(uuid4()))
    status: Mapped[str] = mapped_column(String(16), index=True, default=PENDING)
    user_id: Mapped[str | None] = mapped_column(String(255))
    worker: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(Instant, default=lambda: datetime.now(UTC))
    failed_at: Mapped[datetime | None] = mapped_column(Instant)
    error_type: Mapped[str | None] = mapped_column(String(255))
    error_message: Mapped[str | None] = mapped_column(Text)
    recovery_attempts: Mapped[int] = mapped_column(default=0)
    recovery_notes: Mapped[str] = mapped_column(Text, default="")
    recovery_revision: Mapped[int] = mapped_column(default=0)
