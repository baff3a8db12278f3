"""What the page on operations says of backups works: the copy of a running service serves the same answers."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from app.domain.jobs import Timing
from tests.e2e.test_serving import predict, registry_of, serving
from tests.workers import worker_settings

BACKUP = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8").split("## Backup")[1]
EMBEDDED = re.findall(r"```sh\n(.*?)```", BACKUP, flags=re.DOTALL)[0]


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the page is told with sqlite3, which is missing here")
def test_a_backup_of_a_running_service_serves_the_same_answers(tmp_path: Path, sqlite_url: str, timing: Timing) -> None:
    home = tmp_path / "home"
    home.mkdir()
    database = shutil.move(sqlite_url.removeprefix("sqlite:///"), home / "leanfuse.db")
    settings = worker_settings(home, f"sqlite:///{database}", timing)
    with registry_of(settings) as registry:
        registry.add_model("digits-student", seed=1)
    with serving(settings) as client:
        before = predict(client, "models/digits-student").json()["predictions"]
        environment = {**os.environ, "LEANFUSE_HOME": str(home)}
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", EMBEDDED], cwd=tmp_path, env=environment, check=True, timeout=60
        )
    shutil.rmtree(home)
    copy = tmp_path / "backup"
    with serving(worker_settings(copy, f"sqlite:///{copy / 'leanfuse.db'}", timing)) as client:
        assert predict(client, "models/digits-student").json()["predictions"] == before
