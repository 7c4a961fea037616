"""The readers of source files, one module a format, found by content.

A reader is a class with `name`, `content`, `matches(path)` and `describe(path)`; readers of frames have `blocks`,
readers of maps `read_c2`, readers of latents `read_latents`. To add a format, write its module and add a line to
`READERS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ainerd_hpc.errors import ScanError

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
class Found:
    """The files of a source folder, sorted by what they are."""

    scans: tuple[tuple[Path, str], ...]
    """(file, format name)."""
    partitions: tuple[Path, ...]
    sample_logs: tuple[Path, ...]
    broken: tuple[tuple[Path, str], ...]
    """(file, reason): files that by their suffix may be scans and cannot be opened."""
    ignored: tuple[tuple[Path, str], ...]
    """(file, reason): HDF5 files in good order that hold no scan, such as results of an analysis."""


def find(folder: Path) -> Found:
    """Walk a folder and sort its files by content."""
    from ainerd_hpc.formats import sample_log
    from ainerd_hpc.formats.aps import ApsHdf5
    from ainerd_hpc.formats.partition import is_partition

    scans, partitions, sample_logs, broken, ignored = [], [], [], [], []
    for path in _files(folder):
        if is_partition(path):
            partitions.append(path)
        elif ApsHdf5.is_metadata(path):
            continue
        elif name := next((name for name in READERS if reader(name).matches(path)), None):
            scans.append((path, name))
        elif sample_log.matches(path):
            sample_logs.append(path)
        elif reason := _fault(path):
            broken.append((path, reason))
        elif path.suffix.lower() in _HDF5_SUFFIXES:
            ignored.append((path, f"{path}: neither frames (/entry/data/data) nor two-time maps (square arrays)"))
    return Found(tuple(scans), tuple(partitions), tuple(sample_logs), tuple(broken), tuple(ignored))


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file():
            yield path


def _fault(path: Path) -> str:
    """Why a file cannot be opened as what its suffix says; empty where it can, or where that matters to no reader."""
    from ainerd_hpc.formats import aps, c2maps

    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            c2maps.check_npy(path)
        elif suffix in _HDF5_SUFFIXES:
            aps.check_hdf5(path)
    except ScanError as error:
        return str(error)
    return ""
