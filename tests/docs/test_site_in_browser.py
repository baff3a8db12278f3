"""The site in a real browser, opened from a folder: formulas are drawn, the search finds, no network is asked."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

METHODS = sorted((Path(__file__).parents[2] / "docs" / "methods").glob("*.md"))


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    page.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert complaints == []


def test_every_formula_is_drawn(page: Page, site: Path) -> None:
    for path in METHODS:
        page.goto((site / "methods" / f"{path.stem}.html").as_uri())
        expect(page.locator(".arithmatex:not([data-drawn])")).to_have_count(0)
        assert page.locator(".katex-error").count() == 0, path.name
        assert page.locator(".katex-display").count() > 0 or path.stem == "index", path.name


def test_figures_follow_the_scheme_of_the_page(browser: Browser, site: Path) -> None:
    shades = []
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
        page.goto((site / "methods" / "prune.html").as_uri())
        shades.append(page.locator("img[src$='prune.svg']").screenshot())
        page.close()
    assert shades[0] != shades[1]


def test_the_search_finds_without_a_server(page: Page, site: Path) -> None:
    page.goto((site / "index.html").as_uri())
    page.keyboard.press("Control+k")
    page.keyboard.type("codebook")
    expect(page.get_by_role("option", name="cluster").first).to_be_visible()
