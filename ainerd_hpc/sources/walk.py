"""What lies below a folder: every file looked at once, and again only when it has changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ainerd_hpc.digests import stats
from ainerd_hpc.errors import ScanError, UnavailableError
from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.detector_pixels import PixelFacts
from ainerd_hpc.formats.hdf5.reading import NEXT_STEP
from ainerd_hpc.formats.hdf5.writers import is_written
from ainerd_hpc.formats.opening import OpenFile, is_refused, keeping_open, opened
from ainerd_hpc.formats.registry import FoundScan, reader, scans_of
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.formats.units import unlikely_q
from ainerd_hpc.sources.companions import parts_of_others
from ainerd_hpc.sources.folders import Folders, Stamp
from ainerd_hpc.sources.isolated import Death, Lookers, lookers
from ainerd_hpc.types import Content

NEVER = Stamp(0, 0, 0)
"""Stamp of a file that is looked at again in the next walk, whether it has changed or not."""
_UNFINISHED = (
    "expected a file that is finished, found one that a program is writing, or has left without closing it",
    "run again when it is closed; where no program is at work any more, `h5clear --status FILE` closes it",
)
_SAMPLES, _SAMPLE_BYTES = 16, 1024


class Kind(Enum):
    """What a file is to us."""

    SCAN = "scan"
    METADATA = "metadata"
    PARTITION = "partition"
    SAMPLE_LOG = "sample_log"
    BROKEN = "broken"
    """Cannot be read as what it seems to be."""
    IGNORED = "ignored"
    """A file in good order, of a format that may hold scans, without one."""
    OTHER = "other"
    COMPANION = "companion"
    """Belongs to the scan of another file, with which it was read."""


_DEPENDENT = {Kind.BROKEN, Kind.IGNORED, Kind.OTHER}
"""What a file may be only for want of the files beside it."""


class PartitionFacts(NamedTuple):
    """What the catalog needs of a partition."""

    digest: str
    height: int
    width: int
    num_q_bins: int
    num_pixels: int
    largest_bin: int
    num_static_bins: int
    notes: str = ""
    """What a user has to know of it, in one line."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What is known of a file, or of a folder that is one store."""

    path: Path
    stamp: Stamp
    kind: Kind
    scans: tuple[FoundScan, ...] = ()
    metadata: Metadata | None = None
    partition: PartitionFacts | None = None
    reason: str = ""
    """Why it is broken or ignored, or could not be read, in one line."""
    content: str = ""
    """Digest of samples of a file of frames: two copies have the same."""
    others: tuple[int, ...] = ()
    """Size and date (ns) of each companion."""

    def is_current(self, stamp: Stamp) -> bool:
        """Whether a file with this stamp would be found to be the same."""
        if self.stamp[:2] != stamp[:2] or any(scan.may_change for scan in self.scans):
            return False
        companions = [path for scan in self.scans for path in scan.companions]
        if self.others != _stamps(companions):
            return False
        return not (companions or self.kind in _DEPENDENT) or self.stamp == stamp


def walk(roots: Sequence[Path], known: Mapping[Path, FileRecord], dataset: str = "") -> list[FileRecord]:
    """All files below the roots, each in the order of its path; what is known and has not changed is not opened.

    Hidden files and folders are left out; links to folders are followed as `sources.folders` says.
    """
    found, fresh = {}, {}
    for path, stamp, reason, is_problem in Folders(roots).entries():
        old = known.get(path)
        if reason:
            unseen = FileRecord(path, stamp, Kind.BROKEN if is_problem else Kind.IGNORED, reason=reason)
            found[path] = old if old == unseen else unseen
        elif old is not None and old.is_current(stamp):
            found[path] = old
        else:
            fresh[path] = stamp
    found |= _look_at_all(fresh, found, dataset)
    return [found[path] for path in sorted(found)]


def _look_at_all(fresh: Mapping[Path, Stamp], found: Mapping[Path, FileRecord], dataset: str) -> dict[Path, FileRecord]:
    """Records of files that are new; what belongs to the scan of another file is read with it, and not again."""
    waiting = parts_of_others(fresh)
    first = [(path, stamp) for path, stamp in fresh.items() if path not in waiting]
    records = {one.path: one for one in look_at_each(first, dataset)}
    taken = {path for one in (*found.values(), *records.values()) for scan in one.scans for path in scan.companions}
    records |= {path: FileRecord(path, fresh[path], Kind.COMPANION) for path in waiting & taken}
    left = [(path, fresh[path]) for path in sorted(waiting - taken)]
    left += [(path, one.stamp) for path, one in found.items() if one.kind is Kind.COMPANION and path not in taken]
    return records | {one.path: one for one in look_at_each(left, dataset)}


def look_at_each(files: Sequence[tuple[Path, Stamp]], dataset: str = "") -> Iterator[FileRecord]:
    """What each file is; whatever it holds, this does not fail: other processes look. `dataset` as for `scans_of`."""
    with looking() as lookers:
        results = lookers.map([(path, stamp, dataset) for path, stamp in files])
        for (path, _), record in zip(files, results, strict=True):
            yield _fatal(path, record.reason) if isinstance(record, Death) else record


def looking() -> AbstractContextManager[Lookers]:
    """Processes that look at files, as long as the block: starting one takes some tenths of a second."""
    return lookers(f"{__name__}:look_at")


def _fatal(path: Path, reason: str) -> FileRecord:
    """The record of a file over which a process died."""
    problem = ScanError(str(path), f"expected a file that can be read, found that this {reason}", NEXT_STEP)
    return FileRecord(path, NEVER, Kind.BROKEN, reason=str(problem))


def look_at(given: tuple[Path, Stamp, str]) -> FileRecord:
    """Open a file once and say what it is: path, stamp, and `dataset` as for `scans_of`."""
    path, stamp, dataset = given
    with keeping_open() as used, SourceFile(path) as file:
        try:
            record = _look_at(file, FileRecord(path, stamp, Kind.OTHER), dataset)
        except Exception as error:
            may_pass = isinstance(error, UnavailableError) or is_refused(error)
            record = FileRecord(path, NEVER if may_pass else stamp, Kind.BROKEN, reason=_reason(path, error))
        is_broken = record.kind is Kind.BROKEN or any(scan.reason for scan in record.scans)
        if is_broken and _is_growing(path, stamp, used.values()):
            return FileRecord(path, NEVER, Kind.BROKEN, reason=str(UnavailableError(str(path), *_UNFINISHED)))
        return replace(record, stamp=NEVER) if file.is_refused else record


def _is_growing(path: Path, stamp: Stamp, used: Iterable[OpenFile]) -> bool:
    """Whether a file, which had this stamp some time ago, or one that was used with it, is being written."""
    is_other = stamp != NEVER and os.path.isfile(path) and _stamps([path]) != stamp[:2]
    return is_other or any(map(is_written, used))


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, ScanError):
        return str(error)
    # Nobody foresaw it: it must not stop the walk.
    problem = f"cannot read it: unexpected {type(error).__name__}: {' '.join(str(error).split())}"
    return str(ScanError(str(path), problem, NEXT_STEP))


def _stamps(paths: Iterable[Path]) -> tuple[int, ...]:
    return tuple(number for _, stat in stats(paths) for number in (stat.st_size, stat.st_mtime_ns))


def to_row(record: FileRecord) -> dict[str, bytes | str]:
    """A record as a row of a table; paths as bytes, since not all are UTF-8."""
    known = asdict(record)
    del known["path"]
    return {"path": os.fsencode(record.path), "record": json.dumps(known, default=_plain)}


def from_row(path: bytes, record: str) -> FileRecord:
    """The record of a row."""
    known = json.loads(record)
    known["others"] = tuple(known["others"])
    known["stamp"], known["kind"] = Stamp(*known["stamp"]), Kind(known["kind"])
    known["metadata"] = None if known["metadata"] is None else Metadata(**known["metadata"])
    known["partition"] = None if known["partition"] is None else PartitionFacts(*known["partition"])
    known["scans"] = tuple(_scan_from(scan) for scan in known["scans"])
    return FileRecord(Path(os.fsdecode(path)), **known)


def moved(record: FileRecord, old: Path, new: Path) -> FileRecord:
    """The same record of a file that lies below another folder now."""

    def there(path: Path) -> Path:
        return new / path.relative_to(old) if path.is_relative_to(old) else path

    scans = [replace(scan, path=there(scan.path), description=_with_companions(scan, there)) for scan in record.scans]
    return replace(record, path=there(record.path), scans=tuple(scans))


def _with_companions(scan: FoundScan, there: Callable[[Path], Path]) -> Description | None:
    described = scan.description
    return described and replace(described, companions=tuple(map(there, described.companions)))


def _scan_from(known: dict[str, Any]) -> FoundScan:
    described = known.pop("description")
    known["path"] = Path(known["path"])
    if described is None:
        return FoundScan(**known)
    companions = tuple(Path(path) for path in described.pop("companions"))
    metadata, pixels = Metadata(**described.pop("metadata")), PixelFacts.from_json(described.pop("pixels"))
    described["other_pixels"] = tuple(map(PixelFacts.from_json, described["other_pixels"]))
    described |= {"metadata": metadata, "pixels": pixels, "companions": companions}
    return FoundScan(**known, description=Description(**described | {"notes": tuple(described["notes"])}))


def _plain(value: object) -> object:
    return value.value if isinstance(value, Kind) else str(value)


def _look_at(file: SourceFile, record: FileRecord, dataset: str) -> FileRecord:
    from ainerd_hpc.formats.beside import sample_log
    from ainerd_hpc.formats.beside.metadata import is_metadata, metadata_of
    from ainerd_hpc.formats.partitions.partition import is_partition

    if is_partition(file):
        return _partition(replace(record, kind=Kind.PARTITION))
    if is_metadata(file):
        return replace(record, kind=Kind.METADATA, metadata=metadata_of(file.hdf5))
    if found := tuple(scans_of(file, dataset)):
        if found[0].reason and found[0].format == "unknown":
            return replace(record, kind=Kind.BROKEN, reason=found[0].reason)
        others = _stamps(path for scan in found for path in scan.companions)
        return replace(record, kind=Kind.SCAN, scans=found, content=_content(file.path, found), others=others)
    if file.path.is_dir():
        reason = f"{file.path}: a Zarr store; to take an array of it for frames, name it in source.dataset"
        return replace(record, kind=Kind.IGNORED, reason=reason, stamp=NEVER)  # what is below may be out of reach
    if sample_log.matches(file):
        return replace(record, kind=Kind.SAMPLE_LOG)
    if file.hdf5 is not None:
        reason = f"{file.path}: neither frames (/entry/data/data) nor two-time maps (square arrays)"
        return replace(record, kind=Kind.IGNORED, reason=reason)
    return replace(record, reason=file.fault)


def _partition(record: FileRecord) -> FileRecord:
    from ainerd_hpc.formats.partitions.partition import read_partition

    try:
        found = read_partition(record.path)
    except UnavailableError:
        raise
    except ScanError as error:
        return replace(record, reason=str(error))
    sizes = np.bincount(found.dynamic_roi_map.ravel())[1:]
    (height, width), num_static = found.mask.shape, len(found.static_q_list)
    pixels = int(sizes.sum()), int(sizes.max())
    notes = "; ".join(unlikely_q(found.dynamic_q_list))
    facts = PartitionFacts(found.digest, height, width, len(found.dynamic_q_list), *pixels, num_static, notes)
    return replace(record, partition=facts)


def _content(path: Path, scans: Sequence[FoundScan]) -> str:
    """Digest of the size and of samples from the beginning to the end."""
    if path.is_dir() or any(
        not scan.description or reader(scan.format).content is not Content.FRAMES for scan in scans
    ):
        return ""
    digest = hashlib.blake2b(digest_size=16)
    files = [path, *(one for scan in scans for one in scan.companions if os.path.exists(one))]
    for one in (files[0], *files[1:][-2:]):  # those that a look at a long series still has open
        with opened(one) as file:
            digest.update(f"{len(files)} {file.size}".encode())
            for number in range(_SAMPLES):
                offset = max(0, file.size - _SAMPLE_BYTES) * number // (_SAMPLES - 1)
                digest.update(file.read(_SAMPLE_BYTES, offset))
    return digest.hexdigest()
