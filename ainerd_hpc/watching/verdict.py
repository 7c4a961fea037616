"""Whether a scan is of a known kind: from what is said of each of its maps, by rules that the archive sets."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_MOST = 0.5
"""Share of the maps of a scan that speaks for it."""
_RARE = 0.01
"""Share of the archive's maps that the largest rare kind has."""
_USUAL = 0.99
"""Share of the archive's scans whose labels change as often as is usual, or less."""


class Kind(StrEnum):
    """What a scan is to an archive."""

    NEW = "new"
    """Most of its maps are in no cluster, and more novel than 95 % of the archive."""
    RARE = "rare"
    """Most of its maps that are in a cluster are in one that has less than one map in a hundred."""
    CHANGE = "change"
    """Labels change from window to window more often than in 99 % of the archive's scans."""
    KNOWN = "known"


class Rules(NamedTuple):
    """What is usual in an archive."""

    novel: float
    """Novelty that 95 % of the clustered maps do not exceed."""
    rare: frozenset[int]
    """Labels of rare kinds."""
    change: float
    """Share of neighbouring windows with two labels that 99 % of the scans do not exceed."""


class Verdict(NamedTuple):
    """What is said of a scan."""

    kind: Kind
    label: int
    """The cluster that most of its maps in any are in; -1 where none is."""
    share: float
    """Share of its maps that speak for the kind: that are new, or of the cluster."""
    novelty: float
    """Median over its maps; NaN where none has a place."""
    change: float
    """Share of neighbouring windows with two labels."""


def rules(table: pd.DataFrame, novel: float) -> Rules:
    """What is usual in an archive.

    Parameters
    ----------
    table : DataFrame
        Its maps: scan_id, q_bin, age_start, age_stop, label.
    novel : float
        As in `Rules`.
    """
    sizes = table.loc[table["label"] >= 0, "label"].value_counts()
    small = sizes.index[sizes < _RARE * len(table)]
    changes = change_shares(table)
    usual = float(np.quantile(changes, _USUAL)) if len(changes) else 0.0
    return Rules(novel, frozenset(small.tolist()), usual)


def change_shares(table: pd.DataFrame) -> NDArray[np.float64]:
    """Share of pairs of neighbouring windows of a q-bin, of one length, with two labels: a value for each scan, in the
    order of their names; 0 without such pairs."""
    length = (table["age_stop"] - table["age_start"]).rename("length")
    ordered = table.assign(length=length).sort_values(["scan_id", "q_bin", "length", "age_start"])
    same = (ordered[["scan_id", "q_bin", "length"]] == ordered[["scan_id", "q_bin", "length"]].shift()).all(axis=1)
    changed = same & (ordered["label"] != ordered["label"].shift())
    sums = pd.DataFrame({"pairs": same, "changed": changed}).groupby(ordered["scan_id"]).sum()
    return np.asarray(sums["changed"] / sums["pairs"].clip(lower=1), dtype=np.float64)


def verdict(maps: pd.DataFrame, usual: Rules) -> Verdict:
    """What a scan is to an archive.

    Parameters
    ----------
    maps : DataFrame
        Of one scan: scan_id, q_bin, age_start, age_stop, label, novelty (NaN: without a place).
    usual : Rules
    """
    placed = maps[np.isfinite(maps["novelty"])]
    if placed.empty:
        return Verdict(Kind.NEW, -1, 1.0, float("nan"), 0.0)
    is_new = (placed["label"] < 0) & (placed["novelty"] > usual.novel)
    inside = placed.loc[placed["label"] >= 0, "label"]
    label = int(inside.mode().iloc[0]) if len(inside) else -1
    share, change = float((placed["label"] == label).mean()), float(change_shares(placed)[0])
    kind = Kind.KNOWN
    if is_new.mean() >= _MOST:
        kind, label, share = Kind.NEW, -1, float(is_new.mean())
    elif label in usual.rare:
        kind = Kind.RARE
    elif change > usual.change:
        kind = Kind.CHANGE
    return Verdict(kind, label, share, float(placed["novelty"].median()), change)
