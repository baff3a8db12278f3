"""TensorFlow Serving's REST calls are answered as its own documentation says (`api_rest.md`)."""

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from app.domain.errors import InvalidInputError
from app.domain.models import InputSignature
from app.serving.examples import examples_to_rows
from app.serving.inputs import MOST_ROWS, instances_to_rows
from tests.api.builders import CLASSES, ROW, Registry, assert_problem
from tests.api.conftest import Refusing

FLAT = [0.0, 1.0, 2.0, 3.0]
AVAILABLE = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}


@pytest.fixture(scope="module")
def served(shared: Refusing) -> TestClient:
    """Serve a regression, and an alias, beside what the module's application has."""
    shared.registry.add_dataset("prices", task="regression", classes=())
    shared.registry.add_model("prices-mlp", dataset="prices")
    shared.client.put("/v1/models/pets-cnn/aliases/champion", json={"version": 1})
    return shared.client


def predictions(client: TestClient, path: str, rows: list[Any]) -> list[list[float]]:
    found: list[list[float]] = client.post(f"{path}:predict", json={"instances": rows}).json()["predictions"]
    return found


@pytest.mark.parametrize(
    "path", ["/v1/models/pets-cnn", "/v1/models/pets-cnn/versions/1", "/v1/models/pets-cnn/labels/champion"]
)
def test_classify_pairs_every_class_with_its_probability_in_the_models_order(served: TestClient, path: str) -> None:
    answer = served.post(f"{path}:classify", json={"examples": [{"x": FLAT}, {"x": [3.0, 2.0, 1.0, 0.0]}]})
    assert answer.status_code == 200, answer.text
    expected = predictions(served, path, [ROW, [[[3.0], [2.0]], [[1.0], [0.0]]]])
    assert answer.json()["results"] == [list(map(list, zip(CLASSES, row, strict=True))) for row in expected]
    assert (answer.json()["model"], answer.json()["version"]) == ("pets-cnn", 1)


@pytest.mark.parametrize("path", ["/v1/models/prices-mlp", "/v1/models/prices-mlp/versions/1"])
def test_regress_answers_one_value_per_example(served: TestClient, path: str) -> None:
    answer = served.post(f"{path}:regress", json={"examples": [{"x": FLAT}, {"x": ROW}]})
    ((value,),) = predictions(served, path, [ROW])
    assert answer.json()["results"] == pytest.approx([value, value])


def test_an_ensemble_is_classified_with_like_any_model(served: TestClient) -> None:
    results = served.post("/v1/models/pets-duo:classify", json={"examples": [{"x": ROW}]}).json()["results"]
    assert [score for _, score in results[0]] == predictions(served, "/v1/models/pets-duo", [ROW])[0]


def test_a_feature_of_the_context_is_that_of_every_example(served: TestClient) -> None:
    body = {"signature_name": "serving_default", "context": {"x": FLAT}, "examples": [{}, {}]}
    results = served.post("/v1/models/pets-cnn:classify", json=body).json()["results"]
    assert results[0] == results[1]
    assert len(results) == 2


@pytest.mark.parametrize("media_type", ["application/json", "application/x-www-form-urlencoded", "text/plain", ""])
def test_a_body_may_come_as_curl_sends_it(served: TestClient, media_type: str) -> None:
    body = '{"examples": [{"x": [0, 1, 2, 3]}]}'
    answer = served.post("/v1/models/pets-cnn:classify", content=body, headers={"Content-Type": media_type})
    assert answer.status_code == 200


REFUSED: list[tuple[str, Any, int, str, str]] = [
    ("no examples", {"examples": []}, 422, "empty-input", "no rows"),
    ("no list", {"examples": {"x": FLAT}}, 422, "invalid-request", "/examples"),
    ("nothing", {}, 422, "invalid-request", "/examples"),
    ("a list", [{"x": FLAT}], 422, "invalid-request", ""),
    ("no object", {"examples": [FLAT]}, 422, "invalid-request", "/examples/0"),
    ("instances", {"instances": [ROW]}, 422, "unknown-field", "instances"),
    ("another feature", {"examples": [{"y": FLAT}]}, 422, "input-shape-mismatch", "the model takes `x`"),
    ("one feature more", {"examples": [{"x": FLAT, "y": 1}]}, 422, "input-shape-mismatch", "features x, y"),
    (
        "one without",
        {"examples": [{"x": FLAT}, {}]},
        422,
        "input-shape-mismatch",
        "examples[1] has the features nothing",
    ),
    ("a feature twice", {"context": {"x": FLAT}, "examples": [{"x": FLAT}]}, 422, "invalid-request", "both have"),
    (
        "too few values",
        {"examples": [{"x": [0, 1, 2]}]},
        422,
        "input-shape-mismatch",
        "float32 [batch, 2, 2, 1]; got [1, 3]",
    ),
    ("one value", {"examples": [{"x": 1}]}, 422, "input-shape-mismatch", "float32 [batch, 2, 2, 1]; got [1]"),
    ("rows of two shapes", {"examples": [{"x": FLAT}, {"x": [1, 2]}]}, 422, "ragged-input", "another shape"),
    ("text", {"examples": [{"x": "cat"}]}, 422, "invalid-input-value", "'cat'"),
    ("numbers as text", {"examples": [{"x": ["0", "1", "2", "3"]}]}, 422, "invalid-input-value", "'0'"),
    ("a truth", {"examples": [{"x": [0, 1, True, 3]}]}, 422, "invalid-input-value", "True"),
    ("null", {"examples": [{"x": [0, 1, None, 3]}]}, 422, "invalid-input-value", "None"),
    ("a null feature", {"examples": [{"x": None}]}, 422, "invalid-input-value", "None"),
    ("bytes", {"examples": [{"x": {"b64": "AAAA"}}]}, 422, "invalid-input-value", "b64"),
    (
        "a name that is none",
        {"signature_name": 1, "examples": [{"x": FLAT}]},
        422,
        "invalid-request",
        "/signature_name",
    ),
    ("too many", {"examples": [{"x": 0}] * (MOST_ROWS + 1)}, 413, "batch-too-large", "10,001"),
]


@pytest.mark.parametrize(
    ("body", "code", "slug", "told"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_wrong_examples_are_refused(refusing: TestClient, body: Any, code: int, slug: str, told: str) -> None:
    problem = assert_problem(refusing.post("/v1/models/pets-cnn:classify", json=body), code, slug)
    assert told in problem["detail"]
    assert problem["error"] == problem["detail"], "TensorFlow Serving's clients read `error`"


@pytest.mark.parametrize(
    ("body", "code", "slug"),
    [
        (b'{"examples": [{"x": [0, 1, NaN, 3]}]}', 422, "invalid-input-value"),
        (b'{"examples": [{"x": [0, 1, -Infinity, 3]}]}', 422, "invalid-input-value"),
        (b'{"examples": [{"x": [0, 1, 1e999, 3]}]}', 422, "invalid-input-value"),
        (b'{"examples": [{"x": [0, 1, 1e300, 3]}]}', 422, "invalid-input-value"),
        (b'{"examples": [{"x": [0, 1, 99999999999999999999, 3]}]}', 422, "number-out-of-range"),
        (b'{"examples": [{"x": [0, 1, NaN, ' + b"9" * 5000 + b"]}]}", 422, "number-out-of-range"),
        (b'{"examples": [{"x": [0], "x": [1]}]}', 400, "malformed-json"),
        (b'{"examples": [], "examples": []}', 400, "malformed-json"),
        (b'{"examples": [NaN, ' + b"[" * 100_000, 400, "malformed-json"),
        (b'{"examples": [' + b"[" * 70 + b"]" * 70 + b"]}", 400, "malformed-json"),
        (b'{"examples": [{"x": "\\u0000"}]}', 422, "invalid-string"),
        (b'{"examples": [{"x": ', 400, "malformed-json"),
        (b"", 400, "malformed-json"),
    ],
)
def test_a_broken_body_is_refused(refusing: TestClient, body: bytes, code: int, slug: str) -> None:
    assert_problem(refusing.post("/v1/models/pets-cnn:classify", content=body), code, slug)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/v1/models/prices-mlp:classify", "prices-mlp/1 does regression, `:classify` needs classification."),
        ("/v1/models/pets-cnn:regress", "pets-cnn/1 does classification, `:regress` needs regression."),
        ("/v1/models/pets-cnn/labels/champion:regress", "pets-cnn/1 does classification"),
    ],
)
def test_another_task_is_refused(served: TestClient, path: str, told: str) -> None:
    problem = assert_problem(served.post(path, json={"examples": [{"x": FLAT}]}), 422, "task-mismatch")
    assert told in problem["detail"]
    assert problem["error"] == problem["detail"]


@pytest.mark.parametrize("verb", ["classify", "regress"])
@pytest.mark.parametrize(
    ("path", "slug"),
    [
        ("nobody", "model-not-found"),
        ("pets-cnn/versions/9", "model-not-found"),
        ("pets-cnn/labels/x", "model-not-found"),
    ],
)
def test_a_model_that_is_not_there_is_told(refusing: TestClient, path: str, slug: str, verb: str) -> None:
    answer = refusing.post(f"/v1/models/{path}:{verb}", json={"examples": [{"x": FLAT}]})
    assert "error" in assert_problem(answer, 404, slug)


@pytest.mark.parametrize("verb", ["predict", "classify", "regress"])
@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/v1/models/pets-cnn", "/v1/models/pets-cnn/versions/1"])
def test_a_verb_is_no_part_of_a_name(refusing: TestClient, path: str, method: str, verb: str) -> None:
    answer = refusing.request(method, f"{path}:{verb}")
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    "path", ["/v1/models/pets-cnn", "/v1/models/pets-cnn/versions/1", "/v1/models/pets-cnn/labels/champion"]
)
def test_the_state_of_versions_is_in_the_resource(served: TestClient, path: str) -> None:
    assert served.get(path).json()["model_version_status"] == [AVAILABLE]


def test_the_state_of_all_versions_is_in_the_model(client: TestClient, registry: Registry) -> None:
    registry.add_dataset()
    registry.add_model("pets-cnn")
    registry.add_model("pets-cnn", seed=1)
    states = client.get("/v1/models/pets-cnn").json()["model_version_status"]
    assert [(state["version"], state["state"]) for state in states] == [("2", "AVAILABLE"), ("1", "AVAILABLE")]
    assert client.get("/v1/models/pets-cnn/versions/1").json()["model_version_status"] == [AVAILABLE]


@pytest.mark.parametrize("path", ["pets-cnn", "pets-cnn/versions/1", "pets-cnn/labels/champion"])
def test_metadata_names_the_tensors(served: TestClient, path: str) -> None:
    found = served.get(f"/v1/models/{path}/metadata").json()
    assert found["model_spec"] == {"name": "pets-cnn", "signature_name": "", "version": "1"}
    signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert [axis["size"] for axis in signature["outputs"]["probabilities"]["tensor_shape"]["dim"]] == ["-1", "3"]


TEXT = InputSignature(shape=(8,), dtype="uint8")
IMAGE = InputSignature(shape=(2, 2, 3), dtype="uint8")


@pytest.mark.parametrize("value", ["owl é", ["owl é"], {"b64": base64.b64encode("owl é".encode()).decode()}])
def test_text_may_be_a_value_a_list_of_one_or_base64(value: Any) -> None:
    (row,) = examples_to_rows([{"x": value}], {}, TEXT)
    assert bytes(row) == "owl é".encode().ljust(8, b"\0")


@pytest.mark.parametrize(
    "value", [{"b64": "%%%"}, {"b64": "\x80"}, {"b64": "/w=="}, {"b64": 7}, {"base64": "b3ds"}, {}]
)
def test_base64_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError):
        examples_to_rows([{"x": value}], {}, TEXT)


@given(st.lists(st.lists(st.integers(0, 255), min_size=12, max_size=12), min_size=1, max_size=3))
def test_flat_values_are_in_c_order(flat: list[list[int]]) -> None:
    nested = np.array(flat).reshape(-1, 2, 2, 3).tolist()
    rows = examples_to_rows([{"x": values} for values in flat], {}, IMAGE)
    assert np.array_equal(rows, instances_to_rows(nested, IMAGE))


def test_one_value_is_a_row_of_one() -> None:
    rows = examples_to_rows([{"x": 1.5}, {"x": 2}], {}, InputSignature(shape=(1,), dtype="float32"))
    assert rows.tolist() == [[1.5], [2.0]]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x", "b64", "y"]), inner, max_size=2),
    max_leaves=12,
)


@given(JSON, st.sampled_from([TEXT, IMAGE, InputSignature(shape=(1,), dtype="float32")]))
def test_whatever_a_feature_holds_is_a_row_or_a_refusal(value: Any, signature: InputSignature) -> None:
    try:
        rows = examples_to_rows([{"x": value}], {}, signature)
    except InvalidInputError:
        return
    assert rows.shape == (1, *signature.shape)
    assert rows.dtype == signature.dtype
