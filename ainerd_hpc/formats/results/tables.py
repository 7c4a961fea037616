"""Correlations as CSV tables, one observation a row: g2 against delay, the fits, how bright the q-bins are, and
what the maps are alike. Empty where nothing is known.

Columns of g2 and the fits: scan_id, method (multitau; c2: mean along the diagonals of C2; c2_window: the same in a
window of age), q_bin, q_per_angstrom, and of which ages, age_start_s to age_stop_s, s after the first frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from ainerd_hpc.formats.results.writing import Result

_UNITS = {"tau": "s", "contrast": "1", "kww_exponent": "1", "baseline": "1"}
_QUALITY = ("reduced_chi2", "chi2_probability")


def write_g2(path: Path, result: Result) -> None:
    """Every g2 of a scan: lag_frames, delay_s, g2, g2_err.

    Raises
    ------
    ScanError
        The archive lacks an array.
    """
    multitau = result.is_of_frames
    parts = [_curves(result, "multitau" if multitau else "c2", "g2", result["lag"])]
    if multitau:
        num_windows, num_lags = result["g2_window"].shape[1:]
        parts.append(_curves(result, "c2", "g2_c2", np.arange(1, result.num_frames)))
        for window in range(num_windows):
            parts.append(_curves(result, "c2_window", "g2_window", np.arange(1, num_lags + 1), window))
    _write(path, pd.concat(parts))


def write_fits(path: Path, result: Result) -> None:
    """Every KWW fit of a scan, a row a parameter: parameter, value, error, unit.

    None of a scan that was read from two-time maps; its windows are fitted for the map index.

    Raises
    ------
    ScanError
        The archive lacks an array.
    """
    parts = [_bins(result, "", None).head(0).assign(parameter="", value=0.0, error=0.0, unit="")]
    if result.is_of_frames:
        for window in (None, *range(result["tau_window"].shape[1])):
            parts += _fits(result, window)
    _write(path, pd.concat(parts))


def write_intensity(path: Path, result: Result) -> None:
    """The brightness of each q-bin in time: mean, min, max and std of its counts a pixel over frames that are not bad.

    Beside it how far its contrast is beyond what speckle can give, where that of any q-bin is. No row of a scan that
    was read from two-time maps.

    Raises
    ------
    ScanError
        The archive lacks an array.
    """
    bins = _bins(result, "", None).drop(columns="method")
    if not result.is_of_frames:
        _write(path, bins.head(0))
        return
    frames = pd.DataFrame(result["intensity"].T.astype(np.float64))
    figures = frames.agg(["mean", "min", "max", "std"]).T.add_prefix("intensity_")
    beyond = result["beyond_speckle"] if "beyond_speckle" in result.arrays else np.nan
    counts = {"num_pixels": result["num_pixels"], "num_frames": frames.notna().sum().to_numpy()}
    _write(path, bins.assign(**counts).join(figures).assign(beyond_speckle=beyond))


def write_maps(path: Path, result: Result) -> None:
    """Every map of a scan, a row each: where it was cut, its cluster, kind and novelty, and its latent."""
    assert result.maps is not None
    latents = result.maps["latent"].to_list()
    components = np.stack(latents) if latents else np.zeros((0, 0), np.float32)
    columns = pd.DataFrame(components).add_prefix("latent_")
    maps = result.maps.drop(columns="latent").reset_index(drop=True)
    for name in ("age_start", "age_stop"):
        maps[name] *= result.frame_time
    told = {"q": "q_per_angstrom", **{name: f"{name}_s" for name in ("age_start", "age_stop", "half_decay", "tau")}}
    _write(path, pd.concat([maps.rename(columns=told), columns], axis=1))


def _bins(result: Result, method: str, window: int | None) -> pd.DataFrame:
    """A row a q-bin."""
    start, stop = _ages(result, window)
    return pd.DataFrame(
        {
            "scan_id": result.scan.scan_id,
            "method": method,
            "q_bin": np.arange(result.num_q_bins),
            "q_per_angstrom": result["dynamic_q_list"],
            "age_start_s": start * result.frame_time,
            "age_stop_s": stop * result.frame_time,
        }
    )


def _ages(result: Result, window: int | None) -> tuple[int, int]:
    """First and last frame of a window of age, or of the scan."""
    if window is None:
        return 0, result.num_frames
    length = result.num_frames // result["g2_window"].shape[1]
    return window * length, (window + 1) * length


def _curves(result: Result, method: str, name: str, lag: np.ndarray, window: int | None = None) -> pd.DataFrame:
    """A row a q-bin and lag."""
    bins, lags = _bins(result, method, window), np.tile(lag, result.num_q_bins)
    g2, g2_err = (_part(result, found, window).ravel() for found in (name, f"{name}_err"))
    rows = bins.loc[bins.index.repeat(lag.size)].reset_index(drop=True)
    return rows.assign(lag_frames=lags, delay_s=lags * result.frame_time, g2=g2, g2_err=g2_err)


def _fits(result: Result, window: int | None) -> Iterator[pd.DataFrame]:
    """A row a q-bin, of each parameter."""
    suffix = "" if window is None else "_window"
    bins = _bins(result, "multitau" if window is None else "c2_window", window)
    for name in (*_UNITS, *_QUALITY):
        value = _part(result, f"{name}{suffix}", window)
        error = _part(result, f"{name}_err{suffix}", window) if name in _UNITS else np.nan
        yield bins.assign(parameter=name, value=value, error=error, unit=_UNITS.get(name, "1"))


def _part(result: Result, name: str, window: int | None) -> np.ndarray:
    return result[name] if window is None else result[name][:, window]


def _write(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")
