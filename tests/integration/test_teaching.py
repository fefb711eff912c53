"""What an operator teaches reaches a running worker within seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from regrow.model import State
from tests.celery_worker import Site, new_key, site, until

RULES = """
[[rules]]
id = "by.zero"
category = "zero_again"
patterns = ["division by zero"]
must_match = ["ZeroDivisionError: division by zero"]

[[categories]]
key = "zero_again"
audience = "administrator"
retry = true
policy = { delays = [0.2], max_attempts = 2 }
"""


def order(place: Site, *arguments: str) -> str:
    """What a command of a person at the keyboard printed."""
    done = subprocess.run(
        [sys.executable, "-m", "regrow", "--database-url", place.settings.database_url, *arguments],
        cwd=place.folder,
        env={**os.environ, "FAILURE_MODE": "recover", "FAILURE_LANGUAGE": "en"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def fail(place: Site) -> Any:
    """A task that fails as no time can heal, and its record once it has ended."""
    key = new_key()
    result = place.sig("broken", key).delay()
    return key, place.settled(result.id, State.HANDED_OVER, State.EXHAUSTED)


def test_relabel_rule_and_file_reach_a_running_worker(tmp_path: Path) -> None:
    """Relabelled, the next failure of the group is retried; undone, it is not; so with a rule, and with a file."""
    with site(tmp_path) as place:
        place.worker()
        place.dispatcher_process()
        _, first = fail(place)
        assert (first.category, first.state) == ("unrecoverable_data", State.HANDED_OVER)

        order(place, "relabel", str(first.id), "recoverable_temporary", "--because", "it heals")
        key, record = until(
            lambda: (found := fail(place))[1].category == "recoverable_temporary" and found, "the label"
        )
        assert (record.state, record.fingerprint, place.runs(key)) == (State.EXHAUSTED, first.fingerprint, 2)
        assert [run.rule for run in record.history] == ["operator", "operator"]
        assert "it heals" in order(place, "explain", str(record.id))

        order(place, "relabel", str(first.id), "--undo")
        until(lambda: fail(place)[1].category == "unrecoverable_data", "the undoing")

        rule = ("--pattern", "division by zero", "--category", "recoverable_system", "--id", "zero")
        order(place, "rules", "add", *rule, "--yes")
        until(lambda: fail(place)[1].history[-1].rule == "zero", "the rule")
        order(place, "rules", "disable", "zero")
        until(lambda: fail(place)[1].category == "unrecoverable_data", "the rule's end")

        (place.folder / "regrow_rules.toml").write_text(RULES)
        key, record = until(lambda: (found := fail(place))[1].category == "zero_again" and found, "the file")
        assert (record.state, place.runs(key)) == (State.EXHAUSTED, 3)
        (place.folder / "regrow_rules.toml").write_text("[[rules")
        until(lambda: fail(place) and place.processes[0].said("goes on with the rules that it has"), "the log")
        assert fail(place)[1].category == "zero_again"
        assert place.balance().balanced
