"""Controls that chance alone made, and p-values against them.

The maps of a scan share what happened in it, so what is moved about are whole scans, never maps. Two kinds: scans
in any order, where scans are exchangeable; and the order kept but shifted, as on a ring, where both sides drift slowly:
any two drifts go with one another, and only a shift keeps them drifting.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Order = NDArray[np.int64]
Floats = NDArray[np.float64]

NUM_CONTROLS = 999
_FEWER = {50_000: 199, 200_000: 99}
"""Units above which there are so many controls only: each costs as much as the units are many."""
_ROUNDING, _DIGITS = 1e-12, 7
"""Shares, and decimals of spreads, in which equal statistics that are summed in another order may differ."""


def number(num_units: int) -> int:
    """How many controls are made of so many units."""
    return min([NUM_CONTROLS, *(num for many, num in _FEWER.items() if num_units > many)])


def permutations(num_units: int, seed: int = 0) -> Iterator[Order]:
    """Units in random orders: `number` of them, (n,) each; the same seed, the same orders."""
    chance = np.random.default_rng(seed)
    for _ in range(number(num_units)):
        yield chance.permutation(num_units)


def shifts(num_units: int) -> NDArray[np.int64]:
    """Shifts of a ring of units, 0 left out: all of them, or `number` of them, evenly spaced."""
    return np.unique(np.linspace(1, num_units - 1, min(num_units - 1, number(num_units))).astype(np.int64))


def shifted(num_units: int) -> Iterator[Order]:
    """Units in their own order, which begins elsewhere on the ring: one for each of `shifts`."""
    for by in shifts(num_units):
        yield np.roll(np.arange(num_units), by)


def corrected(statistics: Floats) -> Floats:
    """p-values of several statistics, corrected for their number by the most unlikely of them.

    Each is ranked among its own controls, equal ranks by how many spreads it is above them, and compared with the best
    one of every control (Westfall and Young, Resampling-Based Multiple Testing, 1993). Statistics that depend on each
    other, as columns of a log and clusters do, are corrected for as many as they are worth. Rules for p-values one by
    one (Benjamini and Hochberg) could never reject with a hundred statistics and 999 controls, since none of them is
    below 1/1000.

    Parameters
    ----------
    statistics : (1 + controls, m)
        The observed ones first; large ones speak against chance. NaN: there is none.

    Returns
    -------
    (m,)
        The least possible is 1 / (1 + controls); NaN where the controls do not differ.
    """
    spread = statistics.std(axis=0)
    differ = spread > _ROUNDING * np.abs(statistics).max(axis=0, initial=0)
    p = np.full(statistics.shape[1], np.nan)
    if differ.any():
        known = statistics[:, differ]
        scaled = np.round((known - known.mean(axis=0)) / spread[differ], _DIGITS)
        score = rankdata(scaled, method="min", axis=0) + np.tanh(scaled / len(scaled)) / 2
        p[differ] = np.mean(score.max(axis=1, keepdims=True) >= score[0], axis=0)
    return p
