"""`leanfuse export`: a folder that explains a model and runs it without Leanfuse."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.options import Json, Reference, Url, connect

if TYPE_CHECKING:
    from app.cli.card import Subject
    from app.client import Client
    from app.client.documents import Plot, PlotForm, Version

GRAPH, PACKED_GRAPH = "model.onnx", "model.packed"
PICTURES: "tuple[PlotForm, ...]" = ("svg", "png")


def export(
    reference: Reference,
    folder: Annotated[Path, typer.Argument(help="The folder to make.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that has files already.")] = False,
    url: Url = None,
    json_output: Json = False,
) -> None:
    """Write a model as a folder: card, plots, graph and a predict.py.

    The card says what the model is, what was measured on it and where its limits are; predict.py needs only numpy and
    onnxruntime.
    """
    import shutil
    from tempfile import TemporaryDirectory

    from app.cli import render
    from app.domain.errors import AlreadyExistsError

    if not force and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AlreadyExistsError(f"{folder} has files already.", hint="Name another folder, or add --force.")
    with connect(url) as client, TemporaryDirectory() as scratch:
        version = _write(client, reference, Path(scratch))
        shutil.copytree(scratch, folder, dirs_exist_ok=True)
    written = sorted(str(path) for path in folder.rglob("*") if path.is_file())
    if json_output:
        render.print_json({"model": f"{version['name']}/{version['version']}", "folder": str(folder), "files": written})
        return
    for path in written:
        render.print_line(path)
    render.say(f"Try it: python {folder / 'predict.py'} rows.npy")


def _write(client: "Client", reference: str, folder: Path) -> "Version":
    from importlib import resources

    from app.cli.card import model_card

    subject = _read(client, reference)
    version = subject.version
    _write_graph(client, version, folder / GRAPH)
    _write_json(folder / "model.json", _about(version))
    _write_json(folder / "report.json", subject.report)
    script = resources.files("app.cli.exported") / "predict.py"
    (folder / "predict.py").write_text(script.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "requirements.txt").write_text("numpy\nonnxruntime\n", encoding="utf-8")
    pinned = f"{version['name']}/{version['version']}"
    plots = [plot for plot in subject.plots if _write_plot(client, pinned, plot, folder / "plots")]
    (folder / "README.md").write_text(model_card(subject._replace(plots=plots)), encoding="utf-8")
    return version


def _read(client: "Client", reference: str) -> "Subject":
    from app.cli.card import Subject
    from app.domain.errors import NotFoundError

    version = client.models[reference].version()
    model = client.models[f"{version['name']}/{version['version']}"]
    try:
        dataset = client.datasets.get(version["dataset"])
    except NotFoundError:
        dataset = None
    return Subject(
        version=version,
        description=client.models.get(version["name"])["description"],
        report=model.report(),
        lineage=model.lineage(),
        dataset=dataset,
        plots=model.plots(),
    )


def _write_graph(client: "Client", version: "Version", target: Path) -> None:
    """Save the graph that serves, as ONNX: one that is packed is unpacked, since others cannot read it."""
    name, number = version["name"], version["version"]
    if PACKED_GRAPH not in version["files"]:
        client.models.download(name, number, GRAPH, target)
        return
    from app.serving.packed import read_graph

    packed = client.models.download(name, number, PACKED_GRAPH, target.with_name(PACKED_GRAPH))
    target.write_bytes(read_graph(packed).SerializeToString())
    packed.unlink()


def _about(version: "Version") -> dict[str, Any]:
    """Return what `predict.py` must know of the graph, and where it comes from."""
    return {
        "model": f"{version['name']}/{version['version']}",
        "digest": version["digest"],
        "task": version["task"],
        "classes": version["classes"] if version["task"] == "classification" else [],
        "input": {"shape": version["input"]["shape"][1:], "dtype": version["input"]["dtype"]},
        "output": "probabilities" if version["task"] == "classification" else "prediction",
    }


def _write_plot(client: "Client", reference: str, plot: "Plot", folder: Path) -> bool:
    """Save a plot in both forms, and tell whether it could be: a figure that fails is no reason to export nothing."""
    from app.domain.errors import LeanfuseError

    folder.mkdir(exist_ok=True)
    try:
        for form in PICTURES:
            (folder / f"{plot['name']}.{form}").write_bytes(client.models[reference].plot(plot["name"], form=form))
    except LeanfuseError as error:
        from app.cli.render import say

        say(f"The plot {plot['name']} is left out: {error.detail}")
        return False
    return True


def _write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - any JSON value
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
