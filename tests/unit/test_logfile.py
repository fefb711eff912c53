"""Log files: one line per message, whatever stands in it and whoever else writes."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.adapters.channels.logfile import LogFile
from regrow.errors import DeliveryError
from regrow.testing import FrozenClock, a_message

FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*")')


def fields(line: str) -> dict[str, str]:
    """The fields of a line as they were given."""
    return {name: json.loads(value) for name, value in FIELD.findall(line)}


@given(text=st.text(st.characters(), min_size=1))
def test_one_line_whatever_the_text(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any text makes one line without a control character, and can be read back to the character."""
    path = tmp_path_factory.mktemp("log") / "admin.log"
    message = a_message("k", title=text, body=text, task_name=text, user_id=text, task_id=text)
    LogFile(path, FrozenClock()).send(message)
    whole = path.read_bytes().decode()
    assert whole.endswith("\n")
    line = whole[:-1]
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    found = fields(line)
    assert found["body"] == found["title"] == found["task"] == found["user"] == found["task_id"] == text


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\nb", "\x1b[31mred", "\u2028", "\x85", "\0", "\ud800", "\u202e", "\U000e0001"]
)
def test_escapes(text: str, tmp_path: Path) -> None:
    """Line breaks, terminal codes, direction marks and what UTF-8 cannot hold are escaped."""
    LogFile(tmp_path / "a.log", FrozenClock()).send(a_message("k", body=text))
    line = (tmp_path / "a.log").read_bytes().decode().removesuffix("\n")
    assert line.isprintable()
    assert fields(line)["body"] == text


def test_a_line_tells_what_the_guide_wants(tmp_path: Path) -> None:
    """Time, priority, category, task, title and body stand in the line, Chinese as it is (G5)."""
    LogFile(tmp_path / "a.log", FrozenClock()).send(a_message("k", body="任务失败"))
    line = (tmp_path / "a.log").read_text(encoding="utf-8")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d ", line)
    for part in ('priority="high"', 'category="recoverable_network"', 'task="shop.tasks.pay"', 'body="任务失败"'):
        assert part in line


def test_the_folder_is_made_and_rotation_works(tmp_path: Path) -> None:
    """A missing folder is made, and a file that was moved away is begun anew."""
    path = tmp_path / "deep" / "er" / "a.log"
    channel = LogFile(path, FrozenClock())
    channel.send(a_message("1"))
    path.rename(path.with_suffix(".1"))
    channel.send(a_message("2"))
    assert len(path.read_text().splitlines()) == 1


def test_what_cannot_be_written_is_a_delivery_error(tmp_path: Path) -> None:
    """A folder in the file's place, or a file in the folder's, is reported with its path and tried again."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "a.log"):
        with pytest.raises(DeliveryError, match=re.escape(str(path.parent))) as caught:
            LogFile(path, FrozenClock()).send(a_message("k"))
        assert not caught.value.permanent


def refused(path: str) -> str:
    """What a user without rights is told."""
    os.setuid(65534)
    try:
        LogFile(Path(path), FrozenClock()).send(a_message("k"))
    except DeliveryError as error:
        return str(error)
    return "it was written"


def short_of_room(path: str) -> str:
    """What is told when only part of a line fits."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    try:
        LogFile(Path(path), FrozenClock()).send(a_message("k", body="x" * 1000))
    except DeliveryError as error:
        return str(error)
    return "it was written"


def in_a_process(function: object, path: Path) -> str:
    """Run in a process of its own, since rights and limits cannot be taken back."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return str(pool.submit(function, str(path)).result())  # type: ignore[arg-type]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give up its rights")
def test_a_permission_error_is_a_delivery_error(tmp_path: Path) -> None:
    """A folder that may not be written says so."""
    for folder in (tmp_path, *tmp_path.parents):  # the way there is free, and other rights stay: /tmp is everybody's
        folder.chmod(folder.stat().st_mode | 0o011)
    assert "Permission denied" in in_a_process(refused, tmp_path / "a.log")


def test_half_a_line_is_not_delivered(tmp_path: Path) -> None:
    """A disk that takes part of a line has not taken the message."""
    assert "only part of the line fitted" in in_a_process(short_of_room, tmp_path / "a.log")


def write_many(path: str, mark: str) -> None:
    """Write 200 long lines."""
    channel = LogFile(Path(path), FrozenClock())
    for number in range(200):
        channel.send(replace(a_message("k"), title=f"{mark}{number}", body=mark * 9000))


def test_writers_never_mix_lines(tmp_path: Path) -> None:
    """Four processes write long lines at once, and each line is whole."""
    path = tmp_path / "a.log"
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(write_many, str(path), mark) for mark in "abcd"]:
            done.result()
    lines = path.read_text().splitlines()
    assert len(lines) == 800
    found = [fields(line) for line in lines]
    assert {one["title"] for one in found} == {f"{mark}{number}" for mark in "abcd" for number in range(200)}
    assert all(set(one["body"]) == {one["title"][0]} and len(one["body"]) == 9000 for one in found)
