"""`leanfuse doctor` and `leanfuse db`: for whoever runs the service."""

import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from app.cli.options import Json

if TYPE_CHECKING:
    from app.settings import Settings

UNHEALTHY = 1
FREE_BYTES = 2**30
database_commands = typer.Typer(help="Look after the database.", no_args_is_help=True)


@database_commands.command("upgrade")
def upgrade_database() -> None:
    """Bring the database that LEANFUSE_DATABASE_URL names to the newest schema."""
    from app.cli.render import console
    from app.db.migrate import upgrade
    from app.settings import Settings

    settings = Settings()
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    upgrade(settings.database_url)
    console(stderr=True).print("The database has the newest schema.")


def doctor(json_output: Json = False) -> None:
    """Check what the service needs on this machine; exits 1 when something is missing."""
    from app.cli.render import print_json, print_table
    from app.settings import Settings

    settings = Settings()
    checks = {name: _timed(check, settings) for name, check in CHECKS.items()}
    if json_output:
        print_json(checks)
    else:
        rows = ((name, "ok" if found["ok"] else "[red]wrong[/]", found["detail"]) for name, found in checks.items())
        print_table(("check", "", "detail"), rows)
    if not all(found["ok"] for found in checks.values()):
        raise typer.Exit(UNHEALTHY)


def _timed(check: Callable[["Settings"], str], settings: "Settings") -> Mapping[str, Any]:
    started = time.monotonic()
    try:
        detail, well = check(settings), True
    except Exception as error:  # noqa: BLE001 - whatever a check raises is its finding
        detail, well = _one_line(error), False
    return {"ok": well, "detail": detail, "milliseconds": round(1000 * (time.monotonic() - started), 1)}


def _one_line(error: Exception) -> str:
    from app.logging import redact

    lines = str(error).splitlines()
    return redact(lines[0] if lines else type(error).__name__)


def _check_python(_settings: "Settings") -> str:
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"


def _check_packages(_settings: "Settings") -> str:
    names = ("leanfuse", "fastapi", "sqlalchemy", "celery", "onnxruntime")
    return ", ".join(f"{name} {version(name)}" for name in names)


def _check_home(settings: "Settings") -> str:
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.home).free
    if free < FREE_BYTES:
        raise OSError(f"{settings.home} has only {free / 2**20:.0f} MiB free")
    return f"{settings.home}, {free / 2**30:.0f} GiB free"


def _check_store(settings: "Settings") -> str:
    from app.store.local import LocalStore

    root = Path(settings.store_url.removeprefix("file://"))
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"leanfuse doctor")
        file.flush()
        store = LocalStore(root)
        reference = store.put(Path(file.name))
    store.fetch(reference.sha256)
    store.delete(reference.sha256)
    return settings.store_url


def _check_database(settings: "Settings") -> str:
    from app.db.migrate import is_current
    from app.db.session import create_engine_for

    engine = create_engine_for(settings.database_url)
    try:
        current = is_current(engine)
        kind = engine.dialect.name
    finally:
        engine.dispose()
    return f"{kind}, {'newest schema' if current else 'needs `leanfuse db upgrade` (`leanfuse up` does it)'}"


def _check_broker(settings: "Settings") -> str:
    if settings.broker_url is None:
        return "none: the worker host polls the database"
    from redis import Redis

    client = Redis.from_url(settings.broker_url, socket_timeout=5, socket_connect_timeout=5)
    try:
        return f"Redis protocol, version {client.info('server')['redis_version']}"
    finally:
        client.close()


def _check_backend(settings: "Settings") -> str:
    for package in ("keras", settings.backend):
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"{package} is missing; it is in the `worker` extra (only workers need it)")
    return ", ".join(f"{name} {_version_of(name)}" for name in ("keras", settings.backend))


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(unknown version)"


def _check_accelerator(_settings: "Settings") -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "none: training runs on the CPU"
    found = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, timeout=20, check=True)
    return "; ".join(line.split(" (UUID")[0] for line in found.stdout.splitlines()) or "none"


CHECKS: Mapping[str, Callable[["Settings"], str]] = {
    "python": _check_python,
    "packages": _check_packages,
    "home": _check_home,
    "store": _check_store,
    "database": _check_database,
    "broker": _check_broker,
    "backend": _check_backend,
    "accelerator": _check_accelerator,
}
