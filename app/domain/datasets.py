"""What a data set is: one schema, three disjoint row sets, plain arrays named by their digest."""

import hashlib
from typing import Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

Features = Literal["image", "signal", "text", "table"]
# Only data sets are unlabelled: no model is made for that.
Task = Literal["classification", "regression", "unlabelled"]
RowSet = Literal["train", "selection", "report"]
ROW_SETS: tuple[RowSet, ...] = ("train", "selection", "report")


class Value(BaseModel):
    """Be an immutable value: unknown fields are refused, numbers are not coerced from text or booleans."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FileRef(Value):
    """Name a stored file by content."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)


class DatasetSchema(Value):
    """Describe one row and the sets it comes in.

    `shape` is that of one row: image (height, width, channels) uint8; signal (steps, channels) float32, or int16 with
    `sample_rate` when it came from WAV; text (bytes,) uint8, UTF-8 padded with 0; table (columns,) float32. Rows
    without labels (the task `unlabelled`) all stand in the train set, beside targets of no columns. `row_weights` says
    that every row has a weight, by which it counts when something is learned. `train_groups` and `train_times` count
    the different groups and times of the train rows; where rows have none they are 0.
    """

    # Not strict: tuples arrive as lists when read in Python mode.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    features: Features
    shape: tuple[int, ...]
    dtype: Literal["uint8", "int16", "float32"]
    task: Task = "classification"
    classes: tuple[str, ...] = ()
    rows: dict[RowSet, int]
    sample_rate: int | None = None
    columns: tuple[str, ...] = ()
    # Left out where it is false, so that data sets without weights keep the digest that they had before there were any.
    row_weights: bool = Field(default=False, exclude_if=lambda given: not given)
    # Left out for the same reason where there are none.
    train_groups: int = Field(default=0, ge=0, exclude_if=lambda count: count == 0)
    train_times: int = Field(default=0, ge=0, exclude_if=lambda count: count == 0)

    @property
    def outputs(self) -> int:
        """Count the numbers that a model answers per row: one per class, or one for a regression."""
        return len(self.classes) if self.task == "classification" else 1


class Statistics(BaseModel):
    """Mean and deviation of the TRAIN rows, one number per last axis (channel or column)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


class DatasetManifest(BaseModel):
    """Name every file of a data set: `{train,selection,report}_{x,y,hash}`, each a plain .npy in C order.

    `*_hash` holds blake2b-128 of each row's feature bytes, uint8 (rows, 16): the proof that the sets are disjoint.
    With `row_weights` there is also `*_weight`, float32 (rows,), as it was given. With `train_groups` and `train_times`
    there are `train_group` and `train_order`, int64 (rows,): the groups numbered, the times by their rank.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset_schema: DatasetSchema
    files: dict[str, FileRef]
    statistics: Statistics | None = None

    @property
    def digest(self) -> str:
        """Return the SHA-256 that identifies the data set, whatever its name."""
        return digest_of(self.model_dump(mode="json"))


def canonical_json(value: object) -> bytes:
    """Write JSON in the one form that is hashed: sorted keys, no spaces, UTF-8."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest_of(value: object) -> str:
    """Return the SHA-256 of a JSON value's canonical form."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
