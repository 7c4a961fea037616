"""The correlation product of a scan: which arrays it holds, and how it is put together from parts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ainerd_hpc.archive.groups import GroupWriter, array, reading_group
from ainerd_hpc.config import CorrelateConfig
from ainerd_hpc.correlation.bad_frames import meanings
from ainerd_hpc.correlation.counts.layout import Layout, spans
from ainerd_hpc.correlation.q_bin import QBin
from ainerd_hpc.correlation.tiles import Tiles
from ainerd_hpc.formats.detector_pixels import BITS
from ainerd_hpc.kernels import lags, twotime
from ainerd_hpc.kernels.fitting import kww, power_law
from ainerd_hpc.types import Scan

SAXS_SEGMENTS = 10
"""Parts of a scan for which the static bins are averaged."""
C2_SUMS = "c2_unnormalized"
"""Name of the array that holds C2 before it is normalised."""
_C2_ATTRIBUTES: dict[str, Any] = {
    "units": "1",
    "meaning": "sums of products; c2 = c2_unnormalized x c2_scale(t1) x c2_scale(t2)",
    "baseline_reference": 1,
    "time_origin_location": "upper_left",
    "storage_mode": "one_array_q_first",
    "diagonal": "raw, with shot noise; not used in g2, fits or maps",
}
METHODS = ("int8", "float64", "pairs")
"""How products are made: of q-bins, a bit each in the product."""
PARAMETERS = ("tau", "contrast", "kww_exponent", "baseline")
"""What a KWW fit of g2 tells, each with its error."""
Arrays = dict[str, tuple[np.ndarray, tuple[str, ...], dict[str, Any]]]
"""name -> (values, dimensions, attributes)"""


class StoredC2:
    """C2 of a product, normalised as it is read. The sums are small numbers, which take a fraction of its room."""

    def __init__(self, group: Any) -> None:
        self._sums, self._scale = array(group, C2_SUMS), array(group, "c2_scale")[...]
        self.shape: tuple[int, int, int] = self._sums.shape

    def __getitem__(self, key: tuple[int, slice, slice]) -> np.ndarray:
        """C2 of one q-bin in some frames, (t1, t2) float32."""
        q_bin, rows, columns = key
        scale = self._scale[q_bin]
        return twotime.normalise(self._sums[key], scale[rows], scale[columns])


def create_c2(group: GroupWriter, num_q_bins: int, tiles: Tiles, num_frames: int) -> Any:
    """The array of the sums that make C2, a chunk a tile; tiles that are not written hold NaN."""
    populated = "all" if tiles.is_full else "tiles along the diagonal, as far as the windows reach; NaN elsewhere"
    return group.create(
        C2_SUMS,
        (num_q_bins, num_frames, num_frames),
        np.float32,
        ("q_bin", "t1", "t2"),
        (1, tiles.edge, tiles.edge),
        codec="fast",
        populated_elements=populated,
        **_C2_ATTRIBUTES,
    )


def store_rows(group: GroupWriter, c2: Any, q_bin: int, start: int, rows: np.ndarray) -> None:
    """Write a row of tiles of the sums, and its mirror image below the diagonal."""
    edge = c2.chunks[1]
    row = start // edge
    for number, left in enumerate(range(0, rows.shape[1], edge)):
        tile = rows[np.newaxis, :, left : left + edge]
        group.write_chunk(c2, (q_bin, row, row + number), tile)
        if number:
            group.write_chunk(c2, (q_bin, row + number, row), tile.transpose(0, 2, 1))


def figures(
    scan: Scan, config: CorrelateConfig, layout: Layout, found: Sequence[QBin], valid: np.ndarray, average: int
) -> Arrays:
    """All arrays but C2 and the fits, of some q-bins; valid (t,) says which frames are not bad."""
    lag, _ = lags.delays(scan.num_frames, config.lag_scheme, config.delays_per_level)
    lag_c2 = np.arange(1, scan.num_frames)
    lag_window = lag_c2[: found[0].windows[0].shape[1]]
    line, lines = ("q_bin", "lag"), ("q_bin", "age_window", "lag_window")
    value, error, seconds = {"units": "1"}, {"units": "1", "meaning": "standard error"}, {"units": "s"}
    num_pixels = np.array([one.static.sizes.sum() for one in found])
    photons = [np.where(valid, one.static.sums.sum(axis=0), np.nan) for one in found]
    intensity = [one / max(1, num) / average for one, num in zip(photons, num_pixels, strict=True)]
    arrays: Arrays = {
        "lag": (lag, ("lag",), {"units": "frames"}),
        "delay": (lag * scan.frame_time, ("lag",), seconds),
        "g2": (_stacked(one.multitau[0] for one in found), line, value),
        "g2_err": (_stacked(one.multitau[1] for one in found), line, error),
        "delay_c2": (lag_c2 * scan.frame_time, ("lag_c2",), seconds),
        "g2_c2": (_stacked(one.full[0][0] for one in found), ("q_bin", "lag_c2"), value),
        "g2_c2_err": (_stacked(one.full[1][0] for one in found), ("q_bin", "lag_c2"), error),
        "delay_window": (lag_window * scan.frame_time, ("lag_window",), seconds),
        "g2_window": (_stacked(one.windows[0] for one in found), lines, value),
        "g2_window_err": (_stacked(one.windows[1] for one in found), lines, error),
        "c2_scale": (np.stack([one.c2_scale for one in found]), ("q_bin", "t1"), {}),
        "dynamic_q_list": (layout.dynamic_q_list, ("q_bin",), {"units": "1/angstrom"}),
        "static_q_list": (layout.static_q_list, ("static_bin",), {"units": "1/angstrom"}),
        "intensity": (_stacked(intensity), ("q_bin", "t1"), {"units": "counts/pixel/frame"}),
        "is_bad_frame": (~valid, ("t1",), {}),
        "num_pixels": (num_pixels, ("q_bin",), {}),
        "method": (np.array([_bits(one.methods) for one in found], np.uint8), ("q_bin",), {"bits": list(METHODS)}),
    }
    return arrays | _saxs(scan, layout, found, valid, average)


def left_out(
    reasons: np.ndarray,
    dead: np.ndarray,
    hot: np.ndarray,
    missing: np.ndarray,
    monitor: np.ndarray | None,
    mask: np.ndarray | None,
) -> Arrays:
    """What was left out of the whole scan: why frames (t,) are bad, the numbers of dead and of hot pixels.

    With the numbers of those that are missing, with the beam monitor (t,), and with what the mask of the scan's own
    file (y, x) says of the dead ones, if there are such.
    """
    number = {"meaning": "number in the frame, row by row"}
    dead = np.sort(dead).astype(np.int32)
    arrays: Arrays = {
        "bad_frame_reason": (reasons, ("t1",), {"meanings": meanings(reasons)}),
        "dead_pixels": (dead, ("dead_pixel",), number),
        "hot_pixels": (np.sort(hot).astype(np.int32), ("hot_pixel",), number),
    }
    if len(missing):
        arrays["missing_pixels"] = np.sort(missing).astype(np.int32), ("missing_pixel",), number
    if mask is not None:
        bits = {str(bit): meaning for bit, meaning in BITS.items()}
        told = {"meaning": "bits of pixel_mask; 0: known by a count that is none", "bits": bits}
        arrays["dead_pixel_mask"] = mask.ravel()[dead], ("dead_pixel",), told
    if monitor is not None:
        arrays["monitor"] = monitor, ("t1",), {"meaning": "beam monitor, mean of the frames that make this one"}
    return arrays


def _stacked(values: Iterable[np.ndarray]) -> np.ndarray:
    return np.stack(list(values)).astype(np.float32)


def _bits(methods: frozenset[str]) -> int:
    return sum(1 << number for number, name in enumerate(METHODS) if name in methods)


def _saxs(scan: Scan, layout: Layout, found: Sequence[QBin], valid: np.ndarray, average: int) -> Arrays:
    """Mean intensities of pixels and static bins over the frames that are not bad; NaN outside of these q-bins."""
    image = np.full(scan.height * scan.width, np.nan, dtype=np.float32)
    profile = np.full((SAXS_SEGMENTS, len(layout.static_q_list)), np.nan, dtype=np.float32)
    mean = profile[0].copy()
    edges = np.linspace(0, scan.num_frames, SAXS_SEGMENTS + 1).astype(int)
    for one, (start, stop) in zip(found, spans(layout), strict=True):
        sums, here, sizes = np.where(valid, one.static.sums, 0), one.static.labels - 1, one.static.sizes
        with np.errstate(invalid="ignore", divide="ignore"):  # a segment of bad frames, a q-bin of dead pixels
            image[layout.order[start:stop]] = one.pixel_sums / valid.sum() / average
            mean[here] = sums.sum(axis=1) / sizes / valid.sum() / average
            for row, (first, last) in enumerate(itertools.pairwise(edges.tolist())):
                num = valid[first:last].sum()
                profile[row, here] = sums[:, first:last].sum(axis=1) / sizes / num / average
    units = {"units": "counts/pixel/frame"}
    return {
        "saxs_2d": (image.reshape(scan.height, scan.width), ("y", "x"), units),
        "saxs_1d": (mean, ("static_bin",), units),
        "saxs_1d_segments": (profile, ("segment", "static_bin"), units),
    }


def fits(arrays: Arrays, frame_time: float) -> Arrays:
    """KWW fits of the g2 of every q-bin, over the whole scan and in windows of age, and the power law of tau."""
    delay, g2, g2_err, q = (arrays[name][0].astype(np.float64) for name in ("delay", "g2", "g2_err", "dynamic_q_list"))
    whole = _fits(delay, g2, g2_err)
    g2, g2_err = (arrays[name][0].astype(np.float64) for name in ("g2_window", "g2_window_err"))
    num_q_bins, num_windows, num_lags = g2.shape
    rows = num_q_bins * num_windows, num_lags
    lag, g2, g2_err = kww.log_bin(np.arange(1, num_lags + 1), g2.reshape(rows), g2_err.reshape(rows))
    aged = _fits(lag * frame_time, g2, g2_err)
    law = power_law.fit(q, whole.tau, whole.tau_err)
    found: Arrays = {"covariance": (whole.covariance, ("q_bin", "parameter", "parameter_2"), {"of": list(PARAMETERS)})}
    figures_of_law = np.array([float(figure) for figure in law])
    found["power_law"] = (figures_of_law, ("law",), {"law": "tau = prefactor q^(-exponent)", "of": list(law._fields)})
    for name in (*PARAMETERS, *(f"{name}_err" for name in PARAMETERS), "reduced_chi2", "chi2_probability"):
        units = {"units": "s" if name.startswith("tau") else "1"}
        found[name] = (getattr(whole, name), ("q_bin",), units)
        in_windows = getattr(aged, name).reshape(num_q_bins, num_windows)
        found[f"{name}_window"] = (in_windows, ("q_bin", "age_window"), units)
    return found


def _fits(delay: np.ndarray, g2: np.ndarray, g2_err: np.ndarray) -> kww.KwwFits:
    """Fits of (n, lag). A lag of a single pair of frames has no error: g2 of every pixel is 1 there by definition."""
    if g2.shape[1] == 0:
        delay, g2, g2_err = np.ones(1), np.full((len(g2), 1), np.nan), np.full((len(g2), 1), np.nan)
    return kww.fit_many(delay, g2, np.where(g2_err > 0, g2_err, np.nan))


def write_figures(group: GroupWriter, arrays: Arrays) -> None:
    """Add all of these to the product."""
    for name, (values, dims, attributes) in sorted(arrays.items()):
        if values.dtype.kind == "f":
            values = np.where(np.isnan(values), values.dtype.type(np.nan), values)  # of many NaN always the same
        group.add(name, values, dims, **attributes)


def described(group: Any, name: str) -> tuple[np.ndarray, tuple[str, ...], dict[str, Any]]:
    """An array of a product, with its dimensions and attributes."""
    found = array(group, name)
    return found[...], tuple(found.metadata.dimension_names), dict(found.attrs)


def join(paths: Sequence[Path]) -> Arrays:
    """The figures of a whole scan from those of its parts: q-bins side by side, pixels each from where they are."""
    joined: Arrays = {}
    for path in paths:
        with reading_group(path) as group:
            for name in sorted(set(group.array_keys()) - {C2_SUMS}):
                values, dims, attributes = described(group, name)
                known = joined.get(name)
                if known is not None and dims[0] == "q_bin":
                    values = np.concatenate([known[0], values])
                elif known is not None and values.dtype.kind == "f":
                    values = np.where(np.isnan(known[0]), values, known[0])
                joined[name] = values, dims, attributes
    return joined
