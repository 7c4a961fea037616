"""From a source folder to the list of its scans, from metadata alone."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ainerd_hpc.config import SourceConfig, digest
from ainerd_hpc.errors import ConfigError, ScanError
from ainerd_hpc.formats import Found, FoundScan, find, reader
from ainerd_hpc.formats.description import Description
from ainerd_hpc.types import Content, Problem, Scan

if TYPE_CHECKING:
    import pandas as pd

    from ainerd_hpc.formats.partition import Partition

_MEASURED = ("count_time", "energy", "distance", "pixel_size", "beam_center_x", "beam_center_y", "detector")
_LONGEST_ID = 120
"""Bytes of a scan_id, which names files, before it is cut."""


@dataclass(frozen=True, slots=True, eq=False)
class Discovery:
    """What a source folder holds."""

    scans: tuple[Scan, ...]
    """Ordered by scan_id; those with a problem have the state `quarantined`."""
    problems: tuple[Problem, ...]
    partitions: tuple[Path, ...]
    """Partition files that the scans use."""
    sample_log: Path | None
    sample_log_table: pd.DataFrame
    """What it says, as `formats.sample_log.read` returns it; without a log, no row and only the column `time`."""
    ignored: tuple[tuple[Path, str], ...] = ()
    """(file, one-line reason): HDF5 files in good order that hold no scan."""


def discover(source: SourceConfig) -> Discovery:
    """Find the scans of a source folder with their metadata, partition file and sample log.

    Raises
    ------
    ConfigError
        The folder does not exist or holds no scan; a configured file does not exist; the sample log cannot be read, or
        there are several and none is configured.
    """
    if not source.path.is_dir():
        raise ConfigError(f"source.path {source.path}: no such folder; give the folder that holds the scans")
    for key, path in (("partition", source.partition), ("sample_log", source.sample_log)):
        if path and not path.is_file():
            raise ConfigError(f"source.{key} {path}: no such file; correct the path or leave the key out")
    found = find(source.path)
    sample_log, table = _sample_log(source, found)
    _partition.cache_clear()  # the files may have changed since the last call
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
        sample_log=sample_log,
        sample_log_table=table,
        ignored=tuple((path, _line(reason)) for path, reason in found.ignored),
    )


def _sample_log(source: SourceConfig, found: Found) -> tuple[Path | None, pd.DataFrame]:
    from ainerd_hpc.formats import sample_log

    if source.sample_log is None and len(found.sample_logs) > 1:
        names = ", ".join(str(path.relative_to(source.path)) for path in found.sample_logs)
        raise ConfigError(
            f"source.path {source.path}: expected one CSV with a `time` column, found {names}; "
            "name the sample log in source.sample_log"
        )
    path = source.sample_log or _only(found.sample_logs)
    return path, sample_log.read(path) if path else sample_log.empty()


@dataclass(frozen=True, slots=True)
class _Result:
    scan: Scan
    problem: Problem | None = None
    partition: Path | None = None


def _results(source: SourceConfig, found: Found) -> Iterator[_Result]:
    partitions = _Partitions(source.partition, found)
    for item, scan_id in zip(found.scans, _scan_ids(found.scans, source.path), strict=True):
        try:
            yield _one(source, partitions, item, scan_id)
        except ScanError as error:
            yield _broken(item, scan_id, str(error))


def _one(source: SourceConfig, partitions: _Partitions, item: FoundScan, scan_id: str) -> _Result:
    if item.description is None:
        return _broken(item, scan_id, item.reason)
    if not _is_utf8(str(item.path)):
        problem = f"expected a path in UTF-8, which the catalog can hold, found {item.path.name!r}"
        raise ScanError(str(item.path), problem, "rename the file")
    scan = _scan(source, item, scan_id, item.description)
    return _with_partition(scan, partitions.of(item.path)) if scan.content is Content.FRAMES else _Result(scan)


def _with_partition(scan: Scan, path: Path) -> _Result:
    partition = _partition(path)
    shape = (scan.height, scan.width)
    if partition.mask.shape != shape:
        raise ScanError(
            scan.source,
            f"expected frames of {partition.mask.shape} as in {path}, found {shape}",
            "give the partition file of this detector in source.partition or, without that key, as <scan>_qmap.hdf",
        )
    sizes = np.bincount(partition.dynamic_roi_map.ravel())[1:]
    scan = replace(
        scan,
        partition=partition.digest,
        num_q_bins=len(partition.dynamic_q_list),
        num_pixels=int(sizes.sum()),
        largest_bin=int(sizes.max()),
        num_static_bins=len(partition.static_q_list),
    )
    return _Result(scan, partition=path)


def _scan(source: SourceConfig, item: FoundScan, scan_id: str, described: Description) -> Scan:
    metadata = described.metadata
    frame_time = metadata.frame_time if metadata.has_frame_time else source.frame_time
    if frame_time is None:
        problem = "expected a frame period in the scan or its metadata file, found none"
        raise ScanError(str(item.path), problem, "give source.frame_time, or put <scan>_metadata.hdf beside the scan")
    return Scan(
        scan_id=scan_id,
        source=str(item.path),
        format=item.format,
        content=reader(item.format).content,
        num_frames=described.num_frames,
        height=described.height,
        width=described.width,
        itemsize=described.itemsize,
        num_q_bins=described.num_q_bins,
        frame_time=frame_time,
        start_time=metadata.start_time,
        simulated=described.simulated,
        stored_bytes=sum(path.stat().st_size for path in (item.path, *described.companions)),
        **{name: getattr(metadata, name) for name in _MEASURED},
        digest=fingerprint((item.path, *described.companions), scan_id, repr(frame_time), repr(metadata.start_time)),
    )


def _broken(item: FoundScan, scan_id: str, reason: str) -> _Result:
    source = _line(str(item.path))
    scan = Scan(scan_id, source, item.format, Content.FRAMES, 0, 0, 0, 0, 0, float("nan"), state="quarantined")
    return _Result(scan, Problem(scan_id, "ingest", _line(reason), fingerprint((item.path,), scan_id)))


def fingerprint(paths: Iterable[Path], *more: str) -> str:
    """Digest of the files' names, sizes and modification times, and of what else tells two sources apart."""
    stats = [(path.name, path.stat()) for path in paths]
    return digest([f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats], *more)


def _scan_ids(items: Sequence[FoundScan], folder: Path) -> list[str]:
    """A name for each, usable as a file name: the shortest `_name` that no other scan has."""
    lengths = [0] * len(items)
    while True:
        names = [_name(item, folder, length) for item, length in zip(items, lengths, strict=True)]
        uses = Counter(names)
        if len(uses) == len(items):
            return names
        lengths = [length + (uses[name] > 1) for name, length in zip(names, lengths, strict=True)]


def _name(item: FoundScan, folder: Path, length: int) -> str:
    """0: the path below the source folder, folders joined by `--`, no suffix; 1: with suffix; 2...: with a hash."""
    relative = item.path.relative_to(folder)
    full = item.part or "--".join((relative if length else relative.with_suffix("")).parts)
    name = "".join(letter if letter.isprintable() else "_" for letter in full)
    digits = 6 * (length - 1)
    if len(name.encode()) > _LONGEST_ID or not _is_utf8(full):
        name, digits = name.encode()[:_LONGEST_ID].decode(errors="ignore"), max(6, digits)
    return f"{name}~{hashlib.sha256(os.fsencode(relative)).hexdigest()[:digits]}" if digits > 0 else name


def _is_utf8(text: str) -> bool:
    """False for names of files that were written in another encoding: Python gives these lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _line(text: str) -> str:
    """One line of UTF-8 whatever a file is called."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


class _Partitions:
    """Which partition file a scan uses: the configured one, else its own, else the only one that is no scan's own."""

    def __init__(self, configured: Path | None, found: Found) -> None:
        self.configured, self.found = configured, found.partitions
        paths = {scan.path for scan in found.scans}
        scans = {(path.parent, f"{path.stem}_qmap") for path in paths}
        named = {(path.parent, path.stem): path for path in found.partitions}
        self.own: Mapping[tuple[Path, str], Path] = {key: path for key, path in named.items() if key in scans}
        self.shared = _only(path for path in found.partitions if (path.parent, path.stem) not in scans)

    def of(self, scan: Path) -> Path:
        chosen = self.configured or self.own.get((scan.parent, f"{scan.stem}_qmap")) or self.shared
        if chosen is None:
            names = ", ".join(path.name for path in self.found) or "none"
            problem = f"expected one partition file (/qmap), found {names}"
            raise ScanError(str(scan), problem, "set source.partition")
        return chosen


def _only(paths: Iterable[Path]) -> Path | None:
    paths = list(paths)
    return paths[0] if len(paths) == 1 else None


@lru_cache(maxsize=64)
def _partition(path: Path) -> Partition:
    from ainerd_hpc.formats.partition import read_partition

    return read_partition(path)
