"""Example bodies of the OpenAPI document; a test sends each of them."""

from typing import Any

JOB_SPECS: dict[str, Any] = {
    "train": {
        "kind": "train",
        "name": "digits-cnn",
        "dataset": "digits",
        "architecture": {"type": "cnn", "filters": [16, 32], "dense": [64]},
        "training": {"epochs": 20, "batch_size": 64, "early_stopping": {"patience": 3}},
        "alias": "champion",
    },
    "share weights": {
        "kind": "optimize",
        "name": "digits-shared",
        "dataset": "digits",
        "method": {"method": "share_weights", "architecture": {"type": "resnet", "blocks": 4}, "groups": 2},
    },
    "distill": {
        "kind": "optimize",
        "name": "digits-student",
        "dataset": "digits",
        "method": {
            "method": "distill",
            "teacher": "digits-cnn",
            "student": {"type": "mlp", "hidden": [32]},
            "temperature": 4.0,
            "alpha": 0.9,
        },
    },
    "fuse": {
        "kind": "ensemble",
        "name": "digits-trio",
        "dataset": "digits",
        "method": {
            "method": "parallel",
            "weights": "convex",
            "members": [
                {"architecture": {"type": "cnn"}, "seed": 0},
                {"architecture": {"type": "mlp"}, "seed": 1},
                {"model": "digits-cnn"},
            ],
        },
        "training": {"epochs": 8},
        "tags": {"team": "vision"},
    },
}
