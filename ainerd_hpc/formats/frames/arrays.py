"""Readers of HDF5 frames at no fixed place: an array by its path, and those of the ESRF (LImA, BLISS)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from math import isnan, nan
from pathlib import Path

import h5py

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.beside.metadata import epoch
from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.hdf5.datasets import holds_frames
from ainerd_hpc.formats.hdf5.detector import detector_groups
from ainerd_hpc.formats.hdf5.frame_numbers import describe_numbered, open_numbered
from ainerd_hpc.formats.hdf5.quantities import quantity
from ainerd_hpc.formats.hdf5.reading import open_hdf5, reading, text
from ainerd_hpc.formats.reader import Frames
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.types import Content


class Hdf5Array:
    """Reader of one array (t, y, x) of HDF5 files, by its path in them.

    Parameters
    ----------
    dataset : str
        Such as `entry_0000/measurement/data`.
    """

    content = Content.FRAMES

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset.strip("/")
        self.name = f"hdf5-array:{self.dataset}"

    def matches(self, file: SourceFile) -> bool:
        return holds_frames(file, self.dataset)

    def describe(self, file: SourceFile) -> Description:
        groups = _beside(file.need_hdf5(), self.dataset)
        return describe_numbered(file.path, self.dataset, Metadata(), groups)

    def open(self, path: Path, threshold: int = 1) -> AbstractContextManager[Frames]:
        with open_hdf5(path) as file, reading(str(path)):
            groups = _beside(file, self.dataset)
        return open_numbered(path, [self.dataset], groups, threshold)


def _beside(file: h5py.File, dataset: str) -> list[str]:
    """The group in which an array lies, and those of the detectors of its entry: they may tell of its pixels."""
    return [dataset.rpartition("/")[0], *detector_groups(file, dataset.partition("/")[0])]


_LIMA, _BLISS = re.compile(r"entry_\d{4}"), re.compile(r"\d+\.1")
"""Groups of a scan, as LImA and BLISS of the ESRF write them."""
_TIMES = (("acquisition", "exposure_time"), ("acq_parameters", "acq_expo_time"))


class EsrfHdf5:
    """Reader of the HDF5 files of the ESRF: `/entry_0000/...` of LImA, `/<n>.1/measurement/<detector>` of BLISS."""

    name = "esrf-hdf5"
    content = Content.FRAMES

    @staticmethod
    def matches(file: SourceFile) -> bool:
        return file.holds(lambda hdf5: any(_esrf_arrays(file, hdf5)))

    @staticmethod
    def describe(file: SourceFile) -> Description:
        name, path = _only_array(file), file.path
        with reading(str(path)):
            metadata = _esrf_metadata(file.need_hdf5(), name)
        if metadata.has_frame_time and not 0.0 < metadata.frame_time < float("inf"):
            problem = f"expected exposure and latency above 0 s together, found {metadata.frame_time}"
            raise ScanError(str(path), problem, "correct them, or name the array in the config")
        return describe_numbered(path, name, metadata, _said_in(file.need_hdf5(), name))

    @staticmethod
    def open(path: Path, threshold: int = 1) -> AbstractContextManager[Frames]:
        with SourceFile(path) as file:
            name = _only_array(file)
            groups = _said_in(file.need_hdf5(), name)
        return open_numbered(path, [name], groups, threshold)


def _only_array(file: SourceFile) -> str:
    with reading(str(file.path)):
        found = list(_esrf_arrays(file, file.need_hdf5()))
    if len(found) != 1:
        problem = f"expected one array (t, y, x), found {', '.join(found[:4]) or 'none'}"
        raise ScanError(str(file.path), problem, "name the one that counts in the config")
    return found[0]


def _esrf_arrays(file: SourceFile, hdf5: h5py.File) -> Iterator[str]:
    """Names of the arrays of frames; not of scans that only a link leads to, which are found in their own file."""
    for entry in _members(hdf5):
        names = []
        if _LIMA.fullmatch(entry):
            names = [f"{entry}/measurement/data"]
            if not holds_frames(file, names[0]):
                names = [f"{detector}/data" for detector in _detectors(hdf5, entry)]
        elif _BLISS.fullmatch(entry):
            names = _members(hdf5, f"{entry}/measurement")
        yield from (name for name in names if holds_frames(file, name))


def _detectors(file: h5py.File, entry: str) -> list[str]:
    """Groups of the detectors of a LImA file."""
    parents = [name for name in _members(file, entry) if name.split("/")[1].startswith(("instrument", "ESRF-"))]
    return [detector for parent in parents for detector in _members(file, parent)]


def _members(file: h5py.File, name: str = "") -> list[str]:
    """What a group of this very file holds; nothing where there is no such group, or a link in its place."""
    parts = name.split("/") if name else []
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    if not all(isinstance(file.get(one, getlink=True), h5py.HardLink) for one in above):
        return []
    group = file[f"/{name}"]
    return ["/".join([*parts, key]) for key in sorted(group)] if isinstance(group, h5py.Group) else []


def _esrf_metadata(file: h5py.File, name: str) -> Metadata:
    """What LImA or BLISS wrote beside an array."""
    entry, detector = name.split("/")[0], name.split("/")[-1]
    is_lima, start = _LIMA.fullmatch(entry), text(file, f"{entry}/start_time")
    known = Metadata(start_time=epoch(start) if start else nan)
    for group in _detectors(file, entry) if is_lima else [f"{entry}/instrument/{detector}"]:
        known = known.or_else(_detector_metadata(file, group))
    return known


def _said_in(file: h5py.File, name: str) -> list[str]:
    """Groups that may say something of the pixels of an array: its own, and those of its detector."""
    entry, detector = name.split("/")[0], name.split("/")[-1]
    is_lima = _LIMA.fullmatch(entry)
    return [*_beside(file, name), *(_detectors(file, entry) if is_lima else [f"{entry}/instrument/{detector}"])]


def _detector_metadata(file: h5py.File, group: str) -> Metadata:
    """Metadata of a detector with its times, s; a frame is an exposure and the latency after it."""
    for times, exposure in _TIMES:
        count_time = quantity(file, f"{group}/{times}/{exposure}", "s")
        if not isnan(count_time):
            return Metadata(
                frame_time=count_time + quantity(file, f"{group}/{times}/latency_time", "s"),
                count_time=count_time,
                pixel_size=quantity(file, f"{group}/detector_information/pixel_size/xsize", "m"),
                detector=group.split("/")[-1],
            )
    return Metadata()
