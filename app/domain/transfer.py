"""What a distillation takes its rows from, and whether that goes together."""

from collections.abc import Iterator

from app.domain.datasets import DatasetSchema
from app.domain.errors import FieldError, InvalidRequestError, ShapeMismatchError
from app.domain.optimize_specs import Chain, Distill, DistillOptions, DistillStep
from app.domain.specs import EnsembleSpec, OptimizeSpec, WorkSpec
from app.domain.training_specs import TrainingSpec


def distillations(spec: WorkSpec) -> Iterator[tuple[str, DistillOptions, TrainingSpec]]:
    """Yield the pointer, options and training of every distillation that a spec asks for."""
    if isinstance(spec, EnsembleSpec) and spec.then is not None:
        yield "/then", spec.then, spec.then.training or spec.training
    method = spec.method if isinstance(spec, OptimizeSpec) else None
    if isinstance(method, Distill):
        yield "/method", method, spec.training
    elif isinstance(method, Chain):
        for index, step in enumerate(method.steps):
            if isinstance(step, DistillStep):
                yield f"/method/steps/{index}", step, step.training or spec.training


def unlabelled_of(spec: WorkSpec) -> dict[str, str]:
    """Return the data sets whose rows a spec uses without their labels: pointer into the spec -> name."""
    found = {f"{pointer}/transfer/unlabelled": method.transfer.unlabelled for pointer, method, _ in distillations(spec)}
    return {pointer: name for pointer, name in found.items() if name is not None}


def check_transfer(
    method: DistillOptions, training: TrainingSpec, schema: DatasetSchema, *, pointer: str = "/method"
) -> None:
    """Raise InvalidRequestError, with its field below `pointer`, when options contradict each other or the data."""
    for check in (_check_copies, _check_labels):
        check(method, training, pointer)
    if schema.task == "regression" and (method.loss == "dkd" or method.teacher_mean == "logits"):
        field, wrong = ("loss", "the loss dkd") if method.loss == "dkd" else ("teacher_mean", "a mean of logits")
        raise _wrong(
            f"{pointer}/{field}",
            f"The data set is a regression, and {wrong} needs classes.",
            "Leave `loss` at kd and `teacher_mean` at probabilities.",
        )


def _check_copies(method: DistillOptions, training: TrainingSpec, pointer: str) -> None:
    transfer, augmentation = method.transfer, training.augmentation
    if transfer.augmented_copies and not augmentation.used:
        raise _wrong(
            f"{pointer}/transfer/augmented_copies",
            "The transfer set wants augmented copies, and the training has no augmentation to change them by.",
            "Set `training.augmentation`, or leave `transfer.augmented_copies` at 0.",
        )
    if transfer.labels == "out_of_fold" and transfer.augmented_copies and augmentation.mixup:
        raise _wrong(
            f"{pointer}/transfer/labels",
            "A mixed row belongs to two folds, so no out-of-fold teacher can answer for it.",
            "Leave out `mixup`, or let the teacher itself answer (`transfer.labels: teacher`).",
        )


def _check_labels(method: DistillOptions, training: TrainingSpec, pointer: str) -> None:
    if training.class_weights and (method.transfer.unlabelled or method.hints):
        raise _wrong(
            f"{pointer}/{'transfer/unlabelled' if method.transfer.unlabelled else 'hints'}",
            "Rows without a label, and hints, have no class to be weighed by.",
            "Leave out `class_weights`.",
        )
    if training.precision != "float32" and method.hints:
        raise _wrong(f"{pointer}/hints", "Hints are compared in float32.", "Leave `training.precision` at float32.")


def _wrong(pointer: str, detail: str, hint: str) -> InvalidRequestError:
    return InvalidRequestError(detail, hint=hint, errors=[FieldError(pointer, detail, InvalidRequestError.slug)])


def check_same_rows(own: DatasetSchema, other: DatasetSchema, name: str) -> None:
    """Raise ShapeMismatchError unless the rows of `other` can stand beside the data set's own.

    Texts may be padded to another length: they are cut or padded to the data set's own.
    """
    compared = ["features", "dtype", "sample_rate"] if own.features == "text" else _COMPARED
    for what in compared:
        here, there = getattr(own, what), getattr(other, what)
        if here != there:
            raise ShapeMismatchError(
                f"The rows of {name!r} have the {what} {there}, those of the data set {here}.",
                hint="Register the unlabelled rows in the same form, with the same options.",
            )
    if own.columns and other.columns and own.columns != other.columns:
        raise ShapeMismatchError(
            f"The columns of {name!r} are {', '.join(other.columns)[:200]}; the data set has "
            f"{', '.join(own.columns)[:200]}.",
            hint="Register the unlabelled rows with the same columns in the same order.",
        )


_COMPARED = ["features", "shape", "dtype", "sample_rate"]
