"""`leanfuse up`: the API and a worker host, as one command; `serve` and `worker` are its halves."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.cli.options import Json
from app.cli.render import print_json, say

if TYPE_CHECKING:
    from app.settings import Settings

RESTART_SECONDS = 2.0
GRACEFUL_SECONDS = 30
INTERRUPTED = 130
Host = Annotated[str | None, typer.Option(help="Address to listen on (LEANFUSE_HOST).")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one (LEANFUSE_PORT).")]
Home = Annotated[Path | None, typer.Option(help="Directory of everything embedded (LEANFUSE_HOME).")]
Workers = Annotated[int | None, typer.Option(min=1, max=256, help="API processes (LEANFUSE_SERVING__WORKERS).")]


def up(
    host: Host = None,
    port: Port = None,
    home: Home = None,
    workers: Workers = None,
    worker: Annotated[bool, typer.Option(help="Also run a worker host.")] = True,
    json_output: Json = False,
) -> None:
    """Serve the API and run a worker host until Ctrl-C.

    Without LEANFUSE_BROKER_URL everything is embedded: SQLite, files, a worker host that polls. With it, the worker is
    Celery's. The database is migrated first.
    """
    from app.cli.stack import worker_command
    from app.settings import Settings

    given = {"LEANFUSE_HOST": host, "LEANFUSE_PORT": port, "LEANFUSE_HOME": home, "LEANFUSE_SERVING__WORKERS": workers}
    _set_environment(given)
    settings = Settings()
    _migrate(settings)
    listener = _listen(settings.host, settings.port)
    command = worker_command(scaled=settings.scaled, slots=settings.worker.slots) if worker else []
    _leave_on_signals(0)
    address, bound_port = listener.getsockname()[:2]
    say(f"Leanfuse serves on http://{address}:{bound_port} (docs at /docs); Ctrl-C ends it.")
    if json_output:
        print_json({"url": f"http://{address}:{bound_port}", "pid": os.getpid()})
    with kept_running(command, {}):
        _serve(listener, workers=settings.serving.workers, access_log=settings.log_level == "debug")


def serve(
    host: Host = None,
    port: Port = None,
    home: Home = None,
    workers: Workers = None,
    json_output: Json = False,
) -> None:
    """Serve the API alone until Ctrl-C.

    `leanfuse worker` trains what is submitted.
    """
    up(host, port, home, workers, worker=False, json_output=json_output)


def worker(home: Home = None) -> None:
    """Run a worker host alone until Ctrl-C.

    With LEANFUSE_BROKER_URL it is Celery's, else the one that polls the database.
    """
    from app.cli.stack import worker_command
    from app.logging import redact
    from app.settings import Settings

    _set_environment({"LEANFUSE_HOME": home})
    settings = Settings()
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = worker_command(scaled=settings.scaled, slots=settings.worker.slots, alone=True)
    say(f"The worker of {redact(settings.database_url)} runs until Ctrl-C.")
    os.execv(command[0], command)  # noqa: S606 - signals must reach the worker itself


def demo(
    dataset: Annotated[Literal["digits", "fashion_mnist"], typer.Option(help="Real images to learn.")] = "digits",
    stack: Annotated[
        Literal["embedded", "scaled"], typer.Option(help="scaled: PostgreSQL, Valkey and Celery instead of SQLite.")
    ] = "embedded",
    json_output: Json = False,
) -> None:
    """Run the whole main job on real data.

    It trains, optimizes, distills, fuses and predicts; exits 0 when all holds.
    """
    from app.cli.demo import run_demo

    _leave_on_signals(INTERRUPTED)
    raise typer.Exit(run_demo(dataset, stack, json_output=json_output))


@contextmanager
def kept_running(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[None]:
    """Run a child meanwhile, start it again when it ends by itself, and end it by its pid at last."""
    if not command:
        yield
        return
    from app.cli.stack import stop

    leaving = threading.Event()
    children = [_start(command, environment)]
    watcher = threading.Thread(target=_restart, args=(command, environment, children, leaving), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        leaving.set()
        stop(children[-1])
        watcher.join()
        stop(children[-1])  # one that was started in the instant before `leaving` was set


def _restart(
    command: Sequence[str],
    environment: Mapping[str, str],
    children: list["subprocess.Popen[bytes]"],
    leaving: threading.Event,
) -> None:
    while True:
        code = children[-1].wait()
        if leaving.wait(RESTART_SECONDS):
            return
        say(f"The worker host ended with code {code}; it is started again.")
        children.append(_start(command, environment))


def _start(command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    # A process group of its own: Ctrl-C reaches only us, and we end the API before the worker.
    return subprocess.Popen(command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, process_group=0)


def _serve(listener: socket.socket, *, workers: int, access_log: bool) -> None:
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    config = uvicorn.Config(
        "app.main:create_app",
        factory=True,
        http="app.cli.protocol:JoiningProtocol",
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        timeout_keep_alive=5,
        workers=workers,
        # A line for every request costs more than a small prediction; metrics count them all.
        access_log=access_log,
    )
    try:
        if workers == 1:
            uvicorn.Server(config).run(sockets=[listener])
            return
        with TemporaryDirectory(prefix="leanfuse-metrics-") as folder:
            # Each process counts in files there, and whichever is asked for metrics adds them up.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
            Multiprocess(config, sockets=[listener]).run()
    except KeyboardInterrupt:
        say("Ending the worker; a running job is checkpointed and goes on next time.")


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything else starts, so that a taken port is told in one line."""
    from app.domain.errors import ConflictError

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConflictError(
            f"{host}:{port} cannot be listened on: {error.strerror}.", hint="Choose another with --port, or --port 0."
        ) from error
    listener.set_inheritable(True)
    return listener


def _migrate(settings: "Settings") -> None:
    from app.db.migrate import upgrade

    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    upgrade(settings.database_url)


def _set_environment(values: Mapping[str, object]) -> None:
    """Let options reach the child too: both read their settings from the environment."""
    os.environ.update({name: str(value) for name, value in values.items() if value is not None})


def _leave_on_signals(code: int) -> None:
    """Leave on SIGTERM and SIGHUP as at the end of the program, so that no child is left behind."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(code)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
