"""Seconds from the last byte of a scan to its label, and scans an hour that a watch keeps up with.

    OMP_NUM_THREADS=1 python -m benchmarks.watching [--frames 1000] [--side 512] [--counts 0.05] [--workers 2]

SIMULATED scans: speckle that decays, written by a program of its own as HDF5 that is appended to, 16 frames at a time,
beside an archive of small simulated scans. First `--scans` scans, each when the one before has its label; then
`--flood` copies at once. Prints a line of seconds for each of the first, by stage, and the rate of the others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from ainerd_hpc.archive.journal import json_lines
from ainerd_hpc.config import RunConfig, SimulateConfig
from ainerd_hpc.formats.frames.aps import write_metadata
from ainerd_hpc.formats.partitions.partition import write_partition
from ainerd_hpc.pipeline import Run
from ainerd_hpc.simulate.detector import instrument

_AT_A_TIME, _MEMORY = 16, 0.98
"""Frames that are appended together, and what of the speckle is left from one to the next."""
_PATIENCE = 900.0
"""Seconds for one scan."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("frames", 1000), ("side", 512), ("q-bins", 10), ("workers", 2), ("scans", 3), ("flood", 8)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--known", type=int, default=20, help="scans of the archive")
    parser.add_argument("--counts", type=float, default=0.05, help="photons per pixel and frame")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        _measure(Path(folder), options)


def _measure(folder: Path, options: argparse.Namespace) -> None:
    archive, incoming, log = folder / "archive", folder / "incoming", folder / "watch.log"
    incoming.mkdir()
    _make_archive(folder, options)
    words = ["watch", str(incoming), "--archive", str(archive), "--set", f"executor.workers={options.workers}"]
    with log.open("w") as said:
        watch = subprocess.Popen([sys.executable, "-m", "ainerd_hpc.cli", *words], stdout=said, stderr=said)
    try:
        _wait(watch, log, lambda: "watching" in log.read_text())
        for number in range(options.scans):
            _write(incoming, f"one_{number}", number, options)
            _wait(watch, log, lambda n=number: len(_lines(archive)) > n)
            print(_seconds(_lines(archive)[-1]))
        _flood(watch, log, archive, incoming, options)
    finally:
        watch.terminate()
        watch.wait()


def _flood(watch: subprocess.Popen[bytes], log: Path, archive: Path, incoming: Path, options: Any) -> None:
    """Many scans at once."""
    if not options.flood:
        return
    before = len(_lines(archive))
    for number in range(options.flood):
        _write(incoming, f".many_{number}", 100 + number, options)
    began = time.monotonic()
    for path in sorted(incoming.glob(".many_*")):
        path.rename(path.with_name(path.name[1:]))
    _wait(watch, log, lambda: len(_lines(archive)) >= before + options.flood)
    seconds = time.monotonic() - began
    print(
        f"{options.flood} scans at once, {options.workers} workers: {3600 * options.flood / seconds:.0f} scans an hour"
    )


def _make_archive(folder: Path, options: argparse.Namespace) -> None:
    simulate = {"num_scans": options.known, "num_frames": 128, "height": 64, "width": 80, "seed": 5}
    sections = {"simulate": simulate, "executor": {"kind": "inline"}}
    config = {"archive": folder / "archive", "source": {"path": folder / "raw"}, **sections}
    Run(RunConfig.model_validate(config), until="cluster").execute()


def _write(folder: Path, name: str, seed: int, options: argparse.Namespace) -> None:
    """A scan with its metadata and its partition, the frames last."""
    size = SimulateConfig(num_scans=1, height=options.side, width=options.side, num_q_bins=options.q_bins)
    detector = instrument(size)
    write_partition(folder / f"{name}_qmap.hdf", detector.rings, detector.geometry, "simulated")
    metadata = {"start_time": time.time(), "frame_time": 0.01, "count_time": 0.001, "geometry": detector.geometry}
    path = folder / f"{name}_metadata.hdf"
    write_metadata(path, **metadata, sample={}, simulated=True, description="simulated")
    with h5py.File(folder / f"{name}.h5", "w") as file:
        shape = (options.side, options.side)
        more = {"chunks": (1, *shape), "maxshape": (None, *shape), **hdf5plugin.Bitshuffle(cname="lz4")}
        stored = file.create_dataset("entry/data/data", (0, *shape), "u2", **more)
        for start, frames in _frames(seed, options):
            stored.resize(start + len(frames), axis=0)
            stored[start:] = frames
            file.flush()


def _frames(seed: int, options: argparse.Namespace) -> Iterator[tuple[int, np.ndarray]]:
    """Photons of a field that forgets what it was."""
    chance, shape = np.random.default_rng(seed), (options.side, options.side)

    def noise() -> np.ndarray:
        return chance.standard_normal((2, *shape), np.float32) / np.float32(np.sqrt(2))

    field = noise()
    for start in range(0, options.frames, _AT_A_TIME):
        frames = []
        for _ in range(min(_AT_A_TIME, options.frames - start)):
            field = np.float32(_MEMORY) * field + np.float32(np.sqrt(1 - _MEMORY**2)) * noise()
            frames.append(chance.poisson(options.counts * (field**2).sum(axis=0)))
        yield start, np.array(frames, np.uint16)


def _lines(archive: Path) -> list[dict[str, Any]]:
    return list(json_lines(archive / "watch.jsonl"))


def _seconds(line: dict[str, Any]) -> str:
    parts = ", ".join(f"{name} {value:.2f}" for name, value in line["seconds"].items() if name != "total")
    return f"last byte to label {line['seconds']['total']:.1f} s: {parts}"


def _wait(watch: subprocess.Popen[bytes], log: Path, is_so: Any) -> None:
    until = time.monotonic() + _PATIENCE
    while not is_so():
        if watch.poll() is not None or time.monotonic() > until:
            raise SystemExit(log.read_text())
        time.sleep(0.1)


if __name__ == "__main__":
    main()
