"""What every side of the comparison shares: one job in a process of its own, timed, as one line of JSON.

Only NumPy and h5py are needed here: the peers run in an environment without this project.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  the bitshuffle/LZ4 filter
import numpy as np

THREADS = int(os.environ.get("BENCH_THREADS", "2"))
FRAMES = "entry/data/data"
_FRAMES_PER_READ = 64

Results = dict[str, np.ndarray]


class Stopwatch:
    """Seconds by part of the job."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - began

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Time every call of owner.name as `part`."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self(part):
                return function(*args, **kwargs)

        setattr(owner, name, timed)


Job = Callable[[Path, Path, argparse.Namespace, Stopwatch], Callable[[], Results]]
"""(folder of the scan, folder to write to, options, stopwatch) -> what gives the results of a few rings, untimed."""


def main(
    job: Job,
    packages: Sequence[str],
    add_options: Callable[[argparse.ArgumentParser], None] | None = None,
    prepare: Callable[[Path, Path, argparse.Namespace], None] | None = None,
) -> None:
    """Run a job on a tiny scan (imports, compilation), then on the real one, and print one line of JSON.

    seconds: from opening the raw file to the results in a file or in memory; parts of them by their names. cpu: of all
    threads and child processes. base_mb, peak_mb: largest resident memory of this process, without its children, before
    and after the job. Results go to `--out` as .npy.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--scan", type=Path, required=True, help="folder of scan.h5 and scan_qmap.hdf")
    parser.add_argument("--warm", type=Path, required=True, help="folder of a tiny scan")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rings", type=int, nargs="+", default=[0], help="q-bins to keep for the comparison")
    if add_options:
        add_options(parser)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if prepare:  # what is no part of the job
        prepare(options.warm, options.out / "warm", options)
        prepare(options.scan, options.out / "real", options)
    job(options.warm, options.out / "warm", options, Stopwatch())
    base, watch, began, cpu = _peak_mb(), Stopwatch(), time.perf_counter(), _cpu_seconds()
    results = job(options.scan, options.out / "real", options, watch)
    seconds, cpu, peak = time.perf_counter() - began, _cpu_seconds() - cpu, _peak_mb()
    line = {
        "seconds": seconds,
        "cpu": cpu,
        **watch.seconds,
        "base_mb": base,
        "peak_mb": peak,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }
    for name, values in results().items():
        np.save(options.out / f"{name}.npy", values)
    print(json.dumps(line))


def read_labels(scan: Path) -> np.ndarray:
    """Dynamic labels (y, x) int64, 0 = unused."""
    with h5py.File(scan / "scan_qmap.hdf", "r") as file:
        return (file["qmap/dynamic_roi_map"][()] * file["qmap/mask"][()]).astype(np.int64)


def read_blocks(scan: Path, watch: Stopwatch) -> Iterator[np.ndarray]:
    """Successive blocks (t, y, x) of frames."""
    with h5py.File(scan / "scan.h5", "r") as file:
        for start in range(0, file[FRAMES].shape[0], _FRAMES_PER_READ):
            with watch("reading"):
                block = file[FRAMES][start : start + _FRAMES_PER_READ]
            yield block


def read_frames(scan: Path, watch: Stopwatch) -> np.ndarray:
    """All frames (t, y, x)."""
    with watch("reading"), h5py.File(scan / "scan.h5", "r") as file:
        return np.asarray(file[FRAMES][()])


def _cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(os.times()[:4])


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
