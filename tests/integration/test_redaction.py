"""No secret of an exception comes into the ledger, the log files or a message that is sent again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from regrow.model import State
from tests.celery_worker import Site, new_key


def cells(ledger: Path) -> dict[str, str]:
    """Every value of the ledger as text, under `table.column`."""
    found: dict[str, str] = {}
    with closing(sqlite3.connect(ledger)) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            rows = connection.execute(f'SELECT * FROM "{table}"')
            names = [column[0] for column in rows.description]
            for row in rows.fetchall():
                for name, value in zip(names, row, strict=True):
                    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
                    found[f"{table}.{name}"] = found.get(f"{table}.{name}", "") + text
    return found


def test_secrets_of_a_failing_task(local: Site) -> None:
    """A password in an exception is nowhere; one that is an argument stands in the call, and there alone."""
    inside, given = new_key(), new_key()
    results = [local.sig("leaky", inside).delay(), local.sig("leaky", given, f"geheim-given-{given}").delay()]
    for result in results:
        assert "postgresql://u:***@h" in local.settled(result.id, State.EXHAUSTED).message
    for file in local.folder.glob("ledger.db*"):
        assert inside[::-1].encode() not in file.read_bytes()
    shown = cells(local.folder / "ledger.db")
    assert any("postgresql://u:***@h" in text for text in shown.values())
    assert {place for place, text in shown.items() if "geheim" in text} == {"regrow_envelope.body"}
    for file in (local.folder / "logs").iterdir():
        text = file.read_text()
        assert "geheim" not in text
        assert inside[::-1] not in text
