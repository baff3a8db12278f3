"""Cut rows into three disjoint sets: stratified, never parting a group or two equal rows."""

import hashlib
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from app.datasets.options import Split
from app.domain.upload_errors import NoSamplesError

Array: TypeAlias = np.ndarray[Any, Any]
HASH_BYTES = 16
TRAIN, SELECTION, REPORT, DROPPED = 0, 1, 2, 3
SET_NAMES = ("train", "selection", "report")


@dataclass(frozen=True)
class Assignment:
    """Say in which set each row stands (`sets`: 0 train, 1 selection, 2 report, 3 dropped), with notes for the user."""

    sets: Array
    notes: tuple[str, ...] = ()


def hash_rows(x: Array) -> Array:
    """Return the blake2b-128 of each row's bytes, uint8 (rows, 16)."""
    flat = np.ascontiguousarray(x).reshape(len(x), -1)
    digests = b"".join(hashlib.blake2b(row.data, digest_size=HASH_BYTES).digest() for row in flat)
    return np.frombuffer(digests, np.uint8).reshape(len(x), HASH_BYTES)


def assign_sets(
    hashes: Array,
    strata: Array,
    *,
    split: Split,
    seed: int,
    groups: Array | None = None,
    order: Array | None = None,
    official: Array | None = None,
) -> Assignment:
    """Put every row into one set.

    Rows of equal features, and rows of one group, form a unit that stays together. With `order`, units go by their
    newest row: the oldest units to train, the newest to report. Else units are dealt out at random so that each
    stratum (class) is spread as the shares ask. `official` rows are the report set as they are; then other rows that
    equal one of them are dropped, and train and selection share the rest in their proportion.
    """
    sets = np.full(len(hashes), REPORT, dtype=np.int64)
    notes: list[str] = []
    rest = np.arange(len(hashes))
    shares = np.array([split.train, split.selection, split.report])
    if official is not None and official.any():
        rest = np.flatnonzero(~official)
        notes += _tell_shared_groups(groups, rest, official)
        rest = _drop_copies(hashes, rest, official, sets, notes)
        shares = np.array([split.train, split.selection]) / (split.train + split.selection)
    units = _units(hashes[rest], None if groups is None else groups[rest])
    if order is None:
        sets[rest] = _deal(units, strata[rest], shares, seed)
    else:
        sets[rest] = _cut_by_order(units, order[rest], shares)
    _check_none_is_empty(sets, groups)
    return Assignment(sets, (*notes, *_tell(sets, hashes, strata)))


def _drop_copies(hashes: Array, rest: Array, official: Array, sets: Array, notes: list[str]) -> Array:
    keys = _keys(hashes)
    copies = np.isin(keys[rest], keys[official])
    if copies.any():
        sets[rest[copies]] = DROPPED
        notes.append(f"{int(copies.sum())} rows that equal a row of the official report part were dropped from train.")
    return rest[~copies]


def _keys(hashes: Array) -> Array:
    return np.ascontiguousarray(hashes).view(f"V{HASH_BYTES}").reshape(-1)


def _units(hashes: Array, groups: Array | None) -> Array:
    """Number the units, 0 .. U-1: connected components of rows that share a hash or a group."""
    _, same_row = np.unique(_keys(hashes), return_inverse=True)
    same_row = same_row.reshape(-1)
    if groups is None:
        return same_row
    _, same_group = np.unique(groups, return_inverse=True)
    return _components(same_row, same_group.reshape(-1))[same_row]


def _components(same_row: Array, same_group: Array) -> Array:
    """Number the connected components of distinct rows, handing on the lowest number until none falls."""
    lowest = np.arange(int(same_row.max(initial=-1)) + 1)
    while True:
        of_group = np.full(int(same_group.max(initial=-1)) + 1, len(lowest))
        np.minimum.at(of_group, same_group, lowest[same_row])
        fallen = lowest.copy()
        np.minimum.at(fallen, same_row, of_group[same_group])
        if (fallen == lowest).all():
            return np.unique(lowest, return_inverse=True)[1].reshape(-1)
        lowest = fallen


def _cut_by_order(units: Array, order: Array, shares: Array) -> Array:
    """Fill the sets one after another with units sorted by their newest row, so that train holds nothing newer."""
    rank = np.empty(len(order), dtype=np.int64)
    rank[np.argsort(order, kind="stable")] = np.arange(len(order))
    newest = np.full(int(units.max(initial=-1)) + 1, -1, dtype=np.int64)
    np.maximum.at(newest, units, rank)
    sizes = np.bincount(units, minlength=len(newest))
    by_age = np.argsort(newest, kind="stable")
    middle = np.cumsum(sizes[by_age]) - sizes[by_age] / 2
    of_unit = np.empty(len(newest), dtype=np.int64)
    of_unit[by_age] = np.searchsorted(np.cumsum(shares)[:-1] * len(order), middle, side="right")
    return of_unit[units]


def _deal(units: Array, strata: Array, shares: Array, seed: int) -> Array:
    """Place units of several rows first, largest first, each where it is missed most; then fill up with single rows.

    How much a set misses a unit is the part of its share that is still open, in each of the unit's strata and in all.
    """
    counts = _counts(units, strata)
    sizes = counts.sum(axis=1)
    shuffled = np.random.default_rng(seed).permutation(len(counts))
    weights = np.column_stack([counts, sizes])
    wanted = shares[:, None] * weights.sum(axis=0)
    open_part = wanted.copy()
    of_unit = np.zeros(len(counts), dtype=np.int64)
    large = shuffled[sizes[shuffled] > 1]
    for unit in large[np.argsort(-sizes[large], kind="stable")]:
        of_unit[unit] = best = int(np.argmax((open_part / np.maximum(wanted, 1e-12)) @ weights[unit]))
        open_part[best] -= weights[unit]
    single = shuffled[sizes[shuffled] == 1]
    _fill_up(of_unit, single, counts[single].argmax(axis=1), open_part[:, :-1])
    return of_unit[units]


def _counts(units: Array, strata: Array) -> Array:
    counts = np.zeros((int(units.max(initial=-1)) + 1, int(strata.max(initial=0)) + 1))
    np.add.at(counts, (units, strata), 1)
    return counts


def _fill_up(of_unit: Array, single: Array, strata: Array, missing: Array) -> None:
    """Deal out single rows, stratum by stratum; what rounding leaves over is carried to the next stratum."""
    carry = np.zeros(len(missing))
    for stratum in range(missing.shape[1]):
        rows = single[strata == stratum]
        need = np.maximum(missing[:, stratum], 0)
        if not len(rows):
            continue
        ideal = need * (len(rows) / need.sum())
        quota = _round(ideal + carry, len(rows))
        carry += ideal - quota
        of_unit[rows] = np.repeat(np.arange(len(quota)), quota)


def _round(ideal: Array, total: int) -> Array:
    """Round to whole numbers that add up to `total`, largest remainder first, none below 0."""
    quota = np.maximum(np.floor(ideal + 1e-9), 0).astype(np.int64)
    while quota.sum() < total:
        quota[np.argmax(ideal - quota)] += 1
    while quota.sum() > total:
        quota[np.argmin(np.where(quota > 0, ideal - quota, np.inf))] -= 1
    return quota


def _check_none_is_empty(sets: Array, groups: Array | None) -> None:
    for number, name in enumerate(SET_NAMES):
        if not (sets == number).any():
            why = "groups and equal rows stay together" if groups is not None else "equal rows stay together"
            raise NoSamplesError(
                f"The {name} set would be empty: {len(sets)} rows are too few, as {why}.",
                hint="Send more rows or groups, or an official report part with rows that train does not hold.",
            )


def _tell(sets: Array, hashes: Array, strata: Array) -> list[str]:
    notes = []
    kept = sets != DROPPED
    distinct, first, same_row = np.unique(_keys(hashes[kept]), return_index=True, return_inverse=True)
    repeated = int(kept.sum()) - len(distinct)
    if repeated:
        odd = int((strata[kept] != strata[kept][first][same_row.reshape(-1)]).sum())
        notes.append(f"{repeated} rows repeat another row, {odd} of them with another label; equal rows share a set.")
    for number, name in enumerate(SET_NAMES):
        missing = np.setdiff1d(np.unique(strata), np.unique(strata[sets == number]))
        if len(missing):
            notes.append(f"The {name} set holds no row of {len(missing)} of the classes.")
    return notes


def _tell_shared_groups(groups: Array | None, rest: Array, official: Array) -> list[str]:
    if groups is None or not official.any():
        return []
    shared = len(np.intersect1d(groups[rest], groups[official]))
    return [f"{shared} groups stand in the official report part as well as in the other sets."] if shared else []
