"""What two partitions of the same points have in common, cluster by cluster."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer[Any]]

_PART = 0.2
"""Share of a cluster from which on it counts as a part of a split or a merge."""
_SAME = 0.1
"""Jaccard index from which on a cluster keeps its number."""


class Identity(NamedTuple):
    """New clusters as the old ones continued."""

    number: NDArray[np.int64]
    """(new clusters,) The old number where one continues; else the next that no cluster had."""
    changes: tuple[str, ...]
    """A line for each old cluster that fell apart, and each new one that holds several."""


def jaccard(first: Labels, second: Labels) -> NDArray[np.float64]:
    """Points of both over points of either, for each cluster (0..) of `first` (n,) and of `second` (n,)."""
    both = _both(first, second)
    sizes = [
        np.bincount(labels[labels >= 0], minlength=both.shape[axis]) for axis, labels in enumerate((first, second))
    ]
    return np.asarray(both / np.maximum(sizes[0][:, None] + sizes[1] - both, 1))


def _both(first: Labels, second: Labels) -> NDArray[np.int64]:
    """Points of each cluster of `first` that are in each cluster of `second`."""
    counts = np.zeros((int(first.max(initial=-1)) + 1, int(second.max(initial=-1)) + 1), dtype=np.int64)
    clustered = (first >= 0) & (second >= 0)
    np.add.at(counts, (first[clustered], second[clustered]), 1)
    return counts


def identify(old: Labels, new: Labels, num_old: int, num_new: int) -> Identity:
    """Give new clusters the numbers of the old ones that they continue.

    Old and new are matched so that the sum of their Jaccard indices is the largest (Hungarian method, Kuhn 1955).

    Parameters
    ----------
    old, new : (n,)
        Labels of the points that both partitions hold; -1 is noise.
    num_old, num_new : int
        Numbers that are taken, and new clusters; some may have no such point.
    """
    from scipy.optimize import linear_sum_assignment

    index = np.zeros((num_old, num_new))
    found = jaccard(old, new)
    index[: found.shape[0], : found.shape[1]] = found
    number = np.full(num_new, -1, dtype=np.int64)
    for before, after in zip(*linear_sum_assignment(-index), strict=True):
        if index[before, after] >= _SAME:
            number[after] = before
    unknown = number < 0
    number[unknown] = num_old + np.arange(unknown.sum())
    return Identity(number, (*_splits(_both(old, new), number), *_merges(_both(old, new), number)))


def _splits(both: NDArray[np.int64], number: NDArray[np.int64]) -> list[str]:
    parts = both >= np.maximum(_PART * both.sum(axis=1, keepdims=True), 1)
    return [
        f"cluster {before} has split into {_names(number[: len(row)][row])}"
        for before, row in enumerate(parts)
        if row.sum() > 1
    ]


def _merges(both: NDArray[np.int64], number: NDArray[np.int64]) -> list[str]:
    parts = both >= np.maximum(_PART * both.sum(axis=0, keepdims=True), 1)
    return [
        f"clusters {_names(np.flatnonzero(row))} have merged into {number[after]}"
        for after, row in enumerate(parts.T)
        if row.sum() > 1
    ]


def _names(numbers: NDArray[np.int64]) -> str:
    *first, last = map(str, sorted(numbers.tolist()))
    return f"{', '.join(first)} and {last}"
