"""What every page of the dashboard promises, and what each of them shows."""

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.api.v1.examples import JOB_SPECS
from tests.ui.conftest import NASTY, PAGES

STATIC = Path(__file__).parents[2] / "app" / "ui" / "static"


class Outline(HTMLParser):
    """Collect what a reader by ear or by keyboard depends on, and what a page must not hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def read(client: TestClient, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    return answer.text


@pytest.fixture(params=PAGES, scope="module")
def page(request: pytest.FixtureRequest, pages: TestClient) -> str:
    return read(pages, request.param)


def test_a_page_says_what_it_is_and_where_its_content_begins(page: str) -> None:
    outline = Outline(page)
    assert outline.all("html") == [{"lang": "en"}]
    assert len(outline.all("h1")) == 1
    assert len(outline.all("main")) == 1
    assert re.search(r"<title>.+ · Leanfuse</title>", page)
    assert 'href="#main"' in page


def test_every_field_has_a_label(page: str) -> None:
    outline = Outline(page)
    labelled = {label.get("for") for label in outline.all("label")}
    wrapped = set(
        re.findall(r"<label[^>]*>(?:(?!</label>).)*?<(?:input|select|textarea)[^>]*id=\"([^\"]+)\"", page, re.DOTALL)
    )
    for field in outline.all("input", "select", "textarea"):
        if field.get("type") != "hidden":
            assert field.get("id") in labelled | wrapped, field


def test_every_picture_and_figure_has_words(page: str) -> None:
    outline = Outline(page)
    assert all(image.get("alt") for image in outline.all("img"))
    for drawing in outline.all("svg", "canvas", "meter", "progress"):
        assert {"aria-label", "aria-labelledby", "aria-hidden"} & drawing.keys(), drawing


def test_every_id_occurs_once(page: str) -> None:
    ids = [attributes["id"] for _, attributes in Outline(page).tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_no_page_asks_another_host_for_anything(page: str) -> None:
    loaded = [
        value for _, attributes in Outline(page).tags for name, value in attributes.items() if name in {"src", "href"}
    ]
    assert [value for value in loaded if value and re.match(r"(https?:)?//", value)] == []


def test_no_page_holds_a_script_or_style_of_its_own(page: str) -> None:
    outline = Outline(page)
    assert all("src" in script or script.get("type") == "application/json" for script in outline.all("script"))
    assert outline.all("style") == []
    assert [
        tag for tag, attributes in outline.tags if any(name.startswith("on") or name == "style" for name in attributes)
    ] == []


def test_links_of_the_dashboard_lead_to_pages(pages: TestClient) -> None:
    waiting, seen = ["/"], set[str]()
    while waiting:
        path = waiting.pop()
        if path in seen or len(seen) > 80:
            continue
        seen.add(path)
        text = read(pages, path)
        waiting += [
            href.replace("&amp;", "&")
            for href in re.findall(r'href="(/ui/[^"]*|/)"', text)
            if not href.endswith(".css")
        ]
    assert {"/ui/models/pets-cnn/versions/1", "/ui/datasets/pets", "/ui/ensembles/pets-duo/versions/1"} <= seen


@pytest.mark.parametrize(
    "path",
    [
        "/ui/datasets/pets",
        "/ui/models/pets-cnn",
        "/ui/models/pets-cnn/versions/1",
        "/ui/datasets/letters",
        "/ui/try?model=pets-cnn",
        f"/ui/try?model={NASTY}",
    ],
)
def test_names_of_users_are_text(pages: TestClient, path: str) -> None:
    text = pages.get(path).text
    assert "<script>alert" not in text
    assert "alert(" in text


def test_pages_may_run_scripts_of_this_service_only(pages: TestClient) -> None:
    for path in ("/", "/ui/jobs", "/ui/nothing"):
        policy = pages.get(path).headers["Content-Security-Policy"]
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(
    ("path", "code", "told"),
    [
        ("/ui/models/nobody", 404, "There is no model"),
        ("/ui/models/pets-cnn/versions/9", 404, "has no version 9"),
        ("/ui/datasets/nothing", 404, "There is no data set"),
        ("/ui/jobs/00000000-0000-7000-8000-000000000000", 404, "There is no job"),
        ("/ui/jobs?state=sleeping", 422, "/query/state"),
        ("/ui/compare?y=beauty", 422, "/query/y"),
        ("/ui/somewhere", 404, "There is nothing at"),
    ],
)
def test_a_wrong_address_gets_a_page_that_tells_why(pages: TestClient, path: str, code: int, told: str) -> None:
    answer = pages.get(path)
    assert answer.status_code == code
    assert told in answer.text
    assert "<h1>" in answer.text


def test_a_refused_first_page_is_a_page_too(pages: TestClient) -> None:
    answer = pages.get("/", headers={"Host": "elsewhere.example"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "text/html; charset=utf-8")
    assert "elsewhere.example" in answer.text


def test_the_overview_ranks_versions_and_lists_jobs(pages: TestClient) -> None:
    text = read(pages, "/")
    assert "Leaderboard of" in text
    assert "94.0 %" in text
    assert "91.0 to 96.0 %" in text
    assert "Latest jobs" in text


def test_a_version_shows_its_report_in_figures_and_words(pages: TestClient) -> None:
    text = read(pages, "/ui/models/pets-cnn/versions/1")
    for title in ("Confusion", "Calibration", "Gain over other models", "F1 by class", "Verdicts"):
        assert f"<h2>{title}</h2>" in text
    assert "Better than its best member digits-trio-m1/1" in text
    assert text.count("<svg") >= 5


def test_a_model_shows_its_aliases_and_where_they_pointed(pages: TestClient) -> None:
    text = read(pages, "/ui/models/pets-cnn")
    assert "champion" in text
    assert 'data-call="POST /v1/models/pets-cnn/aliases/champion:rollback"' in text
    assert 'data-call="PUT /v1/models/pets-cnn/aliases/{alias}"' in text


def test_an_ensemble_shows_its_members_and_weights(pages: TestClient) -> None:
    text = read(pages, "/ui/ensembles/pets-duo/versions/1")
    assert "pets-duo-m0/1" in text
    assert "0.25" in text
    assert "+2.00 points" in text


def test_the_lineage_of_a_member_leads_to_what_was_made_from_it(pages: TestClient) -> None:
    text = read(pages, "/ui/models/pets-duo-m0/versions/1")
    assert "<h2>Lineage</h2>" in text
    assert 'href="/ui/models/pets-duo/versions/1"' in text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("pets", "data:image/png;base64,"),
        ("sounds", "<figcaption>yes"),
        ("letters", "free money"),
        ("flowers", 'class="right">height</th>'),
        ("prices", "data:image/png;base64,"),
    ],
)
def test_rows_of_a_data_set_are_shown_as_what_they_are(pages: TestClient, name: str, shown: str) -> None:
    assert shown in read(pages, f"/ui/datasets/{name}")


def test_every_method_has_an_example_to_begin_with(pages: TestClient) -> None:
    schema = pages.get("/ui/job-spec.json").json()
    methods = {
        method
        for spec in ("OptimizeSpec", "EnsembleSpec")
        for method in schema["$defs"][spec]["properties"]["method"]["discriminator"]["mapping"]
    }
    assert (
        methods - {spec["method"]["method"] for spec in JOB_SPECS.values() if isinstance(spec.get("method"), dict)}
        == set()
    )
    text = read(pages, "/ui/jobs/new?example=distill")
    assert "<option selected>distill</option>" in text


def test_the_serving_page_counts_what_was_predicted(pages: TestClient) -> None:
    for _ in range(3):
        pages.post(
            "/v1/models/pets-cnn:predict", json={"instances": [[[[0.0], [1.0]], [[2.0], [3.0]]]]}
        ).raise_for_status()
    part = read(pages, "/ui/parts/serving")
    row = re.search(r"pets-cnn/1</a></td><td class=\"right\">(\d+)</td>", part)
    assert row
    assert int(row[1]) >= 3


def test_vendored_scripts_are_unchanged_and_licensed() -> None:
    for folder in ("htmx", "uplot"):
        vendor = STATIC / "vendor" / folder
        for line in (vendor / "SHA256SUMS").read_text().splitlines():
            digest, name = line.split("  ")
            assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest
        assert (vendor / "LICENSE").is_file()
