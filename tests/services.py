"""Real services for tests: absent ones skip with one clear line, or fail where the environment promises them."""

from __future__ import annotations

import os
import socket

import pytest


def require(host: str, port: int, name: str) -> None:
    """Go on if something listens at the address; else skip, or fail if REGROW_REQUIRE_SERVICES=1."""
    try:
        with socket.create_connection((host, port), timeout=2):
            return
    except OSError as error:
        text = f"{name} is not reachable at {host}:{port} ({error})"
    if os.environ.get("REGROW_REQUIRE_SERVICES") == "1":
        pytest.fail(text)
    pytest.skip(text)
