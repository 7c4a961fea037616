"""Workers made ready: what the first scan would wait for (libraries, compiled kernels) is loaded before it comes."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ainerd_hpc.config import RunConfig
from ainerd_hpc.console import console
from ainerd_hpc.errors import AinerdError
from ainerd_hpc.executors import Workers
from ainerd_hpc.types import Task, TaskResult

_DENSE, _SPARSE = 3.0, 0.3
"""Photons per pixel and frame: each is correlated in its own way."""


def warm(workers: Workers, number: int) -> None:
    """Start the workers, and have each of them take two small simulated scans to their maps."""
    console.print(f"{number} workers are made ready")
    list(workers.map(_trial, [Task(f"trial {place}", "", 0, 0, 0) for place in range(number)]))


def _trial(task: Task) -> TaskResult:
    from ainerd_hpc.pipeline import Run

    for counts in (_DENSE, _SPARSE):
        folder, tried = tempfile.TemporaryDirectory(prefix="ainerd-hpc-watch-"), contextlib.suppress(AinerdError)
        with folder as name, _silence(), tried:  # for what it loads
            Run(_small(Path(name), counts), until="maps").execute()
    return TaskResult(task.key, task.digest)


def _small(folder: Path, counts: float) -> RunConfig:
    size = {"num_scans": 1, "num_frames": 64, "height": 48, "width": 64, "num_q_bins": 2, "mean_counts": counts}
    sections = {"simulate": size, "maps": {"windows": [32]}, "executor": {"kind": "inline"}}
    return RunConfig.model_validate({"archive": folder / "archive", "source": {"path": folder / "raw"}, **sections})


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before
