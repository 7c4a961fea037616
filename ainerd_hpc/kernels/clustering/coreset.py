"""The maps that speak for an archive: as many as can be clustered together, shared out evenly among its scans."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def coreset(scans: NDArray[np.integer[Any]], size: int, seed: int) -> NDArray[np.int64]:
    """Rows of at most `size` maps, in order: one of every scan, then a second of each that has one, and so on.

    No scan, however many maps it has, speaks for more than its share; the last round is drawn by chance.

    Parameters
    ----------
    scans : (n,)
        Number of the scan of each map.
    size : int
    seed : int

    Returns
    -------
    (min(n, size),)
    """
    n = len(scans)
    if n <= size:
        return np.arange(n)
    chance = np.random.default_rng(seed).permutation(n).astype(np.int32)
    by_scan = np.lexsort((chance, scans))
    begins = np.flatnonzero(np.r_[True, np.diff(scans[by_scan]) != 0])
    turn = np.arange(n, dtype=np.int32) - np.repeat(begins, np.diff(np.r_[begins, n])).astype(np.int32)
    order = np.lexsort((chance[by_scan], turn))
    return np.sort(by_scan[order[:size]])
