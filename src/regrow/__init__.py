"""Regrow handles failed Celery tasks: records, explains, retries what time can heal, tells people the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regrow.config import Settings
    from regrow.errors import RegrowError
    from regrow.model import Category, Decision, Failure, Verdict
    from regrow.pipeline import Regrow
    from regrow.wiring import connect, install

__all__ = ["Category", "Decision", "Failure", "Regrow", "RegrowError", "Settings", "Verdict", "connect", "install"]

_HOMES = {
    "Category": "model",
    "Decision": "model",
    "Failure": "model",
    "Regrow": "pipeline",
    "RegrowError": "errors",
    "Settings": "config",
    "Verdict": "model",
    "connect": "wiring",
    "install": "wiring",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: `import regrow` alone must cost nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'regrow' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"regrow.{_HOMES[name]}"), name)
