"""How far clusters stay the same when other scans are measured: agreement over resamplings of the scans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.kernels.clustering.overlap import Labels, jaccard

SHARE = 0.8
"""Part of the scans that a resampling keeps."""


class Resample(NamedTuple):
    """Clusters of some of the points."""

    kept: NDArray[np.int64]
    """(k,) Which points these are."""
    labels: Mapping[int, Labels]
    """(k,) Their clusters, by the size of the smallest one among all points."""


def draws(scans: NDArray[Any], number: int, most: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Points of 80 % of the scans, at most `most` of them, `number` times.

    Maps of one scan share what happened in it: left out alone, they would come back by their neighbours.
    """
    names = np.unique(scans)
    for child in np.random.SeedSequence(seed).spawn(number):
        random = np.random.default_rng(child)
        some = random.permutation(names)[: max(1, int(SHARE * len(names)))]
        kept = np.flatnonzero(np.isin(scans, some))
        yield kept if len(kept) <= most else np.sort(random.choice(kept, most, replace=False))


def agreement(of_all: Mapping[int, Labels], resamples: Sequence[Resample]) -> NDArray[np.float64]:
    """Adjusted Rand index between the clusters of a resampling and those of all points, over the points of both.

    Parameters
    ----------
    of_all : dict of int to (n,)
        Clusters of all points, by the size of the smallest one.

    Returns
    -------
    (sizes, resamples)
        0 where all points have less than two clusters: nothing is told apart there, however well it repeats.
    """
    from sklearn.metrics import adjusted_rand_score

    found = np.zeros((len(of_all), len(resamples)))
    for row, (size, labels) in enumerate(of_all.items()):
        if labels.max(initial=-1) > 0:
            found[row] = [adjusted_rand_score(labels[kept], some[size]) for kept, some in resamples]
    return found


def choose(agreements: NDArray[np.float64]) -> int:
    """The first row, of (rows, resamples), whose mean is within one standard error of the best row's mean.

    The rule of Breiman et al. (Classification and Regression Trees, 1984) for a choice among models by resampling: of
    sizes that agree equally well, as far as can be told, the smallest tells most apart.
    """
    mean, number = agreements.mean(axis=1), agreements.shape[1]
    best = int(mean.argmax())
    error = agreements[best].std(ddof=1) / np.sqrt(number) if number > 1 else 0.0
    return int(np.flatnonzero(mean >= mean[best] - error)[0])


def recurrence(labels: Labels, resamples: Sequence[tuple[NDArray[np.int64], Labels]]) -> NDArray[np.float64]:
    """How well each cluster comes back (Hennig, Computational Statistics & Data Analysis 52, 258, 2007).

    Parameters
    ----------
    labels : (n,)
        Clusters of all points, from 0; -1 is noise.
    resamples : list of (k,), (k,)
        Some of the points, and their clusters among themselves.

    Returns
    -------
    (clusters,)
        The Jaccard index with the most alike cluster of a resampling, over its points; the mean of the resamplings that
        hold any of the cluster, NaN where none does. Below 0.5 a cluster has dissolved; above 0.75 it is stable.
    """
    number = int(labels.max(initial=-1)) + 1
    found = np.full((len(resamples), number), np.nan)
    for row, (kept, some) in enumerate(resamples):
        inside = labels[kept]
        held = np.unique(inside[inside >= 0])
        found[row, held] = jaccard(inside, some)[held].max(axis=1, initial=0.0)
    counts = np.isfinite(found).sum(axis=0)
    return np.asarray(np.divide(np.nansum(found, axis=0), counts, out=np.full(number, np.nan), where=counts > 0))
