"""Data sets over HTTP: builtins, uploads, rows, refusals."""

import io
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.api.builders import assert_problem

CSV = "a,b,label\n" + "".join(f"{index},{index * 2},{'even' if index % 2 == 0 else 'odd'}\n" for index in range(40))


def upload(client: TestClient, content: bytes, filename: str, **fields: Any) -> Any:
    return client.post("/v1/datasets", data={"name": "mine", **fields}, files={"file": (filename, content)})


def test_a_builtin_is_added_once(client: TestClient) -> None:
    first = client.post("/v1/datasets", json={"builtin": "digits"})
    assert first.status_code == 201, first.text
    assert first.headers["Location"] == "/v1/datasets/digits"
    assert first.json()["schema"]["shape"] == [8, 8, 1]
    assert sum(first.json()["schema"]["rows"].values()) == 1797
    again = client.post("/v1/datasets", json={"builtin": "digits"})
    assert (again.status_code, again.json()["digest"]) == (200, first.json()["digest"])
    assert client.get("/v1/datasets/digits").json()["digest"] == first.json()["digest"]
    rows = client.get("/v1/datasets/digits/rows?set=train&offset=5&limit=2").json()
    assert [row["row"] for row in rows["rows"]] == [5, 6]
    assert np.shape(rows["rows"][0]["x"]) == (8, 8, 1)
    assert rows["rows"][0]["label"] == str(rows["rows"][0]["y"])


def test_a_csv_is_uploaded_with_options(client: TestClient) -> None:
    answer = upload(
        client, CSV.encode(), "mine.csv", seed="3", split='{"train": 0.5, "selection": 0.25, "report": 0.25}'
    )
    assert answer.status_code == 201, answer.text
    schema = answer.json()["schema"]
    assert (schema["features"], schema["columns"], schema["classes"]) == ("table", ["a", "b"], ["even", "odd"])
    assert schema["rows"]["train"] == 20
    assert client.get("/v1/datasets").json()["datasets"][0]["name"] == "mine"


def test_row_weights_show_in_the_schema_and_beside_the_rows(client: TestClient) -> None:
    lines = [f"{row},{row % 3},{'ab'[row % 2]}" for row in range(40)]
    answer = upload(client, "\n".join(["a,sure,label", *lines]).encode(), "mine.csv", weight="sure")
    assert answer.status_code == 201, answer.text
    assert answer.json()["notes"][0].startswith("14 of 40 rows have the weight 0")
    shown = client.get("/v1/datasets/mine").json()["schema"]
    assert (shown["row_weights"], shown["columns"]) == (True, ["a"])
    rows = client.get("/v1/datasets/mine/rows?set=train&offset=3&limit=9").json()["rows"]
    assert [row["weight"] for row in rows] == [row["x"][0] % 3 for row in rows]
    assert upload(client, CSV.encode(), "mine.csv", name="plain").status_code == 201
    assert "row_weights" not in client.get("/v1/datasets/plain").json()["schema"]
    assert client.get("/v1/datasets/plain/rows?limit=1").json()["rows"][0]["weight"] is None


def test_a_wrong_row_weight_is_a_problem_with_its_line(refusing: TestClient) -> None:
    answer = upload(refusing, b"a,sure,label\n1,1,x\n2,-1,y\n", "a.csv", weight="sure")
    problem = assert_problem(answer, 422, "weight-out-of-range")
    assert "-1 at line 3 in `sure` is below 0" in problem["detail"]
    assert "from 0 to 3.4e38" in problem["hint"]
    assert problem["errors"][0]["detail"] == "line 3, `sure`"
    unlabelled = upload(refusing, b"a,sure\n1,1\n2,1\n", "a.csv", weight="sure", task="unlabelled")
    assert assert_problem(unlabelled, 422, "invalid-request")["errors"][0]["pointer"] == "/options/weight"


def test_a_training_that_mixes_rows_is_refused_where_rows_have_weights(client: TestClient) -> None:
    lines = [f"{row},{1 + row % 3},{'ab'[row % 2]}" for row in range(40)]
    table = "\n".join(["a,sure,label", *lines]).encode()
    assert upload(client, table, "mine.csv", weight="sure").status_code == 201
    assert upload(client, table, "mine.csv", name="plain").status_code == 201
    spec = {"kind": "train", "name": "new", "architecture": {"type": "mlp"}, "training": {"batch_size": 8}}
    mixed = spec | {"training": {"batch_size": 8, "augmentation": {"mixup": 0.2}}}
    refused = client.post("/v1/jobs?validate_only=true", json=mixed | {"dataset": "mine"})
    problem = assert_problem(refused, 422, "out-of-range")
    assert problem["errors"][0]["pointer"] == "/training/augmentation/mixup"
    for name, body in (("plain", mixed), ("mine", spec)):
        assert client.post("/v1/jobs?validate_only=true", json=body | {"dataset": name}).status_code == 200


def test_a_name_belongs_to_one_content(client: TestClient) -> None:
    assert upload(client, CSV.encode(), "mine.csv").status_code == 201
    assert_problem(upload(client, CSV.replace("39,78", "39,79").encode(), "mine.csv"), 409, "already-exists")


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


X, Y = np.zeros((20, 4), dtype=np.float32), np.arange(20) % 2
UPLOADS = [
    ("truncated NPZ", npz(x=X, y=Y)[:-200], "a.npz", {}, 422),
    ("objects", npz(x=X, y=np.array([{}] * 20, dtype=object)), "a.npz", {}, 422),
    ("empty", b"", "a.csv", {}, 422),
    ("ragged CSV", b"a,label\n1,x\n1,2,y\n", "a.csv", {}, 422),
    ("wrong name", CSV.encode(), "a.csv", {"name": "../x"}, 422),
    ("unknown option", CSV.encode(), "a.csv", {"colour": "red"}, 422),
    ("wrong option", CSV.encode(), "a.csv", {"seed": "-1"}, 422),
    ("broken options", CSV.encode(), "a.csv", {"options": "{"}, 400),
]


@pytest.mark.parametrize(
    ("content", "filename", "fields", "code"), [case[1:] for case in UPLOADS], ids=[case[0] for case in UPLOADS]
)
def test_a_wrong_upload_leaves_nothing_behind(
    refusing: TestClient, content: bytes, filename: str, fields: dict[str, str], code: int
) -> None:
    answer = upload(refusing, content, filename, **fields)
    assert_problem(answer, code, answer.json()["type"].removeprefix("/problems/"))


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        ({"builtin": "mnist"}, "unknown-component"),
        ({"name": "x"}, "invalid-request"),
        ({"builtin": "digits", "url": "http://169.254.169.254/"}, "unknown-field"),
        ([], "invalid-request"),
    ],
)
def test_a_wrong_builtin_is_refused(refusing: TestClient, body: Any, slug: str) -> None:
    assert_problem(refusing.post("/v1/datasets", json=body), 422, slug)


def test_a_form_without_a_file_is_refused(refusing: TestClient) -> None:
    answer = refusing.post("/v1/datasets", files={"name": (None, "mine")})
    assert assert_problem(answer, 422, "invalid-request")["errors"][0]["pointer"] == "/file"


def test_a_broken_form_is_refused(refusing: TestClient) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert_problem(refusing.post("/v1/datasets", content=b"--y\r\n", headers=headers), 400, "malformed-request")
    assert_problem(
        refusing.post("/v1/datasets", content=b"", headers={"Content-Type": "multipart/form-data"}),
        415,
        "unsupported-media-type",
    )


def test_an_upload_beyond_the_limit_is_refused(refusing: TestClient) -> None:
    assert_problem(upload(refusing, b" " * 2_000_001, "a.csv"), 413, "payload-too-large")
