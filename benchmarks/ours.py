"""ainerd_hpc: C2 and multi-tau g2 of all rings, from the raw file to the published product."""

from __future__ import annotations

import argparse
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import zarr
from peers.harness import THREADS, Results, Stopwatch, main
from threadpoolctl import threadpool_limits

SETTINGS = ["executor.kind=inline", f"executor.threads={THREADS}"]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the config")


_TASKS: dict[Path, list[tuple[Any, list[Any]]]] = {}
"""Of each output folder: the stages with their tasks."""


def prepare(scan: Path, out: Path, options: argparse.Namespace) -> None:
    """Get the tasks from another process, as a worker gets them; what plans them need not be in its memory."""
    command = [sys.executable, __file__, "--tasks", str(scan), str(out), *options.set]
    _TASKS[out] = pickle.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def job(scan: Path, out: Path, options: argparse.Namespace, watch: Stopwatch):
    with threadpool_limits(THREADS):
        for stage, tasks in _TASKS[out]:
            for task in tasks:
                with watch(stage.name):
                    stage.work(task)
    return lambda: load_product(stage.product(task.key), options.rings)


def send_tasks(scan: str, out: str, *settings: str) -> None:
    """Write the stages with their tasks to standard output, pickled."""
    from ainerd_hpc.archive.journal import Journal
    from ainerd_hpc.loading import load
    from ainerd_hpc.planning import line_of
    from ainerd_hpc.sources.discovery import discover
    from ainerd_hpc.sources.shared_products import publish_shared

    config = load(None, [f"source.path={scan}", f"archive={out}", *SETTINGS, *settings])
    found = discover(config.source)
    line = line_of(config, Journal(config.archive), found)
    publish_shared(line.stage("ingest").config, found)
    tasks = [(line.stage(name), line.tasks(name, found.scans)) for name in ("ingest", "correlate")]
    sys.stdout.buffer.write(pickle.dumps(tasks))


def load_product(path: Path, rings: list[int]) -> Results:
    group = zarr.open_group(zarr.storage.ZipStore(path), mode="r")
    scale = group["c2_scale"][rings]
    c2 = group["c2_unnormalized"][rings] * scale[:, :, None] * scale[:, None, :]
    return {"c2": c2, "g2": group["g2"][rings], "lag": group["lag"][...]}


if __name__ == "__main__":
    if sys.argv[1] == "--tasks":
        send_tasks(*sys.argv[2:])
        sys.exit()
    main(job, ["ainerd-hpc", "numpy", "numba", "zarr"], add_options, prepare)
