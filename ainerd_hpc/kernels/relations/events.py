"""Sudden steps of a log, and whether labels of maps change where they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from ainerd_hpc.kernels.relations.controls import Floats, shifts

NUM_SIGMA, NUM_NEAR = 5.0, 51
"""A step is sudden beyond so many robust standard deviations of so many steps around it."""
_BESIDE = 5
"""Values on either side that have to differ as well: a spike comes back."""


_LEVEL = 3
"""Values whose mean is a level."""


class Steps(NamedTuple):
    """Sudden steps of a log, (e,) each."""

    start: Floats
    """Time of the last value before it, s."""
    stop: Floats
    """Time of the first value after it, s."""
    size: Floats
    """Value after it less that before it: drops are negative."""

    @property
    def time(self) -> Floats:
        """Middle of each, s."""
        return (self.start + self.stop) / 2


def sudden_steps(time: Floats, values: Floats) -> Steps:
    """Steps from one value to the next that are beyond what the steps around them are, and last.

    A step is sudden if it differs from the median of the 51 steps around it by more than 5 robust standard deviations
    of these (1.4826 times their median absolute deviation). Sudden steps in one direction that follow each other are
    one. It lasts if the medians of the five values before and after it differ by more than these deviations as well.

    Parameters
    ----------
    time, values : (n,)
        In the order of time; NaN values are passed over.
    """
    known = np.isfinite(values)
    time, values = time[known], values[known]
    step = np.diff(values)
    if not len(step):
        return Steps(*np.empty((3, 0)))
    beyond = step - median_filter(step, NUM_NEAR, mode="reflect")
    sigma = 1.4826 * median_filter(np.abs(beyond), NUM_NEAR, mode="reflect")
    sign = np.where(np.abs(beyond) > NUM_SIGMA * sigma, np.sign(beyond), 0)
    first = np.flatnonzero((sign != 0) & (sign != np.append(0, sign[:-1])))
    last = np.flatnonzero((sign != 0) & (sign != np.append(sign[1:], 0))) + 1
    size, least = values[last] - values[first], NUM_SIGMA * sigma[first]
    before = np.array([np.median(values[max(0, i + 1 - _BESIDE) : i + 1]) for i in first])
    after = np.array([np.median(values[i : i + _BESIDE]) for i in last])
    lasts = (after - before) * np.sign(size) > least
    return Steps(time[first][lasts], time[last][lasts], size[lasts])


def level_shifts(values: Floats) -> Floats:
    """Change of the level of values (n,) from each to the next, (n - 1,): mean of the three after less three before.

    NaN values are passed over, and there are fewer at the ends; 0 where none is known on a side.
    """
    after, before = _trailing_means(values[::-1])[::-1], _trailing_means(values)
    found: Floats = np.nan_to_num(after[1:] - before[:-1])
    return found


def _trailing_means(values: Floats) -> Floats:
    """Mean of each value and the two before it that are known."""
    known = np.isfinite(values)
    sums, numbers = (
        np.convolve(part, np.ones(_LEVEL), "full")[: len(values)] for part in (np.where(known, values, 0.0), known)
    )
    means: Floats = np.divide(sums, numbers, out=np.full(len(values), np.nan), where=numbers > 0)
    return means


def far_from_change(changed: NDArray[np.bool_]) -> Floats:
    """Intervals from each interval to the nearest one in which a label changes, (n,), the mean over all sequences.

    Parameters
    ----------
    changed : (n, s)
        Whether the label of each of s sequences (q-bins) changes in an interval. Those that never change are left out.
    """
    changed = changed[:, changed.any(axis=0)]
    if not changed.size:
        return np.full(len(changed), np.nan)
    place = np.arange(len(changed))[:, None]
    before = np.maximum.accumulate(np.where(changed, place, -len(changed)), axis=0)
    after = np.minimum.accumulate(np.where(changed, place, 2 * len(changed))[::-1], axis=0)[::-1]
    distance: Floats = np.minimum(place - before, after - place).mean(axis=1)
    return distance


def at_shifts(values: Floats, places: NDArray[np.int64]) -> Floats:
    """Values (n,) at places (e,) of a ring of intervals: as they are, then shifted by each of `controls.shifts`.

    Returns
    -------
    (1 + shifts, e)
    """
    by = np.append(0, shifts(len(values))) if len(values) > 1 else np.zeros(1, np.int64)
    found: Floats = values[(places[None] + by[:, None]) % len(values)]
    return found
