"""Facts on disk: kept whole or not at all, handed in once and in order, and nothing that is damaged stops the rest."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.adapters import failure_json
from regrow.adapters.spool import Spool
from regrow.errors import LedgerError, SpoolError, Unkeepable
from regrow.model import Cause, Failure, TaskOptions
from regrow.testing import a_failure


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """An empty spool."""
    return Spool(tmp_path / "spool", limit_bytes=10_000_000)


class Ledger:
    """Takes batches, or is away."""

    def __init__(self) -> None:
        self.taken: list[Failure] = []
        self.batches: list[int] = []
        self.away = False

    def __call__(self, failures: Sequence[Failure]) -> None:
        """Take a batch."""
        if self.away:
            raise LedgerError("away")
        self.batches.append(len(failures))
        self.taken += failures


TEXT = st.text(max_size=50) | st.sampled_from(["\ud800", "a\nb\r\n", "\0", "钱 \x1b[31m", "\u2028"])
FAILURES = st.builds(
    Failure,
    task_id=TEXT,
    task_name=TEXT,
    failed_at=st.datetimes(timezones=st.just(UTC)),
    causes=st.lists(
        st.builds(
            Cause,
            type=TEXT,
            message=TEXT,
            bases=st.lists(TEXT, max_size=2).map(tuple),
            codes=st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
            retry_after_seconds=st.none() | st.floats(0, 1e6),
        ),
        max_size=3,
    ).map(tuple),
    options=st.builds(TaskOptions, st.booleans(), st.booleans(), st.booleans(), st.none() | st.booleans()),
    envelope=st.none() | TEXT,
    expires_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    token=st.none() | TEXT,
    key=TEXT,
    died=st.booleans(),
)


@given(FAILURES)
def test_a_failure_comes_back_as_it_was(failure: Failure) -> None:
    """JSON keeps every field of a failure, and is one line of ASCII whatever is in it."""
    text = failure_json.dumps(failure)
    assert text.isascii()
    assert len(text.splitlines()) == 1
    assert failure_json.loads(text) == failure


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"task_id": 1}', '{"causes": [7], "options": {}}', "\0"])
def test_what_is_no_failure_is_refused(text: str) -> None:
    """Text that `dumps` never makes is a ValueError."""
    with pytest.raises(ValueError):
        failure_json.loads(text)


def test_fields_of_a_newer_version_are_ignored() -> None:
    """A spool may be replayed by an older version."""
    failure = a_failure()
    text = failure_json.dumps(failure).replace('"task_id"', '"colour":"red","task_id"', 1)
    assert failure_json.loads(text) == failure


def test_kept_and_replayed_once_in_order(spool: Spool) -> None:
    """All that was kept is handed in, each with a key, in the order of its process; then nothing is left."""
    failures = [a_failure() for _ in range(250)]
    for one in failures:
        spool.put(one)
    assert spool.waiting()
    ledger = Ledger()
    assert spool.replay(ledger) == 250
    assert [one.task_id for one in ledger.taken] == [one.task_id for one in failures]
    assert len({one.key for one in ledger.taken}) == 250
    assert all(replace(one, key="") in failures for one in ledger.taken)
    assert (spool.waiting(), spool.size(), spool.replay(ledger)) == (False, 0, 0)


def test_two_runs_of_a_task_come_in_two_batches(spool: Spool) -> None:
    """A ledger takes a second failure of one task in one batch for a copy: so it gets them one after another."""
    for number in range(6):
        spool.put(a_failure(task_id=f"t{number % 2}"))
    ledger = Ledger()
    spool.replay(ledger)
    assert ledger.batches == [2, 2, 2]


def test_a_ledger_that_is_away_leaves_all_as_it_is(spool: Spool) -> None:
    """What the ledger has not taken waits on, with the same keys, and new facts go beside it."""
    spool.put(a_failure(task_id="a"))
    ledger = Ledger()
    ledger.away = True
    for _ in range(3):
        with pytest.raises(LedgerError):
            spool.replay(ledger)
    spool.put(a_failure(task_id="b"))
    ledger.away = False
    assert spool.replay(ledger) == 2
    assert [one.task_id for one in ledger.taken] == ["a", "b"]


def test_bounded(tmp_path: Path) -> None:
    """A full spool refuses in words that say how to mend it, and keeps what it has."""
    spool = Spool(tmp_path, limit_bytes=3_000)
    kept = 0
    while spool.size() < 2_200:
        spool.put(a_failure())
        kept += 1
    with pytest.raises(SpoolError, match=r"is full \(3000 bytes\).*FAILURE_SPOOL_LIMIT_BYTES"):
        spool.put(a_failure(traceback="x" * 800))
    assert spool.size() <= 3_000
    assert spool.replay(Ledger()) == kept
    spool.put(a_failure())


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    """A file where the folder should be, or none at all, is a clear error; reading finds nothing."""
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "under", Path("/proc/nowhere")):
        spool = Spool(folder, limit_bytes=1_000_000)
        with pytest.raises(SpoolError, match="cannot be written to"):
            spool.put(a_failure())
        assert (spool.size(), spool.waiting(), spool.replay(Ledger())) == (0, False, 0)


def files(spool: Spool, suffix: str) -> list[Path]:
    return sorted(spool.folder.glob(f"*{suffix}"))


def test_what_is_damaged_is_put_aside(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    """A torn line, a changed byte, another program's line: each is kept aside and said; all others are handed in."""
    for number in range(4):
        spool.put(a_failure(task_id=f"t{number}"))
    (path,) = files(spool, ".spool")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"t1", b"tX")
    path.write_bytes(b"".join([*lines[:3], b"hello\n", b"\xff\xfe\n", lines[3][:-20]]))
    ledger = Ledger()
    with caplog.at_level(logging.ERROR):
        assert spool.replay(ledger) == 2
    assert [one.task_id for one in ledger.taken] == ["t0", "t2"]
    (aside,) = files(spool, ".damaged")
    assert aside.read_bytes().splitlines() == [lines[1].strip(), b"hello", b"\xff\xfe", lines[3][:-20]]
    assert len(caplog.records) == 4
    assert not spool.waiting()
    assert spool.size() == aside.stat().st_size


def test_one_that_the_ledger_cannot_take_costs_no_other(spool: Spool) -> None:
    """A failure that raises anything but a ledger's error is put aside; the rest of its batch is handed in."""
    for name in ("a", "bad", "b"):
        spool.put(a_failure(task_id=name))
    taken: list[str] = []

    def take(failures: Sequence[Failure]) -> None:
        if any(one.task_id == "bad" for one in failures):
            raise KeyError("bad")
        taken.extend(one.task_id for one in failures)

    assert spool.replay(take) == 2
    assert taken == ["a", "b"]
    assert len(files(spool, ".damaged")) == 1


def test_a_disk_that_takes_half_a_line(spool: Spool, tmp_path: Path) -> None:
    """A limit on the size of files cuts a line in the middle, as a full disk does: what was there stays whole."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from regrow.adapters.spool import Spool\n"
        "from regrow.errors import SpoolError\n"
        "from regrow.testing import a_failure\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "spool = Spool(Path(sys.argv[1]), limit_bytes=10**9)\n"
        "spool.put(a_failure(task_id='first'))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    spool.put(a_failure(traceback='x' * 10_000))\n"
        "except SpoolError as error:\n"
        "    print(error)\n"
        "spool.put(a_failure(task_id='last'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(spool.folder)], capture_output=True, text=True, check=True)
    assert "cannot be written to: File too large" in done.stdout
    ledger = Ledger()
    assert spool.replay(ledger) == 2
    assert [one.task_id for one in ledger.taken] == ["first", "last"]
    assert files(spool, ".damaged") == []


def _write(folder: Path, count: int) -> None:
    spool = Spool(folder, limit_bytes=10**9)
    for _ in range(count):
        spool.put(a_failure(task_id=f"{os.getpid()}-{_}"))


def _replay(folder: Path, out: Path, writers: int) -> None:
    spool = Spool(folder, limit_bytes=10**9)

    def take(failures: Sequence[Failure]) -> None:
        with out.open("a") as file:
            file.write("".join(f"{one.task_id}\n" for one in failures))

    for _ in range(10_000):
        spool.replay(take)
        if len(out.read_text().splitlines()) >= writers and not spool.waiting():
            return


def test_many_write_while_many_replay(tmp_path: Path) -> None:
    """Processes that write while others replay: each failure is handed in once, and none is lost."""
    folder, out = tmp_path / "spool", tmp_path / "out"
    out.touch()
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(folder, 200)) for _ in range(3)]
    readers = [context.Process(target=_replay, args=(folder, out, 600)) for _ in range(2)]
    for one in [*writers, *readers]:
        one.start()
    for one in [*writers, *readers]:
        one.join(60)
    ids = out.read_text().splitlines()
    assert len(ids) == len(set(ids)) == 600


def test_a_fork_writes_to_a_file_of_its_own(spool: Spool) -> None:
    """A forked child keeps its facts apart from its parent's, so each process's are in order."""
    spool.put(a_failure(task_id="parent"))
    child = os.fork()
    if child == 0:
        spool.put(a_failure(task_id="child"))
        os._exit(0)
    os.waitpid(child, 0)
    assert len(files(spool, ".spool")) == 2
    ledger = Ledger()
    assert spool.replay(ledger) == 2


@pytest.mark.parametrize("step", ["rename", "unlink", "take", "fsync"])
def test_a_child_that_is_forked_in_the_middle_keeps_nothing_locked(
    spool: Spool, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool's child inherits the descriptor of a locked file, and lives for days: nothing waits for its end."""
    children: list[int] = []
    ledger = Ledger()

    def fork_first(real: Any) -> Any:
        def armed(*args: Any, **kwargs: Any) -> Any:
            if not children:
                children.append(os.fork())
                if children[0] == 0:
                    while True:
                        signal.pause()
            return real(*args, **kwargs)

        return armed

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", fork_first(os.fsync))
    elif step == "take":
        ledger_takes = fork_first(ledger)
    else:
        monkeypatch.setattr(Path, step, fork_first(getattr(Path, step)))
    try:
        spool.put(a_failure(task_id="a"))
        spool.replay(ledger_takes if step == "take" else ledger)
        spool.put(a_failure(task_id="b"))
        spool.replay(ledger)
        assert children
        assert [one.task_id for one in ledger.taken] == ["a", "b"]
        assert spool.size() == 0
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_another_users_file_stops_no_other(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    """A file that cannot be opened is said once, and the others are handed in."""
    spool.put(a_failure(task_id="a"))
    (spool.folder / "1-other.spool").mkdir()
    (spool.folder / "2-other.taken").mkdir()
    ledger = Ledger()
    with caplog.at_level(logging.ERROR):
        assert [spool.replay(ledger), spool.replay(ledger)] == [1, 0]
    assert len(caplog.records) == 2


def test_what_the_ledger_refuses_for_ever_is_put_aside(spool: Spool) -> None:
    """A value that no column takes is no outage: everything behind it is handed in."""
    for name in ("a", "bad", "b"):
        spool.put(a_failure(task_id=name))
    taken: list[str] = []

    def take(failures: Sequence[Failure]) -> None:
        if any(one.task_id == "bad" for one in failures):
            raise Unkeepable("out of range")
        taken.extend(one.task_id for one in failures)

    assert spool.replay(take) == 2
    assert taken == ["a", "b"]
    assert not spool.waiting()


def test_only_the_owner_may_read_it(spool: Spool) -> None:
    """A call's arguments are nobody else's business."""
    spool.put(a_failure())
    (path,) = files(spool, ".spool")
    assert path.stat().st_mode & 0o777 == 0o600
    assert spool.folder.stat().st_mode & 0o777 == 0o700


def test_a_task_that_goes_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder stays where the process was started, though a task changes its folder."""
    monkeypatch.chdir(tmp_path)
    spool = Spool(Path("spool"), limit_bytes=10**6)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    spool.put(a_failure(failed_at=datetime.now(UTC)))
    assert (tmp_path / "spool").is_dir()
