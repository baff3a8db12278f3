"""`leanfuse predict`: ask a model or a fused ensemble."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.options import DEFAULT_URL, Json, Url, connect


def predict(
    reference: Annotated[str, typer.Argument(help="name, name/3 (a version) or name@champion (an alias).")],
    file: Annotated[Path | None, typer.Argument(help="Rows as a JSON array, or an .npy file; - reads stdin.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Predict report rows of this data set instead.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many rows of the data set.")] = 10,
    url: Url = DEFAULT_URL,
    json_output: Json = False,
) -> None:
    """Predict for rows of a file or of a registered data set."""
    from app.cli.render import print_json

    with connect(url) as client:
        if file is not None and dataset is None:
            answer = client.models.predict(reference, read_rows(file))
        elif dataset is not None and file is None:
            answer = client.models.predictions(reference, dataset=dataset, limit=limit)
        else:
            raise typer.BadParameter("name a FILE of rows or a --dataset")
    print_json(answer) if json_output else _print(answer)


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


def _print(answer: dict[str, Any]) -> None:
    from app.cli.render import console

    for prediction in answer["predictions"]:
        console().print(json.dumps(prediction, ensure_ascii=False), soft_wrap=True, markup=False)
