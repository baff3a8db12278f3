"""Register a graph of others: in our form, checked against the file as it came, measured like any other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from app.domain.alignment import class_order
from app.domain.fusion import softmax
from app.domain.import_errors import InvalidModelError
from app.domain.job_errors import ExportMismatchError
from app.domain.specs import GraphOptions, ImportSpec
from app.importing.normalise import Normalised, normalise
from app.importing.safety import read_foreign, stored_numbers
from app.importing.signature import Feed, Taken
from app.serving.opsets import opsets_of
from app.serving.packed import write_graph
from app.serving.runtime import Engine, load_engine, predict_rows
from worker.assignment import Assignment
from worker.context import Context
from worker.graph_cost import graph_cost
from worker.package import PARITY_ROWS, Draft, Product, file_ref, finish, simplest
from worker.rows import Array, Data

# Of answers, and of predictions in units of the largest one.
TOLERANCE = 1e-4
_SUM_TOLERANCE = 1e-3


def import_graph(spec: ImportSpec, assignment: Assignment, context: Context, data: Data) -> Product:
    """Bring the file into our form, and register it with an honest report.

    Raise InvalidModelError when it answers no probabilities, ExportMismatchError when our form answers other than the
    file does.
    """
    if assignment.file is None:
        raise TypeError("an import job has no file")
    foreign = read_foreign(assignment.file, most_parameters=assignment.limits.parameters)
    rows = np.asarray(data.x["selection"][:PARITY_ROWS])
    found = _told_apart(normalise(foreign, data.dataset_schema, spec), foreign, spec, rows, data)
    directory = assignment.output / "model"
    directory.mkdir(parents=True)
    path = write_graph(directory, found.graph, packed=False)
    engine = _load(path)
    _check_answers(_answers(engine, rows, data), data)
    parity = _check_parity(found, foreign, engine, rows, data)
    context.reporter.log(f"{spec.name}: takes {found.taken.output!r} as {found.taken.answers}")
    context.reporter.progress(1, 1)
    notes = _notes(foreign, found, assignment.file)
    return finish(_draft(spec, assignment, directory, parity, found, notes, data), assignment, data)


def _told_apart(found: Normalised, foreign: onnx.ModelProto, spec: ImportSpec, rows: Array, data: Data) -> Normalised:
    """Decide by real rows whether answers are probabilities or logits where the graph did not tell."""
    if found.taken.answers is not None:
        return found
    answers = _foreign_answers(foreign, found.feed, found.taken, rows)
    kind: Literal["probabilities", "logits"] = "probabilities" if _are_probabilities(answers) else "logits"
    options = GraphOptions(classes=spec.classes, output=spec.output, answers=kind)
    return normalise(foreign, data.dataset_schema, options)


def _are_probabilities(answers: NDArray[Any]) -> bool:
    sums = answers.sum(axis=1)
    return bool((answers >= -_SUM_TOLERANCE).all() and np.abs(sums - 1).max() <= _SUM_TOLERANCE)


def _load(graph: Path | bytes) -> Engine:
    try:
        return load_engine(graph)
    except Exception as broken:  # noqa: BLE001 - the runtime has a class of its own for every way to fail
        raise _not_run(broken) from None


def _answers(engine: Engine, rows: Array, data: Data) -> NDArray[Any]:
    try:
        return predict_rows(engine, rows, data.output)
    except Exception as broken:  # noqa: BLE001 - as above
        raise _not_run(broken) from None


def _not_run(broken: Exception) -> InvalidModelError:
    told = (str(broken).strip().splitlines() or [type(broken).__name__])[0]
    return InvalidModelError(
        f"The graph does not run on the data set's rows: {told[:300]}",
        hint="It must take any number of rows; export it with a dynamic first axis.",
    )


def _check_answers(answers: NDArray[Any], data: Data) -> None:
    """Raise InvalidModelError where answers for real rows are not finite, not one per class, or no probabilities."""
    if answers.shape[1:] != (data.dataset_schema.outputs,):
        raise InvalidModelError(f"The graph answers {answers.shape[1:]} numbers per row.", hint="Name another output.")
    if not np.isfinite(answers).all():
        raise InvalidModelError("The graph answers NaN or infinity for real rows.", hint="Mend the model.")
    if data.classification and not _are_probabilities(answers):
        raise InvalidModelError(
            "What the graph answers as probabilities does not sum to 1, or is negative.",
            hint='Say `"answers": "logits"`, or name another output.',
        )


def _check_parity(
    found: Normalised, foreign: onnx.ModelProto, engine: Engine, rows: Array, data: Data
) -> dict[str, Any]:
    """Compare our form with the file as it came, and one row at a time with all of them at once."""
    expected = _expected(_foreign_answers(foreign, found.feed, found.taken, rows), found, data)
    own = _answers(engine, rows, data).astype(np.float64)
    single = predict_rows(engine, rows[:3], data.output, batch_size=1)
    scale = max(1.0, float(np.abs(expected).max()))
    difference = float(max(np.abs(own - expected).max(), np.abs(single - expected[:3]).max()) / scale)
    if not difference <= TOLERANCE:
        raise ExportMismatchError(
            f"In our form the graph answers up to {difference:.2e} other than the file, on {len(rows)} rows; "
            f"at most {TOLERANCE:.0e} is accepted.",
            hint="Export it with opset 20, and so that it answers every row by itself.",
        )
    return {"rows": len(rows), "max_difference": difference}


def _expected(answers: NDArray[Any], found: Normalised, data: Data) -> NDArray[np.float64]:
    wide = answers.astype(np.float64)
    if found.taken.answers == "prediction":
        return wide.reshape(-1, 1)
    probabilities = softmax(wide) if found.taken.answers == "logits" else wide
    if found.classes is None:
        return probabilities
    return probabilities[:, list(class_order(found.classes, data.dataset_schema.classes))]


def _foreign_answers(foreign: onnx.ModelProto, feed: Feed, taken: Taken, rows: Array) -> NDArray[Any]:
    """Return what the file itself answers, fed by arithmetic instead of by nodes of ours."""
    asked = onnx.ModelProto()
    asked.CopyFrom(foreign)
    if taken.tensor not in {value.name for value in asked.graph.output}:
        asked.graph.output.append(helper.make_empty_tensor_value_info(taken.tensor))
    single = _takes_one_row(foreign, feed.name)
    batches = [rows[place : place + 1] for place in range(len(rows))] if single else [rows]
    try:
        engine = load_engine(asked.SerializeToString())
        parts = [engine.run(_fed(batch, feed), [taken.tensor])[0] for batch in batches]
    except Exception as broken:  # noqa: BLE001 - as above
        raise _not_run(broken) from None
    return np.concatenate(parts)


def _takes_one_row(foreign: onnx.ModelProto, name: str) -> bool:
    value = next(value for value in foreign.graph.input if value.name == name)
    return bool(value.type.tensor_type.shape.dim[0].dim_value == 1)


def _fed(rows: Array, feed: Feed) -> Array:
    moved = np.moveaxis(rows, -1, 1) if feed.channels_first else rows
    shaped = moved.reshape(-1, *feed.shape) if feed.shape is not None else moved
    return np.ascontiguousarray(shaped, helper.tensor_dtype_to_np_dtype(feed.element))


def _notes(foreign: onnx.ModelProto, found: Normalised, path: Path) -> dict[str, Any]:
    file = file_ref(path)
    return {
        "file": {
            "sha256": file.sha256,
            "size_bytes": file.size_bytes,
            "producer": foreign.producer_name,
            "opsets": {domain or "ai.onnx": version for domain, version in opsets_of(foreign).items()},
        },
        "output": found.taken.output,
        "answers": found.taken.answers,
        "rows": _told_feed(found.feed),
        "classes": found.classes or "taken to be in the data set's order",
        "counted": "parameters: all numbers that the file stores, thresholds of trees too; macs: those of layers",
        "leaks": "which rows the model was trained on is not known here: rows of the report set may be among them",
    }


def _told_feed(feed: Feed) -> Mapping[str, Any]:
    return {"channels_first": feed.channels_first, "shape": list(feed.shape) if feed.shape is not None else None}


def _draft(
    spec: ImportSpec,
    assignment: Assignment,
    directory: Path,
    parity: dict[str, Any],
    found: Normalised,
    notes: dict[str, Any],
    data: Data,
) -> Draft:
    return Draft(
        directory=directory,
        kind="single",
        name=spec.name,
        method="import",
        seed=assignment.seed,
        recipe_digest=assignment.recipe_digest,
        parameters=stored_numbers(found.graph),
        macs=graph_cost(found.graph).macs or 0,
        weights_bytes=0,
        parity=parity,
        baselines=[simplest(data)],
        notes=notes,
    )
