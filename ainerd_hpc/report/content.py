"""What the page shows: numbers, pictures and words, as plain arrays and tables."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

REQUIRED = ("map_id", "scan_id", "x", "y", "label")
"""Columns without which there is no page."""


@dataclass(frozen=True)
class Curve:
    """One g2 curve.

    Parameters
    ----------
    delay : (lag,) float, s
    g2, g2_err : (lag,) float
        Correlation and its standard error; NaN where unknown.
    fit : (lag,) float or None
        The fitted model at the same delays.
    """

    delay: np.ndarray
    g2: np.ndarray
    g2_err: np.ndarray
    fit: np.ndarray | None = None


@dataclass(frozen=True)
class Detail:
    """One map, as it is shown when it is pinned.

    Parameters
    ----------
    map_id : str
    picture : (m, m) uint8
        [time t2, time t1], both rising from index 0.
    curve : Curve or None
    cells : (lag, age) uint8 or None
        What the network reads, where that is not the picture; both rising from index 0.
    reconstruction : uint8 array or None
        What the network makes of it: cells where there are some, else a picture.
    """

    map_id: str
    picture: np.ndarray
    curve: Curve | None = None
    cells: np.ndarray | None = None
    reconstruction: np.ndarray | None = None


@dataclass(frozen=True)
class ReportData:
    """Everything the page shows. NaN is allowed in every numeric column.

    Parameters
    ----------
    title, subtitle : str
    simulated : bool
        Says so in a banner on every screen and every printed page.
    table : DataFrame
        One row a map with a thumbnail. Needs map_id, scan_id, x, y, label (-1: noise); known columns are those of
        `report.columns`; time in seconds of the UTC epoch is shown as dates. Every other numeric column is offered as
        a colour too; other text columns are left out.
    thumbnails : (n, s, s) uint8
        Row i belongs to row i of the table; [time t2, time t1], both rising from index 0.
    details : list of Detail
        Maps that are shown at full size.
    exemplars : dict of int to list of str
        By label: map_id of maps among the details, most typical first.
    quarantine : list of {scan_id, stage, reason}
    doubts : list of {scan_id, q_bin, reason}
        Q-bins that are in the map with a reservation, or have no map.
    notes : list of {scans, note}
        What is to be known of scans that are in the map.
    facts : dict of str to str
        Versions, seconds, digests: shown as they are.
    sample_columns : tuple of str
        Columns of `table` that come from the sample log. A unit at the end of the name, "stress_Pa" or
        "stress (Pa)", is shown as one.
    whole : DataFrame or None
        All maps, where `table` holds some of them only: summaries and numbers are of these.
    others : (k,) int
        Rows of `whole` that are drawn as points, without a thumbnail.
    stands_for : (n + k,) int or None
        How many maps each row of `table`, then each of `others`, stands for; None: itself alone.
    thinned : str
        What is left out, in words.
    neighbours : (n, 8) int or None
        For each row of the table the rows nearest to it by latent, nearest first; -1 where there are no more.
    clusters : DataFrame or None
        A row a cluster: label, and any of stability and separation (in words).
    relations : DataFrame or None
        What goes with what, a row a column and cluster: column, cluster, effect, p_value, words.
    """

    title: str
    subtitle: str
    simulated: bool
    table: pd.DataFrame
    thumbnails: np.ndarray
    details: list[Detail]
    exemplars: dict[int, list[str]]
    quarantine: list[dict[str, str]]
    doubts: list[dict[str, str]]
    notes: list[dict[str, str]]
    facts: dict[str, str]
    sample_columns: tuple[str, ...]
    whole: pd.DataFrame | None = None
    others: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    stands_for: np.ndarray | None = None
    thinned: str = ""
    neighbours: np.ndarray | None = None
    clusters: pd.DataFrame | None = None
    relations: pd.DataFrame | None = None

    @property
    def all_maps(self) -> pd.DataFrame:
        """One row for each map of the archive."""
        return self.table if self.whole is None else self.whole
