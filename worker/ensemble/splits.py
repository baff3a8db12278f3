"""Cut train rows into folds that do not leak: equal rows and rows of one group stay together, time runs forwards."""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from app.domain.ensemble_checks import split_of
from app.domain.ensemble_specs import Stack
from app.domain.job_errors import MethodNotApplicableError
from worker.rows import Array, Data, row_groups

Numbers = NDArray[np.int64]


class Cut(NamedTuple):
    """Hold what a model learns from and what it then answers for, two masks (train rows,) without a common row."""

    learned: NDArray[np.bool_]
    held_out: NDArray[np.bool_]


def cut_rows(method: Stack, data: Data, *, seed: int) -> list[Cut]:
    """Return the folds that a stack asks for; raise MethodNotApplicableError when the rows cannot give them."""
    split, labels = split_of(method, data.dataset_schema), data.y["train"]
    if split == "time" and data.order is not None:
        return cut_by_time(units_of_rows(data), data.order, folds=method.folds)
    if split == "grouped":
        numbers = grouped_numbers(
            units_of_rows(data), labels, folds=method.folds, seed=seed, stratified=data.classification
        )
    else:
        numbers = fold_numbers(
            row_groups(data.hashes["train"]), labels, folds=method.folds, seed=seed, stratified=data.classification
        )
    return [without(numbers == number) for number in range(method.folds)]


def without(held_out: NDArray[np.bool_]) -> Cut:
    """Return the cut that learns from all rows but these."""
    return Cut(~held_out, held_out)


def numbers_of(cuts: list[Cut]) -> Numbers:
    """Return the fold (train rows,) that holds out each row; -1 where none does."""
    numbers = np.full(len(cuts[0].held_out), -1)
    for number, cut in enumerate(cuts):
        numbers[cut.held_out] = number
    return numbers


def share_tested(cuts: list[Cut]) -> float:
    """Return the share q of a fold's rows that it tests, where q / (1 - q) is the folds' mean of tested by learned."""
    ratio = float(np.mean([cut.held_out.sum() / cut.learned.sum() for cut in cuts]))
    return ratio / (1 + ratio)


def units_of_rows(data: Data) -> Numbers:
    """Number the train rows so that rows that are equal or of one group, at whatever remove, have equal numbers."""
    same_row = row_groups(data.hashes["train"])
    if data.groups is None:
        return same_row
    groups = same_row.max() + 1 + data.groups
    nodes = int(groups.max()) + 1
    links = coo_array((np.ones(len(groups)), (same_row, groups)), shape=(nodes, nodes))
    components: Numbers = connected_components(links, directed=False)[1].astype(np.int64)[same_row]
    return components


def fold_numbers(groups: Array, labels: Array, *, folds: int, seed: int, stratified: bool) -> Numbers:
    """Return the fold (rows,) of every row: equal rows (of one number) share a fold, classes are spread evenly."""
    unique, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    if len(unique) < folds:
        raise _too_few(folds, len(unique), "different train rows")
    splitter = (StratifiedKFold if stratified else KFold)(folds, shuffle=True, random_state=seed)
    numbers = np.zeros(len(unique), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class may be rarer than the folds are many
        for number, (_, held_out) in enumerate(splitter.split(unique, np.asarray(labels)[first])):
            numbers[held_out] = number
    folded: Numbers = numbers[inverse]
    return folded


def grouped_numbers(groups: Array, labels: Array, *, folds: int, seed: int, stratified: bool) -> Numbers:
    """Return the fold (rows,) of every row: groups of many rows share a fold, classes are spread as they allow."""
    count = len(np.unique(groups))
    if count < folds:
        raise _too_few(folds, count, "groups that share no row")
    splitter = (StratifiedGroupKFold if stratified else GroupKFold)(folds, shuffle=True, random_state=seed)
    numbers = np.full(len(groups), -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, held_out) in enumerate(splitter.split(groups, np.asarray(labels).reshape(len(groups)), groups)):
            numbers[held_out] = number
    if len(np.unique(numbers)) < folds:
        raise _too_few(folds, len(np.unique(numbers)), "groups of a balanced size")
    return numbers


def cut_by_time(units: Numbers, order: Numbers, *, folds: int) -> list[Cut]:
    """Cut rows into `folds` + 1 blocks, the oldest first; each but the first is answered for from all blocks before it.

    A unit stands in the block of its newest row, and rows of one time share a block. A row of a unit that is older than
    something that was learned from is not answered for: whoever answers for it would know the future.
    """
    newest = np.zeros(int(units.max()) + 1, np.int64)
    np.maximum.at(newest, units, order)
    age = newest[units]
    edges = np.sort(age)[np.arange(1, folds + 1) * len(age) // (folds + 1)]
    blocks = np.searchsorted(edges, age, side="right")
    cuts = []
    for block in range(1, folds + 1):
        learned = blocks < block
        held_out = (blocks == block) & (order >= order[learned].max(initial=0))
        if not learned.any() or not held_out.any():
            raise _too_few(folds, len(np.unique(blocks)), "blocks of different times")
        cuts.append(Cut(learned, held_out))
    return cuts


def _too_few(folds: int, found: int, what: str) -> MethodNotApplicableError:
    return MethodNotApplicableError(
        f"The train rows hold only {found} {what}, which are too few for {folds} folds.", hint="Use fewer folds."
    )
