"""Settings: who wins, and errors that say how to mend them."""

from __future__ import annotations

from pathlib import Path

import pytest

from regrow import config
from regrow.adapters.sql import Database
from regrow.capture import Redaction
from regrow.errors import SettingsError
from regrow.model import NETWORK


@pytest.fixture(autouse=True)
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without files, and an environment without our variables."""
    import os

    for name in [name for name in os.environ if name.upper().startswith("FAILURE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_precedence(empty_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Argument > environment > .env > regrow.toml > default."""
    assert config.load().max_recovery_attempts == 3
    (empty_place / "regrow.toml").write_text("max_recovery_attempts = 4\nlanguage = 'zh'\n")
    assert (config.load().max_recovery_attempts, config.load().language) == (4, "zh")
    (empty_place / ".env").write_text("FAILURE_MAX_RECOVERY_ATTEMPTS=5\n")
    assert config.load().max_recovery_attempts == 5
    monkeypatch.setenv("FAILURE_MAX_RECOVERY_ATTEMPTS", "6")
    assert config.load().max_recovery_attempts == 6
    assert config.load(max_recovery_attempts=7).max_recovery_attempts == 7
    assert config.load().language == "zh"
    monkeypatch.setenv("FAILURE_MAX_RECOVERY_ATTEMPTS", "")
    assert config.load().max_recovery_attempts == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", "on"),
        ("recovery_enabled", "perhaps"),
        ("notification_enabled", "2"),
        ("max_recovery_attempts", "-1"),
        ("max_recovery_attempts", "51"),
        ("max_recovery_attempts", "three"),
        ("network_retry_seconds", "0"),
        ("network_retry_seconds", "inf"),
        ("system_retry_seconds", "-1"),
        ("temporary_retry_seconds", "nan"),
        ("retry_jitter", "1.1"),
        ("lease_seconds", "0.5"),
        ("lease_seconds", "inf"),
        ("lease_seconds", "1e12"),
        ("tick_seconds", "0"),
        ("tick_seconds", "6"),
        ("envelope_limit_bytes", "1"),
        ("language", "fr"),
        ("timezone", "Mars/Base"),
        ("timezone", "../etc/passwd"),
    ],
)
@pytest.mark.parametrize("source", ["environment", ".env", "regrow.toml", "argument"])
def test_a_wrong_value_says_how_to_mend_it(
    source: str, name: str, value: str, empty_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the variable, the value and where to set it, whichever way the value came."""
    variable, given = f"FAILURE_{name.upper()}", {}
    if source == "environment":
        monkeypatch.setenv(variable, value)
    elif source == ".env":
        (empty_place / ".env").write_text(f"{variable}={value}\n")
    elif source == "regrow.toml":
        (empty_place / "regrow.toml").write_text(f"{name} = '{value}'\n")
    else:
        given = {name: value}
    with pytest.raises(SettingsError) as caught:
        config.load(**given)
    text = str(caught.value)
    assert variable in text
    assert value in text
    assert f"set it in the environment, in .env, or as {name} in regrow.toml" in text


def test_every_wrong_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two mistakes are two lines, so they are mended in one go."""
    monkeypatch.setenv("FAILURE_MODE", "on")
    monkeypatch.setenv("FAILURE_LANGUAGE", "fr")
    with pytest.raises(SettingsError, match=r"FAILURE_MODE='on'.*\n.*FAILURE_LANGUAGE='fr'"):
        config.load()


@pytest.mark.parametrize("name", ["regrow.toml", ".env"])
@pytest.mark.parametrize("content", [b"a = = b\n\xff\xfe", b"\xff\xfe"])
def test_a_broken_file_is_named(name: str, content: bytes, empty_place: Path) -> None:
    """A file that cannot be read is a settings error, not a traceback."""
    (empty_place / name).write_bytes(content)
    with pytest.raises(SettingsError, match=r"regrow\.toml or \.env cannot be read"):
        config.load()


def test_an_unknown_argument_lists_the_known_ones() -> None:
    """A misspelt setting is refused with the list of those that exist."""
    with pytest.raises(SettingsError, match=r"no such setting: moode; known are: .*mode"):
        config.load(moode="recover")


def test_settings_are_frozen() -> None:
    """Nothing changes after the start."""
    with pytest.raises(ValueError, match="frozen"):
        config.load().mode = "recover"  # type: ignore[misc]


def test_observe_is_the_default() -> None:
    """Without a word from the administrator nothing is sent."""
    policies = config.load().policies()
    assert (policies.acting, policies.enabled) == (False, True)
    assert policies.of(NETWORK).limit == 5


@pytest.mark.parametrize(
    "url",
    [
        "oracle://user:s3cret@host/db",
        "mysql+mysqldb://user:s3cret@host/db",
        "mysql://user:s3cret@host",
        "postgresql+nothing://user:s3cret@host/db",
        "postgresql://user:s3cret@host:port/db",
        "//user:s3cret@host",
        "sqlite://",
        "sqlite:///:memory:",
        "",
    ],
)
def test_a_wrong_address_is_refused_without_its_password(url: str) -> None:
    """A ledger's address that cannot be used says how to mend it, and no log learns the password."""
    with pytest.raises(SettingsError, match="set FAILURE_DATABASE_URL") as caught:
        Database(url)
    assert "s3cret" not in str(caught.value)


def test_what_is_redacted(empty_place: Path) -> None:
    """Names are separated by commas of either language; mail addresses are kept unless told otherwise."""
    assert config.load().redaction() == Redaction()
    (empty_place / "regrow.toml").write_text("redact_keys = ' pin, 身份证，,kunde '\nredact_emails = true\n")
    assert config.load().redaction() == Redaction(keys=("pin", "身份证", "kunde"), emails=True)
