"""Settings: read once at start, frozen, and checked with errors that say how to mend them.

Precedence: argument > environment > `.env` > `regrow.toml` > default. Each field's environment name is `FAILURE_` + its
name in capitals; in `regrow.toml` it is the plain name.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from regrow.capture import Redaction
from regrow.decide import Policies, RetryPolicy
from regrow.errors import SettingsError
from regrow.model import NETWORK, SYSTEM, TEMPORARY
from regrow.report import Thresholds

#: The guide gives the network two retries more than the others (G2, G14).
NETWORK_EXTRA_RETRIES = 2


#: The files that settings are read from; a running process follows their changes.
FILES = (".env", "regrow.toml")


#: Where they are read from at this moment; pydantic asks for sources where no argument reaches.
_FOLDER: ContextVar[Path] = ContextVar("_FOLDER", default=Path())


class Settings(BaseSettings):
    """Everything an administrator can set."""

    model_config = SettingsConfigDict(
        env_prefix="FAILURE_",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        allow_inf_nan=False,
    )

    database_url: str = Field(default="sqlite:///regrow.db", description="Where the ledger lies (SQLAlchemy URL).")
    mode: Literal["observe", "recover"] = Field(
        default="observe", description="`observe` only records and says what it would do; `recover` does it."
    )
    recovery_enabled: bool = Field(default=True, description="False stops every automatic retry.")
    notification_enabled: bool = Field(default=True, description="False stops every message.")
    max_recovery_attempts: int = Field(
        default=3,
        ge=0,
        le=50,
        description="Retries of system and temporary failures; network failures get 2 more; 0: none.",
    )
    network_retry_seconds: float = Field(
        default=30, gt=0, description="Delay before the first retry of a network failure."
    )
    system_retry_seconds: float = Field(
        default=300, gt=0, description="Delay before the first retry of a system failure."
    )
    temporary_retry_seconds: float = Field(
        default=180, gt=0, description="Delay before the first retry of a temporary failure."
    )
    retry_jitter: float = Field(default=0, ge=0, le=1, description="Largest share of a delay that chance adds to it.")
    lease_seconds: float = Field(
        default=60,
        ge=1,
        le=86400,
        description="Silence of a running retry after which its worker counts as dead, in seconds.",
    )
    tick_seconds: float = Field(
        default=1, gt=0, le=5, description="How often the dispatcher looks for due work, in seconds."
    )
    envelope_limit_bytes: int = Field(
        default=1_000_000, ge=1024, description="A call larger than this is not kept, so its task is not retried."
    )
    redact_emails: bool = Field(
        default=False, description="True: mail addresses are stored without what stands before the `@`."
    )
    redact_keys: str = Field(
        default="", description="Further names whose values are never stored, with commas between: `pin, 身份证`."
    )
    rules_file: str = Field(
        default="regrow_rules.toml", description="File of your own rules and categories; running workers follow it."
    )
    logs_dir: str = Field(default="logs", description="Folder of admin_alerts.log and user_notifications.log.")
    reports_dir: str = Field(default="reports", description="Folder of failure_processing/ and failure_analysis/.")
    spool_dir: str = Field(default="spool", description="Folder where failures wait on disk while the ledger is away.")
    spool_limit_bytes: int = Field(
        default=200_000_000, ge=0, description="How much that folder may hold; what comes then is only logged."
    )
    track_starts: bool = Field(
        default=False,
        description="True: the ledger notes each task that begins, so that one whose worker dies is found.",
    )
    scan_interval_minutes: int = Field(
        default=30, ge=1, le=1440, description="How often the sources are scanned for failures that no door saw."
    )
    scan_hours: float = Field(default=24, gt=0, le=24 * 30, description="How far back a scan looks.")
    channel_timeout_seconds: float = Field(
        default=30, gt=0, le=300, description="How long a channel or sink of your own may take for one message."
    )
    alert_window_minutes: float = Field(
        default=60, ge=1, le=24 * 60, description="The thresholds below look at the time that has just passed."
    )
    alert_failure_rate_percent: float = Field(
        default=20, ge=0, le=100, description="Alert when a larger share of all runs fails."
    )
    alert_recovery_failures: int = Field(
        default=5, ge=1, description="Alert when this many failures in a row used up their retries."
    )
    alert_notification_minutes: float = Field(default=10, gt=0, description="Alert when a message waits longer.")
    alert_unknown_errors: int = Field(default=10, ge=0, description="Alert when more failures have an unknown cause.")
    language: Literal["en", "zh"] = Field(default="en", description="Language of what people read.")
    timezone: str | None = Field(default=None, description="Time zone of what people read; the machine's if not set.")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ZoneInfo(value)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise ValueError("not a known time zone; take a name such as Asia/Shanghai") from None
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # ours reads from the folder that was asked for
        file_secret_settings: PydanticBaseSettingsSource,  # there are none
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources in order of precedence."""
        folder = _FOLDER.get()
        return (
            init_settings,
            env_settings,
            DotEnvSettingsSource(settings_cls, env_file=folder / FILES[0]),
            TomlConfigSettingsSource(settings_cls, toml_file=folder / FILES[1]),
        )

    def policies(self) -> Policies:
        """Schedules and switches as `decide` wants them (G2, G3, G4, G14)."""
        base = self.max_recovery_attempts
        network = base + NETWORK_EXTRA_RETRIES if base else 0
        return Policies(
            by_category={
                NETWORK.key: RetryPolicy(self.network_retry_seconds, network),
                SYSTEM.key: RetryPolicy(self.system_retry_seconds, base),
                TEMPORARY.key: RetryPolicy(self.temporary_retry_seconds, base),
            },
            acting=self.mode == "recover",
            enabled=self.recovery_enabled,
            jitter=self.retry_jitter,
            base_limit=base,
        )

    def redaction(self) -> Redaction:
        """What is taken out of the texts of a failure before it is stored."""
        keys = (key.strip() for key in self.redact_keys.replace("，", ",").split(","))
        return Redaction(keys=tuple(key for key in keys if key), emails=self.redact_emails)

    def thresholds(self) -> Thresholds:
        """When the administrator is alerted (G18)."""
        return Thresholds(
            failure_rate_percent=self.alert_failure_rate_percent,
            recovery_failures=self.alert_recovery_failures,
            notification_minutes=self.alert_notification_minutes,
            unknown_errors=self.alert_unknown_errors,
            window_minutes=self.alert_window_minutes,
        )

    def in_force(self) -> dict[str, Any]:
        """The switches as a report says them (G14)."""
        names = ("mode", "recovery_enabled", "max_recovery_attempts", "notification_enabled", "scan_interval_minutes")
        return {name: getattr(self, name) for name in names}


def stamps(folder: Path) -> tuple[tuple[int, int, int] | None, ...]:
    """What tells one version of the files of settings in a folder from the next; None for one that is not there."""
    return tuple(_stamp(f"{folder}{os.sep}{name}") for name in FILES)


def age(stamps: tuple[tuple[int, int, int] | None, ...], now: datetime) -> float:
    """For how many seconds the files that are there have rested, by their own times; 0 if there is none."""
    written = [stamp[1] for stamp in stamps if stamp]
    return now.timestamp() - max(written) / 1e9 if written else 0


def _stamp(file: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(file)  # noqa: PTH116  # asked at every failure, and a Path takes three times as long
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def check_names(given: Collection[str]) -> None:
    """Refuse a setting that does not exist.

    Raises:
        SettingsError: One does not; the message lists those that do.
    """
    unknown = sorted(set(given) - Settings.model_fields.keys())
    if unknown:
        known = ", ".join(sorted(Settings.model_fields))
        raise SettingsError(f"no such setting: {', '.join(unknown)}; known are: {known}")


def load(folder: Path | None = None, /, **given: object) -> Settings:
    """Read the settings.

    Args:
        folder: Where `.env` and `regrow.toml` lie; the current one if not given.
        given: Values that win over every other source.

    Raises:
        SettingsError: A value is wrong; the message names each one, where it can be set, and what it may be.
    """
    check_names(given)
    token = _FOLDER.set(folder or Path())
    try:
        return Settings(**given)  # type: ignore[arg-type]  # pydantic checks the values
    except ValidationError as error:
        lines = [_line(one["loc"], one["msg"], one.get("input")) for one in error.errors()]
        raise SettingsError("\n".join(lines)) from None
    except (ValueError, OSError) as error:  # a regrow.toml or .env that cannot be parsed, or not be opened
        raise SettingsError(f"regrow.toml or .env cannot be read: {error}") from None
    finally:
        _FOLDER.reset(token)


def _line(place: tuple[int | str, ...], problem: str, value: object) -> str:
    field = str(place[0]) if place else "?"
    name = field.upper() if field.startswith("failure_") else f"FAILURE_{field.upper()}"
    return f"{name}={value!r}: {problem} (set it in the environment, in .env, or as {field} in regrow.toml)"
