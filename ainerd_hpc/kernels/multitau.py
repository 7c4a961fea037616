"""Multi-tau g2 of one q-bin, in the scheme and with the normalisation of boost_corr."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.kernels.twotime import Counts, mean_and_error

_PIXELS_PER_BLOCK = 1024  # float64 copies of 1024 pixel series at a time: 8 MB for 1000 frames


def delays(num_frames: int, delays_per_level: int = 4) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lags of the multi-tau scheme.

    With n = delays_per_level: 1..2n at level 0, then x 2^L for x = n+1..2n at level L, as long as x is below the number
    of frames at that level, floor(num_frames / 2^L).

    Returns
    -------
    lag : (lag,) int64
        In frames, ascending.
    level : (lag,) int64
        Level at which it is measured: frames there are sums of 2^level frames.

    References
    ----------
    boost_corr, help_functions.gen_tau_bin; Schätzel, Quantum Opt. 2, 287 (1990).
    """
    pairs = list(_delays(num_frames, delays_per_level))
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _delays(num_frames: int, delays_per_level: int) -> Iterator[tuple[int, int]]:
    level, first = 0, 1
    while True:
        for steps in range(first, 2 * delays_per_level + 1):
            if steps >= num_frames >> level:
                return
            yield steps << level, level
        level, first = level + 1, delays_per_level + 1


def g2(
    counts: Counts, static_labels: NDArray[np.integer[Any]], delays_per_level: int = 4
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Multi-tau g2 of the pixels of one q-bin, normalised symmetrically.

    With I at level L the sums of 2^L consecutive frames (leftover frames dropped), k the lag in such frames, and <>_t
    over all pairs: G = <I(t) I(t+k)>_t, IP = <I(t)>_t, IF = <I(t+k)>_t for each pixel, and g2 is the unweighted mean
    over the static bins S of <G>_S / (<IP>_S <IF>_S).

    Sums are float64 in a fixed order; for integer counts those over frames are exact.

    Parameters
    ----------
    counts : (t, p) array of integers or floats
        Photons, or any non-negative intensity, of the p valid pixels of the q-bin in t frames.
    static_labels : (p,) array of integers
        Static bin of each pixel, from 1; pixels with label 0 (unused) are left out.
    delays_per_level : int
        Lags in a level.

    Returns
    -------
    lag : (lag,) int64
        In frames, see `delays`.
    g2 : (lag,) float64
        Baseline 1. Static bins without photons (in the past or the future frames) are left out; NaN where none is left.
    g2_err : (lag,) float64
        Standard error over the N pixels with IP IF > 0: std(G / (IP IF), ddof 1) / sqrt(N); NaN for N < 2.

    References
    ----------
    boost_corr (Argonne), multitau.py, whose sums are bfloat16 and float32.
    """
    lag, level = delays(len(counts), delays_per_level)
    used = np.flatnonzero(static_labels > 0)
    order = used[np.argsort(static_labels[used], kind="stable")]
    starts = np.flatnonzero(np.diff(static_labels[order], prepend=0))
    moments = np.empty((3, len(lag), len(order)))
    for start in range(0, len(order), _PIXELS_PER_BLOCK):
        block = slice(start, start + _PIXELS_PER_BLOCK)
        _moments(counts[:, order[block]].astype(np.float64), lag, level, moments[:, :, block])
    _, g2_err = mean_and_error(_normalised(moments))
    return lag, _mean_over_bins(moments, starts), g2_err


def _moments(
    frames: NDArray[np.float64], lag: NDArray[np.int64], level: NDArray[np.int64], out: NDArray[np.float64]
) -> None:
    """Fill out (3, lag, p) with G, IP, IF from frames (t, p) of level 0."""
    current = 0
    for index in range(len(lag)):
        if level[index] > current:  # levels ascend by one
            current += 1
            frames = frames[: len(frames) // 2 * 2].reshape(-1, 2, frames.shape[1]).sum(axis=1)
        steps = int(lag[index]) >> current
        past, future = frames[:-steps], frames[steps:]
        out[0, index] = np.einsum("tp,tp->p", past, future) / len(past)
        out[1, index] = past.mean(axis=0)
        out[2, index] = future.mean(axis=0)


def _mean_over_bins(moments: NDArray[np.float64], starts: NDArray[np.intp]) -> NDArray[np.float64]:
    """g2 (lag,) from G, IP, IF (3, lag, p), pixels sorted by static bin, bins beginning at starts."""
    if len(starts) == 0:
        return np.full(moments.shape[1], np.nan)
    sizes = np.diff(starts, append=moments.shape[2])
    return mean_and_error(_normalised(np.add.reduceat(moments, starts, axis=2) / sizes))[0]


def _normalised(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """G / (IP IF), (n, lag), of n pixels or bins, from (3, lag, n); NaN where there were no photons."""
    product, past, future = moments
    norm = past * future
    ratio: NDArray[np.float64] = np.divide(product, norm, out=np.full_like(norm, np.nan), where=norm > 0)
    return ratio.T
