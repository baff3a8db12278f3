"""Draw the figures of the method pages again: `python -m benchmarks.figures`.

They show what `python -m benchmarks.methods` measured, and are written to docs/images/methods.
"""

import json
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import fused, lean, made
from benchmarks.figures.drawing import Drawing, write

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "images" / "methods"
RESULT = ROOT / "benchmarks" / "results" / "methods.json"
FIGURES: dict[str, Callable[[lean.Results], Drawing]] = {
    "train": made.train,
    "search": made.search,
    "import": made.import_,
    "predict": made.predict,
    "share_weights": lean.share_weights,
    "convolve": lean.convolve,
    "distill": lean.distill,
    "prune": lean.prune,
    "quantize": lean.quantize,
    "factorize": lean.factorize,
    "cluster": lean.cluster,
    "fine_tune": lean.fine_tune,
    "chain": lean.chain,
    "parallel": fused.parallel,
    "serial": fused.serial,
    "stack": fused.stack,
    "soup": fused.soup,
    "snapshot": fused.snapshot,
    "cascade": fused.cascade,
}


def drawn() -> dict[str, Drawing]:
    """Return every figure, drawn from what was measured."""
    results = json.loads(RESULT.read_text(encoding="utf-8"))["results"]
    return {name: draw(results) for name, draw in FIGURES.items()}


if __name__ == "__main__":
    write(FOLDER, drawn())
