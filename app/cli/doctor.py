"""`leanfuse doctor`: what the service needs on this machine, what is missing, and what to do about it."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from app.cli.options import Json, Url

if TYPE_CHECKING:
    from app.settings import Settings

UNHEALTHY = 1
FREE_BYTES = 2**30
SERVICE_SECONDS = 2.0
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?>=([0-9.]+)")


class Finding(NamedTuple):
    """Say what a check found, whether it is well, and what to do."""

    detail: str
    hint: str = ""
    ok: bool = True


def doctor(url: Url = None, json_output: Json = False) -> None:
    """Check this machine, and say what to do.

    Exits 1 when something that the service needs is missing.
    """
    from app.cli.render import print_json, print_table
    from app.settings import Settings

    settings = Settings()
    checks = {name: _timed(check, settings) for name, check in CHECKS.items()}
    checks["service"] = _timed(lambda _: _check_service(url), settings)
    if json_output:
        print_json(checks)
    else:
        print_table(("check", "", "detail"), _rows(checks))
    if not all(found["ok"] for found in checks.values()):
        raise typer.Exit(UNHEALTHY)


def _rows(checks: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    from rich.markup import escape

    for name, found in checks.items():
        yield name, "ok" if found["ok"] else "[red]wrong[/]", escape(found["detail"])
        if found["hint"]:
            yield "", "", f"[dim]what to do:[/] {escape(found['hint'])}"


def _timed(check: Callable[["Settings"], Finding], settings: "Settings") -> dict[str, Any]:
    started = time.monotonic()
    try:
        found = check(settings)
    except Exception as error:  # noqa: BLE001 - whatever a check raises is its finding
        found = Finding(_one_line(error), getattr(error, "hint", ""), ok=False)
    milliseconds = round(1000 * (time.monotonic() - started), 1)
    return {"ok": found.ok, "detail": found.detail, "hint": found.hint, "milliseconds": milliseconds}


def _one_line(error: Exception) -> str:
    from app.logging import redact

    lines = str(error).splitlines()
    return redact(lines[0] if lines else type(error).__name__)


def _check_python(_settings: "Settings") -> Finding:
    return Finding(f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}")


def _check_packages(_settings: "Settings") -> Finding:
    """Compare what is installed with what this release asks for; what an extra asks for only where it is installed."""
    from importlib.metadata import requires

    wrong = [told for requirement in requires("leanfuse") or () if (told := mismatch_of(requirement))]
    if wrong:
        return Finding("; ".join(wrong), "Install them anew: `uv sync`, or `pip install --upgrade leanfuse`.", ok=False)
    shown = ("leanfuse", "fastapi", "sqlalchemy", "celery", "onnxruntime")
    return Finding(", ".join(f"{name} {installed(name)}" for name in shown))


def mismatch_of(requirement: str) -> str:
    """Return what is wrong with an installed package, or nothing: "numpy 1.26 is older than 2.2"."""
    matched = _REQUIREMENT.match(requirement)
    if matched is None:
        return ""
    name, least = matched.groups()
    found = installed(name)
    if found is None:
        is_needed = ";" not in requirement
        return f"{name} is not installed" if is_needed else ""
    return f"{name} {found} is older than {least}" if _numbers(found) < _numbers(least) else ""


def installed(package: str) -> str | None:
    """Return the version of an installed package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _check_home(settings: "Settings") -> Finding:
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(settings.home, os.W_OK):
        return Finding(f"{settings.home} cannot be written to", "Own it, or set LEANFUSE_HOME elsewhere.", ok=False)
    return _room(settings.home, shutil.disk_usage(settings.home).free)


def _room(home: Path, free: int) -> Finding:
    if free < FREE_BYTES:
        told = f"{home} has only {free / 2**20:.0f} MiB free"
        return Finding(told, "Free a GiB, or set LEANFUSE_HOME to a larger disk.", ok=False)
    return Finding(f"{home}, {free / 2**30:.0f} GiB free")


def _check_store(settings: "Settings") -> Finding:
    from app.logging import redact
    from app.store import open_store

    store = open_store(settings.store_url)
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"leanfuse doctor")
        file.flush()
        reference = store.put(Path(file.name))
    store.fetch(reference.sha256)
    store.delete(reference.sha256)
    return Finding(f"{redact(settings.store_url)}, written and read")


def _check_database(settings: "Settings") -> Finding:
    from sqlalchemy import make_url

    url = make_url(settings.database_url)
    hint = "Run `leanfuse db upgrade`; `leanfuse up` does it too."
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        return Finding(f"there is no database at {url.database} yet", hint, ok=False)
    try:
        kind, current = _schema_of(settings.database_url)
    except Exception as error:  # noqa: BLE001 - a driver may raise anything; it is the finding
        told = "Start it, and check host, user, password and name in LEANFUSE_DATABASE_URL."
        return Finding(_one_line(error), told, ok=False)
    if not current:
        return Finding(f"{kind}, not the newest schema", hint, ok=False)
    return Finding(f"{kind}, newest schema")


def _schema_of(url: str) -> tuple[str, bool]:
    from app.db.migrate import is_current
    from app.db.session import create_engine_for

    engine = create_engine_for(url)
    try:
        return engine.dialect.name, is_current(engine)
    finally:
        engine.dispose()


def _check_broker(settings: "Settings") -> Finding:
    if settings.broker_url is None:
        return Finding("none: the worker host polls the database")
    from redis import Redis

    client = Redis.from_url(settings.broker_url, socket_timeout=5, socket_connect_timeout=5)
    try:
        return Finding(f"Redis protocol, version {client.info('server')['redis_version']}")
    except Exception as error:  # noqa: BLE001 - whatever it is, the broker does not answer
        hint = "Start it and check LEANFUSE_BROKER_URL; unset it to do without one."
        return Finding(f"the broker does not answer: {_one_line(error)}", hint, ok=False)
    finally:
        client.close()


def _check_backend(settings: "Settings") -> Finding:
    extra = "worker" if settings.backend == "tensorflow" else settings.backend
    for package in ("keras", settings.backend):
        if find_spec(package) is None:
            hint = f"A worker needs it: `pip install 'leanfuse[worker,{extra}]'`. The API alone does not."
            return Finding(f"{package} is not installed", hint.replace("worker,worker", "worker"), ok=False)
    return Finding(", ".join(f"{name} {installed(name) or '(unknown)'}" for name in ("keras", settings.backend)))


def _check_accelerator(settings: "Settings") -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return _without_gpu("no GPU is visible", settings)
    found = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, timeout=20, check=False)
    names = [line.split(" (UUID")[0] for line in found.stdout.splitlines()]
    if found.returncode or not names:
        return _without_gpu(f"nvidia-smi finds no GPU: {(found.stderr or found.stdout).strip()[:200]}", settings)
    lacking = settings.backend == "tensorflow" and not any(installed(f"nvidia-cudnn-cu{major}") for major in (12, 13))
    hint = "TensorFlow needs CUDA's libraries to use it: `pip install 'leanfuse[gpu]'`." if lacking else ""
    return Finding("; ".join(names), hint)


def _without_gpu(told: str, settings: "Settings") -> Finding:
    if settings.worker.devices:
        wanted = ", ".join(settings.worker.devices)
        hint = "Install the NVIDIA driver, pass the GPU to the container, or unset LEANFUSE_WORKER__DEVICES."
        return Finding(f"{told}, and LEANFUSE_WORKER__DEVICES asks for {wanted}", hint, ok=False)
    return Finding(f"{told}: training runs on the CPU")


def _check_service(url: str | None) -> Finding:
    from app import __version__
    from app.cli.config import read_config
    from app.client import Connection
    from app.client.documents import Service
    from app.domain.errors import UnreachableError

    address = url or read_config().url
    try:
        with closing(Connection(address, timeout_seconds=SERVICE_SECONDS)) as connection:
            found = connection.request(Service, "GET", "/version", repeatable=False)
    except UnreachableError:
        return Finding(f"nothing answers at {address}", "Start it with `leanfuse up` when you want it to.")
    if found["version"].split(".")[:2] != __version__.split(".")[:2]:
        hint = "Install the same release here and there."
        return Finding(f"{address} runs {found['version']}, this command is {__version__}", hint, ok=False)
    return Finding(f"{address} runs {found['version']}")


CHECKS: Mapping[str, Callable[["Settings"], Finding]] = {
    "python": _check_python,
    "packages": _check_packages,
    "home": _check_home,
    "store": _check_store,
    "database": _check_database,
    "broker": _check_broker,
    "backend": _check_backend,
    "accelerator": _check_accelerator,
}
