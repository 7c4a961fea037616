"""The maps that the network finds most alike."""

from __future__ import annotations

import numpy as np

NUM_NEIGHBOURS = 8
_BLOCK = 128
_STEPS = 2**31
"""Steps of a squared distance: nearer to each other than that, the one that comes first in the table is the nearer."""


def nearest(latents: np.ndarray) -> np.ndarray:
    """Rows of the nearest others of each latent.

    Parameters
    ----------
    latents : (n, d) float

    Returns
    -------
    (n, 8) int64
        Nearest first; -1 where there are no more, and where a latent is not finite.
    """
    out = np.full((len(latents), NUM_NEIGHBOURS), -1)
    known = np.flatnonzero(np.isfinite(latents).all(axis=1))
    points = latents[known].astype(np.float64)
    squares = (points**2).sum(axis=1)
    num, scale = min(NUM_NEIGHBOURS, len(known) - 1), max(4 * squares.max(initial=0.0), 1e-300)
    for start in range(0, len(known) if num > 0 else 0, _BLOCK):
        block = points[start : start + _BLOCK]
        away = squares[start : start + _BLOCK, None] + squares - 2 * block @ points.T
        steps = np.rint(np.clip(away / scale, 0, 1) * (_STEPS - 2)).astype(np.int64)
        steps[np.arange(len(block)), start + np.arange(len(block))] = _STEPS - 1
        keys = steps * _STEPS + np.arange(len(known))
        near = np.sort(np.partition(keys, num - 1, axis=1)[:, :num], axis=1) % _STEPS
        out[known[start : start + _BLOCK], :num] = known[near]
    return out
