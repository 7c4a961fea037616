"""What this machine can do at best in the steps that a correlation cannot avoid, on one and two threads.

python -m benchmarks.floor
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numba
import numpy as np

from ainerd_hpc.kernels.bits.bitshuffle import ChunkReader
from ainerd_hpc.scaling.measure import least_seconds
from benchmarks import photons
from benchmarks.sides import scan_of

best = partial(least_seconds, repeats=20)


@dataclass(frozen=True)
class Floor:
    """Rates on a number of threads."""

    threads: int
    products: float
    """int8 x int8 -> int32 multiply-adds a second."""
    copied: float
    """Bytes copied a second (each is read once and written once)."""
    pairs: float
    """Pairs of photons a second, added one by one to a (t, t) array of int32."""
    decoded: float
    """Bytes of frames a second out of bitshuffle/LZ4."""


def measure(threads: int, content: photons.Photons | None = None) -> Floor:
    """The floors, best of a few; products for 9719 pixels, the rest for the photons and frames of a simulated scan."""
    content = content or photons.Photons(mean_counts=0.05)
    scan = scan_of(content)
    return Floor(
        threads,
        _products(threads, content.num_frames),
        _copied(threads),
        _pairs(threads, content),
        _decoded(threads, scan),
    )


def c2_seconds(floor: Floor, content: photons.Photons) -> tuple[float, float]:
    """The least time to decode the frames of a scan, and to sum one triangle of C2 of all its pixels, s.

    The sum takes the cheaper way for each ring: int8 products of frames, or pairs of photons.
    """
    labels = photons.rings(content).partition.dynamic_roi_map
    sizes, means = np.bincount(labels.ravel())[1:], photons.ring_means(content, labels)[1:]
    products = content.num_frames**2 / 2 / floor.products
    pairs = (means * content.num_frames) ** 2 / 2 / floor.pairs
    size = 2.0 * np.prod(content.shape)
    return size / floor.decoded, float(sizes @ np.minimum(products, pairs))


def _products(threads: int, num_frames: int) -> float:
    import torch

    counts = torch.randint(0, 3, (num_frames, 9719), dtype=torch.int8)
    shares = counts.chunk(threads)
    # A thread that has not said otherwise starts as many OpenMP threads of its own as there are cores.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        seconds = best(lambda: list(pool.map(lambda share: torch._int_mm(share, counts.T), shares)))
    return num_frames**2 * 9719 / seconds


def _copied(threads: int, size: int = 2**28) -> float:
    source, target = np.ones(size, dtype=np.uint8), np.empty(size, dtype=np.uint8)
    step = size // threads
    parts = [slice(start, start + step) for start in range(0, size, step)]
    with ThreadPoolExecutor(threads) as pool:
        return size / best(lambda: list(pool.map(lambda part: np.copyto(target[part], source[part]), parts)))


def _pairs(threads: int, content: photons.Photons) -> float:
    """Each thread has its own share of the first 20,000 pixels and its own array."""
    pointer, frame = photons.events(content)
    lit = np.flatnonzero(np.diff(pointer))[:20_000]
    sums = [np.zeros((content.num_frames, content.num_frames), dtype=np.int32) for _ in range(threads)]
    shares = np.array_split(lit, threads)
    sizes = np.diff(pointer)[lit]
    with ThreadPoolExecutor(threads) as pool:
        seconds = best(
            lambda: list(pool.map(lambda share, out: _count_pairs(pointer, frame, share, out), shares, sums))
        )
    return float((sizes * (sizes - 1) // 2).sum() / seconds)


@numba.njit(nogil=True, cache=True)
def _count_pairs(pointer: Any, frame: Any, pixels: Any, out: Any) -> None:
    for pixel in pixels:
        for second in range(pointer[pixel], pointer[pixel + 1]):
            row = out[frame[second]]
            for first in range(pointer[pixel], second):
                row[frame[first]] += 1


def _decoded(threads: int, scan: Path, num_frames: int = 200) -> float:
    with h5py.File(scan / "scan.h5", "r") as file:
        data = file["entry/data/data"]
        chunks = [bytes(data.id.read_direct_chunk((index, 0, 0))[1]) for index in range(min(num_frames, len(data)))]
        area = data.shape[1] * data.shape[2]

    def unpack(share: list[bytes]) -> None:
        reader, counts = ChunkReader(area, 2), np.empty(area, np.uint16)
        for chunk in share:
            reader.unpack(chunk, counts)

    shares = [chunks[number::threads] for number in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        return 2 * area * len(chunks) / best(lambda: list(pool.map(unpack, shares)))


def table(floors: list[Floor]) -> str:
    """Markdown."""
    lines = ["| floor | " + " | ".join(f"{floor.threads} thread(s)" for floor in floors) + " |"]
    lines.append("|---" * (len(floors) + 1) + "|")
    rows: list[tuple[str, Callable[[Floor], str]]] = [
        ("int8 products, G multiply-adds/s", lambda floor: f"{floor.products / 1e9:.0f}"),
        ("memory copied, GB/s", lambda floor: f"{floor.copied / 1e9:.1f}"),
        ("pair of photons, ns", lambda floor: f"{1e9 / floor.pairs:.2f}"),
        ("frames out of bitshuffle/LZ4, GB/s", lambda floor: f"{floor.decoded / 1e9:.1f}"),
    ]
    return "\n".join(lines + [f"| {name} | " + " | ".join(map(show, floors)) + " |" for name, show in rows])


if __name__ == "__main__":
    print(table([measure(1), measure(2)]))
