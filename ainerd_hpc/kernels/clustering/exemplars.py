"""The maps that stand for a cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from ainerd_hpc.kernels.clustering.reduction import Points

_MOST_COMPARED = 1000


def medoid(latents: Points) -> int:
    """Row of the latent (n, d) with the least sum of distances to the others; of more than 1000, to every n-th."""
    step = -(-len(latents) // _MOST_COMPARED)
    return int(cdist(latents, latents[::step]).sum(axis=1).argmin())


def exemplars(probability: NDArray[np.float64], scans: NDArray[Any], most: int) -> NDArray[np.int64]:
    """Rows of the surest members of a cluster, (n,), of as many scans as can be, surest first."""
    by_sureness = np.argsort(-probability, kind="stable")
    _, first = np.unique(scans[by_sureness], return_index=True)
    return by_sureness[np.sort(first)[:most]]
