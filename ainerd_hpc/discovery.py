"""From a source folder to the list of its scans, from metadata alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ainerd_hpc.config import SourceConfig, digest
from ainerd_hpc.errors import ConfigError, ScanError
from ainerd_hpc.formats import Found, find, reader
from ainerd_hpc.formats.description import Description
from ainerd_hpc.types import Content, Problem, Scan

if TYPE_CHECKING:
    from ainerd_hpc.formats.partition import Partition


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a source folder holds."""

    scans: tuple[Scan, ...]
    """Ordered by scan_id; those with a problem have the state `quarantined`."""
    problems: tuple[Problem, ...]
    partitions: tuple[Path, ...]
    """Partition files that the scans use."""
    sample_log: Path | None


def discover(source: SourceConfig) -> Discovery:
    """Find the scans of a source folder with their metadata, partition file and sample log.

    Raises
    ------
    ConfigError
        The folder does not exist or holds no scan; a configured file does not exist.
    """
    if not source.path.is_dir():
        raise ConfigError(f"source.path {source.path}: no such folder; give the folder that holds the scans")
    for key, path in (("partition", source.partition), ("sample_log", source.sample_log)):
        if path and not path.is_file():
            raise ConfigError(f"source.{key} {path}: no such file; correct the path or leave the key out")
    found = find(source.path)
    results = sorted(_results(source, found), key=lambda result: result.scan.scan_id)
    if not results:
        raise ConfigError(
            f"source.path {source.path}: no scan found; expected HDF5 files with /entry/data/data (t, y, x), "
            "or two-time maps as .npy or .h5; check the path"
        )
    return Discovery(
        scans=tuple(result.scan for result in results),
        problems=tuple(result.problem for result in results if result.problem),
        partitions=tuple(sorted({result.partition for result in results if result.partition})),
        sample_log=source.sample_log or _only(found.sample_logs),
    )


@dataclass(frozen=True, slots=True)
class _Result:
    scan: Scan
    problem: Problem | None = None
    partition: Path | None = None


def _results(source: SourceConfig, found: Found) -> Iterator[_Result]:
    scan_ids = _scan_ids([path for path, _ in (*found.scans, *found.broken)], source.path)
    for path, name in found.scans:
        scan_id = scan_ids[path]
        if reader(name).content is Content.LATENTS:
            yield from _published(source, path, name, scan_id)
            continue
        try:
            yield _one(source, found, path, name, scan_id)
        except ScanError as error:
            yield _broken(path, name, scan_id, str(error))
    for path, reason in found.broken:
        yield _broken(path, "unknown", scan_ids[path], reason)


def _one(source: SourceConfig, found: Found, path: Path, name: str, scan_id: str) -> _Result:
    """Describe a scan of one file."""
    described = reader(name).describe(path)
    scan = _scan(source, path, name, scan_id, described)
    if reader(name).content is not Content.FRAMES:
        return _Result(scan)
    partition_path = _partition_path(source, found, path)
    partition = _partition(partition_path)
    shape = (described.height, described.width)
    if partition.mask.shape != shape:
        raise ScanError(
            str(path),
            f"expected frames of {partition.mask.shape} as in {partition_path}, found {shape}",
            "give the partition file of this detector in source.partition or as <scan>_qmap.hdf",
        )
    sizes = np.bincount(partition.dynamic_roi_map.ravel())[1:]
    scan = replace(
        scan,
        partition=partition.digest,
        num_q_bins=len(partition.dynamic_q_list),
        num_pixels=int(sizes.sum()),
        largest_bin=int(sizes.max()),
    )
    return _Result(scan, partition=partition_path)


def _published(source: SourceConfig, path: Path, name: str, file_id: str) -> Iterator[_Result]:
    """The scans of one file of published latents."""
    try:
        for scan_id, described in reader(name).describe_all(path).items():
            yield _Result(_scan(source, path, name, scan_id, described))
    except ScanError as error:
        yield _broken(path, name, file_id, str(error))


def _scan(source: SourceConfig, path: Path, name: str, scan_id: str, described: Description) -> Scan:
    frame_time = described.frame_time or source.frame_time
    if frame_time is None:
        problem = "expected a frame period in the scan or its metadata file, found none"
        raise ScanError(str(path), problem, "give source.frame_time, or put <scan>_metadata.hdf beside the scan")
    return Scan(
        scan_id=scan_id,
        source=str(path),
        format=name,
        content=reader(name).content,
        num_frames=described.num_frames,
        height=described.height,
        width=described.width,
        itemsize=described.itemsize,
        num_q_bins=described.num_q_bins,
        frame_time=frame_time,
        start_time=described.start_time,
        simulated=described.simulated,
        digest=fingerprint((path, *described.companions), scan_id, repr(frame_time)),
    )


def _broken(path: Path, name: str, scan_id: str, reason: str) -> _Result:
    scan = Scan(scan_id, str(path), name, Content.FRAMES, 0, 0, 0, 0, 0, float("nan"), state="quarantined")
    return _Result(scan, Problem(scan_id, "ingest", reason, fingerprint((path,), scan_id)))


def fingerprint(paths: Iterable[Path], *more: str) -> str:
    """Digest of the files' names, sizes and modification times, and of what else tells two sources apart."""
    stats = [(path.name, path.stat()) for path in paths]
    return digest([f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats], *more)


def _scan_ids(paths: Sequence[Path], folder: Path) -> dict[Path, str]:
    """The path below the source folder, folders joined by `--`, without the suffix where that leaves it unique."""
    short = {path: "--".join(path.relative_to(folder).with_suffix("").parts) for path in paths}
    uses = Counter(short.values())
    return {path: f"{name}{path.suffix}" if uses[name] > 1 else name for path, name in short.items()}


def _partition_path(source: SourceConfig, found: Found, path: Path) -> Path:
    """`<scan>_qmap.hdf` beside the scan, else the configured file, else the only one found."""
    own = path.with_name(f"{path.stem}_qmap.hdf")
    if own in found.partitions:
        return own
    shared = source.partition or _only([p for p in found.partitions if not p.with_name(_raw_name(p)).exists()])
    if shared is None:
        names = ", ".join(p.name for p in found.partitions) or "none"
        raise ScanError(str(path), f"expected one partition file (/qmap), found {names}", "set source.partition")
    return shared


def _raw_name(partition: Path) -> str:
    """The scan that a partition file named `<scan>_qmap.hdf` belongs to."""
    return f"{partition.stem.removesuffix('_qmap')}.h5"


def _only(paths: Iterable[Path]) -> Path | None:
    paths = list(paths)
    return paths[0] if len(paths) == 1 else None


@lru_cache(maxsize=64)
def _partition(path: Path) -> Partition:
    from ainerd_hpc.formats.partition import read_partition

    return read_partition(path)
