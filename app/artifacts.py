"""Files that tasks make: where they go, and that they appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

from app.home import VAR


def folder(setting: str, default: str) -> Path:
    """The folder that a setting names.

    Args:
        setting: The environment variable.
        default: Its name under APP_VAR where the variable is not set.
    """
    return Path(os.environ.get(setting) or VAR / default).absolute()


def write(path: Path, content: bytes) -> str:
    """Write a file that nobody ever sees half; return its path.

    Raises:
        OSError: The folder cannot be made or written to, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid4()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return str(path)
