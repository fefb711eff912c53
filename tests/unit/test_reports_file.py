"""Report files: whole or not there, never overwritten, readable by people and programs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.adapters.reports import write_report
from regrow.errors import DeliveryError

KIND = "failure_processing"
NOW = datetime(2023, 12, 1, 14, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=8)))
NAME = re.compile(r"failure_processing_20231201_140000(_[2-9]|_[1-9]\d+)?\.json")


def test_the_guides_path(tmp_path: Path) -> None:
    """A report lies where the guide looks for it, under its own local time; missing folders are made (G11, G12)."""
    folder = tmp_path / "deep" / "reports"
    path = write_report(folder, KIND, {"success": True}, NOW)
    assert path == folder / "failure_processing" / "failure_processing_20231201_140000.json"
    other = write_report(folder, "failure_analysis", {"success": True}, NOW)
    assert other == folder / "failure_analysis" / "failure_analysis_20231201_140000.json"
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_people_can_read_it(tmp_path: Path) -> None:
    """Chinese stands as Chinese, in lines, in the order that was given, and others may read it."""
    old = os.umask(0o022)
    try:
        path = write_report(tmp_path, KIND, {"success": True, "message": "失败任务处理完成", "results": []}, NOW)
    finally:
        os.umask(old)
    expected = '{\n  "success": true,\n  "message": "失败任务处理完成",\n  "results": []\n}\n'
    assert path.read_bytes().decode() == expected
    assert path.stat().st_mode & 0o777 == 0o644


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=10,
)


@given(report=st.dictionaries(st.text(st.characters()), JSON))
def test_whatever_stands_in_it(report: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any report can be written and read back, and no text in it steers the terminal it is printed on."""
    text = write_report(tmp_path_factory.mktemp("r"), KIND, report, NOW).read_bytes().decode()
    assert json.loads(text) == report
    assert text.replace("\n", "").isprintable()


def test_what_json_does_not_know(tmp_path: Path) -> None:
    """An application's own id may be of any type."""
    number = UUID(int=7)
    path = write_report(tmp_path, KIND, {"task_id": number, "at": datetime(2026, 1, 1, tzinfo=UTC)}, NOW)
    assert json.loads(path.read_text())["task_id"] == str(number)


def test_two_in_one_second(tmp_path: Path) -> None:
    """The second one gets a name beside the first, and both stay."""
    paths = [write_report(tmp_path, KIND, {"number": number}, NOW) for number in range(3)]
    assert [path.name for path in paths] == [
        "failure_processing_20231201_140000.json",
        "failure_processing_20231201_140000_2.json",
        "failure_processing_20231201_140000_3.json",
    ]
    assert [json.loads(path.read_text())["number"] for path in paths] == [0, 1, 2]


def test_a_writer_that_died_does_no_harm(tmp_path: Path) -> None:
    """What a killed writer left is not taken for a report, and the next one writes beside it."""
    folder = tmp_path / KIND
    folder.mkdir()
    (folder / ".failure_processing_20231201_140000.json.draft").write_text('{"half":')
    path = write_report(tmp_path, KIND, {"number": 1}, NOW)
    assert [one for one in folder.glob("*.json") if not one.name.startswith(".")] == [path]
    assert json.loads(path.read_text()) == {"number": 1}


def write_many(folder: str, writer: int) -> list[str]:
    """Write 25 reports of one second."""
    content = [f"{writer}" * 20_000]
    return [write_report(Path(folder), KIND, {"writer": writer, "n": n, "x": content}, NOW).name for n in range(25)]


def check_race(folder: Path, names: list[list[str]]) -> None:
    """Every report has a file of its own, whole and under the name its writer was told."""
    flat = [name for some in names for name in some]
    assert len(set(flat)) == len(flat) == 100
    assert all(NAME.fullmatch(name) for name in flat)
    assert {path.name for path in (folder / KIND).iterdir()} == set(flat)
    for writer, some in enumerate(names):
        found = [json.loads((folder / KIND / name).read_text()) for name in some]
        assert [(one["writer"], one["n"]) for one in found] == [(writer, n) for n in range(25)]


def test_racing_threads(tmp_path: Path) -> None:
    """Four threads write in the same second, and nothing is lost, torn or left over."""
    with ThreadPoolExecutor(4) as pool:
        check_race(tmp_path, list(pool.map(write_many, [str(tmp_path)] * 4, range(4))))


def test_racing_processes(tmp_path: Path) -> None:
    """Four processes do."""
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        check_race(tmp_path, list(pool.map(write_many, [str(tmp_path)] * 4, range(4))))


def test_a_reader_sees_whole_reports_only(tmp_path: Path) -> None:
    """Whoever looks while reports are written reads whole ones."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        writing = pool.submit(write_many, str(tmp_path), 0)
        seen = 0
        while not writing.done() or not seen:
            for path in (tmp_path / KIND).glob("failure*.json"):
                assert json.loads(path.read_text())["writer"] == 0
                seen += 1
        assert len(writing.result()) == 25


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file in the folder's place is reported with the path and what to do."""
    (tmp_path / "file").touch()
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / KIND).touch()
    for folder in (tmp_path / "file", tmp_path / "reports"):
        with pytest.raises(DeliveryError, match=f"{re.escape(str(folder))}.*FAILURE_REPORTS_DIR") as caught:
            write_report(folder, KIND, {}, NOW)
        assert not caught.value.permanent


def without_rights(folder: str) -> str:
    """What a user without rights is told."""
    os.setuid(65534)
    return told(folder, {})


def without_room(folder: str) -> str:
    """What is told when the disk takes part of a report only."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    return told(folder, {"x": "x" * 1000})


def told(folder: str, report: dict[str, Any]) -> str:
    """The error of a report that cannot be written."""
    try:
        write_report(Path(folder), KIND, report, NOW)
    except DeliveryError as error:
        return str(error)
    return "it was written"


def in_a_process(function: Callable[[str], str], folder: Path) -> str:
    """Run in a process of its own, since rights and limits cannot be taken back."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, str(folder)).result()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give up its rights")
def test_a_folder_without_rights(tmp_path: Path) -> None:
    """A folder that may not be written says so."""
    for folder in (tmp_path, *tmp_path.parents):  # the way there is free, and other rights stay: /tmp is everybody's
        folder.chmod(folder.stat().st_mode | 0o011)
    assert "Permission denied" in in_a_process(without_rights, tmp_path)


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """Half a report is no report: the error is told, and the next one gets the name."""
    assert "File too large" in in_a_process(without_room, tmp_path)
    assert list((tmp_path / KIND).iterdir()) == []
    assert write_report(tmp_path, KIND, {}, NOW).name == "failure_processing_20231201_140000.json"
