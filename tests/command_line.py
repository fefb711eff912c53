"""The command line in this process: what it printed, and how it ended."""

from __future__ import annotations

import json
from typing import Any

import pytest

from regrow.cli.app import run
from regrow.cli.session import Session


class Answer:
    """What a command line printed, and its exit code."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        session = Session()
        with pytest.raises(SystemExit) as caught:
            run(arguments, session=session)
        self.code = caught.value.code
        self.out, self.err = capsys.readouterr()
        opened = [vars(session).get(name) for name in ("ledger", "store", "oversight")]
        for one in filter(None, opened):  # a process that ends would close them
            getattr(one, "store", one)._database.close()

    @property
    def json(self) -> Any:
        """The output, read as a program reads it."""
        return json.loads(self.out)
