"""The bodies of TensorFlow Serving's REST calls, as the OpenAPI document describes them."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from app.domain.datasets import Value

_ROWS: dict[str, Any] = {"minItems": 1}


class Extras(Value):
    """Ask for more than the fused prediction; these fields are ours, not TensorFlow Serving's."""

    signature_name: str = Field("", description="Accepted for TensorFlow Serving's clients; every name means the same.")
    members: bool = Field(default=False, description="Answer each member's prediction too.")
    weights: bool = Field(default=False, description="Answer the members' weights too.")
    uncertainty: bool = Field(default=False, description="Answer entropy, disagreement and the like too.")
    sets: bool = Field(default=False, description="Answer sets of classes too, of an ensemble with `conformal`.")


class PredictRows(Extras):
    """Ask by rows; the reply has `predictions`."""

    instances: list[Any] = Field(
        description='One item per row, at most 10,000: its values, {"x": values}, text or {"b64": text}.',
        json_schema_extra=_ROWS,
    )


class PredictColumns(Extras):
    """Ask by tensors; the reply has `outputs`."""

    inputs: Any = Field(description='All rows, or {"x": rows}.')


class Served(BaseModel):
    """Name the version that answered."""

    model: str
    version: int
    digest: str


class Beside(Served):
    """What was asked for beside the fused prediction."""

    members: list[list[list[float]]] = Field([], description="[members, rows, classes]; logits of a serial ensemble.")
    weights: list[float] | None = Field(None, description="null where a meta-learner fuses, or nothing does.")
    uncertainty: dict[str, list[float]] = Field({}, description="One number per row of each kind.")
    sets: list[list[str]] = Field([], description="The classes of every row's prediction set.")
    answered_by: list[int] = Field([], description="Of a cascade: the place of the member that answered each row.")


class RowPredictions(Beside):
    """Answer `instances`."""

    predictions: list[list[float]] = Field(description="[rows, classes], or [rows, 1] of a regression.")


class ColumnPredictions(Beside):
    """Answer `inputs`."""

    outputs: list[list[float]] = Field(description="[rows, classes], or [rows, 1] of a regression.")


class Examples(Value):
    """Ask for classes or values of examples, which are named features."""

    signature_name: str = Field("", description="Accepted for TensorFlow Serving's clients; every name means the same.")
    context: dict[str, Any] = Field({}, description="Features that all examples have; none of them may have it too.")
    examples: list[dict[str, Any]] = Field(
        description='At most 10,000 {"x": values}, flat in C order or nested as the row; text or {"b64": text}.',
        json_schema_extra=_ROWS,
    )


LabelAndScore = Annotated[list[str | float], Field(min_length=2, max_length=2)]


class Classified(Served):
    """Give every class of each example its probability, in the model's order of classes."""

    results: list[list[LabelAndScore]]


class Regressed(Served):
    """Give each example its value."""

    results: list[float]


class Dimension(BaseModel):
    """The size of one axis; -1 is the batch."""

    size: str
    name: str


class TensorShape(BaseModel):
    """The axes of a tensor."""

    dim: list[Dimension]
    unknown_rank: bool


class TensorInfo(BaseModel):
    """Describe a tensor by type, shape and name in the graph."""

    name: str
    dtype: str
    tensor_shape: TensorShape


class Signature(BaseModel):
    """What goes in, what comes out, and by which method."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]
    method_name: str


class SignatureMap(BaseModel):
    """Signatures by name."""

    signature_def: dict[str, Signature]


class SignatureMetadata(BaseModel):
    """The only kind of metadata that there is."""

    signature_def: SignatureMap


class ModelSpec(BaseModel):
    """Name a version; TensorFlow Serving writes numbers as text."""

    name: str
    signature_name: str
    version: str


class ModelMetadata(BaseModel):
    """Describe the signature of a version."""

    model_spec: ModelSpec
    metadata: SignatureMetadata
