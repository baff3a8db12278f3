"""What a person does, in a real browser: submit a job, watch it, promote what it made, draw a digit."""

import re
import wave
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect

from tests.ui.conftest import PAGES

PATIENCE_MS = 120_000
# Strokes of digits on a square of 100, as a person draws them.
STROKES: dict[str, list[list[tuple[int, int]]]] = {
    "0": [[(50, 12), (34, 20), (28, 50), (34, 80), (50, 88), (66, 80), (72, 50), (66, 20), (50, 12)]],
    "1": [[(40, 25), (52, 12), (52, 88)]],
    "7": [[(25, 15), (75, 15), (45, 88)], [(35, 50), (65, 50)]],
}


class Visit:
    """A page of the service, with everything that went wrong in it or left this machine."""

    def __init__(self, browser: Browser, url: str, theme: str) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]
        self.page = self.context.new_page()
        self.url = url
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", self._hear)
        self.page.on("request", self._note)

    def _hear(self, said: ConsoleMessage) -> None:
        # The browser also tells of every refused request; the page shows those itself.
        if said.type == "error" and "status of 422" not in said.text:
            self.wrong.append(said.text)

    def _note(self, request: Request) -> None:
        target = urlsplit(request.url)
        if target.scheme not in {"data", "blob"} and target.netloc != urlsplit(self.url).netloc:
            self.wrong.append(f"asked {request.url}")

    def open(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page


@pytest.fixture(params=["light"])
def visit(request: pytest.FixtureRequest, browser: Browser, service: str) -> Iterator[Visit]:
    visit = Visit(browser, service, request.param)
    yield visit
    visit.context.close()
    assert visit.wrong == []


def draw(page: Page, strokes: list[list[tuple[int, int]]]) -> None:
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    for stroke in strokes:
        points = [(box["x"] + x / 100 * box["width"], box["y"] + y / 100 * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=6)
        page.mouse.up()


def test_from_a_new_service_to_a_drawn_digit(visit: Visit) -> None:
    page = visit.open("/")
    page.get_by_role("link", name="Datasets").first.click()
    page.get_by_role("button", name="digits").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("digits")
    expect(page.locator(".samples img")).to_have_count(24)

    submit_a_job(visit)
    expect(page.locator("#told")).to_contain_text("left", timeout=PATIENCE_MS)
    expect(page.locator("#loss canvas")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator("#state")).to_have_text("succeeded", timeout=PATIENCE_MS)
    page.get_by_role("link", name="drawn-digits/1").click()
    expect(page.get_by_role("heading", name="Confusion")).to_be_visible()

    promote(visit)
    page.get_by_role("link", name="Try it", exact=True).last.click()
    page.get_by_label("Model, version or alias").fill("drawn-digits@champion")
    page.get_by_role("button", name="Choose").click()
    seen = {}
    for digit, strokes in STROKES.items():
        page.get_by_role("button", name="Clear").click()
        draw(page, strokes)
        expect(page.locator("#class")).to_be_visible()
        page.wait_for_timeout(300)
        seen[digit] = page.locator("#class").inner_text()
    assert seen == {digit: digit for digit in STROKES}


def submit_a_job(visit: Visit) -> None:
    """Fill in the form, be told what is wrong with it, mend that and submit it."""
    page = visit.open("/ui/jobs/new?example=train")
    page.get_by_label("name", exact=True).fill("drawn-digits")
    page.get_by_label("epochs", exact=True).fill("0")
    page.get_by_role("button", name="Check").click()
    expect(page.locator(".wrong")).to_contain_text("out of range")
    expect(page.locator(".wrong")).to_contain_text("10,000")
    expect(page.get_by_role("alert")).to_contain_text("/training/epochs")
    page.get_by_label("epochs", exact=True).fill("15")
    page.get_by_label("alias", exact=True).fill("")
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_role("status")).to_contain_text("would be accepted")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("drawn-digits")


def promote(visit: Visit) -> None:
    page = visit.open("/ui/models/drawn-digits")
    expect(page.get_by_text("No alias names a version of it.")).to_be_visible()
    page.get_by_role("button", name="Promote").click()
    expect(page.get_by_text(re.compile(r"champion\s+names"))).to_be_visible()


def test_a_file_is_uploaded_and_a_wrong_one_is_explained(visit: Visit, tmp_path: Path) -> None:
    rows = [f"{place},{place * 7 % 5},{'big' if place > 20 else 'small'}" for place in range(40)]
    (tmp_path / "sizes.csv").write_text("\n".join(["length,width,label", *rows]))
    (tmp_path / "broken.csv").write_text("length,label\n1,a\n2\n")
    page = visit.open("/ui/datasets")
    page.get_by_label("Name").fill("sizes")
    page.get_by_label("File", exact=True).set_input_files(tmp_path / "broken.csv")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("line 3")
    page.get_by_label("File", exact=True).set_input_files(tmp_path / "sizes.csv")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("sizes")
    expect(page.get_by_role("columnheader", name="width")).to_be_visible()


def test_a_job_is_cancelled(visit: Visit) -> None:
    spec = {"kind": "train", "name": "endless", "dataset": "sizes", "architecture": {"type": "mlp"}}
    job = (
        httpx.post(f"{visit.url}/v1/jobs", json=spec | {"training": {"epochs": 10_000, "batch_size": 8}})
        .raise_for_status()
        .json()
    )
    page = visit.open(f"/ui/jobs/{job['id']}")
    page.once("dialog", lambda asked: asked.accept())
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#state")).to_have_text("cancelled", timeout=PATIENCE_MS)
    expect(page.get_by_role("button", name="Run it again")).to_be_visible()


@pytest.fixture
def trying(browser: Browser, furnished: str) -> Iterator[Visit]:
    visit = Visit(browser, furnished, "light")
    yield visit
    visit.context.close()
    assert visit.wrong == []


def test_a_promotion_is_rolled_back(trying: Visit) -> None:
    page = trying.open("/ui/models/pets-twice")
    for version in ("v1", "v2"):
        page.get_by_label("Version").select_option(version)
        page.get_by_role("button", name="Promote").click()
        expect(page.get_by_text(re.compile(rf"champion\s+names {version}"))).to_be_visible()
    page.once("dialog", lambda asked: asked.accept())
    page.get_by_role("button", name="Roll back").click()
    expect(page.get_by_text(re.compile(r"champion\s+names v1"))).to_be_visible()
    page.get_by_text("History of champion").click()
    expect(page.get_by_text("before v2")).to_be_visible()


def test_a_description_is_written_and_taken_back(trying: Visit) -> None:
    page = trying.open("/ui/models/pets-duo")
    for written, shown in (("Tells pets apart.", "Tells pets apart."), ("", "Nothing was written about it yet.")):
        page.get_by_label("Description").fill(written)
        page.get_by_role("button", name="Save").click()
        expect(page.locator(".head p")).to_have_text(shown)


def test_text_is_typed(trying: Visit) -> None:
    page = trying.open("/ui/try?model=letters-line")
    page.get_by_label("Text").fill("free money")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#class")).to_have_text(re.compile("yes|no"))


def test_a_row_of_a_table_is_filled_in(trying: Visit) -> None:
    page = trying.open("/ui/try?model=flowers-line")
    page.get_by_label("height").fill("5")
    page.get_by_role("button", name="Predict").click()
    first = page.locator("#answer").inner_text()
    page.get_by_label("height").fill("-500")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#class")).to_be_visible()
    assert page.locator("#answer").inner_text() != first
    page.get_by_label("height").fill("")
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_role("alert")).to_contain_text("[0][2]")


def test_a_sound_is_dropped(trying: Visit, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.full(30, 1000, dtype="<i2").tobytes())
    page = trying.open("/ui/try?model=sounds-line")
    page.get_by_label("Sound").set_input_files(tmp_path / "tone.wav")
    expect(page.locator("#class")).to_have_text(re.compile("yes|no"))
    (tmp_path / "tone.txt").write_text("no sound")
    page.get_by_label("Sound").set_input_files(tmp_path / "tone.txt")
    expect(page.get_by_role("alert")).to_contain_text("could not be read as sound")


def test_an_image_is_dropped_and_a_row_of_the_report_set_is_taken(trying: Visit, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    page = trying.open("/ui/try?model=pets-duo")
    page.get_by_label("Image").set_input_files(tmp_path / "red.png")
    expect(page.get_by_role("heading", name="Members")).to_be_visible()
    expect(page.get_by_text("mutual information")).to_be_visible()
    page.get_by_role("button", name="A row of the report set").click()
    expect(page.locator("#answer")).to_contain_text("the data set says")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_to_mend(browser: Browser, furnished: str, theme: str) -> None:
    """Contrast, names, order of headings and more, by the rules of axe-core."""
    context = browser.new_context(color_scheme=theme)  # type: ignore[arg-type]
    page = context.new_page()
    found = {}
    for path in PAGES:
        page.goto(furnished + path)
        page.wait_for_timeout(150)
        found[path] = [rule["id"] for rule in Axe().run(page).response["violations"]]
    context.close()
    assert {path: rules for path, rules in found.items() if rules} == {}


def test_pages_fit_a_phone(browser: Browser, furnished: str) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    widths = {}
    for path in PAGES:
        page.goto(furnished + path)
        widths[path] = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert {path: width for path, width in widths.items() if width > 390} == {}


def test_both_themes_can_be_chosen_and_last(visit: Visit) -> None:
    page = visit.open("/")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.get_by_role("button", name="Change between light and dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    visit.open("/ui/compare")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_the_keyboard_reaches_the_content_first(visit: Visit) -> None:
    page = visit.open("/ui/jobs")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")
