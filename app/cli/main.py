"""The `leanfuse` command.

Data goes to stdout, talk to stderr. Exit codes: 0 well, 1 a job failed, 2 wrong usage or input, 3 not found,
4 conflict, 5 the service cannot be reached, 130 interrupted.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from app import __version__
from app.cli import admin, datasets, jobs, models, predict, up
from app.domain.errors import (
    ConflictError,
    DatasetNotFoundError,
    JobError,
    LeanfuseError,
    NotFoundError,
    PreconditionFailedError,
    ReferenceNotFoundError,
    UnavailableError,
)
from app.domain.job_errors import MethodNotApplicableError

EXIT_CODES: tuple[tuple[type[LeanfuseError], int], ...] = (
    (MethodNotApplicableError, 2),
    (JobError, 1),
    (NotFoundError, 3),
    (DatasetNotFoundError, 3),
    (ReferenceNotFoundError, 3),
    (ConflictError, 4),
    (PreconditionFailedError, 4),
    (UnavailableError, 5),
    (LeanfuseError, 2),
)
INTERRUPTED = 130

application = typer.Typer(
    name="leanfuse",
    help="Lean models, fused: make models smaller and faster, fuse them, serve them.",
    epilog="Exit codes: 0 well, 1 a job failed, 2 wrong usage, 3 not found, 4 conflict, 5 the service is unreachable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
application.add_typer(jobs.commands, name="jobs")
application.add_typer(models.commands, name="models")
application.add_typer(datasets.commands, name="datasets")
application.add_typer(admin.database_commands, name="db")
application.command("up")(up.up)
application.command("predict")(predict.predict)
application.command("doctor")(admin.doctor)
application.command("demo")(up.demo)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with the code that its outcome has."""
    try:
        application(args=arguments)
    except LeanfuseError as error:
        from app.cli.render import print_error

        print_error(error)
        sys.exit(exit_code_of(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def exit_code_of(error: LeanfuseError) -> int:
    """Return the exit code of an error: that of the first of its kinds in EXIT_CODES."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"leanfuse {__version__}")
        raise typer.Exit


@application.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    main()
