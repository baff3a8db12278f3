"""`leanfuse models`: list, show, compare, fetch and remove what is registered."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from app.cli.charts import LETTERS, Point, scatter
from app.cli.completion import complete_dataset, complete_model
from app.cli.imports import import_model
from app.cli.options import Json, Reference, Url, connect
from app.cli.rollouts import promote, remove_alias, rollback, rollout, version_of

commands = typer.Typer(
    help="Look at, compare, promote, fetch and remove models.", no_args_is_help=True, rich_markup_mode=None
)
commands.command("import")(import_model)
commands.command("promote")(promote)
commands.command("rollout")(rollout)
commands.command("rollback")(rollback)
commands.command("unalias")(remove_alias)
COLUMNS = ("model", "version>", "kind", "accuracy % [95 %]", "parameters>", "file>", "ms, batch 1>", "aliases", "state")
COMPARED = ("", "model", "method", "accuracy % [95 %]", "ms, batch 1>", "file>", "gzip>", "parameters>", "like")

COST_FIELDS = {"latency": "latency_ms", "memory": "memory_bytes"}
COST_LABELS = {"latency": "latency, ms", "memory": "memory, bytes", "gzip_bytes": "bytes under gzip"}


@commands.command("ls")
def list_models(
    kind: Annotated[Literal["single", "ensemble"] | None, typer.Option(help="Only these.")] = None,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """List the models with the figures of their newest versions."""
    from app.cli import render

    with connect(url) as client:
        models = list(client.models.list(kind=kind))
    if json_output:
        render.print_json(models)
        return
    render.print_table(COLUMNS, (_row(model) for model in models))


@commands.command("show")
def show(reference: Reference, url: Url = None, json_output: Json = False) -> None:
    """Show one version: what it is, what it was made from, what was measured."""
    from app.cli import render
    from app.domain.references import parse_reference

    name, version, alias = parse_reference(reference)
    with connect(url) as client:
        if version is None:
            version = version_of(client.models.get(name), alias)
        document = client.models.version(name, version)
        report = client.models.report(name, version)
    if json_output:
        render.print_json({**document, "report": report})
        return
    render.print_fields({**_fields(document), **comparison_fields(report)})


@commands.command("pull")
def pull(
    reference: Reference,
    folder: Annotated[Path, typer.Argument(help="Where to put the files; it is made.")] = Path(),
    files: Annotated[
        list[str] | None, typer.Option("--file", help="Such as model.onnx or report.json; all without it. Repeatable.")
    ] = None,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Download the files of a version, each verified by its SHA-256."""
    from app.cli import render

    with connect(url) as client:
        version = client.models[reference].version()
        chosen = files or sorted(version["files"])
        folder.mkdir(parents=True, exist_ok=True)
        saved = [client.models.download(version["name"], version["version"], file, folder / file) for file in chosen]
    if json_output:
        render.print_json({"model": f"{version['name']}/{version['version']}", "files": list(map(str, saved))})
        return
    for path in saved:
        render.print_line(str(path))


@commands.command("rm")
def remove(
    reference: Annotated[
        str,
        typer.Argument(help="name/3: exactly one version.", autocompletion=complete_model, show_default=False),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Take a version out of service for good; what an alias, an ensemble or a job needs is refused."""
    from app.cli import render
    from app.domain.references import parse_reference

    name, version, _ = parse_reference(reference)
    if version is None:
        raise typer.BadParameter(f"{reference!r} names no version: write {name}/3.", param_hint="REFERENCE")
    if not yes and not _is_sure(reference):
        raise typer.BadParameter("nothing was removed; to be sure, say --yes.", param_hint="--yes")
    with connect(url) as client:
        client.models.delete(name, version)
    _tell_removed(reference, json_output=json_output)
    render.say(f"The number {version} is not used again.")


def _is_sure(reference: str) -> bool:
    return sys.stdin.isatty() and typer.confirm(f"Take {reference} out of service for good?", err=True)


def _tell_removed(reference: str, *, json_output: bool) -> None:
    from app.cli import render

    if json_output:
        render.print_json({"model": reference, "removed": True})
    else:
        render.print_fields({"removed": reference})


@commands.command("compare")
def compare(
    *,
    dataset: Annotated[
        str | None, typer.Option(help="Only versions for this data set.", autocompletion=complete_dataset)
    ] = None,
    x: Annotated[list[str] | None, typer.Option("--x", help="What shall be small: latency, bytes, ...")] = None,
    y: Annotated[str, typer.Option("--y", help="What shall be good: accuracy, nll, rmse, brier, ece.")] = "accuracy",
    all_versions: Annotated[bool, typer.Option("--all", help="All versions, not only the newest.")] = False,
    rejected: Annotated[bool, typer.Option("--rejected", help="Also versions that failed their gate.")] = False,
    limit: Annotated[list[str] | None, typer.Option(help="Such as max_latency_ms=2 or max_bytes=100000.")] = None,
    plot: Annotated[
        bool | None, typer.Option("--plot/--no-plot", help="Draw them; on a terminal that is the default.")
    ] = None,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Compare models: what no other beats, and the best within limits."""
    from app.cli import render

    asked = {"dataset": dataset, "x": x or ["latency"], "y": y, "versions": "all" if all_versions else "newest"}
    with connect(url) as client:
        board = client.models.compare(**asked, include_rejected=rejected, **read_limits(limit or ()))
    if json_output:
        render.print_json(board)
        return
    marks = marks_of(board["models"])
    if sys.stdout.isatty() if plot is None else plot:
        for line in plotted(board, marks):
            render.print_line(line)
        render.say("Letters are on the front: no other model is better in one figure and no worse in all others.")
    render.print_table(COMPARED, map(compared_row, board["models"], marks))
    if told := told_best(board):
        render.print_fields(told)


def read_limits(limits: Sequence[str]) -> dict[str, str]:
    """Return limits by name; the service knows which there are."""
    split = [limit.partition("=") for limit in limits]
    if wrong := [name for name, _, value in split if not value]:
        raise typer.BadParameter(f"{wrong[0]} has no value; write max_bytes=100000.", param_hint="--limit")
    return {name: value for name, _, value in split}


def marks_of(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what stands for each version in the plot: a letter on the front, else a dot."""
    letters = iter(LETTERS)
    return [next(letters, "*") if entry["pareto"] else "·" for entry in entries]


def plotted(board: Mapping[str, Any], marks: Sequence[str]) -> list[str]:
    """Draw quality against the first cost; letters are on the front, where no other is better in all that counts."""
    cost, quality = board["x"][0], board["y"]
    field = COST_FIELDS.get(cost, cost)
    points = [
        Point(float(entry[field]), float(entry[quality]), mark)
        for entry, mark in zip(board["models"], marks, strict=True)
        if entry[field] is not None and entry[quality] is not None
    ]
    return scatter(points, x_label=COST_LABELS.get(cost, cost), y_label=quality)


def compared_row(entry: Mapping[str, Any], mark: str) -> tuple[str, ...]:
    """Return one line of the leaderboard."""
    from app.cli import render

    reference = f"{entry['name']}/{entry['version']}"
    accuracy = render.with_interval(entry["accuracy"], entry["accuracy_interval"])
    return (
        mark,
        f"{reference} ({entry['state']})" if entry["state"] == "rejected" else reference,
        entry["method"],
        accuracy or render.figure(entry["rmse"]),
        f"{entry['latency_ms']:.3f}",
        render.size(entry["bytes"]),
        render.size(entry["gzip_bytes"]) if entry["gzip_bytes"] is not None else "",
        f"{entry['parameters']:,}",
        " ".join(entry["indistinguishable_from"][:3]),
    )


def told_best(board: Mapping[str, Any]) -> dict[str, str]:
    """Return what is to be said of the best, or of what misses the limits by least."""
    limits = ", ".join(f"{name}={bound:g}" for name, bound in board["limits"].items())
    if best := board["best"]:
        return {"best within " + limits if limits else "best": f"{best['name']}/{best['version']}"}
    if not limits:
        return {}
    if not (nearest := board["nearest_miss"]):
        return {"best within " + limits: "none"}
    misses = ", ".join(f"{name}: {miss['value']:g} for {miss['limit']:g}" for name, miss in nearest["misses"].items())
    return {"best within " + limits: "none", "nearest": f"{nearest['name']}/{nearest['version']} ({misses})"}


def comparison_fields(report: Mapping[str, Any]) -> dict[str, str]:
    """Return how a version stands against its baseline."""
    baseline = report.get("baseline") or {}
    known = {name: str(baseline[name]) for name in ("against", "verdict") if name in baseline}
    return known | speed_fields(report.get("speed") or {})


def speed_fields(speed: Mapping[str, Any]) -> dict[str, str]:
    """Return what the times show by batch size; nothing of reports from before there was a verdict on them."""
    return {
        f"time, batch {size}": f"{speed[f'verdict_batch_{size}']} ({speed[f'ratio_batch_{size}']:.2f}x, "
        f"95 % {low:.2f} to {high:.2f}) against {speed['against']}"
        for size in (1, 32)
        if f"verdict_batch_{size}" in speed
        for low, high in [speed[f"ratio_batch_{size}_interval"]]
    }


def _row(model: Mapping[str, Any]) -> tuple[str, ...]:
    from app.cli import render

    version = model["newest"]
    metrics = version["metrics"]
    return (
        model["name"],
        str(version["version"]),
        version.get("method") or version["kind"],
        render.with_interval(metrics.get("accuracy"), metrics.get("accuracy_interval")),
        f"{metrics['parameters']:,}",
        render.size(metrics["served_bytes"]),
        f"{metrics['latency_ms_batch_1']:.3f}",
        " ".join(f"{alias}→{number}" for alias, number in model.get("aliases", {}).items()),
        state_of(version),
    )


def state_of(version: Mapping[str, Any]) -> str:
    """Return a version's state, with the reason of one that was rejected."""
    reason = version.get("rejected")
    return f"{version['state']}: {reason}" if reason else str(version["state"])


def _fields(document: Mapping[str, Any]) -> dict[str, Any]:
    from app.cli import render

    metrics = document["metrics"]
    return {
        "model": f"{document['name']}/{document['version']}",
        "state": state_of(document),
        "kind": f"{document['kind']} ({document.get('method', '')})",
        "dataset": document.get("dataset", ""),
        "digest": document["digest"],
        "accuracy": f"{render.with_interval(metrics.get('accuracy'), metrics.get('accuracy_interval'))} %",
        "parameters": f"{metrics['parameters']:,}",
        "file": render.size(metrics["served_bytes"]),
        "latency": f"{metrics['latency_ms_batch_1']:.3f} ms at batch 1, {metrics['latency_ms_batch_32']:.3f} at 32",
    }
