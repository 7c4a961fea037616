"""The columns of the page: what they are called, and how their numbers are carried."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ainerd_hpc.report.content import ReportData
from ainerd_hpc.report.packing import COARSE, FINE, coded, exact

# name: (text, unit, scale, group of the drop-down; no group: not offered as a colour)
_COLUMNS: dict[str, tuple[str, str, str, str]] = {
    "tau": ("relaxation time τ", "s", "log", "Dynamics"),
    "half_decay": ("half decay", "s", "log", "Dynamics"),
    "expected_half_decay": ("half decay, as the network expects it", "s", "log", "Dynamics"),
    "kww_exponent": ("KWW exponent", "", "linear", "Dynamics"),
    "contrast": ("contrast", "", "linear", "Dynamics"),
    "ageing": ("ageing, ln of last over first half decay", "", "linear", "Dynamics"),
    "bursts": ("bursts within a window", "", "linear", "Dynamics"),
    "unevenness": ("unevenness over age", "", "linear", "Dynamics"),
    "return_lag": ("period of echoes or fringes", "s", "log", "Dynamics"),
    "static_share": ("static share of g2", "", "linear", "Dynamics"),
    "baseline": ("baseline of g2", "", "linear", "Dynamics"),
    "q": ("q", "Å⁻¹", "linear", "Measurement"),
    "time": ("time", "s", "time", "Measurement"),
    "window": ("window length", "s", "log", "Measurement"),
    "age": ("age (middle of the window)", "s", "linear", "Measurement"),
    "frame_time": ("frame time", "s", "log", "Measurement"),
    "q_bin": ("q-bin", "", "linear", "Measurement"),
    "beyond_speckle": ("contrast, of the largest of speckle", "", "log", "Measurement"),
    "novelty": ("novelty", "", "linear", "Model"),
    "probability": ("probability of its cluster", "", "linear", "Model"),
    "stability": ("stability of its cluster", "", "linear", "Model"),
    "reconstruction_l1": ("reconstruction error L1", "", "linear", "Model"),
    "next_label": ("second most likely cluster", "", "linear", "Model"),
    "next_probability": ("probability of the second cluster", "", "linear", "Model"),
    "label": ("cluster", "", "linear", ""),
    "x": ("x", "", "linear", ""),
    "y": ("y", "", "linear", ""),
    "age_start": ("window start", "frames", "linear", ""),
    "age_stop": ("window stop", "frames", "linear", ""),
}
_PLACE = (
    "label",
    "x",
    "y",
    "q_bin",
    "age_start",
    "age_stop",
    "frame_time",
    "age",
    "window",
    "q",
    "time",
    "novelty",
    "tau",
)
"""Columns that every point carries."""
_MORE = ("half_decay", "expected_half_decay", "probability", "stability", "kww_exponent", "contrast")
"""Columns that come next, after those of the sample log."""
MOST_BYTES = 11_000_000
"""Characters of the page that the columns of points without a thumbnail may take."""
_FINE = ("x", "y", "time")
_UNIT = re.compile(
    r"^(?P<text>.+?)(?:\s*[(\[](?P<unit>[^)\]]+)[)\]]|_(?P<suffix>m?K|degC|[kMG]?Pa|Hz|m?V|m?N|[mµ]m|m?s))$"
)


def numbers(column: pd.Series) -> np.ndarray:
    """The column as float64, every kind of missing value as NaN."""
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def is_numeric(table: pd.DataFrame, name: str) -> bool:
    return bool(pd.api.types.is_numeric_dtype(table[name]))


def columns(data: ReportData, samples: Sequence[str]) -> list[dict[str, Any]]:
    """What each numeric column is, its values in the table, and those of the other points as far as there is room."""
    table = _with_derived(data.table)
    names = [str(name) for name in table if name not in ("map_id", "scan_id") and is_numeric(table, str(name))]
    order = [name for name in _COLUMNS if name in names]
    order += [name for name in samples if name not in order]
    order += [name for name in names if name not in order]
    carried = _of_points(data, order, samples)
    values = {name: {"values": exact(numbers(table[name]))} for name in order}
    return [_describe(name, name in samples) | values[name] | carried.get(name, {}) for name in order]


def _of_points(data: ReportData, names: Sequence[str], samples: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The columns of the points without a thumbnail, the most telling first, until the page has no more room."""
    first = [*_PLACE, *samples, *_MORE]
    order = [name for name in (*first, *(name for name in names if name not in first)) if name in names]
    carried: dict[str, dict[str, Any]] = {}
    used = 0
    for name in order if len(data.others) else ():
        values = _column(data.all_maps, name)
        if values is None:
            continue
        found = coded(values[data.others], _scale(name) == "log", FINE if name in _FINE else COARSE)
        used += len(found["codes"]["data"])
        if used > MOST_BYTES and name not in _PLACE:
            break
        carried[name] = {"points": found}
    return carried


def _column(table: pd.DataFrame, name: str) -> np.ndarray | None:
    """A column as float64: one of the table, or the age or length of a window in s; None where it cannot be had."""
    if name in ("age", "window"):
        if not {"age_start", "age_stop", "frame_time"} <= set(table):
            return None
        start, stop, period = (numbers(table[part]) for part in ("age_start", "age_stop", "frame_time"))
        length: np.ndarray = (stop - start if name == "window" else (stop + start) / 2) * period
        return length
    return numbers(table[name]) if name in table else None


def _with_derived(table: pd.DataFrame) -> pd.DataFrame:
    """Known columns as numbers, and window length and age in s where the table has what they need."""
    table = table.assign(**{name: numbers(table[name]) for name in _COLUMNS if name in table})
    table = table.assign(label=table["label"].astype(np.int64))
    derived = {name: _column(table, name) for name in ("window", "age")}
    return table.assign(**{name: values for name, values in derived.items() if values is not None})


def _scale(name: str) -> str:
    return _COLUMNS[name][2] if name in _COLUMNS else "linear"


def heading(name: str) -> str:
    """What a column is called, with its unit, as on an axis or over a table."""
    told = _describe(name, False)
    return f"{told['text']} ({told['unit']})" if told["unit"] else str(told["text"])


def _describe(name: str, is_sample: bool) -> dict[str, Any]:
    """Name, text, unit, scale and group of a column."""
    if name in _COLUMNS:
        text, unit, scale, group = _COLUMNS[name]
        return {"name": name, "text": text, "unit": unit, "scale": scale, "group": group}
    match = _UNIT.match(name)
    text, unit = (match["text"], match["unit"] or match["suffix"]) if match else (name, "")
    group = "Sample log" if is_sample else "Other"
    return {"name": name, "text": text.replace("_", " "), "unit": unit, "scale": "linear", "group": group}
