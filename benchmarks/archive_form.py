"""In which form counts are kept: bytes a scan, and MB/s of writing and reading, against the raw file read by h5py.

    python -m benchmarks.archive_form [--frames 1000]

MB are those of the dense frames, whatever is stored of them, so that the forms compare. `all` reads what a correlation
of every pixel needs, `ring` what that of one q-ring of twenty needs. Files are in the page cache, on one thread, best
of three. The scans are SIMULATED.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  the bitshuffle/LZ4 filter
import numpy as np
import zarr
from zarr.codecs import BloscCodec
from zarr.storage import ZipStore

from ainerd_hpc.correlation.counts.gathering import Gathering
from ainerd_hpc.correlation.counts.layout import Layout
from ainerd_hpc.correlation.selection import Selection
from ainerd_hpc.formats.frames.aps import ApsHdf5
from ainerd_hpc.kernels.choice import EVENTS
from ainerd_hpc.kernels.counts import Events
from ainerd_hpc.scaling.measure import least_seconds
from benchmarks import photons

_CODEC = BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle")
_EDGE = 512
MEANS = (0.3, 0.03, 0.01, 0.001)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1000)
    options = parser.parse_args(arguments)
    print("| photons/pixel | form | MB | of raw | write MB/s | read all MB/s | read ring MB/s |")
    print("|---|---|---|---|---|---|---|")
    for mean in MEANS:
        with tempfile.TemporaryDirectory() as folder:
            content = photons.Photons(options.frames, _EDGE, _EDGE, mean_counts=mean, fall=1.0)
            raw = photons.write(Path(folder), content)
            ring = np.flatnonzero(photons.rings(content).partition.dynamic_roi_map.ravel() == 10)
            compare(raw, Path(folder), mean, ring)


def compare(raw: Path, folder: Path, mean: float, ring: np.ndarray) -> None:
    """Print a row for each form of one scan."""
    with h5py.File(raw) as file:
        frames = file["entry/data/data"][...]
    pixels = frames.reshape(len(frames), -1).T
    megabytes, raw_size = frames.nbytes / 1e6, raw.stat().st_size

    def row(form: str, path: Path, write: float | None, read: float, read_ring: float) -> None:
        size = path.stat().st_size
        speeds = [f"{megabytes / seconds:.0f}" if seconds else "-" for seconds in (write, read, read_ring)]
        print(f"| {mean:g} | {form} | {size / 1e6:.1f} | {size / raw_size:.2f} | {' | '.join(speeds)} |")

    def by_h5py() -> None:
        with h5py.File(raw) as file:
            for start in range(0, len(frames), 16):
                file["entry/data/data"][start : start + 16]

    def directly() -> None:
        with ApsHdf5.open(raw) as source:
            for start in range(0, len(frames), 16):
                source.read(start, start + 16)

    row("raw, h5py", raw, None, least_seconds(by_h5py), least_seconds(by_h5py))
    row("raw, chunks decoded directly", raw, None, least_seconds(directly), least_seconds(directly))
    layouts = {
        "frames, chunks of 16": (frames, (16, _EDGE, _EDGE), (128, _EDGE, _EDGE)),
        "pixels, chunks of 1024": (pixels, (1024, len(frames)), (2**15, len(frames))),
    }
    for name, (values, chunks, shards) in layouts.items():
        path = folder / "array.zip"
        write = least_seconds(lambda v=values, c=chunks, s=shards, p=path: write_array(p, v, c, s), 1)
        part = slice(None) if values is frames else ring
        row(
            name,
            path,
            write,
            least_seconds(lambda p=path: read_array(p)),
            least_seconds(lambda p=path, s=part: read_array(p, s)),
        )
    if mean <= 0.1:
        path = folder / "events.zip"
        write = least_seconds(lambda: write_events(raw, path), 1)
        row(
            "events by pixel",
            path,
            write,
            least_seconds(lambda: read_events(path)),
            least_seconds(lambda: read_events(path, ring)),
        )


def write_array(path: Path, values: np.ndarray, chunks: tuple[int, ...], shards: tuple[int, ...]) -> None:
    whole = [-(-edge // chunk) * chunk for edge, chunk in zip(values.shape, chunks, strict=True)]
    shards = tuple(min(sizes) for sizes in zip(shards, whole, strict=True))
    with ZipStore(path, mode="w") as store:
        array = zarr.create_array(
            store, shape=values.shape, dtype=values.dtype, chunks=chunks, shards=shards, compressors=_CODEC
        )
        for start in range(0, values.shape[0], shards[0]):
            array[start : start + shards[0]] = values[start : start + shards[0]]


def read_array(path: Path, part: Any = slice(None)) -> None:
    with ZipStore(path, mode="r") as store:
        array = zarr.open_array(store, mode="r")
        if isinstance(part, np.ndarray):
            array.oindex[part]
        else:
            for start in range(0, array.shape[0], array.shards[0]):
                array[start : start + array.shards[0]]


def write_events(raw: Path, path: Path) -> None:
    """From the raw file, as ingest does it."""
    with ApsHdf5.open(raw) as source:
        num, none = source.shape[1] * source.shape[2], np.empty(0)
        layout = Layout(np.arange(num, dtype=np.int32), np.array([0, num]), np.ones(num, np.int32), none, none)
        gathering = Gathering(source, layout, Selection(0, source.shape[0]), 1)
        (events,) = gathering.gather([0], [EVENTS], [source.dtype], source.shape[0] * num)
    assert isinstance(events, Events)
    with ZipStore(path, mode="w") as store:
        group = zarr.create_group(store)
        for name, values in (
            ("pointer", events.pointer),
            ("time", events.time.astype(np.uint16)),
            ("count", events.count),
        ):
            chunk = min(2**16, len(values))
            shards = (chunk * min(64, -(-len(values) // chunk)),)
            array = group.create_array(
                name, shape=values.shape, dtype=values.dtype, chunks=(chunk,), shards=shards, compressors=_CODEC
            )
            array[...] = values


def read_events(path: Path, part: np.ndarray | None = None) -> None:
    with ZipStore(path, mode="r") as store:
        group: Any = zarr.open_group(store, mode="r")
        pointer = group["pointer"][...]
        for name in ("time", "count"):
            if part is None:
                group[name][...]
            else:  # one run of chunks from the first pixel of the ring to the last
                group[name][pointer[part[0]] : pointer[part[-1] + 1]]


if __name__ == "__main__":
    main()
