"""Simulated XPCS scans with known truth, written as real detector files.

A pixel's field is a complex Gaussian process with the stated correlation g1(t1, t2), uniform in a q-ring; intensities
of `coherent_modes` independent patterns add up, so that c2 = 1 + |g1|^2 / coherent_modes (Siegert relation); photons
are Poisson. Left out on purpose: speckles larger than a pixel, decay within an exposure, and an intensity gradient
inside a ring (it falls from ring to ring), which would lift the baseline of an unsmoothed c2 above 1.

A scan depends on config and index only: any order, process or number of threads gives the same bytes (on one kind of
processor: BLAS rounds differently on another).
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import lapack
from threadpoolctl import threadpool_limits

from ainerd_hpc.config import SimulateConfig
from ainerd_hpc.errors import ConfigError, ScanError
from ainerd_hpc.formats.aps import write_metadata, write_raw
from ainerd_hpc.formats.partition import Geometry, Rings, make_ring_partition, write_partition

PREFIX = "sim_"
"""How the names of simulated scans begin."""
DEAD = 65535
"""Value of a dead pixel in uint16 frames, as detectors write it."""
BEAM_NOISE = 0.02
"""Relative standard deviation of the beam's intensity from frame to frame."""

_START = datetime(2024, 1, 15, 8, 0, tzinfo=UTC).timestamp()
_LEAD = 20.0
"""Temperature and stress are set this long before a scan starts, s."""
_LOG_PERIOD = 5.0
_PIXELS_PER_BLOCK = 1024
_RANK_TOLERANCE = 1e-5
"""Variance of the unit field that a low-rank root may leave out."""
_STATIC_PER_Q = 10
_ENVELOPE = 1.0
"""Mean counts fall as q to minus this power."""


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
    clock: Callable[[np.ndarray, Dynamics], np.ndarray] = lambda times, dynamics: times
    """Time as the sample lives it, s: runs from 0 to the scan's duration."""
    further: Callable[[np.ndarray, Dynamics, float, np.ndarray], np.ndarray] | None = None
    """What else forms g1: (g1, dynamics, q, times) -> g1."""


@dataclass(frozen=True)
class Instrument:
    """The simulated detector; the same for all scans of a config."""

    geometry: Geometry
    rings: Rings
    dead: np.ndarray
    """(y, x) bool."""
    hot: np.ndarray
    """(y, x) bool, pixels that count far too much."""
    beam_stop: np.ndarray
    """(y, x) bool."""


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
    name = list(KINDS)[_random(config, 0, turn).permutation(len(KINDS))[place]]
    kind, random = KINDS[name], _random(config, 1, index)
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


@lru_cache(maxsize=4)
def instrument(config: SimulateConfig) -> Instrument:
    """The detector: 75 um pixels 5 m from the sample at 10 keV, the beam on its left side behind a beam stop.

    Raises
    ------
    ConfigError
        The detector is so small that the beam stop covers it.
    """
    height, width = config.height, config.width
    geometry = Geometry(width / 8.0, (height - 1) / 2.0, pixel_size=75e-6, distance=5.0, energy=10.0)
    y = np.arange(height)[:, np.newaxis] - geometry.beam_center_y
    x = np.arange(width) - geometry.beam_center_x
    beam_stop = (np.hypot(x, y) < width / 8.0) | ((x < 0) & (np.abs(y) < width / 100.0))
    chance = _random(config, 2, 0).random((height, width))
    dead, hot = chance < 0.002, chance > 0.9995
    try:
        rings = make_ring_partition(~(beam_stop | dead | hot), geometry, config.num_q_bins, _STATIC_PER_Q)
    except ScanError:
        found = f"a detector of {height} x {width} pixels has none outside the beam stop"
        raise ConfigError(f"simulate: {found}; enlarge simulate.height and simulate.width") from None
    return Instrument(geometry, rings, dead, hot, beam_stop)


def simulate_counts(config: SimulateConfig, index: int) -> np.ndarray:
    """Frames of scan `index`, (t, y, x) uint16; dead pixels are 65535, the beam stop is nearly dark."""
    detector, dynamics = instrument(config), draw_dynamics(config, index)
    random = _random(config, 3, index)
    times = np.arange(config.num_frames) * config.frame_time
    beam = np.clip(1.0 + BEAM_NOISE * random.standard_normal(config.num_frames), 0.5, 1.5)
    counts = np.zeros((config.num_frames, config.height, config.width), dtype=np.uint16)
    pixels = counts.reshape(config.num_frames, -1)
    partition = detector.rings.partition
    with threadpool_limits(1):  # so that the order of the sums, and the bytes, do not depend on the machine's cores
        for q_bin, q in enumerate(partition.dynamic_q_list):
            root = _square_root(field_correlation(dynamics, float(q), times))
            mean = beam * mean_counts(config)[q_bin]
            inside = np.flatnonzero(partition.dynamic_roi_map == q_bin + 1)
            for start in range(0, inside.size, _PIXELS_PER_BLOCK):
                block = inside[start : start + _PIXELS_PER_BLOCK]
                intensity = _intensity(root, block.size, config.coherent_modes, random)
                pixels[:, block] = _photons(intensity * mean[:, np.newaxis], random)
    _add_defects(counts, detector, random)
    return counts


def mean_counts(config: SimulateConfig) -> np.ndarray:
    """Photons per pixel and frame of each q-bin, (q_bin,)."""
    q_list = instrument(config).rings.partition.dynamic_q_list
    return np.asarray(config.mean_counts * (q_list / q_list[0]) ** -_ENVELOPE)


def scan_bytes(config: SimulateConfig) -> int:
    """Upper bound of the memory that `write_scan` allocates, bytes."""
    frames = 2 * config.num_frames * config.height * config.width
    correlation = 5 * 16 * config.num_frames**2
    block = 40 * config.num_frames * min(_PIXELS_PER_BLOCK, config.height * config.width)
    detector = 200 * config.height * config.width
    return frames + correlation + block + detector + 2**22


def scan_ids(config: SimulateConfig) -> list[str]:
    """Names of all scans, in order of time; they do not tell the kind."""
    return [f"{PREFIX}{index:04d}" for index in range(config.num_scans)]


def start_time(config: SimulateConfig, index: int) -> float:
    """Start of scan `index`, s UTC epoch: one a minute, or as far apart as their length asks for."""
    duration = config.num_frames * config.frame_time
    return _START + index * max(60.0, float(ceil(duration + 2 * _LEAD)))


def write_scan(folder: Path, config: SimulateConfig, index: int) -> Path:
    """Write `<scan_id>_metadata.hdf` and `<scan_id>.h5`, and return the latter.

    Each is published by one rename, the frames last; modification times are the simulated ones, so that a scan written
    again cannot be told from the first one.
    """
    scan_id, start = scan_ids(config)[index], start_time(config, index)
    dynamics, counts = draw_dynamics(config, index), simulate_counts(config, index)

    def metadata(path: Path) -> None:
        write_metadata(
            path,
            start_time=start,
            frame_time=config.frame_time,
            count_time=config.frame_time / 10.0,
            geometry=instrument(config).geometry,
            sample={"temperature": (dynamics.temperature, "degC"), "stress": (dynamics.stress, "Pa")},
            simulated=True,
            description="simulated by ainerd-hpc simulate; not measured",
        )

    _publish(folder / f"{scan_id}_metadata.hdf", metadata, start)
    return _publish(folder / f"{scan_id}.h5", lambda path: write_raw(path, counts, simulated=True), start)


def write_shared_files(folder: Path, config: SimulateConfig) -> None:
    """Write what all scans share: simulated_qmap.hdf, sample_log.csv, truth.csv and README.txt."""
    detector, folder = instrument(config), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)

    def partition(path: Path) -> None:
        write_partition(path, detector.rings, detector.geometry, "simulated by ainerd-hpc simulate; not measured")

    _publish(folder / "simulated_qmap.hdf", partition, _START)
    _publish(folder / "sample_log.csv", lambda path: _write_csv(path, _sample_log(config)), _START)
    _publish(folder / "truth.csv", lambda path: _write_csv(path, _truth(config)), _START)
    _publish(folder / "README.txt", lambda path: path.write_text(_README, encoding="utf-8"), _START)


def _random(config: SimulateConfig, stream: int, index: int) -> np.random.Generator:
    seeds = np.random.SeedSequence(config.seed % 2**64, spawn_key=(stream, index))
    return np.random.default_rng(seeds)


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


def _square_root(g1: np.ndarray) -> np.ndarray:
    """(t, rank) float32 or complex64 with root @ root^H = g1: Cholesky with pivoting stops where nothing is left."""
    factorise = lapack.zpstrf if np.iscomplexobj(g1) else lapack.dpstrf
    factor, pivot, rank, _ = factorise(g1, lower=1, tol=_RANK_TOLERANCE)
    root = np.empty((len(g1), rank), dtype=g1.dtype)
    root[pivot - 1] = np.tril(factor)[:, :rank]
    return root.astype(np.complex64 if np.iscomplexobj(g1) else np.float32)


def _intensity(root: np.ndarray, num_pixels: int, modes: int, random: np.random.Generator) -> np.ndarray:
    """Speckle intensities (t, pixel) float32 with mean 1: the mean over `modes` of |root @ complex white noise|^2."""
    total = np.zeros((len(root), num_pixels), dtype=np.float32)
    for _ in range(modes):
        white = random.standard_normal((root.shape[1], 2 * num_pixels), dtype=np.float32)
        parts = (root @ white.view(root.dtype)).view(np.float32)
        parts *= parts
        total += parts[:, ::2]
        total += parts[:, 1::2]
    total /= 2.0 * modes
    return total


def _photons(mean: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Poisson counts below the value of a dead pixel."""
    return np.minimum(random.poisson(mean), DEAD - 1).astype(np.uint16)


def _add_defects(counts: np.ndarray, detector: Instrument, random: np.random.Generator) -> None:
    """Fill in the pixels that the mask leaves out."""
    for frame in counts:
        frame[detector.beam_stop] = random.poisson(0.01, np.count_nonzero(detector.beam_stop))
        frame[detector.hot] = random.poisson(2000.0, np.count_nonzero(detector.hot))
    counts[:, detector.dead] = DEAD


def _sample_log(config: SimulateConfig) -> Iterator[list[object]]:
    """Readings every few seconds, with sensor noise, from before the first scan to after the last."""
    yield ["time", "temperature", "stress"]
    random = _random(config, 4, 0)
    interval = start_time(config, 1) - start_time(config, 0)
    for index in range(config.num_scans):
        dynamics, start = draw_dynamics(config, index), start_time(config, index) - _LEAD
        for second in np.arange(0.0, interval, _LOG_PERIOD):
            stamp = datetime.fromtimestamp(start + second, UTC).isoformat(timespec="seconds")
            temperature = dynamics.temperature + 0.05 * random.standard_normal()
            stress = dynamics.stress + 0.2 * random.standard_normal()
            yield [stamp, f"{temperature:.3f}", f"{stress:.3f}"]


def _truth(config: SimulateConfig) -> Iterator[list[object]]:
    """A row for each scan and q-bin."""
    yield ["scan_id", "q_bin", "kind", "q", "tau", "kww_exponent", "contrast", "mean_counts", "parameters", "simulated"]
    q_list, means = instrument(config).rings.partition.dynamic_q_list, mean_counts(config)
    for index, scan_id in enumerate(scan_ids(config)):
        dynamics = draw_dynamics(config, index)
        known = {"kind", "tau", "kww_exponent", "parameters"}
        shared = {name: value for name, value in asdict(dynamics).items() if name not in known}
        parameters = json.dumps({**shared, "beam_noise": BEAM_NOISE, **dynamics.parameters})
        for q_bin, q in enumerate(q_list):
            figures = [float(q), dynamics.tau_at(q), dynamics.kww_exponent, 1.0 / config.coherent_modes, means[q_bin]]
            yield [scan_id, q_bin, dynamics.kind, *(float(value) for value in figures), parameters, True]


def _write_csv(path: Path, rows: Iterator[list[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _publish(path: Path, write: Callable[[Path], object], modified: float) -> Path:
    """Write under a hidden name, then rename: a file that is seen is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    write(partial)
    os.utime(partial, (modified, modified))
    os.replace(partial, path)
    return path


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

_README = """SIMULATED DATA. Nothing in this folder was measured.

Written by `ainerd-hpc simulate`.

sim_NNNN.h5            frames: /entry/data/data (t, y, x) uint16, bitshuffle/LZ4; dead pixels are 65535
sim_NNNN_metadata.hdf  frame time, start time, geometry, energy
simulated_qmap.hdf     mask and q-rings (/qmap), for all scans
sample_log.csv         time (UTC), temperature (degC), stress (Pa), with sensor noise
truth.csv              what was put in: a row for each scan and q-bin

Columns of truth.csv: q in 1/angstrom; tau in s; mean_counts in photons per pixel and frame; parameters is JSON,
times in s.
  c2(t1, t2) = 1 + contrast |g1(t1, t2)|^2, with g1 = exp(-(|u(t1) - u(t2)| / tau)^kww_exponent) where u(t) is the
  sample's own time. It runs from 0 to duration like t, so that tau is the relaxation time at the scan's mean rate.
  brownian, stretched, compressed, frozen, shear_echo, flow_fringes: u = t; so g2 of the first four is
    1 + contrast exp(-2 (delay / tau)^kww_exponent).
  ageing: u ~ ln(1 + t / initial_age); rejuvenating: the same backwards.
  avalanche: u = creep_share t + (1 - creep_share) duration (sum of jump_shares with jump_times <= t).
  sudden_change: the rate of u changes by rate_ratio at change_time, where u also jumps by jump_share duration.
  shear_echo: g1 times exp(-A^2 (s(t1) - s(t2))^2 / 2), s(t) = sin(2 pi (t / period + phase)),
    A = amplitude q / q_reference.
  flow_fringes: static_share + (1 - static_share) g1 exp(i omega (t1 - t2)),
    omega = 2 pi / fringe_period q / q_reference.
Each frame's intensity varies by beam_noise (relative standard deviation), as a beam does.
"""
