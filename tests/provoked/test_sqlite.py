"""SQLite, SQLAlchemy's own errors, and its object mapper."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.pool import NullPool

from regrow.model import BUSINESS, CONFIG, DATA, SYSTEM, TEMPORARY, Category
from tests.provoked import servers
from tests.provoked.table import Case, Field, check

sqlite = Field("sqlite")
alchemy = Field("sqlalchemy")

_SCHEMA = """
CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, age INT CHECK (age > 0));
CREATE TABLE purchase (id INTEGER PRIMARY KEY, customer_id INT REFERENCES customer (id));
CREATE TABLE strict_one (n INT) STRICT;
INSERT INTO customer VALUES (1, 'Ada', 36);
"""


def _by_driver(path: Path, statements: list[str]) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=0.05, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()


def _by_alchemy(path: Path, statements: list[str]) -> None:
    engine = sa.create_engine(
        f"sqlite:///{path}", poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args={"timeout": 0.05}
    )
    with engine.connect() as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement)
            if result.returns_rows:
                result.fetchall()


def _in_folder(
    run: Callable[[Path, list[str]], None], statements: list[str], prepare: Callable[[Path], object]
) -> None:
    with servers.folder() as folder:
        path = folder / "shop.db"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.executescript(_SCHEMA)
        with contextlib.ExitStack() as stack:
            held = prepare(path)
            if isinstance(held, sqlite3.Connection):
                stack.enter_context(contextlib.closing(held))
            run(path, statements)


def _nothing(path: Path) -> None:
    pass


def _hold(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    return connection


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)


def _overwrite(path: Path) -> None:
    path.write_bytes(b"this is a text file and no database at all\n" * 200)


STATEMENTS: list[tuple[str, tuple[Category, ...], Callable[[Path], object], list[str]]] = [
    ("locked", (TEMPORARY,), _hold, ["DELETE FROM customer"]),
    ("missing-table", (CONFIG,), _nothing, ["SELECT * FROM no_such_table"]),
    ("missing-column", (CONFIG,), _nothing, ["SELECT no_such_column FROM customer"]),
    ("missing-column-at-insert", (CONFIG,), _nothing, ["INSERT INTO customer (gone) VALUES (1)"]),
    ("missing-function", (CONFIG,), _nothing, ["SELECT no_such_function(1)"]),
    ("missing-module", (CONFIG,), _nothing, ["CREATE VIRTUAL TABLE v USING no_such_module(x)"]),
    ("table-already-there", (CONFIG,), _nothing, ["CREATE TABLE customer (id INT)"]),
    ("unique", (DATA,), _nothing, ["INSERT INTO customer VALUES (2, 'Ada', 3)"]),
    ("primary-key", (DATA,), _nothing, ["INSERT INTO customer VALUES (1, 'Bob', 3)"]),
    ("not-null", (DATA,), _nothing, ["INSERT INTO customer VALUES (3, NULL, 3)"]),
    ("check", (DATA,), _nothing, ["INSERT INTO customer VALUES (4, 'Eve', -3)"]),
    ("foreign-key", (DATA,), _nothing, ["PRAGMA foreign_keys = on", "INSERT INTO purchase VALUES (1, 99)"]),
    ("no-integer", (DATA,), _nothing, ["INSERT INTO customer VALUES ('twelve', 'Kim', 3)"]),
    ("strict-type", (DATA,), _nothing, ["INSERT INTO strict_one VALUES ('twelve')"]),
    ("syntax", (DATA,), _nothing, ["SELEC 1"]),
    ("value-count", (DATA,), _nothing, ["INSERT INTO customer VALUES (1)"]),
    ("no-json", (DATA,), _nothing, ["SELECT json('{oops')"]),
    ("too-big", (DATA,), _nothing, ["SELECT zeroblob(3000000000)"]),
    (
        "full",
        (SYSTEM,),
        _nothing,
        ["PRAGMA max_page_count = 6", "CREATE TABLE big (b)", "INSERT INTO big VALUES (zeroblob(100000))"],
    ),
    ("read-only", (SYSTEM, CONFIG), _nothing, ["PRAGMA query_only = on", "DELETE FROM customer"]),
    ("damaged", (DATA,), _damage, ["SELECT * FROM customer", "SELECT * FROM purchase"]),
    ("no-database", (DATA,), _overwrite, ["SELECT * FROM customer"]),
]
for _name, _labels, _prepare, _statements in STATEMENTS:
    for _through, _run in (("sqlite3", _by_driver), ("sqlalchemy", _by_alchemy)):
        sqlite.add(f"{_name}/{_through}", _labels, lambda r=_run, s=_statements, p=_prepare: _in_folder(r, s, p))
for _through, _run in (("sqlite3", _by_driver), ("sqlalchemy", _by_alchemy)):
    sqlite.add(f"cannot-open/{_through}", SYSTEM, lambda r=_run: r(Path("/nonexistent/shop.db"), ["SELECT 1"]))


@sqlite.case("read-only-file/sqlite3", SYSTEM, CONFIG)
def _read_only_file() -> None:
    def read_only(path: Path, statements: list[str]) -> None:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            connection.execute(statements[0])

    _in_folder(read_only, ["DELETE FROM customer"], _nothing)


@sqlite.case("table-locked/sqlite3", TEMPORARY)
def _table_locked() -> None:
    name = "file:regrow_shared?mode=memory&cache=shared"
    with (
        contextlib.closing(sqlite3.connect(name, uri=True, isolation_level=None)) as one,
        contextlib.closing(sqlite3.connect(name, uri=True, isolation_level=None, timeout=0.05)) as two,
    ):
        one.execute("CREATE TABLE t (n)")
        one.execute("BEGIN IMMEDIATE")
        one.execute("INSERT INTO t VALUES (1)")
        two.execute("SELECT * FROM t").fetchall()


@sqlite.case("closed-connection/sqlite3", DATA, TEMPORARY)
def _closed() -> None:
    connection = sqlite3.connect(":memory:")
    connection.close()
    connection.execute("SELECT 1")


@sqlite.case("another-thread's-connection/sqlite3", DATA)
def _thread() -> None:
    failures: list[Exception] = []
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:

        def use() -> None:
            try:
                connection.execute("SELECT 1")
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join(servers.PATIENCE_SECONDS)
    raise failures[0]


@sqlite.case("missing-parameter/sqlite3", DATA)
def _missing_parameter() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("SELECT ?, ?", (1,))


@sqlite.case("value-of-no-known-type/sqlite3", DATA)
def _unknown_type() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("SELECT ?", (object(),))


@sqlite.case("integer-too-large/sqlite3", DATA)
def _too_large() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("SELECT ?", (2**70,))


@sqlite.case("two-statements/sqlite3", DATA)
def _two() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("SELECT 1; SELECT 2")


# -- SQLAlchemy --------------------------------------------------------------------------------------------------------


class _Base(orm.DeclarativeBase):
    pass


class _Customer(_Base):
    __tablename__ = "customer"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(unique=True)
    version: orm.Mapped[int] = orm.mapped_column()
    purchases: orm.Mapped[list[_Purchase]] = orm.relationship()
    __mapper_args__ = {"version_id_col": version}


class _Purchase(_Base):
    __tablename__ = "purchase"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    customer_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("customer.id"))


def _session(act: Callable[[orm.Session], object]) -> Callable[[], None]:
    def provoke() -> None:
        engine = sa.create_engine("sqlite://")
        try:
            _Base.metadata.create_all(engine)
            with orm.Session(engine) as session:
                session.add_all([_Customer(name="Ada"), _Customer(name="Bob")])
                session.commit()
                act(session)
        finally:
            engine.dispose()

    return provoke


def _ids() -> sa.Select[tuple[int]]:
    return sa.select(_Customer.id)


def _stale(session: orm.Session) -> None:
    ada = session.get_one(_Customer, 1)
    session.execute(sa.text("UPDATE customer SET version = 99"))
    ada.name = "Eve"
    session.flush()


def _pending(session: orm.Session) -> None:
    session.add(_Customer(name="Ada"))
    with contextlib.suppress(sa.exc.IntegrityError):
        session.flush()
    session.execute(_ids())


def _detached(session: orm.Session) -> None:
    ada = session.get_one(_Customer, 1)
    session.close()
    list(ada.purchases)


for _name, _labels, _act in (
    ("no-row", (BUSINESS,), lambda session: session.execute(_ids().where(_Customer.id == 99)).scalar_one()),
    ("no-object", (BUSINESS,), lambda session: session.get_one(_Customer, 99)),
    ("more-than-one-row", (DATA,), lambda session: session.execute(_ids()).scalar_one()),
    ("stale-object", (TEMPORARY, DATA), _stale),
    ("pending-rollback", (TEMPORARY, DATA), _pending),
    ("detached-object", (DATA,), _detached),
    ("no-mapped-object", (DATA,), lambda session: session.add("Ada")),
    ("unique-at-flush", (DATA,), lambda session: (session.add(_Customer(name="Ada")), session.commit())),
    ("missing-table", (CONFIG,), lambda session: session.execute(sa.text("SELECT * FROM gone"))),
    ("missing-parameter", (DATA,), lambda session: session.execute(sa.text("SELECT :a"))),
    ("wrong-type", (DATA,), lambda s: (s.add(_Customer(name={"no": "text"})), s.commit())),
    ("missing-attribute", (DATA,), lambda session: _Customer(age=3)),
    ("bare-text", (DATA,), lambda session: session.execute("SELECT 1")),
):
    alchemy.add(_name, _labels, _session(_act))

alchemy.add("no-such-dialect", CONFIG, lambda: sa.create_engine("postgrez://app@db/shop"))
alchemy.add("no-address", CONFIG, lambda: sa.create_engine("not an address"))
alchemy.add("empty-address", CONFIG, lambda: sa.create_engine(""))
alchemy.add("driver-not-installed", CONFIG, lambda: sa.create_engine("oracle+oracledb://app@db/shop"))
alchemy.add("no-such-table-to-reflect", CONFIG, lambda: sa.Table("gone", sa.MetaData(), autoload_with=_memory()))


def _memory() -> sa.Engine:
    return sa.create_engine("sqlite://", poolclass=NullPool)


@sqlite.each()
def test_sqlite(case: Case) -> None:
    """The constant's name tells most of it."""
    check(case)


@alchemy.each()
def test_sqlalchemy(case: Case) -> None:
    """What SQLAlchemy itself refuses."""
    check(case)
