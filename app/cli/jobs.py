"""`leanfuse jobs`: submit, list, show, watch, read the log, cancel, retry."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import JobId, Json, Url, connect
from app.cli.specs import read_spec

commands = typer.Typer(help="Submit and follow jobs.", no_args_is_help=True, rich_markup_mode=None)


@commands.command("submit")
def submit(
    file: Annotated[Path, typer.Argument(help="A job spec in JSON; - reads stdin.", show_default=False)],
    url: Url = None,
    json_output: Json = False,
    watch_it: Annotated[bool, typer.Option("--watch", help="Follow the job until it ends.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only check the spec and estimate the model.")] = False,
) -> None:
    """Submit a job spec."""
    from app.cli.submit import send

    send(read_spec(file), url, json_output=json_output, watch_it=watch_it, check=check, as_it_is=True)


@commands.command("ls")
def list_jobs(
    url: Url = None,
    json_output: Json = False,
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only train, optimize, ensemble, import or predict.")] = None,
    name: Annotated[str | None, typer.Option(help="Only jobs of this model.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 50,
) -> None:
    """List jobs, the newest first."""
    from itertools import islice

    from app.cli import render

    with connect(url) as client:
        jobs = list(islice(client.jobs.list(state=state, kind=kind, name=name), limit))
    if json_output:
        render.print_json(jobs)
        return
    render.print_table(
        ("job", "name", "kind", "state", "progress>", "result"),
        (
            (
                job.id,
                render.job_name(job),
                render.job_kind(job),
                render.styled_state(job.state),
                render.progress_text(job),
                render.result_reference(job),
            )
            for job in jobs
        ),
    )


@commands.command("show")
def show(job_id: JobId, url: Url = None, json_output: Json = False) -> None:
    """Show one job."""
    from app.cli.render import print_job, print_json

    with connect(url) as client:
        job = client.jobs.get(job_id)
    print_json(job) if json_output else print_job(job)


@commands.command("watch")
def watch(job_id: JobId, url: Url = None, json_output: Json = False) -> None:
    """Follow a job until it ends; Ctrl-C leaves it running. Exits 1 when the job does not succeed."""
    from app.cli.follow import watch_job

    with connect(url) as client:
        watch_job(client, job_id, json_output=json_output)


@commands.command("logs")
def logs(job_id: JobId, url: Url = None, json_output: Json = False) -> None:
    """Print what a job says, from its start until it ends; Ctrl-C leaves it running."""
    from app.cli import render

    with connect(url) as client:
        try:
            for event in client.jobs.events(job_id):
                if json_output:
                    render.print_json(event._asdict())
                elif line := render.event_line(event.name, event.data):
                    render.print_line(line)
        except KeyboardInterrupt:
            render.say(f"The job goes on. Read on: leanfuse jobs logs {job_id}")
            raise


@commands.command("cancel")
def cancel(job_id: JobId, url: Url = None, json_output: Json = False) -> None:
    """Ask a job to end."""
    from app.cli.render import print_job, print_json

    with connect(url) as client:
        job = client.jobs.cancel(job_id)
    print_json(job) if json_output else print_job(job)


@commands.command("retry")
def retry(
    job_id: JobId,
    url: Url = None,
    json_output: Json = False,
    watch_it: Annotated[bool, typer.Option("--watch", help="Follow the new job until it ends.")] = False,
) -> None:
    """Submit a failed or cancelled job's spec again, as a new job."""
    from app.cli.follow import watch_job
    from app.cli.render import print_job, print_json

    with connect(url) as client:
        job = client.jobs.retry(job_id)
        if watch_it:
            watch_job(client, job.id, json_output=json_output)
        else:
            print_json(job) if json_output else print_job(job)
