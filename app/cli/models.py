"""`leanfuse models`: list and show what is registered."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from app.cli.options import DEFAULT_URL, Json, Url, connect

commands = typer.Typer(help="Look at registered models.", no_args_is_help=True)
Reference = Annotated[str, typer.Argument(help="name, name/3 (a version) or name@champion (an alias).")]
COLUMNS = ("model", "version>", "kind", "accuracy % [95 %]", "parameters>", "ONNX>", "ms, batch 1>", "aliases")


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


def version_of(model: Mapping[str, Any], alias: str | None) -> int:
    """Return the version that an alias points at, or the newest; raise ModelNotFoundError."""
    from app.domain.errors import ModelNotFoundError

    if alias is None:
        return int(model["newest"]["version"])
    if alias not in model["aliases"]:
        raise ModelNotFoundError(
            f"{model['name']} has no alias {alias!r}.", hint=f"It has: {model['aliases'] or 'none'}."
        )
    return int(model["aliases"][alias])


def print_comparisons(report: Mapping[str, Any]) -> None:
    """Write how a version stands against its baseline."""
    from app.cli import render

    baseline = report.get("baseline")
    if baseline:
        render.print_fields({"against": baseline.get("against", ""), "verdict": baseline.get("verdict", "")})


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
    )


def _fields(document: Mapping[str, Any]) -> dict[str, Any]:
    from app.cli import render

    metrics = document["metrics"]
    return {
        "model": f"{document['name']}/{document['version']}",
        "kind": f"{document['kind']} ({document.get('method', '')})",
        "dataset": document.get("dataset", ""),
        "digest": document["digest"],
        "accuracy": f"{render.with_interval(metrics.get('accuracy'), metrics.get('accuracy_interval'))} %",
        "parameters": f"{metrics['parameters']:,}",
        "ONNX": render.size(metrics["served_bytes"]),
        "latency": f"{metrics['latency_ms_batch_1']:.3f} ms at batch 1, {metrics['latency_ms_batch_32']:.3f} at 32",
    }
