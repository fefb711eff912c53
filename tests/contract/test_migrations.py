"""The ledger's tables: made once, beside a host's own, and the same as the code believes."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Barrier, Timer
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event, inspect, text

from regrow.adapters.sql import Database, SqlLedger, SqlStore
from regrow.adapters.sql.migrate import newest, upgrade
from regrow.adapters.sql.tables import metadata
from regrow.errors import LedgerError, NotMigrated
from regrow.testing import START, claim, parked_task


def test_twice(empty_url: str) -> None:
    """The first upgrade makes the tables, the second finds nothing to do and keeps what is there."""
    database = Database(empty_url)
    assert upgrade(database) == (None, newest())
    parked_task(SqlStore(database), task_id="a")
    assert upgrade(database) == (newest(), newest())
    assert SqlStore(database).history("a").attempts == 1
    database.close()


def test_two_at_once(empty_url: str) -> None:
    """Of several upgrades at once one does the work, and the others wait for it."""
    barrier = Barrier(4)

    def run() -> tuple[str | None, str]:
        database = Database(empty_url)
        barrier.wait()
        try:
            return upgrade(database)
        finally:
            database.close()

    with ThreadPoolExecutor(4) as threads:
        found = [one.result() for one in [threads.submit(run) for _ in range(4)]]
    assert sorted(found, key=str) == sorted([(None, newest()), *[(newest(), newest())] * 3], key=str)


def test_a_new_ledger_that_another_is_writing(tmp_path: Path) -> None:
    """Whoever opens a file that is not in WAL mode yet waits for the one who writes it."""
    path = tmp_path / "new.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE theirs (id INTEGER)")
    end = Timer(0.3, other.execute, ["COMMIT"])
    end.start()
    database = Database(f"sqlite:///{path}")
    with database.write() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
    end.join()
    other.close()
    database.close()


def test_beside_a_hosts_own_migrations(empty_url: str) -> None:
    """A host's alembic_version, and its tables, are not touched."""
    database = Database(empty_url)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('theirs')"))
    upgrade(database)
    with database.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).all() == [("theirs",)]
        names = set(inspect(connection).get_table_names()) - {"alembic_version"}
    assert names == {*metadata.tables, "regrow_alembic_version"}
    database.close()


def differences(connection: Connection, kind: str) -> list[Any]:
    """What Alembic finds between the ledger and tables.py."""
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            # MariaDB says 0 for a false, which Alembic does not take for the same.
            "compare_server_default": kind != "mariadb",
            "include_name": lambda name, what, _parents: what != "table" or name != "regrow_alembic_version",
        },
    )
    found = compare_metadata(context, metadata)
    return [one for one in found if kind != "mariadb" or not on_mysql_alone(one)]


def test_the_schema_is_what_the_code_believes(database: Database, kind: str) -> None:
    """Migrations and tables.py differ in nothing that Alembic can see, but for what MySQL has instead."""
    with database.read() as connection:
        assert differences(connection, kind) == []
        indexes = {one["name"]: one for table in metadata.tables for one in inspect(connection).get_indexes(table)}
    if kind == "mariadb":
        assert indexes["uq_regrow_alert_open"]["column_names"] == ["open_about"]
        assert indexes["uq_regrow_alert_open"]["unique"]
        assert indexes["ix_regrow_attempt_unreported"]["column_names"] == ["reported_at", "failure_id"]


def on_mysql_alone(difference: Any) -> bool:
    """True for what stands in the place of an index that has a condition elsewhere."""
    named = {"uq_regrow_alert_open", "ix_regrow_attempt_unreported", "open_about"}
    return getattr(difference[-1], "name", None) in named


def test_what_is_not_migrated_says_how_to_mend_it(empty_url: str) -> None:
    """Writer and reader alike name the ledger and the command."""
    database = Database(empty_url)
    place = database.url.render_as_string(hide_password=True)
    for use in (
        lambda: parked_task(SqlStore(database)),
        lambda: claim(SqlStore(database)),
        lambda: SqlLedger(database).balance(START),
        lambda: SqlStore(database).history("a"),
    ):
        with pytest.raises(NotMigrated, match="run: regrow db upgrade") as caught:
            use()
        assert place in str(caught.value)
    database.close()


def test_a_ledger_older_than_the_code_says_so(database: Database, kind: str) -> None:
    """A column that is missing is a matter of migration too."""
    with database.write() as connection:
        connection.execute(text("ALTER TABLE regrow_attempt RENAME COLUMN retry_at TO old"))
    try:
        with pytest.raises(NotMigrated, match="run: regrow db upgrade"):
            parked_task(SqlStore(database))
    finally:
        with database.write() as connection:
            connection.execute(text("ALTER TABLE regrow_attempt RENAME COLUMN old TO retry_at"))


def test_an_upgrade_that_fails(empty_url: str, kind: str) -> None:
    """A table in the way stops the upgrade. Nothing of it remains, or what does is taken on by the next one."""
    database = Database(empty_url)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE regrow_outbox (id INTEGER)"))
    with pytest.raises(LedgerError, match="regrow_outbox"):
        upgrade(database)
    with database.read() as connection:
        names = inspect(connection).get_table_names()
        assert names == ["regrow_outbox"] or kind == "mariadb"
    with database.write() as connection:
        connection.execute(text("DROP TABLE regrow_outbox"))
    assert upgrade(database)[1] == newest()
    parked_task(SqlStore(database), task_id="a")
    database.close()


@pytest.mark.parametrize("kind", ["mariadb"])
def test_an_upgrade_that_was_cut_off(empty_url: str) -> None:
    """Where DDL cannot be undone, an upgrade goes on from whichever step the one before it had done last."""

    class CutOff(Exception):
        """The process is killed."""

    # Two statements of the second migration run each time, and the note of its end is lost; so each run gets further.
    done = cuts = 0
    while not done and cuts < 100:
        number = count(1)
        database = Database(empty_url)

        def cut(_connection: object, _cursor: object, statement: str, *_: object, number: Any = number) -> None:
            if statement.lstrip().startswith(("CREATE", "ALTER", "UPDATE", "INSERT")) and next(number) > 4:
                raise CutOff

        event.listen(database.engine, "before_cursor_execute", cut)
        try:
            upgrade(database)
            done = 1
        except CutOff:
            cuts += 1
        finally:
            database.close()
    assert done
    assert cuts > 10
    database = Database(empty_url)
    assert upgrade(database) == (newest(), newest())
    parked_task(SqlStore(database), task_id="a")
    with database.read() as connection:
        assert differences(connection, "mariadb") == []
    database.close()


def test_no_ledger_and_no_server() -> None:
    """What cannot be reached is named without its password, with a hint at the mend where there is one."""
    with pytest.raises(LedgerError, match="is the folder /nowhere/at/all there and writable"):
        parked_task(SqlStore(Database("sqlite:////nowhere/at/all/ledger.db")))
    with pytest.raises(LedgerError, match="the ledger at") as caught:
        parked_task(SqlStore(Database("postgresql://user:s3cret@127.0.0.1:1/db")))
    assert "s3cret" not in str(caught.value)
