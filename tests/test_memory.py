"""The plan's projected peak bounds what a process really takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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

name, source, archive = sys.argv[1:]
config = load(None, [f'source.path={source}', f'archive={archive}', 'executor.kind=inline', 'maps.windows=[full, 100]'])
stage = create(name, config)
scans = stage.archive.read_catalog()
task = next(iter(stage.tasks(scans)))
stage.work(task)
print(peak(), PROCESS_BYTES, task.peak_bytes)
"""

SHAPES = {
    "long": SimulateConfig(num_scans=1, num_frames=2500, height=40, width=48, num_q_bins=2),
    "wide": SimulateConfig(num_scans=1, num_frames=128, height=400, width=480, num_q_bins=2),
}


@pytest.fixture(scope="module", params=SHAPES)
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source with one scan, and an archive in which it is correlated."""
    folder = tmp_path_factory.mktemp(request.param)
    write_shared_files(folder / "source", SHAPES[request.param])
    write_scan(folder / "source", SHAPES[request.param], 0)
    command = [sys.executable, "-m", "ainerd_hpc.cli", "run", "--until", "maps", "--executor", "inline"]
    subprocess.run(
        [*command, "--source", str(folder / "source"), "--archive", str(folder / "archive")],
        check=True,
        capture_output=True,
    )
    return folder / "source", folder / "archive"


@pytest.mark.parametrize("stage", ["ingest", "correlate", "maps"])
def test_projected_peak_bounds_the_measured_one(stage: str, prepared: tuple[Path, Path]) -> None:
    command = [sys.executable, "-c", SCRIPT, stage, *map(str, prepared)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    measured, process, task = map(int, result.stdout.split())
    print(f"{stage}: measured {measured / 1e6:.0f} MB, planned {process / 1e6:.0f} + {task / 1e6:.0f} MB")
    assert measured < process + task
