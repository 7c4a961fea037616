"""Dynamics that nobody named: clocks, memories, flows and standing shares, put together by chance.

A network that knows the named kinds alone would press everything else into them. Sums and products of field
correlations are field correlations again, so that each of these could be measured.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.evaluation.kinds import Field, Times, difference, kww, log_uniform

Form = Callable[[int, float], Field]
"""g1 (t, t) of a scan: (number of frames, tau in scans) -> g1."""
Factor = Callable[[Times, Times, float], NDArray[np.generic] | float]
"""What multiplies g1: (times, the sample's own times, tau) -> (t, t)."""

_FINE = np.linspace(0, 1, 513)


def compose(random: np.random.Generator) -> Form:
    """Dynamics drawn by chance; the same at any tau and number of frames."""
    clock = _clock(random)
    memory = _memory(random)
    factors = [factor(random) for chance, factor in _FACTORS if random.random() < chance]
    static = random.uniform(0.2, 0.8) if random.random() < 0.3 else 0.0

    def form(num_frames: int, tau: float) -> Field:
        times = np.arange(num_frames) / num_frames
        own = np.interp(times, _FINE, clock)
        g1 = memory(own, tau)
        for factor in factors:
            g1 = g1 * factor(times, own, tau)
        return np.asarray(static + (1 - static) * g1)

    return form


def _clock(random: np.random.Generator) -> Times:
    """Time as the sample lives it, 0..1, on a fine grid: in a third of all cases it runs evenly."""
    rate = np.ones_like(_FINE)
    if random.random() < 0.65:
        for _ in range(random.integers(1, 4)):
            rate = _CHANGES[random.choice(4, p=(0.3, 0.25, 0.25, 0.2))](random, rate)
    clock = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2)])
    clock /= clock[-1]
    if random.random() < 0.15:
        clock *= 0.3
        for _ in range(random.integers(1, 7)):
            clock = clock + random.uniform(0.2, 1.0) * (random.uniform(0.05, 0.95) < _FINE)
    return np.asarray(clock / clock[-1])


def _trend(random: np.random.Generator, rate: Times) -> Times:
    return np.asarray(rate * np.exp(random.normal(0, 2) * _FINE))


def _step(random: np.random.Generator, rate: Times) -> Times:
    return np.asarray(rate * np.exp(random.normal(0, 2) * (random.uniform(0.15, 0.85) < _FINE)))


def _burst(random: np.random.Generator, rate: Times) -> Times:
    place, width = random.uniform(0, 1), log_uniform(random, 0.01, 0.1)
    return np.asarray(rate + log_uniform(random, 5, 60) * np.exp(-0.5 * ((_FINE - place) / width) ** 2))


def _wave(random: np.random.Generator, rate: Times) -> Times:
    turns = _FINE * random.uniform(1.5, 9) + random.random()
    return np.asarray(rate * (1 + random.uniform(0.5, 0.98) * np.sin(2 * np.pi * turns)))


_CHANGES = (_trend, _step, _burst, _wave)


def _memory(random: np.random.Generator) -> Callable[[Times, float], Field]:
    """One decay, or two."""
    exponent = random.uniform(0.5, 2.0)
    slow_share = random.uniform(0.3, 0.7) if random.random() < 0.2 else 0.0
    ratio = log_uniform(random, 8, 200)

    def memory(own: Times, tau: float) -> Field:
        return (1 - slow_share) * kww(own, tau, exponent) + slow_share * kww(own, ratio * tau)

    return memory


def _oscillation(random: np.random.Generator) -> Factor:
    number, amplitude, phase = random.uniform(2, 12), random.uniform(0.8, 4.0), random.random()

    def factor(times: Times, own: Times, tau: float) -> NDArray[np.float64]:
        strain = np.sin(2 * np.pi * (times * number + phase))
        return np.asarray(np.exp(-0.5 * (amplitude * difference(strain)) ** 2))

    return factor


def _transit(random: np.random.Generator) -> Factor:
    number = random.uniform(1.5, 6)
    return lambda times, own, tau: np.sinc(difference(own) * number / min(tau, 1.0))


def _flow(random: np.random.Generator) -> Factor:
    """A flow beside a reference that stands still."""
    number, share = random.uniform(0.5, 4), random.uniform(0.3, 0.6)
    return lambda times, own, tau: share + (1 - share) * np.exp(2j * np.pi * difference(own) * number / min(tau, 1.0))


def _states(random: np.random.Generator) -> Factor:
    """Configurations that are left and found again."""
    switches = np.sort(random.uniform(0.05, 0.95, random.integers(2, 9)))
    likeness, number = random.uniform(0, 0.5), int(random.integers(2, 4))

    def factor(times: Times, own: Times, tau: float) -> NDArray[np.float64]:
        state = np.searchsorted(switches, times, side="right") % number
        return np.where(state[:, None] == state, 1.0, likeness)

    return factor


def _arrest(random: np.random.Generator) -> Factor:
    """A loss that a share of the sample no longer suffers after some time."""
    stop, share, exponent = random.uniform(0.2, 0.7), random.uniform(0.5, 0.95), random.uniform(0.5, 2.0)

    def factor(times: Times, own: Times, tau: float) -> NDArray[np.float64]:
        return share * kww(np.minimum(times, stop), tau, exponent) + (1 - share) * kww(own, tau, exponent)

    return factor


_FACTORS = ((0.15, _oscillation), (0.1, _transit), (0.12, _flow), (0.1, _states), (0.08, _arrest))
"""What else may happen, and with which chance."""
