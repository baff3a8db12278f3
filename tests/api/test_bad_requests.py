"""Whatever a client sends, the answer is the exact problem, and nothing is changed (every endpoint, names, paging)."""

import json
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.api.builders import Registry, assert_problem

JSON = {"Content-Type": "application/json"}
SPEC = {"kind": "train", "name": "a", "dataset": "pets", "architecture": {"type": "mlp"}}


def text(**changes: object) -> bytes:
    return json.dumps({**SPEC, **changes}).encode()


def nested(levels: int) -> bytes:
    return b'{"tags": ' + b"[" * levels + b"]" * levels + b"}"


BODIES = [
    ("not JSON", b"{", 400, "malformed-json"),
    ("cut off", text()[:-4], 400, "malformed-json"),
    ("empty", b"", 400, "malformed-json"),
    ("two documents", text() + text(), 400, "malformed-json"),
    ("a byte order mark and UTF-16", text().decode().encode("utf-16"), 400, "malformed-json"),
    ("a byte order mark", b"\xef\xbb\xbf" + text(), 400, "malformed-json"),
    ("not UTF-8", b'{"name": "\xff"}', 400, "malformed-json"),
    ("a key twice", b'{"kind": "train", "kind": "train"}', 400, "malformed-json"),
    ("a key twice, deep down", b'{"training": {"epochs": 1, "epochs": 2}}', 400, "malformed-json"),
    ("65 levels", nested(65), 400, "malformed-json"),
    ("100,000 levels", b"[" * 100_000, 400, "malformed-json"),
    ("NaN", b'{"seed": NaN}', 422, "non-finite-number"),
    ("Infinity", b'{"seed": -Infinity}', 422, "non-finite-number"),
    ("1e999", b'{"seed": 1e999}', 422, "non-finite-number"),
    ("U+0000", text(tags={"a": "\0"}), 422, "invalid-string"),
    ("U+0000 in a key", text(tags={"\0": "a"}), 422, "invalid-string"),
    ("half a surrogate pair", b'{"name": "\\ud800"}', 422, "invalid-string"),
    ("an integer beyond 64 bits", b'{"seed": 9223372036854775808}', 422, "number-out-of-range"),
    ("5,000 digits", b'{"seed": ' + b"9" * 5000 + b"}", 422, "number-out-of-range"),
    ("an unknown field", text(epochs=3), 422, "unknown-field"),
    ("a field of the service", text(state="succeeded"), 422, "read-only-field"),
    ("a token", text(token=7), 422, "read-only-field"),
    ("a list", b"[]", 422, "invalid-request"),
    ("a body beyond the limit", b"[" + b" " * 1_000_000 + b"]", 413, "payload-too-large"),
]


@pytest.mark.parametrize(("body", "code", "slug"), [case[1:] for case in BODIES], ids=[case[0] for case in BODIES])
def test_a_broken_body_is_refused(refusing: TestClient, body: bytes, code: int, slug: str) -> None:
    answer = refusing.post("/v1/jobs", content=body, headers=JSON)
    assert_problem(answer, code, slug)


WRITES = [
    ("PUT", "/v1/models/pets-cnn/aliases/champion"),
    ("PATCH", "/v1/models/pets-cnn"),
    ("PATCH", "/v1/models/pets-cnn/versions/1"),
    ("POST", "/v1/datasets"),
]
UNREADABLE = [case for case in BODIES if case[3] not in {"unknown-field", "read-only-field"}]


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_every_body_is_read_as_strictly(refusing: TestClient, method: str, path: str) -> None:
    for name, body, code, slug in UNREADABLE:
        answer = refusing.request(method, path, content=body, headers=JSON)
        assert (name, answer.status_code, answer.json()["type"]) == (name, code, f"/problems/{slug}")
    for media_type in ("", "text/plain", "application/x-www-form-urlencoded"):
        answer = refusing.request(method, path, content=b"{}", headers={"Content-Type": media_type})
        assert_problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("method", "path", "body", "slug"),
    [
        ("PUT", "/v1/models/pets-cnn/aliases/champion", {"version": 1, "state": "ready"}, "read-only-field"),
        ("PUT", "/v1/models/pets-cnn/aliases/champion", {"version": 1, "forced": True}, "unknown-field"),
        ("PUT", "/v1/models/pets-cnn/aliases/champion", {"version": True}, "invalid-request"),
        ("PUT", "/v1/models/pets-cnn/aliases/champion", {"version": "1"}, "invalid-request"),
        ("PUT", "/v1/models/pets-cnn/aliases/champion", {"version": 0}, "out-of-range"),
        ("PUT", "/v1/models/pets-cnn/aliases/champion", {"version": 2**31}, "out-of-range"),
        ("PATCH", "/v1/models/pets-cnn", {"description": None}, "invalid-request"),
        ("PATCH", "/v1/models/pets-cnn", {"description": "a" * 10_001}, "out-of-range"),
        ("PATCH", "/v1/models/pets-cnn/versions/1", {"tags": {"a": 1}}, "invalid-request"),
        ("PATCH", "/v1/models/pets-cnn/versions/1", {"tags": {"": "a"}}, "out-of-range"),
        ("PATCH", "/v1/models/pets-cnn/versions/1", {"tags": {str(tag): "a" for tag in range(51)}}, "out-of-range"),
        ("POST", "/v1/datasets", {"builtin": "moons"}, "unknown-component"),
        ("POST", "/v1/datasets", {"builtin": "digits", "name": "../digits"}, "invalid-name"),
    ],
)
def test_wrong_fields_of_the_registry_are_refused(
    refusing: TestClient, method: str, path: str, body: dict[str, object], slug: str
) -> None:
    problem = assert_problem(refusing.request(method, path, json=body), 422, slug)
    assert problem["errors"][0]["pointer"].startswith("/")


HEADERS = [
    ("no media type", {"Content-Type": ""}, 415, "unsupported-media-type"),
    ("another media type", {"Content-Type": "text/plain"}, 415, "unsupported-media-type"),
    ("a compressed body", {**JSON, "Content-Encoding": "gzip"}, 415, "unsupported-media-type"),
    ("an empty key", {**JSON, "Idempotency-Key": ""}, 400, "invalid-idempotency-key"),
    ("a long key", {**JSON, "Idempotency-Key": "k" * 256}, 400, "invalid-idempotency-key"),
    ("a key with a tab", {**JSON, "Idempotency-Key": "a\tb"}, 400, "invalid-idempotency-key"),
    ("another host", {**JSON, "Host": "evil.example"}, 400, "invalid-host"),
    ("no host", {**JSON, "Host": ""}, 400, "invalid-host"),
]


@pytest.mark.parametrize(("headers", "code", "slug"), [case[1:] for case in HEADERS], ids=[case[0] for case in HEADERS])
def test_wrong_headers_are_refused(refusing: TestClient, headers: dict[str, str], code: int, slug: str) -> None:
    assert_problem(refusing.post("/v1/jobs", content=text(), headers=headers), code, slug)


def test_a_chunked_body_is_cut_off_at_the_limit(refusing: TestClient) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 10_000
            yield b" " * 10_000

    assert_problem(refusing.post("/v1/jobs", content=chunks(), headers=JSON), 413, "payload-too-large")


PATHS = [
    ("GET", "/v1/nothing", 404, "not-found"),
    ("GET", "/v1/jobs/7", 404, "not-found"),
    ("GET", "/v1/jobs/00000000-0000-7000-8000-000000000000", 404, "job-not-found"),
    ("GET", "/v1/jobs/00000000-0000-7000-8000-000000000000/events", 404, "job-not-found"),
    ("GET", "/v1/jobs/00000000-0000-7000-8000-000000000000/metrics", 404, "job-not-found"),
    ("POST", "/v1/jobs/00000000-0000-7000-8000-000000000000:cancel", 404, "job-not-found"),
    ("POST", "/v1/jobs/00000000-0000-7000-8000-000000000000:retry", 404, "job-not-found"),
    ("GET", "/v1/datasets/nothing", 404, "not-found"),
    ("GET", "/v1/datasets/nothing/rows", 404, "not-found"),
    ("GET", "/v1/models/nothing", 404, "model-not-found"),
    ("GET", "/v1/models/nothing/metadata", 404, "model-not-found"),
    ("GET", "/v1/models/nothing/versions", 404, "model-not-found"),
    ("GET", "/v1/models/nothing/versions/1", 404, "model-not-found"),
    ("GET", "/v1/models/nothing/versions/0", 404, "not-found"),
    ("GET", f"/v1/models/nothing/versions/{10**30}", 404, "not-found"),
    ("GET", "/v1/models/nothing/versions/1/report", 404, "model-not-found"),
    ("GET", "/v1/models/nothing/versions/1/lineage", 404, "model-not-found"),
    ("GET", "/v1/models/nothing/versions/1/artifacts/model.onnx", 404, "model-not-found"),
    ("GET", "/v1/models/nothing/aliases/a/history", 404, "model-not-found"),
    ("POST", "/v1/models/nothing/aliases/a:rollback", 404, "model-not-found"),
    ("DELETE", "/v1/models/nothing/aliases/a", 404, "model-not-found"),
    ("GET", "/v1/ensembles/nothing", 404, "model-not-found"),
    ("GET", "/v1/ensembles/nothing/predictions?x=1", 404, "model-not-found"),
    ("GET", "/problems/nothing", 404, "not-found"),
    ("DELETE", "/v1/jobs", 405, "method-not-allowed"),
    ("PUT", "/v1/models/a", 405, "method-not-allowed"),
    ("GET", "/v1/jobs/00000000-0000-7000-8000-000000000000:cancel", 405, "method-not-allowed"),
    ("GET", "/v1/jobs?page_size=-1", 422, "out-of-range"),
    ("GET", "/v1/jobs?page_size=x", 422, "invalid-request"),
    ("GET", "/v1/jobs?page_token=AAAA", 400, "invalid-page-token"),
    ("GET", "/v1/jobs?page_token=%25%00", 400, "invalid-page-token"),
    ("GET", "/v1/jobs?filter=state%3D'x'", 400, "invalid-filter"),
    ("GET", "/v1/jobs?order_by=nothing", 400, "invalid-filter"),
    ("GET", "/v1/jobs?filter=" + "a" * 10_000, 400, "invalid-filter"),
    ("GET", "/v1/jobs?';DROP%20TABLE%20jobs;--=1", 400, "invalid-filter"),
    ("GET", "/v1/models/pets-cnn/versions?order_by=(a%2B)%2B", 400, "invalid-filter"),
    ("GET", "/v1/ensembles?page_token=" + "A" * 3000, 422, "out-of-range"),
    ("GET", "/v1/jobs/00000000-0000-7000-8000-000000000000/events?after=x", 404, "job-not-found"),
    ("GET", "/v1/jobs?state=exploded", 422, "unknown-component"),
    ("GET", "/v1/jobs?parent_id=x", 422, "invalid-request"),
    ("GET", "/v1/models?tag=a", 400, "invalid-filter"),
    ("GET", "/v1/datasets?a=b", 400, "invalid-filter"),
    ("GET", "/v1/datasets/pets/rows?set=test", 422, "unknown-component"),
    ("GET", "/v1/datasets/pets/rows?limit=0", 422, "out-of-range"),
    ("GET", "/v1/compare?x=beauty", 422, "unknown-component"),
]


@pytest.mark.parametrize(("method", "path", "code", "slug"), PATHS, ids=[f"{case[0]} {case[1]}"[:60] for case in PATHS])
def test_a_wrong_path_or_parameter_is_refused(
    refusing: TestClient, method: str, path: str, code: int, slug: str
) -> None:
    assert_problem(refusing.request(method, path), code, slug)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/jobs", "GET, POST"),
        ("/v1/jobs/00000000-0000-7000-8000-000000000000:cancel", "POST"),
        ("/v1/models/a/aliases/b", "DELETE, PUT"),
        ("/v1/models/a/versions/1", "DELETE, GET, PATCH"),
    ],
)
def test_a_wrong_method_is_told_every_right_one(refusing: TestClient, path: str, allowed: str) -> None:
    answer = refusing.request("OPTIONS", path)
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == allowed


NAMES = [
    "",
    "a" * 64,
    "..",
    "a..b",
    "a/b",
    "a\\b",
    "CON",
    "Mixed",
    "émoji",
    "🦉",
    "a\u202eb",
    ".a",
    "a.",
    "a ",
    " a",
    "-a",
    "a@b",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_name_in_a_body_is_refused(refusing: TestClient, name: str) -> None:
    assert_problem(refusing.post("/v1/jobs", content=text(name=name), headers=JSON), 422, "invalid-name")


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "%2e%2e%2f", "%252e%252e", "a%2fb", "a%5cb", "CON", "%00", "a..b", "a" * 64]
)
@pytest.mark.parametrize(
    "path", ["/v1/models/{}", "/v1/datasets/{}", "/v1/ensembles/{}", "/v1/models/{}/versions/1/artifacts/{}"]
)
def test_a_wrong_name_in_a_path_names_nothing(refusing: TestClient, path: str, name: str) -> None:
    answer = refusing.get(path.replace("{}", name))
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_page_token_serves_one_list_with_one_filter(client: TestClient, registry: Registry) -> None:
    registry.add_dataset("one")
    registry.add_dataset("two")
    token = client.get("/v1/datasets?page_size=1").json()["next_page_token"]
    changed = ("A" if token[0] != "A" else "B") + token[1:]
    assert client.get(f"/v1/datasets?page_token={token}").json()["datasets"][0]["name"] == "two"
    assert_problem(client.get(f"/v1/models?page_token={token}"), 400, "invalid-page-token")
    assert_problem(client.get(f"/v1/jobs?state=queued&page_token={token}"), 400, "invalid-page-token")
    assert_problem(client.get(f"/v1/datasets?page_token={changed}"), 400, "invalid-page-token")


def test_sizes_of_pages_are_coerced(client: TestClient, registry: Registry) -> None:
    for index in range(3):
        registry.add_dataset(f"set-{index}")
    sizes = {size: len(client.get(f"/v1/datasets?page_size={size}").json()["datasets"]) for size in (0, 2, 5000)}
    assert sizes == {0: 3, 2: 2, 5000: 3}


@pytest.mark.parametrize(
    ("path", "pointer", "hint"),
    [
        (
            "/v1/models/pets-cnn/predictions?dataset=pets&limit=0",
            "/query/limit",
            "Allowed: at least 1 and at most 1,000.",
        ),
        ("/v1/jobs?page_size=x", "/query/page_size", "At most 1000; 0 or none: 50."),
        ("/v1/jobs?colour=red", "/query/colour", "Allowed: children, kind, name, parent_id, state."),
        ("/v1/jobs?state=done", "/query/state", "Allowed: queued, running, succeeded, failed, cancelled."),
    ],
)
def test_a_wrong_parameter_is_told_with_all_that_is_allowed(
    refusing: TestClient, path: str, pointer: str, hint: str
) -> None:
    problem = refusing.get(path).json()
    assert problem["hint"] == hint
    assert [field["pointer"] for field in problem["errors"]] == [pointer]


def test_a_name_that_is_missing_is_no_wrong_name(refusing: TestClient) -> None:
    problem = assert_problem(refusing.post("/v1/datasets", json={}), 422, "invalid-request")
    assert problem["errors"][0]["pointer"] == "/name"
    assert "required" in problem["detail"]
