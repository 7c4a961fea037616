"""One fit of clusters: the sequence that the cluster stage and the evaluation share."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ainerd_hpc.kernels.clustering import density, stability
from ainerd_hpc.kernels.clustering.merging import merge
from ainerd_hpc.kernels.clustering.novelty import ordinary_radius, references
from ainerd_hpc.kernels.clustering.placing import Belonging, Clustered, near_others, next_clusters
from ainerd_hpc.kernels.clustering.reduction import Points, neighbours, reduce

_MOST_RESAMPLED = 5000
"""Points of one resampling: agreement of large samples is told by as many as well."""

_FAR_OUT = 7.0
"""Half interquartile ranges from the median to Tukey's outer fence, three ranges above the upper quartile."""

_BLOCKS = 300 * 2**20
"""Memory that a block of an archive takes as a table, and maps in sparse places, with their distances."""


class Settings(NamedTuple):
    """What a config says of clusters; None: what the number of points asks for."""

    space: Literal["latent", "umap"]
    dimensions: int
    min_cluster_size: int | None
    min_samples: int | None
    selection: Literal["eom", "leaf"]
    num_neighbours: int | None
    min_dist: float
    seed: int
    resamples: int
    same_kind: float
    """Distance of latents within which clusters are one."""


class Partition(NamedTuple):
    """Clusters of n points, k of them, and how far they can be trusted."""

    points: Points
    """(n, e) Coordinates in which they were looked for."""
    groups: density.Groups
    min_cluster_size: int
    min_samples: int
    stability: NDArray[np.float64]
    """(k,) Mean Jaccard index over the resamplings; NaN without any."""
    agreement: float
    """Mean adjusted Rand index of the resamplings with the whole; NaN without any."""


def partition(latents: Points, scans: NDArray[Any], settings: Settings, share: float = 1.0) -> Partition:
    """Clusters of latents, with the size of the smallest one that agrees best over resamplings of the scans.

    Parameters
    ----------
    latents : (n, d)
    scans : (n,)
        Scan of each.
    settings : Settings
    share : float
        Part of the archive that these are: sizes that are asked for are those of the archive.
    """
    asked = settings.min_cluster_size and max(2, round(share * settings.min_cluster_size))
    sizes, draws = density.sizes(len(latents), asked), []
    if settings.resamples and len(np.unique(scans)) > 1:
        draws = list(stability.draws(scans, settings.resamples, _MOST_RESAMPLED, settings.seed))
    else:
        sizes = [density.smallest(len(latents), asked)]
    points, whole = _clusters(latents, settings, sizes, 1.0)
    some = [
        stability.Resample(kept, _labels(latents[kept], settings, sizes, len(kept) / len(latents))) for kept in draws
    ]
    agreements = stability.agreement({size: groups.label for size, groups in whole.items()}, some)
    size = sizes[stability.choose(agreements)] if some else sizes[0]
    groups = whole[size]
    return Partition(
        points,
        groups,
        size,
        density.samples(size, settings.min_samples),
        stability.recurrence(groups.label, [(kept, labels[size]) for kept, labels in some]),
        float(agreements[sizes.index(size)].mean()) if some else float("nan"),
    )


def _labels(latents: Points, settings: Settings, sizes: list[int], share: float) -> dict[int, NDArray[np.int64]]:
    return {size: groups.label for size, groups in _clusters(latents, settings, sizes, share)[1].items()}


def _clusters(
    latents: Points, settings: Settings, sizes: list[int], share: float
) -> tuple[Points, dict[int, density.Groups]]:
    """Coordinates, and clusters for each size of the smallest one, given for all points, of which these are a share."""
    points = latents
    if settings.space == "umap":
        near = neighbours(len(latents), settings.num_neighbours)
        points = reduce(latents, settings.dimensions, near, 0.0, settings.seed)
    found = {}
    for size in sizes:
        own = max(min(size, density.FEWEST), round(share * size))
        groups = density.group(points, own, density.samples(own, settings.min_samples), settings.selection)
        found[size] = merge(groups, latents, settings.same_kind)
    return points, found


def clustered(latents: Points, settings: Settings, found: Partition) -> Clustered:
    """What a partition of latents (n, d) says of themselves, and of others."""
    near = neighbours(len(latents), settings.num_neighbours)
    picture = reduce(latents, 2, near, settings.min_dist, settings.seed)
    radius = ordinary_radius(latents, references(latents))
    return anchored(latents, found.points, picture, radius, found.groups, found.min_samples)


def anchored(
    latents: Points,
    points: Points,
    picture: NDArray[np.float64],
    radius: NDArray[np.float64],
    groups: density.Groups,
    min_samples: int,
) -> Clustered:
    """Groups of points (n, e) with what it takes to say which others belong to them."""
    min_samples = max(1, min(min_samples, len(latents) - 1))
    row, far = near_others(latents, min_samples)
    spacing = far[:, min_samples - 1] if far.shape[1] else np.zeros(len(latents))
    core, distance = spacing, far
    if points is not latents and far.shape[1]:
        core = np.asarray(cKDTree(points).query(points, [min_samples + 1])[0])[:, 0]
        distance = np.linalg.norm(points[:, None] - points[row], axis=2)
    mutual = np.maximum(np.maximum(core[:, None], core[row]), distance)
    following = next_clusters(groups.densest, groups.label[row], mutual, groups.label, groups.probability)
    belonging = Belonging(groups.label, groups.probability, *following)
    kept = (groups.reach, groups.densest, _edges(spacing, groups))
    return Clustered(latents, points, picture, belonging, radius, core, spacing, *kept, min_samples)


def within_edges(fit: Clustered) -> Clustered:
    """The same, without memberships of points that are far out, as points that come later have none."""
    own, belonging = fit.belonging.label, fit.belonging
    is_out = (own >= 0) & (fit.spacing > np.append(fit.edge, np.inf)[own])
    lost = belonging._replace(label=np.where(is_out, -1, own), probability=np.where(is_out, 0.0, belonging.probability))
    return fit._replace(belonging=lost)


def _edges(spacing: NDArray[np.float64], groups: density.Groups) -> NDArray[np.float64]:
    """Spacing that is far out for each cluster: 4.7 standard deviations above the median, Tukey's outer fence (1977),
    by the lower quartile, since what UMAP draws into a cluster from far away is in the upper one."""
    edges = np.zeros(len(groups.reach))
    for one in range(len(edges)):
        low, middle = np.quantile(spacing[groups.label == one], (0.25, 0.5))
        edges[one] = middle + _FAR_OUT * (middle - low)
    return edges


def peak_bytes(num_points: int, num_fitted: int, num_neighbours: int) -> int:
    """Peak memory of clusters of so many points, of which some are fitted, with their tables, beyond that of a process.

    UMAP takes some 200 MB where it is compiled first, since nothing is kept of that yet. Beside them it is 1.4 to 1.7
    times what 5,000 to 50,000 latents of 16 or 64 numbers took. All pairs are compared up to 4096 points. Points that
    are placed come in blocks, and take 170 bytes each beside these.
    """
    placed = _BLOCKS + 180 * (num_points - num_fitted) if num_points > num_fitted else 0
    return 2**28 + 8 * min(num_fitted, 4096) ** 2 + (5000 + 100 * num_neighbours) * num_fitted + placed
