"""The readers of source files, one module a format, found by content.

A reader is a class with `name`, `content`, `matches(file)` and `describe(file)`, given a `SourceFile`. Readers of
frames have `open(path)`, a context manager that gives frames; readers of maps `read_c2`, readers of latents
`read_latents`. To add a format, write its module and add a line to `READERS`; the first reader that matches wins.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ainerd_hpc.errors import ScanError
from ainerd_hpc.types import Content

if TYPE_CHECKING:
    from ainerd_hpc.formats.description import Description
    from ainerd_hpc.formats.source_file import SourceFile

READERS = {
    "aps-hdf5": "ainerd_hpc.formats.aps:ApsHdf5",
    "c2-hdf5": "ainerd_hpc.formats.c2maps:C2Hdf5",
    "c2-npy": "ainerd_hpc.formats.c2maps:C2Npy",
    "ainerd2024": "ainerd_hpc.formats.ainerd2024:Ainerd2024",
}
_HDF5_SUFFIXES = {".h5", ".hdf", ".hdf5", ".nxs", ".cxi"}


def reader(name: str) -> Any:
    """The reader class of a format, imported now."""
    module, attribute = READERS[name].split(":")
    return getattr(importlib.import_module(module), attribute)


@dataclass(frozen=True, slots=True)
class FoundScan:
    """A scan before it has its id."""

    path: Path
    format: str
    part: str = ""
    """Name of the scan in a file of several."""
    description: Description | None = None
    reason: str = ""
    """Why it is no scan after all."""


@dataclass(frozen=True, slots=True)
class Found:
    """The files of a source folder, sorted by what they are."""

    scans: tuple[FoundScan, ...]
    partitions: tuple[Path, ...]
    sample_logs: tuple[Path, ...]
    ignored: tuple[tuple[Path, str], ...]
    """(file, reason): HDF5 files in good order that hold no scan, such as results of an analysis."""


def find(folder: Path) -> Found:
    """Walk a folder and sort its files by content; each is opened once."""
    from ainerd_hpc.formats import sample_log
    from ainerd_hpc.formats.metadata import is_metadata
    from ainerd_hpc.formats.partition import is_partition
    from ainerd_hpc.formats.source_file import SourceFile

    scans, partitions, sample_logs, ignored = [], [], [], []
    for path in _files(folder):
        with SourceFile(path) as file:
            if is_partition(file):
                partitions.append(path)
            elif is_metadata(file):
                continue
            elif found := list(scans_of(file)):
                scans += found
            elif sample_log.matches(file):
                sample_logs.append(path)
            elif path.suffix.lower() in _HDF5_SUFFIXES:
                ignored.append((path, f"{path}: neither frames (/entry/data/data) nor two-time maps (square arrays)"))
    belonging = {path for scan in scans if scan.description for path in scan.description.companions}
    alone = [scan for scan in scans if scan.path not in belonging or scan.part]
    return Found(tuple(alone), tuple(partitions), tuple(sample_logs), tuple(ignored))


def describe(path: Path) -> Description:
    """Shape and metadata of the one scan of a file, by the reader that knows it.

    Raises
    ------
    ScanError
        No reader knows the file, or it or its metadata file is damaged.
    """
    from ainerd_hpc.formats.source_file import SourceFile

    with SourceFile(path) as file:
        scan = next(scans_of(file), FoundScan(path, "unknown"))
    if scan.description is None:
        raise ScanError(str(path), scan.reason or "expected a scan, found another file", "take it out of the folder")
    return scan.description


def scans_of(file: SourceFile) -> Iterator[FoundScan]:
    """The scans that a file holds, by the first reader that knows it; one with a reason where the file is damaged."""
    name = next((name for name in READERS if reader(name).matches(file)), "")
    if not name:
        if reason := _fault(file):
            yield FoundScan(file.path, "unknown", reason=reason)
        return
    try:
        if reader(name).content is Content.LATENTS:
            for part, description in reader(name).describe_all(file.path).items():
                yield FoundScan(file.path, name, part, description)
        else:
            yield FoundScan(file.path, name, description=_with_metadata(file.path, reader(name).describe(file)))
    except ScanError as error:
        yield FoundScan(file.path, name, reason=str(error))


def _with_metadata(path: Path, description: Description) -> Description:
    """What the file itself does not say, from its metadata file."""
    from ainerd_hpc.formats.metadata import find_metadata, read_metadata

    beside = find_metadata(path, description.stem or path.stem)
    if beside is None:
        return description
    metadata = read_metadata(beside)
    assert metadata is not None
    merged = description.metadata.or_else(metadata)
    return replace(description, metadata=merged, companions=(*description.companions, beside))


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file():
            yield path


def _fault(file: SourceFile) -> str:
    """Why a file cannot be opened as what its suffix says; empty where it can, or where that matters to no reader."""
    from ainerd_hpc.formats.hdf5 import NEXT_STEP, reading

    if file.path.suffix.lower() not in {".npy", *_HDF5_SUFFIXES}:
        return ""
    try:
        if file.hdf5 is not None and not file.fault:
            with reading(str(file.path)):
                file.hdf5.visititems(lambda name, item: None)
            return ""
    except ScanError as error:
        return str(error)
    if file.path.suffix.lower() == ".npy":
        return file.fault
    return str(ScanError(str(file.path), f"cannot read it: {file.fault or 'it is not HDF5'}", NEXT_STEP))
