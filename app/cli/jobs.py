"""`leanfuse jobs`: submit, list, show, watch, cancel."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.options import DEFAULT_URL, JobId, Json, Url, connect

if TYPE_CHECKING:
    from app.client import Client

commands = typer.Typer(help="Submit and follow jobs.", no_args_is_help=True)
FAILED = 1


@commands.command("submit")
def submit(
    file: Annotated[Path, typer.Argument(help="A job spec in JSON; - reads stdin.")],
    url: Url = DEFAULT_URL,
    json_output: Json = False,
    watch_it: Annotated[bool, typer.Option("--watch", help="Follow the job until it ends.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only check the spec and estimate the model.")] = False,
) -> None:
    """Submit a job spec."""
    from app.cli.render import print_job, print_json

    spec = read_spec(file)
    with connect(url) as client:
        if check:
            print_json(client.jobs.validate(spec))
            return
        job = client.jobs.submit(spec)
        if watch_it:
            _watch(client, job["id"], json_output=json_output)
        elif json_output:
            print_json(job)
        else:
            print_job(job)


@commands.command("ls")
def list_jobs(
    url: Url = DEFAULT_URL,
    json_output: Json = False,
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 50,
) -> None:
    """List jobs, the newest first."""
    from itertools import islice

    from app.cli import render

    with connect(url) as client:
        jobs = list(islice(client.jobs.list(state=state), limit))
    if json_output:
        render.print_json(jobs)
        return
    render.print_table(
        ("job", "name", "kind", "state", "progress>", "result"),
        (
            (
                job["id"],
                render.job_name(job),
                render.job_kind(job),
                render.styled_state(job["state"]),
                render.progress_text(job),
                render.result_reference(job),
            )
            for job in jobs
        ),
    )


@commands.command("show")
def show(job_id: JobId, url: Url = DEFAULT_URL, json_output: Json = False) -> None:
    """Show one job."""
    from app.cli.render import print_job, print_json

    with connect(url) as client:
        job = client.jobs.get(job_id)
    print_json(job) if json_output else print_job(job)


@commands.command("watch")
def watch(job_id: JobId, url: Url = DEFAULT_URL, json_output: Json = False) -> None:
    """Follow a job until it ends; Ctrl-C leaves it running. Exits 1 when the job does not succeed."""
    with connect(url) as client:
        _watch(client, job_id, json_output=json_output)


@commands.command("cancel")
def cancel(job_id: JobId, url: Url = DEFAULT_URL, json_output: Json = False) -> None:
    """Ask a job to end."""
    from app.cli.render import print_job, print_json

    with connect(url) as client:
        job = client.jobs.cancel(job_id)
    print_json(job) if json_output else print_job(job)


def read_spec(file: Path) -> dict[str, Any]:
    """Read a JSON object from a file or stdin; raise MalformedJsonError that says where it is broken."""
    from app.domain.errors import MalformedJsonError

    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        spec = json.loads(text)
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise MalformedJsonError(f"{file} is not JSON: {error}.", hint="A job spec is one JSON object.") from error
    if not isinstance(spec, dict):
        raise MalformedJsonError(f"{file} holds no JSON object.", hint="A job spec is one JSON object.")
    return spec


def _watch(client: "Client", job_id: str, *, json_output: bool) -> None:
    from app.cli import follow, render

    try:
        if json_output:
            for event in client.jobs.events(job_id):
                render.print_json(event._asdict())
        else:
            follow.follow_jobs(client, [job_id])
    except KeyboardInterrupt:
        render.console(stderr=True).print(f"The job goes on. Follow it again: leanfuse jobs watch {job_id}")
        raise
    job = client.jobs.get(job_id)
    if not json_output:
        render.print_job(job)
    if job["state"] != "succeeded":
        raise typer.Exit(FAILED)
