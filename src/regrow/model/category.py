"""Who can do something about a failure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Audience(StrEnum):
    """Who can do something about a failure."""

    TIME = "time"
    ADMINISTRATOR = "administrator"
    USER = "user"
    MACHINE = "machine"  # monitoring systems: they get events, not words


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of failure, by who can do something about it (spec/labels.md).

    Args:
        key: The name in the ledger, in reports and on the command line, e.g. `recoverable_network`.
        audience: Who can do something about it.
        retries: True if it is worth a retry, False if not; None: as the audience says.
        delays_seconds: The wait before each retry, the last one for all that follow; empty: the usual schedule.
        max_attempts: How many retries at most; None: as many as the settings say.
    """

    key: str
    audience: Audience
    retries: bool | None = None
    delays_seconds: tuple[float, ...] = ()
    max_attempts: int | None = None

    @property
    def retry(self) -> bool:
        """True if time alone may heal it."""
        return self.audience is Audience.TIME if self.retries is None else self.retries

    def __str__(self) -> str:
        return self.key


NETWORK = Category("recoverable_network", Audience.TIME)
SYSTEM = Category("recoverable_system", Audience.TIME)
TEMPORARY = Category("recoverable_temporary", Audience.TIME)
DATA = Category("unrecoverable_data", Audience.ADMINISTRATOR)
CONFIG = Category("unrecoverable_config", Audience.ADMINISTRATOR)
BUSINESS = Category("unrecoverable_business", Audience.USER)
UNKNOWN = Category("unknown", Audience.ADMINISTRATOR)

#: The guide's six categories (G1) and `unknown`, by key.
CATEGORIES: dict[str, Category] = {
    category.key: category for category in (NETWORK, SYSTEM, TEMPORARY, DATA, CONFIG, BUSINESS, UNKNOWN)
}
