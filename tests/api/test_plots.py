"""Figures over HTTP: what a report has numbers for, in both forms and themes, on machines without fonts."""

import hashlib
import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import orjson
import pytest
from PIL import Image
from starlette.testclient import TestClient

import app.plots
from app.api.v1.rendering import to_png
from app.db.events import NewEvent, write_events
from app.plots import svg as drawing
from app.plots.style import themed
from tests.api.builders import Registry, assert_problem

FONTS = Path(app.plots.__file__).parent / "fonts"
REPORT: dict[str, Any] = {
    "metrics": {"accuracy": 0.9, "ece": 0.02},
    "history": [{"epoch": epoch, "loss": 1 / (epoch + 1), "selection_loss": 1.0} for epoch in range(3)],
    "comparisons": [{"against": "old <1>", "difference": 0.1, "interval": [0.0, 0.2], "verdict": "better"}],
    "quality": {"confusion": [[3, 0, 0], [0, 2, 1], [0, 0, 3]]},
}


@pytest.fixture
def plots(registry: Registry) -> str:
    """Register a version with a report; return where its figures are."""
    registry.add_dataset()
    registry.add_model(files={"report.json": registry.put_bytes(orjson.dumps(REPORT))})
    return "/v1/models/pets-cnn/versions/1/plots"


def texts(svg: str) -> str:
    return " ".join(ElementTree.fromstring(svg).itertext())


def test_a_version_lists_the_figures_of_its_report(client: TestClient, plots: str) -> None:
    found = client.get(plots).json()["plots"]

    assert [plot["name"] for plot in found] == ["learning-curves", "gain", "confusion"]
    for plot in found:
        drawn = client.get(plot["svg"])
        assert (drawn.status_code, drawn.headers["Content-Type"]) == (200, "image/svg+xml")
        assert plot["title"] in texts(drawn.text)
        picture = client.get(plot["png"])
        assert (picture.status_code, picture.headers["Content-Type"]) == (200, "image/png")
        assert Image.open(io.BytesIO(picture.content)).format == "PNG"


def test_classes_have_their_names_and_names_are_no_markup(client: TestClient, plots: str) -> None:
    assert "owl" in texts(client.get(f"{plots}/confusion.svg").text)
    gain = client.get(f"{plots}/gain.svg").text
    assert "old <1>" in texts(gain)
    assert "script" not in gain
    assert client.get(f"{plots}/gain.svg").headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_a_dark_figure_is_dark(client: TestClient, plots: str) -> None:
    def corner(theme: str) -> Any:
        picture = client.get(f"{plots}/gain.png?theme={theme}").content
        return Image.open(io.BytesIO(picture)).convert("L").getpixel((2, 2))

    assert corner("light") > 200
    assert corner("dark") < 50
    assert_problem(client.get(f"{plots}/gain.svg?theme=pink"), 422, "unknown-component")


@pytest.mark.parametrize("form", ["svg", "png"])
def test_a_figure_that_one_has_is_not_sent_again(client: TestClient, plots: str, form: str) -> None:
    first = client.get(f"{plots}/gain.{form}")
    again = client.get(f"{plots}/gain.{form}", headers={"If-None-Match": first.headers["ETag"]})
    other = client.get(f"{plots}/gain.{form}?theme=dark", headers={"If-None-Match": first.headers["ETag"]})

    assert (again.status_code, again.content, other.status_code) == (304, b"", 200)


def test_a_figure_that_there_is_not_names_those_that_there_are(client: TestClient, plots: str) -> None:
    body = assert_problem(client.get(f"{plots}/calibration.svg"), 404, "not-found")
    assert body["hint"] == "It has learning-curves, gain, confusion."
    assert_problem(client.get(f"{plots}/..%2F.svg"), 404, "not-found")
    assert_problem(client.get("/v1/models/nobody/versions/1/plots"), 404, "model-not-found")


def test_the_comparison_is_drawn_with_the_same_parameters(client: TestClient, plots: str) -> None:
    one = client.get("/v1/compare/plot.svg?dataset=pets&x=bytes&y=accuracy&theme=dark")
    several = client.get("/v1/compare/plot.svg?dataset=pets&x=bytes&x=latency")
    picture = client.get("/v1/compare/plot.png?dataset=pets")

    assert "1 version, 1 on the front: pets-cnn/1" in texts(one.text)
    assert "Versions side by side" in texts(several.text)
    assert picture.content.startswith(b"\x89PNG")
    assert_problem(client.get("/v1/compare/plot.svg?max_latency=1"), 422, "unknown-field")
    assert_problem(client.get("/v1/compare/plot.svg?dataset=nothing"), 422, "dataset-not-found")
    assert_problem(client.get("/v1/compare?theme=dark"), 422, "unknown-field")


def test_a_job_draws_what_it_has_learned_each_epoch_once(client: TestClient, registry: Registry, plots: str) -> None:
    job = client.get("/v1/jobs").json()["jobs"][0]["id"]
    told = [NewEvent("metric", {"epoch": epoch, "loss": 1.0, "selection_loss": 0.5}) for epoch in (0, 1, 1, 2)]
    with registry.sessions.begin() as session:
        write_events(session, job, told)

    assert "3 epochs." in texts(client.get(f"/v1/jobs/{job}/plot.svg").text)
    missing = "00000000-0000-0000-0000-000000000000"
    assert_problem(client.get(f"/v1/jobs/{missing}/plot.svg"), 404, "job-not-found")


def test_the_font_is_the_one_that_its_page_names() -> None:
    digest = hashlib.sha256((FONTS / "DejaVuSans.ttf").read_bytes()).hexdigest()
    assert f"`{digest}`" in (FONTS / "README.md").read_text(encoding="utf-8")


def test_words_are_drawn_without_any_font_of_the_system() -> None:
    def ink(words: str) -> int:
        body = drawing.label(words, 10, 40)
        svg = themed(drawing.figure("-", "-", body, width=200, height=60))
        grey = Image.open(io.BytesIO(to_png(svg))).convert("L")
        return sum(grey.histogram()[:128])

    # `to_png` looks at no font of the system, so what is drawn here comes from ours.
    assert ink("confusion") > ink("c") > ink("")


def test_a_huge_figure_becomes_no_huge_picture() -> None:
    svg = themed(drawing.figure("Tall", "Tall", width=640, height=60_000))
    width, height = Image.open(io.BytesIO(to_png(svg))).size
    assert width * height < 8_200_000
