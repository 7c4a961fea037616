"""A small archive with clusters, made once; and programs that write scans while they are being watched."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ainerd_hpc.archive.cluster_fit import TRUST, Fit, write_fit
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.tables import read_table, read_vectors, write_table
from ainerd_hpc.cli import main
from ainerd_hpc.kernels.clustering.placing import Belonging, Clustered

_WRITER = """
import sys, time, h5py, hdf5plugin
source, target, mode, pause, name = sys.argv[1:]
with h5py.File(source, "r") as file:
    frames = file[name][...]
with h5py.File(target, "w", libver="latest" if "swmr" in mode else None) as file:
    chunks, most = (8, *frames.shape[1:]), (None, *frames.shape[1:])
    stored = file.create_dataset(name, (0, *frames.shape[1:]), frames.dtype, chunks=chunks, maxshape=most)
    if "swmr" in mode:
        file.swmr_mode = True
    for start in range(0, len(frames), 8):
        stored.resize(start + 8, axis=0)
        stored[start : start + 8] = frames[start : start + 8]
        file.flush()
        print(start + 8, flush=True)
        time.sleep(float(pause))
    if "dies" in mode:
        import os
        os._exit(1)
"""
"""Appends the frames of a scan to a file of its own, eight at a time, as a detector does."""


@pytest.fixture
def write() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a program that appends the frames of a scan to another file: plainly or as single writer (`swmr`)."""
    started: list[subprocess.Popen[str]] = []

    def start(source: Path, target: Path, mode: str = "plain", pause: float = 0.05) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", _WRITER, str(source), str(target), mode, str(pause), "entry/data/data"]
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def known(simulated_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Six scans up to their latents; each scan is a cluster, by hand. Read-only."""
    archive = Archive(tmp_path_factory.mktemp("known"))
    words = ["--source", str(simulated_source), "--archive", str(archive.root), "--executor", "inline"]
    assert main(["run", *words, "--set", "maps.windows=[32]", "--until", "embed"]) == 0
    index, latents = read_table(archive.map_index_path), read_vectors(archive.embedding_path("default"), "latent")
    label = pd.factorize(index["scan_id"])[0].astype(np.int64)
    said = {"label": label, "kind": "kind of " + index["scan_id"], "x": latents[:, 0], "y": latents[:, 1]}
    write_table(archive.clusters_path("default"), index.assign(**{n: pd.Series(v) for n, v in said.items()}))
    write_fit(archive.cluster_fit_path("default"), _fit(index, latents, label), "by hand")
    return archive


def _fit(index: pd.DataFrame, latents: np.ndarray, label: np.ndarray) -> Fit:
    """A fit in which a latent belongs to a cluster as far as the members of that lie apart."""
    distance = np.linalg.norm(latents[:, None] - latents[None], axis=2).astype(np.float64)
    ones, near = np.ones(len(label)), np.sort(distance, axis=1)
    reach = np.array([distance[label == one][:, label == one].max() for one in range(label.max() + 1)])
    belonging = Belonging(label, ones, np.full(len(label), -1), 0 * ones)
    whole = Clustered(
        latents=latents,
        points=latents,
        picture=latents[:, :2].astype(np.float64),
        belonging=belonging,
        radius=np.full(len(label), np.median(near[:, 1])),
        core=near[:, 1],
        spacing=near[:, 1],
        reach=reach,
        densest=reach / 2,
        edge=reach,
        min_samples=1,
    )
    trust = pd.DataFrame(1.0, index=range(len(reach)), columns=list(TRUST))
    return Fit(whole, None, index["map_id"].to_numpy(), trust, parity=0.0)
