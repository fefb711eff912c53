"""The guide's categories of failures, open for more; and the patterns that tell one's own (G1, G15)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from regrow.model import CATEGORIES, Audience


class _Members(type):
    """Makes the class its members' collection, as an Enum is."""

    def __iter__(cls) -> Iterator[FailureCategory]:
        return iter(FailureCategory.members.values())

    def __len__(cls) -> int:
        return len(FailureCategory.members)


class FailureCategory(str, metaclass=_Members):  # noqa: SLOT000  # a handful of members
    """A kind of failure: equal to its text, so it reads as text wherever it is shown.

    Not an Enum, because an Enum with members takes no more: `FailureCategory.add` does.

    Args:
        value: Its key, e.g. `recoverable_network`.

    Raises:
        ValueError: There is no such category.
    """

    members: ClassVar[dict[str, FailureCategory]] = {}
    name: str
    audience: Audience

    RECOVERABLE_NETWORK: ClassVar[FailureCategory]
    RECOVERABLE_SYSTEM: ClassVar[FailureCategory]
    RECOVERABLE_TEMPORARY: ClassVar[FailureCategory]
    UNRECOVERABLE_DATA: ClassVar[FailureCategory]
    UNRECOVERABLE_CONFIG: ClassVar[FailureCategory]
    UNRECOVERABLE_BUSINESS: ClassVar[FailureCategory]
    UNKNOWN: ClassVar[FailureCategory]
    CUSTOM_ERROR: ClassVar[FailureCategory]
    CUSTOM_BUSINESS_ERROR: ClassVar[FailureCategory]

    def __new__(cls, value: str) -> FailureCategory:  # noqa: PYI034  # always a member, as of an Enum
        """The member with this key."""
        try:
            return cls.members[str(value)]
        except KeyError:
            known = ", ".join(cls.members)
            raise ValueError(
                f"no failure category {value!r}; known are {known} (FailureCategory.add makes one)"
            ) from None

    @property
    def value(self) -> str:
        """Its key."""
        return str.__str__(self)

    @classmethod
    def add(cls, name: str, value: str, *, audience: Audience | str = Audience.ADMINISTRATOR) -> FailureCategory:
        """A category of one's own.

        Args:
            name: As an attribute of this class, e.g. `CUSTOM_ERROR`.
            value: Its key in ledger and reports.
            audience: Who can do something about it: `administrator`, `user`, or `time` if a retry can heal it.

        Raises:
            ValueError: The name or the key is taken, or the audience is none of these.
        """
        if value in cls.members or hasattr(cls, name):
            raise ValueError(f"there is a failure category {name} or {value!r} already")
        member = str.__new__(cls, value)
        member.name = name
        member.audience = Audience(audience)
        cls.members[value] = member
        setattr(cls, name, member)
        return member

    def __repr__(self) -> str:
        return f"<FailureCategory.{self.name}: {self.value!r}>"

    def __reduce__(self) -> tuple[type[FailureCategory], tuple[str]]:
        return FailureCategory, (self.value,)


for _category in CATEGORIES.values():
    FailureCategory.add(_category.key.upper(), _category.key, audience=_category.audience)
FailureCategory.add("CUSTOM_ERROR", "custom_error")
FailureCategory.add("CUSTOM_BUSINESS_ERROR", "custom_business_error", audience=Audience.USER)

#: What Regrow and every `FailureAnalyzer` of this process ask before the built-in rules. Change it, and the next
#: verdict follows. The guide's lists for network, system and data are built-in rules.
PATTERNS: dict[Any, list[str]] = {category: [] for category in FailureCategory}
PATTERNS[FailureCategory.CUSTOM_ERROR] += [r"custom.*error.*pattern", r"specific.*business.*rule"]
PATTERNS[FailureCategory.CUSTOM_BUSINESS_ERROR] += [r"custom.*business.*error", r"specific.*validation.*failed"]

#: The guide's name for it.
custom_patterns = PATTERNS
