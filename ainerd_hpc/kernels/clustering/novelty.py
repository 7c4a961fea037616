"""How unlike the others a point is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from ainerd_hpc.kernels.clustering.reduction import Points

MOST_REFERENCES = 4096
"""Points that others are compared with."""
_ROWS = 1024
"""Points that are compared at a time."""


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
    radius = ordinary_radius(latents, references(latents))
    return against(radius, float(np.median(radius))) if len(radius) else radius


def references(latents: Points) -> NDArray[np.float64]:
    """The points that novelty compares with: these (n, d), or 4096 of them."""
    reference = np.asarray(latents, dtype=np.float64)
    if len(reference) > MOST_REFERENCES:
        reference = reference[np.random.default_rng(0).choice(len(reference), MOST_REFERENCES, replace=False)]
    return reference


def ordinary_radius(latents: Points, reference: Points) -> NDArray[np.float64]:
    """The distance r within which one of twenty references lies, (n,)."""
    return _radius(latents, reference, lambda part: cdist(part, reference))


def quick_radius(latents: Points, reference: Points) -> NDArray[np.float64]:
    """`ordinary_radius` by float32 products: nine times as fast, to a few 1e-7 of the largest latent."""
    middle = reference.mean(axis=0)
    to = (reference - middle).astype(np.float32)
    lengths = (to**2).sum(axis=1)

    def distances(part: Points) -> NDArray[Any]:
        own = (part - middle).astype(np.float32)
        squared = own @ (-2 * to.T)
        squared += lengths
        squared += (own**2).sum(axis=1)[:, None]
        return np.asarray(squared)

    return np.sqrt(np.maximum(_radius(latents, reference, distances), 0.0))


def _radius(latents: Points, reference: Points, distances: Callable[[Points], NDArray[Any]]) -> NDArray[np.float64]:
    """The least distance but one in twenty, a block of latents at a time."""
    nearest = min(math.ceil(len(reference) / 20), len(reference) - 1)
    radius = np.zeros(len(latents))
    for start in range(0, len(latents), _ROWS):
        block = distances(latents[start : start + _ROWS])
        block.partition(nearest, axis=1)
        radius[start : start + _ROWS] = block[:, nearest]
    return radius


def against(radius: NDArray[np.float64], median: float) -> NDArray[np.float64]:
    """r / (r + median), 0 where both are 0."""
    total = radius + median
    return np.divide(radius, total, out=np.zeros_like(radius), where=total > 0)
