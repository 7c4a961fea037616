"""Scans of DECTRIS detectors: a master file in NXmx, and data files that it links to."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from math import isnan, nan
from pathlib import Path

import h5py

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.beside.metadata import check_period, epoch
from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.hdf5.datasets import LocatedFrames, holds_frames, locate, open_located
from ainerd_hpc.formats.hdf5.reading import NEXT_STEP, get_inner, number, open_hdf5, reading, text
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.kernels.partitioning import HC
from ainerd_hpc.types import Content

_FRAMES, _DETECTOR = "entry/data/data", "entry/instrument/detector"
_SPECIFIC = f"{_DETECTOR}/detectorSpecific"
_LINK = re.compile(r"data_(\d{6})")
_METRES = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "nm": 1e-9, "pm": 1e-12, "angstrom": 1e-10, "A": 1e-10}


class EigerHdf5:
    """Reader of master files: `/entry/data/data_000001` and so on, or the one `/entry/data/data` of newer files."""

    name = "eiger-hdf5"
    content = Content.FRAMES

    @staticmethod
    def matches(file: SourceFile) -> bool:
        return file.holds(
            lambda hdf5: _links(hdf5) or (get_inner(hdf5, _DETECTOR) is not None and holds_frames(file, _FRAMES))
        )

    @staticmethod
    def describe(file: SourceFile) -> Description:
        hdf5 = file.need_hdf5()
        with reading(str(file.path)):
            located = locate(file.path, _names(hdf5))
            metadata, expected = _metadata(hdf5), _expected_frames(hdf5)
        if located.num_frames != expected and not isnan(expected):
            problem = f"expected {expected:.0f} frames (nimages x ntrigger), found {located.num_frames}"
            raise ScanError(str(file.path), problem, "copy all data files beside the master file")
        if metadata.has_frame_time:
            check_period(metadata.frame_time, f"{file.path}:/{_DETECTOR}/frame_time")
        return located.description(file.path, metadata, stem=file.path.stem.removesuffix("_master"))

    @staticmethod
    def open(path: Path) -> AbstractContextManager[LocatedFrames]:
        with open_hdf5(path) as file, reading(str(path)):
            names = _names(file)
        return open_located(path, names)


def _links(file: h5py.File) -> dict[int, str]:
    """Names of the datasets with a number, by it; early files have them in `/entry`."""
    for name in ("entry/data", "entry"):
        group = get_inner(file, name)
        if isinstance(group, h5py.Group):
            found = {int(match[1]): f"{name}/{key}" for key in group if (match := _LINK.fullmatch(key))}
            if found:
                return found
    return {}


def _names(file: h5py.File) -> list[str]:
    """Names of the datasets of frames, in their order."""
    links = _links(file)
    if not links:
        return [_FRAMES]
    numbers = sorted(links)
    for expected, found in enumerate(numbers, start=numbers[0]):
        if found != expected:
            problem = f"expected a link data_{expected:06d}, found data_{found:06d}"
            raise ScanError(str(file.filename), problem, NEXT_STEP)
    return [links[found] for found in numbers]


def _expected_frames(file: h5py.File) -> float:
    """NaN where the file does not say."""
    triggers = number(file, f"{_SPECIFIC}/ntrigger")
    return number(file, f"{_SPECIFIC}/nimages") * (1.0 if isnan(triggers) else triggers)


def _metadata(file: h5py.File) -> Metadata:
    start = text(file, f"{_SPECIFIC}/data_collection_date") or text(file, "entry/start_time")
    distance = _metres(file, f"{_DETECTOR}/detector_distance", "m")
    wavelength = _metres(file, "entry/instrument/beam/incident_wavelength", "angstrom")
    return Metadata(
        frame_time=number(file, f"{_DETECTOR}/frame_time"),
        count_time=number(file, f"{_DETECTOR}/count_time"),
        start_time=epoch(start) if start else nan,
        energy=HC * 1e-10 / wavelength if wavelength > 0.0 else nan,
        distance=_metres(file, f"{_DETECTOR}/distance", "m") if isnan(distance) else distance,
        pixel_size=_metres(file, f"{_DETECTOR}/x_pixel_size", "m"),
        beam_center_x=number(file, f"{_DETECTOR}/beam_center_x"),
        beam_center_y=number(file, f"{_DETECTOR}/beam_center_y"),
        detector=text(file, f"{_DETECTOR}/description"),
    )


def _metres(file: h5py.File, name: str, unit: str) -> float:
    """A length, m; in `unit` where the file gives none that is known."""
    value = number(file, name)
    given = "" if isnan(value) else file[name].attrs.get("units", "")
    given = given.decode(errors="replace") if isinstance(given, bytes) else str(given)
    return value * _METRES.get(given, _METRES[unit])
