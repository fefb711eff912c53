"""What an application adds to Regrow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from regrow.errors import SettingsError
from regrow.model import Failure
from regrow.oversight import ALERTS
from regrow.wiring.parts import load_classifier

if TYPE_CHECKING:
    from regrow.ports import Projection, Source, Strategy

#: Names of the channels that Regrow brings.
BUILT_IN_CHANNELS = ("admin_log", ALERTS, "user_log", "inbox")


@dataclass(frozen=True)
class Plugins:
    """What an application adds to Regrow; see `install`."""

    sources: Sequence[Source] = ()
    projection: Projection | None = None
    channels: Mapping[str, Callable[[Mapping[str, Any]], object]] = field(default_factory=dict)
    sinks: Mapping[str, Callable[[Mapping[str, Any]], object]] = field(default_factory=dict)
    strategy: Strategy | None = None
    patterns: Mapping[Any, Sequence[str]] | None = None
    user_of: Callable[[Failure], object] | None = None


def check(plugins: Plugins) -> None:
    """Refuse plug-ins that could not work, at start rather than in the middle of a failure."""
    from regrow.adapters.channels.callback import Callback

    for kind in ("channels", "sinks"):
        for name, function in getattr(plugins, kind).items():
            if name in BUILT_IN_CHANNELS:
                raise SettingsError(f"{kind}: the name {name!r} is taken by a channel of Regrow's own")
            Callback(name, function, timeout_seconds=1)
    for name in ("strategy", "user_of"):
        given = getattr(plugins, name)
        if given is not None and not callable(given):
            raise SettingsError(f"{name}={given!r} is not callable")
    if plugins.patterns is not None:
        load_classifier(plugins.patterns)
