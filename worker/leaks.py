"""Alarms for figures that are too good to be true: rows in two sets, and labels that find their way to the report."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.job_errors import LeakedRowsError
from app.domain.stats import wilson_interval
from worker.package import compare_answers, simplest
from worker.rows import Array, Data, hash_report

_STRATA = 10


def refuse_shared_rows(data: Data) -> None:
    """Raise LeakedRowsError when a row stands in two sets; data sets are split so that none does."""
    shared = hash_report(data)["rows_in_two_sets"]
    if shared:
        raise LeakedRowsError(
            f"{shared} different rows stand in more than one of the sets train, selection and report.",
            hint="Register the data set again: equal rows are kept together when it is split.",
        )


def permuted(targets: Array, rng: np.random.Generator, *, classification: bool) -> Array:
    """Return the labels or targets in an order that has nothing to do with their rows.

    The rows of each class (tenth of the targets) get all classes in equal measure. A plain permutation would let some
    classes keep more of their own labels than chance does, and a network that learns those would raise a false alarm.
    """
    strata = np.asarray(targets).reshape(-1)
    if not classification:
        ranks = np.argsort(np.argsort(strata, kind="stable"), kind="stable")
        strata = ranks * _STRATA // len(strata)
    shuffled = rng.permutation(len(strata))
    by_stratum = shuffled[np.argsort(strata[shuffled], kind="stable")]
    places = np.empty(len(strata), np.int64)
    places[by_stratum] = _evenly_spread(strata, rng)
    return np.asarray(targets)[places]


def _evenly_spread(strata: Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return all rows in an order in which every stratum's come at even distances."""
    at = np.empty(len(strata))
    for stratum in np.unique(strata):
        rows = rng.permutation(np.flatnonzero(strata == stratum))
        at[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
    return np.argsort(at, kind="stable")


def with_permuted_labels(data: Data, *, seed: int) -> Data:
    """Return the data set with the labels of its train and selection rows permuted."""
    rng = np.random.default_rng((seed, 1))
    y = dict(data.y)
    for name in ("train", "selection"):
        y[name] = permuted(data.y[name], rng, classification=data.classification)
    return replace(data, y=y)


def judge_permuted(answers: Array, data: Data) -> dict[str, Any]:
    """Say whether a model of permuted labels is better on the report rows than chance is; `alarm` is None if not."""
    found = _judge_classes(answers, data) if data.classification else _judge_errors(answers, data)
    return {"trained_on": "permuted labels of the train and selection rows", **found}


def _judge_classes(answers: Array, data: Data) -> dict[str, Any]:
    targets = np.asarray(data.y["report"])
    correct = int(np.count_nonzero(answers.argmax(axis=1) == targets))
    low, high = wilson_interval(correct, len(targets))
    chance = float(np.bincount(targets).max() / len(targets))
    alarm = (
        f"Trained on permuted labels the network is right on {correct / len(targets):.1%} of the report rows, at least "
        f"{low:.1%} (95 % sure), where the most frequent class would be on {chance:.1%}."
    )
    return {
        "accuracy": correct / len(targets),
        "accuracy_interval": (low, high),
        "chance": chance,
        "alarm": alarm if low > chance else None,
    }


def _judge_errors(answers: Array, data: Data) -> dict[str, Any]:
    told = compare_answers(answers, simplest(data).answers, data, against="the mean of the train rows", seed=0)
    targets = np.asarray(data.y["report"]).reshape(answers.shape)
    alarm = (
        f"Trained on permuted targets the network predicts the report rows better than the mean of the train rows does "
        f"(p = {told.p_value:.2g})."
    )
    return {
        "rmse": float(np.square(answers - targets).mean() ** 0.5),
        "p_value": told.p_value,
        "alarm": alarm if told.verdict == "better" else None,
    }


def rejection(found: Mapping[str, Any]) -> str | None:
    """Return why a version is rejected whose leak check raised the alarm."""
    if found["alarm"] is None:
        return None
    return (
        f"{found['alarm']} Something lets the report rows' answers into the training: find it before you trust any "
        f"figure of this data set."
    )
