"""The documentation says what the code does."""

import re
from pathlib import Path

import pytest

from regrow.config import Settings
from regrow.model import Hindrance, Level, Reason, State, Symptom, TaskOptions

ROOT = Path(__file__).parents[2]
CONFIGURATION = (ROOT / "docs/configuration.md").read_text()


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_documented_with_its_default(name):
    """Each setting has its line, with its environment name, its default and what it means."""
    field = Settings.model_fields[name]
    default = "not set" if field.default is None else str(field.default)
    assert f"| `FAILURE_{name.upper()}` | `{name}` | {default} | {field.description} |" in CONFIGURATION


def test_no_setting_is_documented_that_does_not_exist():
    """The table holds nothing that the code does not know."""
    documented = set(re.findall(r"^\| `FAILURE_(\w+)` \|", CONFIGURATION, re.MULTILINE))
    assert documented == {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("option", sorted(TaskOptions.__dataclass_fields__))
def test_every_task_option_is_documented(option):
    """A task's owner finds each option."""
    assert f"`{option}`" in CONFIGURATION


@pytest.mark.parametrize("state", list(State))
def test_every_state_is_documented(state):
    """Each state has its line."""
    assert f"| `{state}` |" in (ROOT / "docs/states.md").read_text()


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_documented(reason):
    """Each reason that a ledger can show has its line."""
    assert f"| `{reason}` |" in (ROOT / "docs/states.md").read_text()


def test_every_finding_of_the_doctor_is_documented():
    """Each finding has its line with a level, in the order of the code, and no other has one."""
    page = (ROOT / "docs/doctor.md").read_text().partition("## Findings")[2]
    lines = (line for line in page.splitlines() if line.startswith("| `"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [name for name, *_ in rows] == [f"`{name}`" for name in Symptom]
    for name, level, says, mend in rows:
        assert level.startswith(tuple(Level)), name
        assert says.endswith("."), name
        assert bool(mend) is (level != Level.FINE), name


@pytest.mark.parametrize("hindrance", list(Hindrance))
def test_every_hindrance_is_documented(hindrance):
    """Whoever empties a ledger finds what to do about what is left."""
    assert f"| `{hindrance}` |" in (ROOT / "docs/uninstall.md").read_text()


def test_links_between_pages_lead_somewhere():
    """Every relative link in README and docs names a file that is there."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
