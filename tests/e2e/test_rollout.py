"""Aliases move and candidates roll out under load: no request fails, and no reply mixes versions."""

import itertools
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from app.domain.jobs import Timing
from app.serving.runtime import load_engine
from tests.api.builders import ROW
from tests.e2e.test_serving import graph_path, registry_of, serving
from tests.workers import worker_settings

ALIAS = "/v1/models/pets-cnn/aliases/champion"
CALLERS = 6


class Load:
    """Predict by the alias from many threads until told to stop."""

    def __init__(self, url: httpx.URL, expected: dict[int, Any]) -> None:
        self.expected = expected
        self.failures: list[str] = []
        self.versions: list[int] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url, number)) for number in range(CALLERS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, url: httpx.URL, number: int) -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while not self._stop.is_set():
                answer = client.post("/v1/models/pets-cnn/labels/champion:predict", json={"instances": [ROW]})
                if answer.status_code != httpx.codes.OK:
                    self.failures.append(answer.text)
                    return
                told = answer.json()
                self.versions.append(told["version"])
                if not np.array_equal(np.array(told["predictions"], np.float32), self.expected[told["version"]]):
                    self.failures.append(f"version {told['version']} answered {told['predictions']}")


def test_no_request_fails_while_an_alias_moves_and_candidates_roll_out(
    tmp_path: Path, sqlite_url: str, timing: Timing
) -> None:
    settings = worker_settings(tmp_path / "home", sqlite_url, timing)
    rows, expected = np.array([ROW], np.float32), {}
    with registry_of(settings) as registry:
        for version in (1, 2):
            registry.add_model(seed=version)
            expected[version] = load_engine(graph_path(registry, f"pets-cnn/{version}")).run(rows, ["probabilities"])[0]
    with serving(settings) as client:
        client.put(ALIAS, json={"version": 1}).raise_for_status()
        with Load(client.base_url, expected) as load:
            for version in itertools.islice(itertools.cycle((2, 1)), 20):
                client.put(ALIAS, json={"version": version}).raise_for_status()
            for percent in (10, 50, 100):
                client.put(f"{ALIAS}/rollout", json={"version": 2, "percent": percent}).raise_for_status()
            client.put(f"{ALIAS}/rollout", json={"version": 2, "mode": "shadow", "percent": 100}).raise_for_status()
            client.post(f"{ALIAS}:promote", json={"require": {"max_drop": 0}}).raise_for_status()
            client.post(f"{ALIAS}:rollback").raise_for_status()
        history = client.get(f"{ALIAS}/history").json()
    assert load.failures == []
    assert len(load.versions) > 20 * CALLERS
    assert set(load.versions) == {1, 2}
    assert len(history["changes"]) == 23
    assert [past["outcome"] for past in history["rollouts"]] == ["promoted", "replaced"]
