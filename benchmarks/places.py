"""Where the measurements take place: a folder, a PostgreSQL database and a Redis server of their own."""

import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from os import getpid
from pathlib import Path

POSTGRESQL = "postgresql://root@127.0.0.1:5432"


@contextmanager
def folder():
    """A folder that is gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="regrow-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def postgresql():
    """The URL of a new database, None if there is no server; the database is dropped afterwards."""
    import psycopg

    name = f"regrow_bench_{getpid()}"
    try:
        server = psycopg.connect(f"{POSTGRESQL}/postgres", autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        print(f"PostgreSQL is left out: {str(error).splitlines()[0]}")
        yield None
        return
    with server:
        server.execute(f'CREATE DATABASE "{name}"')
        try:
            yield f"{POSTGRESQL.replace('postgresql', 'postgresql+psycopg')}/{name}"
        finally:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def redis(path):
    """The URL of a Redis server of our own that keeps nothing on the disk, None if there is no such program."""
    program = shutil.which("redis-server")
    if program is None:
        print("Real workers are left out: there is no redis-server on the PATH.")
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = (
        program,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(path),
    )
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)
