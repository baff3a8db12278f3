"""Whether a way to fuse fits a data set: told when the job is submitted, with the field."""

from math import prod
from typing import Literal

from app.domain.calibration import enough_rows
from app.domain.datasets import DatasetSchema
from app.domain.ensemble_specs import Cascade, EnsembleMethod, Serial, Soup, Stack
from app.domain.errors import FieldError, InvalidEnsembleError
from app.domain.specs import EnsembleSpec

LARGEST_PASSED = 1_000


def check_fusion(spec: EnsembleSpec, schema: DatasetSchema) -> None:
    """Raise InvalidEnsembleError, pointing at the field, when the data set cannot give what the fusion needs."""
    method: EnsembleMethod = spec.method
    _check_conformal(spec, schema)
    if isinstance(method, Serial):
        _check_serial(spec, method, schema)
    elif isinstance(method, Stack):
        _check_split(method, schema)
        _check_passthrough(method, schema)
    elif isinstance(method, Cascade) and schema.task != "classification":
        raise _wrong("/method", "A member is sure of a class, and the data set is a regression.", "Fuse by `parallel`.")


def split_of(method: Stack, schema: DatasetSchema) -> Literal["stratified", "grouped", "time"]:
    """Return how a stack cuts the train rows: what `auto` means for this data set.

    Times come first, since folds in time honour groups as well.
    """
    if method.split != "auto":
        return method.split
    if schema.train_times:
        return "time"
    return "grouped" if schema.train_groups else "stratified"


def _check_conformal(spec: EnsembleSpec, schema: DatasetSchema) -> None:
    if spec.conformal is None:
        return
    rows = schema.rows["selection"]
    if schema.task != "classification":
        raise _wrong("/conformal", "Sets hold classes, and the data set is a regression.", "Leave `conformal` out.")
    if isinstance(spec.method, Soup | Cascade):
        name = spec.method.method
        raise _wrong("/conformal", f"A {name} answers without sets.", "Leave `conformal` out, or fuse by `parallel`.")
    if not enough_rows(rows, spec.conformal):
        raise _wrong(
            "/conformal",
            f"{rows} selection rows cannot tell which sets miss only {spec.conformal:g} of new rows.",
            f"Choose at least {1 / (rows + 1):.3g}, or a data set with more selection rows.",
        )


def _check_serial(spec: EnsembleSpec, method: Serial, schema: DatasetSchema) -> None:
    if method.type != "samme":
        return
    if schema.task != "classification":
        raise _wrong(
            "/method/type",
            "`samme` reweights rows that are wrong, and the answers of a regression are neither right nor wrong.",
            'Use the type "residual" or "gradient".',
        )
    for number, member in enumerate(method.members):
        own = f"/method/members/{number}/training" if member.training else "/training"
        training = member.training or spec.training
        if training.augmentation.mixup:
            raise _wrong(
                f"{own}/augmentation/mixup",
                "`mixup` blends rows, and `samme` gives every row a weight of its own.",
                'Leave out `mixup`, or use the type "residual".',
            )
        if training.class_weights:
            raise _wrong(
                f"{own}/class_weights",
                "`class_weights` would undo what `samme` makes of the weights of the rows.",
                'Leave it out, or use the type "residual".',
            )


def _check_split(method: Stack, schema: DatasetSchema) -> None:
    split = split_of(method, schema)
    pointer = "/method/folds" if method.split == "auto" else "/method/split"
    if split == "stratified" and schema.train_groups:
        raise _wrong(
            pointer,
            "The rows of the data set come in groups, which stratified folds would tear apart.",
            'Use "grouped", or leave `split` out.',
        )
    needed, given, what = {
        "stratified": (method.folds, schema.rows["train"], "rows"),
        "grouped": (method.folds, schema.train_groups, "groups"),
        "time": (method.folds + 1, schema.train_times, "different times"),
    }[split]
    if given < needed:
        raise _wrong(
            pointer,
            f"{method.folds} folds ({split}) need at least {needed} {what} among the train rows; there are {given:,}.",
            "Use fewer folds or another split; an upload names its groups by `group`, its times by `order`.",
        )


def _check_passthrough(method: Stack, schema: DatasetSchema) -> None:
    numbers = prod(schema.shape)
    if not method.passthrough:
        return
    if schema.features == "text":
        raise _wrong(
            "/method/passthrough",
            "The bytes of a text are no numbers that a meta-learner could weigh.",
            "Leave `passthrough` out.",
        )
    if numbers > LARGEST_PASSED:
        raise _wrong(
            "/method/passthrough",
            f"A row has {numbers:,} numbers; at most {LARGEST_PASSED:,} can stand beside the members' answers.",
            "Leave `passthrough` out, or resize the rows when they are uploaded.",
        )


def _wrong(pointer: str, detail: str, hint: str) -> InvalidEnsembleError:
    return InvalidEnsembleError(detail, hint=hint, errors=[FieldError(pointer, detail, InvalidEnsembleError.slug)])
