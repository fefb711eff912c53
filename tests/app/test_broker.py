"""Messages as files, with several readers and writers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

READER = """
import sys, time
from queue import Empty
from kombu import Connection
from app import broker

options = {name: sys.argv[1] for name in ("data_folder_in", "data_folder_out", "control_folder")}
with Connection("files://", transport_options=options) as connection:
    queue = connection.SimpleQueue("work")
    if sys.argv[2] == "write":
        for number in range(200):
            queue.put(f"{sys.argv[3]}-{number}")
    else:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                message = queue.get_nowait()
            except Empty:
                time.sleep(0.01)
                continue
            message.ack()
            if message.payload == "stop":
                break
            print(message.payload, flush=True)
"""


def _start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", READER, str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_each_message_is_taken_once(tmp_path: Path) -> None:
    """Three readers that never rest and two writers: every message arrives, whole, at one of the readers."""
    from kombu import Connection

    from app import broker

    readers = [_start(tmp_path, "read") for _ in range(3)]
    writers = [_start(tmp_path, "write", name) for name in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    options = dict.fromkeys(("data_folder_in", "data_folder_out", "control_folder"), str(tmp_path))
    with Connection(f"{broker.SCHEME}://", transport_options=options) as connection:
        queue = connection.SimpleQueue("work")
        for _ in readers:
            queue.put("stop")
    outputs = [reader.communicate(timeout=90)[0].split() for reader in readers]
    assert [reader.returncode for reader in readers] == [0, 0, 0]
    assert sorted(one for output in outputs for one in output) == sorted(
        f"{name}-{number}" for name in "ab" for number in range(200)
    )
    assert list(tmp_path.glob("*.taken")) == []
