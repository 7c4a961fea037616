"""Kinds of dynamics with known truth: their parameters, drawn by chance, and the g1(t1, t2) that follows from them.

Every g1 is the correlation of a field that one can write down, so it is positive semidefinite: of a clock that runs
unevenly, of a place that moves, of a sum of independent fields. Times are shares of the scan, 0..1, and tau is the time
at which g1 falls to 1/e while the sample is at its mean rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]
Field = NDArray[Any]
"""g1 (t, t), float64, or complex128 where something flows."""
Numbers = Mapping[str, Any]
Draw = Callable[[np.random.Generator, float], dict[str, Any]]
"""Parameters of a kind: (random, tau) -> numbers or lists of numbers."""
Form = Callable[[Times, float, Numbers], Field]
"""g1 of a kind: (times, tau, parameters) -> (t, t)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of dynamics."""

    form: Form
    draw: Draw = lambda random, tau: {}
    tau: tuple[float, float] = (0.003, 3.0)
    """Least and greatest tau, in scans, of which a scan of this kind still shows what makes the kind."""


def log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    """A number between low and high, of which every octave is as likely."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def difference(values: Times) -> Times:
    """values(t1) - values(t2), (t1, t2)."""
    return np.asarray(values[:, None] - values)


def kww(clock: Times, tau: float, exponent: float = 1.0) -> Field:
    """exp(-(|clock difference| / tau)^exponent)."""
    return np.asarray(np.exp(-((np.abs(difference(clock)) / tau) ** exponent)))


# ---- stationary


def _stationary(times: Times, tau: float, numbers: Numbers) -> Field:
    return kww(times, tau, numbers["kww_exponent"])


def _exponent(low: float, high: float) -> Draw:
    return lambda random, tau: {"kww_exponent": random.uniform(low, high)}


def _partly_static(times: Times, tau: float, numbers: Numbers) -> Field:
    share = numbers["static_share"]
    return np.asarray(share + (1 - share) * kww(times, tau, numbers["kww_exponent"]))


def _two_step(times: Times, tau: float, numbers: Numbers) -> Field:
    fast, share = tau / np.sqrt(numbers["ratio"]), numbers["slow_share"]
    slow = tau * np.sqrt(numbers["ratio"])
    return np.asarray((1 - share) * kww(times, fast) + share * kww(times, slow, numbers["kww_exponent"]))


def _power_law(times: Times, tau: float, numbers: Numbers) -> Field:
    return np.asarray((1 + np.abs(difference(times)) / tau) ** -numbers["power"])


# ---- an uneven clock


def _ageing_clock(times: Times, age: float) -> Times:
    return np.asarray(np.log1p(times / age) / np.log1p(1 / age))


def _ageing(times: Times, tau: float, numbers: Numbers) -> Field:
    return kww(_ageing_clock(times, numbers["initial_age"]), tau, numbers["kww_exponent"])


def _rejuvenating(times: Times, tau: float, numbers: Numbers) -> Field:
    return kww(-_ageing_clock(1 - times, numbers["initial_age"]), tau, numbers["kww_exponent"])


def _age(random: np.random.Generator, tau: float) -> dict[str, Any]:
    return {"initial_age": log_uniform(random, 0.02, 0.15), "kww_exponent": random.uniform(0.8, 1.6)}


def _changing(times: Times, tau: float, numbers: Numbers) -> Field:
    change, ratio = numbers["change_time"], numbers["rate_ratio"]
    clock = np.minimum(times, change) + ratio * np.maximum(times - change, 0)
    return kww(clock / (change + ratio * (1 - change)), tau, numbers["kww_exponent"])


def _change(sign: int) -> Draw:
    def draw(random: np.random.Generator, tau: float) -> dict[str, Any]:
        ratio = log_uniform(random, 6.0, 40.0) ** sign
        return {
            "change_time": random.uniform(0.25, 0.75),
            "rate_ratio": ratio,
            "kww_exponent": random.uniform(0.8, 1.6),
        }

    return draw


def _avalanches(times: Times, tau: float, numbers: Numbers) -> Field:
    jumps = (times[:, None] >= np.asarray(numbers["jump_times"])) @ np.asarray(numbers["jump_sizes"])
    return kww(times / tau + jumps, 1.0)


def _jumps(random: np.random.Generator, tau: float) -> dict[str, Any]:
    number = int(random.integers(2, 9))
    places = np.linspace(0, 1, number + 2)[1:-1] + random.uniform(-0.35, 0.35, number) / (number + 1)
    return {"jump_times": places.tolist(), "jump_sizes": random.uniform(0.6, 3.0, number).tolist()}


def _bursts(times: Times, tau: float, numbers: Numbers) -> Field:
    fine = np.linspace(0, 1, 4097)
    rate = np.ones_like(fine)
    for place, width in zip(numbers["burst_times"], numbers["burst_widths"], strict=True):
        rate += numbers["burst_rate"] * np.exp(-0.5 * ((fine - place) / width) ** 2)
    clock = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2)]) / 4096
    return kww(np.interp(times, fine, clock / clock[-1]), tau)


def _burst(random: np.random.Generator, tau: float) -> dict[str, Any]:
    number = int(random.integers(1, 4))
    places = np.linspace(0, 1, number + 2)[1:-1] + random.uniform(-0.3, 0.3, number) / (number + 1)
    widths = random.uniform(0.02, 0.06, number)
    return {"burst_times": places.tolist(), "burst_widths": widths.tolist(), "burst_rate": log_uniform(random, 15, 60)}


def _periodic_rate(times: Times, tau: float, numbers: Numbers) -> Field:
    period, depth = numbers["period"], numbers["depth"]
    turn = 2 * np.pi * (times / period + numbers["phase"])
    return kww(times - depth * period / (2 * np.pi) * np.sin(turn), tau)


def _period(random: np.random.Generator, tau: float) -> dict[str, Any]:
    return {"period": 1 / random.uniform(2.5, 8.0), "depth": random.uniform(0.85, 0.98), "phase": random.uniform()}


# ---- a place that moves


def _echoes(times: Times, tau: float, numbers: Numbers) -> Field:
    strain = np.sin(2 * np.pi * (times / numbers["period"] + numbers["phase"]))
    return np.asarray(kww(times, tau) * np.exp(-0.5 * (numbers["amplitude"] * difference(strain)) ** 2))


def _echo(random: np.random.Generator, tau: float) -> dict[str, Any]:
    period = 1 / random.uniform(3.0, 12.0)
    return {"period": period, "amplitude": random.uniform(1.2, 4.0), "phase": random.uniform()}


def _fringes(times: Times, tau: float, numbers: Numbers) -> Field:
    share, omega = numbers["static_share"], 2 * np.pi / numbers["fringe_period"]
    return np.asarray(share + (1 - share) * kww(times, tau) * np.exp(1j * omega * difference(times)))


def _fringe(random: np.random.Generator, tau: float) -> dict[str, Any]:
    period = min(tau, 1.0) / random.uniform(1.0, 3.0)
    return {"static_share": random.uniform(0.35, 0.6), "fringe_period": period}


def _drifting_flow(times: Times, tau: float, numbers: Numbers) -> Field:
    """Fringes of a flow whose speed grows over the scan."""
    place = times + numbers["acceleration"] * (times**2 - times)
    share, omega = numbers["static_share"], 2 * np.pi / numbers["fringe_period"]
    return np.asarray(share + (1 - share) * kww(times, tau) * np.exp(1j * omega * difference(place)))


def _drift(random: np.random.Generator, tau: float) -> dict[str, Any]:
    acceleration = random.uniform(0.6, 0.95) * random.choice([-1.0, 1.0])
    return {**_fringe(random, tau), "acceleration": acceleration}


def _reversal(times: Times, tau: float, numbers: Numbers) -> Field:
    """A shear that turns round once and goes back the way it came."""
    place = np.abs(times - numbers["turn_time"])
    return kww(times, numbers["loss"]) * np.exp(-0.5 * (difference(place) / tau) ** 2)


def _turn(random: np.random.Generator, tau: float) -> dict[str, Any]:
    return {"turn_time": random.uniform(0.35, 0.65), "loss": random.uniform(2.0, 8.0)}


# ---- states


def _switching(times: Times, tau: float, numbers: Numbers) -> Field:
    """Two configurations taken in turn, each found again; what they share stays."""
    state = np.searchsorted(np.asarray(numbers["switch_times"]), times, side="right") % 2
    same = state[:, None] == state
    return kww(times, tau) * np.where(same, 1.0, numbers["likeness"])


def _switch(random: np.random.Generator, tau: float) -> dict[str, Any]:
    number = int(random.integers(3, 8))
    places = np.linspace(0, 1, number + 2)[1:-1] + random.uniform(-0.3, 0.3, number) / (number + 1)
    return {"switch_times": places.tolist(), "likeness": random.uniform(0.05, 0.4)}


def _freezing(times: Times, tau: float, numbers: Numbers) -> Field:
    """Part of the sample stands still from some time on: it shares no clock with the rest."""
    stop = np.minimum(times, numbers["stop_time"])
    share = numbers["frozen_share"]
    return np.asarray(share * kww(stop, tau) + (1 - share) * kww(times, tau))


def _freeze(random: np.random.Generator, tau: float) -> dict[str, Any]:
    return {"stop_time": random.uniform(0.25, 0.65), "frozen_share": random.uniform(0.6, 0.9)}


def _share(random: np.random.Generator, tau: float) -> dict[str, Any]:
    return {"static_share": random.uniform(0.35, 0.75), "kww_exponent": random.uniform(0.8, 1.6)}


def _steps(random: np.random.Generator, tau: float) -> dict[str, Any]:
    ratio = log_uniform(random, 60.0, 400.0)
    return {"ratio": ratio, "slow_share": random.uniform(0.5, 0.75), "kww_exponent": random.uniform(0.9, 1.5)}


KINDS: Mapping[str, Kind] = {
    "stretched": Kind(_stationary, _exponent(0.5, 0.7), (0.003, 1.0)),
    "simple": Kind(_stationary, _exponent(0.92, 1.08)),
    "compressed": Kind(_stationary, _exponent(1.5, 2.0)),
    "frozen": Kind(_stationary, _exponent(0.8, 1.6), (60.0, 1e4)),
    "partly_static": Kind(_partly_static, _share, (0.003, 0.3)),
    "two_step": Kind(_two_step, _steps, (0.02, 0.15)),
    "power_law": Kind(_power_law, lambda random, tau: {"power": random.uniform(0.3, 0.6)}, (0.002, 0.05)),
    "ageing": Kind(_ageing, _age, (0.02, 0.4)),
    "rejuvenating": Kind(_rejuvenating, _age, (0.02, 0.4)),
    "slowing_at_once": Kind(_changing, _change(-1), (0.02, 0.3)),
    "quickening_at_once": Kind(_changing, _change(1), (0.02, 0.3)),
    "avalanches": Kind(_avalanches, _jumps, (1.0, 6.0)),
    "bursts": Kind(_bursts, _burst, (0.1, 0.4)),
    "echoes": Kind(_echoes, _echo, (0.3, 3.0)),
    "fringes": Kind(_fringes, _fringe, (0.05, 2.0)),
    "drifting_flow": Kind(_drifting_flow, _drift, (0.3, 2.0)),
    "freezing": Kind(_freezing, _freeze, (0.01, 0.2)),
    "periodic_rate": Kind(_periodic_rate, _period, (0.05, 0.3)),
    "reversal": Kind(_reversal, _turn, (0.03, 0.25)),
    "switching": Kind(_switching, _switch, (0.5, 4.0)),
}
"""The kinds by name."""

UNSEEN = ("periodic_rate", "reversal", "switching")
"""Kinds that no training may see: they stand for what an archive has and nobody thought of."""
