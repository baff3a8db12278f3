"""`leanfuse models`: list, show and compare what is registered."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from app.cli.imports import import_model
from app.cli.options import DEFAULT_URL, Json, Url, connect
from app.cli.rollouts import Reference, promote, rollback, rollout, version_of

commands = typer.Typer(help="Look at registered models.", no_args_is_help=True)
commands.command("import")(import_model)
commands.command("promote")(promote)
commands.command("rollout")(rollout)
commands.command("rollback")(rollback)
COLUMNS = ("model", "version>", "kind", "accuracy % [95 %]", "parameters>", "file>", "ms, batch 1>", "aliases", "state")
COMPARED = ("model", "method", "accuracy % [95 %]", "ms, batch 1>", "file>", "gzip>", "parameters>", "front", "like")


@commands.command("ls")
def list_models(url: Url = DEFAULT_URL, json_output: Json = False) -> None:
    """List the models with the figures of their newest versions."""
    from app.cli import render

    with connect(url) as client:
        models = list(client.models.list())
    if json_output:
        render.print_json(models)
        return
    render.print_table(COLUMNS, (_row(model) for model in models))


@commands.command("show")
def show(reference: Reference, url: Url = DEFAULT_URL, json_output: Json = False) -> None:
    """Show one version: what it is, what it was made from, what was measured."""
    from app.cli import render
    from app.domain.names import parse_reference

    name, version, alias = parse_reference(reference)
    with connect(url) as client:
        if version is None:
            version = version_of(client.models.get(name), alias)
        document = client.models.version(name, version)
        report = client.models.report(name, version)
    if json_output:
        render.print_json({**document, "report": report})
        return
    render.print_fields(_fields(document))
    print_comparisons(report)


@commands.command("compare")
def compare(
    dataset: Annotated[str | None, typer.Option(help="Only versions for this data set.")] = None,
    x: Annotated[list[str] | None, typer.Option("--x", help="What shall be small: latency, bytes, ...")] = None,
    y: Annotated[str, typer.Option("--y", help="What shall be good: accuracy, nll, rmse, brier, ece.")] = "accuracy",
    all_versions: Annotated[bool, typer.Option("--all", help="All versions, not only the newest.")] = False,
    rejected: Annotated[bool, typer.Option("--rejected", help="Also versions that failed their gate.")] = False,
    limit: Annotated[list[str] | None, typer.Option(help="Such as max_latency_ms=2 or max_bytes=100000.")] = None,
    url: Url = DEFAULT_URL,
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
    render.print_table(COMPARED, (compared_row(entry) for entry in board["models"]))
    if told := told_best(board):
        render.print_fields(told)


def read_limits(limits: Sequence[str]) -> dict[str, str]:
    """Return limits by name; the service knows which there are."""
    split = [limit.partition("=") for limit in limits]
    if wrong := [name for name, _, value in split if not value]:
        raise typer.BadParameter(f"{wrong[0]} has no value; write max_bytes=100000.", param_hint="--limit")
    return {name: value for name, _, value in split}


def compared_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one line of the leaderboard."""
    from app.cli import render

    reference = f"{entry['name']}/{entry['version']}"
    accuracy = render.with_interval(entry["accuracy"], entry["accuracy_interval"])
    return (
        f"{reference} ({entry['state']})" if entry["state"] == "rejected" else reference,
        entry["method"],
        accuracy or render.figure(entry["rmse"]),
        f"{entry['latency_ms']:.3f}",
        render.size(entry["bytes"]),
        render.size(entry["gzip_bytes"]) if entry["gzip_bytes"] is not None else "",
        f"{entry['parameters']:,}",
        "front" if entry["pareto"] else "",
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


def print_comparisons(report: Mapping[str, Any]) -> None:
    """Write how a version stands against its baseline."""
    from app.cli import render

    baseline = report.get("baseline")
    if baseline:
        render.print_fields({"against": baseline.get("against", ""), "verdict": baseline.get("verdict", "")})
    if told := speed_fields(report.get("speed") or {}):
        render.print_fields(told)


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
