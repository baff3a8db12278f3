"""The few layers that Keras does not have, in keras.ops: every backend runs them.

Each can be written to a .keras file; whoever reads one names them: `custom_objects=CUSTOM_OBJECTS`.
"""

from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from app.domain import layers as ly
from worker.nn.spectrum import fourier_kernel, mel_filters

Tensor: TypeAlias = keras.KerasTensor


class Standardize(keras.layers.Layer):
    """y = (x - mean) / deviation, per last axis; both are fixed."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the two statistics; they start as those of standardized data."""
        self.mean = self.add_weight(name="mean", shape=input_shape[-1:], initializer="zeros", trainable=False)
        self.deviation = self.add_weight(name="deviation", shape=input_shape[-1:], initializer="ones", trainable=False)

    def call(self, inputs: Tensor) -> Tensor:
        """Standardize."""
        return (ops.cast(inputs, self.compute_dtype) - self.mean) / self.deviation


class ClippedEmbedding(keras.layers.Embedding):
    """Look up vectors; an index beyond the vocabulary is its last entry, as in the exported graph."""

    def call(self, inputs: Tensor) -> Tensor:
        """Look up."""
        return super().call(ops.clip(ops.cast(inputs, "int32"), 0, self.input_dim - 1))


class GlobalPool(keras.layers.Layer):
    """Average, or keep the largest, over all places of (places..., channels)."""

    def __init__(self, kind: str, **options: object) -> None:
        super().__init__(**options)
        self._kind = kind
        self._reduce = ops.mean if kind == "average" else ops.max

    def get_config(self) -> dict[str, Any]:
        """Return what a file keeps of the layer."""
        return {**super().get_config(), "kind": self._kind}

    def call(self, inputs: Tensor) -> Tensor:
        """Reduce."""
        return self._reduce(inputs, axis=tuple(range(1, len(inputs.shape) - 1)))


class HashedNGrams(keras.layers.Layer):
    """Say which n-grams of bytes a text holds, hashed into buckets."""

    def __init__(self, layer: ly.HashedNGrams | dict[str, Any], **options: object) -> None:
        super().__init__(**options)
        self._settings = ly.HashedNGrams.model_validate(layer)

    def get_config(self) -> dict[str, Any]:
        """Return what a file keeps of the layer."""
        return {**super().get_config(), "layer": self._settings.model_dump(mode="json")}

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return (rows, buckets)."""
        return (input_shape[0], self._settings.buckets)

    def call(self, inputs: Tensor) -> Tensor:
        """Turn bytes (rows, steps) into (rows, buckets)."""
        text = ops.clip(ops.cast(inputs, "int32"), 0, 255)
        places = ops.concatenate([self._places(text, size) for size in self._settings.sizes], axis=1)
        rows, ngrams = ops.shape(places)
        row = ops.broadcast_to(ops.arange(rows)[:, None], (rows, ngrams))
        indices = ops.reshape(ops.stack([row, places], axis=-1), (-1, 2))
        ones = ops.ones_like(indices[:, 0], dtype=self.compute_dtype)
        # The last place gathers what does not count.
        counts = ops.scatter(indices, ones, (rows, self._settings.buckets + 1))[:, :-1]
        found = ops.minimum(counts, 1)
        return found / ops.sqrt(ops.maximum(ops.sum(found, axis=1, keepdims=True), 1))

    def _places(self, text: Tensor, size: int) -> Tensor:
        """Return the bucket of each n-gram of `size` bytes, or `buckets` for one that reaches into the padding."""
        factor, prime, buckets = self._settings.FACTOR, self._settings.PRIME, self._settings.buckets
        ngrams = text.shape[1] - size + 1
        parts = [text[:, start : start + ngrams] for start in range(size)]
        code, least = ops.full_like(parts[0], size), parts[0]
        for part in parts:
            code, least = ops.mod(code * factor + part, prime), ops.minimum(least, part)
        return ops.where(least > 0, ops.mod(ops.mod(code * factor, prime), buckets), buckets)


class LogMel(keras.layers.Layer):
    """Log of the mel power spectrum, by a convolution with the windowed Fourier basis."""

    def __init__(self, layer: ly.LogMel | dict[str, Any], **options: object) -> None:
        super().__init__(**options)
        self._settings = ly.LogMel.model_validate(layer)

    def get_config(self) -> dict[str, Any]:
        """Return what a file keeps of the layer."""
        return {**super().get_config(), "layer": self._settings.model_dump(mode="json")}

    def call(self, inputs: Tensor) -> Tensor:
        """Transform (rows, samples, 1) to (rows, frames, mel_bins)."""
        kernel = ops.convert_to_tensor(fourier_kernel(self._settings)[:, None, :])
        filters = mel_filters(self._settings)
        parts = ops.conv(
            inputs, kernel, strides=self._settings.frame_step, padding="valid", data_format="channels_last"
        )
        # Power is the square of the cosine part plus that of the sine part, so the filters stand there twice.
        mel = ops.matmul(ops.square(parts), ops.convert_to_tensor(np.concatenate([filters, filters])))
        return ops.log(mel + self._settings.epsilon)


CUSTOM_OBJECTS = {layer.__name__: layer for layer in (Standardize, ClippedEmbedding, GlobalPool, HashedNGrams, LogMel)}
