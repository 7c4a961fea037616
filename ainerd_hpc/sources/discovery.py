"""The way from a source folder to the list of its scans, from metadata alone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path
from stat import S_ISREG
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from ainerd_hpc.config import CorrectConfig, SourceConfig
from ainerd_hpc.digests import fingerprint, stats
from ainerd_hpc.errors import ConfigError, ScanError
from ainerd_hpc.formats.beside import sample_log as logs
from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.registry import FoundScan, left_out, reader, with_metadata
from ainerd_hpc.formats.units import unlikely
from ainerd_hpc.sources.catalog import noted
from ainerd_hpc.sources.copies import copies_of_scans, originals
from ainerd_hpc.sources.naming import GivenId, given_ids, is_utf8, one_line, scan_ids, stem_of
from ainerd_hpc.sources.pairing import IMAGES, Images, Partitions, check_given, metadata_paths, only
from ainerd_hpc.sources.walk import NEVER, FileRecord, Kind, look_at_each, looking, walk
from ainerd_hpc.types import Content, Problem, Scan

if TYPE_CHECKING:
    import pandas as pd


_MEASURED = ("count_time", "energy", "distance", "pixel_size", "beam_center_x", "beam_center_y", "detector")
_UNCORRECTED = CorrectConfig()
_MOST_NAMED = 3
"""Scans that are named in a line."""
_MOST_TOLD = 5
"""Lines on single scans."""
_WRONG_DETECTOR = (
    "give the partition file of this detector in source.partition or, without that key, as <scan>_qmap.hdf"
)


@dataclass(frozen=True, slots=True, eq=False)
class Discovery:
    """What a source folder holds."""

    scans: Sequence[Scan]
    """Ordered by scan_id; those with a problem have the state `quarantined`."""
    problems: tuple[Problem, ...]
    partitions: tuple[Path, ...]
    """Partition files that the scans use."""
    sample_log: Path | None
    sample_log_table: pd.DataFrame
    """What it says, as `formats.beside.sample_log` gives it; without a log, no row and only the column `time`."""
    notes: tuple[str, ...] = ()
    """A line for each registered reader that is of no use, for everything in the sample log that was not taken, for
    scans that it does not cover, for scans of which something is missing, for those of several thresholds, for each
    thing that files say of their pixels and that is not acted on, and for what else is to be said of scans."""
    ignored: tuple[tuple[Path, str], ...] = ()
    """(file, one-line reason): HDF5 files in good order that hold no scan."""
    records: tuple[FileRecord, ...] = ()
    """What is known of every file, to be given to the next walk."""
    given_ids: tuple[GivenId, ...] = ()
    """Ids that scans have or had, to be given to the next walk."""
    folder: Path = Path("/")
    """The source folder, or the one that holds all of them."""
    dataset: str = ""
    """The array that was configured when the files were looked at."""
    num_files: int = 0
    num_opened: int = 0
    """Files that were not known, or have changed."""
    key: str = ""
    """Digest of all names, sizes and dates, under which it may be kept; empty where it may not."""
    is_recalled: bool = False
    """Whether nothing has changed since it was kept; its records are those of partitions alone."""


def discover(
    source: SourceConfig,
    known: Mapping[Path, FileRecord] = MappingProxyType({}),
    correct: CorrectConfig = _UNCORRECTED,
    given: Sequence[GivenId] = (),
) -> Discovery:
    """Find the scans below the source folders with the files that go with them, and the sample log.

    Parameters
    ----------
    known : mapping
        Records of an earlier walk: files that have not changed since are not opened.
    correct : CorrectConfig
        Names the dark and the flat field of each scan; these are no scans, wherever they lie.
    given : sequence of GivenId
        Ids that scans were given before: they keep them, and no others get them.

    Raises
    ------
    ConfigError
        A folder does not exist, or none holds a scan; a configured file does not exist; the sample log cannot be read,
        or there are several and none is configured; the selection is wrong.
    """
    for root in source.roots:
        if not root.is_dir():
            raise ConfigError(f"source.path {root}: no such folder; give the folder that holds the scans")
    check_given(source, correct)
    with looking():
        found = _found(source, known, correct, given)
    return select(found, source.select) if source.select else found


def _found(
    source: SourceConfig, known: Mapping[Path, FileRecord], correct: CorrectConfig, given: Sequence[GivenId]
) -> Discovery:
    walked = walk(source.roots, known, source.dataset)
    images, records = Images(correct, source.folder), _without_results(walked)
    items, records = _without_images(images, list(_items(source, records)), records)
    ids = scan_ids(items, source.folder, given)
    results = sorted(_results(source, items, ids, records, images), key=lambda result: result.scan.scan_id)
    ignored = tuple((one.path, one_line(one.reason)) for one in records if one.kind is Kind.IGNORED)
    if not results:
        aside = f" (left aside {len(ignored)}, the first: {ignored[0][1]})" if ignored else ""
        raise ConfigError(
            f"source.path {source.roots[0]}: no scan found; expected HDF5 files with /entry/data/data (t, y, x), "
            f"or two-time maps as .npy or .h5; check the path{aside}"
        )
    sample_log, (table, notes) = _sample_log(source, records, results)
    return Discovery(
        scans=tuple(result.scan for result in results),
        problems=tuple(result.problem for result in results if result.problem),
        partitions=tuple(sorted({result.partition for result in results if result.partition})),
        sample_log=sample_log,
        sample_log_table=table,
        notes=(*left_out(), *notes, *_missing(results), *_thresholds(source, items), *_said(results)),
        ignored=ignored,
        records=tuple(walked),
        given_ids=given_ids(items, ids, source.folder, given),
        folder=source.folder,
        dataset=source.dataset,
        num_files=len(walked),
        num_opened=sum(known.get(record.path) is not record for record in walked),
    )


def select(found: Discovery, condition: str) -> Discovery:
    """The scans for which a condition on the columns of the catalog holds.

    Raises
    ------
    ConfigError
        The condition cannot be understood, or holds for no scan.
    """
    from ainerd_hpc.sources.catalog import catalog_table, chosen_scans

    table = catalog_table(found.scans, found.problems, found.sample_log_table)
    chosen = set(chosen_scans(table, condition)["scan_id"])
    if not chosen:
        raise ConfigError(f"source.select {condition!r}: holds for none of {len(found.scans)} scans; widen it")
    return replace(
        found,
        scans=tuple(scan for scan in found.scans if scan.scan_id in chosen),
        problems=tuple(problem for problem in found.problems if problem.scan_id in chosen),
    )


def _sample_log(
    source: SourceConfig, records: Sequence[FileRecord], results: Sequence[_Result]
) -> tuple[Path | None, logs.SampleLog]:
    """The configured log, or the only one found, or else what the metadata of the scans say of their samples."""
    found = originals([record.path for record in records if record.kind is Kind.SAMPLE_LOG])
    if source.sample_log is None and len(found) > 1:
        names = ", ".join(str(path.relative_to(source.folder)) for path in found)
        raise ConfigError(
            f"source.path {source.folder}: expected one table with a `time` column, found {names}; "
            "name the sample log in source.sample_log"
        )
    path = source.sample_log or only(found)
    if path:
        middles = np.array([result.scan.start_time + result.scan.duration / 2 for result in results])
        return path, logs.at_scans(logs.read(path), middles, source.sample_log_time)
    table = logs.of_scans((result.scan.start_time, result.sample) for result in results)
    return None, logs.SampleLog(table, _unread(records))


def _missing(results: Sequence[_Result]) -> Iterator[str]:
    """A line on what no file holds of the scans that are taken."""
    found = [f"{one.scan.scan_id} ({one.scan.missing})" for one in results if one.scan.missing and not one.problem]
    if found:
        more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        yield f"not in any file, left out: of {'; '.join(found[:_MOST_NAMED])}{more}"


def _thresholds(source: SourceConfig, items: Sequence[FoundScan]) -> Iterator[str]:
    """A line on scans of which one threshold of several is taken."""
    numbers = [item.description.num_thresholds for item in items if item.description]
    if several := [number for number in numbers if number > 1]:
        yield (
            f"{len(several)} scans have up to {max(several)} thresholds: number {source.threshold} is taken of each "
            "(source.threshold)"
        )


def _said(results: Sequence[_Result]) -> Iterator[str]:
    """A line for each thing that is to be known of some scans, and which these are."""
    for names, note in noted((one.scan for one in results if not one.problem), _MOST_TOLD):
        yield f"{names}: {note}"


def _unread(records: Sequence[FileRecord]) -> tuple[str, ...]:
    """Tables that might have been the sample log, and why none of them is."""
    tables = [one for one in records if one.kind is Kind.OTHER and one.path.suffix.lower() in logs.SUFFIXES[:2]]
    refused = [f"no sample log: cannot read {one.path}: {one.reason}" for one in tables if one.reason]
    names = [one.path.name for one in tables if not one.reason]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    if names:
        refused.append(f"no sample log: no column of {', '.join(names[:3])}{more} is called `time`")
    return tuple(refused)


@dataclass(frozen=True, slots=True)
class _Result:
    scan: Scan
    problem: Problem | None = None
    partition: Path | None = None
    sample: Mapping[str, float] = field(default_factory=dict)


def _results(
    source: SourceConfig,
    items: Sequence[FoundScan],
    ids: Sequence[str],
    records: Sequence[FileRecord],
    images: Images,
) -> Iterator[_Result]:
    files = {record.path: record for record in records}
    partitions, copies = Partitions(source, items, records), copies_of_scans(source, items, files)
    for item, scan_id in zip(items, ids, strict=True):
        if item.description is None:
            yield _broken(item, scan_id)
        else:
            yield _Examination(source, item, item.description, files).result(scan_id, partitions, images, copies)


def _items(source: SourceConfig, records: Sequence[FileRecord]) -> Iterator[FoundScan]:
    """All scans, and files that cannot be read and belong to no scan."""
    scans = [scan for record in records for scan in record.scans]
    belonging = {path for scan in scans for path in scan.companions}
    belonging |= {path for scan in scans for path in metadata_paths(source, scan)}
    broken = {scan.path for scan in scans if not scan.description}
    broken |= {record.path for record in records if record.kind is Kind.BROKEN}
    masters = {(path.parent, path.stem.removesuffix("_master")) for path in broken}
    for record in records:
        head, is_data, _ = record.path.name.rpartition("_data_")
        if record.path in belonging or (is_data and (record.path.parent, head) in masters):  # of a broken master
            continue
        if record.kind is Kind.BROKEN:
            yield FoundScan(record.path, "unknown", reason=record.reason)
        yield from record.scans


def _without_results(records: Sequence[FileRecord]) -> list[FileRecord]:
    """Results of scans whose frames are here, too, are left aside: `<scan>_results`."""
    scans = [scan for record in records for scan in record.scans]
    measured = {(scan.path.parent, stem_of(scan)) for scan in scans if reader(scan.format).content is Content.FRAMES}

    def one(record: FileRecord) -> FileRecord:
        stem = record.path.stem.removesuffix("_results")
        is_result = any(reader(scan.format).content is Content.C2 for scan in record.scans)
        if stem == record.path.stem or (record.path.parent, stem) not in measured or not is_result:
            return record
        reason = f"{record.path}: a result of {stem}, whose frames are here"
        return replace(record, kind=Kind.IGNORED, scans=(), reason=reason)

    return [one(record) for record in records]


def _without_images(
    images: Images, items: Sequence[FoundScan], records: Sequence[FileRecord]
) -> tuple[list[FoundScan], list[FileRecord]]:
    """Darks and flat fields are neither scans, nor told as files that hold none."""
    named = images.files(items)
    if not named:
        return list(items), list(records)
    others = [record for record in records if os.path.abspath(record.path) not in named]
    return [item for item in items if os.path.abspath(item.path) not in named], others


class _Examination:
    """Looks for everything that is wrong with one scan, not for the first only."""

    def __init__(
        self, source: SourceConfig, item: FoundScan, description: Description, files: Mapping[Path, FileRecord]
    ) -> None:
        self.source, self.item, self.description, self.files = source, item, description, files
        self.problems: list[str] = []
        self.paired: dict[str, Any] = {}
        """Fields of the scan that name the files that go with it."""

    def result(self, scan_id: str, partitions: Partitions, images: Images, copies: Mapping[Path, Path]) -> _Result:
        """The scan with its partition, or with all its problems."""
        path, where = self.item.path, str(self.item.path)
        if not is_utf8(where):
            problem = f"expected a path in UTF-8, which the catalog can hold, found {path.name!r}"
            self._note(where, problem, "rename the file")
        if path in copies:
            problem = f"expected every scan once, found the data of {copies[path]} again"
            self._note(where, problem, "take one of them out of the source folder")
        self._check_age()
        self._check_frames()
        self._add_metadata()
        scan, partition = self._scan(scan_id), None
        if scan.content is Content.FRAMES:
            scan, partition = self._with_partition(scan, partitions)
            self._add_images(images)
        scan = replace(scan, **self.paired)
        sample = self.description.metadata.sample
        if not self.problems:
            return _Result(scan, None, partition, sample)
        reason = "; also ".join(one_line(problem) for problem in self.problems)
        problem_of = Problem(scan_id, "ingest", reason, fingerprint((path,), scan_id))
        scan = replace(scan, source=one_line(where), partition="", state="quarantined")
        return _Result(scan, problem_of, None, sample)

    def _note(self, where: str, problem: str, next_step: str) -> None:
        self.problems.append(str(ScanError(where, problem, next_step)))

    def _check_age(self) -> None:
        age = time.time() - self.files[self.item.path].stamp.modified / 1e9
        if self.source.settle is not None and age < self.source.settle:
            problem = f"expected a file that is finished, found one that was changed {max(0.0, age):.0f} s ago"
            self._note(str(self.item.path), problem, "run again later, or shorten source.settle")

    def _check_frames(self) -> None:
        found, where = self.description, str(self.item.path)
        if found.unfinished and self.source.incomplete == "refuse":
            self.problems.append(found.unfinished)
        if found.num_frames == 1 and found.height:
            problem = f"expected frames in time, found a single one of {(found.height, found.width)}"
            self._note(where, problem, "take it out of the source folder")
        if 1 < found.num_thresholds < self.source.threshold:
            problem = f"expected threshold {self.source.threshold}, found {found.num_thresholds} of them"
            self._note(where, problem, "correct source.threshold")

    def _add_metadata(self) -> None:
        for path in metadata_paths(self.source, self.item):
            record = self.files.get(path)
            if record is None and _may_be_there(path):  # outside of the source folders
                (record,) = look_at_each([(path, NEVER)])
            if record is not None and record.kind is Kind.BROKEN:
                self.problems.append(record.reason)
            if record is not None and record.metadata is not None:
                self.paired["metadata_file"] = one_line(str(path))
                self.description = with_metadata(self.description, path, record.metadata)
                return

    def _add_images(self, images: Images) -> None:
        for name in IMAGES:
            try:
                self.paired[name] = images.of(name, self.item)
            except ScanError as error:
                self.problems.append(str(error))

    def _scan(self, scan_id: str) -> Scan:
        described, metadata, where = self.description, self.description.metadata, str(self.item.path)
        frame_time = metadata.frame_time if metadata.has_frame_time else self.source.frame_time
        if frame_time is None:
            problem = "expected a frame period in the scan or its metadata file, found none"
            problem += f" ({'; '.join(described.notes)})" if described.notes else ""
            self._note(where, problem, "give source.frame_time, or put <scan>_metadata.hdf beside the scan")
        if metadata.num_frames not in (0, described.num_frames):
            problem = f"expected {metadata.num_frames} frames as in its metadata, found {described.num_frames}"
            self._note(where, problem, "copy the file again from its origin")
        files = (self.item.path, *described.companions)
        array = [path] if (path := self.item.format.partition(":")[2]) else []  # of several in a file
        at = f"@{self.source.threshold}" if 1 < self.source.threshold <= described.num_thresholds else ""
        pixels = described.pixels_at(self.source.threshold)
        own = "pixels of its own" if pixels != described.pixels else ""
        choices = filter(None, (at, described.missing, "placed" if described.is_placed else "", own))
        known = *array, *choices, *pixels.key
        unused = [f"the file has {line}" for line in pixels.unused]
        return Scan(
            scan_id=scan_id,
            source=where,
            format=self.item.format + at,
            content=reader(self.item.format).content,
            num_frames=described.num_frames,
            height=described.height,
            width=described.width,
            itemsize=described.itemsize,
            num_q_bins=described.num_q_bins,
            num_events=described.num_events,
            reader_bytes=described.reader_bytes,
            frame_time=float("nan") if frame_time is None else frame_time,
            start_time=metadata.start_time,
            simulated=described.simulated,
            stored_bytes=sum(_size(path) for path in files),
            **{name: getattr(metadata, name) for name in _MEASURED},
            missing=described.missing,
            notes=one_line("; ".join([*described.notes, *unused, *_oddities(metadata, frame_time)])),
            pixels=pixels.text,
            digest=fingerprint(files, scan_id, repr(frame_time), repr(metadata.start_time), *known),
        )

    def _with_partition(self, scan: Scan, partitions: Partitions) -> tuple[Scan, Path | None]:
        try:
            record = partitions.of(self.item)
        except ScanError as error:
            self.problems.append(str(error))
            return scan, None
        self.paired["partition_file"] = one_line(str(record.path))
        facts, shape = record.partition, (scan.height, scan.width)
        if facts is None:
            self.problems.append(record.reason)
            return scan, None
        if facts.shape != shape:
            turned = ", which is transposed" if facts.shape == shape[::-1] else ""
            problem = f"expected frames of {facts.shape} as in {record.path}, found {shape}{turned}"
            self._note(str(self.item.path), problem, _WRONG_DETECTOR)
            return scan, None
        known = {name: getattr(facts, name) for name in ("num_q_bins", "num_pixels", "largest_bin", "num_static_bins")}
        notes = "; ".join(filter(None, (scan.notes, facts.notes)))
        return replace(scan, partition=facts.digest, notes=notes, **known), record.path


def _oddities(metadata: Metadata, frame_time: float | None) -> list[str]:
    """A line for each value that no beamline has, and for an exposure that is longer than its frame."""
    values = {name: getattr(metadata, name) for name in ("energy", "distance", "pixel_size")}
    lines = unlikely(values | {"frame_time": nan if frame_time is None else frame_time})
    if frame_time is not None and metadata.count_time > 1.01 * frame_time:
        lines.append(f"exposure {metadata.count_time:.6g} s is longer than the frame period {frame_time:.6g} s")
    return lines


def _may_be_there(path: Path) -> bool:
    """False only where there is no such file for sure: others may be out of reach."""
    try:
        return S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _size(path: Path) -> int:
    """Bytes of a file, or of all files of a store."""
    files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
    return sum(stat.st_size for _, stat in stats(files))


def _broken(item: FoundScan, scan_id: str) -> _Result:
    source = one_line(str(item.path))
    scan = Scan(scan_id, source, item.format, Content.FRAMES, 0, 0, 0, 0, 0, float("nan"), state="quarantined")
    return _Result(scan, Problem(scan_id, "ingest", one_line(item.reason), fingerprint((item.path,), scan_id)))
