"""Take the four pictures of docs/dashboard.md: `python -m benchmarks.figures.screenshots [URL]`.

The service must have trained an ensemble of digits as README.md does. Needs a browser, as the tests do.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.pages import DOCS

MODEL = "digits-trio"
LONG_JOB = {
    "kind": "train",
    "name": "digits-cnn",
    "dataset": "digits",
    "architecture": {"type": "cnn", "filters": [32, 64], "dense": [128]},
    "training": {"epochs": 150, "batch_size": 32},
    "reuse": False,
}
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
NINE = [(0.64, 0.32), (0.5, 0.14), (0.36, 0.3), (0.46, 0.48), (0.64, 0.36), (0.62, 0.6), (0.54, 0.88)]


class Picture(NamedTuple):
    """Show a page in a theme, after something was done there."""

    name: str
    path: str
    theme: str
    act: Callable[[Page], None] = lambda page: page.wait_for_timeout(500)


def main() -> None:
    """Take every picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figures.screenshots", description=__doc__)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    url = parser.parse_args().url
    found = os.environ.get("LEANFUSE_TEST_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        sys.exit("No browser: install Debian's chromium, or name one in LEANFUSE_TEST_BROWSER.")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        with _running_job(url) as job_id:
            for picture in _pictures(job_id):
                _take(browser, url, picture)
        browser.close()


def _take(browser: Browser, url: str, picture: Picture) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 860}, color_scheme=picture.theme)
    page = context.new_page()
    page.goto(url + picture.path)
    picture.act(page)
    page.screenshot(path=DOCS / "images" / f"{picture.name}-{picture.theme}.png")
    context.close()


def _pictures(job_id: str) -> list[Picture]:
    return [
        Picture("job", f"/ui/jobs/{job_id}", "dark", lambda page: page.wait_for_timeout(3000)),
        Picture("overview", "/", "light"),
        Picture("compare", "/ui/compare?dataset=digits", "light"),
        Picture("try", f"/ui/try?model={MODEL}", "dark", _draw),
    ]


@contextmanager
def _running_job(url: str) -> Iterator[str]:
    """Train a network until nearly half of it is done, yield the job, and cancel it at the end."""
    with httpx.Client(base_url=url, timeout=60) as client:
        job = client.post("/v1/jobs", json=LONG_JOB).raise_for_status().json()
        while (job["progress"]["fraction"] or 0) < 0.4 and not job["done"]:
            time.sleep(0.3)
            job = client.get(f"/v1/jobs/{job['id']}").raise_for_status().json()
        yield job["id"]
        client.post(f"/v1/jobs/{job['id']}:cancel")


def _draw(page: Page) -> None:
    box = page.locator("#canvas").bounding_box()
    if box is None:
        raise RuntimeError("The page has no place to draw.")
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in NINE]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=6)
    page.mouse.up()
    page.locator("#class").wait_for()
    page.wait_for_timeout(300)


if __name__ == "__main__":
    main()
