"""The child process that reads uploaded graphs: `python -m app.importing.jail REQUEST ANSWER`.

It is confined like the one that reads data sets, before it imports what reads ONNX.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from app.datasets.jail import confine

if TYPE_CHECKING:
    from app.importing.messages import Answer, Request


def main(request_path: Path, answer_path: Path) -> None:
    """Read the request, confine this process, look through the graph, and leave the answer as a file."""
    text = request_path.read_text("utf-8")
    confine(json.loads(text)["limits"])
    target = answer_path.with_suffix(".part")
    target.write_text(_answer(text).model_dump_json(), "utf-8")
    target.replace(answer_path)


def _answer(text: str) -> "Answer":
    from app.datasets.messages import carried
    from app.domain.errors import LeanfuseError
    from app.domain.import_errors import InvalidModelError
    from app.importing.messages import Answer, Request

    try:
        return _examine(Request.model_validate_json(text))
    except LeanfuseError as error:
        return Answer(error=carried(error))
    except MemoryError:
        what, hint = "Reading the file needs too much memory.", "Send a smaller model."
    except Exception as error:  # noqa: BLE001 - whatever a parser does, the caller gets an answer
        what, hint = f"Reading the file failed: {type(error).__name__}.", "Check the file with onnx.checker."
    return Answer(error=carried(InvalidModelError(what, hint=hint)))


def _examine(request: "Request") -> "Answer":
    from app.importing.messages import Answer
    from app.importing.normalise import normalise
    from app.importing.safety import read_foreign

    model = read_foreign(request.file, most_parameters=request.most_parameters)
    found = normalise(model, request.dataset_schema, request.options)
    return Answer(output=found.taken.output, answers=found.taken.answers, classes=found.classes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
