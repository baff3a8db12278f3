"""Rows as NumPy writes them, and as pictures: the same answers as from JSON, and no surprise from a broken file."""

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from starlette.testclient import TestClient

from app.domain.errors import InvalidInputError
from app.domain.models import InputSignature
from app.serving.inputs import instances_to_rows
from app.serving.npy import npy_to_rows, to_npy
from tests.api.builders import ROW, Registry, assert_problem

NPY = {"Content-Type": "application/octet-stream"}
PREDICT = "/v1/models/pets-cnn:predict"
FUSED = "/v1/ensembles/pets-duo:predict"
COLOURED = InputSignature(shape=(2, 3, 3), dtype="uint8")
GREY = InputSignature(shape=(2, 3, 1), dtype="uint8")


def saved(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("path", [PREDICT, FUSED])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i8", "<f2", "|u1"])
def test_an_array_is_answered_like_the_same_rows_in_json(refusing: TestClient, path: str, dtype: str) -> None:
    rows = np.array([ROW, ROW[::-1]])
    expected = refusing.post(path, json={"instances": rows.tolist()}).json()
    answer = refusing.post(path, content=saved(np.asfortranarray(rows.astype(dtype))), headers=NPY)
    assert answer.json() == expected


@pytest.mark.parametrize("path", [PREDICT, FUSED])
@pytest.mark.parametrize("media_type", ["application/octet-stream", "application/x-npy"])
def test_an_array_is_answered_on_request(refusing: TestClient, path: str, media_type: str) -> None:
    told = refusing.post(path, json={"instances": [ROW, ROW]}).json()
    headers = {"Content-Type": media_type, "Accept": media_type}
    answer = refusing.post(path, content=saved(np.array([ROW, ROW])), headers=headers)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Leanfuse-Version"] == f"{told['model']}/{told['version']}"
    assert answer.headers["Leanfuse-Digest"] == told["digest"]
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), np.array(told["predictions"], dtype=np.float32))


def test_who_reads_json_as_well_gets_json(refusing: TestClient) -> None:
    headers = {**NPY, "Accept": "application/json, application/octet-stream"}
    assert "predictions" in refusing.post(PREDICT, content=saved(np.array([ROW])), headers=headers).json()


ROWS = saved(np.array([ROW]))
BROKEN = [
    ("nothing", b"", 422, "unreadable-file", "no NPY array"),
    ("JSON", b'{"instances": [[1]]}', 422, "unreadable-file", "no NPY array"),
    ("half a header", ROWS[:40], 422, "unreadable-file", "no NPY array"),
    ("a header of code", ROWS.replace(b"'descr'", b"exit(1)"), 422, "unreadable-file", "no NPY array"),
    ("objects", saved(np.array([{"a": 1}], dtype=object)), 422, "pickle-not-allowed", "Python objects"),
    ("a shorter body", ROWS[:-1], 422, "declared-size-mismatch", "32 bytes; 31 follow"),
    ("trailing bytes", ROWS + b"\0", 422, "declared-size-mismatch", "32 bytes; 33 follow"),
    ("a forged shape", ROWS.replace(b"(1, 2, 2, 1)", b"(9, 2, 2, 1)"), 422, "declared-size-mismatch", "288 bytes"),
    ("a negative shape", ROWS.replace(b"(1, 2, 2, 1)", b"(-1, -4, 1) "), 422, "declared-size-mismatch", "[-1, -4, 1]"),
    ("text", saved(np.array(["owl"])), 422, "invalid-input-value", "no numbers"),
    ("booleans", saved(np.ones((1, 2, 2, 1), dtype=bool)), 422, "invalid-input-value", "no numbers"),
    ("complex numbers", saved(np.ones((1, 2, 2, 1), dtype="c8")), 422, "invalid-input-value", "no numbers"),
    ("records", saved(np.zeros(1, dtype=[("a", "f4")])), 422, "invalid-input-value", "no numbers"),
    ("NPY 3.0", ROWS.replace(b"NUMPY\x01", b"NUMPY\x03"), 422, "unsupported-dtype", "The body is NPY version 3.0"),
    ("NaN", saved(np.full((1, 2, 2, 1), np.nan)), 422, "invalid-input-value", "[0][0][0][0] is nan"),
    ("1e300", saved(np.full((1, 2, 2, 1), 1e300)), 422, "invalid-input-value", "32-bit float"),
    ("one row alone", saved(np.array(ROW)), 422, "input-shape-mismatch", "takes float32 [batch, 2, 2, 1]"),
    ("channels first", saved(np.zeros((1, 1, 2, 2))), 422, "input-shape-mismatch", "got [1, 1, 2, 2]"),
    ("a number", saved(np.array(1.0)), 422, "input-shape-mismatch", "got []"),
    ("no rows", saved(np.zeros((0, 2, 2, 1))), 422, "empty-input", "no rows"),
    ("no pixels", saved(np.zeros((1, 2, 0, 1))), 422, "empty-input", "no values"),
    ("many rows", saved(np.zeros((10_001, 2, 2, 1), dtype=np.uint8)), 413, "batch-too-large", "10,000"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code", "slug", "told"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN]
)
def test_a_broken_array_is_refused(refusing: TestClient, body: bytes, code: int, slug: str, told: str) -> None:
    problem = assert_problem(refusing.post(PREDICT, content=body, headers=NPY), code, slug)
    assert told in problem["detail"]


def test_an_array_beyond_the_limit_of_bodies_is_refused(refusing: TestClient) -> None:
    body = saved(np.zeros((1, 2, 2, 500_000), dtype=np.float32))
    assert_problem(refusing.post(PREDICT, content=body, headers=NPY), 413, "payload-too-large")


FEW_ROWS = st.tuples(st.integers(1, 4), st.just(2), st.just(3))


@given(hnp.arrays(np.float32, FEW_ROWS, elements=st.floats(-9, 9, width=32)))
def test_what_numpy_saves_is_read_and_written_unchanged(array: np.ndarray) -> None:
    signature = InputSignature(shape=(2, 3), dtype="float32")
    np.testing.assert_array_equal(npy_to_rows(saved(array), signature), array)
    assert to_npy(array) == saved(array)


@given(st.binary(max_size=40), st.integers(0, len(ROWS)), st.integers(0, len(ROWS)))
def test_whatever_bytes_are_sent_are_rows_or_a_refusal(junk: bytes, start: int, stop: int) -> None:
    for body in (junk, ROWS[:start] + junk + ROWS[stop:]):
        try:
            rows = npy_to_rows(body, InputSignature(shape=(2, 2, 1), dtype="float32"))
        except InvalidInputError:
            continue
        assert rows.shape[1:] == (2, 2, 1)
        assert np.isfinite(rows).all()


def picture(pixels: Any, kind: str = "PNG", **options: Any) -> dict[str, str]:
    stream = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(stream, kind, **options)
    return {"b64": base64.b64encode(stream.getvalue()).decode()}


@given(hnp.arrays(np.uint8, (2, 3, 3)))
def test_a_picture_is_its_pixels(pixels: np.ndarray) -> None:
    rows = instances_to_rows([picture(pixels), {"x": picture(pixels[::-1])}], COLOURED)
    np.testing.assert_array_equal(rows, [pixels, pixels[::-1]])


def test_colours_become_those_of_the_model() -> None:
    grey = np.array([[0, 50, 100], [150, 200, 255]])
    np.testing.assert_array_equal(instances_to_rows([picture(grey)], COLOURED)[0], np.stack([grey] * 3, axis=-1))
    np.testing.assert_array_equal(
        instances_to_rows([picture(np.stack([grey] * 3, axis=-1))], GREY)[0], grey[..., np.newaxis]
    )


def test_a_jpeg_is_read_too() -> None:
    rows = instances_to_rows([picture(np.full((2, 3), 77), "JPEG", quality=95)], GREY)
    np.testing.assert_allclose(rows, 77, atol=2)


WHOLE = base64.b64decode(picture(np.zeros((2, 3)))["b64"])


@pytest.mark.parametrize(
    ("item", "told"),
    [
        (picture(np.zeros((3, 2))), "has 2 x 3 pixels; the model takes 3 x 2"),
        (picture(np.zeros((2, 3)), "GIF"), "no PNG or JPEG"),
        ({"b64": base64.b64encode(WHOLE[:-25]).decode()}, "only a part"),
        ({"b64": base64.b64encode(b"owl").decode()}, "no PNG or JPEG"),
        ({"b64": "%"}, "no PNG or JPEG"),
        ({"b64": "\N{OWL}"}, "no PNG or JPEG"),
        ({"b64": None}, "no PNG or JPEG"),
        ({"b65": "AAAA"}, "names b65"),
        ([[[0]]], "instances[1]"),
    ],
)  # fmt: skip
def test_what_is_no_picture_of_the_right_size_is_refused_with_its_place(item: Any, told: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        instances_to_rows([picture(np.zeros((2, 3))), item], GREY)
    assert told in refused.value.detail
    assert refused.value.detail.startswith(("Picture 1 ", "instances[1] "))


@given(st.binary(max_size=30), st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)))
def test_whatever_a_picture_holds_is_rows_or_a_refusal(junk: bytes, start: int, stop: int) -> None:
    sent = {"b64": base64.b64encode(WHOLE[:start] + junk + WHOLE[stop:]).decode()}
    try:
        rows = instances_to_rows([sent], GREY)
    except InvalidInputError:
        return
    assert rows.shape == (1, 2, 3, 1)


def test_a_model_of_pixels_answers_a_picture_like_its_pixels(client: TestClient, registry: Registry) -> None:
    registry.add_dataset()
    registry.add_model("pets-pixels", dtype="uint8")
    pixels = np.array([[0, 80], [160, 240]])
    told = [
        client.post("/v1/models/pets-pixels:predict", json={"instances": [sent]}).json()["predictions"]
        for sent in (pixels.reshape(2, 2, 1).tolist(), picture(pixels), {"x": picture(pixels)})
    ]
    assert told[0] == told[1] == told[2]
    broken = client.post("/v1/models/pets-pixels:predict", json={"instances": [{"b64": "AAAA"}]})
    assert "Picture 0" in assert_problem(broken, 422, "invalid-image")["detail"]


def test_a_model_of_other_numbers_than_pixels_takes_no_pictures(refusing: TestClient) -> None:
    body = json.dumps({"instances": [picture(np.zeros((2, 2)))]})
    answer = refusing.post(PREDICT, content=body, headers={"Content-Type": "application/json"})
    problem = assert_problem(answer, 422, "invalid-input-value")
    assert "not a number" in problem["detail"]
