"""Ingest: detector files of any format -> frames in Zarr, one file a scan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ainerd_hpc.archive import Archive, write_table, writing_group
from ainerd_hpc.config import digest
from ainerd_hpc.discovery import Discovery
from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats import reader
from ainerd_hpc.ledger import Ledger
from ainerd_hpc.stages import Stage
from ainerd_hpc.types import Content, Scan, Task


class Ingest(Stage):
    """Copies and checks the frames of a scan. Two-time maps stay where they are: they need no task."""

    name = "ingest"
    quarantines = True

    def product(self, key: str) -> Path:
        return self.archive.frames_path(key)

    def tasks(self, scans: Sequence[Scan]) -> Iterable[Task]:
        for scan in scans:
            if scan.content is Content.FRAMES:
                frame_bytes = scan.height * scan.width * scan.itemsize
                size = scan.num_frames * frame_bytes
                shard = min(self.config.ingest.frames_per_shard, scan.num_frames) * frame_bytes
                task_digest = digest(self.name, self.version, self.config.ingest, scan.digest)
                # A block as read, its copy in Zarr, its compressed chunks, and the shard put together from them.
                yield Task(scan.scan_id, task_digest, 4 * shard + 2**26, size, size, {"scan": scan})

    def work(self, task: Task) -> Mapping[str, float]:
        scan: Scan = task.args["scan"]
        config = self.config.ingest
        per_shard = min(config.frames_per_shard, scan.num_frames)
        per_chunk = np.gcd(per_shard, config.frames_per_chunk)
        attributes = {
            "digest": task.digest,
            "scan_id": scan.scan_id,
            "source": Path(scan.source).name,
            "frame_time": scan.frame_time,
            "simulated": scan.simulated,
            "frame_time_units": "s",
        }
        shape = (scan.num_frames, scan.height, scan.width)
        num_photons, start, array = 0, 0, None
        with writing_group(self.product(task.key), attributes) as group:
            for block in reader(scan.format).blocks(Path(scan.source), per_shard):
                check_block(block, start, scan)
                if array is None:
                    array = group.create(
                        "frames",
                        shape,
                        block.dtype,
                        ("t", "y", "x"),
                        chunks=(int(per_chunk), scan.height, scan.width),
                        shards=(per_shard, scan.height, scan.width),
                        units="counts",
                    )
                array[start : start + len(block)] = block
                group.flush()
                start += len(block)
                num_photons += int(np.sum(block, where=block < sentinel(block.dtype), dtype=np.float64))
            if start != scan.num_frames:
                problem = f"expected {scan.num_frames} frames as the file states, found {start}"
                raise ScanError(scan.source, problem, "copy the file again from its origin")
        return {"counts": float(num_photons)}


def sentinel(dtype: np.dtype) -> float:
    """The value of dead pixels: the largest of an integer type (65535, 2^32 - 1); none for floats."""
    return float(np.iinfo(dtype).max) if np.dtype(dtype).kind in "iu" else float("inf")


def check_block(block: np.ndarray, start: int, scan: Scan) -> None:
    """Refuse frames that cannot be correlated.

    Parameters
    ----------
    block : ndarray, (t, y, x)
    start : int
        Number of the block's first frame, for the message.

    Raises
    ------
    ScanError
        Frames of another shape, with NaN, or without a single count on a living pixel.
    """
    if block.shape[1:] != (scan.height, scan.width):
        problem = f"expected frames of {scan.height, scan.width}, found {block.shape[1:]}"
        raise ScanError(scan.source, problem, "copy the file again from its origin")
    if block.dtype.kind == "f" and np.isnan(block).any():
        bad = np.flatnonzero(np.isnan(block).any(axis=(1, 2))) + start
        problem = f"expected finite counts, found NaN in {_frames(bad)}"
        raise ScanError(scan.source, problem, "leave these frames out and write the file again")
    dark = ~np.any((block > 0) & (block < sentinel(block.dtype)), axis=(1, 2))
    if dark.any():
        problem = f"expected counts in every frame, found none in {_frames(np.flatnonzero(dark) + start)}"
        raise ScanError(scan.source, problem, "check the shutter and the detector; leave these frames out")


def _frames(numbers: np.ndarray) -> str:
    """`frame 7`, or `12 frames (7 to 90)`."""
    return f"frame {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} frames ({numbers[0]} to {numbers[-1]})"


def register(archive: Archive, discovery: Discovery, ledger: Ledger) -> list[Scan]:
    """Publish what the scans share (partitions, sample log) and the catalog, and give the scans with their state."""
    from ainerd_hpc.formats import sample_log

    for path in discovery.partitions:
        publish_partition(archive, path)
    log = sample_log.read(discovery.sample_log) if discovery.sample_log else pd.DataFrame({sample_log.TIME: []})
    write_table(archive.sample_log_path, log)
    broken = {problem.scan_id for problem in ledger.problems if problem.stage == Ingest.name}
    states = {True: "quarantined", False: "ingested"}
    scans = [scan.with_state(states[scan.scan_id in broken]) for scan in discovery.scans]
    middles = np.array([scan.start_time + scan.duration / 2 for scan in scans])
    archive.write_catalog(scans, sample_log.at_times(log, middles))
    return scans


def publish_partition(archive: Archive, path: Path) -> None:
    """Copy a partition file into the archive, under the digest of its content."""
    from ainerd_hpc.formats.partition import read_partition

    partition = read_partition(path)
    product = archive.partition_path(partition.digest)
    if product.exists():
        return
    with writing_group(product, {"digest": partition.digest, "source": path.name}) as group:
        group.add("mask", partition.mask, ("y", "x"))
        group.add("dynamic_roi_map", partition.dynamic_roi_map, ("y", "x"))
        group.add("static_roi_map", partition.static_roi_map, ("y", "x"))
        group.add("dynamic_q_list", partition.dynamic_q_list, ("q_bin",), units="1/angstrom")
