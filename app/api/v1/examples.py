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
    "distill on more rows": {
        "kind": "optimize",
        "name": "digits-student",
        "dataset": "digits",
        "method": {
            "method": "distill",
            "teacher": "digits-cnn",
            "student": {"type": "cnn", "filters": [4, 8]},
            "transfer": {"augmented_copies": 4},
        },
        "training": {"epochs": 10, "augmentation": {"shift": 0.1}},
        "seeds": 3,
    },
    "prune": {
        "kind": "optimize",
        "name": "digits-pruned",
        "dataset": "digits",
        "method": {"method": "prune", "parent": "digits-cnn", "ratio": 0.5, "criterion": "taylor", "rounds": 4},
        "training": {"epochs": 12},
    },
    "quantize": {
        "kind": "optimize",
        "name": "digits-int8",
        "dataset": "digits",
        "method": {"method": "quantize", "parent": "digits-cnn", "mode": "static_int8", "max_drop": 0.5},
    },
    "factorize": {
        "kind": "optimize",
        "name": "digits-low-rank",
        "dataset": "digits",
        "method": {"method": "factorize", "parent": "digits-cnn", "energy": 0.9},
        "training": {"epochs": 5},
    },
    "cluster": {
        "kind": "optimize",
        "name": "digits-clustered",
        "dataset": "digits",
        "method": {"method": "cluster", "parent": "digits-cnn", "clusters": 16, "learn_from": "parent"},
        "training": {"epochs": 5},
    },
    "chain": {
        "kind": "optimize",
        "name": "digits-tiny",
        "dataset": "digits",
        "method": {
            "method": "chain",
            "parent": "digits-cnn",
            "max_drop": 1.0,
            "steps": [
                {"method": "prune", "structure": "unstructured", "ratio": 0.8, "training": {"epochs": 10}},
                {"method": "cluster", "clusters": 16},
            ],
        },
        "training": {"epochs": 5},
    },
    "fine-tune": {
        "kind": "optimize",
        "name": "digits-longer",
        "dataset": "digits",
        "method": {"method": "fine_tune", "parent": "digits-cnn"},
        "training": {"epochs": 10, "optimizer": {"type": "adam", "learning_rate": 0.0003}},
    },
    "search": {
        "kind": "search",
        "name": "digits-search",
        "dataset": "digits",
        "architecture": {"type": "cnn", "filters": [16, 32]},
        "space": {
            "/architecture/filters": {"choices": [[8, 16], [16, 32], [24, 48]]},
            "/training/optimizer/learning_rate": {"low": 0.0003, "high": 0.03, "log": True},
        },
        "objectives": ["accuracy", "latency", "bytes"],
        "trials": 20,
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
    "soup": {
        "kind": "ensemble",
        "name": "digits-soup",
        "dataset": "digits",
        "method": {
            "method": "soup",
            "ancestor": "digits-cnn",
            "recipe": "greedy",
            "members": [
                {"seed": 0},
                {"seed": 1, "training": {"epochs": 5, "label_smoothing": 0.1}},
                {"model": "digits-cnn"},
            ],
        },
        "training": {"epochs": 5, "optimizer": {"type": "adam", "learning_rate": 0.0003}},
    },
    "snapshot": {
        "kind": "ensemble",
        "name": "digits-snapshots",
        "dataset": "digits",
        "method": {"method": "snapshot", "architecture": {"type": "cnn"}, "cycles": 5},
        "training": {"epochs": 8, "optimizer": {"type": "sgd", "learning_rate": 0.1}},
    },
    "cascade": {
        "kind": "ensemble",
        "name": "digits-cascade",
        "dataset": "digits",
        "method": {
            "method": "cascade",
            "max_loss": 0.2,
            "members": [{"model": "digits-cnn"}, {"architecture": {"type": "resnet"}}],
        },
    },
    "predict": {
        "kind": "predict",
        "name": "digits-answers",
        "model": "digits-cnn",
        "dataset": "digits",
        "set": "report",
        "format": "parquet",
        "uncertainty": True,
    },
}
