"""The servers that are compared, each with what starts it and the ways in which it is asked."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.cli.stack import free_port
from benchmarks.serving.ways import (
    TENSOR_BINARY,
    Way,
    instances,
    read_predictions,
    read_tensor_json,
    tensor_json,
)

ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
ENVIRONMENTS = ROOT / ".venv-bench"
# Nobody shall be told that a benchmark runs.
_SILENCED = {
    "DO_NOT_TRACK": "true",
    "BENTOML_DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class Server:
    """A program that serves the graphs.

    `command` is filled in with `folder` (what was prepared for this run), `port` and `here` (the peer's files);
    `port` is the variable that names the port, `spare_ports` those that need one more each; `prepare` is a command that
    runs once before the first start. Of `variants`, further environments, the fastest is found out and then used.
    """

    name: str
    title: str
    command: Sequence[str]
    ready: str
    ways: Mapping[str, Way]
    environment: Mapping[str, str] = field(default_factory=dict)
    port: str = "PORT"
    spare_ports: Sequence[str] = ()
    variants: Sequence[Mapping[str, str]] = ()
    prepare: Sequence[str] = ()
    cases: Sequence[str] = ("one", "many", "large")

    @property
    def here(self) -> Path:
        """Return the folder of the peer's files, which is where it runs."""
        return ROOT if self.name == OURS else PEERS / self.name

    @property
    def requirements(self) -> Path | None:
        """Return what its environment holds; ours is the one that runs this."""
        return None if self.name == OURS else self.here / "requirements.txt"

    def filled(self, command: Sequence[str], folder: Path, port: int = 0) -> list[str]:
        """Return a command with its places filled in, and the program of the server's own environment."""
        program, *arguments = (part.format(folder=folder, port=port, here=self.here) for part in command)
        environment = Path(sys.prefix) if self.name == OURS else ENVIRONMENTS / self.name
        return [str(environment / "bin" / program), *arguments]

    def variables(self, folder: Path, port: int) -> dict[str, str]:
        """Return the environment of its processes, beside what every process inherits."""
        found = {"GRAPHS": str(folder / "graphs"), self.port: str(port), **_SILENCED, **self.environment}
        if self.name != OURS:
            path = f"{ENVIRONMENTS / self.name / 'bin'}:{os.environ['PATH']}"
            found |= {"PYTHONPATH": f"{PEERS / 'common'}:{self.here}", "OMP_NUM_THREADS": "1", "PATH": path}
        return found | {name: str(free_port()) for name in self.spare_ports}


OURS = "leanfuse"
_PREDICT = Way(instances("/predict"), read_predictions)
SERVERS = {
    server.name: server
    for server in (
        Server(
            OURS,
            "Leanfuse",
            ("leanfuse", "up", "--no-worker", "--host", "127.0.0.1", "--port", "{port}", "--home", "{folder}/home"),
            ready="/readyz",
            ways={
                "json": Way(instances("/v1/models/{model}:predict"), read_predictions),
                "binary": TENSOR_BINARY,
            },
            environment={"LEANFUSE_LOG_LEVEL": "warning", "LEANFUSE_DATABASE_URL": "", "LEANFUSE_STORE_URL": ""},
            cases=("one", "many", "large", "member"),
        ),
        Server(
            "fastapi",
            "plain FastAPI + orjson",
            ("uvicorn", "server:app", "--port", "{port}", "--workers", "2", "--no-access-log"),
            ready="/ready",
            ways={"json": _PREDICT},
        ),
        # Its workers get every request pickled; without them one process gets both threads.
        Server(
            "mlserver",
            "MLServer",
            ("mlserver", "start", "{here}"),
            ready="/v2/health/ready",
            ways={"json": Way(tensor_json("/v2/models/ens/infer"), read_tensor_json)},
            environment={
                "MLSERVER_HOST": "127.0.0.1",
                "MLSERVER_DEBUG": "false",
            },
            variants=(
                {"MLSERVER_PARALLEL_WORKERS": "0", "THREADS": "2"},
                {"MLSERVER_PARALLEL_WORKERS": "2", "THREADS": "1"},
            ),
            port="MLSERVER_HTTP_PORT",
            spare_ports=("MLSERVER_GRPC_PORT", "MLSERVER_METRICS_PORT"),
        ),
        Server(
            "bentoml",
            "BentoML",
            ("bentoml", "serve", "service:Graphs", "--host", "127.0.0.1", "--port", "{port}"),
            ready="/readyz",
            ways={"json": _PREDICT},
        ),
        Server(
            "litserve",
            "LitServe",
            ("python", "{here}/server.py"),
            ready="/health",
            ways={"json": _PREDICT},
        ),
        Server(
            "ray",
            "Ray Serve",
            ("python", "{here}/server.py"),
            ready="/-/healthz",
            ways={"json": Way(instances("/"), read_predictions)},
        ),
        Server(
            "mlflow",
            "MLflow scoring server",
            (
                *("mlflow", "models", "serve", "--model-uri", "{folder}/mlflow", "--host", "127.0.0.1"),
                *("--port", "{port}", "--workers", "2", "--env-manager", "local"),
            ),
            ready="/ping",
            ways={"json": Way(instances("/invocations"), read_predictions)},
            prepare=("python", "{here}/model.py", "{folder}/mlflow"),
        ),
    )
}


def make_environment(server: Server) -> None:
    """Install a peer's pinned requirements into an environment of its own, unless it has them."""
    if server.requirements is None:
        return
    uv, environment = str(Path(sys.prefix) / "bin" / "uv"), ENVIRONMENTS / server.name
    create = [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(environment)]
    python = str(environment / "bin" / "python")
    install = [uv, "pip", "sync", "--quiet", "--python", python, str(server.requirements)]
    for command in (create, install):
        subprocess.run(command, check=True, timeout=600)


def releases(server: Server) -> dict[str, str]:
    """Return what the pinned requirements of a peer name first of all: itself and the runtime."""
    if server.requirements is None:
        return {}
    pinned = dict(line.split("==") for line in server.requirements.read_text(encoding="utf-8").split() if "==" in line)
    wanted = ("bentoml", "fastapi", "litserve", "mlflow", "mlserver", "numpy", "onnxruntime", "ray", "uvloop")
    return {name: pinned[name] for name in wanted if name in pinned}
