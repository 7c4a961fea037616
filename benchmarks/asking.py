"""What it costs to ask a large archive: which scans are alike, and what goes with what.

    OMP_NUM_THREADS=1 python -m benchmarks.asking [--maps 1000000] [--q-bins 10] [--windows 1]

SIMULATED tables: latents of 32 numbers, 20 clusters, a sample log of 9 columns. Prints CPU seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ainerd_hpc.archive.tables import read_vectors, write_table
from ainerd_hpc.kernels.nearest import nearest
from ainerd_hpc.report.relations import relate
from ainerd_hpc.types import Content, Scan

_SPACING, _LOGGED = 100.0, 10.0
"""s from scan to scan, and from one row of the log to the next."""
_CLUSTERS, _LATENTS = 20, 32


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("--maps", 1_000_000), ("--q-bins", 10), ("--windows", 1)):
        parser.add_argument(name, type=int, default=number)
    options = parser.parse_args(arguments)
    chance = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "embedding.parquet"
        latents = chance.normal(size=(options.maps, _LATENTS)).astype(np.float32)
        write_table(path, pd.DataFrame({"latent": list(latents)}))
        _measure("similar: read latents", lambda: read_vectors(path, "latent"))
    _measure("similar: nearest to a map", lambda: nearest(latents, latents[:1]))
    _measure("similar: nearest to a scan of 40 maps", lambda: nearest(latents, latents[:40]))
    num_scans = options.maps // options.q_bins // options.windows
    log = _log(num_scans, chance)
    table = _table(num_scans, options.windows, options.q_bins, log, chance)
    scans = [
        Scan(f"s{i}", "s", "aps", Content.FRAMES, 100, 8, 8, 2, options.q_bins, 0.1, energy=8.0 + i % 3)
        for i in range(num_scans)
    ]
    _measure(f"relate: {len(table)} maps of {num_scans} scans", lambda: relate(table, scans, log, list(log)[1:]))


def _log(num_scans: int, chance: np.random.Generator) -> pd.DataFrame:
    """Drifts, and a setpoint that is changed now and then."""
    times = np.arange(0, num_scans * _SPACING, _LOGGED)
    drifts = {f"drift_{k}": np.cumsum(chance.normal(size=len(times))) for k in range(8)}
    setpoint = chance.integers(0, 5, len(times) // 500 + 1).repeat(500)[: len(times)]
    return pd.DataFrame({"time": times, **drifts, "setpoint": setpoint})


def _table(num_scans: int, windows: int, q_bins: int, log: pd.DataFrame, chance: np.random.Generator) -> pd.DataFrame:
    """Maps whose clusters drift from scan to scan."""
    scan = np.repeat(np.arange(num_scans), windows * q_bins)
    window = np.tile(np.repeat(np.arange(windows), q_bins), num_scans)
    label = (np.cumsum(chance.normal(size=num_scans)) / 30 % _CLUSTERS).astype(int)[scan]
    label = np.where(chance.random(len(scan)) < 0.3, chance.integers(-1, _CLUSTERS, len(scan)), label)
    table = pd.DataFrame({"scan_id": np.array([f"s{i}" for i in range(num_scans)], dtype=object)[scan], "label": label})
    table = table.assign(q_bin=np.tile(np.arange(q_bins), num_scans * windows), time=scan * _SPACING + window + 0.5)
    decay = np.exp(chance.normal(size=len(scan)))
    table = table.assign(age_start=window * 10, age_stop=window * 10 + 10, half_decay=decay)
    known = {name: np.interp(table["time"], log["time"], log[name]) for name in list(log)[1:]}
    return table.assign(**known)


def _measure(name: str, work: Callable[[], object]) -> None:
    began = time.process_time()
    work()
    print(f"{name}: {time.process_time() - began:.3g} s")


if __name__ == "__main__":
    main()
