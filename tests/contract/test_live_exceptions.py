"""Exceptions that real libraries really raise are classified by their attributes alone.

Every message is emptied first, so that only classes and codes can speak; where a library gives neither (libpq
says why a connection failed in words only) the test says so.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import psycopg
import pytest
import redis
import requests
from pytest_httpserver import HTTPServer

from regrow.adapters.rules import load_rulebook
from regrow.capture import causes_from_exception
from regrow.classify import Rulebook, classify
from regrow.model import BUSINESS, CONFIG, DATA, NETWORK, TEMPORARY, Category, Verdict
from tests.services import require

DSN = "host=127.0.0.1 port=5432 user=postgres dbname=test connect_timeout=5"


@pytest.fixture(scope="module")
def rulebook() -> Rulebook:
    return load_rulebook()


@pytest.fixture
def postgres() -> Iterator[psycopg.Connection]:
    require("127.0.0.1", 5432, "PostgreSQL")
    with psycopg.connect(DSN, autocommit=True) as connection:
        connection.execute("CREATE TEMP TABLE live (id int PRIMARY KEY, name varchar(3) NOT NULL)")
        connection.execute("INSERT INTO live VALUES (1, 'a')")
        yield connection


@pytest.fixture
def cache() -> Iterator[redis.Redis]:
    require("127.0.0.1", 6379, "Redis")
    with redis.Redis(host="127.0.0.1") as client:
        yield client
        client.delete("regrow-live")


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def judged(action: Callable[[], object], rulebook: Rulebook, *, silent: bool = True) -> Verdict:
    """The verdict over what `action` raises, its messages emptied if `silent`."""
    try:
        action()
    except Exception as error:
        causes = causes_from_exception(error)
    else:
        raise AssertionError("nothing was raised")
    return classify([replace(cause, message="") for cause in causes] if silent else causes, rulebook)


@pytest.mark.parametrize(
    ("statement", "category"),
    [
        ("SELECT * FROM no_such_table", CONFIG),
        ("SELECT no_such_column FROM live", CONFIG),
        ("INSERT INTO live VALUES (2, NULL)", DATA),
        ("INSERT INTO live VALUES (1, 'b')", DATA),
        ("INSERT INTO live VALUES (3, 'too long')", DATA),
        ("SELECT 'x'::int", DATA),
        ("SELEC 1", DATA),
        ("SELECT 1/0", DATA),
        ("SET ROLE no_such_role", DATA),
        ("SET statement_timeout = 20; SELECT pg_sleep(5)", TEMPORARY),
        ("SELECT pg_terminate_backend(pg_backend_pid())", TEMPORARY),
    ],
)
def test_postgresql_statements(
    postgres: psycopg.Connection, rulebook: Rulebook, statement: str, category: Category
) -> None:
    """A statement that fails is known by its SQLSTATE."""
    assert judged(lambda: postgres.execute(statement), rulebook).category is category


def test_postgresql_lock_timeout_deadlock_and_serialization(postgres: psycopg.Connection, rulebook: Rulebook) -> None:
    """Two sessions in each other's way: time heals it."""
    postgres.execute("DROP TABLE IF EXISTS regrow_live")
    postgres.execute("CREATE TABLE regrow_live (id int PRIMARY KEY, n int)")
    postgres.execute("INSERT INTO regrow_live VALUES (1, 0), (2, 0)")
    try:
        for action in (_lock_timeout, _deadlock, _serialization_failure):
            assert judged(action, rulebook).category is TEMPORARY, action
    finally:
        postgres.execute("DROP TABLE regrow_live")


def _lock_timeout() -> None:
    with psycopg.connect(DSN) as one, psycopg.connect(DSN) as two:
        one.execute("UPDATE regrow_live SET n = 1 WHERE id = 1")
        two.execute("SET lock_timeout = 20")
        two.execute("UPDATE regrow_live SET n = 2 WHERE id = 1")


def _deadlock() -> None:
    failures: list[Exception] = []
    with psycopg.connect(DSN) as one, psycopg.connect(DSN) as two:
        one.execute("UPDATE regrow_live SET n = 1 WHERE id = 1")
        two.execute("UPDATE regrow_live SET n = 1 WHERE id = 2")

        def cross(connection: psycopg.Connection, row: int) -> None:
            try:
                connection.execute("UPDATE regrow_live SET n = 2 WHERE id = %s", (row,))
            except psycopg.Error as error:
                failures.append(error)
                connection.rollback()

        thread = threading.Thread(target=cross, args=(two, 1))
        thread.start()
        cross(one, 2)
        thread.join()
        one.rollback()
        two.rollback()
    raise failures[0]


def _serialization_failure() -> None:
    with psycopg.connect(DSN) as one, psycopg.connect(DSN) as two:
        for connection in (one, two):
            connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            connection.execute("SELECT sum(n) FROM regrow_live")
        one.execute("UPDATE regrow_live SET n = n + 1 WHERE id = 1")
        one.commit()
        two.execute("UPDATE regrow_live SET n = n + 1 WHERE id = 1")


def test_postgresql_refused(closed_port: int, rulebook: Rulebook) -> None:
    """A database that does not listen is that database's outage."""
    dsn = f"host=127.0.0.1 port={closed_port} connect_timeout=2"
    assert judged(lambda: psycopg.connect(dsn), rulebook).category is TEMPORARY


@pytest.mark.parametrize("wrong", ["dbname=no_such_database", "user=no_such_role"])
def test_postgresql_wrong_setup(postgres: psycopg.Connection, rulebook: Rulebook, wrong: str) -> None:
    """A missing database or role is set-up, whatever class carries it; libpq says so in words only."""
    verdict = judged(lambda: psycopg.connect(f"{DSN} {wrong}"), rulebook, silent=False)
    assert verdict.category is CONFIG


def test_redis(cache: redis.Redis, closed_port: int, rulebook: Rulebook) -> None:
    """Redis: refused is an outage, the wrong type is data, a wrong password is set-up."""
    refused = redis.Redis(host="127.0.0.1", port=closed_port)
    wrong = redis.Redis(host="127.0.0.1", username="no-such-user", password="wrong")
    cache.set("regrow-live", "text")
    assert judged(refused.ping, rulebook).category is TEMPORARY
    assert judged(lambda: cache.lpush("regrow-live", "x"), rulebook).category is DATA
    assert judged(wrong.ping, rulebook).category is CONFIG
    for client in (refused, wrong):
        client.close()


def _requests(url: str) -> None:
    requests.get(url, timeout=1).raise_for_status()


def _httpx(url: str) -> None:
    httpx.get(url, timeout=1).raise_for_status()


CLIENTS = pytest.mark.parametrize("fetch", [_requests, _httpx])


@CLIENTS
@pytest.mark.parametrize(
    ("status", "category"),
    [
        (400, DATA),
        (401, CONFIG),
        (403, CONFIG),
        (404, BUSINESS),
        (422, DATA),
        (429, TEMPORARY),
        (500, TEMPORARY),
        (503, TEMPORARY),
    ],
)
def test_http_status(
    httpserver: HTTPServer, rulebook: Rulebook, fetch: Callable[[str], None], status: int, category: Category
) -> None:
    """The status decides, and Retry-After is read."""
    httpserver.expect_request("/").respond_with_data("", status=status, headers={"Retry-After": "7"})
    verdict = judged(lambda: fetch(httpserver.url_for("/")), rulebook)
    assert (verdict.category, verdict.layer, verdict.retry_after_seconds) == (category, "code", 7.0)


@CLIENTS
def test_http_unreachable(closed_port: int, rulebook: Rulebook, fetch: Callable[[str], None]) -> None:
    """A refused connection, and a name that cannot exist (RFC 2606)."""
    assert judged(lambda: fetch(f"http://127.0.0.1:{closed_port}/"), rulebook).category is NETWORK
    assert judged(lambda: fetch("http://regrow.invalid/"), rulebook).category is NETWORK


@CLIENTS
def test_http_read_timeout(rulebook: Rulebook, fetch: Callable[[str], None]) -> None:
    """A server that accepts and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        assert judged(lambda: fetch(url), rulebook).category is NETWORK


def test_malformed_json(httpserver: HTTPServer, rulebook: Rulebook) -> None:
    """A body that is no JSON is data, by requests' own class and the standard library's."""
    httpserver.expect_request("/").respond_with_data("{oops")
    url = httpserver.url_for("/")
    assert judged(lambda: requests.get(url, timeout=5).json(), rulebook).category is DATA
    assert judged(lambda: httpx.get(url).json(), rulebook).category is DATA
    assert judged(lambda: json.loads("{"), rulebook).category is DATA
