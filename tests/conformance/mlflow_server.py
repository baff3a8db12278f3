"""A real API process with tiny models, and the stock MLflow client in an environment of its own."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.api.builders import ROOT

PYTHON = ROOT / ".venv-clients" / "bin" / "python"


def run_client(script: str, url: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a script of MLflow's client against a server; return the JSON that its last line prints."""
    if not PYTHON.exists():
        pytest.skip("clients of others are not installed: `make .venv-clients/.installed`")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "MLFLOW_TRACKING_URI": url,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    command = [str(PYTHON), str(Path(__file__).with_name(script)), *arguments]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
