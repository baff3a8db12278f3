"""Compute in full float32 where a GPU would by itself round the factors of products to ten bits (TF32)."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import keras


def full_float32() -> AbstractContextManager[None]:
    """Return a context in which products and convolutions are exact to float32, on whatever device.

    What is compiled before is left as it was: build the model anew. Training may keep the faster arithmetic, since only
    a comparison with what is served, which is float32, needs to tell rounding from a wrong export.
    """
    return _CONTEXTS[keras.backend.backend()]()


@contextmanager
def _of_tensorflow() -> Iterator[None]:
    import tensorflow as tf

    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(enabled=False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(enabled=before)


@contextmanager
def _of_jax() -> Iterator[None]:
    import jax

    with jax.default_matmul_precision("float32"):
        yield


@contextmanager
def _of_torch() -> Iterator[None]:
    import torch

    with torch.backends.cudnn.flags(allow_tf32=False):
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


_CONTEXTS = {"tensorflow": _of_tensorflow, "jax": _of_jax, "torch": _of_torch}
