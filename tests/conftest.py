"""Ledgers for tests: each test gets an empty one, on SQLite, on PostgreSQL and on MariaDB."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pymysql
import pytest
from hypothesis import settings
from sqlalchemy.engine import make_url

from regrow.adapters.sql import Database, SqlLedger, SqlStore
from regrow.adapters.sql.migrate import upgrade
from regrow.adapters.sql.tables import metadata
from tests.services import require

# Behaviour is asserted, never how long it takes on a busy machine.
settings.register_profile("regrow", deadline=None)
settings.load_profile("regrow")

HOST, PORT, USER = "127.0.0.1", 5432, "root"
MARIADB_PORT = 3306


def postgres(statement: str) -> None:
    """Run one statement outside of the test's own database."""
    with psycopg.connect(host=HOST, port=PORT, user=USER, dbname="test", autocommit=True) as connection:
        connection.execute(statement.encode())


def mariadb(*statements: str, url: str = "") -> list[tuple[Any, ...]]:
    """Run statements on MariaDB, outside of the test's own connections; what the last one returns."""
    database = make_url(url).database if url else None
    connection = pymysql.connect(host=HOST, port=MARIADB_PORT, user=USER, database=database, autocommit=True)
    with connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


def empty_mariadb(url: str) -> None:
    """Take all rows out of a ledger on MariaDB; a TRUNCATE of what is empty already takes as long as one of what is not."""
    name = make_url(url).database
    used = mariadb(
        "SELECT table_name FROM information_schema.tables WHERE table_name <> 'regrow_alembic_version' AND table_schema"
        f" = '{name}' AND (auto_increment IS NULL OR auto_increment > 1)"
    )
    mariadb("SET foreign_key_checks = 0", *(f"TRUNCATE {table}" for (table,) in used), url=url)


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Makes an empty database of a kind (`sqlite`, `postgresql`, `mariadb`); gives its URL, and drops it at the end."""
    run, numbers = uuid4().hex[:8], count(1)
    made: list[str] = []
    on_mariadb: list[str] = []
    folder: Path = tmp_path_factory.mktemp("ledgers")

    def make(kind: str) -> str:
        name = f"regrow_test_{run}_{next(numbers)}"
        if kind == "sqlite":
            return f"sqlite:///{folder / name}.db"
        if kind == "mariadb":
            require(HOST, MARIADB_PORT, "MariaDB")
            # What the server is set to must not matter.
            mariadb(f"CREATE DATABASE {name} CHARACTER SET latin1")
            on_mariadb.append(name)
            return f"mariadb://{USER}@{HOST}:{MARIADB_PORT}/{name}"
        require(HOST, PORT, "PostgreSQL")
        postgres(f"CREATE DATABASE {name}")
        made.append(name)
        return f"postgresql+psycopg://{USER}@{HOST}:{PORT}/{name}"

    yield make
    for name in made:
        postgres(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    for name in on_mariadb:
        mariadb(f"DROP DATABASE IF EXISTS {name}")


@pytest.fixture(scope="session")
def migrated(new_database: Callable[[str], str]) -> Callable[[str], str]:
    """Gives the URL of one migrated ledger of a kind, the same each time."""
    urls: dict[str, str] = {}

    def give(kind: str) -> str:
        if kind not in urls:
            url = new_database(kind)
            database = Database(url)
            upgrade(database)
            database.close()
            urls[kind] = url
        return urls[kind]

    return give


@pytest.fixture
def new_ledger(migrated: Callable[[str], str], tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Gives the URL of an empty, migrated ledger of a kind."""
    numbers = count(1)

    def give(kind: str) -> str:
        url = migrated(kind)
        if kind == "sqlite":
            copy = tmp_path / f"ledger-{next(numbers)}.db"
            shutil.copy(url.removeprefix("sqlite:///"), copy)
            return f"sqlite:///{copy}"
        if kind == "mariadb":
            empty_mariadb(url)
            return url
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY CASCADE")
        return url

    return give


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def kind(request: pytest.FixtureRequest) -> str:
    """A kind of database."""
    return str(request.param)


@pytest.fixture(scope="session")
def spare() -> dict[str, str]:
    """Databases that are emptied and used again: making and dropping one takes PostgreSQL a second."""
    return {}


@pytest.fixture
def empty_url(kind: str, new_database: Callable[[str], str], spare: dict[str, str]) -> str:
    """An empty database without any table."""
    if kind == "sqlite":
        return new_database(kind)
    if kind not in spare:
        spare[kind] = new_database(kind)
    url = spare[kind]
    if kind == "mariadb":
        name = make_url(url).database
        mariadb(f"DROP DATABASE {name}", f"CREATE DATABASE {name} CHARACTER SET latin1")
        return url
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url


@pytest.fixture
def store_url(kind: str, new_ledger: Callable[[str], str]) -> str:
    """An empty, migrated ledger."""
    return new_ledger(kind)


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    """An empty, migrated ledger, opened."""
    opened = Database(store_url)
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> SqlStore:
    """A store over an empty ledger."""
    return SqlStore(database)


@pytest.fixture
def ledger(database: Database) -> SqlLedger:
    """A reader of the same ledger."""
    return SqlLedger(database)


@pytest.fixture
def sqlite_store(new_ledger: Callable[[str], str]) -> Iterator[SqlStore]:
    """A store over an empty ledger on SQLite alone, for what does not depend on the database."""
    opened = Database(new_ledger("sqlite"))
    yield SqlStore(opened)
    opened.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason to skip, not one for each test: on a laptop whole services are missing."""
    reasons = Counter(
        str(report.longrepr[2]).removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    )
    for reason, number in sorted(reasons.items()):
        terminalreporter.write_line(f"skipped {number} tests: {reason}")
