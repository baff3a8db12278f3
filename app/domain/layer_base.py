"""What every layer type has in common.

Shapes are those of ONE row (no batch axis), channels last. Variables are laid out as Keras lays them out.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeAlias

from pydantic import BeforeValidator, Field, StringConstraints

from app.domain.datasets import Value
from app.domain.errors import InvalidArchitectureError

Shape: TypeAlias = tuple[int, ...]
MAXIMUM_SIZE = 2**31 - 1

LayerName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,62}$"),
    Field(description="A letter, then up to 62 letters, digits and underscores.", examples=["conv1"]),
]
ActivationName: TypeAlias = Literal[
    "linear", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "softplus"
]
Padding: TypeAlias = Literal["same", "valid"]
Size = Annotated[int, Field(ge=1, le=MAXIMUM_SIZE)]
Window = Annotated[int, Field(ge=1, le=4096)]
Rate = Annotated[float, Field(ge=0, lt=1)]


def _pair(value: object) -> object:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


Window2D = Annotated[tuple[Window, Window], BeforeValidator(_pair), Field(strict=False)]


class Inference(NamedTuple):
    """Hold what a layer does to its inputs: output shape, its variables' shapes, multiply-accumulates per row."""

    output: Shape
    variables: Mapping[str, Shape] = MappingProxyType({})
    macs: int = 0


class BaseLayer(Value):
    """Hold what every layer has.

    `inputs` names earlier layers or `input`; left empty, it is the layer before. Two layers with the same `weights`
    use the same variables; left empty, a layer has its own, stored under its name.
    """

    ranks: ClassVar[tuple[int, ...]] = ()

    name: LayerName
    inputs: Annotated[tuple[LayerName, ...], Field(strict=False, max_length=64)] = ()
    weights: LayerName | None = None

    @property
    def weights_name(self) -> str:
        """Return the name under which this layer's variables live."""
        return self.weights or self.name

    def infer(self, *shapes: Shape) -> Inference:
        """Return shape, variables and cost for inputs of these shapes; raise InvalidArchitectureError if none fit."""
        if len(shapes) != 1:
            raise self.misfit(f"takes one input, not {len(shapes)}")
        if self.ranks and len(shapes[0]) not in self.ranks:
            wanted = " or ".join(_RANK_WORDS[rank] for rank in self.ranks)
            raise self.misfit(f"needs an input of shape {wanted}, not {shapes[0]}")
        return self.apply(shapes[0])

    def apply(self, shape: Shape) -> Inference:
        """Infer for one input whose rank fits."""
        return Inference(shape)

    def misfit(self, problem: str, hint: str = "") -> InvalidArchitectureError:
        """Return the error that names this layer."""
        return InvalidArchitectureError(f"Layer {self.name!r} {problem}.", hint=hint)


_RANK_WORDS = {1: "(features,)", 2: "(steps, channels)", 3: "(height, width, channels)"}


class WeightedLayer(BaseLayer):
    """Hold what layers with a kernel have beside it."""

    use_bias: bool = True
    activation: ActivationName = "linear"

    def bias(self, outputs: int) -> dict[str, Shape]:
        """Return the bias variable, if there is one."""
        return {"bias": (outputs,)} if self.use_bias else {}

    def positions(self, shape: Shape, window: Sequence[int], strides: Sequence[int], padding: Padding) -> Shape:
        """Return the spatial output shape of a window that slides over `shape`."""
        return sliding_shape(self, shape, window, strides, padding)


def sliding_shape(
    layer: BaseLayer, shape: Shape, window: Sequence[int], strides: Sequence[int], padding: Padding
) -> Shape:
    """Return how often a window fits along each axis: ceil(n / s) with padding "same", else floor((n - w) / s) + 1."""
    if padding == "same":
        return tuple(-(-size // stride) for size, stride in zip(shape, strides, strict=True))
    if any(size < width for size, width in zip(shape, window, strict=True)):
        raise layer.misfit(
            f"slides a window of {tuple(window)} over {shape}, which leaves nothing",
            'Use padding "same", a smaller window, or fewer poolings before it.',
        )
    return tuple((size - width) // stride + 1 for size, width, stride in zip(shape, window, strides, strict=True))
