"""Ingest: detector files of any format -> frames in Zarr, one file a scan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ainerd_hpc.archive import CATALOG_COLUMNS, Archive, write_table, writing_group
from ainerd_hpc.config import digest
from ainerd_hpc.discovery import Discovery
from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats import reader
from ainerd_hpc.stages import Stage, sample_columns
from ainerd_hpc.types import Content, Problem, Scan, Task


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


def sentinel(dtype: np.dtype) -> int:
    """The value that detectors give dead pixels: the largest of the type (65535, 2^32 - 1)."""
    return int(np.iinfo(dtype).max)


def check_block(block: np.ndarray, start: int, scan: Scan) -> None:
    """Refuse frames that cannot be correlated.

    Parameters
    ----------
    block : ndarray of integers, (t, y, x)
    start : int
        Number of the block's first frame, for the message.

    Raises
    ------
    ScanError
        Frames of another shape, or without a single count on a living pixel.
    """
    if block.shape[1:] != (scan.height, scan.width):
        problem = f"expected frames of {scan.height, scan.width}, found {block.shape[1:]}"
        raise ScanError(scan.source, problem, "copy the file again from its origin")
    dark = np.flatnonzero(~np.any((block > 0) & (block < sentinel(block.dtype)), axis=(1, 2))) + start
    if len(dark):
        where = f"frame {dark[0]}" if len(dark) == 1 else f"{len(dark)} frames ({dark[0]} to {dark[-1]})"
        problem = f"expected counts in every frame, found none in {where}"
        raise ScanError(scan.source, problem, "check the shutter and the detector; leave these frames out")


def publish_shared(archive: Archive, found: Discovery) -> None:
    """Publish what the scans share: their partitions, under the digests of their content, and the sample log."""
    for path in found.partitions:
        _publish_partition(archive, path)
    write_table(archive.sample_log_path, found.sample_log_table)


def publish_catalog(archive: Archive, found: Discovery, problems: Sequence[Problem]) -> None:
    """Publish the catalog; scans with a problem in any stage are `quarantined`, all others `ingested`."""
    broken = {problem.scan_id for problem in problems}
    scans = [scan.with_state("quarantined" if scan.scan_id in broken else "ingested") for scan in found.scans]
    middles = np.array([scan.start_time + scan.duration / 2 for scan in scans])
    archive.write_catalog(scans, sample_columns(found.sample_log_table, middles, CATALOG_COLUMNS))


def _publish_partition(archive: Archive, path: Path) -> None:
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
