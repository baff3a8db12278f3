"""What tests need to know of the Keras backend in use."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest


def needs_tensorflow(reason: str) -> ModuleType:
    """Return TensorFlow; skip the test where Keras runs on something else."""
    import keras

    if keras.backend.backend() != "tensorflow":
        pytest.skip(reason)
    import tensorflow

    return tensorflow


def slope_of(function: Callable[[Any], Any], values: np.ndarray) -> np.ndarray:
    """Return the gradient of a number that keras.ops makes of values, with respect to these."""
    import keras

    found = {"tensorflow": _by_tensorflow, "jax": _by_jax, "torch": _by_torch}[keras.backend.backend()]
    return np.asarray(found(function, np.float32(values)))


def _by_tensorflow(function, values):
    import tensorflow as tf

    variable = tf.Variable(values)
    with tf.GradientTape() as tape:
        result = function(variable)
    return tape.gradient(result, variable)


def _by_jax(function, values):
    import jax

    return jax.grad(function)(values)


def _by_torch(function, values):
    import torch

    variable = torch.tensor(values, requires_grad=True)
    function(variable).backward()
    return variable.grad
