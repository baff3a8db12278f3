"""What the demo asks of the service: job specs in waves, each wave needing the results of the one before."""

from typing import Any, Literal, NamedTuple, TypeAlias

DatasetName: TypeAlias = Literal["digits", "fashion_mnist"]
Spec: TypeAlias = dict[str, Any]


class Scale(NamedTuple):
    """Say how long and wide the demo trains on a data set."""

    epochs: int
    fusion_epochs: int
    batch_size: int
    filters: tuple[int, int]
    hidden: tuple[int, ...]
    width: int
    student: tuple[int, int]
    folds: int


SCALES: dict[DatasetName, Scale] = {
    "digits": Scale(20, 12, 64, (24, 48), (128, 64), 24, (24, 48), 3),
    "fashion_mnist": Scale(3, 2, 256, (16, 32), (256, 128), 16, (16, 32), 2),
}
NAMES = {
    "cnn": "demo-cnn",
    "mlp": "demo-mlp",
    "resnet": "demo-resnet",
    "shared": "demo-shared",
    "convolved": "demo-convolved",
    "pruned": "demo-pruned",
    "int8": "demo-int8",
    "distilled": "demo-distilled",
    "parallel": "demo-parallel",
    "serial": "demo-serial",
    "stack": "demo-stack",
}
# A few hundred report rows cannot show that a model is less than some points worse; the demo does not wait for more.
MAX_DROP_POINTS = 5.0
FUSIONS = ("parallel", "serial", "stack")


def waves(dataset: DatasetName) -> tuple[tuple[Spec, ...], ...]:
    """Return the specs of the demo: members, then what is made from them, then the student of an ensemble."""
    scale = SCALES[dataset]
    return (
        tuple(_train(dataset, scale, key) for key in ("cnn", "mlp", "resnet")),
        (
            _share_weights(dataset, scale),
            _convolve(dataset, scale),
            _prune(dataset, scale),
            _quantize(dataset, scale),
            _parallel(dataset, scale),
            _serial(dataset, scale),
            _stack(dataset, scale),
        ),
        (_distill(dataset, scale),),
    )


def _architecture(scale: Scale, key: str) -> Spec:
    architectures: dict[str, Spec] = {
        "cnn": {"type": "cnn", "filters": scale.filters, "dense": [64]},
        "mlp": {"type": "mlp", "hidden": scale.hidden},
        "resnet": {"type": "resnet", "width": scale.width, "blocks": 3},
        "student": {"type": "cnn", "filters": scale.student, "dense": []},
    }
    return architectures[key]


def _base(dataset: DatasetName, scale: Scale, key: str, *, epochs: int | None = None) -> Spec:
    training = {"epochs": epochs or scale.epochs, "batch_size": scale.batch_size}
    return {"name": NAMES[key], "dataset": dataset, "training": training, "alias": "champion"}


def _train(dataset: DatasetName, scale: Scale, key: str) -> Spec:
    return _base(dataset, scale, key) | {"kind": "train", "architecture": _architecture(scale, key)}


def _share_weights(dataset: DatasetName, scale: Scale) -> Spec:
    method = {"method": "share_weights", "parent": NAMES["resnet"], "groups": 1, "max_drop": MAX_DROP_POINTS}
    return _base(dataset, scale, "shared") | {"kind": "optimize", "method": method}


def _convolve(dataset: DatasetName, scale: Scale) -> Spec:
    method = {"method": "convolve", "parent": NAMES["cnn"], "to": "separable", "max_drop": MAX_DROP_POINTS}
    return _base(dataset, scale, "convolved") | {"kind": "optimize", "method": method}


def _prune(dataset: DatasetName, scale: Scale) -> Spec:
    method = {"method": "prune", "parent": NAMES["cnn"], "ratio": 0.4, "rounds": 2, "max_drop": MAX_DROP_POINTS}
    return _base(dataset, scale, "pruned", epochs=scale.fusion_epochs) | {"kind": "optimize", "method": method}


def _quantize(dataset: DatasetName, scale: Scale) -> Spec:
    method = {"method": "quantize", "parent": NAMES["cnn"], "max_drop": MAX_DROP_POINTS}
    return _base(dataset, scale, "int8") | {"kind": "optimize", "method": method}


def _distill(dataset: DatasetName, scale: Scale) -> Spec:
    method = {"method": "distill", "teacher": NAMES["parallel"], "student": _architecture(scale, "student")}
    training = {
        "epochs": 2 * scale.epochs,
        "batch_size": scale.batch_size // 2,
        "optimizer": {"type": "adam", "learning_rate": 0.003},
    }
    return _base(dataset, scale, "distilled") | {"kind": "optimize", "method": method, "training": training}


def _parallel(dataset: DatasetName, scale: Scale) -> Spec:
    members = [{"model": NAMES["cnn"]}, {"model": NAMES["mlp"]}, {"model": NAMES["resnet"]}]
    method = {"method": "parallel", "weights": "convex", "members": members}
    return _base(dataset, scale, "parallel") | {"kind": "ensemble", "method": method}


def _serial(dataset: DatasetName, scale: Scale) -> Spec:
    members = [{"architecture": _architecture(scale, "mlp"), "seed": seed} for seed in range(3)]
    method = {"method": "serial", "type": "residual", "members": members}
    return _base(dataset, scale, "serial", epochs=scale.fusion_epochs) | {"kind": "ensemble", "method": method}


def _stack(dataset: DatasetName, scale: Scale) -> Spec:
    members = [{"model": NAMES["cnn"]}, {"model": NAMES["mlp"]}]
    method = {"method": "stack", "folds": scale.folds, "members": members}
    return _base(dataset, scale, "stack", epochs=scale.fusion_epochs) | {"kind": "ensemble", "method": method}
