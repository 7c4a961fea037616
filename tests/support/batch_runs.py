"""What the tests on real batch systems share: a config and a site file, and waiting for what happens."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import digests
from tests.support import pbs_front
from tests.support.slurm_sandbox import cluster

_PATIENCE = 300.0


def write_config(folder: Path, source: Path) -> Path:
    """Of a small line; threads are given, since these decide about roundings in training."""
    path = folder / "small.yaml"
    data = {
        "archive": str(folder / "archive"),
        "source": {"path": str(source)},
        "maps": {"windows": ["full"]},
        "model": {"variant": "ainerd2024"},
        "train": {"epochs": 2, "batch_size": 4, "threads": 1},
        "cluster": {"min_cluster_size": 3, "min_samples": 2},
        "executor": {"kind": "inline"},
    }
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def write_site(folder: Path, system: str, **sections: object) -> Path:
    path = folder / f"{system}.yaml"
    nodes = {"cores": 1, "memory": "4 GB", "walltime": "00:05:00"}
    path.write_text(yaml.safe_dump({"system": system, "lead": "1 min", "nodes": nodes, **sections}), encoding="utf-8")
    return path


def verb(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """`ainerd-hpc` with these words."""
    command = [sys.executable, "-m", "ainerd_hpc.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@contextlib.contextmanager
def pbs_sandbox(factory: pytest.TempPathFactory) -> Iterator[None]:
    """A private SLURM behind `pbs_front`, as long as the block; the test skips where there is no qsub."""
    if not Path("/usr/bin/qsub").exists():
        pytest.skip("no qsub: apt-get install slurm-wlm-torque")
    folder = factory.mktemp("pbs")
    prolog = pbs_front.install(folder / "bin", folder / "home")
    with cluster(factory.mktemp("slurm"), task_prolog=prolog), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        yield


_runs: dict[Path, subprocess.Popen[bytes]] = {}


def begin_local_run(config: Path, factory: pytest.TempPathFactory) -> Path:
    """Have a run on this machine make the archive that others are compared with; once, for all modules."""
    archive = factory.getbasetemp() / "local_run"
    if archive not in _runs:
        command = [sys.executable, "-m", "ainerd_hpc.cli", "run", str(config), "--archive", str(archive)]
        _runs[archive] = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    return archive


def local_digests(config: Path, factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of the archive that a run on this machine makes."""
    archive = begin_local_run(config, factory)
    assert _runs[archive].wait(_PATIENCE) == 0
    return digests(archive)


def wait_for(is_so: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def states(config: Path) -> dict[str, str]:
    """What `status` says of each stage: the words after its counts."""
    result = verb("status", config)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = result.stdout.splitlines()[2:9]
    return {row.split()[0]: " ".join(row.split()[4:]) for row in rows}


def queued(*options: str) -> list[str]:
    """Ids of jobs in the queue of SLURM."""
    return subprocess.run(["squeue", "-h", "-o", "%i", *options], capture_output=True, text=True).stdout.split()


def logs(archive: Path) -> str:
    """Everything that jobs have said, for the message of a test that fails."""
    return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in sorted(archive.glob("jobs/*/logs/*")))
