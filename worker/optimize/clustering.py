"""Find codebooks: let the weights of a kernel take few values (Deep Compression, Han et al. 2016)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from app.serving.coding import PLACES, as_words, write_words

FREE = -1
# So many weights tell where the clusters lie; all of them then move the centroids once more.
_SAMPLE = 100_000


@dataclass(frozen=True)
class Clustered:
    """Hold weights whose kernels take few values, and for each kernel the number of the value of every entry.

    Zeros have the number -1: they stay zero by themselves.
    """

    weights: dict[str, NDArray[Any]]
    groups: dict[str, NDArray[np.intp]]


def cluster_kernels(weights: Mapping[str, NDArray[Any]], kernels: list[str], *, clusters: int, seed: int) -> Clustered:
    """Give each of the named kernels a codebook of at most `clusters` values; zeros keep one of their own."""
    changed, groups = dict(weights), {}
    for name in kernels:
        codebook, places = find_codebook(weights[name].reshape(-1), clusters=clusters, seed=seed)
        groups[name] = np.where(codebook[places] == 0, FREE, places).reshape(weights[name].shape)
        changed[name] = codebook[places].reshape(weights[name].shape)
    return Clustered(changed, groups)


def find_codebook(
    values: NDArray[np.float32], *, clusters: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Return a codebook in ascending order, and the place in it of each value (n,).

    Without zeros all values are clustered by k-means from centroids that stand at equal distances, which keeps the few
    large weights apart (section 3.2 of the paper). Exact zeros are a cluster before all others.
    """
    used = values[values != 0]
    room = clusters - (len(used) < len(values))
    centres = np.unique(used)
    if len(centres) > room:
        centres = _means(used, _k_means(used, room, seed))
        # Opposite weights may have the mean 0, and would be taken for zeros from then on.
        centres = np.unique(np.where(centres == 0, np.abs(used).min(), centres))
    codebook = np.unique(np.append(centres, np.float32(0))) if len(used) < len(values) else centres
    return codebook, _places_in(codebook, values)


def _k_means(values: NDArray[np.float32], clusters: int, seed: int) -> NDArray[np.float64]:
    sample = values
    if len(values) > _SAMPLE:
        sample = np.random.default_rng(seed).choice(values, _SAMPLE, replace=False)
    start = np.linspace(sample.min(), sample.max(), clusters, dtype=np.float64)[:, None]
    found = KMeans(clusters, init=start, n_init=1, random_state=seed).fit(sample[:, None].astype(np.float64))
    return np.unique(found.cluster_centers_)


def _means(values: NDArray[np.float32], centres: NDArray[np.float64]) -> NDArray[np.float32]:
    places = _nearest(values, centres)
    counts = np.bincount(places, minlength=len(centres))
    sums = np.bincount(places, values, minlength=len(centres))
    return np.asarray(sums[counts > 0] / counts[counts > 0], np.float32)


def _places_in(codebook: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the place of the nearest value; zero is that of zeros alone, however near others are."""
    others = np.flatnonzero(codebook)
    places = np.full(len(values), np.searchsorted(codebook, 0))
    used = values != 0
    places[used] = others[_nearest(values[used], codebook[others])]
    return places


def _nearest(values: NDArray[Any], centres: NDArray[Any]) -> NDArray[np.intp]:
    middles = (centres[1:].astype(np.float64) + centres[:-1]) / 2
    return np.searchsorted(middles, values.astype(np.float64))


def code_sizes(kernel: NDArray[np.float32]) -> dict[str, Any]:
    """Return how a kernel is stored: its values, its zeros, and its bytes as numbers, as indices, and entropy-coded."""
    words = as_words(np.ascontiguousarray(kernel).tobytes(), 4)
    return {
        "values": len(np.unique(kernel)),
        "numbers": kernel.size,
        "zeros": int(kernel.size - np.count_nonzero(kernel)),
        "float32_bytes": 4 * kernel.size,
        "codebook_and_indices_bytes": len(write_words(words, codings=(PLACES,))),
        "coded_bytes": len(write_words(words)),
    }
