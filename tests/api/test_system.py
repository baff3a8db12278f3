"""Health, metrics, headers, documentation."""

import hashlib
import re
from pathlib import Path

import httpx2 as httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app import ui
from app.api import system
from app.domain.error_tree import all_errors
from app.domain.prediction_errors import EmptyInputError
from app.main import create_app
from app.settings import Settings
from tests.api.builders import ROW, Registry, assert_problem
from tests.api.contract import held_client

VENDOR = Path(ui.__file__).parent / "static" / "vendor" / "swagger-ui"


def test_a_healthy_process_is_alive_and_ready(client: TestClient) -> None:
    assert client.get("/livez").json() == {"live": True}
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert {name for name, check in ready.json()["checks"].items() if check["ok"]} == {
        "database",
        "migrations",
        "registry",
        "store",
    }
    assert client.get("/version").json()["name"] == "leanfuse"


def test_without_a_migrated_database_it_lives_but_is_not_ready(tmp_path: Path, settings: Settings) -> None:
    empty = settings.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'empty.db'}"})
    with held_client(create_app(empty)) as client:
        assert client.get("/livez").status_code == 200
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["checks"]["migrations"]["ok"] is False
        assert_problem(client.get("/v1/jobs"), 503, "database-unavailable")


def test_what_happened_is_counted_by_route(client: TestClient, registry: Registry) -> None:
    registry.add_dataset()
    registry.add_model()
    client.post("/v1/models/pets-cnn:predict", json={"instances": [ROW, ROW]})
    client.get("/v1/models/pets-cnn")
    client.get("/nowhere")
    text = client.get("/metrics").text
    assert 'leanfuse_http_requests_total{code="200",method="GET",route="/v1/models/{name}"} 1.0' in text
    assert 'leanfuse_http_requests_total{code="404",method="GET",route="unmatched"} 1.0' in text
    assert 'leanfuse_predictions_total{model="pets-cnn",outcome="ok",version="1"} 1.0' in text
    assert 'leanfuse_jobs{kind="train",state="succeeded"} 1.0' in text
    assert "leanfuse_models_loaded 1.0" in text


@pytest.mark.parametrize("path", ["/livez", "/docs", "/v1/jobs", "/nowhere", "/static/docs.js"])
def test_every_answer_carries_the_headers_that_browsers_need(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "unsafe-inline'; script" not in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Server" not in headers


def test_a_request_keeps_the_id_it_was_given_if_it_is_harmless(client: TestClient) -> None:
    assert client.get("/livez", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
    assert client.get("/livez", headers={"X-Request-ID": "a b<script>"}).headers["X-Request-ID"] != "a b<script>"


def test_an_unexpected_error_tells_nothing_but_the_request_id(app: FastAPI, client: TestClient) -> None:
    def explode() -> None:
        raise RuntimeError("secret at /work/place")

    app.add_api_route("/explode", explode)
    problem = assert_problem(client.get("/explode"), 500, "internal-error")
    assert "secret" not in str(problem)


def test_every_kind_of_problem_has_a_page(client: TestClient) -> None:
    listed = {kind["slug"] for kind in client.get("/problems").json()}
    assert listed == {kind.slug for kind in all_errors()}
    for kind in all_errors():
        page = client.get(f"/problems/{kind.slug}").json()
        assert page["title"]
        assert page["meaning"], f"{kind.__name__} has no docstring"
        assert "remedy" in vars(kind), f"{kind.__name__} does not say what to do"
        assert page["remedy"].endswith("."), kind.slug


def test_a_browser_reads_a_problem_as_a_page(client: TestClient) -> None:
    page = client.get("/problems/out-of-range", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    (led,) = page.history
    assert (led.status_code, led.headers["Vary"]) == (303, "Accept")
    for part in (
        "A value is out of its range",
        "What to do",
        "422",
        client.get("/problems/out-of-range").json()["remedy"],
    ):
        assert part in page.text
    assert "<code>Retry-After</code>" in client.get("/problems/overloaded", headers={"Accept": "text/html"}).text
    assert client.get("/problems/nothing", headers={"Accept": "text/html"}).status_code == 404


def test_an_error_without_a_hint_of_its_own_gives_what_helps_with_its_kind() -> None:
    assert EmptyInputError("The input has no rows.").hint == EmptyInputError.remedy
    assert EmptyInputError("The input has no rows.", hint="Send a row.").hint == "Send a row."


def test_slugs_are_unique() -> None:
    slugs = [kind.slug for kind in all_errors()]
    assert sorted(set(slugs)) == sorted(slugs)


def test_the_documentation_needs_no_other_server(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for path in (
        "/static/vendor/swagger-ui/swagger-ui-bundle.js",
        "/static/vendor/swagger-ui/swagger-ui.css",
        "/static/docs.js",
    ):
        assert path.removeprefix("/") in page
        assert client.get(path).status_code == 200


SERVED = ("docs.html", "docs.js", "vendor/swagger-ui/swagger-ui.css")


@pytest.mark.parametrize("file", SERVED)
def test_what_the_documentation_is_made_of_names_no_other_host(file: str) -> None:
    text = (system.STATIC / file).read_text(encoding="utf-8")
    # The names of namespaces of SVG are no addresses: nothing is fetched from them.
    addresses = set(
        re.findall(
            r"(?:https?:)?//[a-z0-9][a-z0-9.-]*\.[a-z]{2,}", re.sub(r"//.*", "", text) if file.endswith(".js") else text
        )
    )
    assert addresses <= {"http://www.w3.org"}


def test_the_page_of_a_model_finds_its_parts_two_folders_up(client: TestClient) -> None:
    page = client.get("/docs/models/digits-cnn")
    assert "digits-cnn" in page.text
    assert page.headers["Content-Security-Policy"] == client.get("/docs").headers["Content-Security-Policy"]
    for path in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert client.get(str(httpx.URL("http://localhost/docs/models/digits-cnn").join(path).path)).status_code == 200
    assert client.get("/docs/models/Not..A-Name").status_code == 404


def test_the_policy_of_the_documentation_lets_nothing_leave_the_host(client: TestClient) -> None:
    policy = dict(
        part.strip().split(" ", 1) for part in client.get("/docs").headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert set(" ".join(policy.values()).split()) <= {"'none'", "'self'", "'unsafe-inline'", "data:"}


def test_vendored_files_are_unchanged() -> None:
    sums = dict(reversed(line.split("  ")) for line in (VENDOR / "SHA256SUMS").read_text().splitlines())
    present = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.iterdir()
        if path.name != "SHA256SUMS"
    }
    assert present == sums
    assert "Apache License" in (VENDOR / "LICENSE").read_text()


def test_static_files_do_not_leave_their_folder(client: TestClient) -> None:
    for path in ("/static/../main.py", "/static/%2e%2e/main.py", "/static/..%2f..%2fmain.py", "/static//etc/passwd"):
        assert client.get(path).status_code == 404


def test_the_page_is_part_of_the_package() -> None:
    assert (system.STATIC / "docs.html").is_file()
