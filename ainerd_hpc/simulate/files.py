"""The source folder: detector files of every scan, and the partition, sample log, truth and README that they share."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from math import ceil
from pathlib import Path

import numpy as np

from ainerd_hpc.config import SimulateConfig
from ainerd_hpc.formats.frames.aps import write_metadata, write_raw
from ainerd_hpc.formats.partitions.partition import write_partition
from ainerd_hpc.simulate.chance import Stream, generator
from ainerd_hpc.simulate.detector import instrument
from ainerd_hpc.simulate.dynamics import Dynamics, draw_dynamics
from ainerd_hpc.simulate.speckle import BEAM_NOISE, mean_counts, simulate_counts

LAST_FILE = "README.txt"
"""Written last of all: the source is complete."""
PREFIX = "sim_"
"""How the names of simulated scans begin."""

_DESCRIPTION = "simulated by ainerd-hpc simulate; not measured"
_START = datetime(2024, 1, 15, 8, 0, tzinfo=UTC).timestamp()
_LEAD = 20.0
"""Temperature and stress are set this long before a scan starts, s."""
_LOG_PERIOD = 5.0
"""s."""

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
    with _publishing(folder / f"{scan_id}_metadata.hdf", start) as path:
        write_metadata(
            path,
            start_time=start,
            frame_time=config.frame_time,
            count_time=config.frame_time / 10.0,
            geometry=instrument(config).geometry,
            sample={"temperature": (dynamics.temperature, "degC"), "stress": (dynamics.stress, "Pa")},
            simulated=True,
            description=_DESCRIPTION,
        )
    raw = folder / f"{scan_id}.h5"
    with _publishing(raw, start) as path:
        write_raw(path, counts, simulated=True)
    return raw


def write_shared_files(folder: Path, config: SimulateConfig) -> None:
    """Write what all scans share: simulated_qmap.hdf, sample_log.csv, truth.csv and README.txt."""
    detector = instrument(config)
    with _publishing(folder / "simulated_qmap.hdf", _START) as path:
        write_partition(path, detector.rings, detector.geometry, _DESCRIPTION)
    for name, rows in {"sample_log.csv": _sample_log(config), "truth.csv": truth(config)}.items():
        with _publishing(folder / name, _START) as path, path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    with _publishing(folder / LAST_FILE, _START) as path:
        path.write_text(_README, encoding="utf-8")


def truth(config: SimulateConfig) -> Iterator[list[object]]:
    """Rows of truth.csv: the header, then one for each scan and q-bin."""
    yield ["scan_id", "q_bin", "kind", "q", "tau", "kww_exponent", "contrast", "mean_counts", "parameters", "simulated"]
    q_list, means = instrument(config).rings.partition.dynamic_q_list, mean_counts(config)
    for index, scan_id in enumerate(scan_ids(config)):
        dynamics = draw_dynamics(config, index)
        parameters = json.dumps(_parameters(dynamics))
        for q_bin, q in enumerate(q_list):
            figures = [q, dynamics.tau_at(q), dynamics.kww_exponent, 1.0 / config.coherent_modes, means[q_bin]]
            yield [scan_id, q_bin, dynamics.kind, *(float(value) for value in figures), parameters, True]


def _parameters(dynamics: Dynamics) -> dict[str, object]:
    """What truth.csv has no column for."""
    names = ("q_reference", "q_exponent", "duration", "temperature", "stress")
    shared = {name: getattr(dynamics, name) for name in names}
    return {**shared, "beam_noise": BEAM_NOISE, **dynamics.parameters}


def _sample_log(config: SimulateConfig) -> Iterator[list[object]]:
    """Readings every few seconds, with sensor noise, from before the first scan to after the last."""
    yield ["time", "temperature", "stress"]
    random = generator(config, Stream.SAMPLE_LOG)
    interval = start_time(config, 1) - start_time(config, 0)
    for index in range(config.num_scans):
        dynamics, start = draw_dynamics(config, index), start_time(config, index) - _LEAD
        for second in np.arange(0.0, interval, _LOG_PERIOD):
            stamp = datetime.fromtimestamp(start + second, UTC).isoformat(timespec="seconds")
            temperature = dynamics.temperature + 0.05 * random.standard_normal()
            stress = dynamics.stress + 0.2 * random.standard_normal()
            yield [stamp, f"{temperature:.3f}", f"{stress:.3f}"]


@contextmanager
def _publishing(path: Path, modified: float) -> Iterator[Path]:
    """Give a hidden path beside `path`; when the block ends well, set its modification time and rename it to `path`.

    Not the archive's: the hidden name is always the same, so that a run which goes on after a kill leaves none behind
    in a folder that nobody sweeps.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    yield partial
    os.utime(partial, (modified, modified))
    partial.replace(path)
