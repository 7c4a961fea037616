"""The plan's projected peak bounds what a process really takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ainerd_hpc.config import SimulateConfig
from ainerd_hpc.simulate import write_scan, write_shared_files

SCRIPT = """
import sys
from pathlib import Path
from ainerd_hpc.config import load
from ainerd_hpc.pipeline import Run
from ainerd_hpc.stages import create
from ainerd_hpc.types import PROCESS_BYTES

def peak():
    line = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))
    return int(line.split()[1]) * 1024

name, content, source, archive, *more = sys.argv[1:]
settings = ['executor.kind=inline', 'executor.memory=20 GB', 'maps.windows=[full, 100]', *more]
config = load(None, [f'source.path={source}', f'archive={archive}', *settings])
stage = create(name, config)
scans = [scan for scan in stage.archive.read_catalog() if scan.content.value == content]
task = next(iter(stage.tasks(scans)))
import torch, ainerd_hpc.stages.line, ainerd_hpc.kernels.maps  # what any task may load is in PROCESS_BYTES
from ainerd_hpc.kernels import twotime
twotime.has_exact_int8()
base = peak()
stage.work(task)
print(base, peak() - base, PROCESS_BYTES, task.peak_bytes)
"""

SHAPES = {
    "long": SimulateConfig(num_scans=1, num_frames=2500, height=40, width=48, num_q_bins=2),
    "wide": SimulateConfig(num_scans=1, num_frames=128, height=400, width=480, num_q_bins=2),
    "sparse": SimulateConfig(num_scans=1, num_frames=1500, height=160, width=192, num_q_bins=4, mean_counts=0.02),
}
MAPS = (12, 900)
"""q-bins and frames of a file of two-time maps."""


@pytest.fixture(scope="module", params=SHAPES)
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source with one scan of frames and one of two-time maps, and an archive in which they are correlated."""
    folder = tmp_path_factory.mktemp(request.param)
    write_shared_files(folder / "source", SHAPES[request.param])
    write_scan(folder / "source", SHAPES[request.param], 0)
    t = np.arange(MAPS[1])
    c2 = 1 + 0.3 * np.exp(-np.abs(t[:, None] - t) / np.arange(5, 5 + MAPS[0])[:, None, None])
    np.save(folder / "source" / "c2.npy", c2)
    command = [sys.executable, "-m", "ainerd_hpc.cli", "run", "--until", "maps", "--executor", "inline"]
    subprocess.run(
        [*command, "--source", str(folder / "source"), "--archive", str(folder / "archive")]
        + ["--set", "source.frame_time=0.1"],
        check=True,
        capture_output=True,
    )
    return folder / "source", folder / "archive"


@pytest.mark.parametrize(
    ("stage", "content", "more"),
    [
        ("ingest", "frames", ()),
        ("ingest", "frames", ("ingest.form=events",)),
        ("correlate", "frames", ()),
        ("correlate", "frames", ("ingest.form=none", "executor.threads=2")),
        ("correlate", "frames", ("correlate.delays_per_level=100",)),
        ("correlate", "frames", ("correlate.form=events",)),
        ("correlate", "frames", ("correlate.form=dense", "correlate.normalisation=static")),
        ("correlate", "frames", ("correlate.average_frames=2", "correlate.frame_normalisation=true")),
        ("correlate", "frames", ("maps.windows=[100]", "executor.threads=2")),
        ("correlate", "c2", ()),
        ("maps", "frames", ()),
        ("maps", "c2", ()),
    ],
)
def test_projected_peak_bounds_the_measured_one(
    stage: str, content: str, more: tuple[str, ...], prepared: tuple[Path, Path]
) -> None:
    command = [sys.executable, "-c", SCRIPT, stage, content, *map(str, prepared), "source.frame_time=0.1", *more]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    base, measured, process, planned = map(int, result.stdout.split())
    print(stage, content, more, *(f"{size / 1e6:.0f} MB" for size in (base, process, measured, planned)))
    assert base < process
    assert measured < planned
    assert planned < 8 * measured + 2**27  # a bound, not a guess at infinity
