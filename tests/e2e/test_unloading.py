"""Models are unloaded and loaded through the repository of the Open Inference Protocol while they are asked."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from app.domain.jobs import Timing
from app.settings import ServingSettings
from tests.api.builders import ROW
from tests.e2e.test_serving import registry_of, serving
from tests.workers import worker_settings

CYCLES, CALLERS = 20, 8
BODY = {"inputs": [{"name": "x", "shape": [1, 2, 2, 1], "datatype": "FP32", "data": np.ravel(ROW).tolist()}]}


def test_no_request_fails_while_models_are_unloaded_and_loaded(tmp_path: Path, sqlite_url: str, timing: Timing) -> None:
    settings = worker_settings(tmp_path / "home", sqlite_url, timing, serving=ServingSettings(tune=False))
    with registry_of(settings) as registry:
        registry.add_ensemble()
    stop = threading.Event()
    with serving(settings) as client, ThreadPoolExecutor(CALLERS) as callers:
        expected = infer(client)
        asking = [callers.submit(ask_until, stop, str(client.base_url)) for _ in range(CALLERS)]
        try:
            for _ in range(CYCLES):
                for verb in ("unload", "load"):
                    answer = client.post(f"/v2/repository/models/pets-duo/{verb}")
                    assert (answer.status_code, answer.content) == (200, b"")
        finally:
            stop.set()
        answers = [answer for caller in asking for answer in caller.result()]
        assert len(answers) >= CYCLES * CALLERS
        assert [answer for answer in answers if answer != expected] == []
        stats = client.get("/v2/models/pets-duo/stats").json()["model_stats"][0]
        assert stats["inference_count"] == stats["inference_stats"]["success"]["count"] == len(answers) + 1
        assert stats["inference_stats"]["fail"]["count"] == 0
        assert stats["execution_count"] <= stats["inference_count"]
        client.post("/v2/repository/models/pets-duo/unload")
        assert "leanfuse_models_loaded 0.0" in client.get("/metrics").text


def infer(client: httpx.Client) -> tuple[int, Any]:
    answer = client.post("/v2/models/pets-duo/infer", json=BODY)
    return answer.status_code, answer.json().get("outputs")


def ask_until(stop: threading.Event, url: str) -> list[tuple[int, Any]]:
    """Ask until told to stop, and at least as often as there are cycles."""
    answers: list[tuple[int, Any]] = []
    with httpx.Client(base_url=url, timeout=30) as client:
        while not stop.is_set() or len(answers) < CYCLES:
            answers.append(infer(client))
    return answers
