"""`leanfuse datasets`: add and list data sets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.options import DEFAULT_URL, Json, Url, connect

commands = typer.Typer(help="Add and look at data sets.", no_args_is_help=True)


@commands.command("add")
def add(
    source: Annotated[str, typer.Argument(help="A builtin (digits, fashion_mnist, mnist1d) or a file: NPZ, CSV, ZIP.")],
    name: Annotated[str | None, typer.Option(help="Its name; a builtin's own name is the default.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="KEY=VALUE of an upload, such as target=label.")
    ] = None,
    report_file: Annotated[
        Path | None, typer.Option(help="An official test file; its rows become the report set.", exists=True)
    ] = None,
    url: Url = DEFAULT_URL,
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
def list_datasets(url: Url = DEFAULT_URL, json_output: Json = False) -> None:
    """List the data sets."""
    from app.cli.render import print_json

    with connect(url) as client:
        datasets = list(client.datasets.list())
    print_json(datasets) if json_output else _print(datasets)


def _name_of(path: Path) -> str:
    return path.name.split(".")[0].lower()


def _options(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)


def _print(datasets: Sequence[Mapping[str, Any]]) -> None:
    from app.cli.render import print_table

    def row(dataset: Mapping[str, Any]) -> tuple[str, ...]:
        schema = dataset["schema"]
        shape = " x ".join(map(str, schema["shape"]))
        counts = "/".join(str(schema["rows"][rows]) for rows in ("train", "selection", "report"))
        return (dataset["name"], schema["features"], shape, schema["task"], str(len(schema["classes"])), counts)

    print_table(("data set", "features", "row", "task", "classes>", "train/selection/report>"), map(row, datasets))
