"""The table of clusters: a row each, with its size, its trust, the maps that stand for it, and its physics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ainerd_hpc.kernels.clustering.exemplars import exemplars, medoid

_PHYSICS = ("half_decay", "expected_half_decay", "tau", "contrast", "kww_exponent", "ageing", "novelty")
_QUARTILES = {"low": 0.25, "median": 0.5, "high": 0.75}
_MOST_EXEMPLARS = 6


def summarise(
    maps: pd.DataFrame, latents: NDArray[Any], trust: pd.DataFrame, sizes: pd.DataFrame, kinds: dict[int, str]
) -> pd.DataFrame:
    """The table of clusters, without noise.

    Parameters
    ----------
    maps : DataFrame
        Maps that speak for the clusters: map_id, scan_id, label, probability and numbers of their physics.
    latents : (n, d)
        Theirs.
    trust : DataFrame
        stability, persistence and separation, by label.
    sizes : DataFrame
        maps and scans of the whole archive, by label.
    kinds : dict of int to str
        The kind of each in words.

    Returns
    -------
    DataFrame
        label, maps, scans, what `trust` has, medoid, exemplars, kind, and the quartiles NAME_low, NAME_median and
        NAME_high of half_decay, expected_half_decay, tau, contrast, kww_exponent, ageing and novelty.
    """
    rows = []
    labels = maps["label"].to_numpy()
    for label in sorted(set(labels.tolist()) - {-1}):
        members = np.flatnonzero(labels == label)
        own = maps.iloc[members]
        rows.append({"label": label, **_stand_for(own, latents[members]), **_physics(own)})
    columns = ["label", "maps", "scans", *trust, "medoid", "exemplars", "kind"]
    columns += [f"{name}_{part}" for name in _PHYSICS for part in _QUARTILES]
    table = pd.DataFrame(rows, columns=[name for name in columns if name not in ("maps", "scans", "kind", *trust)])
    table = table.astype({"label": np.int64}).join(sizes, on="label").join(trust, on="label")
    return table.assign(kind=table["label"].map(kinds).astype("string"))[columns]


def _stand_for(members: pd.DataFrame, latents: NDArray[Any]) -> dict[str, Any]:
    ids = members["map_id"].to_numpy()
    typical = exemplars(members["probability"].to_numpy(), members["scan_id"].to_numpy(), _MOST_EXEMPLARS)
    return {"medoid": ids[medoid(latents)], "exemplars": ids[typical].tolist()}


def _physics(members: pd.DataFrame) -> dict[str, float]:
    known = [name for name in _PHYSICS if name in members]
    return {
        f"{name}_{part}": float(value)
        for name in known
        for part, value in zip(_QUARTILES, members[name].quantile(list(_QUARTILES.values())), strict=True)
    }
