"""Predictions that cannot be made: every row of the table of bad input that no other file of tests holds."""

import gzip
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from app.domain.errors import InvalidInputError
from app.domain.models import InputSignature
from app.domain.prediction_errors import InvalidInputValueError
from app.serving.inputs import inputs_to_rows, instances_to_rows
from tests.api.builders import assert_problem

JSON = {"Content-Type": "application/json"}
PREDICT = "/v1/models/pets-cnn:predict"


def row_with(value: str) -> bytes:
    return f'{{"instances": [[[[0.0], [{value}]], [[2.0], [3.0]]]]}}'.encode()


BODIES = [
    ("a byte order mark", b'\xef\xbb\xbf{"instances": []}', 400, "malformed-json", "not JSON"),
    ("UTF-16", '{"instances": []}'.encode("utf-16"), 400, "malformed-json", "not UTF-8"),
    ("not UTF-8", b'{"instances": ["\xff"]}', 400, "malformed-json", "not UTF-8"),
    ("two documents", row_with("1") * 2, 400, "malformed-json", "Extra data"),
    ("half a surrogate pair", row_with('"\\ud800"'), 422, "invalid-string", "surrogate"),
    ("NaN", row_with("NaN"), 422, "invalid-input-value", "[0][0][1][0] is nan"),
    ("Infinity", row_with("-Infinity"), 422, "invalid-input-value", "[0][0][1][0] is -inf"),
    ("1e999", row_with("1e999"), 422, "invalid-input-value", "[0][0][1][0] is inf"),
    ("a number as text", row_with('"1.0"'), 422, "invalid-input-value", "[0][0][1][0] is '1.0'"),
    ("false", row_with("false"), 422, "invalid-input-value", "[0][0][1][0] is False"),
    ("null", row_with("null"), 422, "invalid-input-value", "[0][0][1][0] is None"),
    ("an object", row_with('{"b64": "AAAA"}'), 422, "invalid-input-value", "[0][0][1][0] is {"),
    ("5,000 digits", row_with("9" * 5000), 422, "number-out-of-range", "64 bits"),
    ("one list too deep", row_with("[1.0]"), 422, "ragged-input", "Row 0"),
    ("60 levels", b'{"instances": ' + b"[" * 60 + b"1" + b"]" * 60 + b"}", 422, "input-shape-mismatch", "2, 2, 1]"),
    ("100,000 levels", b'{"instances": ' + b"[" * 100_000, 400, "malformed-json", "64 levels"),
    ("a wide row", b'{"instances": [[' + b"0," * 400_000 + b"0]]}", 422, "input-shape-mismatch", "got [1, 400001]"),
    ("many rows", b'{"instances": [' + b"0," * 400_000 + b"0]}", 413, "batch-too-large", "10,000"),
    ("empty axes", b'{"instances": [[[[], []], [[], []]]]}', 422, "empty-input", "[1, 2, 2, 0]"),
    ("two tensors", b'{"inputs": {"x": [[0]], "y": [[0]]}}', 422, "input-shape-mismatch", "takes `x`"),
    ("no tensor", b'{"inputs": {}}', 422, "input-shape-mismatch", "takes `x`"),
    ("one value", b'{"inputs": 5}', 422, "input-shape-mismatch", "`x` takes float32 [batch, 2, 2, 1]"),
    ("text alone", b'{"inputs": "owl"}', 422, "input-shape-mismatch", "`x` takes float32 [batch, 2, 2, 1]"),
    ("a row of another form", b'{"instances": [{"x": [0]}, [0]]}', 422, "input-shape-mismatch", "instances[1]"),
    ("an unknown name of 100 kB", b'{"' + b"k" * 100_000 + b'": 1}', 422, "unknown-field", "kkk"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code", "slug", "told"), [case[1:] for case in BODIES], ids=[case[0] for case in BODIES]
)
def test_a_wrong_body_is_refused(refusing: TestClient, body: bytes, code: int, slug: str, told: str) -> None:
    answer = refusing.post(PREDICT, content=body, headers=JSON)
    problem = assert_problem(answer, code, slug)
    assert told in problem["detail"]
    assert problem["error"] == problem["detail"]
    assert len(answer.content) < 2000, "a problem does not repeat what was sent"


ROWS = b"[[[[0.0],[1.0]],[[2.0],[3.0]]]]"
DEEP = b"[" * 1000 + b"1" + b"]" * 1000


@pytest.mark.parametrize(
    ("body", "code", "slug"),
    [
        (b'{"instances":' + DEEP + b"}", 400, "malformed-json"),
        (b'{"instances":' + DEEP + b',"members":true}', 400, "malformed-json"),
        (b'{"instances":' + ROWS + b',"instances":' + ROWS + b"}", 400, "malformed-json"),
        (b'{"instances":[{"x":' + ROWS[1:-1] + b',"x":' + ROWS[1:-1] + b"}]}", 400, "malformed-json"),
        (b'{"instances":' + ROWS + b',"signature_name":7}', 422, "invalid-request"),
        (b'{"instances":' + ROWS + b',"signature_name":"\\u0000"}', 422, "invalid-string"),
        (b'{"instances":[[[[0.0],[36893488147419103232]],[[2.0],[3.0]]]]}', 422, "number-out-of-range"),
    ],
)
def test_what_only_a_strict_reader_sees_is_refused(refusing: TestClient, body: bytes, code: int, slug: str) -> None:
    assert_problem(refusing.post(PREDICT, content=body, headers=JSON), code, slug)


def test_a_long_text_among_numbers_is_refused_without_much_memory() -> None:
    tracemalloc.start()
    with pytest.raises(InvalidInputValueError, match=r"\[0\] is 'aaaa"):
        instances_to_rows(["a" * 1_000_000, *([1] * 5000)], IMAGE)
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


def test_a_compressed_body_is_refused(refusing: TestClient) -> None:
    content = gzip.compress(b'{"instances":' + ROWS + b"}")
    answer = refusing.post(PREDICT, content=content, headers={**JSON, "Content-Encoding": "gzip"})
    assert_problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize("path", [PREDICT, "/v1/models/pets-cnn:classify", "/v1/ensembles/pets-duo:predict"])
@pytest.mark.parametrize("media_type", ["application/xml", "image/png", "multipart/form-data; boundary=x", "x"])
def test_another_media_type_is_refused(refusing: TestClient, path: str, media_type: str) -> None:
    answer = refusing.post(path, content=b"<x/>", headers={"Content-Type": media_type})
    assert_problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize("path", [PREDICT, "/v1/models/pets-cnn:classify", "/v1/ensembles/pets-duo:predict"])
def test_a_body_beyond_the_limit_is_refused(refusing: TestClient, path: str) -> None:
    answer = refusing.post(path, content=b" " * 10_000_000, headers=JSON)
    assert_problem(answer, 413, "payload-too-large")
    assert answer.headers["Connection"] == "close"


PIXELS = InputSignature(shape=(2,), dtype="uint8")
IMAGE = InputSignature(shape=(2, 1), dtype="uint8")


@pytest.mark.parametrize(
    ("value", "place"),
    [(300, "[1][0][0] is 300"), (256, "[1][0][0] is 256"), (-1, "[1][0][0] is -1"), (0.5, "[1][0][0] is 0.5")],
)
@pytest.mark.parametrize("read", [instances_to_rows, inputs_to_rows])
def test_a_byte_is_an_integer_from_0_to_255(read: Any, value: float, place: str) -> None:
    with pytest.raises(InvalidInputValueError) as refused:
        read([[[0], [255]], [[value], [1]]], IMAGE)
    assert place in refused.value.detail


@pytest.mark.parametrize("text", [{"b64": "%"}, {"b64": "AAA"}, {"b64": "/w=="}, {"b64": None}, {"b65": "AAAA"}, 7])
def test_wrong_base64_is_refused_with_its_place(text: Any) -> None:
    with pytest.raises(InvalidInputError) as refused:
        instances_to_rows(["owl", text], PIXELS)
    assert "[1]" in refused.value.detail


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x", "b64", "y"]), inner, max_size=2),
    max_leaves=20,
)


@given(ANYTHING, st.sampled_from([PIXELS, IMAGE, InputSignature(shape=(2,), dtype="float32")]))
def test_whatever_is_sent_is_rows_or_a_refusal(sent: Any, signature: InputSignature) -> None:
    for read in (instances_to_rows, inputs_to_rows):
        try:
            rows = read(sent, signature)
        except InvalidInputError:
            continue
        assert rows.shape[1:] == signature.shape
        assert rows.dtype == signature.dtype
        assert np.isfinite(rows).all()


@pytest.mark.parametrize(
    "query",
    [
        "x=1,2,3,1e999",
        "x=1,2,3,-inf",
        "x=,,,",
        "x=1,2,3,0x10",
        "x=1,2,3,4%00",
        "x=1;2;3;4",
        "x=1,2,3,4&x=1",
        "x=1,2,3,1_0",
        "x=1,2,3,%D9%A3",
    ],
)
def test_wrong_values_in_a_query_are_refused(refusing: TestClient, query: str) -> None:
    answer = refusing.get(f"/v1/models/pets-cnn/predictions?{query}")
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) in {
        (422, "invalid-input-value"),
        (422, "input-shape-mismatch"),
    }


@pytest.mark.parametrize("query", ["limit=x", "members=maybe", "version=0", "version=x", f"offset={2**31}", "alias=A"])
def test_wrong_parameters_of_predictions_are_refused(refusing: TestClient, query: str) -> None:
    answer = refusing.get(f"/v1/models/pets-cnn/predictions?dataset=pets&{query}")
    problem = assert_problem(answer, 422, answer.json()["type"].rpartition("/")[2])
    assert problem["errors"][0]["pointer"] == f"/query/{query.partition('=')[0]}"


def test_more_than_a_hundred_rows_in_a_query_are_refused(refusing: TestClient) -> None:
    answer = refusing.get("/v1/models/pets-cnn/predictions?" + "&".join(["x=1,2,3,4"] * 101))
    assert_problem(answer, 422, "out-of-range")


FILE = "/v1/models/pets-cnn/versions/1/artifacts/model.onnx"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-0,1-1",
        "bytes=" + ",".join(f"{place}-{place}" for place in range(10_000)),
        "bytes=10000000-",
        "bytes=-0",
    ],
)
def test_a_range_that_cannot_be_sent_is_refused(refusing: TestClient, asked: str) -> None:
    answer = refusing.get(FILE, headers={"Range": asked})
    assert_problem(answer, 416, "range-not-satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{len(refusing.get(FILE).content)}"


@pytest.mark.parametrize(
    "asked", ["lines=1-2", "bytes=5-2", "bytes=a-b", "bytes=", "bytes=-", "bytes=" + "9" * 50 + "-"]
)
def test_a_range_that_is_none_is_not_looked_at(refusing: TestClient, asked: str) -> None:
    answer = refusing.get(FILE, headers={"Range": asked})
    assert answer.status_code == 200
    assert answer.content == refusing.get(FILE).content


@pytest.mark.parametrize(
    ("asked", "chosen"), [("bytes=0-0", slice(1)), ("bytes=4-7", slice(4, 8)), ("bytes=-3", slice(-3, None))]
)
def test_one_range_is_sent(refusing: TestClient, asked: str, chosen: slice) -> None:
    answer = refusing.get(FILE, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == refusing.get(FILE).content[chosen]
