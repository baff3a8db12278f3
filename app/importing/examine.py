"""Look through an uploaded graph before a job is made of it, in a process that may do nothing else."""

import tempfile
from pathlib import Path

from pydantic import ValidationError

from app.datasets.ingest import DEFAULT_LIMITS, revive, run_jailed
from app.domain.datasets import DatasetSchema, canonical_json
from app.domain.import_errors import InvalidModelError
from app.domain.pointing import pointing_at
from app.domain.specs import GraphOptions
from app.importing.messages import Answer, Request


def examine(
    path: Path, schema: DatasetSchema, options: GraphOptions, *, most_parameters: int, workspace: Path
) -> GraphOptions:
    """Return the options with what the graph tells of its answers; raise what makes it impossible for the data set.

    Besides InvalidModelError, UnsafeModelError, ModelTooLargeError and ShapeMismatchError this is UnreadableFileError
    where the process that reads was ended.
    """
    request = Request(
        file=path.absolute(),
        dataset_schema=schema,
        options=options,
        most_parameters=most_parameters,
        limits=DEFAULT_LIMITS,
    )
    with tempfile.TemporaryDirectory(prefix="import-", dir=workspace) as folder:
        asked = canonical_json(request.model_dump(mode="json"))
        answer = _read(run_jailed("app.importing.jail", Path(folder), asked, request.limits))
    with pointing_at("/file"):
        if answer.error is not None:
            raise revive(answer.error)
    answers = None if answer.answers == "prediction" else answer.answers
    return options.model_copy(update={"output": answer.output, "answers": answers, "classes": answer.classes})


def _read(text: bytes) -> Answer:
    """Read what the child left; it is as little to be trusted as the file."""
    try:
        return Answer.model_validate_json(text)
    except ValidationError:
        raise InvalidModelError("The file could not be read.", hint="Check it with onnx.checker.") from None
