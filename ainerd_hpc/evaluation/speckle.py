"""C2 of a given g1, through speckle fields, photons and sums: what a detector would give, without its files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.simulate.speckle import square_root

Floats = NDArray[np.float32]

MOST_MODES = 8
"""Modes up to which each one's field is drawn. The sum of more is drawn as a Gaussian process of the same mean and
covariance, 1 and |g1|^2 / modes, cut off at 0."""


def half_decay(g1: NDArray[Any]) -> float:
    """First lag, in frames, at which the mean of |g1|^2 over age is down to 1/2; NaN where it never is.

    It is one clock for all kinds of dynamics; what tau means is another thing in each.
    """
    squares, before = np.abs(g1) ** 2, 1.0
    for lag in range(1, len(g1)):
        mean = float(np.diagonal(squares, lag).mean())
        if mean <= 0.5:
            return lag - 1 + (before - 0.5) / (before - mean)
        before = mean
    return float("nan")


def intensities(g1: NDArray[Any], modes: int, num_pixels: int, random: np.random.Generator) -> Floats:
    """Speckle intensities (t, pixel) with mean 1 and covariance |g1|^2 / modes (Siegert)."""
    if modes > MOST_MODES:
        root = square_root(np.abs(g1).astype(np.float64) ** 2)
        normal = random.standard_normal((root.shape[1], num_pixels), dtype=np.float32)
        return np.asarray(np.maximum(1 + (root @ normal) * np.float32(modes**-0.5), 0))
    root, total = square_root(g1), np.zeros((len(g1), num_pixels), dtype=np.float32)
    for _ in range(modes):
        normal = random.standard_normal((root.shape[1], 2 * num_pixels), dtype=np.float32)
        parts = (root @ normal.view(root.dtype)).view(np.float32).reshape(len(g1), -1)
        parts *= parts
        if np.iscomplexobj(root):
            total += parts[:, ::2] + parts[:, 1::2]
        else:
            total += parts[:, :num_pixels] + parts[:, num_pixels:]
    return total / np.float32(2 * modes)


def two_time(counts: NDArray[Any]) -> Floats:
    """C2 (t, t) of counts (t, pixel): N sum_p I_p(t1) I_p(t2) / (sum_p I_p(t1) sum_p I_p(t2)), NaN without counts.

    The diagonal holds the photons' own noise, as measured C2 does.
    """
    values = np.asarray(counts, dtype=np.float32)
    sums = values.sum(axis=1, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        c2 = (values @ values.T) * (values.shape[1] / np.multiply.outer(sums, sums))
    return np.asarray(np.where(np.isfinite(c2), c2, np.nan), dtype=np.float32)
