"""What this machine's disk says about a set-up. Leaves nothing behind."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from errno import ENOTDIR
from pathlib import Path
from tempfile import TemporaryFile

from regrow.adapters.spool import Spool
from regrow.model import FolderFacts, SpoolFacts


def folder_facts(setting: str, path: Path) -> FolderFacts:
    """Whether a folder can be written to; one that is not there yet, whether it can be made."""
    path = path.absolute()
    nearest = next(one for one in (path, *path.parents) if one.exists())
    try:
        if not nearest.is_dir():
            raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR))
        with TemporaryFile(dir=nearest, prefix=".regrow-") as file:
            file.write(b"regrow")  # a full disk takes names, and no bytes
            file.flush()
    except OSError as error:
        return FolderFacts(setting, str(path), error.strerror or str(error))
    return FolderFacts(setting, str(path))


def spool_facts(spool: Spool) -> SpoolFacts:
    """What waits for the ledger on this machine."""
    found = spool.look()
    oldest = datetime.fromtimestamp(found.oldest, UTC) if found.oldest is not None else None
    return SpoolFacts(str(spool.folder), found.waiting, found.damaged, oldest)
