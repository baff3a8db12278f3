"""Answer rows with `model.onnx`, which stands beside this file. Needs numpy and onnxruntime, nothing else.

python predict.py rows.npy      rows as `numpy.save` writes them
python predict.py rows.json     rows as a JSON array: nested numbers, or texts for a model of text
python predict.py -             the same, from stdin

Each row is answered by one line of JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

FOLDER = Path(__file__).parent
BATCH_ROWS = 256


class Model:
    """Hold the graph, and what `model.json` says of its rows and answers."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.about: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        # This rewriting makes the int8 graphs of Leanfuse slower.
        self.session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"),
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["QDQPropagationTransformer"],
        )

    def rows(self, values: Any) -> Any:  # noqa: ANN401 - an array, nested lists or texts
        """Return rows as the graph takes them: in its shape and its type of numbers."""
        shape, dtype = tuple(self.about["input"]["shape"]), self.about["input"]["dtype"]
        if len(values) and isinstance(values[0], str):
            values = self._texts(values, shape[0])
        rows = np.asarray(values)
        if rows.shape[1:] != shape:
            raise SystemExit(f"The rows have the shape {list(rows.shape[1:])}; the model takes {list(shape)}.")
        return rows.astype(dtype)

    def _texts(self, texts: list[str], length: int) -> Any:  # noqa: ANN401 - an array
        """Write texts in UTF-8, cut or padded with 0 to the length of a row."""
        rows = np.zeros((len(texts), length), dtype=np.uint8)
        for row, text in zip(rows, texts, strict=True):
            encoded = np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8)[:length]
            row[: len(encoded)] = encoded
        return rows

    def predict(self, values: Any) -> Any:  # noqa: ANN401 - arrays in and out
        """Return what the graph answers: a probability for every class, or a value."""
        rows = self.rows(values)
        answers = [
            self.session.run(
                [self.about["output"]], {self.session.get_inputs()[0].name: rows[start : start + BATCH_ROWS]}
            )
            for start in range(0, len(rows), BATCH_ROWS)
        ]
        return np.concatenate([answer[0] for answer in answers]) if answers else np.zeros((0, 0), np.float32)

    def describe(self, answer: Any) -> dict[str, Any]:  # noqa: ANN401 - one row of `predict`
        """Return one answer in words."""
        if not self.about["classes"]:
            return {"prediction": float(answer[0])}
        label = self.about["classes"][int(answer.argmax())]
        return {"label": label, "probabilities": [float(share) for share in answer]}


def read(name: str) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return the rows of a file, or of stdin."""
    if name.endswith(".npy"):
        return np.load(name, allow_pickle=False)
    text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    value = json.loads(text)
    return value["instances"] if isinstance(value, dict) else value


def main() -> None:
    """Answer the rows of the file that the command line names."""
    if len(sys.argv) != 2 or sys.argv[1] in {"-h", "--help"}:
        raise SystemExit(__doc__)
    model = Model()
    for answer in model.predict(read(sys.argv[1])):
        sys.stdout.write(json.dumps(model.describe(answer)) + "\n")


if __name__ == "__main__":
    main()
