"""Whether new maps still are of the kinds that a fit knows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NOVEL = 0.95
"""Share of the maps of a fit that are less novel than what is called novel."""
_NUM_SIGMA = 3.0


def drifted(is_noise: NDArray[np.bool_], is_novel: NDArray[np.bool_], noise_share: float, num_scans: int) -> str:
    """A line where the share of noise, or of novel maps, exceeds that of the fit by three standard errors; else "".

    Parameters
    ----------
    is_noise, is_novel : (n,)
        New maps in no cluster, and those that are more novel than 95 % of the fit.
    noise_share : float
        Share of noise in the fit.
    num_scans : int
        Scans of the new maps: maps of one scan are not independent.
    """
    if not len(is_noise):
        return ""
    found = []
    for what, share, expected in (
        ("in no cluster", is_noise.mean(), noise_share),
        ("novel", is_novel.mean(), 1 - NOVEL),
    ):
        error = np.sqrt(max(expected * (1 - expected), 0.25 / num_scans) / num_scans)
        if share > expected + _NUM_SIGMA * error:
            found.append(f"{share:.1%} of them are {what}, {expected:.1%} of the fit are")
    return f"{len(is_noise)} new maps drift from cluster.fit: {'; '.join(found)}; make a new fit" if found else ""
