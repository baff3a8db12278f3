"""The commands of the page on rollouts work, in their order."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from app.domain.jobs import Timing
from tests.e2e.test_serving import registry_of, serving
from tests.workers import worker_settings

PAGE = (Path(__file__).parents[2] / "docs" / "rollout.md").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page is told with curl, which is missing here")
def test_a_candidate_is_rolled_out_promoted_and_rolled_back(tmp_path: Path, sqlite_url: str, timing: Timing) -> None:
    settings = worker_settings(tmp_path / "home", sqlite_url, timing)
    with registry_of(settings) as registry:
        registry.add_model("digits-student", seed=1)
        registry.add_model("digits-student", seed=2)
    with serving(settings) as client:
        client.put("/v1/models/digits-student/aliases/champion", json={"version": 1}).raise_for_status()
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL))],
            env={**os.environ, "URL": str(client.base_url).rstrip("/")},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ended.returncode == 0, ended.stderr
        history = client.get("/v1/models/digits-student/aliases/champion/history").json()
    assert [change["version"] for change in history["changes"]] == [1, 2, 1]
    assert [(past["mode"], past["outcome"]) for past in history["rollouts"]] == [
        ("split", "promoted"),
        ("shadow", "replaced"),
    ]
