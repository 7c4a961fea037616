"""Latents to a picture and to groups: UMAP and HDBSCAN."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Points = NDArray[np.floating[Any]]

_MOST_REFERENCES, _ROWS = 4096, 1024
"""Points that others are compared with, and how many of those at a time."""
_FAR = 1e18
"""Coordinate whose square, summed over some hundred dimensions, is still a float32."""


class Groups(NamedTuple):
    """What HDBSCAN says of every point, (n,) each."""

    label: NDArray[np.int64]
    """0 is the largest cluster; -1 is noise."""
    probability: NDArray[np.float64]
    """Strength of the membership, 0..1; 0 for noise."""


def reduce(latents: Points, dimensions: int, num_neighbours: int, min_dist: float, seed: int) -> NDArray[np.float64]:
    """UMAP coordinates of latents (McInnes et al., arXiv 1802.03426); principal components where points are too few.

    Equal latents have one place: UMAP would pull them apart at random where there are more of them than neighbours.

    Parameters
    ----------
    latents : (n, d)
    dimensions : int
        Coordinates of the result.
    num_neighbours, min_dist : int, float
        UMAP's own parameters.
    seed : int
        The same seed gives the same coordinates on the same machine.

    Returns
    -------
    (n, dimensions) float64
    """
    first, place = _distinct(latents)
    if len(first) < len(latents):
        return reduce(latents[first], dimensions, num_neighbours, min_dist, seed)[place]
    if len(latents) < max(4 * dimensions, 10):
        return _principal_components(latents, dimensions)
    from umap import UMAP

    reducer = UMAP(
        n_components=dimensions,
        n_neighbors=min(num_neighbours, len(latents) - 1),
        min_dist=min_dist,
        random_state=seed,
        n_jobs=1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # disconnected islands are what one looks for here, not a fault
        return np.asarray(reducer.fit_transform(latents), dtype=np.float64)


def _distinct(latents: Points) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first of each set of equal latents, in their order, and which of these each latent is equal to."""
    whole = np.ascontiguousarray(latents + 0.0)  # -0 and 0 are equal, but not their bytes
    rows = whole.view(np.dtype((np.void, whole.itemsize * whole.shape[1]))).ravel()
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return np.sort(first), rank[inverse]


def _principal_components(latents: Points, dimensions: int) -> NDArray[np.float64]:
    centred = np.asarray(latents, dtype=np.float64) - np.mean(latents, axis=0) if len(latents) else latents
    _, _, axes = np.linalg.svd(np.atleast_2d(centred), full_matrices=False)
    components = np.zeros((len(latents), dimensions))
    used = min(dimensions, len(axes))
    components[:, :used] = centred @ axes[:used].T
    return components


def group(points: Points, min_cluster_size: int, min_samples: int, selection: Literal["eom", "leaf"] = "eom") -> Groups:
    """Groups by density, HDBSCAN (Campello et al., ACM TKDD 10, 5, 2015).

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
        return Groups(np.full(n, -1), np.zeros(n))
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
    _, place = _distinct(points)
    labels, probability = (_of_equals(values, place) for values in (fitted.labels_, fitted.probabilities_))
    return Groups(by_size(labels), probability.astype(np.float64))


def novelty(latents: Points) -> NDArray[np.float64]:
    """How unlike the others each point is, (n,): r / (r + median of r), 0..1, where r is the distance within which one
    point in twenty lies.

    A kind that fewer than one map in twenty is of has to look beyond itself to find so many, however dense it is: the
    outlier scores of density (GLOSH) call a dense rare kind ordinary.

    Parameters
    ----------
    latents : (n, d)
        Beyond 4096, one in twenty of 4096 of them, drawn by a fixed seed.
    """
    reference = np.asarray(latents, dtype=np.float64)
    if len(reference) > _MOST_REFERENCES:
        reference = reference[np.random.default_rng(0).choice(len(reference), _MOST_REFERENCES, replace=False)]
    nearest = min(math.ceil(len(reference) / 20), len(reference) - 1)
    radius = np.zeros(len(latents))
    for start in range(0, len(latents), _ROWS):
        distances = cdist(latents[start : start + _ROWS], reference)
        radius[start : start + _ROWS] = np.partition(distances, nearest, axis=1)[:, nearest]
    total = radius + np.median(radius) if len(radius) else radius
    return np.divide(radius, total, out=np.zeros_like(radius), where=total > 0)


def _of_equals(values: NDArray[Any], place: NDArray[np.int64]) -> NDArray[Any]:
    """The largest value among equal points, for each of them: HDBSCAN may cut through many of them."""
    largest = np.full(place.max(initial=-1) + 1, values.min(initial=0), dtype=values.dtype)
    np.maximum.at(largest, place, values)
    return largest[place]


def peak_bytes(num_points: int, num_neighbours: int) -> int:
    """Peak memory of `reduce` and `group` with their table, beyond that of a process.

    UMAP takes some 200 MB where it is compiled first, since nothing is kept of that yet. Beside them it is 1.4 to 1.7
    times what 5,000 to 50,000 latents of 16 or 64 numbers took. All pairs are compared up to 4096 points.
    """
    return 2**28 + 8 * min(num_points, 4096) ** 2 + (5000 + 100 * num_neighbours) * num_points


def neighbours(num_points: int, num_neighbours: int | None) -> int:
    """Neighbours that UMAP keeps together: what is asked for, else one point in 15, within 15..100.

    With so many, clusters of 80 % of the scans of an archive agree best; fewer cut kinds into pieces.
    """
    return num_neighbours or min(max(num_points // 15, 15), 100)


def smallest(num_points: int, min_cluster_size: int | None) -> int:
    """Points in the smallest cluster: what is asked for, else one in a hundred of them, and at least 5."""
    return min_cluster_size or max(5, round(num_points / 100))


def samples(min_cluster_size: int, min_samples: int | None) -> int:
    """Neighbours that make a place dense: what is asked for, else as many as the smallest cluster has, at most 10."""
    return min_samples or min(min_cluster_size, 10)


def fewest(min_cluster_size: int, min_samples: int) -> int:
    """Points below which there is no cluster."""
    return max(min_cluster_size, min_samples + 1)


def can_be_placed(latents: Points) -> NDArray[np.bool_]:
    """Which latents (n, d) have distances in float32, which UMAP computes in: not NaN, nor 10^18 and more, (n,)."""
    return np.asarray(np.abs(latents).max(axis=1, initial=0) < _FAR)


def by_size(labels: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """The same clusters, numbered from the largest to the smallest; -1 stays -1."""
    names, sizes = np.unique(labels[labels >= 0], return_counts=True)
    order = names[np.argsort(-sizes, kind="stable")]
    return np.array([-1 if label < 0 else int(np.flatnonzero(order == label)[0]) for label in labels], dtype=np.int64)
