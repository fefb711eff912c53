"""`regrow relabel` and `regrow rules` on a real ledger."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from celery import Celery
from rich.cells import cell_len

from regrow import wiring
from regrow.capture import causes_from_text, fingerprint
from regrow.model import Failure
from tests.command_line import Answer
from tests.contract.test_cli_ledger import on_terminal

FAILED = (
    ("shop.CourierError", "courier SF quota used up for shop 1"),
    ("shop.CourierError", "Courier YTO quota is used up"),
    ("shop.MailError", "the courier has no quota"),
    ("shop.Error", "Order 77 not found"),
    ("shop.Error", "Order 78 not found"),
    ("ConnectionError", "[Errno 111] Connection refused"),
    ("ValueError", "库存网关繁忙，订单 7：" + "请稍后再试，" * 20),
)

RULES = """
[[rules]]
id = "gateway.busy"
category = "gateway_busy"
patterns = ['网关.*繁忙']
must_match = ["顺丰网关很繁忙"]

[[categories]]
key = "gateway_busy"
audience = "administrator"
retry = true
policy = { delays = [1, 2] }
name = { en = "the gateway is busy", zh = "网关繁忙" }
"""


@pytest.fixture(autouse=True)
def elsewhere(store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger with a few failures, and no settings of this machine or this folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("REGROW_APP", "FAILURE_LANGUAGE", "FAILURE_RULES_FILE", "COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FAILURE_DATABASE_URL", store_url)
    monkeypatch.setenv("FAILURE_MODE", "recover")
    regrow = wiring.connect(Celery("shop", broker="memory://"), wiring.load_settings())
    causes = [causes_from_text(kind, message, "") for kind, message in FAILED]
    regrow.handle(
        [
            Failure(
                task_id=f"task-{number}",
                task_name="shop.orders.ship",
                failed_at=wiring.clock() - timedelta(minutes=1),
                causes=one,
                fingerprint=fingerprint(one, ""),
                envelope="{}",
                parkable=True,
            )
            for number, one in enumerate(causes, 1)
        ]
    )
    regrow.store._database.close()  # type: ignore[attr-defined]


Capsys = pytest.CaptureFixture[str]

TEMPORARY = "recoverable_temporary"


def test_relabel(capsys: Capsys) -> None:
    """By id or by task id; the answer names the group, what can be done about it, and how to take it back."""
    answer = Answer(capsys, "relabel", "task-4", TEMPORARY, "--because", "it comes late", "--author", "ann")
    assert answer.code == 0
    assert "count as a service is unavailable for now (recoverable_temporary)" in answer.out
    assert "to run them again: regrow retry 4; regrow retry 5" in answer.out
    assert "2 handed_over" in answer.out
    explained = Answer(capsys, "explain", "4")
    assert "said by ann, " in explained.out
    assert "it comes late" in explained.out
    assert "a business rule said no (unrecoverable_business)" in explained.out, "its history stays"
    shown = Answer(capsys, "show", "4").out
    assert "Its category was confirmed by ann: a service is unavailable for now." in shown
    assert Answer(capsys, "show", "5", "--json").json["label"]["by"] == "ann", "so does another of its group"
    assert Answer(capsys, "explain", "5", "--json").json["label"]["category"] == TEMPORARY
    again = Answer(capsys, "relabel", "4", "unrecoverable_config", "--json").json
    assert (again["before"]["category"], again["label"]["category"]) == (TEMPORARY, "unrecoverable_config")
    undone = Answer(capsys, "relabel", "4", "--undo")
    assert (undone.code, "the rules judge this group again" in undone.out) == (0, True)
    assert "label" not in Answer(capsys, "show", "4", "--json").json
    nothing = Answer(capsys, "relabel", "4", "--undo")
    assert (nothing.code, "there is nothing to take back" in nothing.err) == (1, True)


def test_relabel_a_group(capsys: Capsys) -> None:
    """By its fingerprint: no single failure is marked, all of them show it."""
    group = Answer(capsys, "show", "6", "--json").json["fingerprint"]
    answer = Answer(capsys, "relabel", "--group", group, "unrecoverable_data")
    assert answer.code == 0
    assert "to stop them: regrow dismiss 6" in answer.out
    record = Answer(capsys, "show", "6", "--json").json
    assert (record["confirmed"], record["label"]["category"]) == ("", "unrecoverable_data")
    assert Answer(capsys, "relabel", "--group", group, "--undo", "--json").json["label"] is None


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (["relabel"], "give the ID of a failure and a CATEGORY", 2),
        (["relabel", "4"], "give the ID of a failure and a CATEGORY", 2),
        (["relabel", "4", "unknown", "--undo"], "with --undo no CATEGORY", 2),
        (["relabel", "4", "unknown", "--group", "v1:a"], "give the ID", 2),
        (["relabel", "99", "unknown"], "no failure with the id 99", 1),
        (["relabel", "--group", "v1:none", "unknown"], "no failure with the fingerprint v1:none", 1),
        (["relabel", "4", "moon"], "no such category: moon; known are: recoverable_network", 1),
        (["rules", "show", "moon"], "no rule with the id moon", 1),
        (["rules", "disable", "moon"], "there is no rule 'moon' in the ledger", 1),
        (["rules", "list", "--from", "moon"], "no such source: moon; known are: file, ledger", 2),
        (["rules", "try"], "give a FILE, or --pattern with --category, or --proposal", 2),
        (["rules", "try", "--pattern", "a"], "give a FILE", 2),
        (["rules", "try", "a.toml", "--proposal", "p"], "give a FILE", 2),
        (["rules", "try", "a.toml"], "a.toml: it cannot be read", 1),
        (["rules", "try", "--proposal", "p"], "no rule 'p' is proposed", 1),
        (["rules", "try", "--pattern", "(bad", "--category", "unknown"], "the pattern '(bad'", 1),
        (["rules", "add", "--pattern", "a"], "give --pattern with --category", 2),
        (["rules", "add", "--pattern", "zz", "--category", "moon"], "no such category: moon", 1),
        (["rules", "add", "--pattern", "zz", "--category", "unknown", "--id", "a b"], "--id a b: an id has letters", 2),
        (
            ["rules", "add", "--pattern", "zz", "--category", "unknown", "--id", "errno.network"],
            "a built-in rule has",
            2,
        ),
    ],
)
def test_what_is_refused(arguments: list[str], says: str, code: int, capsys: Capsys) -> None:
    """In one clear line, and nothing is written."""
    answer = Answer(capsys, *arguments)
    assert (answer.code, says in answer.err, answer.out) == (code, True, "")
    store = wiring.open_store(wiring.load_settings())
    assert store.lessons(0) == []
    store._database.close()  # type: ignore[attr-defined]


def test_rules_in_the_ledger(capsys: Capsys) -> None:
    """Tried first; refused while it would start retries of business failures; then added, shown, disabled, enabled."""
    rule = ("--pattern", r"order \d+ not found", "--category", TEMPORARY)
    tried = Answer(capsys, "rules", "try", *rule).out
    assert "Failures of the last 7 days: 7; matched: 2; with another category: 2" in tried
    assert "unrecoverable_business -> recoverable_temporary: 2" in tried
    assert "2 are of failures that are business or data failures now" in tried
    trial = Answer(capsys, "rules", "try", *rule, "--json").json
    assert (trial["starts"]["count"], trial["risky_starts"], trial["stops"]["count"]) == (2, 2, 0)
    refused = Answer(capsys, "rules", "add", *rule, "--id", "late", "--json")
    assert (refused.code, refused.json["added"]) == (1, False)
    assert "add --yes if it may" in refused.err
    added = Answer(capsys, "rules", "add", *rule, "--id", "late", "--author", "ann", "--because", "late", "--yes")
    assert (added.code, "The rule late counts from now on" in added.out) == (0, True)
    row = Answer(capsys, "rules", "list", "--from", "ledger").out
    assert row == "late\tledger\tlive\trecoverable_temporary\tann\torder \\d+ not found\n"
    shown = Answer(capsys, "rules", "show", "late", "--json").json
    assert (shown["author"], shown["note"], shown["state"], shown["decided"]) == ("ann", "late", "live", 0)
    assert Answer(capsys, "classify", "Order 5 not found", "--json").json["rule"] == "late"
    assert "late" in Answer(capsys, "explain", "--message", "Order 5 not found").out
    assert (
        Answer(capsys, "rules", "disable", "late").out
        == "The rule late is disabled; running workers follow within seconds.\n"
    )
    assert Answer(capsys, "classify", "Order 5 not found", "--json").json["rule"] != "late"
    assert Answer(capsys, "rules", "enable", "late", "--json").json["state"] == "live"


def test_a_proposed_rule(capsys: Capsys) -> None:
    """The third relabel shows it; it can be tried and added by its id."""
    outs = [Answer(capsys, "relabel", str(one), TEMPORARY).out for one in (1, 2, 3)]
    assert ["a rule is proposed" in out for out in outs] == [False, False, True]
    (proposed,) = Answer(capsys, "rules", "list", "--from", "proposed", "--json").json["rules"]
    name = proposed["id"]
    assert f"regrow rules add --proposal {name}" in outs[2]
    assert "matched: 3" in Answer(capsys, "rules", "try", "--proposal", name).out
    assert Answer(capsys, "rules", "add", "--proposal", name, "--id", "courier.quota").code == 0
    (rule,) = Answer(capsys, "rules", "list", "--from", "ledger", "--json").json["rules"]
    assert (rule["id"], rule["text"]) == ("courier.quota", r"\bcourier\b.*\bquota\b")
    assert Answer(capsys, "rules", "list", "--from", "proposed").out == ""


def test_a_file_of_rules(tmp_path: Path, capsys: Capsys) -> None:
    """Linted, listed, tried before it is in force; its category is named and can be given to a group."""
    path = tmp_path / "regrow_rules.toml"
    assert "There is no file of rules" in Answer(capsys, "rules", "lint").out
    new = tmp_path / "new.toml"
    new.write_text(RULES)
    trial = Answer(capsys, "rules", "try", str(new), "--json").json
    assert [(one["to"], one["count"]) for one in trial["changes"]] == [("gateway_busy", 1)]
    new.rename(path)
    assert Answer(capsys, "rules", "lint").out == "regrow_rules.toml: nothing is wrong.\n"
    assert Answer(capsys, "rules", "list", "--from", "file").out.startswith("gateway.busy\tfile\tlive\tgateway_busy\t")
    assert "the gateway is busy (gateway_busy)" in Answer(capsys, "explain", "--message", "网关繁忙").out
    assert "count as the gateway is busy (gateway_busy)" in Answer(capsys, "relabel", "6", "gateway_busy").out
    assert "stands in " in Answer(capsys, "rules", "disable", "gateway.busy").err
    assert Answer(capsys, "rules", "show", "gateway.busy", "--json").json["source"] == "file"


def test_a_broken_file_of_rules(tmp_path: Path, capsys: Capsys) -> None:
    """An error wherever it is needed; `lint` names each fault; what does not need it works."""
    path = tmp_path / "regrow_rules.toml"
    path.write_text(RULES.replace("顺丰网关很繁忙", "网关") + RULES.replace("gateway.busy", "other"))
    for command in (["classify", "x"], ["explain", "--message", "x"], ["relabel", "6", "unknown"], ["rules", "list"]):
        answer = Answer(capsys, *command)
        assert (answer.code, "there is one with this key already" in answer.err) == (1, True), command
    path.write_text(RULES.replace("顺丰网关很繁忙", "网关"))
    answer = Answer(capsys, "rules", "lint", "--json")
    assert (answer.code, len(answer.json["wrong"])) == (1, 1)
    assert "must_match '网关' is matched by none" in Answer(capsys, "rules", "lint").err
    assert Answer(capsys, "status").code == 0
    assert Answer(capsys, "show", "6").code == 0


def test_lint_names_overlaps(tmp_path: Path, capsys: Capsys) -> None:
    """The built-in examples that would change, and rules without an example; neither is an error."""
    (tmp_path / "r.toml").write_text('[[rules]]\nid = "r"\ncategory = "unknown"\npatterns = ["^connection refused$"]\n')
    answer = Answer(capsys, "rules", "lint", "r.toml")
    assert answer.code == 0
    assert "r would change the built-in example" in answer.out
    assert "r has no must_match" in answer.out


def test_built_in_rules_are_listed(capsys: Capsys) -> None:
    """All that speak for a category, with their source; one of them is shown whole."""
    listed = Answer(capsys, "rules", "list", "--json").json["rules"]
    assert {one["source"] for one in listed} == {"built-in"}
    assert len(listed) > 100
    shown = Answer(capsys, "rules", "show", "signature.network")
    assert "recoverable_network" in shown.out
    assert "1 failed runs in the last 7 days" in shown.out


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [80, 100])
def test_terminal(width: int, language: str, kind: str, tmp_path: Path, capsys: Capsys) -> None:
    """No line is wider than the terminal, in either language."""
    if kind != "sqlite":
        pytest.skip("what a terminal shows does not depend on the database")
    (tmp_path / "regrow_rules.toml").write_text(RULES)
    for number in (1, 2):
        Answer(capsys, "relabel", str(number), TEMPORARY)
    for command in (
        "relabel 3 recoverable_temporary --because 配额在午夜恢复",
        "rules list",
        "rules show gateway.busy",
        "rules try --pattern 网关 --category gateway_busy",
        "explain 3",
        "show 3",
    ):
        shown = on_terminal(width, *command.split(), FAILURE_LANGUAGE=language)
        plain = re.sub(r"\x1b\[[0-9;]*[mK]", "", shown).replace("\r", "\n")
        assert max(cell_len(line) for line in plain.split("\n")) <= width, (command, plain)
