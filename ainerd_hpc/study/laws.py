"""Laws of scaling, fitted to speed-ups: Amdahl's, and Gunther's universal scalability law (USL).

Amdahl: S(n) = 1 / (s + (1 - s) / n); s is what does not scale (AFIPS Conf. Proc. 30, 483, 1967).
USL: S(n) = n / (1 + s (n - 1) + k n (n - 1)); k is what grows with pairs of workers (Gunther, Guerrilla Capacity
Planning, 2007).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_RESAMPLES = 300


class Law(NamedTuple):
    """A law, fitted."""

    name: str
    parameters: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    """Where 95 % of the fits to resampled runs lie, of each parameter."""

    def speedup(self, workers: Array) -> Array:
        """Speed-up with so many workers, (n,)."""
        return LAWS[self.name](workers, *self.parameters)

    def __str__(self) -> str:
        names = ("s", "k")
        parts = zip(names, self.parameters, self.intervals, strict=False)
        return f"{self.name}: " + ", ".join(f"{name} {value:.3f} ({a:.3f} to {b:.3f})" for name, value, (a, b) in parts)


def amdahl(workers: Array, serial: float) -> Array:
    """Speed-up where a share of the work is done by one worker alone."""
    return 1 / (serial + (1 - serial) / workers)


def usl(workers: Array, contention: float, coherence: float) -> Array:
    """Speed-up where workers also wait for each other, pair by pair."""
    return workers / (1 + contention * (workers - 1) + coherence * workers * (workers - 1))


LAWS: dict[str, Callable[..., Array]] = {"Amdahl": amdahl, "USL": usl}
_BOUNDS = {"Amdahl": ([0.0], [1.0]), "USL": ([0.0, 0.0], [1.0, 1.0])}


def fit_law(name: str, runs: Sequence[tuple[int, float]], seed: int = 0) -> Law | None:
    """Fit a law to runs; the interval is that of a bootstrap over the runs of each number of workers.

    Parameters
    ----------
    name : str
        A key of `LAWS`.
    runs : sequence of (int, float)
        Workers, seconds.

    Returns
    -------
    Law or None
        None where there are not more numbers of workers than parameters.
    """
    times = {number: np.array([s for n, s in runs if n == number]) for number in sorted({n for n, _ in runs})}
    if len(times) <= len(_BOUNDS[name][0]) or 1 not in times:
        return None
    chance = np.random.default_rng(seed)
    drawn = [_fit(name, {n: chance.choice(one, len(one)) for n, one in times.items()}) for _ in range(_RESAMPLES)]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    intervals = tuple(zip(low.tolist(), high.tolist(), strict=True))
    return Law(name, tuple(_fit(name, times).tolist()), intervals)


def _fit(name: str, times: dict[int, Array]) -> Array:
    """Parameters that bring the law nearest to the seconds of all runs, relative to them; that of one worker is the
    mean of its runs."""
    from scipy.optimize import least_squares

    workers = np.concatenate([np.full(len(one), float(number)) for number, one in times.items()])
    seconds = np.concatenate(list(times.values()))
    alone = times[1].mean()

    def off(parameters: Array) -> Array:
        return np.asarray(alone / LAWS[name](workers, *parameters) / seconds - 1)

    bounds = _BOUNDS[name]
    return np.asarray(least_squares(off, np.full(len(bounds[0]), 0.05), bounds=bounds).x)
