"""Groups by density: HDBSCAN, and how near a point has to be to belong to one of them."""

from __future__ import annotations

import warnings
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.kernels.clustering.reduction import Points, distinct

_SIZES = (400, 200, 100, 50)
"""One map in so many is what the smallest cluster may have, where the stability decides."""
FEWEST = 5
"""Points of the smallest cluster that is not asked for."""


class Groups(NamedTuple):
    """What HDBSCAN says of n points, and of the clusters that it finds."""

    label: NDArray[np.int64]
    """(n,) 0 is the largest cluster; -1 is noise."""
    probability: NDArray[np.float64]
    """(n,) Strength of the membership, 0..1; 0 for noise."""
    reach: NDArray[np.float64]
    """(clusters,) Mutual-reachability distance at which the cluster parts from the rest, 1 / lambda of its birth."""
    densest: NDArray[np.float64]
    """(clusters,) That distance where it is densest: a membership at distance d has the strength densest / d."""
    persistence: NDArray[np.float64]
    """(clusters,) How long the cluster lasts as the density rises, 0..1."""


def group(points: Points, min_cluster_size: int, min_samples: int, selection: Literal["eom", "leaf"] = "eom") -> Groups:
    """Groups by density, HDBSCAN (Campello et al., ACM TKDD 10, 5, 2015).

    `cluster_selection_epsilon` is left alone: labels of points that come later, by `reach`, would contradict it.

    Parameters
    ----------
    points : (n, d)
    min_cluster_size, min_samples : int
    selection : {"eom", "leaf"}
        HDBSCAN's own parameters.

    Returns
    -------
    Groups
        Everything is noise where there are fewer points than one cluster needs.
    """
    n = len(points)
    if n < fewest(min_cluster_size, min_samples):
        return Groups(np.full(n, -1), np.zeros(n), np.zeros(0), np.zeros(0), np.zeros(0))
    from hdbscan import HDBSCAN

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        fitted = HDBSCAN(
            min_cluster_size=min_cluster_size,
            min_samples=min_samples,
            cluster_selection_method=selection,
            core_dist_n_jobs=1,
        )
        fitted.fit(np.asarray(points, dtype=np.float64))
    _, place = distinct(points)
    label = _of_equals(fitted.labels_, place)
    probability = _of_equals(fitted.probabilities_, place)
    order = largest_first(label)
    reach, densest = _distances(fitted)
    kept = [values[order] for values in (reach, densest, np.asarray(fitted.cluster_persistence_))]
    return Groups(by_size(label), probability.astype(np.float64), *kept)


def _distances(fitted: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances of birth and of greatest density of each cluster, in the order of HDBSCAN's labels."""
    rows = fitted.condensed_tree_.to_numpy()
    chosen = sorted(fitted.condensed_tree_._select_clusters())  # its labels are places in this order
    births = [rows["lambda_val"][rows["child"] == node].max(initial=0.0) for node in chosen]
    deaths = [rows["lambda_val"][rows["parent"] == node].max(initial=0.0) for node in chosen]
    with np.errstate(divide="ignore"):
        return 1 / np.array(births, dtype=np.float64), 1 / np.array(deaths, dtype=np.float64)


def _of_equals(values: NDArray[Any], place: NDArray[np.int64]) -> NDArray[Any]:
    """The largest value among equal points, for each of them: HDBSCAN may cut through many of them."""
    largest = np.full(place.max(initial=-1) + 1, values.min(initial=0), dtype=values.dtype)
    np.maximum.at(largest, place, values)
    return np.asarray(largest[place])


def by_size(labels: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """The same clusters, numbered from the largest to the smallest; -1 stays -1."""
    order = largest_first(labels)
    rank = np.full(order.max(initial=-1) + 2, -1, dtype=np.int64)  # the last one is that of noise
    rank[order] = np.arange(len(order))
    return np.asarray(rank[labels])


def largest_first(labels: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Labels from that of the largest cluster to that of the smallest, without noise."""
    names, sizes = np.unique(labels[labels >= 0], return_counts=True)
    return np.asarray(names[np.argsort(-sizes, kind="stable")], dtype=np.int64)


def sizes(num_points: int, min_cluster_size: int | None) -> list[int]:
    """Sizes that the smallest cluster may have: what is asked for, else one map in 400, 200, 100 or 50, at least 5."""
    return [min_cluster_size] if min_cluster_size else sorted({max(FEWEST, round(num_points / n)) for n in _SIZES})


def smallest(num_points: int, min_cluster_size: int | None) -> int:
    """Points in the smallest cluster: what is asked for, else one in a hundred of them, and at least 5."""
    return min_cluster_size or max(FEWEST, round(num_points / 100))


def samples(min_cluster_size: int, min_samples: int | None) -> int:
    """Neighbours that make a place dense: what is asked for, else as many as the smallest cluster has, at most 10."""
    return min_samples or min(min_cluster_size, 10)


def fewest(min_cluster_size: int, min_samples: int) -> int:
    """Points below which there is no cluster."""
    return max(min_cluster_size, min_samples + 1)
