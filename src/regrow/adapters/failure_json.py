"""A `Failure` as JSON text and back, for where it waits outside of the ledger's own columns: the spool, begun tasks."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from regrow.model import Cause, Failure, TaskOptions

_TIMES = ("failed_at", "expires_at")


def dumps(failure: Failure) -> str:
    """One line of ASCII, so that lone surrogates and line breaks survive any file."""
    values = asdict(failure)
    for name in _TIMES:
        values[name] = values[name].isoformat() if values[name] else None
    return json.dumps(values, separators=(",", ":"))


def loads(text: str) -> Failure:
    """The failure.

    Raises:
        ValueError: The text is none that `dumps` makes.
    """
    values: dict[str, Any] = json.loads(text)
    try:
        for name in _TIMES:
            values[name] = datetime.fromisoformat(values[name]) if values[name] else None
        values["causes"] = tuple(_cause(one) for one in values["causes"])
        values["options"] = TaskOptions(**_known(TaskOptions, values["options"]))
        return Failure(**_known(Failure, values))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"this is no failure: {error!r}") from error


def _cause(values: dict[str, Any]) -> Cause:
    codes = tuple((str(kind), str(value)) for kind, value in values["codes"])
    return Cause(**{**_known(Cause, values), "bases": tuple(values["bases"]), "codes": codes})


def _known(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Another version may know more fields than this one."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in values.items() if name in names}
