"""Clusters of one kind as one: where a network says how far apart the halves of a kind may lie.

HDBSCAN knows no scale: in a dense archive it finds the two halves of a kind, which early and late jumps make, as surely
as it finds two kinds. A network that was trained to bring a kind together has such a scale.
"""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from ainerd_hpc.kernels.clustering.density import Groups, by_size, largest_first
from ainerd_hpc.kernels.clustering.reduction import Points


def merge(groups: Groups, latents: Points, same_kind: float) -> Groups:
    """Groups in which those whose centres are nearer than `same_kind` are one (average linkage).

    Parameters
    ----------
    groups : Groups
    latents : (n, d)
    same_kind : float
        Distance of latents; 0 leaves the groups alone.

    Returns
    -------
    Groups
        0 is the largest again. What was merged reaches as far as the furthest of its parts, is as dense as the densest,
        and lasts as long as the one that lasts longest.
    """
    number = len(groups.reach)
    if number < 2 or not same_kind:
        return groups
    centres = np.stack([latents[groups.label == one].mean(axis=0, dtype=np.float64) for one in range(number)])
    joined = fcluster(linkage(centres, "average"), same_kind, "distance") - 1
    label = np.append(joined, -1)[groups.label]
    parts = [joined == one for one in largest_first(label)]
    return Groups(
        by_size(label),
        groups.probability,
        np.array([groups.reach[part].max() for part in parts]),
        np.array([groups.densest[part].min() for part in parts]),
        np.array([groups.persistence[part].max() for part in parts]),
    )
