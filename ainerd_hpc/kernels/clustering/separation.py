"""Whether a cluster is a class of its own or a slice of a continuum: a test of density, in the latents themselves.

UMAP draws gaps where the latents have none, and HDBSCAN calls what lies in a thin place noise. So noise counts here,
with the cluster that it lies nearest to, and coordinates are those before UMAP.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from ainerd_hpc.kernels.clustering.reduction import Points

CLASS, SLICE, UNKNOWN = "class", "slice of a continuum", "too few scans to tell"
_NEAREST = 3
"""Other clusters that a class has to be apart from, the nearest ones."""
_ALPHA = 0.05
_FEWEST_SCANS = 5
"""Scans in each of two clusters with which a gap without any scan is significant: 0.5^5 < 0.05."""


def separation(latents: Points, label: NDArray[np.integer[Any]], scans: NDArray[Any]) -> list[str]:
    """What each cluster is, in words.

    Between two clusters that are slices of one hump, no place is thinner than both. Along the line between their
    centres, scans are counted around the middle of each, and around the place between them as many standard deviations
    from one as from the other, in ranges of one length. A class has significantly fewer there (binomial, 5 %) than in
    either middle, for each of the three nearest clusters. A scan counts as one, a part in each place where a part of
    its maps is, on a line that was drawn without it: neither maps that belong together nor the line make a gap.

    Parameters
    ----------
    latents : (n, d)
    label : (n,)
        Clusters from 0; -1 is noise.
    scans : (n,)
        Scan of each point.

    Returns
    -------
    list of str
        "class", "slice of a continuum" or "too few scans to tell"; a cluster that is the only one is a class.
    """
    number = int(label.max(initial=-1)) + 1
    if number < 2:
        return [CLASS] * number
    points, codes = np.asarray(latents, dtype=np.float64), np.unique(scans, return_inverse=True)[1]
    centres = np.stack([points[label == one].mean(axis=0) for one in range(number)])
    nearest = np.argsort(cdist(centres, centres), axis=1, kind="stable")[:, 1 : 1 + _NEAREST]
    claimed = _with_noise(points, label)
    tests: dict[tuple[int, int], str] = {}
    for one, others in enumerate(nearest.tolist()):
        for pair in {(min(one, other), max(one, other)) for other in others} - set(tests):
            tests[pair] = _pair(points, claimed, codes, *pair)
    found = [{tests[min(one, other), max(one, other)] for other in nearest[one].tolist()} for one in range(number)]
    return [next((word for word in (SLICE, UNKNOWN) if word in words), CLASS) for words in found]


def _with_noise(points: NDArray[np.float64], label: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Labels in which noise belongs to the cluster of the nearest point that has one."""
    from faiss import knn

    claimed, is_noise = label.astype(np.int64), label < 0
    if is_noise.any():
        members = points[~is_noise].astype(np.float32)
        _, place = knn(points[is_noise].astype(np.float32), members, 1)
        claimed[is_noise] = claimed[~is_noise][place[:, 0]]
    return claimed


def _pair(
    points: NDArray[np.float64], claimed: NDArray[np.int64], codes: NDArray[np.int64], first: int, second: int
) -> str:
    """What the gap between two clusters says."""
    from scipy.stats import binom

    inside = [claimed == one for one in (first, second)]
    along = [_along(points, codes, is_in, *inside) for is_in in inside]
    scans = [codes[is_in] for is_in in inside]
    if min(len(np.unique(codes)) for codes in scans) < _FEWEST_SCANS:
        return UNKNOWN
    middles = [float(np.median(places)) for places in along]
    spreads = [float(np.median(np.abs(places - middle))) for places, middle in zip(along, middles, strict=True)]
    share = spreads[0] / sum(spreads) if sum(spreads) else 0.5
    between = middles[0] + share * (middles[1] - middles[0])
    half = min(share, 1 - share) * abs(middles[1] - middles[0]) / 2
    places, of_pair = np.concatenate(along), np.concatenate(scans)
    weight = 1 / np.bincount(of_pair)[of_pair]
    counts = [round(float(weight[np.abs(places - at) <= half].sum())) for at in (*middles, between)]
    fewer = min(counts[:2])
    if fewer < _FEWEST_SCANS:
        return UNKNOWN
    return CLASS if binom.cdf(counts[2], counts[2] + fewer, 0.5) <= _ALPHA else SLICE


def _along(
    points: NDArray[np.float64],
    codes: NDArray[np.int64],
    chosen: NDArray[np.bool_],
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Places of chosen points on the line from the centre of `first`, 0, to that of `second`, 1, without their scan."""
    starts, ends = (_centres_without(points, codes, is_in)[codes[chosen]] for is_in in (first, second))
    line = ends - starts
    length = np.maximum((line**2).sum(axis=1), np.finfo(np.float64).tiny)
    return np.asarray(((points[chosen] - starts) * line).sum(axis=1) / length)


def _centres_without(
    points: NDArray[np.float64], codes: NDArray[np.int64], is_in: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Centre of the points that are in, without those of each scan, (scans, d); with them where there are no others."""
    counts = np.bincount(codes[is_in], minlength=codes.max() + 1)
    sums = np.zeros((len(counts), points.shape[1]))
    np.add.at(sums, codes[is_in], points[is_in])
    left = counts.sum() - counts
    total = sums.sum(axis=0)
    without = (total - sums) / np.maximum(left, 1)[:, None]
    return np.asarray(np.where(left[:, None] > 0, without, total / counts.sum()))
