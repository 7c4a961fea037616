"""Frames out of bitshuffle/LZ4 chunks: our decoder against dectris-compression and HDF5's own filter, one thread each.

    python -m benchmarks.decoding [--frames 16]

GB are those of the decoded frames, chunks are in memory (HDF5's in the page cache), the best of many.
dectris-compression is no dependency, since it comes as source alone: with a C compiler, `pip install
dectris-compression` adds its column.
Frames of 512 x 1028 Poisson counts are SIMULATED.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from ainerd_hpc.kernels.bits.bitshuffle import ChunkReader
from ainerd_hpc.scaling.measure import least_seconds

_SHAPE = (512, 1028)
KINDS = [("u1", 0.05), ("u1", 1), ("u2", 0.01), ("u2", 0.05), ("u2", 1), ("u2", 3000), ("u4", 0.05), ("u4", 20)]

best = partial(least_seconds, repeats=20)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16)
    options = parser.parse_args(arguments)
    peer = _peer()
    print(
        "| type | photons/pixel | ours GB/s | dectris-compression GB/s | ours / it | HDF5's filter GB/s | ours / it |"
    )
    print("|---|---|---|---|---|---|---|")
    for dtype, mean in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs, filtered = rates(Path(folder) / "frames.h5", options.frames, dtype, mean, peer)
        against = f"{theirs:.1f} | {ours / theirs:.2f}" if theirs else "not installed | -"
        print(f"| {dtype} | {mean} | {ours:.1f} | {against} | {filtered:.1f} | {ours / filtered:.2f} |")


def rates(path: Path, num_frames: int, dtype: str, mean: float, peer: Any) -> tuple[float, float, float]:
    """GB/s of ours, of the peer (0 where there is none), and of HDF5; all give the same frames."""
    frames = np.random.default_rng(0).poisson(mean, (num_frames, *_SHAPE)).astype(dtype)
    with h5py.File(path, "w") as file:
        file.create_dataset("frames", data=frames, chunks=(1, *_SHAPE), **hdf5plugin.Bitshuffle(cname="lz4"))
    with h5py.File(path) as file:
        chunks = [bytes(file["frames"].id.read_direct_chunk((number, 0, 0))[1]) for number in range(num_frames)]
        out = np.empty((num_frames, frames[0].size), dtype)
        reader = ChunkReader(frames[0].size, frames.itemsize)
        ways: list[Callable[[], Any]] = [lambda: [reader.unpack(*pair) for pair in zip(chunks, out, strict=True)]]
        ways += [lambda: _by_peer(peer, chunks, out)] if peer else []
        ways += [lambda: file["frames"].read_direct(out.reshape(frames.shape))]
        seconds = []
        for way in ways:
            out[...] = 0
            seconds.append(best(way))
            np.testing.assert_array_equal(out.reshape(frames.shape), frames)
    found = [frames.nbytes / 1e9 / one for one in seconds]
    return found[0], found[1] if peer else 0.0, found[-1]


def _by_peer(peer: Any, chunks: Sequence[bytes], out: np.ndarray) -> None:
    for chunk, frame in zip(chunks, out, strict=True):
        frame[:] = np.frombuffer(peer.decompress(chunk, "bslz4", elem_size=out.itemsize), out.dtype)


def _peer() -> Any:
    try:
        return importlib.import_module("dectris.compression")
    except ImportError:
        return None


if __name__ == "__main__":
    main()
