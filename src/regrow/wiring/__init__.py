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
    open_rule_file,
    open_spool,
    open_store,
    open_teaching,
    upgrade,
    words,
)
from regrow.wiring.schooling import built_in_rules, check_file, id_fault, open_classifier, open_school, overlaps

__all__ = [
    "SETTLED_SECONDS",
    "LazyClassifier",
    "Live",
    "SettingsError",
    "bare_app",
    "built_in_rules",
    "check_file",
    "clock",
    "connect",
    "drain",
    "examine",
    "id_fault",
    "install",
    "load_app",
    "load_classifier",
    "load_settings",
    "open_classifier",
    "open_ledger",
    "open_rule_file",
    "open_school",
    "open_spool",
    "open_store",
    "open_teaching",
    "overlaps",
    "run_dispatcher",
    "switches",
    "upgrade",
    "words",
]
