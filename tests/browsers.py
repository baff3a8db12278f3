"""A real browser for tests: Debian's Chromium or any other; LEANFUSE_TEST_BROWSER names it, or the path holds one."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# As root in a container there is no sandbox; the rest keeps the browser from asking its maker for anything.
SWITCHES = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


# For a module: the driver keeps an event loop running, and other tests start loops of their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a browser, or skip."""
    found = os.environ.get("LEANFUSE_TEST_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no browser: install Debian's chromium, or name one in LEANFUSE_TEST_BROWSER")
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=list(SWITCHES))
        yield started
        started.close()
