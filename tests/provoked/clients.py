"""The HTTP clients that most tasks use, each as a function of the URL; every wait is bounded."""

from __future__ import annotations

import asyncio
import ssl
import urllib.request
from collections.abc import Callable
from pathlib import Path

import httpx
import requests

from tests.services import require_library

Fetch = Callable[[str, float, Path | None], object]


def by_requests(url: str, timeout: float = 5, trusted: Path | None = None) -> bytes:
    """requests, the status raised."""
    response = requests.get(url, timeout=timeout, verify=str(trusted) if trusted else True)
    response.raise_for_status()
    return response.content


def by_httpx(url: str, timeout: float = 5, trusted: Path | None = None) -> bytes:
    """httpx, the status raised."""
    verify = ssl.create_default_context(cafile=trusted) if trusted else True
    response = httpx.get(url, timeout=timeout, verify=verify, follow_redirects=True)
    return response.raise_for_status().content


def by_aiohttp(url: str, timeout: float = 5, trusted: Path | None = None) -> bytes:
    """aiohttp, the status raised."""
    aiohttp = require_library("aiohttp")

    async def fetch() -> bytes:
        limit = aiohttp.ClientTimeout(total=timeout)
        context = ssl.create_default_context(cafile=trusted) if trusted else True
        async with (
            aiohttp.ClientSession(timeout=limit, raise_for_status=True) as session,
            session.get(url, ssl=context) as response,
        ):
            return bytes(await response.read())

    return asyncio.run(fetch())


def by_urllib(url: str, timeout: float = 5, trusted: Path | None = None) -> bytes:
    """The standard library's."""
    context = ssl.create_default_context(cafile=trusted) if trusted else None
    with urllib.request.urlopen(url, timeout=timeout, context=context) as response:
        return bytes(response.read())


CLIENTS: dict[str, Fetch] = {
    "requests": by_requests,
    "httpx": by_httpx,
    "aiohttp": by_aiohttp,
    "urllib": by_urllib,
}
