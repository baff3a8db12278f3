"""Take the four pictures of docs/dashboard.md: `python -m benchmarks.figures.screenshots [URL]`.

The service must have trained an ensemble of digits as README.md does. Needs a browser, as the tests do.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from typing import NamedTuple

import httpx
from playwright.sync_api import Page, sync_playwright

from benchmarks.pages import DOCS

MODEL = "digits-trio"
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
        for picture in _pictures(_trained_job(url)):
            context = browser.new_context(viewport={"width": 1280, "height": 860}, color_scheme=picture.theme)
            page = context.new_page()
            page.goto(url + picture.path)
            picture.act(page)
            page.screenshot(path=DOCS / "images" / f"{picture.name}-{picture.theme}.png")
            context.close()
        browser.close()


def _pictures(job_id: str) -> list[Picture]:
    return [
        Picture("overview", "/", "light"),
        Picture("job", f"/ui/jobs/{job_id}", "dark"),
        Picture("compare", "/ui/compare?dataset=digits", "light"),
        Picture("try", f"/ui/try?model={MODEL}", "dark", _draw),
    ]


def _trained_job(url: str) -> str:
    """Return the job of the ensemble's first member, which has curves."""
    jobs = (
        httpx.get(f"{url}/v1/jobs", params={"children": "true", "name": f"{MODEL}-m0"})
        .raise_for_status()
        .json()["jobs"]
    )
    if not jobs:
        sys.exit(f"There is no {MODEL!r} at {url}: train it as README.md does.")
    return str(jobs[0]["id"])


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
