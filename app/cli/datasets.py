"""`leanfuse datasets`: add data sets, list them, look at them and their rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from app.cli.options import DatasetName, Json, Url, connect

if TYPE_CHECKING:
    from app.client.documents import Dataset, DatasetRow, RowSet

commands = typer.Typer(help="Add and look at data sets.", no_args_is_help=True, rich_markup_mode=None)
SHOWN_NUMBERS = 6


@commands.command("add")
def add(
    source: Annotated[
        str,
        typer.Argument(help="A builtin (digits, fashion_mnist, mnist1d) or a file: NPZ, CSV, ZIP.", show_default=False),
    ],
    name: Annotated[str | None, typer.Option(help="Its name; a builtin's own name is the default.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="KEY=VALUE of an upload, such as target=label.")
    ] = None,
    report_file: Annotated[
        Path | None, typer.Option(help="An official test file; its rows become the report set.", exists=True)
    ] = None,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Add a builtin data set, or upload a file."""
    from app.cli.render import print_json

    path = Path(source).expanduser()
    with connect(url) as client:
        if path.is_file() or "/" in source or path.suffix:
            dataset = client.datasets.upload(
                path, name=name or _name_of(path), report_path=report_file, options=_options(option or [])
            )
        else:
            dataset = client.datasets.add_builtin(source, name=name)
    print_json(dataset) if json_output else _print([dataset])


@commands.command("ls")
def list_datasets(url: Url = None, json_output: Json = False) -> None:
    """List the data sets."""
    from app.cli.render import print_json

    with connect(url) as client:
        datasets = list(client.datasets.list())
    print_json(datasets) if json_output else _print(datasets)


@commands.command("show")
def show(name: DatasetName, url: Url = None, json_output: Json = False) -> None:
    """Show one data set: what its rows are, and how many there are of each class."""
    from app.cli.render import print_fields, print_json

    with connect(url) as client:
        dataset = client.datasets.get(name)
    print_json(dataset) if json_output else print_fields(_fields(dataset))


@commands.command("rows")
def rows(
    name: DatasetName,
    row_set: Annotated[str, typer.Option("--set", help="train, selection or report.")] = "report",
    offset: Annotated[int, typer.Option(min=0, help="The first row.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many rows.")] = 10,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Show rows as models see them, with what they should answer."""
    from app.cli.render import print_json, print_table

    with connect(url) as client:
        page = client.datasets.rows(name, row_set=cast("RowSet", row_set), offset=offset, limit=limit)
    if json_output:
        print_json(page)
        return
    print_table(("row>", "answer", "x"), (_row(row) for row in page["rows"]))


def _name_of(path: Path) -> str:
    return path.name.split(".")[0].lower()


def _options(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)


def _print(datasets: "Sequence[Dataset]") -> None:
    from app.cli.render import print_table

    def row(dataset: "Dataset") -> tuple[str, ...]:
        schema = dataset["schema"]
        shape = " x ".join(map(str, schema["shape"]))
        return (
            dataset["name"],
            schema["features"],
            shape,
            schema["task"],
            str(len(schema["classes"])),
            _counts(schema),
        )

    print_table(("data set", "features", "row", "task", "classes>", "train/selection/report>"), map(row, datasets))


def _counts(schema: Mapping[str, Any]) -> str:
    return "/".join(str(schema["rows"][rows]) for rows in ("train", "selection", "report"))


def _fields(dataset: "Dataset") -> dict[str, str]:
    from app.cli.render import size

    schema = dataset["schema"]
    fields = {
        "data set": dataset["name"],
        "features": f"{schema['features']}, {schema['dtype']} {' x '.join(map(str, schema['shape']))}",
        "task": schema["task"],
        "classes": ", ".join(schema["classes"]),
        "rows": f"{_counts(schema)} (train/selection/report)",
        "size": size(dataset["size_bytes"]),
        "digest": dataset["digest"],
        "notes": " ".join(dataset["notes"]),
    }
    return {name: text for name, text in fields.items() if text}


def _row(row: "DatasetRow") -> tuple[str, str, str]:
    answer = row["label"] if row["label"] is not None else row["y"]
    return (str(row["row"]), "" if answer is None else str(answer), _shortened(row["x"]))


def _shortened(x: object) -> str:
    """Write the first numbers of a row, whatever its shape, or its text."""
    if isinstance(x, str):
        return x if len(x) <= 80 else f"{x[:79]}…"
    flat = _flat(x)
    shown = " ".join(f"{number:.4g}" for number in flat[:SHOWN_NUMBERS])
    return f"{shown} … ({len(flat)} numbers)" if len(flat) > SHOWN_NUMBERS else shown


def _flat(x: Any) -> list[float]:  # noqa: ANN401 - numbers nested to any depth
    return [number for part in x for number in _flat(part)] if isinstance(x, list) else [float(x)]
