"""The `leanfuse` command.

Data goes to stdout, talk to stderr. Exit codes: 0 well, 1 a job failed, 2 wrong usage or input, 3 not found,
4 conflict, 5 the service cannot be reached, 130 interrupted.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from app import __version__
from app.cli import admin, datasets, doctor, export, imports, jobs, models, predict, submit, up
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
QUIET = ("--quiet", "-q")

application = typer.Typer(
    name="leanfuse",
    help="Lean models, fused: make models smaller and faster, fuse them, serve them.",
    epilog="Exit codes: 0 well, 1 a job failed, 2 wrong usage, 3 not found, 4 conflict, 5 the service is unreachable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Rich's help takes longer to import than everything else together.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
application.command("up")(up.up)
application.command("demo")(up.demo)
application.command("train")(submit.train)
application.command("optimize")(submit.optimize)
application.command("ensemble")(submit.ensemble)
application.command("predict")(predict.predict)
application.command("export")(export.export)
application.command("import")(imports.import_model)
application.add_typer(jobs.commands, name="jobs")
application.add_typer(models.commands, name="models")
application.add_typer(datasets.commands, name="datasets")
application.command("serve")(up.serve)
application.command("worker")(up.worker)
application.add_typer(admin.database_commands, name="db")
application.command("doctor")(doctor.doctor)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with the code that its outcome has."""
    from app.cli import render

    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with render.talking(quiet=is_quiet(given)):
            application(args=[argument for argument in given if argument not in QUIET], prog_name="leanfuse")
    except LeanfuseError as error:
        render.print_error(error, as_json="--json" in given)
        sys.exit(exit_code_of(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def exit_code_of(error: LeanfuseError) -> int:
    """Return the exit code of an error: that of the first of its kinds in EXIT_CODES."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def is_quiet(arguments: Sequence[str]) -> bool:
    """Tell whether nothing but data and errors is wanted: by a flag anywhere, else as the configuration says."""
    from app.cli.config import read_config

    asked_for_help = any(flag in arguments for flag in ("--help", "-h", "--version"))
    return any(flag in arguments for flag in QUIET) or (bool(arguments) and not asked_for_help and read_config().quiet)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"leanfuse {__version__}")
        raise typer.Exit


@application.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but data and errors; it may stand anywhere.")
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    main()
