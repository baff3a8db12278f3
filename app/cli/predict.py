"""`leanfuse predict`: ask a model or a fused ensemble."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from app.cli.completion import complete_dataset
from app.cli.options import Json, Reference, Url, connect

if TYPE_CHECKING:
    from app.client import Client
    from app.client.documents import RowSet

FORMATS = frozenset({"npz", "csv", "parquet"})
WAIT_SECONDS = 7 * 86_400


def predict(
    reference: Reference,
    file: Annotated[Path | None, typer.Argument(help="Rows as a JSON array, or an .npy file; - reads stdin.")] = None,
    *,
    dataset: Annotated[
        str | None, typer.Option(help="Predict rows of this data set instead.", autocompletion=complete_dataset)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many rows of the data set, without --output.")] = 10,
    row_set: Annotated[
        str, typer.Option("--set", help="train, selection or report; with --output also all three: all.")
    ] = "report",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Predict every row of the set by a job, into this file.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="npz, csv or parquet. Default: what the file's name ends in.")
    ] = None,
    members: Annotated[bool, typer.Option("--members", help="Each member's prediction too.")] = False,
    uncertainty: Annotated[bool, typer.Option("--uncertainty", help="Entropy, disagreement and the like too.")] = False,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Predict for rows of a file or of a registered data set."""
    from app.cli.render import print_json

    options = {"members": members, "uncertainty": uncertainty}
    if (file is None) == (dataset is None):
        raise typer.BadParameter("name a FILE of rows or a --dataset")
    if output is None and form is not None:
        raise typer.BadParameter("--format is that of a file: name it with --output")
    with connect(url) as client:
        if output is not None:
            chosen: dict[str, str | bool] = {"set": row_set, "format": form or format_of(output), **options}
            _predict_all(client, reference, dataset, output, chosen, json_output=json_output)
            return
        if dataset is None:
            answer: Mapping[str, Any] = client.models.predict(reference, read_rows(file or Path("-")), **_true(options))
        else:
            answer = client.models.predictions(
                reference,
                dataset=dataset,
                row_set=cast("RowSet", row_set),
                limit=limit,
                members=members,
                uncertainty=uncertainty,
            )
    print_json(answer) if json_output else _print(answer)


def format_of(output: Path) -> str:
    """Return the format that a file's name ends in."""
    form = output.suffix.removeprefix(".").lower()
    if form not in FORMATS:
        raise typer.BadParameter(f"{output.name} ends in none of .npz, .csv and .parquet: say which with --format")
    return form


def _predict_all(
    client: "Client",
    reference: str,
    dataset: str | None,
    output: Path,
    options: dict[str, str | bool],
    *,
    json_output: bool,
) -> None:
    from app.cli.render import print_job, print_json

    if dataset is None:
        raise typer.BadParameter("--output takes the rows of a --dataset")
    if not output.absolute().parent.is_dir():
        raise typer.BadParameter(f"{output.parent} is no folder")
    job_id = client.jobs.predict(reference, dataset=dataset, options=options)["id"]
    try:
        job = client.jobs.wait(job_id, timeout_seconds=WAIT_SECONDS)
    except KeyboardInterrupt:
        _tell_how_to_follow(job_id)
        raise
    if job["state"] == "succeeded":
        client.jobs.download(job_id, output)
    print_json(job) if json_output else print_job(job)
    if job["state"] != "succeeded":
        raise typer.Exit(1)


def _tell_how_to_follow(job_id: str) -> None:
    from app.cli.render import console

    console(stderr=True).print(f"The job goes on. Follow it again: leanfuse jobs watch {job_id}")


def _true(options: dict[str, bool]) -> dict[str, bool]:
    return {name: True for name, wanted in options.items() if wanted}


def read_rows(file: Path) -> list[Any]:
    """Read rows from JSON (an array, or an object with `instances`) or from an .npy file."""
    from app.domain.errors import MalformedJsonError

    if file.suffix == ".npy":
        return _read_array(file)
    try:
        value = json.loads(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise MalformedJsonError(f"{file} is not JSON: {error}.", hint="Rows are one JSON array.") from error
    rows = value.get("instances") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise MalformedJsonError(f"{file} holds no array of rows.", hint='Write [row, …] or {"instances": [row, …]}.')
    return rows


def _read_array(file: Path) -> list[Any]:
    import numpy as np

    from app.domain.errors import UnreadableFileError

    try:
        return list(np.load(file, allow_pickle=False).tolist())
    except (OSError, ValueError) as error:
        raise UnreadableFileError(
            f"{file} cannot be read: {error}.", hint="Save plain numbers with numpy.save; objects are never unpickled."
        ) from error


def _print(answer: Mapping[str, Any]) -> None:
    from app.cli.render import console

    for prediction in answer["predictions"]:
        console().print(json.dumps(prediction, ensure_ascii=False), soft_wrap=True, markup=False)
