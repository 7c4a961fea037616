"""Multi-tau g2 of one q-bin, in the normalisations of boost_corr and scikit-beam, exact for integer counts."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.kernels import multitau_tiles as tiles
from ainerd_hpc.kernels.counts import Counts, Dense, Events
from ainerd_hpc.kernels.lags import Scheme, delays

Weighting = Literal["bins", "pixels"]


class Sums(NamedTuple):
    """Sums over pixels, for `add` and `finish`; arrays (2, ..) are unevaluated sums high + low.

    So kept, they are exact for integers, and the same for any order of pixels and any blocks of them.
    """

    static_bins: NDArray[np.int64]
    """(bin,) labels of the static bins."""
    num_pixels: NDArray[np.int64]
    """(bin,) pixels in each."""
    num_pairs: NDArray[np.int64]
    """(lag,) pairs of valid frames."""
    moments: NDArray[np.float64]
    """(2, bin, 3, lag): I(t) I(t+k), I(t) and I(t+k), summed over pairs and pixels."""
    num_ratios: NDArray[np.int64]
    """(lag,) pixels with photons in the past and in the future frames."""
    ratios: NDArray[np.float64]
    """(2, 2, lag): r - 1 and (r - 1)^2 summed over these pixels, r the g2 of one pixel."""


def g2(
    counts: Counts,
    static_labels: NDArray[np.integer[Any]],
    scheme: Scheme = "boost_corr",
    delays_per_level: int = 4,
    weighting: Weighting = "bins",
    *,
    valid: NDArray[np.bool_] | None = None,
    scale: NDArray[np.floating[Any]] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Multi-tau g2 of the pixels of one q-bin: `lags.delays`, `sums` and `finish` in one.

    Returns
    -------
    lag : (lag,) int64
        In frames.
    g2 : (lag,) float64
        Baseline 1.
    g2_err : (lag,) float64
        Standard error.
    """
    lag, level = delays(counts.shape[0], scheme, delays_per_level)
    return lag, *finish(sums(counts, static_labels, lag, level, valid=valid, scale=scale), weighting)


def sums(
    counts: Counts,
    static_labels: NDArray[np.integer[Any]],
    lag: NDArray[np.int64],
    level: NDArray[np.int64],
    *,
    static_bins: NDArray[np.integer[Any]] | None = None,
    valid: NDArray[np.bool_] | None = None,
    scale: NDArray[np.floating[Any]] | None = None,
) -> Sums:
    """What g2 is made of, summed over the pixels of one q-bin or of a block of it.

    I at level L are the sums of 2^L consecutive frames (leftover frames dropped), t and t + k run over all pairs of
    such frames. Of integer counts, dense or events, every sum over the frames of a pixel is exact up to 2^53, and so
    are all sums over pixels; then nothing depends on the form of the counts. Sums of other counts, and of scaled ones,
    are float64 in a fixed order.

    Parameters
    ----------
    counts : (t, p) array, or Events
        Photons, or any non-negative intensity, of the p pixels in t frames. Of an array in C order, or of some columns
        of one, no copy is made.
    static_labels : (p,) array of integers
        Static bin of each pixel, from 1, in any order; pixels with label 0 (unused) are left out.
    lag, level : (lag,) int64
        Of `lags.delays`.
    static_bins : (bin,) array of integers, optional
        All labels there are: the same for blocks that are to be added. Those of this block if None.
    valid : (t,) bool, optional
        Frames to be used. A frame of level L is valid if all its 2^L frames are; only pairs of valid frames count.
    scale : (t,) array of floats, optional
        Factor on each frame, for counts normalised by the beam.

    Raises
    ------
    ValueError
        A label is not among static_bins, a count is negative, or the lags are of no such scheme.
    """
    num_frames, num_pixels = counts.shape
    labels = np.asarray(static_labels, dtype=np.int64)
    bins = np.flatnonzero(np.bincount(labels, minlength=1)[1:]) + 1 if static_bins is None else static_bins
    index = _index_of(labels, bins)
    plan = _plan(lag, level, np.ones(num_frames, dtype=np.bool_) if valid is None else valid)
    result = _no_sums(np.array(bins, dtype=np.int64), plan.num_pairs)
    result.num_pixels[:] = np.bincount(index[index >= 0], minlength=len(bins))
    if len(lag) == 0 or num_pixels == 0:
        return result
    factor = np.ones(num_frames) if scale is None else np.array(scale, dtype=np.float64)
    totals, lanes = result.moments.reshape(2, len(bins), 3 * len(lag)), tiles.no_lanes(len(lag))
    if isinstance(counts, Events):
        pointer, time, count = _read_only(counts)
        tiles.events(pointer, time, count, index, factor, scale is None, plan, totals, lanes)
    else:
        _dense(counts, index, factor, scale is None, plan, totals, lanes)
    tiles.fold(lanes, result.num_ratios, result.ratios)
    return result


def add(one: Sums, other: Sums) -> Sums:
    """Sums over the pixels of both; they have the same static bins, lags and valid frames."""
    for ours, theirs in ((one.static_bins, other.static_bins), (one.num_pairs, other.num_pairs)):
        if not np.array_equal(ours, theirs):
            raise ValueError("expected sums of the same static bins, lags and valid frames")
    return Sums(
        one.static_bins,
        one.num_pixels + other.num_pixels,
        one.num_pairs,
        _add_pairs(one.moments, other.moments),
        one.num_ratios + other.num_ratios,
        _add_pairs(one.ratios, other.ratios),
    )


def finish(total: Sums, weighting: Weighting = "bins") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """g2 and its error, normalised symmetrically.

    With <> over all pairs of frames and all pixels of a static bin, each bin has <I(t) I(t+k)> / (<I(t)> <I(t+k)>), and
    g2 is the mean over the static bins: with weighting "bins" all count alike (boost_corr), with "pixels" by their
    number of pixels. With all pixels in one static bin this is scikit-beam's g2.

    Returns
    -------
    g2 : (lag,) float64
        Baseline 1. Static bins without photons (in the past or the future frames) are left out; NaN where none is left.
    g2_err : (lag,) float64
        std(r, ddof 1) / sqrt(N) over the N pixels with photons in both, r the g2 of a pixel; NaN for N < 2. Good to
        1e-8 of the mean of r - 1: pixels that are all alike may have that instead of 0.

    References
    ----------
    boost_corr (Argonne), multitau.py, whose sums are bfloat16 and float32; scikit-beam, core.correlation.
    """
    product, past, future = np.moveaxis(total.moments.sum(axis=0), 1, 0)
    norm, sizes = past * future, total.num_pixels[:, np.newaxis]
    ratio = np.divide(product * (total.num_pairs * sizes), norm, out=np.zeros_like(norm), where=norm > 0)
    weights = (norm > 0) * (sizes if weighting == "pixels" else 1)
    num, (first, second) = total.num_ratios, total.ratios.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (second - first**2 / num) / np.where(num > 1, num - 1, np.nan)
        return (weights * ratio).sum(axis=0) / weights.sum(axis=0), np.sqrt(np.maximum(variance, 0) / num)


def _index_of(labels: NDArray[np.int64], static_bins: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Position of each label among the static bins; -1 for label 0."""
    table = np.full(max(labels.max(initial=0), np.max(static_bins, initial=0)) + 1, -2)
    table[static_bins] = np.arange(len(static_bins))
    table[0] = -1
    index: NDArray[np.int64] = table[labels]
    if (index == -2).any():
        raise ValueError(f"expected labels among the static bins, found {labels[index == -2][0]}")
    return index


def _plan(lag: NDArray[np.int64], level: NDArray[np.int64], valid: NDArray[np.bool_]) -> tiles.Plan:
    levels = np.arange(level[-1] + 1 if len(level) else 0)
    begin, steps, num_frames = np.searchsorted(level, levels), lag >> level, len(valid) >> levels
    expected = steps[begin[level]] + np.arange(len(lag)) - begin[level]
    if not (np.array_equal(lag, expected << level) and (steps > 0).all() and (steps < num_frames[level]).all()):
        raise ValueError(f"expected lags of a multi-tau scheme, found {lag.tolist()} at levels {level.tolist()}")
    margin = tiles.MARGIN + steps.max(initial=0)
    row = margin + np.cumsum(num_frames + margin) - num_frames - margin
    plan = tiles.Plan(
        first=steps[begin],
        num=np.bincount(level, minlength=len(levels)),
        begin=begin,
        num_frames=num_frames,
        margin=margin,
        row=row,
        valid=np.zeros(margin + (num_frames + margin).sum(), dtype=np.bool_),
        inner=np.zeros(margin + (num_frames + margin).sum(), dtype=np.bool_),
        num_pairs=np.zeros(len(lag), dtype=np.int64),
    )
    tiles.relate(np.array(valid, dtype=np.bool_), plan)
    return plan


def _no_sums(static_bins: NDArray[np.int64], num_pairs: NDArray[np.int64]) -> Sums:
    num_bins, num_lags = len(static_bins), len(num_pairs)
    return Sums(
        static_bins,
        np.zeros(num_bins, dtype=np.int64),
        num_pairs,
        np.zeros((2, num_bins, 3, num_lags)),
        np.zeros(num_lags, dtype=np.int64),
        np.zeros((2, 2, num_lags)),
    )


def _add_pairs(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    result = one.copy()
    tiles.add_terms(result.reshape(2, -1), other[0].reshape(-1))
    result[1] += other[1]
    return result


def _dense(counts: Dense, index: Any, scale: Any, unscaled: bool, plan: tiles.Plan, totals: Any, lanes: Any) -> None:
    """Hand counts to the engine as one flat array, of few types only, so that few are compiled."""
    kind, dtype = counts.dtype.kind, counts.dtype.newbyteorder("=")
    stride, rest = divmod(counts.strides[0], counts.itemsize)
    if counts.dtype != dtype or counts.strides[1] != counts.itemsize or rest or stride < 0:
        counts, stride = np.ascontiguousarray(counts, dtype=dtype), counts.shape[1]
    flat = counts.view(f"u{counts.itemsize}") if kind in "ib" else counts
    size = (len(counts) - 1) * stride + counts.shape[1]
    flat = np.lib.stride_tricks.as_strided(flat, (size,), (counts.itemsize,), writeable=False)
    whole = kind in "iub"
    largest = tiles.dense(flat, stride, index, scale, whole, whole and unscaled, plan, totals, lanes)
    if kind == "i" and largest > np.iinfo(dtype).max:
        raise ValueError("expected counts, found negative ones")


def _read_only(events: Events) -> tuple[NDArray[Any], ...]:
    """Views that have one type for numba, wherever the arrays come from."""
    arrays = events.pointer.view(), events.time.view(), events.count.view()
    for array in arrays:
        array.flags.writeable = False
    return arrays
