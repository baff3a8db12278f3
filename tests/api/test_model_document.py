"""The document of one model: what it says fits is answered, what it says does not fit is refused."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import jsonschema
import pytest
from starlette.testclient import TestClient

from tests.api.builders import CLASSES
from tests.api.conftest import Refusing


@pytest.fixture(scope="module")
def models(shared: Refusing) -> Refusing:
    """Serve models of every kind of row: numbers, pixels, text; a regression; an ensemble; an alias."""
    registry = shared.registry
    registry.add_dataset("notes", shape=(16,))
    registry.add_dataset("prices", shape=(3,), task="regression", classes=())
    registry.add_model("notes-cnn", dataset="notes", dtype="uint8")
    registry.add_model("pets-pixels", dtype="uint8")
    registry.add_model("prices-mlp", dataset="prices")
    shared.client.put("/v1/models/pets-cnn/aliases/champion", json={"version": 1})
    return shared


NAMES = ("pets-cnn", "pets-pixels", "notes-cnn", "prices-mlp", "pets-duo", "mini-cnn")


def document_of(client: TestClient, name: str, place: str = "") -> dict[str, Any]:
    answer = client.get(f"/v1/models/{name}{place}/openapi.json")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        yield path, item["post"]


def schema_of(document: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    return {**content["application/json"]["schema"], "components": document["components"]}


@pytest.mark.parametrize("name", NAMES)
def test_every_example_fits_its_schema_and_so_does_the_answer(models: Refusing, name: str) -> None:
    document = document_of(models.client, name)
    for path, operation in operations_of(document):
        body = operation["requestBody"]["content"]
        assert body["application/json"]["examples"]
        for example in body["application/json"]["examples"].values():
            jsonschema.validate(example["value"], schema_of(document, body))
            answer = models.client.post(path, json=example["value"])
            assert answer.status_code == 200, answer.text
            jsonschema.validate(answer.json(), schema_of(document, operation["responses"]["200"]["content"]))


@pytest.mark.parametrize("name", NAMES)
def test_what_has_another_shape_or_range_fits_neither_the_schema_nor_the_model(models: Refusing, name: str) -> None:
    document = document_of(models.client, name)
    path = f"/v1/models/{name}:predict"
    body = document["paths"][path]["post"]["requestBody"]["content"]
    good = body["application/json"]["examples"]["a row of its data set"]["value"]
    for spoil in (lambda row: row[:-1], lambda row: [row], lambda row: [*row[:-1], "three"], lambda row: 1e300):
        bad = deepcopy(good)
        bad["instances"][0] = spoil(good["instances"][0])
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema_of(document, body))
        assert models.client.post(path, json=bad).status_code == 422


def test_pixels_are_integers_from_0_to_255(models: Refusing) -> None:
    document = document_of(models.client, "pets-pixels")
    (path, operation), *_ = operations_of(document)
    body = operation["requestBody"]["content"]
    for value in (-1, 256, 0.5):
        bad = {"instances": [[[[value], [1]], [[2], [3]]]]}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema_of(document, body))
        assert models.client.post(path, json=bad).status_code == 422


def test_classes_and_members_are_named(models: Refusing) -> None:
    document = document_of(models.client, "pets-duo")
    answer = document["paths"]["/v1/models/pets-duo:predict"]["post"]["responses"]["200"]["content"]
    described = answer["application/json"]["schema"]["properties"]
    assert [place["title"] for place in described["predictions"]["items"]["prefixItems"]] == list(CLASSES)
    assert [member["title"] for member in described["members"]["prefixItems"]] == ["pets-duo-m0/1", "pets-duo-m1/1"]
    assert described["weights"]["const"] == [0.25, 0.75]
    assert set(described["uncertainty"]["properties"]) >= {"entropy", "mutual_information", "disagreement"}
    classified = document["paths"]["/v1/models/pets-duo:classify"]["post"]["responses"]["200"]["content"]
    labelled = classified["application/json"]["schema"]["properties"]["results"]["items"]["items"]
    assert labelled["prefixItems"][0]["enum"] == list(CLASSES)


@pytest.mark.parametrize("place", ["/versions/1", "/labels/champion"])
def test_a_version_and_an_alias_have_documents_of_their_own(models: Refusing, place: str) -> None:
    document = document_of(models.client, "pets-cnn", place)
    assert set(document["paths"]) == {f"/v1/models/pets-cnn{place}:{verb}" for verb in ("predict", "classify")}
    assert document["info"]["version"] == "1"


@pytest.mark.parametrize(
    ("place", "code"), [("nobody", 404), ("pets-cnn/versions/99", 404), ("pets-cnn/labels/nobody", 404)]
)
def test_what_is_not_there_has_no_document(models: Refusing, place: str, code: int) -> None:
    assert models.client.get(f"/v1/models/{place}/openapi.json").status_code == code


def test_every_reference_of_a_model_s_document_leads_somewhere(models: Refusing) -> None:
    document = document_of(models.client, "pets-cnn")
    for _, operation in operations_of(document):
        for code, response in operation["responses"].items():
            for shown in response["content"].get("application/problem+json", {}).get("examples", {}).values():
                assert shown["$ref"].rpartition("/")[2] in document["components"]["examples"], code
