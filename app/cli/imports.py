"""`leanfuse import`, also `leanfuse models import`: register an ONNX file that was made elsewhere."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.options import Json, Url, connect

_JSON_OPTIONS = frozenset({"classes", "tags"})


def import_model(
    file: Annotated[Path, typer.Argument(help="An ONNX file, whole in itself.", exists=True, dir_okay=False)],
    name: Annotated[str, typer.Option(help="The model to register it under.")],
    dataset: Annotated[str, typer.Option(help="The data set whose rows it takes, and on which it is measured.")],
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-o", help='KEY=VALUE: answers=logits, output=NAME, classes=["no","yes"], alias=NAME.'
        ),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is registered.")] = True,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Import an ONNX model.

    It is looked through, measured and registered like any other.
    """
    from app.cli import render

    options = read_options(option or [])
    with connect(url) as client:
        job = client.models.import_onnx(file, name=name, dataset=dataset, options=options)
        if wait:
            job = client.jobs.wait(job["id"])
    if job["error"]:
        raise render.job_error(job)
    render.print_json(job) if json_output else render.print_job(job)


def read_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Return KEY=VALUE pairs as options; classes and tags are JSON."""
    split = [pair.partition("=") for pair in pairs]
    if wrong := [key for key, _, value in split if not value]:
        raise typer.BadParameter(f"{wrong[0]!r} is not KEY=VALUE", param_hint="--option")
    return {key: _json(value) if key in _JSON_OPTIONS else value for key, _, value in split}


def _json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(text)
    except ValueError:
        raise typer.BadParameter(f"{text[:80]!r} is not JSON", param_hint="--option") from None
