"""Q-bins that are to be read with a reservation, or that gave no map, as the page lists them."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from ainerd_hpc.correlation.belief import BEYOND_SPECKLE
from ainerd_hpc.types import Scan

MOST = 1000
"""Q-bins of one kind that a page lists."""


def doubts(table: pd.DataFrame, scans: Iterable[Scan]) -> list[dict[str, str]]:
    """What is to be said of q-bins, a line each, the worst first.

    Parameters
    ----------
    table : DataFrame
        All maps: scan_id, q_bin and, where there is one beyond what speckle can give, how far.
    scans : iterable of Scan
        The scans of these maps.
    """
    return [*_listed(_beyond(table)), *_listed(_without_map(table, scans))]


def _listed(found: list[tuple[str, int, str]]) -> list[dict[str, str]]:
    lines = [{"scan_id": scan_id, "q_bin": str(q_bin), "reason": reason} for scan_id, q_bin, reason in found[:MOST]]
    if len(found) > MOST:
        lines.append({"scan_id": "", "q_bin": "", "reason": f"and {len(found) - MOST:,} more of this kind"})
    return lines


def _beyond(table: pd.DataFrame) -> list[tuple[str, int, str]]:
    if BEYOND_SPECKLE not in table:
        return []
    bins = table.loc[table[BEYOND_SPECKLE] > 1, ["scan_id", "q_bin", BEYOND_SPECKLE]].drop_duplicates()
    bins = bins.sort_values(BEYOND_SPECKLE, ascending=False, kind="stable")
    return [
        (str(scan_id), int(q_bin), f"its contrast is {times:.3g} times the largest that speckle can give")
        for scan_id, q_bin, times in bins.itertuples(index=False)
    ]


def _without_map(table: pd.DataFrame, scans: Iterable[Scan]) -> list[tuple[str, int, str]]:
    there = table[["scan_id", "q_bin"]].drop_duplicates()
    nums = there["scan_id"].value_counts()
    short = [scan for scan in scans if nums[scan.scan_id] < scan.num_q_bins]
    known = there[there["scan_id"].isin([scan.scan_id for scan in short])].groupby("scan_id")["q_bin"].agg(set)
    return [
        (scan.scan_id, q_bin, "no map: there is no correlation in any of its windows")
        for scan in short
        for q_bin in range(scan.num_q_bins)
        if q_bin not in known[scan.scan_id]
    ]
