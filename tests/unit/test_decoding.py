"""The quick reader of rows agrees with the thorough one, or leaves the body to it."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.errors import LeanfuseError
from app.domain.models import InputSignature
from app.serving.decoding import read_plain_rows
from app.serving.inputs import inputs_to_rows, instances_to_rows

FLOATS = InputSignature(shape=(2, 3), dtype="float32")
BYTES = InputSignature(shape=(2, 3), dtype="uint8")


def thorough(body: bytes, signature: InputSignature) -> Any:
    content = json.loads(body)
    assert set(content) in ({"instances"}, {"inputs"})
    read = instances_to_rows if "instances" in content else inputs_to_rows
    return read(next(iter(content.values())), signature)


numbers = st.one_of(
    st.integers(-300, 300), st.floats(width=32), st.floats(), st.sampled_from([True, None, "1", [], {}])
)
nested: st.SearchStrategy[Any] = st.recursive(numbers, lambda item: st.lists(item, max_size=4), max_leaves=30)
right = st.lists(
    st.lists(st.lists(st.floats(-10, 300) | st.integers(0, 255), min_size=3, max_size=3), min_size=2, max_size=2),
    min_size=1,
    max_size=4,
)


@given(value=right | nested, field=st.sampled_from(["instances", "inputs"]), signature=st.sampled_from([FLOATS, BYTES]))
@example([[[1, 2, 3], [4, 5, 6]]], "instances", BYTES)
@example([[[1, 2], [3, 4, 5, 6]]], "instances", FLOATS)
@example([[[1, 2, 3, 4, 5, 6]]], "instances", FLOATS)
@example([[[], [1, 2, 3, 4, 5, 6]]], "instances", FLOATS)
@example([[[1, 2, 3], [4, 5, 1e39]]], "instances", FLOATS)
@example([[[1, 2, 3], [4, 5, 256]]], "instances", BYTES)
def test_what_the_quick_reader_reads_is_what_the_thorough_one_reads(
    value: Any, field: str, signature: InputSignature
) -> None:
    for body in (json.dumps({field: value}).encode(), json.dumps({field: value}, indent=1).encode()):
        plain = read_plain_rows(body, signature)
        try:
            expected = thorough(body, signature)
        except LeanfuseError:
            assert plain is None
            continue
        if plain is not None:
            assert plain.field == field
            np.testing.assert_array_equal(plain.rows, expected)
            assert plain.rows.dtype == expected.dtype == signature.dtype


@given(rows=right)
def test_plain_rows_are_read_quickly(rows: list[Any]) -> None:
    plain = read_plain_rows(orjson.dumps({"instances": rows}), FLOATS)
    assert plain is not None
    assert plain.rows.shape == (len(rows), 2, 3)


@given(body=st.binary() | st.text().map(str.encode))
def test_any_other_body_is_left_alone(body: bytes) -> None:
    assert read_plain_rows(body, FLOATS) is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [[[1,2,3],[4,5,6]]], "members": true}',
        b'{"members": true, "instances": [[[1,2,3],[4,5,6]]]}',
        b'{"instances": [[[1,2,3],[4,5,6]]]} x',
        b'{"instances": [[[1,2,3],[4,5,6]]], "instances": [[[1,2,3],[4,5,6]]]}',
        b'{"instances": [[[1,2,3],[4,5,NaN]]]}',
        b'{"instances": [[[1,2,3],[4,5,1e999]]]}',
        b'{"instances": [[[1,2,3],[4,5,18446744073709551617]]]}',
        b'{"instances": [[[1,2,3],[4,5,[6]]]]}',
        b'{"instancees": [[[1,2,3],[4,5,6]]]}',
        b'{"instances": []}',
        b'{"instances": [[[1,2,3],[4,5,]]]}',
        b'{"instances": [[[1,2,3],[4,5,6]]]',
        b"[1,2,3]",
        b"",
    ],
)
def test_what_is_not_plain_is_left_to_the_thorough_reader(body: bytes) -> None:
    assert read_plain_rows(body, FLOATS) is None
