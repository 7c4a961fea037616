"""The definitions of every side of the comparison, in float64, for one ring; written to be read, not to be fast."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from ainerd_hpc.formats.partitions.partition import read_partition


def ring_counts(scan: Path, ring: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts (t, p) float64 and static labels (p,) of the pixels of one ring, numbered from 0."""
    partition = read_partition(scan / "scan_qmap.hdf")
    chosen = partition.dynamic_roi_map == ring + 1
    with h5py.File(scan / "scan.h5", "r") as file:
        counts = np.concatenate([frame[chosen][None] for frame in file["entry/data/data"]])
    return counts.astype(np.float64), partition.static_roi_map[chosen]


def c2_plain(counts: np.ndarray, static: np.ndarray) -> np.ndarray:
    """<I1 I2> / (<I1> <I2>), means over the pixels: (t, t)."""
    mean = counts.mean(axis=1)
    mean[mean == 0] = np.nan
    return counts @ counts.T / counts.shape[1] / np.outer(mean, mean)


def c2_sqmap(counts: np.ndarray, static: np.ndarray) -> np.ndarray:
    """The same of counts divided by the mean of their static bin in their frame (by 1 where that is 0): boost_corr."""
    smooth = counts.copy()
    for label in np.unique(static):
        mean = counts[:, static == label].mean(axis=1, keepdims=True)
        smooth[:, static == label] /= np.where(mean > 0, mean, 1)
    return c2_plain(smooth, static)


def g2_static(counts: np.ndarray, static: np.ndarray) -> np.ndarray:
    """Multi-tau of boost_corr, 4 delays a level: mean over static bins S of <G>_S / (<IP>_S <IF>_S)."""
    values, frames, level = [], counts, 0
    steps = range(1, 9)
    while len(frames) > steps[0]:
        for step in (step for step in steps if step < len(frames)):
            past, future = frames[:-step], frames[step:]
            means = [_by_label(x, static) for x in ((past * future).mean(0), past.mean(0), future.mean(0))]
            values.append(np.mean(means[0] / (means[1] * means[2])))
        if len(frames) < steps[-1] + 1:
            break
        frames, level, steps = _binned(frames), level + 1, range(5, 9)
    return np.array(values)


def g2_dynamic(counts: np.ndarray, static: np.ndarray) -> np.ndarray:
    """Multi-tau of scikit-beam, 8 buffers: ratio of means over pixels and frames; lags 0..7, then 4..7 times 2^L."""
    values, frames = [], counts
    steps = range(8)
    while len(frames) > steps[0]:
        for step in (step for step in steps if step < len(frames)):
            past, future = frames[: len(frames) - step], frames[step:]
            values.append((past * future).mean() / (past.mean() * future.mean()))
        frames, steps = _binned(frames), range(4, 8)
    return np.array(values)


def g2_every_lag(counts: np.ndarray, static: np.ndarray) -> np.ndarray:
    """Sum over t of <I(t) I(t+k)> / sum of <I(t)> <I(t+k)>, k = 1..t-1: xpcs-correlator."""
    product, mean = counts @ counts.T / counts.shape[1], counts.mean(axis=1)
    norm = np.outer(mean, mean)
    return np.array([np.trace(product, k) / np.trace(norm, k) for k in range(1, len(counts))])


def _binned(frames: np.ndarray) -> np.ndarray:
    """Means of two frames; a last odd one is dropped."""
    return frames[: len(frames) // 2 * 2].reshape(-1, 2, frames.shape[1]).mean(axis=1)


def _by_label(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.array([values[labels == label].mean() for label in np.unique(labels)])


def deviation(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest |found - expected| / max(1, |expected|), where `expected` is a number: each has its own rule for frames
    without photons. Of C2 (t, t) above the diagonal only: some fill no more.
    """
    chosen = np.isfinite(expected)
    if expected.ndim == 2:
        chosen &= np.tri(len(expected), dtype=bool).T & ~np.eye(len(expected), dtype=bool)
    error = np.abs(found[chosen] - expected[chosen]) / np.maximum(1, np.abs(expected[chosen]))
    return float(error.max(initial=0))
