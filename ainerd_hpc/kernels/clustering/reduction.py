"""Latents to fewer coordinates: UMAP, or principal components where points are too few for it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating[Any]]

_FAR = 1e18
"""Coordinate whose square, summed over some hundred dimensions, is still a float32."""


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
    first, place = distinct(latents)
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


def distinct(latents: Points) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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


def neighbours(num_points: int, num_neighbours: int | None) -> int:
    """Neighbours that UMAP keeps together: what is asked for, else one point in 15, within 15..100.

    With so many, clusters of 80 % of the scans of an archive agree best; fewer cut kinds into pieces.
    """
    return num_neighbours or min(max(num_points // 15, 15), 100)


def can_be_placed(latents: Points) -> NDArray[np.bool_]:
    """Which latents (n, d) have distances in float32, which UMAP computes in: not NaN, nor 10^18 and more, (n,)."""
    return np.asarray(np.abs(latents).max(axis=1, initial=0) < _FAR)
