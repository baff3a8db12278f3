"""Every example of a JSON body in the OpenAPI document works when it is sent, as when it is pressed in `/docs`."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.api.deps import Services
from app.main import create_app
from app.settings import Settings
from tests.api.builders import Registry
from tests.api.contract import document, held_client

# What is asked with the examples of these changes nothing.
HARMLESS = (":predict", ":classify", ":regress", "/infer", "/index", "/load", "/unload")
# A candidate must first have been asked a number of times beside the version that answers.
AFTER_TRAFFIC = "the rollout's candidate"


def examples(*, harmless: bool) -> Iterator[Any]:
    for path, item in document()["paths"].items():
        for method, operation in item.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for name, example in content.get("examples", {}).items():
                # Those of jobs are sent in test_openapi.py.
                if path != "/v1/jobs" and path.endswith(HARMLESS) == harmless:
                    code = 409 if name == AFTER_TRAFFIC else None
                    yield pytest.param(method, path, example["value"], code, id=f"{method} {path} {name}")


def register(registry: Registry) -> None:
    """Register what the examples name: a table's model, a regression, an ensemble, a model of two versions."""
    registry.add_dataset("pets", shape=(4,))
    registry.add_dataset("prices", shape=(4,), task="regression", classes=())
    registry.add_dataset("pixels", shape=(8, 8, 1))
    for seed in range(2):
        registry.add_model("digits-cnn", dataset="pixels", seed=seed)
    for seed, name in enumerate(("digits", "digits-other"), 7):
        registry.add_model(name, dataset="pixels", seed=seed)
    registry.add_model("iris", seed=1)
    registry.add_model("prices", dataset="prices", seed=3)
    registry.add_ensemble("duo")


def prepare(client: TestClient) -> None:
    for name in ("iris", "prices", "duo", "digits-cnn"):
        client.put(f"/v1/models/{name}/aliases/champion", json={"version": 1})


def name_for(path: str) -> str:
    if "/ensembles/" in path:
        return "duo"
    if path.endswith(":regress"):
        return "prices"
    return "iris" if path.endswith(HARMLESS) and "/repository/" not in path else "digits-cnn"


def filled(client: TestClient, services: Services) -> TestClient:
    register(Registry(services.sessions, services.store))
    services.view.refresh()
    prepare(client)
    return client


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[TestClient]:
    """Serve to all examples that change nothing."""
    folder = tmp_path_factory.mktemp("examples")
    database = shutil.copyfile(sqlite_template, folder / "leanfuse.db")
    app = create_app(Settings(home=folder / "home", database_url=f"sqlite:///{database}"))
    with held_client(app) as client:
        yield filled(client, app.state.services)


@pytest.mark.parametrize(("method", "path", "body", "refused"), list(examples(harmless=True)))
def test_an_example_is_answered_when_it_is_sent(
    lasting: TestClient, method: str, path: str, body: Any, refused: int | None
) -> None:
    send(lasting, method, path, body, refused)


@pytest.mark.parametrize(("method", "path", "body", "refused"), list(examples(harmless=False)))
def test_an_example_changes_what_it_says_when_it_is_sent(
    client: TestClient, services: Services, method: str, path: str, body: Any, refused: int | None
) -> None:
    send(filled(client, services), method, path, body, refused)


def send(client: TestClient, method: str, path: str, body: Any, refused: int | None) -> None:
    url = path.format(name=name_for(path), version=1, alias="champion")
    if path.endswith(":promote"):
        client.put("/v1/models/digits-cnn/aliases/champion/rollout", json={"version": 2})
    answer = client.request(method.upper(), url, json=body)
    assert answer.status_code < 400 if refused is None else answer.status_code == refused, answer.text
