"""Pictures of web pages, by Playwright and the system's own Chromium.

CHROMIUM_PATH names the browser; without it the first of `BROWSERS` on the PATH is taken. SCREENSHOT_TIMEOUT_SECONDS is
how long each step may take: the browser's start, the loading of the page, the picture.
"""

from __future__ import annotations

import os
import shutil
from contextlib import closing

#: Chromium under the names that distributions give it.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# What an error page says is worth reading up to here, in characters.
_SAID = 300


class BrowserMissing(Exception):
    """There is no browser to take pictures with: somebody must install one."""


class PageFailed(Exception):
    """A page answered, but with an error.

    Args:
        message: What it said.
        status: Its HTTP status.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def browser() -> str:
    """The path of the browser.

    Raises:
        BrowserMissing: None is installed, or not where CHROMIUM_PATH says.
    """
    named = os.environ.get("CHROMIUM_PATH")
    names = (named,) if named else BROWSERS
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        where = f"CHROMIUM_PATH={named}" if named else f"PATH: {', '.join(BROWSERS)}"
        raise BrowserMissing(
            f"Chromium is not installed: 找不到浏览器（{where}）。"
            "请安装，例如 apt-get install -y chromium，或用环境变量 CHROMIUM_PATH 指明它的路径"
        )
    return found


def capture(url: str) -> bytes:
    """A page as PNG.

    Args:
        url: Where it is.

    Raises:
        BrowserMissing: There is no browser.
        PageFailed: The page is an error page.
        playwright.sync_api.Error: The browser cannot start or cannot load the page.
    """
    from playwright.sync_api import sync_playwright

    executable = browser()
    milliseconds = float(os.environ.get("SCREENSHOT_TIMEOUT_SECONDS") or 20) * 1000
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=executable,
            timeout=milliseconds,
            # Chromium refuses to start as root with its sandbox on.
            chromium_sandbox=os.geteuid() != 0,
            # A worker that is told to stop finishes the task in hand: Ctrl-C must not take its browser away.
            handle_sigint=False,
            handle_sigterm=False,
            handle_sighup=False,
            # A container's /dev/shm is too small for it.
            args=["--disable-dev-shm-usage"],
        )
        with closing(started):
            page = started.new_page(viewport={"width": 1024, "height": 640}, locale="zh-CN")
            page.set_default_timeout(milliseconds)
            answer = page.goto(url)
            if answer is not None and not answer.ok:
                said = page.inner_text("body")[:_SAID]
                raise PageFailed(f"{answer.status} {answer.status_text} from {url}: {said}", answer.status)
            return page.screenshot(full_page=True)
