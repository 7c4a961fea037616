"""Who is compared, and how one of them is run: a fresh process, a folder of results, a line of JSON."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import photons, reference

ROOT = Path(__file__).parents[1]
BENCH = ROOT / ".bench"
PEER_PYTHON = BENCH / "venv/bin/python"
TINY = photons.Photons(64, 64, 64, num_q_bins=3, num_static_per_q=2, mean_counts=0.5)
"""For warming up: imports and compilation are not timed, on any side."""


@dataclass(frozen=True)
class Side:
    """One way to correlate a scan."""

    name: str
    computes: str
    script: str
    options: tuple[str, ...] = ()
    definitions: Mapping[str, str] = field(default_factory=dict)
    """Result -> function of `reference` that defines it."""
    tolerance: float = 1e-6
    """boost_corr sums C2 in float32 and multi-tau in bfloat16: 1e-6 and 1e-4 at full size, more for few pixels."""
    frames: int = 0
    """Correlates only so many; its seconds are extrapolated as the square."""

    @property
    def is_ours(self) -> bool:
        return self.script == "ours.py"

    @property
    def python(self) -> Path:
        return Path(sys.executable) if self.is_ours else PEER_PYTHON


OURS = Side("ainerd_hpc", "C2, multi-tau g2", "ours.py", definitions={"c2": "c2_plain", "g2": "g2_static"})
_ESRF = {"c2": "c2_plain", "g2": "g2_every_lag"}
PEERS = (
    Side("boost_corr", "C2", "peers/boost.py", ("--type", "twotime"), {"c2": "c2_sqmap"}, 1e-5),
    Side("boost_corr", "multi-tau g2", "peers/boost.py", ("--type", "multitau"), {"g2": "g2_static"}, 2.5e-3),
    Side(
        "boost_corr",
        "C2, multi-tau g2",
        "peers/boost.py",
        ("--type", "both"),
        {"c2": "c2_sqmap", "g2": "g2_static"},
        2.5e-3,
    ),
    Side("xpcs-correlator dense", "C2, every-lag g2", "peers/esrf.py", ("--form", "dense"), _ESRF),
    Side("xpcs-correlator by frame", "C2, every-lag g2", "peers/esrf.py", ("--form", "frame"), _ESRF),
    Side("xpcs-correlator by pixel", "C2, every-lag g2", "peers/esrf.py", ("--form", "pixel"), _ESRF),
    Side("scikit-beam", "multi-tau g2", "peers/scikit_beam.py", ("--type", "multitau"), {"g2": "g2_dynamic"}, 1e-10),
)


def scikit_beam_c2(frames: int) -> Side:
    """scikit-beam's two-time correlation of the first frames, or of all for 0, which takes a quarter of an hour."""
    options = ("--type", "twotime", *(("--frames", str(frames)) if frames else ()))
    return Side("scikit-beam", "C2", "peers/scikit_beam.py", options, {"c2": "c2_plain"}, 1e-10, frames)


def has_peers() -> bool:
    """Whether `make bench-setup` was run."""
    return PEER_PYTHON.parents[1].joinpath(".done").exists()


def scan_of(content: photons.Photons) -> Path:
    """Folder of a simulated scan; it is written once and kept in .bench/data."""
    source = Path(photons.__file__).read_bytes() + repr(content).encode()
    folder = BENCH / "data" / hashlib.sha256(source).hexdigest()[:16]
    if not (folder / "scan.h5").exists():
        photons.write(folder, content)
    return folder


def run(side: Side, scan: Path, rings: Sequence[int], out: Path) -> dict[str, Any]:
    """What the side's script prints of its job; the results of the rings are in `out`.

    Raises
    ------
    RuntimeError
        With the last lines of the script, if it fails.
    """
    threads = os.environ.get("BENCH_THREADS", "2")
    limits = {f"{library}_NUM_THREADS": threads for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    command = [side.python, ROOT / "benchmarks" / side.script, "--scan", scan, "--warm", scan_of(TINY), "--out", out]
    done = subprocess.run(
        [*map(str, command), "--rings", *map(str, rings), *side.options],
        capture_output=True,
        text=True,
        env={**os.environ, **limits, "CUDA_VISIBLE_DEVICES": ""},
    )
    if done.returncode:
        raise RuntimeError(f"{side.name} failed: {done.stderr[-2000:]}")
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return line


def measure(side: Side, scan: Path, rings: Sequence[int] = ()) -> dict[str, Any]:
    """One run, and how far its results are from its own definition in float64, for each result of the rings."""
    with tempfile.TemporaryDirectory(dir=BENCH) as folder:
        line = run(side, scan, rings or [0], Path(folder))
        line["deviation"] = {
            result: max(
                reference.deviation(found, expected(scan, ring, definition, side.frames))
                for ring, found in zip(rings, np.load(Path(folder) / f"{result}.npy"), strict=True)
            )
            for result, definition in (side.definitions.items() if rings else ())
        }
    return line


_expected: dict[tuple[Path, int, str, int], np.ndarray] = {}


def expected(scan: Path, ring: int, definition: str, frames: int = 0) -> np.ndarray:
    """The definition in float64, computed once."""
    key = (scan, ring, definition, frames)
    if key not in _expected:
        counts, static = reference.ring_counts(scan, ring)
        _expected[key] = getattr(reference, definition)(counts[: frames or None], static)
    return _expected[key]
