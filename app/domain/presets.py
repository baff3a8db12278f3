"""Architectures as a user writes them, and the networks that they become on a data set."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from app.domain import layers as ly
from app.domain.blocks import (
    Convolution,
    Parts,
    convolution_of,
    dense_parts,
    dropout_parts,
    halved,
    halving_pool,
    head_parts,
    normalized_parts,
    residual_block,
    round_log2,
)
from app.domain.datasets import DatasetSchema, Features, Value
from app.domain.errors import ShapeMismatchError
from app.domain.layer_base import ActivationName, Rate, Shape
from app.domain.layers import Layer
from app.domain.network import MAXIMUM_LISTED_LAYERS, InputSpec, Network, with_inputs

Units = Annotated[int, Field(ge=1, le=2**31 - 1)]
UnitsList = Annotated[tuple[Units, ...], Field(strict=False, max_length=100)]
FilterList = Annotated[tuple[Units, ...], Field(strict=False, min_length=1, max_length=100)]
KernelSize = Annotated[int, Field(ge=1, le=255)]
EmbeddingWidth = Annotated[int, Field(ge=1, le=4096)]


class MLP(Value):
    """Stack dense layers on the flattened row. Fits every kind of features."""

    type: Literal["mlp"] = "mlp"
    hidden: UnitsList = (256, 128)
    activation: ActivationName = "relu"
    batch_norm: bool = False
    dropout: Rate = 0.2


class CNN(Value):
    """Convolve and pool images (or the spectrogram of audio), once per entry of `filters`, then classify.

    `head`: `gap` averages over all places (Lin et al. 2014), `flatten` keeps them. `dense` layers follow.
    """

    type: Literal["cnn"] = "cnn"
    filters: FilterList = (32, 64)
    kernel_size: KernelSize = 3
    convolutions: Annotated[int, Field(ge=1, le=8, description="Convolutions before each pooling.")] = 1
    head: Literal["flatten", "gap"] = "flatten"
    dense: UnitsList = (128,)
    batch_norm: bool = True
    dropout: Rate = 0.3


class CNN1D(Value):
    """Convolve and pool signals (or the spectrogram of audio) along time, once per entry of `filters`."""

    type: Literal["cnn1d"] = "cnn1d"
    filters: FilterList = (32, 64, 64)
    kernel_size: KernelSize = 5
    head: Literal["flatten", "gap"] = "flatten"
    dense: UnitsList = ()
    batch_norm: bool = True
    dropout: Rate = 0.2


class TextCNN(Value):
    """Convolve embedded bytes with windows of several lengths, keep the strongest answer of each filter (Kim 2014)."""

    type: Literal["textcnn"] = "textcnn"
    embedding: EmbeddingWidth = 16
    filters: Units = 32
    kernel_sizes: Annotated[tuple[KernelSize, ...], Field(strict=False, min_length=1, max_length=16)] = (3, 5, 7)
    dense: UnitsList = ()
    dropout: Rate = 0.3


class NGrams(Value):
    """Weigh which n-grams of bytes a text holds, whatever their place (Joachims 1998), hashed into `buckets`.

    Of few texts it learns more than `textcnn`: from 1,505 messages 98.6 % of the rest, against 97.8.
    """

    type: Literal["ngrams"] = "ngrams"
    sizes: ly.NGramSizes = (1, 2, 3)
    buckets: ly.Buckets = 4096
    hidden: UnitsList = (32,)
    dropout: Rate = 0.3


class ResNet(Value):
    """Stack residual blocks of equal width (He et al. 2016), after a convolution and `pools` poolings.

    Each pooling is followed by `convolutions` that stand outside of every block.

    `groups` shares the weights of equal blocks: the blocks are split, in order, into that many groups with one set of
    convolution weights each (ALBERT, Lan et al. 2020). Batch normalization stays per position.
    """

    type: Literal["resnet"] = "resnet"
    width: Units = 32
    blocks: Annotated[int, Field(ge=1, le=200)] = 4
    groups: Annotated[int, Field(ge=1, le=200)] | None = None
    kernel_size: KernelSize = 3
    pools: Annotated[int, Field(ge=0, le=8)] = 1
    convolutions: Annotated[int, Field(ge=0, le=8, description="Convolutions after each pooling.")] = 0
    dropout: Rate = 0.2


class SeparableCNN(Value):
    """Convolve per channel, then across channels (Chollet 2017): a small, cheap network for images and signals."""

    type: Literal["separable_cnn"] = "separable_cnn"
    filters: FilterList = (32, 64, 128)
    kernel_size: KernelSize = 3
    batch_norm: bool = True
    dropout: Rate = 0.2


class ReferenceCNN(Value):
    """Be the yardstick: conv 32, pool, conv 64, pool, flatten, dense 128, answer; 421,642 parameters on 28x28x1."""

    type: Literal["reference_cnn"] = "reference_cnn"
    dropout: Rate = 0.0


class Graph(Value):
    """List the layers yourself, down to the one that answers one logit per class (or the prediction).

    `preprocessing`: `automatic` puts standardization (image, signal, table), the log-mel spectrogram (audio) or an
    embedding (text) in front; `none` gives the first layer the raw rows.
    """

    type: Literal["graph"] = "graph"
    layers: Annotated[tuple[Layer, ...], Field(strict=False, min_length=1, max_length=MAXIMUM_LISTED_LAYERS)]
    preprocessing: Literal["automatic", "none"] = "automatic"


Architecture: TypeAlias = Annotated[
    MLP | CNN | CNN1D | TextCNN | NGrams | ResNet | SeparableCNN | ReferenceCNN | Graph, Field(discriminator="type")
]

FITTING_TYPES: dict[Features, tuple[str, ...]] = {
    "image": ("cnn", "resnet", "separable_cnn", "reference_cnn", "mlp", "graph"),
    "signal": ("cnn1d", "resnet", "separable_cnn", "mlp", "graph"),
    "text": ("textcnn", "ngrams", "mlp", "graph"),
    "table": ("mlp", "graph"),
}
AUDIO_TYPES = ("cnn", "cnn1d", "resnet", "separable_cnn", "reference_cnn", "mlp", "graph")


def fitting_types(schema: DatasetSchema) -> tuple[str, ...]:
    """Return the architecture types that can take such rows."""
    return AUDIO_TYPES if _is_audio(schema) else FITTING_TYPES[schema.features]


def build_network(architecture: Architecture, schema: DatasetSchema) -> Network:
    """Return the network: preprocessing of the raw rows first, the layer that answers logits or prediction last.

    Raise ShapeMismatchError when this type of architecture cannot take such features. Whether the layers fit together
    is for `trace` to say.
    """
    if architecture.type not in fitting_types(schema):
        raise ShapeMismatchError(
            f"A {architecture.type} does not fit {schema.features} rows of shape {schema.shape}.",
            hint=f"Types that fit: {', '.join(fitting_types(schema))}.",
        )
    parts = _parts_of(architecture, schema)
    dtype: Literal["uint8", "float32"] = "uint8" if schema.features == "text" else "float32"
    return Network(
        input=InputSpec(shape=schema.shape, dtype=dtype),
        layers=tuple(parts),
        task=schema.task,
        classes=schema.outputs,
    )


def _parts_of(architecture: Architecture, schema: DatasetSchema) -> Parts:
    if isinstance(architecture, Graph):
        return _graph(architecture, schema)
    if isinstance(architecture, NGrams):
        return [*_ngrams(architecture), ly.Dense(name="answer", units=schema.outputs)]
    front, shape = _front(schema, embedding=getattr(architecture, "embedding", 16))
    if isinstance(architecture, CNN | ReferenceCNN) and len(shape) == 2:
        front, shape = [*front, ly.Reshape(name="as_image", shape=(*shape, 1))], (*shape, 1)
    answer = ly.Dense(name="answer", units=schema.outputs)
    return [*front, *_body(architecture, shape), answer]


def _body(architecture: Architecture, shape: Shape) -> Parts:
    match architecture:
        case MLP():
            return _mlp(architecture, shape)
        case CNN():
            return _cnn(architecture, shape)
        case CNN1D():
            return _cnn1d(architecture, shape)
        case TextCNN():
            return _textcnn(architecture)
        case ResNet():
            return _resnet(architecture, shape)
        case SeparableCNN():
            return _separable_cnn(architecture, shape)
        case ReferenceCNN():
            return _reference_cnn(architecture)
        case _:
            raise TypeError(f"no network for a {architecture.type}")


def _is_audio(schema: DatasetSchema) -> bool:
    return schema.features == "signal" and schema.sample_rate is not None


def _front(schema: DatasetSchema, *, embedding: int = 16) -> tuple[Parts, Shape]:
    """Return the preprocessing of raw rows, and the shape that it answers."""
    if schema.features == "text":
        return [ly.Embedding(name="embedding", vocabulary=256, width=embedding)], (*schema.shape, embedding)
    if not _is_audio(schema):
        return [ly.Standardize(name="standardize")], schema.shape
    return _audio_front(schema)


def _audio_front(schema: DatasetSchema) -> tuple[Parts, Shape]:
    rate = schema.sample_rate or 1
    frame_length = max(16, min(8192, 2 ** round_log2(rate * 0.032)))
    mel = ly.LogMel(
        name="log_mel",
        sample_rate=rate,
        frame_length=frame_length,
        frame_step=frame_length // 2,
        low_hertz=min(20.0, rate / 8),
    )
    scale = 1 / 32768 if schema.dtype == "int16" else 1.0
    parts: Parts = [ly.Rescale(name="rescale", scale=scale), mel, ly.BatchNorm(name="spectrum_norm")]
    return parts, mel.infer(schema.shape).output


def _graph(architecture: Graph, schema: DatasetSchema) -> Parts:
    if architecture.preprocessing == "none":
        return list(architecture.layers)
    front, _ = _front(schema)
    return [*front, *_after(front[-1].name, architecture.layers)]


def _after(name: str, parts: Sequence[Layer]) -> Parts:
    """Let layers that take the network's input take the output of `name` instead."""
    return [
        layer.model_copy(update={"inputs": tuple(name if source == "input" else source for source in layer.inputs)})
        for layer in with_inputs(parts)
    ]


def _mlp(architecture: MLP, shape: Shape) -> Parts:
    parts: Parts = [ly.Flatten(name="flatten")] if len(shape) > 1 else []
    for index, units in enumerate(architecture.hidden, 1):
        parts += dense_parts(f"dense{index}", units, architecture.activation, normalize=architecture.batch_norm)
        parts += dropout_parts(f"dropout{index}", architecture.dropout)
    return parts


def _cnn(architecture: CNN, shape: Shape) -> Parts:
    parts: Parts = []
    for stage, filters in enumerate(architecture.filters, 1):
        for index in range(1, architecture.convolutions + 1):
            name = f"conv{stage}" if architecture.convolutions == 1 else f"conv{stage}_{index}"
            parts += normalized_parts(
                ly.Conv2D,
                name,
                {"filters": filters, "kernel_size": (architecture.kernel_size,) * 2},
                normalize=architecture.batch_norm,
            )
        parts.append(halving_pool(f"pool{stage}", shape))
        shape = halved(shape)
    return parts + head_parts(architecture.head, architecture.dense, architecture.dropout)


def _cnn1d(architecture: CNN1D, shape: Shape) -> Parts:
    parts: Parts = []
    for stage, filters in enumerate(architecture.filters, 1):
        parts += normalized_parts(
            ly.Conv1D,
            f"conv{stage}",
            {"filters": filters, "kernel_size": architecture.kernel_size},
            normalize=architecture.batch_norm,
        )
        parts.append(halving_pool(f"pool{stage}", shape))
        shape = halved(shape)
    return parts + head_parts(architecture.head, architecture.dense, architecture.dropout)


def _textcnn(architecture: TextCNN) -> Parts:
    parts: Parts = []
    for index, size in enumerate(architecture.kernel_sizes, 1):
        parts += [
            ly.Conv1D(
                name=f"conv{index}",
                inputs=("embedding",),
                filters=architecture.filters,
                kernel_size=size,
                activation="relu",
            ),
            ly.GlobalMaxPool(name=f"strongest{index}"),
        ]
    if len(architecture.kernel_sizes) > 1:
        strongest = tuple(f"strongest{index}" for index in range(1, len(architecture.kernel_sizes) + 1))
        parts.append(ly.Concat(name="join", inputs=strongest))
    for index, units in enumerate(architecture.dense, 1):
        parts += [*dropout_parts(f"dropout{index}", architecture.dropout), *dense_parts(f"dense{index}", units)]
    return [*parts, *dropout_parts("dropout", architecture.dropout)]


def _ngrams(architecture: NGrams) -> Parts:
    found = ly.HashedNGrams(name="ngrams", sizes=architecture.sizes, buckets=architecture.buckets)
    # A text holds hundreds of n-grams: at unit length the usual learning rates would take hundreds of epochs.
    parts: Parts = [found, ly.Rescale(name="rescale", scale=8.0)]
    for index, units in enumerate(architecture.hidden, 1):
        parts += [*dense_parts(f"dense{index}", units), *dropout_parts(f"dropout{index}", architecture.dropout)]
    return parts


def _resnet(architecture: ResNet, shape: Shape) -> Parts:
    convolution, kernel_size = convolution_of(shape, architecture.kernel_size)
    options = {"filters": architecture.width, "kernel_size": kernel_size}
    parts = normalized_parts(convolution, "stem", options)
    for index in range(1, architecture.pools + 1):
        parts.append(halving_pool(f"pool{index}", shape))
        shape = halved(shape)
        for place in range(1, architecture.convolutions + 1):
            parts += normalized_parts(convolution, f"front{index}_conv{place}", options)
    for index in range(architecture.blocks):
        before = parts[-1].name
        parts += residual_block(convolution, f"block{index + 1}", before, _group_of(index, architecture), options)
    return parts + head_parts("gap", (), architecture.dropout)


def _group_of(index: int, architecture: ResNet) -> str | None:
    """Name the group of a block: the blocks are split, in order, into groups of nearly equal size."""
    if architecture.groups is None:
        return None
    groups = min(architecture.groups, architecture.blocks)
    return f"group{index * groups // architecture.blocks + 1}"


def _separable_cnn(architecture: SeparableCNN, shape: Shape) -> Parts:
    convolution, kernel_size = convolution_of(shape, architecture.kernel_size)
    separable: Convolution = ly.SeparableConv1D if len(shape) == 2 else ly.SeparableConv2D
    parts: Parts = []
    for stage, filters in enumerate(architecture.filters, 1):
        # The first convolution sees one or three channels: there is nothing to separate yet.
        kind = convolution if stage == 1 else separable
        options = {"filters": filters, "kernel_size": kernel_size}
        parts += normalized_parts(kind, f"conv{stage}", options, normalize=architecture.batch_norm)
        if stage < len(architecture.filters):
            parts.append(halving_pool(f"pool{stage}", shape))
            shape = halved(shape)
    return parts + head_parts("gap", (), architecture.dropout)


def _reference_cnn(architecture: ReferenceCNN) -> Parts:
    return [
        ly.Conv2D(name="conv1", filters=32, activation="relu"),
        ly.MaxPool2D(name="pool1"),
        ly.Conv2D(name="conv2", filters=64, activation="relu"),
        ly.MaxPool2D(name="pool2"),
        ly.Flatten(name="flatten"),
        ly.Dense(name="dense", units=128, activation="relu"),
        *dropout_parts("dropout", architecture.dropout),
    ]
