"""What samples do: ten kinds of dynamics, the parameters of a scan, and the g1(t1, t2) that follows from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ainerd_hpc.config import SimulateConfig
from ainerd_hpc.simulate.chance import Stream, generator
from ainerd_hpc.simulate.detector import instrument


@dataclass(frozen=True)
class Dynamics:
    """What one scan's sample does. Times in s, temperature in degC, stress in Pa."""

    kind: str
    tau: float
    """Relaxation time at `q_reference`, at the scan's mean rate."""
    q_reference: float
    """1/angstrom."""
    q_exponent: float
    """tau ~ q^-q_exponent."""
    kww_exponent: float
    duration: float
    temperature: float
    stress: float
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The kind's own: numbers, lists of numbers."""

    def tau_at(self, q: float) -> float:
        """Relaxation time at q, s."""
        return float(self.tau * (q / self.q_reference) ** -self.q_exponent)


@dataclass(frozen=True)
class Kind:
    """How the dynamics of one kind are drawn and formed; ranges are lowest and highest."""

    tau_share: tuple[float, float] = (0.05, 0.3)
    """tau at the reference q, in durations of the scan."""
    thermal: bool = False
    """tau follows the temperature instead of chance."""
    q_exponent: float = 2.0
    """2 diffusive, 1 ballistic."""
    kww_exponent: tuple[float, float] = (1.0, 1.0)
    stress: tuple[float, float] = (0.0, 0.0)
    """Pa."""
    parameters: Callable[[np.random.Generator, float, float], dict[str, Any]] = lambda random, duration, stress: {}
    """Drawn for a scan: (random, duration, stress) -> `Dynamics.parameters`."""
    clock: Callable[[np.ndarray, Dynamics], np.ndarray] = lambda times, dynamics: times
    """Time as the sample lives it, s: runs from 0 to the scan's duration."""
    further: Callable[[np.ndarray, Dynamics, float, np.ndarray], np.ndarray] | None = None
    """What else forms g1: (g1, dynamics, q, times) -> g1."""


def field_correlation(dynamics: Dynamics, q: float, times: np.ndarray) -> np.ndarray:
    """g1(t1, t2) of the scattered field: positive semidefinite, Hermitian, 1 on the diagonal.

    Parameters
    ----------
    q : float
        1/angstrom.
    times : ndarray, (t,)
        Since the start of the scan, s.

    Returns
    -------
    ndarray, (t, t), float64 (complex128 for flow_fringes)
        exp(-(|clock(t2) - clock(t1)| / tau)^kww_exponent), where the clock runs unevenly in the non-stationary kinds;
        times exp(-A^2 (s(t2) - s(t1))^2 / 2) under oscillatory strain s; mixed with a static field in flow_fringes.
    """
    kind = KINDS[dynamics.kind]
    clock = kind.clock(times, dynamics)
    g1 = np.exp(-((np.abs(clock - clock[:, np.newaxis]) / dynamics.tau_at(q)) ** dynamics.kww_exponent))
    return kind.further(g1, dynamics, q, times) if kind.further else g1


def draw_dynamics(config: SimulateConfig, index: int) -> Dynamics:
    """The dynamics of scan `index`: its kind by turn, its parameters by chance, its tau at high temperature short."""
    turn, place = divmod(index, len(KINDS))
    name = list(KINDS)[generator(config, Stream.KINDS, turn).permutation(len(KINDS))[place]]
    kind, random = KINDS[name], generator(config, Stream.DYNAMICS, index)
    duration = config.num_frames * config.frame_time
    temperature = 40.0 - 20.0 * np.cos(2.0 * np.pi * index / config.num_scans)
    stress = random.uniform(*kind.stress)
    share = np.exp(random.uniform(*np.log(kind.tau_share)))
    if kind.thermal:
        share = kind.tau_share[1] * _arrhenius(temperature) * np.exp(0.1 * random.standard_normal())
    q_list = instrument(config).rings.partition.dynamic_q_list
    return Dynamics(
        kind=name,
        tau=float(share * duration),
        q_reference=float(np.sqrt(q_list[0] * q_list[-1])),
        q_exponent=kind.q_exponent,
        kww_exponent=float(random.uniform(*kind.kww_exponent)),
        duration=duration,
        temperature=float(temperature),
        stress=float(stress),
        parameters=kind.parameters(random, duration, stress),
    )


def _arrhenius(temperature: float) -> float:
    """tau relative to 20 degC for an activation energy of 45 kJ/mol."""
    return float(np.exp(45e3 / 8.314 * (1.0 / (temperature + 273.15) - 1.0 / 293.15)))


def _ageing(times: np.ndarray, dynamics: Dynamics) -> np.ndarray:
    """Rate ~ 1 / (age + t): logarithmic time, scaled to run from 0 to the scan's duration."""
    age, duration = dynamics.parameters["initial_age"], dynamics.duration
    return np.asarray(duration * np.log1p(times / age) / np.log1p(duration / age))


def _rejuvenating(times: np.ndarray, dynamics: Dynamics) -> np.ndarray:
    return dynamics.duration - _ageing(dynamics.duration - times, dynamics)


def _avalanche(times: np.ndarray, dynamics: Dynamics) -> np.ndarray:
    """Slow creep, and jumps that make up the rest of the scan's duration."""
    jump_times, jump_shares, creep = (
        dynamics.parameters[name] for name in ("jump_times", "jump_shares", "creep_share")
    )
    jumps = (times[:, np.newaxis] >= np.asarray(jump_times)) @ np.asarray(jump_shares)
    return np.asarray(creep * times + (1.0 - creep) * dynamics.duration * jumps)


def _sudden_change(times: np.ndarray, dynamics: Dynamics) -> np.ndarray:
    """Another rate after the change, which itself takes a share of the clock."""
    change, ratio, share = (dynamics.parameters[name] for name in ("change_time", "rate_ratio", "jump_share"))
    steady = np.minimum(times, change) + ratio * np.maximum(times - change, 0.0)
    total = change + ratio * (dynamics.duration - change)
    return np.asarray(dynamics.duration * ((1.0 - share) * steady / total + share * (times >= change)))


def _echoes(g1: np.ndarray, dynamics: Dynamics, q: float, times: np.ndarray) -> np.ndarray:
    """Dephasing by affine oscillatory strain, undone once a period."""
    amplitude = dynamics.parameters["amplitude"] * q / dynamics.q_reference
    strain = np.sin(2.0 * np.pi * (times / dynamics.parameters["period"] + dynamics.parameters["phase"]))
    return np.asarray(g1 * np.exp(-0.5 * (amplitude * (strain - strain[:, np.newaxis])) ** 2))


def _heterodyne(g1: np.ndarray, dynamics: Dynamics, q: float, times: np.ndarray) -> np.ndarray:
    """A share of the scattering stands still, the rest drifts with phase omega t, omega ~ q (one direction of flow)."""
    static = dynamics.parameters["static_share"]
    omega = 2.0 * np.pi / dynamics.parameters["fringe_period"] * q / dynamics.q_reference
    return np.asarray(static + (1.0 - static) * g1 * np.exp(1j * omega * (times - times[:, np.newaxis])))


def _jumps(random: np.random.Generator, duration: float, stress: float) -> dict[str, Any]:
    num_jumps = round(stress / 25.0)
    jump_times = np.sort(random.uniform(0.02, 0.98, num_jumps)) * duration
    jump_shares = random.dirichlet(np.full(num_jumps, 2.0))
    return {"creep_share": 0.2, "jump_times": jump_times.tolist(), "jump_shares": jump_shares.tolist()}


def _change(random: np.random.Generator, duration: float, stress: float) -> dict[str, Any]:
    ratio = float(np.exp(random.uniform(np.log(6.0), np.log(30.0)))) ** random.choice([-1.0, 1.0])
    return {"change_time": random.uniform(0.3, 0.7) * duration, "rate_ratio": ratio, "jump_share": 0.3}


def _strain(random: np.random.Generator, duration: float, stress: float) -> dict[str, Any]:
    return {"amplitude": stress / 50.0, "period": duration / random.uniform(4.0, 10.0), "phase": random.uniform()}


def _flow(random: np.random.Generator, duration: float, stress: float) -> dict[str, Any]:
    return {"static_share": random.uniform(0.3, 0.6), "fringe_period": 8.0 * duration / stress}


def _age(random: np.random.Generator, duration: float, stress: float) -> dict[str, Any]:
    return {"initial_age": random.uniform(0.02, 0.1) * duration}


KINDS = {
    "brownian": Kind(thermal=True),
    "stretched": Kind(thermal=True, kww_exponent=(0.45, 0.75)),
    "compressed": Kind(q_exponent=1.0, kww_exponent=(1.4, 1.8)),
    "ageing": Kind(q_exponent=1.0, parameters=_age, clock=_ageing),
    "rejuvenating": Kind(q_exponent=1.0, stress=(10.0, 20.0), parameters=_age, clock=_rejuvenating),
    "avalanche": Kind((0.1, 0.4), q_exponent=1.0, stress=(200.0, 300.0), parameters=_jumps, clock=_avalanche),
    "shear_echo": Kind((0.3, 1.5), stress=(100.0, 200.0), parameters=_strain, further=_echoes),
    "flow_fringes": Kind((0.1, 0.6), stress=(40.0, 120.0), parameters=_flow, further=_heterodyne),
    "frozen": Kind((1e3, 1e4)),
    "sudden_change": Kind(stress=(20.0, 40.0), parameters=_change, clock=_sudden_change),
}
"""The kinds of dynamics. A new one needs a line here, and its formula in the README of `files`."""
