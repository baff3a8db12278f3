"""The pages build into a site that needs no network, on which no link leads nowhere."""

import hashlib
import re
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
VENDOR = DOCS / "assets" / "vendor"
CONFIGURATION = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]


class Page(HTMLParser):
    """Collect what a page loads, where it leads and the places that can be led to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.places |= {given[name] or "" for name in ("id", "name") if name in given}
        if tag == "a":
            self.leads.append(given.get("href") or "")
        elif tag == "link":
            self.loads.append(given.get("href") or "")
        elif "src" in given:
            self.loads.append(given["src"] or "")


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path.resolve(): Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def in_navigation(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else in_navigation(value)


def test_the_navigation_holds_every_page_once() -> None:
    written = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    assert sorted(in_navigation(CONFIGURATION["nav"])) == written


def test_every_page_is_built(pages: dict[Path, Page], site: Path) -> None:
    built = {path.relative_to(site.resolve()).with_suffix(".md").as_posix() for path in pages}
    assert built == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}


def test_no_page_loads_anything_from_elsewhere(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        foreign = [target for target in page.loads if re.match(r"(https?:)?//", target)]
        assert foreign == [], path.name


def test_no_style_of_the_site_loads_anything_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.css"):
        found = re.findall(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^)'\"]+)", path.read_text(encoding="utf-8"))
        assert found == [], path.name


def test_everything_that_a_page_loads_is_there(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        missing = [target for target in page.loads if not (path.parent / unquote(target.partition("?")[0])).is_file()]
        assert missing == [], path.name


def test_every_link_leads_to_a_page_and_a_place_on_it(pages: dict[Path, Page]) -> None:
    lost = []
    for path, page in pages.items():
        for link in page.leads:
            if re.match(r"[a-z]+:", link):
                continue
            target, _, place = unquote(link).partition("#")
            file = (path.parent / target).resolve() if target not in {"", "."} else path
            known = pages[file].places if file in pages else None
            if not file.exists() or (place and known is not None and place not in known):
                lost.append(f"{path.name}: {link}")
    assert lost == []


def test_snippets_are_taken_in(pages: dict[Path, Page], site: Path) -> None:
    for path in pages:
        assert "--8<--" not in path.read_text(encoding="utf-8"), path.name
    assert "digits-pruned" in (site / "methods" / "prune.html").read_text(encoding="utf-8")


def test_formulas_are_marked_for_the_script_that_draws_them(site: Path) -> None:
    text = (site / "methods" / "distill.html").read_text(encoding="utf-8")
    assert text.count('class="arithmatex"') >= 4
    assert "katex.min.js" in text
    assert "formulas.js" in text


def test_vendored_files_are_unchanged() -> None:
    sums = dict(reversed(line.split("  ")) for line in (VENDOR / "SHA256SUMS").read_text().splitlines())
    present = {
        f"./{path.relative_to(VENDOR).as_posix()}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }
    assert present == sums
