"""A second look at sparse places: kinds that are too rare for a coreset to hold enough of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.kernels.clustering import density
from ainerd_hpc.kernels.clustering.fitting import anchored
from ainerd_hpc.kernels.clustering.placing import Clustered, Placing, is_sparse, near_others
from ainerd_hpc.kernels.clustering.reduction import Points

MOST = 40_000
"""Maps in sparse places that are looked at together: of more, so many drawn by chance."""
LEAST_SHARE = 1e-4
"""Share of the archive; what is rarer stays noise."""
_FEWEST = 10
_DENSER = 2.0
"""Times that the noise around a rare kind has to be thinner, as distances to the tenth neighbour."""
_AROUND = 100
"""Points of the noise around it."""


def smallest(num_maps: int, seen_share: float) -> int:
    """Seen points in the smallest rare kind: one in 10,000 of all maps, at least 10."""
    return max(_FEWEST, round(LEAST_SHARE * num_maps * seen_share))


class Rare(NamedTuple):
    """Rare kinds, k of them, among n points."""

    clustered: Clustered
    """Their members."""
    persistence: NDArray[np.float64]
    """(k,)"""
    members: NDArray[np.int64]
    """Rows of the members among the n points."""


def rare(latents: Points, least: int, known: Placing) -> Rare | None:
    """Clusters among points in sparse places; None where there are none.

    HDBSCAN on the latents themselves: the rest of the archive, for which UMAP keeps its room, is not among them. A
    cluster counts where the noise around it is half as dense in distance, and where its centre is sparse, too: the
    outskirts of a known cluster have that in their middle.

    Parameters
    ----------
    latents : (n, d)
        Of maps that are in sparse places.
    least : int
        Points in the smallest cluster.
    known : Placing
        The clusters that are known.
    """
    groups = density.group(latents, least, _FEWEST)
    if not len(groups.reach):
        return None
    _, far = near_others(latents, _FEWEST)
    spacing = far[:, min(_FEWEST, far.shape[1]) - 1]
    centres = np.stack([latents[groups.label == one].mean(axis=0) for one in range(len(groups.reach))])
    placed = known.place(centres)
    sparse = np.flatnonzero(is_sparse(known.fit, placed.belonging.label, placed.spacing))
    counts = [one for one in sparse.tolist() if _is_dense(latents, spacing, groups.label, one, centres[one])]
    members = np.flatnonzero(np.isin(groups.label, counts))
    if not counts:
        return None
    rank = np.full(len(groups.reach), -1)
    rank[counts] = np.arange(len(counts))
    per_cluster = (values[counts] for values in groups[2:])
    chosen = density.Groups(rank[groups.label[members]], groups.probability[members], *per_cluster)
    own = latents[members]
    kinds = anchored(own, own, known.place(own).picture, np.zeros(len(own)), chosen, _FEWEST)
    return Rare(kinds, chosen.persistence, members)


def _is_dense(
    latents: Points, spacing: NDArray[np.float64], label: NDArray[np.int64], one: int, centre: Points
) -> bool:
    """Whether the noise nearest to the centre of a cluster is thinner than it."""
    noise = np.flatnonzero(label < 0)
    near = noise[np.argsort(((latents[noise] - centre) ** 2).sum(axis=1))[:_AROUND]]
    return bool(len(near) == 0 or _DENSER * np.median(spacing[label == one]) <= np.median(spacing[near]))
