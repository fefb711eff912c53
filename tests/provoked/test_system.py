"""This machine and its processes: disk, memory, handles, files, programs, children."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import mmap
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import billiard
from billiard.exceptions import WorkerLostError
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from regrow.model import CONFIG, DATA, NETWORK, SYSTEM, UNKNOWN
from tests.provoked import servers
from tests.provoked.table import Case, Field, check
from tests.services import absent, require_library

system = Field("system")
processes = Field("process")


@contextmanager
def _limit(kind: int, soft: int) -> Iterator[None]:
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


@contextmanager
def _nobody() -> Iterator[None]:
    """As a user without rights, if this process is root's."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def _mounted(options: str) -> Iterator[Path]:
    """A small file system of its own."""
    with servers.folder() as folder:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "regrow-provoked", str(folder)],
            capture_output=True,
            check=False,
            timeout=30,
        )
        if done.returncode:
            absent(f"cannot mount a tmpfs here: {done.stderr.decode().strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", str(folder)], check=True, timeout=30)


@contextmanager
def _forbidden() -> Iterator[Path]:
    """A folder that nobody may use, with a file."""
    with servers.folder() as folder:
        path = folder / "closed"
        path.mkdir()
        (path / "file").write_text("x")
        (path / "file").chmod(0)
        path.chmod(0)
        try:
            yield path
        finally:
            path.chmod(0o700)


# -- disk --------------------------------------------------------------------------------------------------------------


@system.case("disk-full", SYSTEM)
def _full() -> None:
    with _mounted("size=64k") as folder:
        (folder / "big").write_bytes(b"x" * 1_000_000)


@system.case("disk-full-at-copy", SYSTEM)
def _full_copy() -> None:
    with _mounted("size=64k") as folder, servers.folder() as other:
        (other / "big").write_bytes(b"x" * 1_000_000)
        shutil.copy(other / "big", folder / "big")


@system.case("disk-full-for-sqlite", SYSTEM)
def _full_sqlite() -> None:
    with (
        _mounted("size=64k") as folder,
        contextlib.closing(sqlite3.connect(folder / "shop.db", isolation_level=None)) as connection,
    ):
        connection.execute("CREATE TABLE t (b)")
        connection.execute("INSERT INTO t VALUES (zeroblob(1000000))")


@system.case("inodes-used-up", SYSTEM)
def _inodes() -> None:
    with _mounted("size=1m,nr_inodes=3") as folder:
        for number in range(10):
            (folder / str(number)).touch()


@system.case("device-full", SYSTEM)
def _dev_full() -> None:
    with open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")


@system.case("read-only-file-system", SYSTEM)
def _read_only() -> None:
    with _mounted("ro,size=64k") as folder:
        (folder / "file").write_text("x")


@system.case("file-too-large", SYSTEM)
def _file_size() -> None:
    with (
        servers.folder() as folder,
        _limit(resource.RLIMIT_FSIZE, 1000),
        open(folder / "big", "wb", buffering=0) as file,
    ):
        for _ in range(3):
            file.write(b"x" * 1000)


@system.case("input-output-error", SYSTEM)
def _eio() -> None:
    with open("/proc/self/mem", "rb", buffering=0) as file:
        file.read(1)


@system.case("no-temporary-folder", SYSTEM, CONFIG)
def _no_temporary() -> None:
    before = os.environ.get("TMPDIR"), tempfile.tempdir
    candidates = tempfile._candidate_tempdir_list
    tempfile._candidate_tempdir_list = lambda: ["/nonexistent"]  # type: ignore[attr-defined]
    tempfile.tempdir = None
    try:
        tempfile.TemporaryFile()
    finally:
        tempfile._candidate_tempdir_list = candidates  # type: ignore[attr-defined]
        tempfile.tempdir = before[1]


# -- memory, handles, threads ------------------------------------------------------------------------------------------


@system.case("memory", SYSTEM)
def _memory() -> None:
    bytearray(1 << 50)


@system.case("memory-under-a-limit", SYSTEM)
def _memory_limit() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    with _limit(resource.RLIMIT_AS, used + (64 << 20)):
        bytearray(1 << 30)


@system.case("memory-for-an-array", SYSTEM)
def _memory_array() -> None:
    require_library("numpy").zeros(1 << 50)


@system.case("memory-for-a-map", SYSTEM)
def _memory_map() -> None:
    mmap.mmap(-1, 1 << 47)


@system.case("thread", SYSTEM)
def _thread() -> None:
    before = threading.stack_size(1 << 46)
    try:
        threading.Thread(target=int).start()
    finally:
        threading.stack_size(before)


@system.case("thread-of-a-pool", SYSTEM)
def _thread_pool() -> None:
    before = threading.stack_size(1 << 46)
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(int)
    finally:
        threading.stack_size(before)


def _without_handles(act: Callable[[], object]) -> Callable[[], None]:
    def provoke() -> None:
        taken = []
        with _limit(resource.RLIMIT_NOFILE, 256):
            try:
                with contextlib.suppress(OSError):
                    while True:
                        taken.append(os.open("/dev/null", os.O_RDONLY))
                act()
            finally:
                for handle in taken:
                    os.close(handle)

    return provoke


system.add("handles-for-a-file", SYSTEM, _without_handles(lambda: open("/dev/null")))
system.add("handles-for-a-socket", SYSTEM, _without_handles(socket.socket))
system.add("handles-for-a-process", SYSTEM, _without_handles(lambda: subprocess.run(["true"], check=True)))
system.add("handles-for-a-pipe", SYSTEM, _without_handles(os.pipe))
system.add("handles-for-sqlite", SYSTEM, _without_handles(lambda: sqlite3.connect("/tmp/regrow-provoked.db")))


@system.case("locked-file", SYSTEM)
def _locked() -> None:
    with servers.folder() as folder, open(folder / "lock", "w") as one, open(folder / "lock", "w") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)


@system.case("full-pipe", SYSTEM)
def _full_pipe() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 65536)
    finally:
        os.close(reading)
        os.close(writing)


# -- permissions and paths ---------------------------------------------------------------------------------------------


@system.case("permission-to-read", SYSTEM)
def _permission() -> None:
    with _forbidden() as folder, _nobody():
        (folder / "file").read_text()


@system.case("permission-to-list", SYSTEM)
def _permission_list() -> None:
    with _forbidden() as folder, _nobody():
        os.listdir(folder)


@system.case("permission-to-write", SYSTEM)
def _permission_write() -> None:
    with _nobody():
        Path("/etc/regrow-provoked").write_text("x")


@system.case("permission-to-bind", SYSTEM, CONFIG)
def _permission_bind() -> None:
    start = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if start.exists() and int(start.read_text()) <= 80:
        absent("every user may bind every port here")
    with _nobody(), socket.socket() as sock:
        sock.bind(("127.0.0.1", 80))


@system.case("permission-for-a-socket", SYSTEM)
def _permission_socket() -> None:
    with servers.folder() as folder:
        path = folder / "sock"
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
            one.listen()
            path.chmod(0o600)
            with _nobody(), socket.socket(socket.AF_UNIX) as two:
                two.connect(str(path))


@system.case("missing-file", DATA)
def _missing() -> None:
    open("/nonexistent/orders-2026-11-25.csv")


@system.case("missing-file-for-pathlib", DATA)
def _missing_path() -> None:
    Path("uploads/no-such-invoice.pdf").read_bytes()


@system.case("missing-file-to-copy", DATA)
def _missing_copy() -> None:
    shutil.copy("/nonexistent/a.csv", "/tmp/b.csv")


@system.case("folder-for-a-file", DATA)
def _folder() -> None:
    open("/tmp")


@system.case("file-for-a-folder", DATA)
def _no_folder() -> None:
    os.listdir("/etc/hostname")


@system.case("name-too-long", DATA)
def _too_long() -> None:
    open("/tmp/" + "x" * 300)


@system.case("nul-in-a-name", DATA)
def _nul() -> None:
    open("a\0b")


@system.case("file-already-there", DATA, SYSTEM)
def _exists() -> None:
    os.mkdir("/tmp")


@system.case("folder-not-empty", DATA, SYSTEM)
def _not_empty() -> None:
    with servers.folder() as folder:
        (folder / "file").touch()
        os.rmdir(folder)


@system.case("link-loop", DATA, SYSTEM)
def _loop() -> None:
    with servers.folder() as folder:
        (folder / "a").symlink_to(folder / "b")
        (folder / "b").symlink_to(folder / "a")
        (folder / "a").read_text()


@system.each()
def test_system(case: Case) -> None:
    """The machine has run out, or the file is not there."""
    check(case)


# -- programs ----------------------------------------------------------------------------------------------------------


def _run(*arguments: str, **options: object) -> Callable[[], object]:
    return lambda: subprocess.run(arguments, check=True, capture_output=True, timeout=30, **options)  # type: ignore[call-overload]


processes.add("missing-program", CONFIG, _run("no-such-program", "--version"))
processes.add("missing-program-by-its-path", CONFIG, _run("/usr/local/bin/no-such-program"))
processes.add("missing-program-in-a-shell", CONFIG, _run("sh", "-c", "no-such-program --version"))
processes.add("exit-1", UNKNOWN, _run("sh", "-c", "exit 1"))
processes.add("exit-126", (SYSTEM, CONFIG), _run("sh", "-c", "/etc/hostname"))
processes.add("exit-137", SYSTEM, _run("sh", "-c", "sh -c 'kill -9 $$'; exit $?"))
processes.add("exit-139", SYSTEM, _run("sh", "-c", "sh -c 'kill -SEGV $$'; exit $?"))
processes.add("killed", SYSTEM, _run("sh", "-c", "kill -9 $$"))
processes.add("segmentation-fault", SYSTEM, _run("sh", "-c", "kill -SEGV $$"))
processes.add("aborted", SYSTEM, _run("sh", "-c", "kill -ABRT $$"))
processes.add("missing-working-folder", (DATA, CONFIG), _run("true", cwd="/nonexistent"))
processes.add("arguments-too-long", (DATA, SYSTEM), _run("true", "x" * 3_000_000))


@processes.case("program-takes-too-long", SYSTEM, NETWORK)
def _takes_too_long() -> None:
    subprocess.run(["sleep", "20"], check=True, timeout=0.05)


@processes.case("program-without-permission", SYSTEM, CONFIG)
def _not_executable() -> None:
    with servers.folder() as folder:
        path = folder / "program"
        path.write_text("#!/bin/sh\n")
        subprocess.run([str(path)], check=True, timeout=10)


@processes.case("program-of-another-format", CONFIG, DATA)
def _format() -> None:
    with servers.folder() as folder:
        path = folder / "program"
        path.write_text("no header\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        subprocess.run([str(path)], check=True, timeout=10)


@processes.case("program-without-its-interpreter", CONFIG)
def _interpreter() -> None:
    with servers.folder() as folder:
        path = folder / "program"
        path.write_text("#!/nonexistent/python\n")
        path.chmod(0o755)
        subprocess.run([str(path)], check=True, timeout=10)


@processes.case("program-that-is-being-written", SYSTEM)
def _text_busy() -> None:
    with servers.folder() as folder:
        path = folder / "program"
        shutil.copy("/bin/true", path)
        path.chmod(0o755)
        with open(path, "ab"):
            subprocess.run([str(path)], check=True, timeout=10)


@processes.case("asyncio-program-missing", CONFIG)
def _async_missing() -> None:
    asyncio.run(asyncio.create_subprocess_exec("no-such-program"))  # type: ignore[arg-type]


def _child_dies(method: str) -> Callable[[], None]:
    def provoke() -> None:
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            pool.submit(_die).result(60)

    return provoke


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


processes.add("child-of-a-pool-killed", SYSTEM, _child_dies("spawn"))


@processes.case("child-of-a-pool-cannot-start", SYSTEM)
def _child_cannot_start() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_die) as pool:
        pool.submit(int).result(60)


@processes.case("pool-that-is-shut-down", DATA, SYSTEM)
def _shut_down() -> None:
    with ThreadPoolExecutor(1) as pool:
        pass
    pool.submit(int)


@processes.case("future-takes-too-long", SYSTEM, NETWORK)
def _future() -> None:
    release = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(release.wait, 20).result(0.05)
        finally:
            release.set()


@processes.case("no-such-process", DATA, UNKNOWN)
def _no_process() -> None:
    child = subprocess.Popen(["true"])
    child.wait(30)
    os.kill(child.pid, 0)


@processes.case("error-in-a-child", DATA)
def _error_in_child() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(int, "twelve").result(60)


@processes.case("python-that-fails", UNKNOWN)
def _python() -> None:
    subprocess.run([sys.executable, "-c", "raise SystemExit(3)"], check=True, timeout=30)


# -- Celery's own limits (as billiard and Celery raise them; real workers meet them in tests/integration) ---------------


@processes.case("soft-time-limit/celery", SYSTEM)
def _soft() -> None:
    def expired(*_: object) -> None:
        raise SoftTimeLimitExceeded

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        threading.Event().wait(20)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@processes.case("hard-time-limit/celery", SYSTEM)
def _hard() -> None:
    raise TimeLimitExceeded(300)


@processes.case("worker-lost/celery", SYSTEM)
def _lost() -> None:
    raise WorkerLostError("Worker exited prematurely: signal 9 (SIGKILL) Job: 0.")


@processes.case("terminated/billiard", SYSTEM)
def _terminated() -> None:
    raise billiard.exceptions.Terminated(int(signal.SIGTERM))


@processes.case("errno-without-text", SYSTEM)
def _bare_errno() -> None:
    raise OSError(errno.ENOSPC, "")


@processes.each()
def test_processes(case: Case) -> None:
    """Programs and children that end badly."""
    check(case)
