"""Arrays in and out of a real API: as bytes, as tensors, as JSON, all with the same numbers."""

import json
from typing import Any

import httpx
import numpy as np
import pytest

from app.client import Client, arrays
from app.domain.errors import InputShapeMismatchError, InvalidInputValueError, LeanfuseError, ModelNotFoundError
from tests.api.builders import CLASSES, SHAPE
from tests.cli.conftest import Small

REFERENCES = ["pets-cnn", "pets-cnn/1", "pets-cnn@champion"]


def rows(count: int) -> Any:
    return np.random.default_rng(0).normal(size=(count, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("reference", REFERENCES)
def test_an_array_is_answered_by_the_array_that_json_has_too(small: Small, reference: str) -> None:
    model = small.client.models[reference]
    answered = model.predict(rows(3))
    assert answered.shape == (3, len(CLASSES))
    assert answered.dtype == np.float32
    as_json = model.predict(rows(3).tolist())
    np.testing.assert_allclose(answered, as_json["predictions"], atol=1e-6)
    assert as_json["version"] == (1 if reference.endswith("/1") else 2)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int64", "uint8", "bool", ">f4"])
def test_numbers_of_any_type_are_sent(small: Small, dtype: str) -> None:
    whole = (rows(2) > 0).astype(dtype)
    expected = small.client.models["pets-cnn"].predict(whole.astype(np.float32))
    np.testing.assert_allclose(small.client.models["pets-cnn"].predict(whole), expected, atol=1e-6)


def test_an_array_in_another_order_is_sent_as_it_reads(small: Small) -> None:
    turned = np.asfortranarray(rows(4))
    model = small.client.models["pets-cnn"]
    np.testing.assert_array_equal(model.predict(turned), model.predict(rows(4)))
    np.testing.assert_array_equal(model.predict(rows(8)[::2]), model.predict(rows(8))[::2])


def test_a_large_array_goes_in_parts_that_one_version_answers(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = small.client.models["pets-cnn@champion"].predict(rows(7))
    monkeypatch.setattr(arrays, "MOST_ROWS", 3)
    asked = list[str]()

    def note(request: httpx.Request) -> None:
        asked.append(request.url.path)

    with Client(small.url) as client:
        client.connection._http.event_hooks = {"request": [note]}
        parts = client.models["pets-cnn@champion"].predict(rows(7))
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    pinned = "/v1/models/pets-cnn/versions/2:predict"
    assert asked == ["/v1/models/pets-cnn/labels/champion:predict", pinned, pinned]


def test_with_options_an_array_is_answered_by_a_document(small: Small) -> None:
    answer = small.client.models["pets-duo"].predict(rows(2), members=True, uncertainty=True)
    assert np.shape(answer["members"]) == (2, 2, len(CLASSES))
    assert set(answer["uncertainty"]) >= {"entropy", "disagreement"}


@pytest.mark.parametrize("reference", ["pets-duo", "pets-duo/1"])
def test_tensors_are_read_by_name(small: Small, reference: str) -> None:
    model = small.client.models[reference]
    found = model.infer(rows(2), outputs=["probabilities", "member.1.probabilities", "weights"])
    np.testing.assert_allclose(found["probabilities"], model.predict(rows(2)), atol=1e-6)
    assert found["member.1.probabilities"].shape == (2, len(CLASSES))
    np.testing.assert_allclose(found["weights"], [0.25, 0.75])


def test_an_alias_infers_too(small: Small) -> None:
    model = small.client.models["pets-cnn@champion"]
    np.testing.assert_allclose(model.infer(rows(2))["probabilities"], model.predict(rows(2)), atol=1e-6)


def test_labels_are_the_most_probable_classes(small: Small) -> None:
    model = small.client.models["pets-cnn@champion"]
    best = model.predict(rows(5)).argmax(axis=1)
    assert model.labels(rows(5)) == [CLASSES[index] for index in best]


def test_a_regression_answers_one_column(small: Small) -> None:
    assert small.client.models["prices-mlp"].predict(rows(3)).shape == (3, 1)


def test_a_wrong_shape_is_told_in_every_form(small: Small) -> None:
    wrong = np.zeros((2, 3), dtype=np.float32)
    model = small.client.models["pets-cnn"]
    with pytest.raises(InputShapeMismatchError, match=r"2, 2, 1"):
        model.predict(wrong)
    with pytest.raises(InputShapeMismatchError):
        model.predict(wrong.tolist())
    with pytest.raises(LeanfuseError, match=r"2, 2, 1"):
        model.infer(wrong)
    with pytest.raises(InvalidInputValueError, match="complex64"):
        model.infer(wrong.astype(np.complex64))


def test_a_model_that_is_not_there_is_told_in_every_form(small: Small) -> None:
    for ask in (small.client.models["nobody"].predict, small.client.models["nobody"].infer):
        with pytest.raises(LeanfuseError) as caught:
            ask(rows(1))
        assert caught.value.code == ModelNotFoundError.code


def test_texts_travel_as_json() -> None:
    sent = list[bytes]()

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        return httpx.Response(200, json={"predictions": [[0.25, 0.75]]})

    with Client("http://leanfuse.test", transport=httpx.MockTransport(answer)) as client:
        found = client.models["sms"].predict(np.array(["free money"]))
    assert json.loads(sent[0]) == {"instances": ["free money"]}
    np.testing.assert_allclose(found, [[0.25, 0.75]])


def test_no_pickle_is_ever_loaded_from_an_answer() -> None:
    with pytest.raises(ValueError, match="pickle"):
        arrays.from_npy(b"\x80\x04N.")
