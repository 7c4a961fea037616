"""How the clusters of a large archive scale: time, memory, agreement with the truth and with a fit of everything.

    python -m benchmarks.clusters [--maps 100000 300000 1000000 2000000] [--full 50000] [--coreset 20000]

Latents are SIMULATED: 12 kinds (Gaussians of unequal size and width in 16 dimensions), a tenth of background without
any kind, and ten rare kinds of 0.02 % of the maps each. Each size is an archive on disk, for which the cluster stage
runs in a process of its own. Rare kinds count as found where a cluster has half of its maps in common with them, as the
Jaccard index. Some blocks are labelled once more in one process and in two, from the fit that the stage has published.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from ainerd_hpc.archive.cluster_fit import read_fit
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.tables import ROWS, read_blocks, read_table, write_table, writing_table
from ainerd_hpc.kernels.clustering.placing import Placing
from ainerd_hpc.loading import load
from ainerd_hpc.stages.cluster import Cluster
from ainerd_hpc.types import Task

KINDS, RARE, RARE_SHARE, BACKGROUND, DIMENSIONS = 12, 10, 2e-4, 0.1, 16
_MAPS_OF_SCAN = 12


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, nargs="+", default=[100_000, 300_000, 1_000_000, 2_000_000])
    parser.add_argument("--full", type=int, default=50_000, help="maps for the comparison with a fit of all")
    parser.add_argument("--coreset", type=int, default=20_000)
    parser.add_argument("--stage", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.stage:
        print(json.dumps(stage(options.stage, options.coreset)))
        return
    print("| maps | s | CPU s | peak MB | clusters | noise | ARI with the truth | rare kinds found | 1 and 2 workers |")
    print("|---|---|---|---|---|---|---|---|---|")
    seconds = []
    for number in options.maps:
        with tempfile.TemporaryDirectory() as folder:
            kinds, found = make_archive(Path(folder), number), run(Path(folder), options.coreset)
            labels = labels_of(Path(folder))
            same = "the same" if in_workers(Path(folder), 1) == in_workers(Path(folder), 2) else "DIFFER"
        seconds.append(found["cpu"])
        figures = f"{number} | {found['wall']:.0f} | {found['cpu']:.0f} | {found['peak'] / 1e6:.0f}"
        worth = f"{labels.max() + 1} | {np.mean(labels < 0):.3f} | {adjusted_rand_score(kinds, labels):.4f}"
        print(f"| {figures} | {worth} | {num_rare_found(kinds, labels)} of {RARE} | {same} |", flush=True)
    if len(options.maps) > 1:
        print(f"exponent of CPU s: {np.polyfit(np.log(options.maps), np.log(seconds), 1)[0]:.2f}")
    print(against_full(options.full, min(options.coreset, options.full // 2)))


def make_archive(root: Path, number: int, seed: int = 0) -> np.ndarray:
    """Write the tables that the cluster stage reads; give the kind of each map, -1 for background."""
    archive, kinds, chance = Archive(root), [], np.random.default_rng([seed, 1])
    write_table(archive.sample_log_path, pd.DataFrame({"time": pd.Series(dtype=np.float64)}))
    with (
        writing_table(archive.map_index_path, "i") as index,
        writing_table(archive.embedding_path("default"), "e") as embedding,
    ):
        for start, (latents, block) in zip(range(0, number, ROWS), _blocks(number, seed), strict=True):
            rows = np.arange(start, start + len(block))
            ids = [f"map_{row}" for row in rows]
            scans = [f"scan_{row // _MAPS_OF_SCAN:07d}" for row in rows]
            table = pd.DataFrame({"map_id": ids, "scan_id": scans, "time": rows * 1.0, "tau": np.exp(block / 5)})
            index(table.assign(age_start=0, age_stop=100, signal_to_noise=chance.lognormal(3.0, 1.0, len(rows))))
            embedding(pd.DataFrame({"map_id": ids, "latent": list(latents), "reconstruction_l1": 0.1}))
            kinds.append(block)
    return np.concatenate(kinds)


def _blocks(number: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    chance = np.random.default_rng(seed)
    centres = 4 * chance.normal(size=(KINDS + RARE, DIMENSIONS))
    widths = np.r_[chance.uniform(0.5, 1.2, KINDS), np.full(RARE, 0.4)]
    shares = (1 - BACKGROUND - RARE * RARE_SHARE) * chance.dirichlet(np.full(KINDS, 5.0))
    shares = np.r_[shares, np.full(RARE, RARE_SHARE), BACKGROUND]
    for start in range(0, number, ROWS):
        size = min(ROWS, number - start)
        kind = chance.choice(len(shares), size, p=shares / shares.sum())
        kind[kind == KINDS + RARE] = -1
        latents = centres[kind] + widths[kind][:, None] * chance.normal(size=(size, DIMENSIONS))
        latents[kind < 0] = chance.uniform(-12, 12, (int(np.sum(kind < 0)), DIMENSIONS))
        yield latents.astype(np.float32), kind


def run(root: Path, coreset: int) -> dict[str, float]:
    """Time and memory of the cluster stage over an archive, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.clusters", "--stage", str(root), "--coreset", str(coreset)]
    return dict(
        json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    )


def stage(root: Path, coreset: int) -> dict[str, float]:
    """The same, in this process."""
    config = load(None, [f"archive={root}", "source.path=nowhere", f"cluster.coreset={coreset}"])
    wall, cpu = time.perf_counter(), time.process_time()
    Cluster(config).work(Task("default", "digest", 0, 0, 0))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak": peak}


def labels_of(root: Path) -> np.ndarray:
    """Labels of all maps of an archive."""
    return read_table(Archive(root).clusters_path("default"), ["label"])["label"].to_numpy()


def num_rare_found(kinds: np.ndarray, labels: np.ndarray) -> int:
    """Rare kinds that have half of their maps, and half of those of a cluster, in common with it."""
    found = 0
    for kind in range(KINDS, KINDS + RARE):
        inside = kinds == kind
        common = np.bincount(labels[inside] + 1, minlength=labels.max() + 2)[1:]
        sizes = np.bincount(labels + 1)[1:]
        found += bool(common.size and (common / (sizes + inside.sum() - common)).max() >= 0.5)
    return found


def in_workers(root: Path, number: int) -> list[bytes]:
    """Labels of the blocks of an archive, by its fit, in so many processes."""
    latents = (np.stack(block["latent"].to_list()) for block in read_blocks(Archive(root).embedding_path("default")))
    first = [block for _, block in zip(range(4), latents, strict=False)]
    parts = [part for block in first for part in np.array_split(block, number)]
    with ProcessPoolExecutor(number, get_context("spawn")) as pool:
        found = list(pool.map(_label, [str(root)] * len(parts), parts))
    return [np.concatenate(found[start : start + number]).tobytes() for start in range(0, len(found), number)]


def _label(root: str, latents: np.ndarray) -> Any:
    return Placing(read_fit(Archive(Path(root)).cluster_fit_path("default")).main).place(latents).belonging.label


def against_full(number: int, coreset: int) -> str:
    """How far a coreset gives the clusters of a fit of everything."""
    labels = []
    with tempfile.TemporaryDirectory() as folder:
        kinds = make_archive(Path(folder), number)
        for size in (coreset, number):
            run(Path(folder), size)
            labels.append(labels_of(Path(folder)))
            Archive(Path(folder)).clusters_path("default").unlink()
    some, whole = labels
    both = (some >= 0) & (whole >= 0)
    truth = ", ".join(f"{adjusted_rand_score(kinds, found):.4f}" for found in labels)
    all_maps, inside = adjusted_rand_score(whole, some), adjusted_rand_score(whole[both], some[both])
    return (
        f"{number} maps, a coreset of {coreset} and a fit of all: ARI {all_maps:.4f}, {inside:.4f} without what either "
        f"calls noise ({np.mean(some < 0):.3f}, {np.mean(whole < 0):.3f}); with the truth {truth}"
    )


if __name__ == "__main__":
    main()
