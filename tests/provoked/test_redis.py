"""Private Redis servers that fail in every way they can."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis
import redis.asyncio
import redis.asyncio.retry
from redis.backoff import NoBackoff
from redis.retry import Retry

from regrow.model import CONFIG, DATA, SYSTEM, TEMPORARY
from tests.provoked import servers
from tests.provoked.servers import closed_port, serve
from tests.provoked.table import Case, Field, check, shared

cache = Field("redis")


def _client(port: int, **options: object) -> redis.Redis:
    usual = {"socket_timeout": 5, "retry": Retry(NoBackoff(), 0)}
    return redis.Redis(host="127.0.0.1", port=port, **{**usual, **options})


@contextmanager
def _server(*options: str) -> Iterator[int]:
    with servers.folder() as folder:
        port = closed_port()
        arguments = [servers.program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
        with servers.running([*arguments, "--save", "", *options], log=folder / "log"):
            servers.wait(lambda: servers.listens(port), "Redis")
            yield port


@shared
@contextmanager
def plain() -> Iterator[int]:
    """A server without a password."""
    with _server("--busy-reply-threshold", "100") as port:
        yield port


@shared
@contextmanager
def guarded() -> Iterator[int]:
    """A server with a password, and a user who may read only."""
    with _server("--requirepass", "right") as port:
        with _client(port, password="right") as client:
            client.execute_command("ACL", "SETUSER", "reader", "on", ">right", "~public:*", "+get", "+ping")
        yield port


def _with(port: Callable[[], int], act: Callable[[redis.Redis], object], **options: object) -> Callable[[], object]:
    def provoke() -> None:
        with _client(port(), **options) as client:
            act(client)

    return provoke


def _wrong_type(client: redis.Redis) -> None:
    client.set("text", "x")
    client.lpush("text", "y")


def _no_integer(client: redis.Redis) -> None:
    client.set("text", "x")
    client.incr("text")


def _other_writer(client: redis.Redis) -> None:
    with client.pipeline() as pipeline:
        pipeline.watch("watched")
        client.set("watched", "other")
        pipeline.multi()
        pipeline.set("watched", "mine")
        pipeline.execute()


def _lock(client: redis.Redis) -> None:
    with client.lock("lock", timeout=30), client.lock("lock", timeout=30, blocking_timeout=0.05):
        pass


def _busy_script(client: redis.Redis) -> None:
    endless = _client(plain(), socket_timeout=30)
    thread = threading.Thread(target=lambda: _quietly(lambda: endless.eval("while true do end", 0)))
    thread.start()
    try:

        def busy() -> bool:
            try:
                client.get("x")
            except redis.exceptions.ResponseError:
                return True
            return False

        servers.wait(busy, "a busy server")
        client.get("x")
    finally:
        client.script_kill()
        thread.join(servers.PATIENCE_SECONDS)
        endless.close()


def _quietly(act: Callable[[], object]) -> None:
    with contextlib.suppress(Exception):
        act()


for _name, _labels, _provoke in (
    ("no-password", (CONFIG,), _with(guarded, lambda client: client.ping())),
    ("wrong-password", (CONFIG,), _with(guarded, lambda client: client.ping(), password="wrong")),
    ("unknown-user", (CONFIG,), _with(guarded, lambda client: client.ping(), username="x", password="right")),
    (
        "command-forbidden",
        (CONFIG,),
        _with(guarded, lambda c: c.set("public:a", 1), username="reader", password="right"),
    ),
    ("key-forbidden", (CONFIG,), _with(guarded, lambda c: c.get("other"), username="reader", password="right")),
    ("wrong-database", (CONFIG,), _with(plain, lambda client: client.ping(), db=99)),
    ("wrong-type", (DATA,), _with(plain, _wrong_type)),
    ("no-integer", (DATA,), _with(plain, _no_integer)),
    ("syntax", (DATA,), _with(plain, lambda client: client.execute_command("SET", "a", "b", "ODDLY"))),
    ("number-of-arguments", (DATA,), _with(plain, lambda client: client.execute_command("GET"))),
    ("unknown-command", (DATA, CONFIG), _with(plain, lambda client: client.execute_command("JSON.GET", "a"))),
    ("bad-script", (DATA,), _with(plain, lambda client: client.eval("return oops(", 0))),
    ("script-that-fails", (DATA,), _with(plain, lambda client: client.eval("return nil + 1", 0))),
    ("value-of-no-known-type", (DATA,), _with(plain, lambda client: client.set("a", object()))),
    ("missing-consumer-group", (CONFIG,), _with(plain, lambda c: c.xreadgroup("no-group", "me", {"no-stream": ">"}))),
    ("watched-key-changed", (TEMPORARY,), _with(plain, _other_writer)),
    ("lock-taken", (TEMPORARY,), _with(plain, _lock)),
    ("busy-script", (TEMPORARY,), _with(plain, _busy_script)),
):
    cache.add(_name, _labels, _provoke)


@cache.case("out-of-memory", TEMPORARY)
def _oom() -> None:
    with _server("--maxmemory", "1") as port, _client(port) as client:
        client.set("x", "y" * 10_000)


@cache.case("read-only-replica", TEMPORARY)
def _replica() -> None:
    with _server("--replicaof", "127.0.0.1", str(closed_port())) as port, _client(port) as client:
        client.set("x", "y")


@cache.case("replica-without-its-master", TEMPORARY)
def _master_down() -> None:
    options = ("--replicaof", "127.0.0.1", str(closed_port()), "--replica-serve-stale-data", "no")
    with _server(*options) as port, _client(port) as client:
        client.get("x")


@cache.case("too-few-replicas", TEMPORARY)
def _no_replicas() -> None:
    with _server("--min-replicas-to-write", "1") as port, _client(port) as client:
        client.set("x", "y")


@cache.case("cluster-down", TEMPORARY)
def _cluster_down() -> None:
    with _server("--cluster-enabled", "yes", "--cluster-port", str(closed_port())) as port, _client(port) as client:
        client.get("x")


@cache.case("cannot-save", TEMPORARY, SYSTEM)
def _misconf() -> None:
    # A dump that cannot be written: its name is a folder's.
    with _server("--dbfilename", "dump.rdb") as port, _client(port) as client:
        client.config_set("save", "3600 1")
        folder = str(client.config_get("dir")["dir"])
        import os

        os.mkdir(f"{folder}/dump.rdb")
        client.set("x", "y")
        client.bgsave()
        servers.wait(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "a failed save")
        client.set("x", "z")


@cache.case("loading", TEMPORARY)
def _loading() -> None:
    with servers.folder() as folder:
        program = servers.program("redis-server")
        port = closed_port()
        usual = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
        with servers.running([*usual, "--save", ""], log=folder / "log"):
            servers.wait(lambda: servers.listens(port), "Redis")
            with _client(port) as client:
                client.eval("for i = 1, 20000 do redis.call('SET', 'key' .. i, i) end", 0)
                client.save()
        slow = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"]
        with servers.running([*usual, *slow], log=folder / "log"):
            servers.wait(lambda: servers.listens(port), "Redis")
            with _client(port, socket_timeout=30) as client:
                client.get("key1")


@cache.case("too-many-clients", TEMPORARY)
def _max_clients() -> None:
    with _server("--maxclients", "1") as port, _client(port) as one, _client(port) as two:
        one.ping()
        two.ping()


@cache.case("read-timeout", TEMPORARY)
def _timeout() -> None:
    with _client(plain()) as one, _client(plain(), socket_timeout=0.1) as two:
        two.ping()
        one.client_pause(1500, all=True)
        try:
            two.get("x")
        finally:
            one.client_unpause()


@cache.case("connect-timeout", TEMPORARY)
def _connect_timeout() -> None:
    with serve(servers.silent) as port, _client(port, socket_timeout=0.1) as client:
        client.ping()


@cache.case("refused", TEMPORARY)
def _refused() -> None:
    with _client(closed_port()) as client:
        client.ping()


@cache.case("closed-at-once", TEMPORARY)
def _closed() -> None:
    with serve(servers.hang_up) as port, _client(port) as client:
        client.ping()


@cache.case("dns", TEMPORARY)
def _dns() -> None:
    with redis.Redis(host="regrow.invalid", retry=Retry(NoBackoff(), 0)) as client:
        client.ping()


@cache.case("stopped-in-a-session", TEMPORARY)
def _stopped() -> None:
    with _server() as port, _client(port) as client:
        client.ping()
        with _client(port) as other:
            other.execute_command("CLIENT", "NO-EVICT", "off")
            _quietly(lambda: other.shutdown(nosave=True))
        client.get("x")


@cache.case("killed-while-it-waits", TEMPORARY)
def _killed() -> None:
    with _client(plain()) as one, _client(plain(), socket_timeout=30) as two:
        number = two.client_id()
        timer = threading.Timer(0.2, lambda: one.execute_command("CLIENT", "KILL", "ID", number))
        timer.start()
        try:
            two.blpop("nothing", timeout=20)
        finally:
            timer.join()


@cache.case("pool-exhausted", TEMPORARY)
def _pool() -> None:
    pool = redis.ConnectionPool(host="127.0.0.1", port=plain(), max_connections=1)
    try:
        pool.get_connection()
        pool.get_connection()
    finally:
        pool.disconnect()


@cache.case("blocking-pool-exhausted", TEMPORARY)
def _blocking_pool() -> None:
    pool = redis.BlockingConnectionPool(host="127.0.0.1", port=plain(), max_connections=1, timeout=0.05)
    try:
        pool.get_connection()
        pool.get_connection()
    finally:
        pool.disconnect()


@cache.case("missing-socket", TEMPORARY)
def _missing_socket() -> None:
    with redis.Redis(unix_socket_path="/nonexistent/redis.sock", retry=Retry(NoBackoff(), 0)) as client:
        client.ping()


@cache.case("address-of-odd-scheme", CONFIG, DATA)
def _odd_address() -> None:
    redis.Redis.from_url("http://127.0.0.1/0")


def _asynchronous(port: Callable[[], int], **options: object) -> Callable[[], object]:
    async def ping() -> None:
        retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
        client = redis.asyncio.Redis(host="127.0.0.1", port=port(), retry=retry, **options)  # type: ignore[arg-type]
        try:
            await client.ping()
        finally:
            await client.aclose()

    return lambda: asyncio.run(ping())


cache.add("refused/asyncio", TEMPORARY, _asynchronous(closed_port))
cache.add("no-password/asyncio", CONFIG, _asynchronous(guarded))
cache.add("wrong-password/asyncio", CONFIG, _asynchronous(guarded, password="wrong"))


@cache.case("connect-timeout/asyncio", TEMPORARY)
def _async_timeout() -> None:
    with serve(servers.silent) as port:
        _asynchronous(lambda: port, socket_timeout=0.1)()


@cache.each()
def test_redis(case: Case) -> None:
    """A cache that cannot serve just now, one that is set up wrongly, and commands that are wrong."""
    check(case)
