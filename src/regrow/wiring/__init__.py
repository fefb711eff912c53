"""The composition root: the only place that names concrete adapters."""

from regrow.errors import SettingsError
from regrow.wiring.examining import examine, switches
from regrow.wiring.installing import install
from regrow.wiring.live import SETTLED_SECONDS, Live, connect, drain, run_dispatcher
from regrow.wiring.parts import (
    LazyClassifier,
    bare_app,
    clock,
    load_app,
    load_classifier,
    load_settings,
    open_ledger,
    open_spool,
    open_store,
    upgrade,
    words,
)

__all__ = [
    "SETTLED_SECONDS",
    "LazyClassifier",
    "Live",
    "SettingsError",
    "bare_app",
    "clock",
    "connect",
    "drain",
    "examine",
    "install",
    "load_app",
    "load_classifier",
    "load_settings",
    "open_ledger",
    "open_spool",
    "open_store",
    "run_dispatcher",
    "switches",
    "upgrade",
    "words",
]
