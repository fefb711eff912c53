"""Where facts wait on this machine's disk while the ledger cannot take them.

Each process appends to a file of its own; whoever replays takes the whole file away by renaming it, and removes it when
the ledger has all of it. A crash in between hands the same facts in again, and the ledger knows them by `Failure.key`.
A line is a checksum and a failure as JSON: what is damaged is put aside, and stops nothing.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import sleep
from uuid import uuid4
from zlib import crc32

from regrow.adapters import failure_json
from regrow.errors import LedgerError, SpoolError
from regrow.model import Failure, Spooled

log = logging.getLogger("regrow")

#: Failures handed to the ledger at a time.
BATCH = 100

#: How long a writer rests while a replay takes its file away, which takes no longer.
_MOMENT_SECONDS = 0.001

_OPEN, _TAKEN, _DAMAGED = ".spool", ".taken", ".damaged"

Take = Callable[[Sequence[Failure]], object]


class Spool:
    """Facts of failures on disk.

    Args:
        folder: Where; it is made when it is first needed.
        limit_bytes: How much it may hold, for all processes together.
    """

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self.folder = folder.absolute()  # a task may go to another folder
        self._limit = limit_bytes
        self._name = uuid4().hex[:12]
        self._skipped: set[Path] = set()

    # -- in ---------------------------------------------------------------------------------------------------------

    def put(self, failure: Failure) -> None:
        """Keep the facts; they are on the disk itself when this returns.

        Raises:
            SpoolError: They are not: the folder cannot be written to, or it is full.
        """
        line = _line(failure if failure.key else replace(failure, key=uuid4().hex))
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.size() + len(line) > self._limit:
                raise SpoolError(
                    f"the spool {self.folder} is full ({self._limit} bytes); bring the ledger back, or raise "
                    "FAILURE_SPOOL_LIMIT_BYTES"
                )
            with self._own_file() as (file, new):
                _append(file, line)
            if new:
                _sync_folder(self.folder)
        except OSError as error:
            raise SpoolError(f"the spool {self.folder} cannot be written to: {error.strerror}") from error

    @contextmanager
    def _own_file(self) -> Iterator[tuple[int, bool]]:
        """This process's file, locked, and whether it is new."""
        path = self.folder / f"{os.getpid()}-{self._name}{_OPEN}"  # a fork inherits the name, and not the process id
        while True:
            file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                # Never wait: whoever holds it is about to take the file away, and then reads it for long.
                with _locked(file) as mine:
                    status = os.fstat(file)
                    if mine and _same_file(path, status):
                        yield file, status.st_size == 0
                        return
            finally:
                os.close(file)
            sleep(_MOMENT_SECONDS)

    # -- out --------------------------------------------------------------------------------------------------------

    def size(self) -> int:
        """How many bytes wait, those put aside included."""
        return sum(size for _, size in self._files((_OPEN, _TAKEN, _DAMAGED)))

    def look(self) -> Spooled:
        """What is in it."""
        oldest = [_age(entry)[0] for entry in self._files((_OPEN, _TAKEN))]
        damaged = sum(size for _, size in self._files((_DAMAGED,)))
        return Spooled(self.size() - damaged, damaged, min(filter(None, oldest), default=None))

    def waiting(self) -> bool:
        """True if there is something to replay."""
        return any(True for _ in self._files((_OPEN, _TAKEN)))

    def replay(self, take: Take) -> int:
        """Hand all that waits to the ledger, each process's facts in their order.

        Args:
            take: Takes a batch of failures, of different tasks, into the ledger in one transaction; what it knows
                already does no harm.

        Returns:
            How many were handed in.

        Raises:
            LedgerError: The ledger is still away; what it has not taken waits on.
        """
        done = 0
        for path, _ in sorted(self._files((_TAKEN, _OPEN)), key=_age):
            try:
                taken = path if path.suffix == _TAKEN else _take_away(path)
                if taken is not None:
                    done += self._hand_in(taken, take)
            except OSError as error:  # another user's file, a disk that fails: the other files are not to wait for it
                if path not in self._skipped:
                    self._skipped.add(path)
                    log.error("regrow cannot replay %s: %s", path, error.strerror or error)
        return done

    def _hand_in(self, path: Path, take: Take) -> int:
        try:
            file = path.open("rb")
        except FileNotFoundError:  # another process has replayed it
            return 0
        with file, _locked(file.fileno()) as mine:
            # Another process is at it, or has done it.
            if not mine or not _same_file(path, os.fstat(file.fileno())):
                return 0
            done = 0
            for batch in _batches(self._read(file, path)):
                done += self._give(batch, take, path)
            path.unlink()
        return done

    def _read(self, lines: Iterable[bytes], path: Path) -> Iterator[tuple[bytes, Failure]]:
        for line in lines:
            try:
                checksum, text = line[:8], line[9:].rstrip(b"\n")
                whole = int(checksum, 16) == crc32(text)
                failure = failure_json.loads(text.decode("ascii")) if whole else None
            except ValueError as error:
                self._put_aside(path, line, str(error))
                continue
            if failure is None:
                self._put_aside(path, line, "its checksum does not fit")
            else:
                yield line, failure

    def _give(self, batch: Sequence[tuple[bytes, Failure]], take: Take, path: Path) -> int:
        try:
            take([failure for _, failure in batch])
        except Exception as error:
            if isinstance(error, LedgerError) and not error.permanent:
                raise
            if len(batch) == 1:
                self._put_aside(path, batch[0][0], f"{type(error).__name__}: {error}")
                return 0
            return sum(self._give([one], take, path) for one in batch)  # one must not cost the others
        return len(batch)

    def _put_aside(self, path: Path, line: bytes, why: str) -> None:
        aside = path.with_suffix(_DAMAGED)
        log.error("regrow: a failure in the spool cannot be replayed (%s); it is kept in %s", why, aside)
        file = os.open(aside, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            _append(file, line if line.endswith(b"\n") else line + b"\n")
        finally:
            os.close(file)

    def _files(self, kinds: Sequence[str]) -> Iterator[tuple[Path, int]]:
        try:
            entries = list(os.scandir(self.folder))
        except OSError:  # nothing was ever kept, or nobody may look
            return
        for entry in entries:
            if entry.name.endswith(tuple(kinds)):
                try:
                    yield Path(entry.path), entry.stat().st_size
                except FileNotFoundError:  # replayed in this moment
                    continue


def _line(failure: Failure) -> bytes:
    text = failure_json.dumps(failure).encode("ascii")
    return b"%08x %s\n" % (crc32(text), text)


def _append(file: int, line: bytes) -> None:
    """Write the whole line, or none of it: a full disk takes a part."""
    size = os.fstat(file).st_size
    whole = False
    try:
        while line:  # what is left of it is tried once more, and then says why it cannot be written
            line = line[os.write(file, line) :]
        os.fsync(file)
        whole = True
    finally:
        if not whole:
            os.ftruncate(file, size)


@contextmanager
def _locked(file: int) -> Iterator[bool]:
    """Lock a file if nobody has; True if that is so.

    The lock is given back before the file is closed: a child that is forked meanwhile has the descriptor too, and would
    keep it locked for as long as it lives. Source: flock(2), locks belong to the open file description.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _take_away(path: Path) -> Path | None:
    """Rename a process's file, so that the next facts go to a new one; None if another process did."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        with _locked(file) as mine:
            if not mine or not _same_file(path, os.fstat(file)):
                return None
            taken = path.with_name(f"{path.stem}-{uuid4().hex[:8]}{_TAKEN}")
            path.rename(taken)
            return taken
    finally:
        os.close(file)


def _same_file(path: Path, status: os.stat_result) -> bool:
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    return (now.st_ino, now.st_dev) == (status.st_ino, status.st_dev)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _age(entry: tuple[Path, int]) -> tuple[float, str]:
    """Oldest first; the name decides between files of one moment."""
    try:
        return entry[0].stat().st_mtime, entry[0].name
    except FileNotFoundError:
        return 0.0, entry[0].name


def _batches(failures: Iterable[tuple[bytes, Failure]]) -> Iterator[list[tuple[bytes, Failure]]]:
    """Batches of failures of different tasks: two runs of one task are no copies of one another."""
    batch: list[tuple[bytes, Failure]] = []
    tasks: set[str] = set()
    for line, failure in failures:
        if len(batch) == BATCH or failure.task_id in tasks:
            yield batch
            batch, tasks = [], set()
        batch.append((line, failure))
        tasks.add(failure.task_id)
    if batch:
        yield batch
