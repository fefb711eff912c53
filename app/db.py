"""The application's own database, with the table of tasks that the guide shows (G22).

It is SQLite in APP_VAR (see `app.home`), unless APP_DATABASE_URL names another one. Both are read when a connection is
needed, not at import. The tables are made on first use.

Programs write through `Session`. `db` is for people and for the guide's lines: `db.query(Task).filter(...).first()`.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import Engine, NullPool, create_engine, event, orm
from sqlalchemy.orm import DeclarativeBase, ORMExecuteState, scoped_session, sessionmaker
from sqlalchemy.util import ThreadLocalRegistry

from app import home

#: How long a writer waits for another one before it reports the database as locked.
BUSY_SECONDS = 5.0

_engines: dict[str, Engine] = {}
_lock = Lock()
_of_the_parent: list[object] = []


class Base(DeclarativeBase):
    """All tables of the application."""


def var() -> Path:
    """The folder of all run-time data."""
    return Path(os.environ.get("APP_VAR") or home.VAR).absolute()


def engine() -> Engine:
    """The engine of the database that the environment names now."""
    url = os.environ.get("APP_DATABASE_URL") or f"sqlite:///{var() / 'app.db'}"
    with _lock:
        if url not in _engines:
            _engines[url] = _open(url)
        return _engines[url]


class _Session(orm.Session):
    """A session on `engine()`."""

    def get_bind(self, *_: Any, **__: Any) -> Engine:
        """The engine of now."""
        return engine()


class _FreshSession(_Session):
    """A session whose every query tells what is committed, also of rows that it has read before.

    A plain session keeps what it has read once, which is a surprise in an interactive session that lasts for hours.
    Rows come anew with `populate_existing`; what the session itself has changed is flushed before, so it is not lost.
    No read holds up anybody or sees an old snapshot: SQLite's driver begins a transaction with the first write only,
    and PostgreSQL's default, READ COMMITTED, looks anew with each statement.
    """

    def get(self, *args: Any, **options: Any) -> Any:
        """One row by its key, from the database."""
        return super().get(*args, **{**options, "populate_existing": True})


@event.listens_for(_FreshSession, "do_orm_execute")
def _read_anew(state: ORMExecuteState) -> None:
    if state.is_select and not state.is_column_load and not state.is_relationship_load:
        state.update_execution_options(populate_existing=True)


#: Makes sessions for programs: `with Session.begin() as session: ...`; their rows stay readable afterwards.
Session = sessionmaker(class_=_Session, expire_on_commit=False)

#: The session of this thread. After an error in it: `db.rollback()`.
db = scoped_session(sessionmaker(class_=_FreshSession))


def _open(url: str) -> Engine:
    """Connect to a database, and make its tables if they are missing."""
    from app.models import Task

    # No pool: a thread's `db` may keep its connection for as long as the thread lives, so none would be large enough;
    # and an engine without one has nothing that a forked child could inherit.
    made = create_engine(url, poolclass=NullPool, connect_args=_options(url))
    var().mkdir(parents=True, exist_ok=True)
    # Two processes that make the tables, or switch SQLite to WAL, at one time would refuse each other.
    with (var() / "app.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with made.begin() as connection:
            if made.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                event.listen(made, "connect", _quicken)
            Task.metadata.create_all(connection)
        fcntl.flock(lock, fcntl.LOCK_UN)  # said, because a child forked at this moment holds the file open too
    return made


def _options(url: str) -> dict[str, Any]:
    return {"timeout": BUSY_SECONDS} if url.startswith("sqlite") else {}


def _quicken(connection: Any, _record: object) -> None:
    # In WAL mode the last commits may be lost with the power, never with the process.
    connection.execute("PRAGMA synchronous=NORMAL")


def _leave_to_the_parent() -> None:
    """A forked child must never use, nor close, its parent's connection: `db` begins anew there."""
    global _lock  # noqa: PLW0603  # a thread of the parent may have held it, and nobody would ever give it back here
    _lock = Lock()
    _of_the_parent.append(db.registry)
    db.registry = ThreadLocalRegistry(db.session_factory)


os.register_at_fork(after_in_child=_leave_to_the_parent)
