"""Reports as files that people and scripts read (G11, G12)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from regrow.errors import DeliveryError


def write_report(folder: Path, kind: str, report: Mapping[str, Any], now: datetime) -> Path:
    """Write a report to `folder/kind/kind_YYYYMMDD_HHMMSS.json`; return its path.

    A reader finds the whole file or none. Of several written in one second each has a name of its own: `..._2.json`.

    Args:
        folder: Where all reports lie; made if it is missing.
        kind: `failure_processing` or `failure_analysis`.
        report: The report. What JSON does not know is written as text.
        now: The report's moment, in the reader's time zone.

    Raises:
        DeliveryError: The file cannot be written.
    """
    content = _encoded(report)
    home = folder / kind
    try:
        home.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = home / f"{kind}_{now:%Y%m%d_%H%M%S}{f'_{number}' if number > 1 else ''}.json"
            if _write_new(path, content):
                break
    except OSError as error:
        raise DeliveryError(
            f"cannot write a report into {home}: {error.strerror or error} (check the folder's rights and the disk, or "
            "set FAILURE_REPORTS_DIR)"
        ) from error
    return path


def _write_new(path: Path, content: bytes) -> bool:
    """Write a file that does not exist yet; False if it does, or somebody is writing it.

    1. Make the draft: only one writer can, and only who has the draft may make the file.
    2. The file may have been made before step 1: then give the draft up.
    3. Fill the draft, and give it the file's name.

    A writer that is killed leaves a draft, which costs later ones no more than this name.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        file = draft.open("xb")
    except FileExistsError:
        return False
    try:
        with file:
            new = not path.exists()
            if new:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if new:
            draft.rename(path)
        else:
            draft.unlink()
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    if new:
        _keep_name(path.parent)
    return new


def _keep_name(folder: Path) -> None:
    """Let a new name in a folder survive the loss of power too. Some file systems cannot; the file stands anyway."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _encoded(report: Mapping[str, Any]) -> bytes:
    """JSON as people read it. What a terminal would obey can stand inside strings only, where JSON can escape it."""
    text = json.dumps(report, ensure_ascii=False, indent=2, default=str)
    visible = "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)
    return f"{visible}\n".encode()
