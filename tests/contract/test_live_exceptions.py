"""Exceptions that real libraries really raise are classified by their attributes alone.

Every message is emptied first, and the verdict must come from a code or a class, never from words in a class's
name; where a library gives neither (libpq says why a connection failed in words only) the test says so.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import psycopg
import pytest
import redis
import requests
import sqlalchemy.exc
import urllib3
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
    verdict = classify([replace(cause, message="") for cause in causes] if silent else causes, rulebook)
    assert not silent or verdict.layer in ("code", "class"), verdict
    return verdict


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
        ("SET statement_timeout = 20; SELECT pg_sleep(5)", TEMPORARY),
        ("SELECT pg_terminate_backend(pg_backend_pid())", TEMPORARY),
    ],
)
def test_postgresql_statements(
    postgres: psycopg.Connection, rulebook: Rulebook, statement: str, category: Category
) -> None:
    """A statement that fails is known by its SQLSTATE."""
    verdict = judged(lambda: postgres.execute(statement), rulebook)
    assert (verdict.category, verdict.layer) == (category, "code")


@pytest.fixture
def table(postgres: psycopg.Connection) -> Iterator[str]:
    """A table of this run alone, dropped afterwards."""
    name = f"regrow_live_{uuid.uuid4().hex}"
    postgres.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, n int)")
    try:
        postgres.execute(f"INSERT INTO {name} VALUES (1, 0), (2, 0)")
        yield name
    finally:
        postgres.execute(f"DROP TABLE {name}")


def _lock_timeout(table: str) -> None:
    with psycopg.connect(DSN) as one, psycopg.connect(DSN) as two:
        one.execute(f"UPDATE {table} SET n = 1 WHERE id = 1")
        two.execute("SET lock_timeout = 20")
        two.execute(f"UPDATE {table} SET n = 2 WHERE id = 1")


def _deadlock(table: str) -> None:
    failures: list[Exception] = []
    with psycopg.connect(DSN) as one, psycopg.connect(DSN) as two:
        one.execute(f"UPDATE {table} SET n = 1 WHERE id = 1")
        two.execute(f"UPDATE {table} SET n = 1 WHERE id = 2")

        def cross(connection: psycopg.Connection, row: int) -> None:
            try:
                connection.execute(f"UPDATE {table} SET n = 2 WHERE id = %s", (row,))
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


def _serialization_failure(table: str) -> None:
    with psycopg.connect(DSN) as one, psycopg.connect(DSN) as two:
        for connection in (one, two):
            connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            connection.execute(f"SELECT sum(n) FROM {table}")
        one.execute(f"UPDATE {table} SET n = n + 1 WHERE id = 1")
        one.commit()
        two.execute(f"UPDATE {table} SET n = n + 1 WHERE id = 1")


@pytest.mark.parametrize("action", [_lock_timeout, _deadlock, _serialization_failure])
def test_postgresql_sessions_in_each_others_way(table: str, rulebook: Rulebook, action: Callable[[str], None]) -> None:
    """Lock time-out, deadlock, serialization failure: time heals it, and the SQLSTATE says so, not the class's name."""
    verdict = judged(lambda: action(table), rulebook)
    assert (verdict.category, verdict.layer) == (TEMPORARY, "code")


def test_postgresql_refused(closed_port: int, rulebook: Rulebook) -> None:
    """A database that does not listen is that database's outage."""
    dsn = f"host=127.0.0.1 port={closed_port} connect_timeout=2"
    assert judged(lambda: psycopg.connect(dsn), rulebook).category is TEMPORARY


@pytest.mark.parametrize("wrong", ["dbname=no_such_database", "user=no_such_role"])
def test_postgresql_wrong_setup(postgres: psycopg.Connection, rulebook: Rulebook, wrong: str) -> None:
    """A missing database or role is set-up, whatever class carries it.

    With its text: psycopg gives a failed connection no SQLSTATE, only libpq's words.
    """
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


def _tls_client_of_a_plain_server(fetch: Callable[[str], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1)
                connection.sendall(b"HTTP/1.0 400 plain\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            fetch(f"https://127.0.0.1:{server.getsockname()[1]}/")
        finally:
            thread.join()


@CLIENTS
def test_tls_to_a_plain_port(rulebook: Rulebook, fetch: Callable[[str], None]) -> None:
    """The set-up is wrong, however many connection errors are wrapped around it. httpx loses the code: with its text."""
    silent = fetch is _requests
    assert judged(lambda: _tls_client_of_a_plain_server(fetch), rulebook, silent=silent).category is CONFIG


def _raise(error: BaseException) -> None:
    raise error


def _untrusted() -> ssl.SSLCertVerificationError:
    return ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed")


def test_a_certificate_beats_the_connection_errors_around_it(rulebook: Rulebook) -> None:
    """As requests and urllib3 nest it (constructed): SSLError in MaxRetryError in requests' SSLError."""
    pool = urllib3.HTTPSConnectionPool("127.0.0.1")
    retries = urllib3.exceptions.MaxRetryError(pool, "/", urllib3.exceptions.SSLError(_untrusted()))
    verdict = judged(lambda: _raise(requests.exceptions.SSLError(retries)), rulebook)
    assert (verdict.category, verdict.layer) == (CONFIG, "class")


def test_a_refused_password_beats_the_connection_error_around_it(rulebook: Rulebook) -> None:
    """As SQLAlchemy nests psycopg (constructed); with its text, for libpq says it in words only."""
    said = 'connection to server at "10.0.0.5", port 5432 failed: FATAL:  password authentication failed for user "app"'
    inner = psycopg.OperationalError(said)
    outer = sqlalchemy.exc.OperationalError("SELECT 1", {}, inner)
    outer.__cause__ = inner
    assert judged(lambda: _raise(outer), rulebook, silent=False).category is CONFIG


def test_redis_authentication_beats_the_connection_error_around_it(rulebook: Rulebook) -> None:
    """redis-py's AuthenticationError is a ConnectionError, and may be raised inside or outside of another."""
    for inner, outer in (
        (redis.AuthenticationError("x"), redis.ConnectionError("Connection closed by server.")),
        (redis.ConnectionError("Connection closed by server."), redis.AuthenticationError("x")),
    ):
        outer.__cause__ = inner
        for silent in (True, False):
            verdict = judged(lambda outer=outer: _raise(outer), rulebook, silent=silent)
            assert (verdict.category, verdict.layer) == (CONFIG, "class")


def test_malformed_json(httpserver: HTTPServer, rulebook: Rulebook) -> None:
    """A body that is no JSON is data, by requests' own class and the standard library's."""
    httpserver.expect_request("/").respond_with_data("{oops")
    url = httpserver.url_for("/")
    assert judged(lambda: requests.get(url, timeout=5).json(), rulebook).category is DATA
    assert judged(lambda: httpx.get(url).json(), rulebook).category is DATA
    assert judged(lambda: json.loads("{"), rulebook).category is DATA
