"""A window of C2 in cells of (log lag, age): coordinates in which another time scale is a shift, and no more.

The lags count in half decays of the window's own g2, the values in its own contrast, so that what is left is how the
sample moves: not how fast, how strong its speckle is, how long the window, or how many frames it has. Half decay and
contrast are numbers beside the cells.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.types import CELLS

Floats = NDArray[np.float64]

NUM_CHANNELS, NUM_LAGS, NUM_AGES = CELLS
PER_OCTAVE = 6
"""Cells to an octave of lag."""
LOWEST_OCTAVE = -4
"""The first lag of the cells, in octaves of the half decay; with 60 lags the last is 6 octaves above it."""

_WIDEST = 2
"""Cells to either side over which g2 is smoothed to find its half decay."""
_TRUSTED = 0.75
"""Share of the log lags, from the least, where the contrast is sought: beyond are few pairs."""
_LEAST_CONTRAST = 1e-4
SURENESS_UNIT = 5.0
"""Sureness is ln(1 + contrast / error of the mean) in this unit."""


class Cells(NamedTuple):
    """Cells of a window, and the numbers that were taken out of them."""

    values: NDArray[np.float32]
    """(3, lag, age). 0: mean of (C2 - 1) / contrast; 1: spread of the same within the cell beyond its noise; 2:
    ln(1 + 1 / error of the mean) / 5 (the error in contrasts), and 0 where the window has no entry."""
    contrast: float
    """The highest level of the smoothed g2 - 1, less its error; at least 1e-4."""
    half_decay: float
    """Lag, in frames, at which g2 - 1 has fallen to half of the contrast; beyond the window where it never does."""
    half_decay_err: float
    """Its standard error, in frames; NaN where g2 stays above the half within the window."""
    signal_to_noise: float
    """The highest level of the smoothed g2 - 1 in units of its error."""


class Lines(NamedTuple):
    """A window on its own grid of log lags, of which cell k holds the lags 2^(k/6 - 1) .. 2^((k+1)/6 - 1)."""

    mean: Floats
    """(lag, age)."""
    error: Floats
    """(lag, age), infinite where there is no entry."""
    excess: Floats
    """(lag, age): variance within the cell beyond that of the noise."""
    g2: Floats
    """(lag,), less 1."""
    g2_err: Floats
    """(lag,), infinite where there is no entry."""


def cells(c2: NDArray[np.floating[Any]]) -> Cells:
    """The cells of a window of C2.

    Parameters
    ----------
    c2 : (w, w) array of floats
        Symmetric, baseline 1, w >= 4; only the triangle above the diagonal is read. Entries that are not finite carry
        no weight.

    Returns
    -------
    Cells

    Notes
    -----
    Each lag l covers l - 1/2 .. l + 1/2 on the logarithmic grid, so that cells narrower than a lag are no gaps. The
    noise of an entry is half of the mean squared difference of neighbours along the diagonal (von Neumann, Ann. Math.
    Stat. 12, 367, 1941), which slow changes with age leave alone.
    """
    lines = lines_of(lag_sums(c2))
    contrast, place, place_err, signal_to_noise = _scale(lines)
    half_decay = 2.0 ** ((place + 0.5) / PER_OCTAVE - 1)
    half_decay_err = half_decay * np.log(2) / PER_OCTAVE * place_err
    return Cells(_values(lines, contrast, place), contrast, half_decay, half_decay_err, signal_to_noise)


def _values(lines: Lines, contrast: float, half_decay_place: float) -> NDArray[np.float32]:
    """The lines at lags that count from the half decay, in units of the contrast."""
    place = _places(half_decay_place)
    sureness = np.where(np.isfinite(lines.error), contrast / np.maximum(lines.error, 1e-9), 0.0)
    inside = (place >= -0.5) & (place <= len(lines.mean) - 0.5)
    sureness = np.where(inside[:, np.newaxis], _between(sureness, place), 0.0)
    mean = np.clip(_between(lines.mean, place) / contrast, -1, 2)
    spread = np.clip(np.sqrt(_between(lines.excess, place)) / contrast, 0, 2)
    known = sureness > 0
    values = np.stack([np.where(known, mean, 0), np.where(known, spread, 0), np.log1p(sureness) / SURENESS_UNIT])
    return values.astype(np.float32)


def expected_cells(c2: NDArray[np.floating[Any]], half_decay: float) -> NDArray[np.float32]:
    """Means of C2 - 1, or of anything of its form, in the cells of a window of this half decay (frames).

    Parameters
    ----------
    c2 : (w, w) array of floats
        C2 - 1 without noise.
    half_decay : float
        Frames.

    Returns
    -------
    (lag, age) float32
        Places beyond the window repeat its outermost entries.
    """
    number, total, *_ = lag_sums(c2 + 1)
    overlap = _overlaps(len(c2))
    mean = _ratio(overlap @ total, overlap @ number)
    return _between(mean, _places(PER_OCTAVE * (np.log2(half_decay) + 1) - 0.5)).astype(np.float32)


def _places(half_decay_place: float) -> Floats:
    """Places of the cells on the window's own grid."""
    first = half_decay_place + 0.5 + PER_OCTAVE * LOWEST_OCTAVE
    return np.asarray(first + np.arange(NUM_LAGS, dtype=np.float64))


def _between(rows: Floats, place: Floats) -> Floats:
    """Rows at places between them, by linear interpolation."""
    low = np.floor(place).astype(int)
    share = (place - low)[:, np.newaxis]
    below, above = (np.clip(low + step, 0, len(rows) - 1) for step in (0, 1))
    return np.asarray((1 - share) * rows[below] + share * rows[above])


def _scale(lines: Lines) -> tuple[float, float, float, float]:
    """Contrast, the place of the half decay on the grid and its error, in cells, and the signal to noise."""
    known = np.isfinite(lines.g2_err)
    if not known.any():
        return _LEAST_CONTRAST, float(len(known)), np.nan, 0.0
    level, err = smoothed(lines.g2, lines.g2_err)
    trusted = np.arange(len(level)) < max(np.flatnonzero(known)[0] + 1, int(_TRUSTED * len(level)))
    places = np.flatnonzero(known & trusted)
    surely = level - err
    top = places[np.argmax(surely[places])]
    contrast = max(float(surely[top]), _LEAST_CONTRAST)
    signal_to_noise = float(np.max((level / err)[places]))
    below = np.flatnonzero(known & (level < contrast / 2) & (np.arange(len(level)) > top))
    if not len(below):
        return contrast, float(len(level)), np.nan, signal_to_noise
    step = level[below[0] - 1] - level[below[0]]
    share = np.clip((level[below[0] - 1] - contrast / 2) / max(step, 1e-12), 0, 1)
    return contrast, below[0] - 1 + float(share), float(err[below[0]] / max(step, 1e-12)), signal_to_noise


def smoothed(g2: Floats, g2_err: Floats) -> tuple[Floats, Floats]:
    """g2 averaged with its neighbours, by its errors, and the error of that."""
    weight = np.where(np.isfinite(g2_err), 1 / np.maximum(g2_err, 1e-9) ** 2, 0.0)
    box = np.ones(2 * _WIDEST + 1)
    total = np.maximum(np.convolve(weight, box, "same"), 1e-30)
    return np.convolve(g2 * weight, box, "same") / total, 1 / np.sqrt(total)


def lines_of(sums: Floats) -> Lines:
    """The window on the grid of log lags, from its `lag_sums`."""
    number, total, squares, steps, num_steps = sums
    overlap = _overlaps(len(number) + 1)
    num = overlap @ number
    entries = num**2 / np.maximum(overlap**2 @ number, 1e-12)
    mean = _ratio(overlap @ total, num)
    variance = np.maximum(_ratio(overlap @ squares, num) - mean**2, 0)
    noise = _ratio(overlap @ steps, 2 * (overlap @ num_steps))
    noise_of_lag = _noise_of_lag(overlap @ steps.sum(axis=1), overlap @ num_steps.sum(axis=1))
    error = np.sqrt(noise_of_lag[:, np.newaxis] / np.maximum(entries, 1e-9))
    all_ages = num.sum(axis=1)
    all_entries = all_ages**2 / np.maximum((overlap**2 @ number).sum(axis=1), 1e-12)
    g2_err = np.sqrt(noise_of_lag / np.maximum(all_entries, 1e-9))
    return Lines(
        mean,
        np.where(num < 1e-9, np.inf, error),
        np.maximum(variance - noise, 0),
        (overlap @ total).sum(axis=1) / np.maximum(all_ages, 1e-12),
        np.where(all_ages < 1e-9, np.inf, g2_err),
    )


def _noise_of_lag(steps: Floats, num_steps: Floats) -> Floats:
    """Variance of an entry at each lag; lags without neighbours take it from the lags beside them."""
    noise, known = steps / np.maximum(2 * num_steps, 1e-9), np.flatnonzero(num_steps > 0.5)
    return np.interp(np.arange(len(noise)), known, noise[known]) if len(known) else noise


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 1e-9)


@lru_cache(maxsize=64)
def _overlaps(num_frames: int) -> Floats:
    """How much of each lag, 1 .. w - 1, lies in each cell of the grid of log lags, (cell, lag)."""
    num = int(np.ceil((np.log2(num_frames) + 1) * PER_OCTAVE))
    edges = 2.0 ** (np.arange(num + 1) / PER_OCTAVE - 1)
    lags = np.arange(1, num_frames)
    overlap = np.minimum(edges[1:, np.newaxis], lags + 0.5) - np.maximum(edges[:-1, np.newaxis], lags - 0.5)
    return np.asarray(np.maximum(overlap, 0.0))


def lag_sums(c2: NDArray[np.floating[Any]]) -> Floats:
    """Over the entries of each lag and strip of age: number, sum, sum of squares; of the differences of neighbours
    along the diagonal: sum of squares, number. (5, lag - 1, age)."""
    sums = np.zeros((5, len(c2) - 1, NUM_AGES))
    _gather(np.ascontiguousarray(c2, dtype=np.float32), sums)
    return sums


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _gather(c2: Any, sums: Any) -> None:
    frames, num_ages = c2.shape[0], sums.shape[2]
    for t1 in range(frames - 1):
        for t2 in range(t1 + 1, frames):
            value = c2[t1, t2] - 1.0
            if not np.isfinite(value):
                continue
            lag, age = t2 - t1 - 1, (t1 + t2 + 1) * num_ages // (2 * frames)
            sums[0, lag, age] += 1.0
            sums[1, lag, age] += value
            sums[2, lag, age] += value * value
            if t2 + 1 < frames:
                step = c2[t1 + 1, t2 + 1] - 1.0 - value
                if np.isfinite(step):
                    sums[3, lag, age] += step * step
                    sums[4, lag, age] += 1.0
