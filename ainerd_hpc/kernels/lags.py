"""The lags of multi-tau g2, in the schemes of two published programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scheme = Literal["boost_corr", "scikit-beam"]


def delays(
    num_frames: int, scheme: Scheme = "boost_corr", delays_per_level: int = 4
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lags of a multi-tau scheme, as far as there are pairs of frames.

    With n = delays_per_level, "boost_corr" has x = 1..2n at level 0 and lags x 2^L for x = n+1..2n at level L;
    "scikit-beam" has x = 1..2n-1 and x = n..2n-1, so that its lags 2n, 4n, .. are one level coarser. Both end at the
    first x that is not below the number of frames at its level, floor(num_frames / 2^L): no later lag has a pair.

    scikit-beam calls 2n its number of buffers, has a lag 0, and ends after a given number of levels, or at the first
    lag without intensity, as lags without pairs are: with levels enough, its lags above 0 are these.

    Parameters
    ----------
    num_frames : int
    scheme : {"boost_corr", "scikit-beam"}
    delays_per_level : int
        At least 1.

    Returns
    -------
    lag : (lag,) int64
        In frames, ascending.
    level : (lag,) int64
        Level at which it is measured: frames there are sums of 2^level frames.

    References
    ----------
    boost_corr, help_functions.gen_tau_bin; scikit-beam, core.utils.multi_tau_lags and core.correlation.lazy_one_time;
    Schätzel, Quantum Opt. 2, 287 (1990).
    """
    if delays_per_level < 1:
        raise ValueError(f"expected at least 1 delay per level, found {delays_per_level}")
    last = 2 * delays_per_level - (scheme == "scikit-beam")
    table = np.array(list(_delays(num_frames, last - delays_per_level + 1, last)), dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _delays(num_frames: int, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Steps 1..last at level 0, first..last at every other."""
    level, begin = 0, 1
    while True:
        for steps in range(begin, last + 1):
            if steps >= num_frames >> level:
                return
            yield steps << level, level
        level, begin = level + 1, first
