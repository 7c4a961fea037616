"""The report as one HTML file that needs no network: numbers in, page out. Knows nothing of archives or stages."""

from __future__ import annotations

import base64
import hashlib
import html
import inspect
import io
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ainerd_hpc.report.thinning import Thinned

REQUIRED = ("map_id", "scan_id", "x", "y", "label")
SCRIPTS = ("data", "colours", "scales", "pictures", "map", "pointer", "panels", "clusters", "history", "main")
"""The files of the page's one script, in the order in which their constants need each other."""
TILES_PER_ROW = 64
TILES_PER_PAGE = TILES_PER_ROW * 64
MAX_FULL_THUMBNAILS = 20_000
"""Number of maps above which thumbnails are halved in size, so that 10^5 of them stay a file that can be mailed."""

_SUMMARISED = ("tau", "kww_exponent", "contrast", "novelty", "probability", "stability")
# name: (text, unit, scale, group of the drop-down; no group: not offered as a colour)
_COLUMNS: dict[str, tuple[str, str, str, str]] = {
    "tau": ("relaxation time τ", "s", "log", "Dynamics"),
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
    "label": ("cluster", "", "linear", ""),
    "x": ("x", "", "linear", ""),
    "y": ("y", "", "linear", ""),
    "age_start": ("window start", "frames", "linear", ""),
    "age_stop": ("window stop", "frames", "linear", ""),
}
_UNIT = re.compile(
    r"^(?P<text>.+?)(?:\s*[(\[](?P<unit>[^)\]]+)[)\]]|_(?P<suffix>m?K|degC|[kMG]?Pa|Hz|m?V|m?N|[mµ]m|m?s))$"
)


@dataclass(frozen=True)
class Curve:
    """One g2 curve.

    Parameters
    ----------
    map_id : str
    delay : (lag,) float, s
    g2, g2_err : (lag,) float
        Correlation and its standard error; NaN where unknown.
    fit : (lag,) float or None
        The fitted model at the same delays.
    """

    map_id: str
    delay: np.ndarray
    g2: np.ndarray
    g2_err: np.ndarray
    fit: np.ndarray | None = None


@dataclass(frozen=True)
class ReportData:
    """Everything the page shows. NaN is allowed in every numeric column.

    Parameters
    ----------
    title, subtitle : str
    simulated : bool
        Says so in a banner on every screen and every printed page.
    table : DataFrame
        One row a map. Needs map_id, scan_id, x, y, label (-1: noise); known columns are q_bin, q (1/angstrom),
        age_start, age_stop (frames), frame_time (s), time (s; seconds of the UTC epoch are shown as dates),
        probability, kind (its cluster in words), novelty, tau (s), contrast, kww_exponent, baseline, stability,
        reconstruction_l1. Every other numeric column is offered as a colour too; other text columns are left out.
    thumbnails : (n, s, s) uint8
        Row i belongs to row i of the table; [time t2, time t1], both rising from index 0.
    exemplars : dict of int to list of (map_id, (m, m) uint8)
        Two-time maps per label, most typical first, axes as in `thumbnails`.
    curves : dict of int to list of Curve
        g2 curves per label.
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
    relations : DataFrame or None
        What goes with what, a row a finding: column, cluster (none: all), effect, p_value, words.
    whole : DataFrame or None
        All maps, where `table` holds some of them only: summaries and numbers are of these.
    thinned : Thinned or None
        With it: which maps `table` holds, and how many each of them stands for.
    """

    title: str
    subtitle: str
    simulated: bool
    table: pd.DataFrame
    thumbnails: np.ndarray
    exemplars: dict[int, list[tuple[str, np.ndarray]]]
    curves: dict[int, list[Curve]]
    quarantine: list[dict[str, str]]
    doubts: list[dict[str, str]]
    notes: list[dict[str, str]]
    facts: dict[str, str]
    sample_columns: tuple[str, ...]
    relations: pd.DataFrame | None = None
    whole: pd.DataFrame | None = None
    thinned: Thinned | None = None


def render(data: ReportData) -> str:
    """The whole page. The same data gives the same text.

    Raises
    ------
    ValueError
        A needed column is missing, or thumbnails and table differ in length.
    """
    _check(data)
    script, style = _script(), _asset("report.css")
    parts = {
        "title": html.escape(data.title),
        "script": script,
        "script_hash": _csp_hash(script),
        "style": style,
        "style_hash": _csp_hash(style),
        "data": _script_safe(_payload(data)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("report.html"))


def summarise(table: pd.DataFrame, sample_columns: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The physics of each cluster, noise (label -1) last.

    Returns
    -------
    list of dict
        label, maps, scans; q: [least, greatest]; kind: what its maps have in common, in words, where the table tells;
        and for tau, kww_exponent, contrast, novelty, probability, stability and the sample columns, where the table has
        them: [lower quartile, median, upper quartile]. None: all is NaN.
    """
    names = [name for name in (*_SUMMARISED, *sample_columns) if name in table]
    labels = sorted(table["label"].unique(), key=lambda label: (label < 0, label))
    maps = table.groupby("label")
    return [_summary(int(label), maps.get_group(label), names) for label in labels]


def _summary(label: int, maps: pd.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    spread = {name: _quantiles(_numbers(maps[name]), (0.25, 0.5, 0.75)) for name in names}
    q = _quantiles(_numbers(maps["q"]), (0.0, 1.0)) if "q" in maps else None
    kind = {"kind": str(maps["kind"].iloc[0])} if label >= 0 and "kind" in maps else {}
    return {"label": label, "maps": len(maps), "scans": int(maps["scan_id"].nunique()), "q": q, **spread, **kind}


def _quantiles(values: np.ndarray, shares: Sequence[float]) -> list[float] | None:
    """Quantiles of the finite values; None where fewer than half are, so that a few do not speak for all."""
    finite = values[np.isfinite(values)]
    return [float(value) for value in np.quantile(finite, shares)] if 2 * finite.size >= max(1, values.size) else None


def _check(data: ReportData) -> None:
    missing = [name for name in REQUIRED if name not in data.table]
    if missing:
        raise ValueError(f"report table: columns {missing} are missing; it has {list(data.table.columns)}")
    if len(data.thumbnails) != len(data.table):
        raise ValueError(f"report: expected {len(data.table)} thumbnails, one a map, found {len(data.thumbnails)}")


def _payload(data: ReportData) -> dict[str, Any]:
    table, whole = _with_derived(data.table), data.table if data.whole is None else data.whole
    stands_for = np.ones(len(table)) if data.thinned is None else data.thinned.stands_for
    scan_codes, scan_ids = pd.factorize(table["scan_id"].astype(str))
    samples = [name for name in data.sample_columns if name in table and pd.api.types.is_numeric_dtype(table[name])]
    return {
        "title": data.title,
        "subtitle": data.subtitle,
        "simulated": data.simulated,
        "count": len(table),
        "total": len(whole),
        "numScans": int(whole["scan_id"].nunique()),
        "thinned": "" if data.thinned is None else data.thinned.text,
        "standsFor": _encode(stands_for.astype("<i4")),
        "mapIds": [str(name) for name in table["map_id"]],
        "scanIds": [str(name) for name in scan_ids],
        "scan": _encode(scan_codes.astype("<i4")),
        "columns": _columns(table, samples),
        "sampleColumns": samples,
        "thumbnails": _sprites(data.thumbnails),
        "clusters": summarise(table if data.whole is None else data.whole, samples),
        "exemplars": {str(label): [_exemplar(*item) for item in items] for label, items in data.exemplars.items()},
        "curves": {str(label): [_curve(curve) for curve in curves] for label, curves in data.curves.items()},
        "quarantine": [_texts(entry) for entry in data.quarantine],
        "doubts": [_texts(entry) for entry in data.doubts],
        "notes": [_texts(entry) for entry in data.notes],
        "facts": [[str(key), str(value)] for key, value in data.facts.items()],
    }


def _texts(entry: Mapping[str, str]) -> dict[str, str]:
    return {str(key): str(value) for key, value in entry.items()}


def _with_derived(table: pd.DataFrame) -> pd.DataFrame:
    """Known columns as numbers, and window length and age in s where the table has what they need."""
    table = table.assign(**{name: _numbers(table[name]) for name in _COLUMNS if name in table})
    table = table.assign(label=table["label"].astype(np.int64))
    if {"age_start", "age_stop", "frame_time"} <= set(table):
        start, stop, period = (_numbers(table[name]) for name in ("age_start", "age_stop", "frame_time"))
        table = table.assign(window=(stop - start) * period, age=(stop + start) / 2 * period)
    return table


def _columns(table: pd.DataFrame, samples: Sequence[str]) -> list[dict[str, Any]]:
    names = [
        str(name) for name in table if name not in ("map_id", "scan_id") and pd.api.types.is_numeric_dtype(table[name])
    ]
    order = [name for name in _COLUMNS if name in names]
    order += [name for name in samples if name not in order]
    order += [name for name in names if name not in order]
    return [_describe(name, name in samples) | _encode(_compact(table[name])) for name in order]


def _describe(name: str, is_sample: bool) -> dict[str, Any]:
    if name in _COLUMNS:
        text, unit, scale, group = _COLUMNS[name]
        return {"name": name, "text": text, "unit": unit, "scale": scale, "group": group}
    match = _UNIT.match(name)
    text, unit = (match["text"], match["unit"] or match["suffix"]) if match else (name, "")
    group = "Sample log" if is_sample else "Other"
    return {"name": name, "text": text.replace("_", " "), "unit": unit, "scale": "linear", "group": group}


def _numbers(column: pd.Series) -> np.ndarray:
    """The column as float64, every kind of missing value as NaN."""
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _compact(column: pd.Series) -> np.ndarray:
    """int32 where exact; float32 where nothing moves by more than 1e-5 of the span (epoch seconds do); else float64."""
    values = _numbers(column)
    finite = values[np.isfinite(values)]
    if finite.size == values.size and np.all(np.abs(values) < 2**31) and np.all(values == np.rint(values)):
        return values.astype("<i4")
    with np.errstate(over="ignore"):
        small = values.astype("<f4")
    fits = not finite.size or np.max(np.abs(small[np.isfinite(values)] - finite)) <= 1e-5 * np.ptp(finite)
    return small if fits else values.astype("<f8")


def _encode(values: np.ndarray) -> dict[str, str]:
    kinds = {"<i4": "int32", "<f4": "float32", "<f8": "float64"}
    return {"dtype": kinds[values.dtype.str], "data": _base64(np.ascontiguousarray(values).tobytes())}


def _sprites(thumbnails: np.ndarray) -> dict[str, Any]:
    """Pages of tiles, time rising to the top of each; the browser decodes a page only when it is looked at."""
    tiles = np.asarray(thumbnails, dtype=np.uint8)[:, ::-1]
    if len(tiles) > MAX_FULL_THUMBNAILS and tiles.shape[1] % 2 == 0:
        tiles = _halved(tiles)
    pages = [_page(tiles[start : start + TILES_PER_PAGE]) for start in range(0, len(tiles), TILES_PER_PAGE)]
    return {"size": int(tiles.shape[1]), "perRow": TILES_PER_ROW, "perPage": TILES_PER_PAGE, "pages": pages}


def _halved(tiles: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels, in blocks so that a large stack is not held twice in a wider type."""
    small = np.empty((len(tiles), tiles.shape[1] // 2, tiles.shape[2] // 2), np.uint8)
    for start in range(0, len(tiles), 4096):
        block = tiles[start : start + 4096]
        pairs = block.reshape(len(block), small.shape[1], 2, small.shape[2], 2)
        small[start : start + 4096] = pairs.mean(axis=(2, 4), dtype=np.float32).round()
    return small


def _page(tiles: np.ndarray) -> str:
    rows, size = math.ceil(len(tiles) / TILES_PER_ROW), tiles.shape[1]
    sheet = np.zeros((rows * TILES_PER_ROW, size, size), np.uint8)
    sheet[: len(tiles)] = tiles
    lines = sheet.reshape(rows, TILES_PER_ROW, size, size).swapaxes(1, 2)
    return _webp(lines.reshape(rows * size, TILES_PER_ROW * size), quality=60)


def _exemplar(map_id: str, picture: np.ndarray) -> dict[str, str]:
    return {"map": str(map_id), "image": _webp(np.asarray(picture, np.uint8)[::-1], quality=85)}


def _curve(curve: Curve) -> dict[str, Any]:
    arrays = {"delay": curve.delay, "g2": curve.g2, "error": curve.g2_err}
    if curve.fit is not None:
        arrays["fit"] = curve.fit
    return {"map": str(curve.map_id), **{key: _encode(np.asarray(value, "<f4")) for key, value in arrays.items()}}


def _webp(picture: np.ndarray, quality: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "WEBP", quality=quality, method=4)
    return _base64(buffer.getvalue())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _script_safe(payload: Mapping[str, Any]) -> str:
    """JSON without any character that could end the script element or start a tag."""
    text = json.dumps(payload, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def version() -> str:
    """Digest of all that shapes the page but the data."""
    assets = (_script(), _asset("report.css"), _asset("report.html"), inspect.getsource(sys.modules[__name__]))
    return hashlib.sha256("".join(assets).encode()).hexdigest()[:16]


def _csp_hash(text: str) -> str:
    """The content-security policy lets exactly this inline text run, and nothing that data could bring along."""
    return "sha256-" + _base64(hashlib.sha256(text.encode()).digest())


def _script() -> str:
    """The files of the script as one, in one scope: nothing of it becomes a name of the window but `ainerd`."""
    return "\n".join(['"use strict";', "(() => {", *(_asset(f"{name}.js") for name in SCRIPTS), "})();"])


def _asset(name: str) -> str:
    return resources.files("ainerd_hpc.report").joinpath("assets", name).read_text(encoding="utf-8")
