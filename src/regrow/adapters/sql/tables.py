"""The ledger's tables. The migrations create them; a test compares both.

MariaDB and MySQL have no partial indexes: there the migrations leave the condition out, or make what comes nearest.

`failure.due_at` carries the whole clockwork: it is when the dispatcher must look at the row next, whatever its state,
and NULL when nobody needs to. A claim moves it to the end of the claim's lease, so a dispatcher that dies gives its
work back.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from regrow.capture.clean import clean

#: Longest task id that is kept exactly. Source: AMQP 0-9-1 carries it as a short string (`correlation_id`).
TASK_ID_LIMIT = 255

#: SQLite counts rows by itself only in a column that it calls INTEGER.
Id = BigInteger().with_variant(Integer(), "sqlite")

#: MySQL's TEXT and BLOB end at 64 kB, its FLOAT after seven digits.
LongText = Text().with_variant(mysql.LONGTEXT(), "mysql")
Bytes = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql")
Number = Float().with_variant(mysql.DOUBLE(asdecimal=False), "mysql")


class Instant(TypeDecorator[datetime]):
    """An aware datetime, kept in UTC.

    SQLite has no such type: there it is text that sorts as time does. MySQL has none with a zone, nor with fractions of
    a second unless it is asked for them.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The database's type."""
        return mysql.DATETIME(fsp=6) if dialect.name == "mysql" else super().load_dialect_impl(dialect)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database; a naive datetime is a mistake and is refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the ledger takes aware datetimes only, got {value!r}")
        instant = value.astimezone(UTC)
        return instant if dialect.name == "postgresql" else instant.replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the database."""
        if value is None:
            return None
        instant: datetime = value
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


class Word(TypeDecorator[str]):
    """A name from one of our enumerations, kept as its value (psycopg would send an Enum's Python name)."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """To the database."""
        return None if value is None else str(value)


class Phrase(TypeDecorator[str]):
    """Text for people: what no database can hold is replaced, and what is too long for the column is cut."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """To the database."""
        return None if value is None else clean(value, _length(self))


class LongPhrase(Phrase):
    """A Phrase of any length."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The database's type."""
        return mysql.LONGTEXT() if dialect.name == "mysql" else super().load_dialect_impl(dialect)


class Name(TypeDecorator[str]):
    """Text that tells one thing from another: kept exactly where that is possible, and never taken for its like."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """To the database; the same in comparisons."""
        return None if value is None else folded(value, _length(self))


def _length(kind: TypeDecorator[str]) -> int:
    return getattr(kind.impl_instance, "length", None) or sys.maxsize


def folded(text: str, limit: int) -> str:
    """`text` itself, or a beginning and a digest of it if it is longer than `limit` or holds NUL or lone surrogates."""
    if len(text) <= limit and clean(text) == text:
        return text
    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{clean(text[: limit - len(digest) - 1])}~{digest}"


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

failure = Table(
    "regrow_failure",
    metadata,
    Column("id", Id, primary_key=True),
    Column("task_id", Name(TASK_ID_LIMIT), nullable=False, unique=True),
    Column("task_name", Phrase(255), nullable=False),
    Column("state", Word(16), nullable=False),
    Column("category", Word(64), nullable=False),
    Column("reason", Word(32), nullable=False),
    Column("fingerprint", Phrase(64), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("rescues", Integer, nullable=False),
    # How often its worker died with it, counted from `deaths_since` on (`decide.DEATH_WINDOW`).
    Column("deaths", Integer, nullable=False),
    Column("deaths_since", Instant),
    # Celery waits for this task's end: it was parked and has neither recovered nor been closed.
    Column("parked", Boolean, nullable=False),
    Column("idempotent", Boolean, nullable=False),
    Column("due_at", Instant),
    Column("token", String(32)),
    # Native retries that the running attempt had made when it last started; NULL until a worker starts it.
    Column("started_retries", Integer),
    # An order to fail was sent, because Celery had not ended a parked task by itself.
    Column("ordered", Boolean, nullable=False),
    Column("queue", Phrase(255), nullable=False),
    Column("user_id", Phrase(255), nullable=False),
    Column("first_failed_at", Instant, nullable=False),
    Column("last_failed_at", Instant, nullable=False),
    Column("ended_at", Instant),
    # A scan found it; no door saw it.
    Column("scanned", Boolean, nullable=False, server_default=false()),
    # The retry that it waits for was ordered by a person: it is sent even while retries are switched off.
    Column("manual", Boolean, nullable=False, server_default=false()),
    # What a person says is the right category.
    Column("confirmed", Word(64), nullable=False, server_default=text("''")),
    # Grows with each change. `project_at`: when the application's own record must follow; NULL if it has.
    Column("revision", Integer, nullable=False, server_default=text("0")),
    Column("project_at", Instant),
    sqlite_autoincrement=True,
)
Index(
    "ix_regrow_failure_project_at",
    failure.c.project_at,
    failure.c.id,
    sqlite_where=failure.c.project_at.isnot(None),
    postgresql_where=failure.c.project_at.isnot(None),
)
Index("ix_regrow_failure_ended_at", failure.c.state, failure.c.ended_at)
Index("ix_regrow_failure_last_failed_at", failure.c.last_failed_at)
Index("ix_regrow_failure_fingerprint", failure.c.fingerprint, failure.c.state)
Index(
    "ix_regrow_failure_due_at",
    failure.c.due_at,
    sqlite_where=failure.c.due_at.isnot(None),
    postgresql_where=failure.c.due_at.isnot(None),
)
Index("ix_regrow_failure_state_id", failure.c.state, failure.c.id)

attempt = Table(
    "regrow_attempt",
    metadata,
    Column("id", Id, primary_key=True),
    Column("failure_id", Id, ForeignKey("regrow_failure.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("failed_at", Instant, nullable=False),
    Column("exception_type", Phrase(255), nullable=False),
    Column("message", LongPhrase, nullable=False),
    Column("traceback", LongPhrase, nullable=False),
    Column("error", LongPhrase, nullable=False),
    Column("worker", Phrase(255), nullable=False),
    Column("category", Word(64), nullable=False),
    Column("confidence", Number, nullable=False),
    Column("rule", Phrase(255), nullable=False),
    Column("verdict", LongPhrase, nullable=False),
    Column("action", Word(16), nullable=False),
    Column("reason", Word(32), nullable=False),
    Column("retry_at", Instant),
    Column("decided_at", Instant),
    # Who was told: an Audience, or '' for nobody.
    Column("told", Word(16), nullable=False, server_default=text("''")),
    # What went wrong in a plug-in while it was decided.
    Column("trouble", LongPhrase, nullable=False, server_default=text("''")),
    # When it stood in a processing report.
    Column("reported_at", Instant),
    # Names the run where its facts may come in twice: it is recorded once.
    Column("key", Name(255)),
    UniqueConstraint("failure_id", "number"),
)
Index(
    "uq_regrow_attempt_key",
    attempt.c.key,
    unique=True,
    sqlite_where=attempt.c.key.isnot(None),
    postgresql_where=attempt.c.key.isnot(None),
)
Index(
    "ix_regrow_attempt_unreported",
    attempt.c.failure_id,
    sqlite_where=attempt.c.reported_at.is_(None),
    postgresql_where=attempt.c.reported_at.is_(None),
)

#: What happened to a failure beside its failed runs (`model.Note`).
note = Table(
    "regrow_note",
    metadata,
    Column("id", Id, primary_key=True),
    Column("failure_id", Id, ForeignKey("regrow_failure.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("at", Instant, nullable=False),
    Column("deed", Word(16), nullable=False),
    Column("by", Phrase(255), nullable=False),
    Column("detail", Phrase(64), nullable=False),
)

envelope = Table(
    "regrow_envelope",
    metadata,
    Column("failure_id", Id, ForeignKey("regrow_failure.id", ondelete="CASCADE"), primary_key=True),
    Column("coding", Word(16), nullable=False),
    Column("body", Bytes, nullable=False),
)

outbox = Table(
    "regrow_outbox",
    metadata,
    Column("id", Id, primary_key=True),
    # NULL for what is about no single failure, such as a threshold.
    Column("failure_id", Id, ForeignKey("regrow_failure.id", ondelete="CASCADE")),
    Column("key", Name(512), nullable=False, unique=True),
    Column("audience", Word(16), nullable=False),
    Column("message", LongPhrase, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("due_at", Instant),
    Column("token", String(32)),
    Column("tries", Integer, nullable=False),
    Column("last_error", LongPhrase, nullable=False),
    Column("delivered_at", Instant),
    sqlite_autoincrement=True,
)
Index(
    "ix_regrow_outbox_due_at",
    outbox.c.due_at,
    sqlite_where=outbox.c.due_at.isnot(None),
    postgresql_where=outbox.c.due_at.isnot(None),
)
Index("ix_regrow_outbox_created_at", outbox.c.created_at)

#: System alerts (`model.Alert`); one is open for a group.
alert = Table(
    "regrow_alert",
    metadata,
    Column("id", Id, primary_key=True),
    Column("about", Name(128), nullable=False),
    Column("category", Word(64), nullable=False),
    Column("priority", Word(16), nullable=False),
    Column("title", LongPhrase, nullable=False),
    Column("body", LongPhrase, nullable=False),
    Column("count", Integer, nullable=False),
    Column("opened_at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
    # Key of the last message that was counted: one that is delivered twice counts once.
    Column("last_key", Name(512), nullable=False),
    Column("closed_at", Instant),
    Column("closed_by", Phrase(255), nullable=False),
)
Index(
    "uq_regrow_alert_open",
    alert.c.about,
    unique=True,
    sqlite_where=alert.c.closed_at.is_(None),
    postgresql_where=alert.c.closed_at.is_(None),
)

#: End users' inboxes (`model.Notice`).
notice = Table(
    "regrow_notice",
    metadata,
    Column("id", Id, primary_key=True),
    Column("key", Name(512), nullable=False, unique=True),
    Column("user_id", Name(255), nullable=False),
    Column("title", LongPhrase, nullable=False),
    Column("body", LongPhrase, nullable=False),
    Column("task_id", Name(TASK_ID_LIMIT), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("read_at", Instant),
)
Index("ix_regrow_notice_user_id", notice.c.user_id, notice.c.id)

#: How many tasks each process ran in each minute.
run = Table(
    "regrow_run",
    metadata,
    Column("minute", Instant, primary_key=True),
    Column("process", Name(255), primary_key=True),
    Column("runs", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
)

#: What only one process may do at a time.
lease = Table(
    "regrow_lease",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("token", String(32), nullable=False),
    Column("until", Instant, nullable=False),
)

#: Processes that give signs of life (`model.Member`).
member = Table(
    "regrow_member",
    metadata,
    Column("boot", String(32), primary_key=True),
    Column("kind", Word(16), nullable=False),
    Column("name", Phrase(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),
    # A JSON list.
    Column("queues", LongText, nullable=False),
    Column("skew_seconds", Number, nullable=False),
    Column("spooled_bytes", BigInteger, nullable=False),
)

#: Tasks that a worker has begun and not ended (`model.Begun`): those that the ledger is to know, and redelivered ones.
begun = Table(
    "regrow_begun",
    metadata,
    Column("task_id", Name(TASK_ID_LIMIT), primary_key=True),
    Column("boot", String(32), nullable=False),
    Column("at", Instant, nullable=False),
    Column("coding", Word(16), nullable=False),
    # The run's facts as JSON text; empty where only rescues are counted.
    Column("facts", Bytes, nullable=False),
    # How often the broker delivered it again and it was begun, counted from `rescues_since` on (`decide.DEATH_WINDOW`).
    Column("rescues", Integer, nullable=False),
    Column("rescues_since", Instant),
)
Index("ix_regrow_begun_boot", begun.c.boot)

#: The journal of what operators have taught (`model.Lesson`): nothing in it is ever changed.
lesson = Table(
    "regrow_lesson",
    metadata,
    Column("id", Id, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("by", Phrase(255), nullable=False),
    Column("kind", Word(16), nullable=False),
    # A group's fingerprint, or a rule's id.
    Column("subject", Name(255), nullable=False),
    Column("category", Word(64), nullable=False),
    # A JSON object of what else there is.
    Column("body", LongPhrase, nullable=False),
    sqlite_autoincrement=True,
)
