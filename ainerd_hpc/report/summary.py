"""The physics of each cluster, over all maps of the archive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ainerd_hpc.report.columns import numbers

_SUMMARISED = ("tau", "kww_exponent", "contrast", "novelty", "probability", "stability")
_TOLD = ("separation", "stability")
"""What the table of clusters says of them beside the maps."""


def summarise(
    table: pd.DataFrame, sample_columns: Sequence[str] = (), clusters: pd.DataFrame | None = None
) -> list[dict[str, Any]]:
    """The physics of each cluster, noise (label -1) last.

    Parameters
    ----------
    table : DataFrame
        A row a map.
    sample_columns : sequence of str
    clusters : DataFrame, optional
        A row a cluster: label, and any of separation (in words) and stability.

    Returns
    -------
    list of dict
        label, maps, scans; q: [least, greatest]; kind: what its maps have in common, in words, where the table tells;
        for tau, kww_exponent, contrast, novelty, probability, stability and the sample columns, where the table has
        them: [lower quartile, median, upper quartile]; and what `clusters` tells. None: all is NaN.
    """
    names = [name for name in (*_SUMMARISED, *sample_columns) if name in table]
    labels = sorted(table["label"].unique(), key=lambda label: (label < 0, label))
    needed = [name for name in ("label", "scan_id", "q", "kind", *names) if name in table]
    maps, told = table[needed].groupby("label"), _told(clusters)
    return [_summary(int(label), maps.get_group(label), names) | told.get(int(label), {}) for label in labels]


def _summary(label: int, maps: pd.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    spread = {name: _quantiles(numbers(maps[name]), (0.25, 0.5, 0.75)) for name in names}
    q = _quantiles(numbers(maps["q"]), (0.0, 1.0)) if "q" in maps else None
    kind = {"kind": str(maps["kind"].iloc[0])} if label >= 0 and "kind" in maps else {}
    return {"label": label, "maps": len(maps), "scans": int(maps["scan_id"].nunique()), "q": q, **spread, **kind}


def _quantiles(values: np.ndarray, shares: Sequence[float]) -> list[float] | None:
    """Quantiles of the finite values; None where fewer than half are, so that a few do not speak for all."""
    finite = values[np.isfinite(values)]
    return [float(value) for value in np.quantile(finite, shares)] if 2 * finite.size >= max(1, values.size) else None


def _told(clusters: pd.DataFrame | None) -> dict[int, dict[str, Any]]:
    """What is known of each cluster as a whole, by label."""
    if clusters is None:
        return {}
    names = [name for name in _TOLD if name in clusters]
    return {
        int(row["label"]): {
            name: str(row[name]) if name == "separation" else [float(row[name])] * 3
            for name in names
            if pd.notna(row[name])
        }
        for _, row in clusters.iterrows()
    }
