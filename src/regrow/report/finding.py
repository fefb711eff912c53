"""How findings are made and worded."""

from __future__ import annotations

from collections.abc import Sequence

from regrow.model import Finding, Level, SetUp, Symptom
from regrow.ports import Words

#: So many names are spelled out.
NAMED = 3

_KILO = 1000


def problem(name: Symptom, text: str, mend: str) -> Finding:
    """Failures are lost, or what should happen does not."""
    return Finding(name, Level.PROBLEM, text, mend)


def warning(name: Symptom, text: str, mend: str) -> Finding:
    """It works, and may not be what is wanted."""
    return Finding(name, Level.WARNING, text, mend)


def fine(name: Symptom, text: str) -> Finding:
    """Nothing is wrong."""
    return Finding(name, Level.FINE, text)


def app_name(setup: SetUp) -> str:
    """What stands behind `-A`."""
    return setup.app.name or "proj"


def setting(name: str, value: str, setup: SetUp) -> str:
    """How a setting is given a value: where the application gives it itself, only there."""
    if name in setup.app.given:
        plain = {"true": "True", "false": "False"}.get(value, value)
        return f"regrow.install(app, {name}={plain if plain != value or value.isdigit() else repr(value)})"
    return f"FAILURE_{name.upper()}={value}"


def listed(names: Sequence[str], _: Words) -> str:
    """The first few of them."""
    text = _(", ").join(names[:NAMED])
    more = len(names) - NAMED
    return _("{names} and {n} more").format(names=text, n=more) if more > 0 else text


def span(seconds: float, _: Words) -> str:
    """A duration, in the largest unit that leaves two of it or more."""
    for unit, form in ((86_400, _("{n} d")), (3_600, _("{n} h")), (60, _("{n} min"))):
        if seconds >= 2 * unit:
            return form.format(n=int(seconds // unit))
    return _("{n} s").format(n=int(seconds))


def size(count: int) -> str:
    """A number of bytes."""
    for unit, name in ((_KILO**3, "GB"), (_KILO**2, "MB"), (_KILO, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} B"
