"""What is written is what is read, and nothing that can be sent does anything but work or be refused."""

import contextlib
import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from app.api.v2 import compression
from app.api.v2.binary import json_length, read_texts, write_texts
from app.api.v2.datatypes import DTYPES, brain_floats, datatype_of, exactly
from app.api.v2.outputs import best_classes, offered
from app.api.v2.rows import array_of, raw_rows, rows_of
from app.api.v2.wire import Asked, InferRequest, Tensor, read_request, write_reply, write_tensor
from app.domain.errors import InvalidRequestError, LeanfuseError, PayloadTooLargeError
from app.domain.models import InputSignature, Link
from tests import factories

SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, max_side=5)
DTYPE = st.sampled_from([DTYPES[name] for name in DTYPES if name != "BF16"])
IN_JSON = DTYPE.filter(lambda dtype: dtype.name != "float16")
VALUES: Mapping[str, Any] = {"allow_nan": False, "allow_infinity": False}
TABLE = InputSignature(shape=(4,), dtype="float32")
TEXT = InputSignature(shape=(4,), dtype="uint8")


def numbers(dtype: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def of(chosen: Any) -> st.SearchStrategy[Any]:
        return arrays.arrays(chosen, SHAPES, elements=arrays.from_dtype(chosen, **VALUES))

    return dtype.flatmap(of)


def body_of(*tensors: tuple[str, Any, bool], **fields: Any) -> tuple[bytes, int]:
    """Write tensors as a client writes its request; return it with the length of its JSON."""
    written = [write_tensor(name, array, binary_data=binary) for name, array, binary in tensors]
    head = orjson.dumps({**fields, "inputs": [tensor for tensor, _ in written]}, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"".join([head, *(blob for _, blob in written if blob is not None)]), len(head)


@given(array=numbers(DTYPE))
def test_binary_numbers_come_back(array: Any) -> None:
    body, length = body_of(("x", array, True))
    (tensor,) = read_request(body, length).inputs
    assert tensor.datatype == datatype_of(array.dtype)
    np.testing.assert_array_equal(array_of(tensor), array, strict=True)


@given(array=numbers(IN_JSON))
def test_numbers_in_json_come_back(array: Any) -> None:
    body, _ = body_of(("x", array, False))
    (tensor,) = read_request(body, None).inputs
    np.testing.assert_array_equal(array_of(tensor), array, strict=True)


@given(array=numbers(IN_JSON))
def test_nested_numbers_come_back(array: Any) -> None:
    tensor = Tensor("x", datatype_of(array.dtype), array.shape, array.tolist())
    np.testing.assert_array_equal(array_of(tensor), array, strict=True)


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "i8"])
@pytest.mark.parametrize("nested", [False, True])
def test_large_numbers_are_read_as_others_are(dtype: str, nested: bool) -> None:
    array = (np.random.default_rng(0).normal(size=(50, 5, 4)) * 50 + 128).clip(0, 255).astype(dtype)
    fields = {"id": "a", "parameters": {"timeout": 5}, "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
    tensor = {**write_tensor("x", array, binary_data=False)[0], "data": (array if nested else array.ravel()).tolist()}
    quick = read_request(json.dumps({**fields, "inputs": [tensor]}).encode(), None)
    # A second input is never read the quick way.
    thorough = read_request(json.dumps({**fields, "inputs": [tensor, tensor]}).encode(), None)
    assert isinstance(quick.inputs[0].data, np.ndarray) is (dtype != "i8")
    assert isinstance(thorough.inputs[0].data, list)
    assert (quick.id, *quick[2:]) == (thorough.id, *thorough[2:])
    for request in (quick, thorough):
        np.testing.assert_array_equal(array_of(request.inputs[0]), array, strict=True)


@pytest.mark.parametrize("shape", [[2, 500], [1000, 1], [0, 4], [], [-1, 1000], [True, 1000], "1000", None])
def test_large_numbers_nested_in_another_way_than_their_shape_says_are_refused(shape: Any) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": shape, "data": np.zeros((500, 2)).tolist()}
    with pytest.raises(LeanfuseError):
        array_of(read_request(json.dumps({"inputs": [tensor]}).encode(), None).inputs[0])


@pytest.mark.parametrize("data", ["[[1, 2, 3], [4]]", "[[1, 2], 3, 4]", "[1, [2, 3, 4]]"])
def test_ragged_lists_are_refused_however_long_the_body_is(data: str) -> None:
    for padding in ("", " " * 5000):
        body = f'{{"inputs": [{{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": {data}{padding}}}]}}'
        with pytest.raises(LeanfuseError, match=r"differ in length|shape"):
            rows_of(read_request(body.encode(), None).inputs, TABLE)


@given(texts=st.lists(st.binary(max_size=20), max_size=5))
def test_elements_of_bytes_come_back(texts: list[bytes]) -> None:
    assert read_texts(memoryview(write_texts(texts)), len(texts), name="x") == texts


@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=6), min_size=1, max_size=5), binary=st.booleans())
def test_texts_become_the_same_rows_in_json_and_in_bytes(texts: list[str], binary: bool) -> None:
    encoded = np.array([text.encode() for text in texts], dtype=object)
    body, length = body_of(("x", encoded, binary))
    rows = rows_of(read_request(body, length).inputs, TEXT)
    for row, text in zip(rows, texts, strict=True):
        assert row.tobytes() == text.encode()[:4].ljust(4, b"\0")


@given(first=numbers(DTYPE), second=numbers(IN_JSON), third=numbers(DTYPE))
def test_inputs_in_json_and_in_bytes_are_mixed(first: Any, second: Any, third: Any) -> None:
    body, length = body_of(("a", first, True), ("b", second, False), ("c", third, True))
    for tensor, array in zip(read_request(body, length).inputs, (first, second, third), strict=True):
        np.testing.assert_array_equal(array_of(tensor), array, strict=True)


@given(array=numbers(DTYPE), lost=st.integers(-4, 4).filter(bool))
def test_a_body_of_another_length_is_refused(array: Any, lost: int) -> None:
    body, length = body_of(("x", array, True))
    changed = body[: max(length, len(body) + lost)] if lost < 0 else body + bytes(lost)
    with pytest.raises(InvalidRequestError, match="`x`"):
        read_request(changed, length)


@given(body=st.binary(max_size=200), length=st.none() | st.integers(0, 200))
def test_any_bytes_are_read_or_refused(body: bytes, length: int | None) -> None:
    header = None if length is None else str(length)
    expect_no_accident(lambda: read_request(body, json_length(header, body)))
    expect_no_accident(raw_rows, body, TABLE)
    expect_no_accident(lambda: read_texts(memoryview(body), length or 0, name="x"))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x") | ANYTHING,
        "datatype": st.sampled_from([*DTYPES, "BYTES"]) | ANYTHING,
        "shape": st.sampled_from([[1, 4], [4], [1], [0, 4], [10_001, 4], [2**40, 4]]) | ANYTHING,
        "data": st.lists(st.integers(-2, 300) | st.floats(), min_size=4, max_size=4) | ANYTHING,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 40) | ANYTHING})
        | ANYTHING,
    },
)
REQUEST = st.fixed_dictionaries(
    {},
    optional={
        "id": ANYTHING,
        "inputs": st.lists(TENSOR, max_size=2) | ANYTHING,
        "outputs": st.lists(st.fixed_dictionaries({"name": ANYTHING}), max_size=2) | ANYTHING,
        "parameters": st.dictionaries(
            st.sampled_from(["timeout", "priority", "binary_data_output", "non_finite"]), ANYTHING
        )
        | ANYTHING,
    },
)


@settings(max_examples=300)
@given(content=REQUEST | ANYTHING, rest=st.binary(max_size=40))
def test_any_json_is_read_or_refused(content: Any, rest: bytes) -> None:
    head = json.dumps(content).encode()

    def read() -> None:
        request = read_request(head + rest, len(head))
        for signature in (TABLE, TEXT):
            expect_no_accident(rows_of, request.inputs, signature)

    expect_no_accident(read)


def expect_no_accident(work: Callable[..., object], *given: object) -> None:
    """Let nothing but our own errors pass."""
    with contextlib.suppress(LeanfuseError):
        work(*given)


@pytest.mark.parametrize(
    "values", ["[" * 60 + "1" + "]" * 60, "[" * 900 + "true" + "]" * 900, "[NaN, " + "9" * 5000 + "]", "[NaN" * 5000]
)
def test_deep_and_endless_values_are_refused(values: str) -> None:
    body = f'{{"inputs": [{{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": {values}}}]}}'
    with pytest.raises(LeanfuseError):
        rows_of(read_request(body.encode(), None).inputs, TABLE)


@given(array=numbers(DTYPE), dtype=st.sampled_from(["float32", "uint8"]))
def test_numbers_become_others_exactly_or_not_at_all(array: Any, dtype: str) -> None:
    try:
        cast = exactly(array, dtype, tensor="x")
    except LeanfuseError:
        return
    assert cast.dtype == dtype
    for before, after in zip(array.flat, cast.flat, strict=True):
        if array.dtype.kind == "f" and dtype == "float32":
            assert after == np.float32(before)
        else:
            assert int(after) == before


@pytest.mark.parametrize(
    ("value", "fits"), [(2**24, True), (2**24 + 1, False), (2**60, True), (2**60 + 1, False), (2**63 - 1, False)]
)
def test_integers_stay_what_they_are(value: int, fits: bool) -> None:
    array = np.array([0, value])
    if fits:
        assert int(exactly(array, "float32", tensor="x")[1]) == value
    else:
        with pytest.raises(LeanfuseError, match=rf"`x`: \[1\] is {value}"):
            exactly(array, "float32", tensor="x")


def test_brain_floats_are_the_upper_half_of_floats() -> None:
    halves = np.array([0x3F80, 0xC040, 0x0000], "<u2")
    np.testing.assert_array_equal(brain_floats(halves), np.array([1.0, -3.0, 0.0], np.float32))
    tensor = Tensor("x", "BF16", (3,), memoryview(halves.tobytes()))
    np.testing.assert_array_equal(array_of(tensor), np.array([1.0, -3.0, 0.0], np.float32))


def test_aligned_numbers_are_read_where_they_lie() -> None:
    body = bytearray(np.ones((2, 4), np.float32).tobytes())
    tensor = Tensor("x", "FP32", (2, 4), memoryview(body))
    assert np.shares_memory(rows_of([tensor], TABLE), np.frombuffer(body, np.uint8))


@given(body=st.binary(max_size=5000), encoding=st.sampled_from(["gzip", "deflate"]))
def test_what_is_deflated_inflates_again(body: bytes, encoding: str) -> None:
    assert compression.inflate(compression.deflate(body, encoding), encoding, most_bytes=5000) == body


@given(body=st.binary(max_size=60), encoding=st.sampled_from(["gzip", "deflate", "br", ""]))
def test_any_compressed_bytes_are_inflated_or_refused(body: bytes, encoding: str) -> None:
    expect_no_accident(lambda: compression.inflate(body, encoding, most_bytes=1000))


def test_inflating_stops_at_the_limit() -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)
    for body, encoding in ((bomb, "deflate"), (gzip.compress(b"a" * 600) * 2, "gzip")):
        with pytest.raises(PayloadTooLargeError, match="1,000 bytes"):
            compression.inflate(body, encoding, most_bytes=1000)
    assert compression.inflate(gzip.compress(b"a" * 500) * 2, "gzip", most_bytes=1000) == b"a" * 1000


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("deflate, gzip;q=0.5", "gzip"),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip; q=0.0, deflate;q=0", None),
    ],
)
def test_the_encoding_of_a_reply_is_one_that_is_accepted(accepted: str, chosen: str | None) -> None:
    assert compression.accepted_encoding(accepted) == chosen


def test_numbers_that_are_not_finite_are_written_as_null_only_where_that_is_asked_for() -> None:
    outputs = [(Asked("y"), np.array([[np.nan, 1.0, np.inf]], np.float32))]
    with pytest.raises(LeanfuseError, match="`y`"):
        write_reply({}, outputs)
    told = orjson.loads(write_reply({}, outputs, non_finite="null").body)
    assert told["outputs"][0]["data"] == [None, 1.0, None]
    binary = write_reply({}, [(Asked("y", binary=True), outputs[0][1])])
    assert binary.body[binary.json_length :] == outputs[0][1].tobytes()


def test_the_best_classes_come_first() -> None:
    told = best_classes(np.array([[0.25, 0.5, 0.25]], np.float32), 5, ("cat", "dög", "owl"))
    assert [text.decode() for text in told[0]] == ["0.500000:1:dög", "0.250000:0:cat", "0.250000:2:owl"]


def test_a_request_without_wishes_has_the_defaults() -> None:
    body, _ = body_of(("x", np.zeros((1, 4), np.float32), False))
    assert read_request(body, None)[2:] == InferRequest(None, ())[2:]


def members(count: int, *, weight: float | None = 0.5) -> tuple[Link, ...]:
    return tuple(Link(role="member", version_id=str(index), position=index, weight=weight) for index in range(count))


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, "probabilities entropy"),
        ({"task": "regression", "classes": ()}, "prediction"),
        (
            {"kind": "ensemble", "method": "parallel", "task": "regression", "classes": (), "links": members(2)},
            "prediction member.0.prediction member.1.prediction deviation lowest highest weights",
        ),
        (
            {"kind": "ensemble", "method": "stack", "links": members(1, weight=None)},
            "probabilities member.0.probabilities entropy mean_member_entropy disagreement",
        ),
        (
            {"kind": "ensemble", "method": "serial", "links": members(1)},
            "probabilities member.0.logits entropy weights",
        ),
        (
            {
                "kind": "ensemble",
                "method": "cascade",
                "links": members(2, weight=None),
                "extra_outputs": ("answered_by",),
            },
            "probabilities answered_by member.0.probabilities entropy",
        ),
    ],
)
def test_every_kind_of_version_offers_what_it_can_answer(given: dict[str, Any], names: str) -> None:
    offers = offered(factories.version_manifest(**given))
    assert set(offers) == set(names.split())
    assert next(iter(offers)) == names.split(maxsplit=1)[0]
    assert all(offer.shape[0] == -1 for name, offer in offers.items() if name != "weights")
