"""Corrections of counts: dark and flat images, values that are no counts, hot pixels, frames out of line.

Hot pixels and frames out of line are what lies further from a median than robust noise and chance allow. The noise is
1.4826 median(|x - median|), the standard deviation of normal noise. Chance is that of photons: of Poisson counts of
mean m, less than exp(-k^2 / 2) lie above m + k sqrt(m) + k^2 / 6, and m < median + ln 2.

References
----------
Boucheron, Lugosi, Massart, Concentration Inequalities (2013), sections 2.4 and 2.8, for the tail; Choi, Proc. Amer.
Math. Soc. 121, 245 (1994), for the median.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from math import ceil, floor, isfinite
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.kernels.counts import Dense
from ainerd_hpc.kernels.gather import FrameEvents, dead_value
from ainerd_hpc.kernels.no_counts import Span, first_dead

SMALLEST_BIN = 8
"""Pixels of a static bin from which on its own pixels tell its noise."""
WINDOW = 101
"""Frames of the running median."""
_NORMAL = 1.4826
"""Standard deviation of normal noise by its median absolute deviation."""


def correct(
    counts: Dense, dark: NDArray[np.float64], flat: NDArray[np.float64], threshold: float | None = None
) -> NDArray[np.float64]:
    """(counts - dark) / flat of counts (..., p), dark and flat (p,); differences below the threshold are 0."""
    corrected: NDArray[np.float64] = np.subtract(counts, dark, dtype=np.float64)
    if threshold is not None:
        corrected[corrected < threshold] = 0
    corrected /= flat
    return corrected


def mark(frames: Dense, no_counts: Collection[Span]) -> Dense:
    """Frames with the dead value of their type (NaN for floats) in place of the values in spans that are no counts."""
    if not any(_is_within(frames, span) for span in no_counts):
        return frames
    is_marked = np.zeros(frames.shape, dtype=np.bool_)
    for first, last in no_counts:
        if last == np.inf:
            is_marked |= frames >= first
        elif first == -np.inf:
            is_marked |= frames <= last
        else:
            is_marked |= frames == first if first == last else (frames >= first) & (frames <= last)
    if not is_marked.any():
        return frames
    return np.where(is_marked, frames.dtype.type(dead_value(frames.dtype)), frames)


def _is_within(frames: Dense, span: Span) -> bool:
    """Whether there is a count in a span; those that are none anyway, as gaps have in every frame, are passed over."""
    one, (least, most) = frames.dtype.type, span
    if frames.dtype.kind != "f":
        least, most = ceil(max(least, 0)) if isfinite(least) else 0, floor(min(most, first_dead(frames.dtype) - 1))
    return least <= most and bool(_any_within(frames.ravel(), one(least), one(most)))


def has_marked(events: FrameEvents, num_pixels: int, no_counts: Collection[Span]) -> bool:
    """Whether `mark` would mark any of the counts that these events are of."""
    spans, total = np.array(list(no_counts), dtype=np.float64).reshape(-1, 2), np.zeros(num_pixels, dtype=np.int64)
    return bool(_has_marked(events.pixel, events.count, events.stops, total, spans))


def hot_pixels(
    sums: NDArray[Any], bounds: NDArray[np.int64], static_labels: NDArray[np.integer[Any]], threshold: float
) -> NDArray[np.bool_]:
    """Pixels that are brighter than their like by more than `threshold` standard deviations, and than chance.

    They are looked for twice: the second time without those found, which no longer widen the noise.

    Parameters
    ----------
    sums : (p,) array
        Counts of each pixel in all frames.
    bounds : (q_bin + 1,) int64
        First pixel of each q-bin, and the end of the last.
    static_labels : (p,) array of integers
        The pixels of a static bin lie side by side. They are alike where there are `SMALLEST_BIN` or more, else the
        pixels of the q-bin are.
    threshold : float

    Returns
    -------
    (p,) bool
    """
    is_hot = np.zeros(len(sums), dtype=np.bool_)
    edges = np.union1d(bounds, np.flatnonzero(np.diff(static_labels)) + 1)
    for _ in range(2):
        limits = np.full(len(sums), np.inf)
        for inside in _pieces(bounds):
            limits[inside] = _limit(sums[inside][~is_hot[inside]], threshold)
        for inside in _pieces(edges):
            others = sums[inside][~is_hot[inside]]
            if len(others) >= SMALLEST_BIN:
                limits[inside] = _limit(others, threshold)
        is_hot |= sums > limits
    return is_hot


def outlying_frames(totals: NDArray[Any], threshold: float) -> NDArray[np.bool_]:
    """Frames whose total (t,) is off the running median by more than `threshold` standard deviations, and than chance.

    The median is that of 101 frames around, mirrored at the ends: half as many bad frames in a row hide it.
    """
    if len(totals) == 0:
        return np.zeros(0, dtype=np.bool_)
    from scipy.ndimage import median_filter

    beyond = WINDOW // 2
    padded = np.pad(np.asarray(totals, dtype=np.float64), beyond, mode="symmetric")
    middle = median_filter(padded, WINDOW)[beyond:-beyond]
    residual = totals - middle
    return np.asarray(np.abs(residual) > np.maximum(threshold * _noise(residual), _chance(middle, threshold)))


def _pieces(bounds: NDArray[Any]) -> list[slice]:
    return [slice(int(start), int(stop)) for start, stop in pairwise(bounds) if stop > start]


def _limit(values: NDArray[Any], threshold: float) -> float:
    if len(values) == 0:
        return np.inf
    middle = float(np.median(values))
    return middle + max(threshold * _noise(values), float(_chance(middle, threshold)))


def _noise(values: NDArray[Any]) -> float:
    return _NORMAL * float(np.median(np.abs(values - np.median(values))))


def _chance(median: Any, threshold: float) -> Any:
    """How far above the median photons come by chance."""
    above = np.log(2)
    mean = np.maximum(median, 0) + above
    return above + threshold * np.sqrt(mean) + threshold**2 / 6


@numba.njit(nogil=True, cache=True)
def _any_within(values: Any, least: Any, most: Any) -> bool:
    """No branch in the loop, so that it is vectorised."""
    found = False
    for place in range(values.size):
        found |= (values[place] >= least) & (values[place] <= most)
    return found


@numba.njit(nogil=True, cache=True)
def _has_marked(pixel: Any, count: Any, stops: Any, total: Any, spans: Any) -> bool:
    """total (p,) is 0; events of one pixel in one frame add up."""
    first = 0
    for stop in stops:
        for event in range(first, stop):
            total[pixel[event]] += count[event]
        for event in range(first, stop):
            value = total[pixel[event]]
            for span in range(len(spans)):
                if spans[span, 0] <= value <= spans[span, 1]:
                    return True
        for event in range(first, stop):
            total[pixel[event]] = 0
        first = stop
    return False
