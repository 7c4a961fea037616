"""Shared inputs: a small simulated source folder, and configs that run on it in seconds."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from hypothesis import settings

from ainerd_hpc.config import RunConfig, SimulateConfig
from ainerd_hpc.pipeline import Run
from ainerd_hpc.simulate import write_scan, write_shared_files
from ainerd_hpc.sources.walk import looking

settings.register_profile("compiled", deadline=None)  # the first call of a kernel compiles it
settings.load_profile("compiled")

SMALL = SimulateConfig(num_scans=6, num_frames=64, height=48, width=64, num_q_bins=2, seed=7)
STATE = ("runs", "journal", "jobs", "checkpoints", ".lock")
"""Folders of an archive that record what happened, not what came out."""


@pytest.fixture(scope="session", autouse=True)
def _looking() -> Iterator[None]:
    """The processes that look at files stay from test to test."""
    with looking():
        yield


@pytest.fixture(scope="session")
def simulated_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small simulated scans with partition, metadata, sample log and truth. Read-only: copy it to change it."""
    folder = tmp_path_factory.mktemp("source")
    write_shared_files(folder, SMALL)
    for index in range(SMALL.num_scans):
        write_scan(folder, SMALL, index)
    return folder


@pytest.fixture(scope="session")
def whole_archive(simulated_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of the simulated source after a whole run; made once for all processes of the tests. Read-only."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "whole_archive"
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "archive" / "report" / "index.html").exists():
            source = shutil.copytree(simulated_source, shared / "source")
            Run(small_config(source, shared / "archive")).execute()
    return shared / "archive"


@pytest.fixture
def source(simulated_source: Path, tmp_path: Path) -> Path:
    """A copy of the simulated source that a test may damage."""
    return Path(shutil.copytree(simulated_source, tmp_path / "source"))


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., RunConfig]:
    """A config for small runs; sections are given as keyword arguments."""

    def make(folder: Path, **sections: object) -> RunConfig:
        return small_config(folder, tmp_path / "archive", **sections)

    return make


def small_config(source: Path, archive: Path, /, **sections: object) -> RunConfig:
    """The config of a small run."""
    data: dict[str, object] = {
        "archive": archive,
        "source": {"path": source},
        "maps": {"windows": ["full", 32]},
        "cluster": {"min_cluster_size": 3, "min_samples": 2},
        "executor": {"kind": "inline", "memory": "4 GB"},
    }
    return RunConfig.model_validate({**data, **sections})


def digests(root: Path) -> dict[str, str]:
    """SHA-256 of every product of an archive, by its path.

    Temporary files are none: a process of a node that hung may begin one after the run, and the next run removes it.
    """
    found = {}
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in STATE)
        for name in sorted(name for name in files if name not in STATE and not fnmatch(name, ".*@*.tmp")):
            path = Path(folder) / name
            found[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
