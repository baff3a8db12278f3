"""What a user may say about a data set, and how much of one the service reads."""

import math
import re
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, field_validator, model_validator

from app.domain.datasets import Features, Task, Value
from app.domain.errors import FieldError, InvalidRequestError
from app.domain.names import Name

Source = Literal["builtin", "CSV", "NPZ", "ZIP of images", "ZIP of WAVs"]
Builtin = Literal["digits", "fashion_mnist", "mnist1d"]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Share = Annotated[float, Field(gt=0, lt=1)]
Side = Annotated[int, Field(ge=1, le=1024)]


class Split(Value):
    """Say what part of the rows goes to each set; with an official report part, only train : selection counts."""

    train: Share = 0.6
    selection: Share = 0.2
    report: Share = 0.2

    @model_validator(mode="after")
    def _shares_must_add_up(self) -> Self:
        if not math.isclose(self.train + self.selection + self.report, 1.0, abs_tol=1e-6):
            raise ValueError("train, selection and report must add up to 1")
        return self


class IngestOptions(Value):
    """Describe a data set to add: a builtin's name, or how to read the uploaded file."""

    name: Name
    builtin: Builtin | None = Field(default=None, description="Add a builtin set instead of an uploaded file.")
    features: Features | None = Field(
        default=None, description="What a row is; found from the file when absent (NPZ and CSV only)."
    )
    task: Task | None = Field(
        default=None,
        description="Found from the target when absent: numbers with a fraction mean regression. `unlabelled`: rows "
        "without labels, for the transfer set of a distillation; labels that are there are not read.",
    )
    target: ColumnName | None = Field(
        default=None, description="CSV: the column to predict. Default: `label`, `target` or `class`."
    )
    columns: Annotated[tuple[ColumnName, ...], Field(strict=False, min_length=1, max_length=10_000)] | None = Field(
        default=None, description="CSV: the feature columns. Default: all that have no other part."
    )
    group: ColumnName | None = Field(
        default=None,
        description="CSV column or NPZ array: rows of one group (a speaker, a patient) never straddle two sets.",
    )
    weight: ColumnName | None = Field(
        default=None,
        description="CSV column or NPZ array of numbers from 0 up: how much each row counts when something is learned. "
        "It never becomes a feature.",
    )
    order: ColumnName | None = Field(
        default=None,
        description="CSV column or NPZ array of times (numbers, or text that sorts, such as ISO 8601): "
        "train gets the oldest rows, report the newest.",
    )
    part: ColumnName | None = Field(
        default=None, description="CSV: the column that says `train` or `report` (or `test`): an official split."
    )
    classes: Annotated[tuple[ColumnName, ...], Field(strict=False, min_length=2, max_length=1000)] | None = Field(
        default=None, description="Names of the classes, in order. Default: the labels found, sorted."
    )
    split: Split = Split()
    seed: Annotated[int, Field(ge=0, lt=2**31, description="The same bytes, options and seed give the same sets.")] = 0
    report_pattern: Pattern | None = Field(
        default=None,
        description="ZIP: a regular expression found in the member names of the official report part.",
        examples=[r"_0[0-4]\.wav$"],
    )
    group_pattern: Pattern | None = Field(
        default=None,
        description="ZIP: a regular expression whose first group, found in a member's name, is the row's group.",
        examples=[r"/([a-z]+)_\d+\.wav$"],
    )
    resize: Annotated[tuple[Side, Side], Field(strict=False)] | None = Field(
        default=None, description="Images: resize to (height, width) pixels. Without it all must have one size."
    )
    channels: Literal[1, 3] | None = Field(
        default=None, description="Images: 1 = grey, 3 = RGB. Default: grey when all images are."
    )
    seconds: Annotated[float, Field(gt=0, le=60)] | None = Field(
        default=None,
        description="WAV: the length of every row; longer clips are cut, shorter ones padded with silence. "
        "Default: the longest clip, at most 10 s.",
    )
    text_bytes: Annotated[int, Field(ge=4, le=16_384)] = Field(
        default=256, description="Text: UTF-8 bytes kept of each row; rows are padded to the longest that is kept."
    )

    @field_validator("report_pattern", "group_pattern")
    @classmethod
    def _pattern_must_compile(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern

    @field_validator("group_pattern")
    @classmethod
    def _pattern_must_have_a_group(cls, pattern: str | None) -> str | None:
        if pattern is not None and re.compile(pattern).groups < 1:
            raise ValueError("needs one group in parentheses, which captures what the rows share")
        return pattern

    @field_validator("classes", "columns")
    @classmethod
    def _names_must_differ(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and len(set(names)) != len(names):
            raise ValueError("a name stands twice")
        return names


_ALWAYS = frozenset({"name", "builtin", "split", "seed"})
_ARRAYS = _ALWAYS | {"features", "task", "classes", "group", "weight", "order", "text_bytes"}
_FOLDERS = _ALWAYS | {"classes", "report_pattern", "group_pattern"}
_OPTIONS_OF: dict[Source, frozenset[str]] = {
    "builtin": _ALWAYS,
    "CSV": _ARRAYS | {"target", "columns", "part"},
    "NPZ": _ARRAYS,
    "ZIP of images": _FOLDERS | {"resize", "channels"},
    "ZIP of WAVs": _FOLDERS | {"seconds"},
}


def check_options(options: IngestOptions, source: Source) -> None:
    """Raise InvalidRequestError when options are set that mean nothing for this kind of source."""
    given = {name for name in options.model_fields_set if getattr(options, name) is not None}
    if options.task == "unlabelled":
        _check_unlabelled(given)
        given -= {"task"}
    for name in sorted(given - _OPTIONS_OF[source]):
        fitting = " or ".join(kind for kind, names in _OPTIONS_OF.items() if name in names)
        raise InvalidRequestError(
            f"The option `{name}` means nothing for a {source}.",
            hint=f"Leave it out; it is for a {fitting}.",
            errors=[FieldError(f"/options/{name}", f"not for a {source}", "unknown-field")],
        )


def _check_unlabelled(given: set[str]) -> None:
    of_sets = {"classes", "split", "group", "order", "part", "report_pattern", "group_pattern"}
    for name in sorted(given & (of_sets | {"weight"})):
        why = "each of them weighs 1 in a transfer set" if name == "weight" else "all of them stand in the train set"
        raise InvalidRequestError(
            f"The option `{name}` means nothing for rows without labels: {why}.",
            hint="Leave it out.",
            errors=[FieldError(f"/options/{name}", "not for unlabelled rows", "unknown-field")],
        )


class Limits(Value):
    """Cap what one upload may cost. Sizes in bytes, times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    compressed_bytes: int = 2 * 2**30
    expanded_bytes: int = 8 * 2**30
    compression_ratio: int = 100
    members: int = 100_000
    arrays: int = 64
    line_bytes: int = 2**20
    columns: int = 10_000
    image_pixels: int = 2**24
    audio_seconds: int = 600
    memory_bytes: int = 4 * 2**30
    cpu_seconds: int = 60
    wall_seconds: float = 60.0
    answer_bytes: int = 8 * 2**20
