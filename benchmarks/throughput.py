"""Many small scans: scans a second through Dask workers, against the bare time of the tasks in one process.

    python -m benchmarks.throughput [--scans 200]

The scans are SIMULATED; a few different ones, each under many names. `bare` calls the work of every task one after the
other in this process: read, correlate, publish, and nothing else. With Dask come the scheduler, the journal and the
other process. Starting the workers is not counted, nor their first task each, which loads the libraries.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ainerd_hpc.archive.journal import Journal
from ainerd_hpc.config import RunConfig
from ainerd_hpc.executors import open_executor
from ainerd_hpc.loading import load
from ainerd_hpc.planning import line_of
from ainerd_hpc.sources.discovery import discover
from ainerd_hpc.sources.shared_products import publish_shared
from ainerd_hpc.stages.contract import Stage
from ainerd_hpc.types import Task
from benchmarks.photons import Photons, write

_DIFFERENT = 4
SMALL = Photons(num_frames=512, height=256, width=256, num_q_bins=8, num_static_per_q=5, mean_counts=0.3)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=200)
    parser.add_argument("--frames", type=int, default=SMALL.num_frames)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        source = write_scans(Path(folder), options.scans, options.frames)
        print(f"{options.scans} scans of {options.frames} x {SMALL.height} x {SMALL.width}, {SMALL.num_q_bins} q-bins")
        print("| way | s | scans/s | against bare | against 1 worker |")
        print("|---|---|---|---|---|")
        seconds = {"bare": bare(source, Path(folder))}
        for workers in (1, 2):
            seconds[f"{workers} Dask workers"] = with_dask(source, Path(folder), workers)
        for way, value in seconds.items():
            gain = seconds["1 Dask workers"] / value
            ratio = f"{value / seconds['bare'] - 1:+.1%}" if way != "2 Dask workers" else ""
            print(f"| {way} | {value:.2f} | {options.scans / value:.1f} | {ratio} | {gain:.2f} |")


def write_scans(folder: Path, num_scans: int, num_frames: int) -> Path:
    """A source folder with so many scans, most of them the same photons under another name."""
    source = folder / "source"
    source.mkdir()
    for number in range(min(_DIFFERENT, num_scans)):
        photons = Photons(**{**vars_of(SMALL), "num_frames": num_frames, "seed": number})
        made = write(folder / f"scan{number}", photons).parent
        for copy in range(number, num_scans, _DIFFERENT):
            for suffix in (".h5", "_metadata.hdf"):
                shutil.copy(made / f"scan{suffix}", source / f"s{copy:04}{suffix}")
            with (source / f"s{copy:04}.h5").open("ab") as file:  # of another size, or it would be found to be a copy
                file.write(bytes(copy + 1))
        shutil.copy(made / "scan_qmap.hdf", source / "qmap.hdf")
    return source


def vars_of(photons: Photons) -> dict[str, object]:
    return {name: getattr(photons, name) for name in Photons.__dataclass_fields__}


def bare(source: Path, folder: Path) -> float:
    """Seconds of all tasks, one after the other in this process."""
    with prepared(source, folder, 1) as (_, stage, tasks):
        stage.work(tasks[0])
        began = time.perf_counter()
        for task in tasks:
            stage.work(task)
        return time.perf_counter() - began


def with_dask(source: Path, folder: Path, workers: int) -> float:
    """Seconds of all tasks on Dask workers, from the first submission to the last result."""
    with prepared(source, folder, workers) as (config, stage, tasks), open_executor(config.executor) as executor:
        for result in executor.map(stage.run_task, tasks[: 4 * workers]):
            assert not result.reason, result.reason
        began = time.perf_counter()
        for result in executor.map(stage.run_task, tasks):
            assert not result.reason, result.reason
        return time.perf_counter() - began


@contextmanager
def prepared(source: Path, folder: Path, workers: int) -> Iterator[tuple[RunConfig, Stage, list[Task]]]:
    """An empty archive with everything but the correlation."""
    archive = folder / "archive"
    settings = [f"executor.workers={workers}", "executor.threads=1", "executor.memory=2 GB", "ingest.form=none"]
    config = load(None, [f"source.path={source}", f"archive={archive}", *settings])
    found = discover(config.source)
    line = line_of(config, Journal(config.archive), found)
    stage, tasks = line.stage("correlate"), line.tasks("correlate", found.scans)
    publish_shared(stage.config, found)
    stage.prepare(tasks)
    yield config, stage, tasks
    shutil.rmtree(archive)


if __name__ == "__main__":
    main()
