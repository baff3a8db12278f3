"""How many bytes a network takes in every format that it can be kept in."""

import io
from contextlib import redirect_stdout
from pathlib import Path

import keras
import numpy as np
from safetensors.numpy import save

from app.domain.network import Network, trace
from worker.nn.architectures import Weights, build_model, extract_weights
from worker.nn.export import to_onnx


def bytes_by_format(network: Network, weights: Weights, *, scratch: Path, seed: int = 0) -> dict[str, int]:
    """Return the size as onnx, safetensors, keras and, with TensorFlow as the backend, tflite, each really written.

    Variables that `weights` does not name start at random: what is never trained takes as many bytes.
    """
    model = build_model(network, weights, seed=seed)
    values = extract_weights(model)
    arrays = {name: np.ascontiguousarray(values[name]) for name in trace(network).variables}
    sizes = {
        "onnx": len(to_onnx(network, values).SerializeToString()),
        "safetensors": len(save(arrays)),
        "keras": keras_bytes(model, scratch),
    }
    return sizes | ({"tflite": tflite_bytes(model)} if keras.backend.backend() == "tensorflow" else {})


def keras_bytes(model: keras.Model, scratch: Path) -> int:
    """Return the size of the model as a .keras file, which holds the variables of every layer once."""
    path = scratch / "size.keras"
    model.save(path)
    size = path.stat().st_size
    path.unlink()
    return size


def tflite_bytes(model: keras.Model) -> int:
    """Return the size of the model as a .tflite file. Beware: its writer stores equal constants once, shared or not."""
    import tensorflow as tf

    with redirect_stdout(io.StringIO()):  # it prints what it saved, and stdout belongs to the supervisor
        return len(tf.lite.TFLiteConverter.from_keras_model(model).convert())
