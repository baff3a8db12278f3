"""The rules of who may import whom hold, and the API process never loads a training library."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = ("tensorflow", "keras", "torch", "jax", "sklearn", "PIL", "onnx", "onnxruntime", "celery", "worker")


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_import_contracts_hold() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_api_process_loads_no_training_library() -> None:
    loaded = run(f"import app.main, sys; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert loaded == "[]"


def test_a_running_api_predicts_without_tensorflow(tmp_path: Path) -> None:
    code = f"""
import sys
from app.db.migrate import upgrade
from app.main import create_app
from app.settings import Settings
from starlette.testclient import TestClient
settings = Settings(home={str(tmp_path)!r})
settings.home.mkdir(exist_ok=True)
upgrade(settings.database_url)
with TestClient(create_app(settings), base_url="http://localhost") as client:
    spec = {{"kind": "train", "name": "a", "dataset": "b", "architecture": {{"type": "resnet"}}}}
    assert client.post("/v1/jobs", json=spec).status_code == 422
    assert client.get("/readyz").status_code == 200
print([name for name in ("tensorflow", "keras", "torch", "jax", "sklearn") if name in sys.modules])
"""
    assert run(code).splitlines()[-1] == "[]"
