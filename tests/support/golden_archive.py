"""A small source whose bytes, names and dates never change, and the digests of its products as 0.1.0 recorded them.

`golden/digests.json` holds those of counts and correlations as of the commit before the package was divided into rooms,
read from the journals and the tables of whole runs over this source: archives in the field are current only as long as
these stay the same. Maps have cells since their version 2, so that they and all that is made from them were made anew.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np

from ainerd_hpc.config import RunConfig, SimulateConfig
from ainerd_hpc.loading import load
from ainerd_hpc.simulate import write_shared_files
from tests.support.places import GOLDEN

DIGESTS: dict[str, dict[str, dict[str, str]]] = json.loads((GOLDEN / "digests.json").read_text(encoding="utf-8"))
"""Case -> stage -> key of the product -> digest; of the tables of all scans, under `tables`."""
CASES = {
    "trained": [],
    "options": [
        *("source.select=num_frames > 8", "ingest.form=none", "correct.hot_pixels=6", "correct.bad_frames=6"),
        *("correlate.stride_frames=2", "correlate.normalisation=static", "maps.windows=[8, full]"),
        *("maps.scaling=minmax", "model.name=other"),
    ],
    "corrected": [
        *("correct.dark={{frames*: {folder}/source/dark.npy, '*': null}}", "correct.monitor=i0.csv"),
        *("correlate.frame_normalisation=monitor", "ingest.form=events"),
    ],
    "given": ["model.weights={folder}/weights.npz"],
    "latents": ["model.weights={folder}/weights.npz", "source.path={folder}/published"],
}
_COMMON = [
    "model.variant=ainerd2024",
    *("executor.kind=inline", "executor.memory=4 GB", "train.epochs=1", "train.threads=1", "source.frame_time=0.01"),
    *("cluster.min_cluster_size=2", "cluster.min_samples=2", "cluster.num_neighbours=2"),
]
_DATE = 1_700_000_000_000_000_000
_HEIGHT, _WIDTH, _NUM_FRAMES = 48, 64, 32
_WEIGHTS_BYTES = 1_526_622


def golden_config(folder: Path, case: str) -> RunConfig:
    """The config of a case over what `write_golden` wrote into a folder."""
    own = [option.format(folder=folder) for option in CASES[case]]
    return load(None, [f"archive={folder}/archive", f"source.path={folder}/source", *_COMMON, *own])


def write_golden(folder: Path) -> None:
    """Write `source`, `published` and `weights.npz` into a folder."""
    _write_source(folder / "source")
    _write_published(folder / "published")
    with (folder / "weights.npz").open("wb") as file:
        file.truncate(_WEIGHTS_BYTES)  # planning looks at its name, size and date only
    for path in folder.rglob("*"):
        os.utime(path, ns=(_DATE, _DATE))


def _write_source(folder: Path) -> None:
    """Two scans of frames, one of two-time maps, and what goes with them."""
    folder.mkdir()
    settings = SimulateConfig(num_scans=2, num_frames=_NUM_FRAMES, height=_HEIGHT, width=_WIDTH, num_q_bins=2, seed=7)
    write_shared_files(folder, settings)
    for number in (1, 2):
        write_imm(folder / f"frames_{number}.imm", number)
    t = np.arange(24)
    c2 = (1 + 0.3 * np.exp(-np.abs(t[:, None] - t) / 5)).astype("<f4")
    np.save(folder / "maps_3.npy", np.stack([c2, c2]))
    np.save(folder / "dark.npy", np.full((_HEIGHT, _WIDTH), 0.25))
    (folder / "i0.csv").write_text("\n".join(["monitor", *["1.5"] * _NUM_FRAMES]) + "\n")
    (folder / "sample_log.csv").write_text("time,stress\n0,1.0\n10,2.0\n100000,3.0\n")


def write_imm(path: Path, number: int) -> None:
    """Write a small scan of frames; every number gives other counts."""
    area = _HEIGHT * _WIDTH
    with path.open("wb") as file:
        for t in range(_NUM_FRAMES):
            header = bytearray(1024)
            struct.pack_into("<iii", header, 108, _HEIGHT, _WIDTH, 2)
            struct.pack_into("<dd", header, 128, 10.0 + 0.01 * t, 0.005)
            struct.pack_into("<I", header, 152, area)
            counts = (np.arange(area) * 7919 + 104729 * t * number) % 1013 % 5
            file.write(header + counts.astype("<u2").tobytes())


def _write_published(folder: Path) -> None:
    folder.mkdir()
    np.save(folder / "latents.npy", (np.arange(6 * 64).reshape(6, 64) % 7).astype("<f4"))
    np.save(folder / "sector.npy", np.array([0, 1, 2, 0, 1, 2]))
    np.save(folder / "scan_start_s.npy", np.array([0.0, 0, 0, 5, 5, 5]))
