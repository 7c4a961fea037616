"""Windows of C2 to maps for the network: cut, resampled, scaled."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.kernels.diagonals import Floats, fill_diagonal
from ainerd_hpc.types import MAP_SIZE

Scaling = Literal["robust", "minmax", "none"]

ROBUST_PERCENTILE = 99.5
MIN_SPAN = 0.01
"""Least contrast that robust scaling stretches to 1, so that a map of noise alone is not blown up without bound."""
ROBUST_RANGE = (-0.5, 1.5)


class Scaled(NamedTuple):
    """A scaled map and its scale: C2 = low + map (high - low)."""

    map: NDArray[np.float32]
    """(size, size)."""
    low: float
    """C2 at 0."""
    high: float
    """C2 at 1."""


def resample(c2: Floats, size: int = MAP_SIZE) -> NDArray[np.float32]:
    """Resample a window of C2 to size x size.

    Both axes alike: area averages where w > size, which keep the mean of the window; linear interpolation between frame
    centres, constant beyond the outer ones, where w < size; nothing where w == size. The result is averaged with its
    transpose, which removes rounding only.

    Parameters
    ----------
    c2 : (w, w) array of floats
        Symmetric. Entries that are not finite carry no weight.
    size : int
        Frames of the map along each axis.

    Returns
    -------
    (size, size) float32
        Exactly symmetric. A pixel without any finite entry under it gets the median of the window; a window without any
        is NaN throughout, and is no map.
    """
    window = c2.astype(np.float64)
    weights = _weights(len(window), size)
    valid = np.isfinite(window)
    resampled = weights @ np.where(valid, window, 0) @ weights.T
    if not valid.all():
        share = weights @ valid.astype(np.float64) @ weights.T
        median = np.median(window[valid]) if valid.any() else np.nan
        resampled = np.divide(resampled, share, out=np.full_like(share, median), where=share > 1e-12)
    symmetric: NDArray[np.float32] = ((resampled + resampled.T) / 2).astype(np.float32)
    return symmetric


def _weights(length: int, size: int) -> NDArray[np.float64]:
    """Rows that take a series of `length` frames to one of `size`; each sums to 1."""
    if length >= size:
        edges = np.arange(size + 1) * (length / size)
        frames = np.arange(length)
        begin, end = np.maximum(edges[:-1, None], frames), np.minimum(edges[1:, None], frames + 1)
        weights: NDArray[np.float64] = np.maximum(end - begin, 0) * (size / length)
    else:
        position = np.clip((np.arange(size) + 0.5) * (length / size) - 0.5, 0, length - 1)
        weights = np.maximum(1 - np.abs(position[:, None] - np.arange(length)), 0)
    return weights


def scale(resampled: NDArray[np.float32], method: Scaling) -> Scaled:
    """Scale a resampled window for the network.

    Parameters
    ----------
    resampled : (size, size) float32
    method : {"robust", "minmax", "none"}
        robust: 0 at 1, the baseline of C2 by definition; 1 at the 99.5th percentile, or at the median of the (filled)
        diagonal where that is more, as for a ridge of one pixel, or at 1.01 if both are less; clipped to -0.5..1.5.
        minmax: 0 at the least, 1 at the greatest value, zeros for a constant window, as in Horwath et al., Nat.
        Commun. 15, 5945 (2024). none: C2 - 1.

    Returns
    -------
    Scaled

    Raises
    ------
    ValueError
        Unknown method.
    """
    if method == "robust":
        ridge = float(np.median(np.diagonal(resampled)))
        high = max(float(np.percentile(resampled, ROBUST_PERCENTILE)), ridge, 1 + MIN_SPAN)
        scaled = np.clip((resampled - 1) / (high - 1), *ROBUST_RANGE)
        return Scaled(scaled.astype(np.float32), 1.0, high)
    if method == "minmax":
        low, high = float(resampled.min()), float(resampled.max())
        span = (high - low) or 1.0
        return Scaled(((resampled - low) / span).astype(np.float32), low, high)
    if method == "none":
        return Scaled(resampled - np.float32(1), 1.0, 2.0)
    raise ValueError(f"expected scaling robust, minmax or none, found {method!r}")


def unscale(scaled: Scaled) -> NDArray[np.float32]:
    """C2 (size, size) again; what robust scaling clipped stays clipped."""
    return (scaled.low + scaled.map * (scaled.high - scaled.low)).astype(np.float32)


def make_map(c2_window: Floats, method: Scaling, size: int = MAP_SIZE) -> Scaled:
    """Fill the raw diagonal of a window (w, w) of C2, resample and scale it; see `fill_diagonal`, `resample`, `scale`.

    With `none`, for maps that were prepared elsewhere, the diagonal stays as it is.
    """
    window = c2_window if method == "none" else fill_diagonal(c2_window.astype(np.float64))
    return scale(resample(window, size), method)
