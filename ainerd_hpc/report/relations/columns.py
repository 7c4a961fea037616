"""Columns that go with clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ainerd_hpc.kernels.relations import columns, controls
from ainerd_hpc.report.relations.maps import ALPHA, Maps
from ainerd_hpc.types import Scan

ANY_ORDER, SHIFTED = "scans in any order", "shifted in time"
_NUMBERS = ["num_frames", "frame_time", "count_time", "energy", "distance"]
_TEXTS = ["detector", "format", "partition"]
_MOST_TEXTS = 50
"""Texts of a column above which they name scans, and no conditions."""
_FEWEST = 3
"""Scans, or windows, of which anything is said."""


class Row(NamedTuple):
    """A column and a cluster."""

    column: str
    cluster: int | None
    """None: all clusters together."""
    measure: str
    """What the effect is: Cliff's delta, epsilon squared, Cramer's V, or windows from a change."""
    effect: float
    p_value: float
    """Corrected for all columns with the same controls; of a cluster for all clusters, and no surer than its column."""
    controls: str
    """What it was compared with."""
    units: int
    """Scans, or windows of scans, that were compared."""
    p_shifted: float = np.nan
    """p-value against the columns shifted in time, where the controls are others; NaN where times are not known."""
    words: str = ""


def relations(maps: Maps, scans: Sequence[Scan], sample_columns: Sequence[str]) -> pd.DataFrame:
    """A `Row` for each column and cluster, the surest first.

    A column that has one value in each scan is compared with scans in any order, and a second time with the columns
    shifted in time: the first is blind to slow drifts, which both sides may have. One that changes within a scan is
    compared with itself shifted in time alone.
    """
    numbers, texts = _known(maps.table.iloc[maps.typical], scans, sample_columns)
    if not maps.clusters or (numbers.columns.empty and texts.columns.empty):
        return pd.DataFrame(columns=Row._fields)
    by_scan = numbers.groupby(maps.scan[maps.typical])
    is_fixed = (by_scan.max() - by_scan.min()).max() == 0
    shifted = _rows(maps, maps.moment, numbers, texts, SHIFTED)
    found = _rows(maps, maps.scan, numbers.loc[:, is_fixed], texts, ANY_ORDER)
    p_shifted = {row[:3]: row.p_value for row in shifted}
    found = [row._replace(p_shifted=p_shifted.get(row[:3], np.nan)) for row in found]
    fixed = {row.column for row in found}
    found += [row for row in shifted if row.column not in fixed]
    told = [row._replace(words=_in_words(row)) for row in found if np.isfinite(row.p_value)]
    table = pd.DataFrame(told, columns=Row._fields).astype({"cluster": "Int64"})
    return table.sort_values("p_value", kind="stable", ignore_index=True)


def _known(
    table: pd.DataFrame, scans: Sequence[Scan], sample_columns: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Numbers and texts that are known of these maps, without those that are the same for all."""
    place = pd.Index([scan.scan_id for scan in scans]).get_indexer(pd.Index(table["scan_id"]))
    sample = table[[name for name in sample_columns if name in table]]
    of_scan = {name: np.array([getattr(scan, name) for scan in scans], np.float64)[place] for name in _NUMBERS}
    numbers = sample.assign(**{name: values for name, values in of_scan.items() if name not in sample})
    named = {name: pd.Categorical([getattr(scan, name) or None for scan in scans])[place] for name in _TEXTS}
    texts = pd.DataFrame(named, index=table.index)
    numbers = numbers.loc[:, numbers.nunique() > 1].astype(np.float64)
    return numbers, texts.loc[:, texts.nunique().between(2, _MOST_TEXTS)]


def _rows(maps: Maps, unit: NDArray[np.int64], numbers: pd.DataFrame, texts: pd.DataFrame, kind: str) -> list[Row]:
    """Effects and p-values of columns, with scans or windows as units."""
    known, num = unit >= 0, int(unit.max(initial=-1)) + 1
    if num < _FEWEST:
        return []
    first = np.flatnonzero(known)[np.unique(unit[known], return_index=True)[1]]
    place = np.searchsorted(maps.typical, first)
    codes = [pd.factorize(texts[name].iloc[place])[0] for name in texts]
    found = columns.effects(
        columns.shares(np.searchsorted([-1, *maps.clusters], maps.labels[known]), unit[known]),
        numbers.iloc[place].to_numpy(np.float64),
        np.array(codes, np.int64).reshape(len(codes), num).T,
        controls.permutations(num) if kind == ANY_ORDER else controls.shifted(num),
    )
    rows = [
        Row(str(name), cluster, "Cliff's delta", found.delta[k, c], found.delta_p[k, c], kind, num)
        for k, name in enumerate(numbers)
        for c, cluster in enumerate(maps.clusters, 1)
    ]
    wholes = [
        *zip(numbers, ["epsilon squared"] * len(found.epsilon2), found.epsilon2, found.epsilon2_p, strict=True),
        *zip(texts, ["Cramer's V"] * len(codes), found.cramers_v, found.cramers_v_p, strict=True),
    ]
    return rows + [Row(str(name), None, measure, effect, p, kind, num) for name, measure, effect, p in wholes]


def _in_words(row: Row) -> str:
    """What a row says, and no more."""
    units = "scans" if row.controls == ANY_ORDER else "windows"
    figures = f"({row.measure} {row.effect:.2f}, p {row.p_value:.2g} of {row.units} {units})"
    where = "all clusters" if row.cluster is None else f"cluster {row.cluster}"
    if row.p_value > ALPHA:
        return f"{row.column}: nothing sure in {where} {figures}"
    if row.cluster is None:
        said = f"{row.column}: not the same in {where} {figures}"
    else:
        said = f"{row.column}: {'higher' if row.effect > 0 else 'lower'} in {where} than elsewhere {figures}"
    drift = f"; slow drifts of both could do as much (p {row.p_shifted:.2g} shifted in time)"
    return said + (drift if row.p_shifted > ALPHA else "")
