"""The ways to run a graph: engines, threads, and what the graph can be rewritten to."""

from functools import partial
from typing import Literal

import onnx

from app.serving import cuda_engine, openvino_engine
from app.serving.merging import variants
from app.serving.runtime import Engine, load_engine
from app.serving.sharing import asked_only
from app.serving.tuning import Candidate

EngineChoice = Literal["auto", "onnxruntime", "openvino"]
BASE = "onnxruntime/1"
_MAIN_OUTPUTS = ("probabilities", "prediction")


def main_outputs(engine: Engine) -> tuple[str, ...]:
    """Return what is mostly asked of a graph."""
    return next(((name,) for name in _MAIN_OUTPUTS if name in engine.outputs), engine.outputs[:1])


def ways_to_run(graph: bytes, base: Engine, *, engine: EngineChoice, threads: int) -> list[Candidate]:
    """Return the candidates for the main outputs of a plain graph.

    They run a graph without the other outputs, since runtimes compute every output whatever is fetched. Of an ensemble
    with members that are alike there is a second one that runs these as one. A name is `runtime/threads`: what has the
    same runtime in its name answers the same to the last bit.
    """
    outputs = main_outputs(base)
    found: list[Candidate] = []
    for variant, model in variants(onnx.load_model_from_string(graph)):
        content = asked_only(model, outputs).SerializeToString()
        suffix = "" if variant == "plain" else f".{variant}"
        if engine != "openvino" and cuda_engine.is_installed():
            found.append(Candidate(f"cuda{suffix}/1", 1, partial(cuda_engine.load_cuda_engine, content, outputs)))
        for count in sorted({1, threads}):
            if engine != "openvino":
                load = partial(load_engine, content, threads=count)
                found.append(Candidate(f"onnxruntime{suffix}/{count}", count, load))
            if engine != "onnxruntime" and openvino_engine.is_installed():
                made = partial(openvino_engine.OpenVinoEngine, content, outputs, like=base, threads=count)
                found.append(Candidate(f"openvino{suffix}/{count}", count, made))
    return found
