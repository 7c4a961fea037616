"""Scans written with plain h5py, and the plain float64 truth of their correlation, for reading."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from ainerd_hpc.archive.groups import reading_group
from ainerd_hpc.config import RunConfig
from ainerd_hpc.formats.frames.aps import write_metadata
from ainerd_hpc.formats.partitions.partition import Geometry, Partition, make_ring_partition, write_partition
from ainerd_hpc.pipeline import Run

SHAPE = (40, 48)
GEOMETRY = Geometry(beam_center_x=10.3, beam_center_y=15.7, pixel_size=75e-6, distance=5.0, energy=8.0)
FRAME_TIME, START = 0.01, 1.7e9
PLACES = {
    "bitshuffle": {"chunks": (1, *SHAPE), **hdf5plugin.Bitshuffle(cname="lz4")},
    "gzip": {"chunks": (1, *SHAPE), "compression": "gzip"},
    "gzip, 7 frames": {"chunks": (7, 20, 24), "compression": "gzip"},
    "contiguous": {},
}
"""How frames lie in the file."""
Arrays = dict[str, np.ndarray]


def write_source(
    folder: Path,
    frames: np.ndarray,
    place: str = "bitshuffle",
    *,
    scan_id: str = "scan",
    mask: np.ndarray | None = None,
    num_q_bins: int = 3,
    num_static: int = 2,
) -> Partition:
    """A scan (t, y, x) with its metadata, and the partition of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rings = make_ring_partition(np.ones(SHAPE, bool) if mask is None else mask, GEOMETRY, num_q_bins, num_static)
    write_partition(folder / "q_map.hdf", rings, GEOMETRY)
    with h5py.File(folder / f"{scan_id}.h5", "w") as file:
        file.create_dataset("entry/data/data", data=frames, **PLACES[place])
    write_metadata(
        folder / f"{scan_id}_metadata.hdf",
        start_time=START,
        frame_time=FRAME_TIME,
        count_time=FRAME_TIME,
        geometry=GEOMETRY,
        sample={},
        simulated=True,
        description="",
    )
    return rings.partition


def configure(source: Path, archive: Path, **sections: Any) -> RunConfig:
    """A config for inline runs with memory for whole scans; sections are given as keyword arguments."""
    data = {"archive": archive, "source": {"path": source}, "executor": {"kind": "inline", "memory": "4 GB"}}
    return RunConfig.model_validate({**data, **sections})


def correlated(source: Path, archive: Path, scan_id: str = "scan", **sections: Any) -> Arrays:
    """All arrays of the product of a scan, after a run of this config until `correlate`."""
    Run(configure(source, archive, **sections), until="correlate").execute()
    return read_arrays(archive, scan_id)


def read_arrays(archive: Path, scan_id: str = "scan") -> Arrays:
    with reading_group(archive / "correlation" / f"{scan_id}.zarr.zip") as group:
        found = {name: np.asarray(stored[...]) for name, stored in group.arrays()}
    scale = found["c2_scale"]
    c2 = found["c2_unnormalized"] * (scale[:, :, np.newaxis] * scale[:, np.newaxis, :])
    return {**found, "c2": c2.astype(np.float32)}


def only_problem(archive: Path) -> dict[str, str]:
    """The only line of quarantine.jsonl."""
    (line,) = (archive / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    return dict(json.loads(line))


def assert_same(found: Arrays, expected: Arrays, but: Sequence[str] = ()) -> None:
    """Bit by bit, all arrays but some."""
    assert found.keys() == expected.keys()
    for name in sorted(found.keys() - set(but)):
        assert found[name].dtype == expected[name].dtype, name
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def assert_true(found: Arrays, truth: Arrays, rtol: float = 1e-6) -> None:
    """Within the rounding of float32; errors, from differences of such numbers, within a thousandth."""
    rounding = 1e-7 * np.nanmax(truth["c2"])
    for name, expected in truth.items():
        assert found[name].shape == np.shape(expected), name
        is_error = name.endswith("err")
        told = expected != 0 if is_error else slice(None)  # of one pair of frames each pixel has a g2 of 1: no scatter
        loose = {"rtol": 1e-3, "atol": rounding} if is_error else {"rtol": rtol}
        np.testing.assert_allclose(found[name][told], expected[told], **loose, err_msg=name)


def truth(
    frames: np.ndarray,
    partition: Partition,
    *,
    bad: Sequence[int] = (),
    dead: Sequence[tuple[int, int]] = (),
    static: bool = False,
    rule: str = "mean",
    scheme: str = "boost_corr",
    per_level: int = 4,
    weighting: str = "bins",
    frame_scale: np.ndarray | None = None,
    age_windows: int = 5,
    average: int = 1,
) -> Arrays:
    """The product of frames (t, y, x) as selected and summed up, without bad frames and dead pixels."""
    valid = ~np.isin(np.arange(len(frames)), list(bad))
    labels = partition.dynamic_roi_map.copy()
    for place in dead:
        labels[place] = 0
    found: dict[str, list[np.ndarray]] = {}
    for label in range(1, len(partition.dynamic_q_list) + 1):
        counts, bins = frames[:, labels == label].astype(np.float64), partition.static_roi_map[labels == label]
        intensity = counts.mean(axis=1)
        c2 = c2_truth(counts, bins if static else np.ones_like(bins), valid)
        weight = intensity if rule == "ratio" else np.ones(len(frames))
        length = len(frames) // min(age_windows, len(frames))
        squares = [slice(i * length, (i + 1) * length) for i in range(min(age_windows, len(frames)))]
        in_windows = [g2_of_c2(c2[inside, inside], weight[inside]) for inside in squares]
        scaled = counts if frame_scale is None else counts * frame_scale[:, np.newaxis]
        lags = lags_truth(len(frames), scheme, per_level)
        g2 = [g2_truth(scaled, bins, lag, level, valid, weighting) for lag, level in lags]
        one = {
            "c2": c2,
            "g2": [value for value, _ in g2],
            "g2_err": [error for _, error in g2],
            "g2_c2": g2_of_c2(c2, weight)[0],
            "g2_c2_err": g2_of_c2(c2, weight)[1],
            "g2_window": [g2 for g2, _ in in_windows],
            "g2_window_err": [error for _, error in in_windows],
            "intensity": np.where(valid, intensity, np.nan) / average,
            "num_pixels": counts.shape[1],
        }
        for name, values in one.items():
            found.setdefault(name, []).append(np.asarray(values))
    arrays = {name: np.stack(values) for name, values in found.items()}
    return arrays | _saxs_truth(frames / average, np.where(labels, partition.static_roi_map, 0), valid)


def c2_truth(counts: np.ndarray, bins: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """(t, t) of counts (t, p), each divided by the mean of its static bin in that frame; one bin is the plain way."""
    x = counts.copy()
    for label in np.unique(bins):
        mean = x[:, bins == label].mean(axis=1, keepdims=True)
        x[:, bins == label] /= np.where(mean > 0, mean, 1)
    total = np.where(valid & (x.sum(axis=1) > 0), x.sum(axis=1), np.nan)
    return x.shape[1] * (x @ x.T) / np.outer(total, total)


def g2_of_c2(c2: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means of the diagonals of C2 and their errors, (t - 1,)."""
    lines: list[tuple[float, float]] = []
    for lag in range(1, len(c2)):
        c, w = np.diagonal(c2, lag), weight[:-lag] * weight[lag:]
        c, w = c[np.isfinite(c)], w[np.isfinite(c)]
        mean = (w * c).sum() / w.sum() if len(c) else np.nan
        spread = np.sqrt(len(c) / (len(c) - 1) * ((w * (c - mean)) ** 2).sum()) / w.sum() if len(c) > 1 else np.nan
        lines.append((mean, spread))
    g2, g2_err = np.reshape(lines, (-1, 2)).T
    return g2, g2_err


def lags_truth(num_frames: int, scheme: str, per_level: int) -> list[tuple[int, int]]:
    """(lag, level): up to the first lag without a pair."""
    n, found, level = per_level, [], 0
    while True:
        every = range(1, 2 * n + 1) if scheme == "boost_corr" else range(1, 2 * n)
        for steps in every if level == 0 else every[-n:]:
            if steps >= num_frames >> level:
                return found
            found.append((steps << level, level))
        level += 1


def g2_truth(
    counts: np.ndarray, bins: np.ndarray, lag: int, level: int, valid: np.ndarray, weighting: str
) -> tuple[float, float]:
    """Multi-tau g2 of one lag and its error: mean over static bins, scatter over pixels."""
    num, steps = len(counts) >> level, lag >> level
    sums = counts[: num << level].reshape(num, 1 << level, -1).sum(axis=1)
    good = valid[: num << level].reshape(num, 1 << level).all(axis=1)
    pairs = good[:-steps] & good[steps:]
    if not pairs.any():
        return np.nan, np.nan
    past, future = sums[:-steps][pairs], sums[steps:][pairs]
    product, past, future = (past * future).mean(axis=0), past.mean(axis=0), future.mean(axis=0)
    ratios, sizes = [], []
    for label in np.unique(bins):
        here = bins == label
        if past[here].any() and future[here].any():
            ratios.append(product[here].mean() / (past[here].mean() * future[here].mean()))
            sizes.append(here.sum() if weighting == "pixels" else 1)
    lit = (past > 0) & (future > 0)
    single = product[lit] / (past[lit] * future[lit])
    error = single.std(ddof=1) / np.sqrt(lit.sum()) if lit.sum() > 1 else np.nan
    return float(np.average(ratios, weights=sizes)) if ratios else np.nan, float(error)


def _saxs_truth(frames: np.ndarray, bins: np.ndarray, valid: np.ndarray) -> Arrays:
    """Mean images and profiles over the valid frames."""
    edges = np.linspace(0, len(frames), 11).astype(int)
    segments = [frames[a:b][valid[a:b]] for a, b in itertools.pairwise(edges.tolist())]
    labels = range(1, bins.max() + 1)

    def profile(chosen: np.ndarray) -> np.ndarray:
        return np.array([chosen[:, bins == label].mean() if len(chosen) else np.nan for label in labels])

    return {
        "saxs_2d": np.where(bins > 0, frames[valid].mean(axis=0), np.nan),
        "saxs_1d": profile(frames[valid]),
        "saxs_1d_segments": np.array([profile(segment) for segment in segments]),
    }


def photons(num_frames: int, seed: int = 0, brightest: int = 100) -> np.ndarray:
    """Simulated counts (t, y, x) uint16, many at low q and few at high q, with one bright count late in the scan."""
    rng = np.random.default_rng(seed)
    q = GEOMETRY.q_map(*SHAPE)
    mean = 3 * np.exp(-7 * q / q.max())
    frames = np.minimum(
        rng.poisson(mean * rng.gamma(2, 0.5, (num_frames // 8 + 1, *SHAPE)).repeat(8, 0)[:num_frames]), 40
    )
    frames[-num_frames // 5, 16, 12] = brightest
    return frames.astype(np.uint16)
