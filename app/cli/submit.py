"""`leanfuse train`, `optimize` and `ensemble`: a job from a file, from flags, or from a file that flags change."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.completion import complete_dataset, complete_model
from app.cli.options import Json, Url, connect
from app.cli.specs import Spec, fill, read_settings, spec_of_kind

if TYPE_CHECKING:
    from app.client import Client

File = Annotated[Path | None, typer.Argument(help="A job spec in JSON; - reads stdin. Flags change it.")]
Name = Annotated[str | None, typer.Option(help="The model to register the result under.")]
Dataset = Annotated[str | None, typer.Option(help="A registered data set.", autocompletion=complete_dataset)]
Epochs = Annotated[int | None, typer.Option(help="Epochs to train.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
Alias = Annotated[str | None, typer.Option(help="Alias to point at the new version, such as champion.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="PATH=VALUE of any other field, such as training.batch_size=32. Repeatable."),
]
Watch = Annotated[bool, typer.Option("--watch", help="Follow the job until it ends.")]
Check = Annotated[bool, typer.Option("--check", help="Only check the spec and estimate the model.")]


def train(
    file: File = None,
    *,
    name: Name = None,
    dataset: Dataset = None,
    architecture: Annotated[
        str | None, typer.Option(help="mlp, cnn, resnet, textcnn and others; its fields by --set architecture.FIELD=.")
    ] = None,
    epochs: Epochs = None,
    seed: Seed = None,
    alias: Alias = None,
    settings: Set = None,
    watch: Watch = False,
    check: Check = False,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Train a model."""
    spec = spec_of_kind(file, "train")
    given: dict[str, object] = {"name": name, "dataset": dataset, "architecture.type": architecture}
    fill(spec, {**given, **_common(epochs, seed, alias), **read_settings(settings or [])})
    if "name" not in spec and "dataset" in spec:
        spec["name"] = f"{spec['dataset']}-{spec.get('architecture', {}).get('type', 'model')}".replace("_", "-")
    send(spec, url, json_output=json_output, watch_it=watch, check=check)


def optimize(
    file: File = None,
    *,
    method: Annotated[
        str | None,
        typer.Option(
            help="share_weights, convolve, distill, prune, quantize, factorize, cluster, fine_tune or chain; "
            "its fields by --set method.FIELD=."
        ),
    ] = None,
    parent: Annotated[
        str | None,
        typer.Option("--parent", "--teacher", help="The model to make better.", autocompletion=complete_model),
    ] = None,
    name: Name = None,
    dataset: Dataset = None,
    max_drop: Annotated[float | None, typer.Option(help="Points of accuracy that may be lost.")] = None,
    epochs: Epochs = None,
    seed: Seed = None,
    alias: Alias = None,
    settings: Set = None,
    watch: Watch = False,
    check: Check = False,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Make a model smaller or faster.

    The data set and the name come from its parent unless they are given.
    """
    spec = spec_of_kind(file, "optimize")
    fill(spec, {"method.method": method, "method.max_drop": max_drop})
    role = "teacher" if spec.get("method", {}).get("method") == "distill" else "parent"
    given: dict[str, object] = {f"method.{role}": parent, "name": name, "dataset": dataset}
    fill(spec, {**given, **_common(epochs, seed, alias), **read_settings(settings or [])})
    send(spec, url, json_output=json_output, watch_it=watch, check=check)


def ensemble(
    file: File = None,
    *,
    method: Annotated[
        str | None,
        typer.Option(help="parallel, serial, stack, soup, cascade or snapshot; its fields by --set method.FIELD=."),
    ] = None,
    members: Annotated[
        list[str] | None,
        typer.Option("--member", "-m", help="A model to fuse. Repeatable.", autocompletion=complete_model),
    ] = None,
    name: Name = None,
    dataset: Dataset = None,
    epochs: Epochs = None,
    seed: Seed = None,
    alias: Alias = None,
    settings: Set = None,
    watch: Watch = False,
    check: Check = False,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Fuse models into one.

    The data set comes from the first member unless it is given.
    """
    spec = spec_of_kind(file, "ensemble")
    fused = [{"model": member} for member in members] if members else None
    given: dict[str, object] = {"method.method": method, "method.members": fused, "name": name, "dataset": dataset}
    fill(spec, {**given, **_common(epochs, seed, alias), **read_settings(settings or [])})
    send(spec, url, json_output=json_output, watch_it=watch, check=check)


def send(
    spec: Spec, url: str | None, *, json_output: bool, watch_it: bool, check: bool, as_it_is: bool = False
) -> None:
    """Submit a spec and print its job, follow it, or only say what it would be."""
    from app.cli import render
    from app.cli.follow import watch_job

    with connect(url) as client:
        if not as_it_is:
            complete(spec, client)
        if check:
            render.print_json(client.jobs.validate(spec))
            return
        job = client.jobs.submit(spec)
        if watch_it:
            watch_job(client, job.id, json_output=json_output)
        elif json_output:
            render.print_json(job)
        else:
            render.print_job(job)
            render.say(f"Follow it: leanfuse jobs watch {job.id}")


def complete(spec: Spec, client: "Client") -> None:
    """Take the data set from the model that a spec starts from, and name what it makes after both."""
    method = spec.get("method")
    source = source_of(method) if isinstance(method, dict) else None
    if not isinstance(method, dict) or source is None or {"name", "dataset"} <= set(spec):
        return
    version = client.models[source].version()
    spec.setdefault("dataset", version["dataset"])
    named = version["name"] if spec["kind"] == "optimize" else spec["dataset"]
    spec.setdefault("name", f"{named}-{method.get('method', 'model')}".replace("_", "-")[:63].rstrip("-"))


def source_of(method: dict[str, Any]) -> str | None:
    """Return the model that a method starts from: parent, teacher or first member."""
    members = method.get("members")
    first = members[0] if isinstance(members, list) and members and isinstance(members[0], dict) else {}
    found = method.get("parent") or method.get("teacher") or first.get("model")
    return found if isinstance(found, str) else None


def _common(epochs: int | None, seed: int | None, alias: str | None) -> dict[str, object]:
    return {"training.epochs": epochs, "seed": seed, "alias": alias}
