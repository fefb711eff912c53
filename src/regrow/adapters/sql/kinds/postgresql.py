"""PostgreSQL through psycopg 3."""

from __future__ import annotations

import select
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import URL
from sqlalchemy.exc import DisconnectionError

from regrow.adapters.sql.kinds import kind
from regrow.adapters.sql.kinds.kind import Conflicts, Trouble
from regrow.adapters.sql.patience import listen_patiently
from regrow.adapters.sql.tables import Instant

#: PostgreSQL's codes. Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
TROUBLES = {
    "42P01": Trouble.NOT_MIGRATED,  # undefined_table
    "42703": Trouble.NOT_MIGRATED,  # undefined_column
    "40001": Trouble.UNDONE,  # serialization_failure
    "40P01": Trouble.UNDONE,  # deadlock_detected
}

#: Key of the advisory lock of upgrades; any fixed number of our own.
UPGRADE_LOCK = 0x52454752


class PostgreSql(Conflicts):
    """PostgreSQL."""

    dialect = postgresql

    def checked(self, url: URL) -> URL:
        """See `Kind`."""
        # SQLAlchemy's default driver is psycopg2; ours is psycopg 3.
        return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url

    def open(self, url: URL, patience_seconds: float | None) -> Engine:
        """See `Kind`."""
        given = url.query.get("options", ())
        options = {
            "connect_timeout": int(kind.BUSY_SECONDS),
            "application_name": "regrow",
            # A server that has gone silent must not hold a user's task for ever.
            "tcp_user_timeout": int(kind.BUSY_SECONDS * 1000),
            "keepalives_idle": max(1, int(kind.BUSY_SECONDS)),
            "keepalives_interval": 2,
            "keepalives_count": 3,
            # What the address itself says comes last, so it wins.
            "options": " ".join(
                (f"-c lock_timeout={int(kind.BUSY_SECONDS * 1000)}", *((given,) if isinstance(given, str) else given))
            ),
        }
        engine = create_engine(url, connect_args=options)
        event.listen(engine, "checkout", _refuse_closed)
        if patience_seconds is not None:
            listen_patiently(engine, patience_seconds)
        return engine

    def reader(self, connection: Connection, *, single: bool) -> Connection:
        """See `Kind`. A single statement needs no transaction: PostgreSQL is asked once, not three times."""
        return connection.execution_options(isolation_level="AUTOCOMMIT" if single else "REPEATABLE READ")

    def capturing(self, raw: Any, *, durable: bool) -> AbstractContextManager[object]:
        """See `Kind`. It gets statements together, and is waited for where an answer is read: at the commit at last."""
        pipeline: AbstractContextManager[object] = raw.pipeline()
        return pipeline

    def seconds(self, begin: Any, end: Any) -> Any:
        """See `Kind`."""
        return func.extract("epoch", end - begin)

    def now(self) -> Any:
        """See `Kind`."""
        return func.clock_timestamp(type_=Instant)

    def upgrading(self, connection: Connection) -> AbstractContextManager[object]:
        """See `Kind`."""
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})
        return nullcontext()

    def lock_journal(self, connection: Connection) -> None:
        """See `Kind`."""
        connection.execute(text("LOCK TABLE regrow_lesson IN SHARE ROW EXCLUSIVE MODE"))

    def trouble(self, error: BaseException) -> Trouble:
        """See `Kind`."""
        return TROUBLES.get(getattr(error, "sqlstate", None) or "") or super().trouble(error)


def _refuse_closed(connection: Any, _record: object, _proxy: object) -> None:
    """Let the pool open a new connection for one that the server has closed."""
    if connection.closed or readable(connection.fileno()):
        raise DisconnectionError("the server has closed this connection")


def readable(socket: int) -> bool:
    """True if there is something to read, or an end.

    A ping would say no more, and a failing task would wait for its answer: on a connection at rest there is nothing to
    read unless it is over, and one whose server is gone without a word is closed by TCP's keep-alive.
    """
    if not hasattr(select, "poll"):  # Windows, and whoever has patched it away
        return bool(select.select([socket], [], [], 0)[0])
    asked = select.poll()
    asked.register(socket, select.POLLIN)
    return bool(asked.poll(0))
