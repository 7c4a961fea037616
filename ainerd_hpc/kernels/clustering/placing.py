"""Maps that were not clustered, put where they belong: coordinates and labels by the nearest that were."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.kernels.clustering.novelty import against, quick_radius, references
from ainerd_hpc.kernels.clustering.reduction import Points, distinct

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

_NEAREST = 16
"""Clustered points that speak for a new one."""
_LINKS, _SEARCHED = 16, 40
"""Parameters of HNSW (Malkov & Yashunin, arXiv 1603.09320): links of a point, and points that a search keeps."""
_DENSE_SHARE = 0.9
_ROWS = 2048
"""Points that are placed at a time."""


class Belonging(NamedTuple):
    """What n points belong to, (n,) each."""

    label: Rows
    """Cluster from 0; -1 is noise."""
    probability: Floats
    """Strength of the membership, 0..1; 0 for noise."""
    next_label: Rows
    """The nearest other cluster, where one of the 16 nearest maps is of it; else -1."""
    next_probability: Floats
    """Strength that the membership of it would have, at most that of its own; 0 without one."""


class Clustered(NamedTuple):
    """Points that were clustered together, and what they say of others: m points, k clusters."""

    latents: Points
    """(m, d)"""
    points: Points
    """(m, e) Coordinates in which density was looked for: those of UMAP, or the latents themselves."""
    picture: Floats
    """(m, 2)"""
    belonging: Belonging
    radius: Floats
    """(m,) Distance among latents within which one of twenty lies; novelty is that, against its median."""
    core: Floats
    """(m,) Distance among `points` within which there are `min_samples` others."""
    spacing: Floats
    """(m,) The same among `latents`."""
    reach: Floats
    """(k,) Distance among `points` at which a cluster parts from the rest."""
    densest: Floats
    """(k,) That distance where it is densest."""
    edge: Floats
    """(k,) Spacing beyond which a latent is none of the cluster's."""
    min_samples: int


class Placed(NamedTuple):
    """What is said of n points."""

    picture: Floats
    """(n, 2)"""
    belonging: Belonging
    spacing: Floats
    """(n,) Distance among latents within which there are `min_samples` clustered ones."""


class Neighbourhood:
    """Search for the nearest of some latents (m, d): what is found depends on them and on the one asked for alone."""

    def __init__(self, latents: Points, min_samples: int) -> None:
        import faiss

        self._first, _ = distinct(latents)  # a graph of links does not lead past many that are equal
        self._nearest = min(max(_NEAREST, min_samples + 1), len(self._first))
        faiss.omp_set_num_threads(1)  # links depend on which thread comes first
        self._index = faiss.IndexHNSWFlat(latents.shape[1], _LINKS)
        self._index.hnsw.efSearch = max(_SEARCHED, 2 * self._nearest)
        self._index.add(np.ascontiguousarray(latents[self._first], dtype=np.float32))

    def near(self, latents: Points) -> tuple[Rows, Floats]:
        """Rows of the nearest, and their distances, nearest first, (n, c) each."""
        squared, row = self._index.search(np.ascontiguousarray(latents, dtype=np.float32), self._nearest)
        return self._first[row], np.sqrt(squared.astype(np.float64))


def near_others(latents: Points, min_samples: int) -> tuple[Rows, Floats]:
    """Rows of the nearest others of each latent (m, d), and their distances, nearest first, (m, c) each; exact."""
    from faiss import knn

    nearest = min(max(_NEAREST, min_samples + 1), len(latents))
    if nearest < 2:
        return np.zeros((len(latents), 0), dtype=np.int64), np.zeros((len(latents), 0))
    points = np.ascontiguousarray(latents, dtype=np.float32)
    squared, row = knn(points, points, nearest)
    is_self = row == np.arange(len(row))[:, None]
    is_self[~is_self.any(axis=1), -1] = True  # equal to more others than are found
    shape = len(row), nearest - 1
    return row[~is_self].reshape(shape), np.sqrt(squared[~is_self].reshape(shape).astype(np.float64))


class Placing:
    """Puts latents among those that were clustered.

    A latent has the coordinates of its nearest clustered ones, weighted by 1 / distance^2: of those alone that are of
    the cluster with most of the weight, for between two islands of a UMAP there is nothing. It belongs to the cluster
    whose member is nearest by mutual reachability, max(core of the member, its own core, distance), if that is within
    the reach of the cluster, as in HDBSCAN (McInnes & Healy, ICDMW 2017), and if its latent is as near to others as
    those of the cluster are; else it is noise. A latent that was clustered is what it was. What is said of a latent
    does not depend on the others that it comes with.
    """

    def __init__(self, fit: Clustered) -> None:
        self.fit = fit
        self._neighbourhood = Neighbourhood(fit.latents, fit.min_samples)
        self._references = references(fit.latents)
        self._median = float(np.median(fit.radius))

    def place(self, latents: Points) -> Placed:
        """Place of each of these, (n, d), and what it belongs to."""
        parts = [self._place(latents[start : start + _ROWS]) for start in range(0, len(latents) or 1, _ROWS)]
        pictures, belonging, spacing = zip(*parts, strict=True)
        together = Belonging(*map(np.concatenate, zip(*belonging, strict=True)))
        return Placed(np.concatenate(pictures), together, np.concatenate(spacing))

    def novelty(self, latents: Points) -> Floats:
        """How unlike the clustered ones each of these is, 0..1, (n,)."""
        return against(quick_radius(latents, self._references), self._median)

    def _place(self, latents: Points) -> Placed:
        fit = self.fit
        row, far = self._neighbourhood.near(latents)
        labels = fit.belonging.label[row]
        weight = _weights(far, labels)
        points = latents if fit.points is fit.latents else np.einsum("bc,bce->be", weight, fit.points[row])
        distance = np.linalg.norm(points[:, None] - fit.points[row], axis=2)
        last = min(fit.min_samples, row.shape[1]) - 1
        mutual = np.maximum(np.maximum(fit.core[row], np.sort(distance, axis=1)[:, [last]]), distance)
        belonging = _nearest_clusters(fit, labels, mutual, far[:, last])
        known = far[:, 0] == 0
        for values, of_known in zip(belonging, fit.belonging, strict=True):
            values[known] = of_known[row[known, 0]]
        return Placed(np.einsum("bc,bce->be", weight, fit.picture[row]), belonging, far[:, last])


def is_sparse(fit: Clustered, label: Rows, spacing: Floats) -> NDArray[np.bool_]:
    """Where there is no cluster, or less around than around nine of ten clustered ones, (n,)."""
    return (label < 0) | (spacing > np.quantile(fit.spacing, _DENSE_SHARE))


def _weights(distance: Floats, labels: Rows) -> Floats:
    """Shares of neighbours (b, c) in a point: by 1 / distance^2, of the cluster alone that has most of it."""
    weight = (
        np.maximum(distance[:, :1], np.finfo(np.float64).tiny) / np.maximum(distance, np.finfo(np.float64).tiny)
    ) ** 2
    weight[(distance[:, 0] == 0), 1:] = 0  # a latent that was clustered is where it was
    same = labels[:, :, None] == labels[:, None]
    votes = np.einsum("bcd,bd->bc", same, weight)
    weight = np.where(same[np.arange(len(labels)), votes.argmax(axis=1)], weight, 0.0)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def _nearest_clusters(fit: Clustered, labels: Rows, mutual: Floats, spacing: Floats) -> Belonging:
    """What points belong to whose neighbours (b, c) have these labels, at these distances by mutual reachability."""
    if not len(fit.reach):
        nothing = np.zeros(len(labels))
        return Belonging(nothing.astype(np.int64) - 1, nothing, nothing.astype(np.int64) - 1, nothing.copy())
    is_within = (labels >= 0) & (mutual <= fit.reach[labels]) & (spacing[:, None] <= fit.edge[labels])
    label, at = _nearest(labels, mutual, is_within)
    probability = strength(fit.densest, label, at)
    return Belonging(label, probability, *next_clusters(fit.densest, labels, mutual, label, probability))


def next_clusters(
    densest: Floats, labels: Rows, mutual: Floats, label: Rows, probability: Floats
) -> tuple[Rows, Floats]:
    """The nearest cluster but their own, and the strength of points in it, (b,) each.

    Parameters
    ----------
    densest : (k,)
    labels, mutual : (b, c)
        Of neighbours.
    label, probability : (b,)
        Of the points.
    """
    found, at = _nearest(labels, mutual, (labels >= 0) & (labels != label[:, None]))
    return found, np.minimum(strength(densest, found, at), np.where(label >= 0, probability, 1.0))


def _nearest(labels: Rows, mutual: Floats, allowed: NDArray[np.bool_]) -> tuple[Rows, Floats]:
    """Label and distance of the nearest neighbour (b, c) that is allowed; -1 without one."""
    if not labels.shape[1]:
        return np.full(len(labels), -1), np.full(len(labels), np.inf)
    far = np.where(allowed, mutual, np.inf)
    best = far.argmin(axis=1)[:, None]
    at = np.take_along_axis(far, best, axis=1)[:, 0]
    return np.where(np.isfinite(at), np.take_along_axis(labels, best, axis=1)[:, 0], -1), at


def strength(densest: Floats, label: Rows, at: Floats) -> Floats:
    """Strength of memberships at a distance by mutual reachability, 0..1: lambda over the largest of the cluster."""
    if not len(densest):
        return np.zeros(len(label))
    among = np.where(label >= 0, densest[label], 0.0)
    ratio = np.divide(among, at, out=np.ones(len(at)), where=at > 0)
    return np.where(label >= 0, np.minimum(ratio, 1.0), 0.0)


def renumbered(fit: Clustered, number: Rows) -> Clustered:
    """The same with other numbers of its clusters, by their own, (k,); numbers that no cluster has reach nowhere."""
    name = np.append(number, -1)
    belonging = fit.belonging._replace(label=name[fit.belonging.label], next_label=name[fit.belonging.next_label])

    def at_their_numbers(values: Floats) -> Floats:
        kept = np.zeros(number.max(initial=-1) + 1)
        kept[number[: len(values)]] = values
        return kept

    of_clusters = {name: at_their_numbers(getattr(fit, name)) for name in ("reach", "densest", "edge")}
    return Clustered(**{**fit._asdict(), "belonging": belonging, **of_clusters})
