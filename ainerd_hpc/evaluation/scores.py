"""Scores of an embedding of an archive of known truth: pure functions of latents and truth.

An embedding is good where its clusters are the kinds, its neighbours are of one kind, what is rare looks unusual, its
numbers tell tau and contrast, and where neither noise nor the choice of a window moves a map far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.linear_model import RidgeCV
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, r2_score, roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ainerd_hpc.config import ClusterConfig
from ainerd_hpc.evaluation.archives import WHOLE
from ainerd_hpc.kernels.clustering import siblings
from ainerd_hpc.kernels.clustering.fitting import partition
from ainerd_hpc.kernels.clustering.novelty import novelty as novelty_of
from ainerd_hpc.kernels.clustering.reduction import Points

Vector = NDArray[np.float64]
Labels = NDArray[Any]

_ROWS = 1000
"""Rows of the matrix of all distances that are in memory at once."""
_FALSE_ALARMS = 0.05
_LONGEST_TAU = 10.0
"""Windows above which tau cannot be told from a sample at rest."""
_STATIONARY = ("stretched", "simple", "compressed", "partly_static")
CLEAR = 30.0
"""Signal to noise above which a map is clear to the eye."""


class Neighbours(NamedTuple):
    """The nearest neighbour of each point, (n,)."""

    place: NDArray[np.int64]
    distance: Vector


# ---- clusters


def clustered(latents: Points, scans: Labels, seed: int = ClusterConfig().seed, same_kind: float = 0.0) -> Labels:
    """Labels (n,) that the cluster stage with its defaults gives to latents (n, d) of scans (n,)."""
    return partition(latents, scans, ClusterConfig(seed=seed).settings(same_kind)).groups.label


def leaning(latents: Points, scans: Labels, signal_to_noise: Vector) -> Points:
    """Latents (n, d) as the cluster stage sees them, where all maps of a scan are of one moment."""
    moments, seed = np.unique(scans, return_inverse=True)[1], ClusterConfig().seed
    return siblings.lean(
        latents, moments, signal_to_noise, siblings.find_parity(latents, moments, signal_to_noise, seed)
    )


def agreement(labels: Labels, kinds: Labels) -> dict[str, float]:
    """How far labels (n,), of which -1 is noise and counts as a cluster of its own, are the kinds (n,)."""
    found = len(set(labels.tolist()) - {-1})
    return {
        "ari": float(adjusted_rand_score(kinds, labels)),
        "ami": float(adjusted_mutual_info_score(kinds, labels)),
        "noise_share": float(np.mean(labels == -1)),
        "clusters_per_kind": found / len(set(kinds.tolist())),
    }


def subsample_stability(
    latents: Points, scans: Labels, labels: Labels, seed: int, same_kind: float = 0.0
) -> dict[str, float]:
    """How far clusters stay the same, as ARI over the maps in question, when scans are left out.

    Parameters
    ----------
    latents : (n, d)
    scans : (n,)
        Scan of each map.
    labels : (n,)
        Clusters of all maps.
    seed : int
        Of the two halves of the scans from which one fifth each is left out.
    same_kind : float
        Distance of latents within which clusters are one.

    Returns
    -------
    dict
        subsample_ari: between two samples of 80 % of the scans, over the maps of both. growth_ari: between one of them
        and all maps, as when an archive has grown by a fourth, over the maps of the sample.
    """
    names = np.random.default_rng(seed).permutation(np.unique(scans))
    fifth = max(1, len(names) // 5)
    first, second = (~np.isin(scans, left_out) for left_out in (names[:fifth], names[-fifth:]))
    of_first, of_second = (np.full(len(latents), -1), np.full(len(latents), -1))
    of_first[first], of_second[second] = (
        clustered(latents[some], scans[some], same_kind=same_kind) for some in (first, second)
    )
    both = first & second
    return {
        "subsample_ari": float(adjusted_rand_score(of_first[both], of_second[both])),
        "growth_ari": float(adjusted_rand_score(of_first[first], labels[first])),
    }


# ---- neighbours


def nearest_neighbours(latents: Points, apart: Labels) -> Neighbours:
    """The nearest neighbour (Euclidean) of each point (n, d) among those with another value of `apart`, (n,)."""
    place, distance = np.empty(len(latents), dtype=np.int64), np.empty(len(latents))
    points = np.asarray(latents, dtype=np.float64)
    for start in range(0, len(points), _ROWS):
        part = slice(start, start + _ROWS)
        far = cdist(points[part], points)
        far[apart[part, None] == apart] = np.inf
        place[part] = far.argmin(axis=1)
        distance[part] = far.min(axis=1)
    return Neighbours(place, distance)


def purity(neighbours: Neighbours, kinds: Labels) -> float:
    """Share of the points whose nearest neighbour is of the same kind."""
    return float(np.mean(kinds[neighbours.place] == kinds))


def retrieval(latents: Points, groups: Labels) -> float:
    """Share of the points whose nearest other point is of the same group, (n,); groups of one are not asked."""
    sizes = pd.Series(groups).map(pd.Series(groups).value_counts()).to_numpy()
    nearest = nearest_neighbours(latents, np.arange(len(latents))).place
    return float(np.mean((groups[nearest] == groups)[sizes > 1]))


def rare_recall(novelty: Vector, is_rare: NDArray[np.bool_]) -> dict[str, float]:
    """How well a novelty (n,) tells the rare maps from the common ones.

    Returns
    -------
    dict
        rare_recall: share of the rare maps above the novelty that 5 % of the common ones exceed; rare_auc: the area
        under the receiver's operating characteristic, 0.5 for chance. NaN where all maps are of one sort.
    """
    if not 0 < is_rare.sum() < len(is_rare):
        return {"rare_recall": float("nan"), "rare_auc": float("nan")}
    threshold = np.quantile(novelty[~is_rare], 1 - _FALSE_ALARMS, method="higher")
    recall = float(np.mean(novelty[is_rare] > threshold))
    return {"rare_recall": recall, "rare_auc": float(roc_auc_score(is_rare, novelty))}


# ---- numbers


def targets(truth: pd.DataFrame) -> pd.DataFrame:
    """What numbers should tell, a column each, NaN where a map has no such number or nothing could tell it.

    Times are logarithms of times in windows, since no map knows its frame time: log_half_decay, which means the same in
    every kind; log_tau, the parameter of the kind; log_tau_stationary, of those with one decay that stays as it is.
    """
    windows = truth["tau"] / (truth["frames"] * truth["frame_time"])
    log_tau = np.log(windows).where(windows <= _LONGEST_TAU)
    return pd.DataFrame(
        {
            "log_half_decay": np.log(truth["half_decay"] / (truth["frames"] * truth["frame_time"])),
            "log_tau": log_tau,
            "log_tau_stationary": log_tau.where(truth["kind"].isin(_STATIONARY)),
            "log_contrast": np.log(truth["contrast"]),
            "kww_exponent": truth["kww_exponent"].where((windows <= 1) & truth["kind"].isin(_STATIONARY)),
            "ageing_rate": truth["ageing_rate"].where(windows <= 1),
        }
    )


def linear_r2(features: NDArray[Any], wanted: pd.DataFrame, scans: Labels) -> dict[str, float]:
    """Share of the variance of each column that ridge regression on features (n, d) tells, of scans it was not told.

    Five parts of whole scans, each predicted from the others; the penalty is chosen within these. Below 0 where a mean
    does better; NaN where fewer than five scans have the number.
    """
    found = {}
    for name, values in wanted.items():
        known = np.isfinite(values.to_numpy())
        found[f"r2_{name}"] = float("nan")
        if len(np.unique(scans[known])) >= 5:
            ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13)))
            x, y = features[known], values.to_numpy()[known]
            predicted = cross_val_predict(ridge, x, y, cv=GroupKFold(5), groups=scans[known])
            found[f"r2_{name}"] = float(r2_score(y, predicted))
    return found


def as_features(numbers: pd.DataFrame) -> NDArray[np.float64]:
    """Numbers (n, k) and which of them are missing, (n, 2 k); a missing one counts as the median."""
    filled = numbers.fillna(numbers.median()).fillna(0.0)
    return np.hstack([filled.to_numpy(dtype=np.float64), numbers.isna().to_numpy(dtype=np.float64)])


# ---- movement


def movements(latents: Points, truth: pd.DataFrame) -> dict[str, float]:
    """How far each view moves a map, in median distances of nearest neighbours in other scans; medians over the views.

    A view is compared with its map, except for `age`, whose two windows are compared with each other. `noise` is what
    no embedding can avoid; `q_bin` is from each q-bin of a scan to the next.
    """
    points, maps = np.asarray(latents, dtype=np.float64), np.flatnonzero(truth["view"] == WHOLE)
    unit = np.median(nearest_neighbours(points[maps], truth["scan"].to_numpy()[maps]).distance)
    pairs = {"q_bin": _next_q_bins(truth, maps)}
    for view in truth["view"].unique().tolist():
        if view != WHOLE:
            pairs[view] = _pairs(truth, view)
    moved = {view: np.linalg.norm(points[first] - points[second], axis=1) for view, (first, second) in pairs.items()}
    return {f"moves_{view}": float(np.median(far) / unit) for view, far in moved.items() if len(far)}


def _pairs(truth: pd.DataFrame, view: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the views of one kind, and of what each is compared with."""
    places = np.flatnonzero(truth["view"] == view)
    maps = truth["map"].to_numpy()[places]
    if len(np.unique(maps)) == len(maps):
        return places, maps
    return places[::2], places[1::2]


def _next_q_bins(truth: pd.DataFrame, maps: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    scans = truth["scan"].to_numpy()[maps]
    follows = scans[1:] == scans[:-1]
    return maps[:-1][follows], maps[1:][follows]


# ---- all of them


def score(
    latents: Points,
    truth: pd.DataFrame,
    *,
    numbers: pd.DataFrame | None = None,
    novelty: Vector | None = None,
    signal_to_noise: Vector | None = None,
    same_kind: float = 0.0,
    seed: int = 0,
) -> tuple[dict[str, float], Labels]:
    """All scores of one embedding of an archive, and the labels of its maps.

    Parameters
    ----------
    latents : (n, d)
        Of maps and views.
    truth : DataFrame, n rows
        Of `archives.KnownArchive`.
    numbers : DataFrame, n rows, optional
        What the embedding says beside the latents; NaN where it says nothing.
    novelty : (n,), optional
        Default: that of the cluster stage.
    signal_to_noise : (n,), optional
        Of each map, as the maps stage tells it; without it no map leans on its siblings.
    same_kind : float
        Distance of latents within which clusters are one.
    seed : int
        Of what is left out for the stability.

    Returns
    -------
    dict, labels (maps,)
    """
    is_map = (truth["view"] == WHOLE).to_numpy()
    points, maps = np.asarray(latents)[is_map], truth[is_map]
    scans, kinds = maps["scan"].to_numpy(), maps["kind"].to_numpy(dtype=str)
    seen = points if signal_to_noise is None else leaning(points, scans, signal_to_noise[is_map])
    labels = clustered(seen, scans, same_kind=same_kind)
    unusual = novelty_of(seen) if novelty is None else novelty[is_map]
    wanted = targets(maps)
    found = agreement(labels, kinds)
    is_clear = maps["signal_to_noise"].to_numpy() >= CLEAR
    found["clear_ari"] = float(adjusted_rand_score(kinds[is_clear], labels[is_clear]))
    found["purity"] = purity(nearest_neighbours(points, scans), kinds)
    found["leaning_purity"] = purity(nearest_neighbours(seen, scans), kinds)
    found |= rare_recall(unusual, maps["is_rare"].to_numpy())
    found |= linear_r2(points, wanted, scans)
    if numbers is not None:
        told = linear_r2(as_features(numbers[is_map]), wanted, scans)
        found |= {f"numbers_{name}": value for name, value in told.items()}
    found |= movements(latents, truth)
    found |= subsample_stability(seen, scans, labels, seed, same_kind)
    return found, labels


def stability(labels: Sequence[Labels]) -> float:
    """Mean ARI between the labels (n,) of the same maps in several trainings, or with several seeds; NaN for one."""
    pairs = [(one, two) for number, one in enumerate(labels) for two in labels[:number]]
    return float(np.mean([adjusted_rand_score(one, two) for one, two in pairs])) if pairs else float("nan")
