"""Real services for tests: absent ones skip with one clear line, or fail where the environment promises them."""

from __future__ import annotations

import importlib
import os
import socket
from types import ModuleType
from typing import NoReturn

import pytest


def require(host: str, port: int, name: str) -> None:
    """Go on if something listens at the address; else skip, or fail if REGROW_REQUIRE_SERVICES=1."""
    try:
        with socket.create_connection((host, port), timeout=2):
            return
    except OSError as error:
        text = f"{name} is not reachable at {host}:{port} ({error})"
    absent(text)


def require_library(name: str) -> ModuleType:
    """The module, if its library is installed; else skip, or fail if REGROW_REQUIRE_SERVICES=1."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        text = f"{error.name} is not installed (`make provoked` installs it)"
    absent(text)


def absent(text: str) -> NoReturn:
    """Skip, or fail if REGROW_REQUIRE_SERVICES=1."""
    if os.environ.get("REGROW_REQUIRE_SERVICES") == "1":
        pytest.fail(text)
    pytest.skip(text)
