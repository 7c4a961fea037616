"""Scans of DECTRIS detectors: a master file in NXmx, and data files that it links to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from math import isnan, nan
from pathlib import Path

import h5py

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.beside.metadata import check_period, epoch
from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.hdf5.datasets import detectors_of, holds_frames
from ainerd_hpc.formats.hdf5.detector import with_pixels
from ainerd_hpc.formats.hdf5.frame_numbers import numbering_of, open_numbered
from ainerd_hpc.formats.hdf5.locating import Located, locate
from ainerd_hpc.formats.hdf5.quantities import beam_center, quantity
from ainerd_hpc.formats.hdf5.reading import NEXT_STEP, get_inner, number, open_hdf5, reading, route, text
from ainerd_hpc.formats.missing import TAKE
from ainerd_hpc.formats.numbering import numbered
from ainerd_hpc.formats.reader import Frames
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.kernels.partitioning import HC
from ainerd_hpc.types import Content

_FRAMES, _DETECTOR = "entry/data/data", "entry/instrument/detector"
_SPECIFIC = f"{_DETECTOR}/detectorSpecific"
_PIXELS = (_DETECTOR, _SPECIFIC)
"""Where something is said of the pixels."""
_LINK, _THRESHOLD = re.compile(r"data_(\d{6})"), re.compile(r"threshold_(\d+)")


class EigerHdf5:
    """Reader of master files: `/entry/data/data_000001` and so on, or the one `/entry/data/data` of newer files.

    Of a detector with several thresholds, either is in `/entry/data/threshold_1` and so on, or the frames are
    (t, threshold, y, x).
    """

    name = "eiger-hdf5"
    content = Content.FRAMES

    @staticmethod
    def matches(file: SourceFile) -> bool:
        return file.holds(
            lambda hdf5: (
                _links(hdf5)
                or _thresholds(hdf5)
                or (get_inner(hdf5, _DETECTOR) is not None and holds_frames(file, _FRAMES))
            )
        )

    @staticmethod
    def describe(file: SourceFile) -> Description:
        hdf5 = file.need_hdf5()
        with reading(str(file.path)):
            names = _names(hdf5)
            located = locate(file.path, names)
            others = [locate(file.path, _names(hdf5, more)) for more in range(2, len(_thresholds(hdf5)) + 1)]
            metadata, expected = _metadata(hdf5), _expected_frames(hdf5)
            detectors = detectors_of(located, hdf5, _PIXELS, 1 + len(others) if others else None)
        numbering = numbering_of(file.path, names, located.num_frames, metadata.count_time)
        if located.num_frames + len(numbering.missing.frames) != expected:
            located = _of_expected_length(located, expected, str(file.path))
        if metadata.has_frame_time:
            check_period(metadata.frame_time, f"{file.path}:/{_DETECTOR}/frame_time")
        stored = located.description(file.path, metadata, stem=file.path.stem.removesuffix("_master"))
        found = with_pixels(numbered(stored, numbering), detectors)
        if not others:
            return found
        files = dict.fromkeys(path for one in (located, *others) for path in one.files if path != file.path)
        companions = tuple(dict.fromkeys([*files, *found.companions]))
        return replace(found, companions=companions, num_thresholds=1 + len(others))

    @staticmethod
    def open(path: Path, threshold: int = 1) -> AbstractContextManager[Frames]:
        with open_hdf5(path) as file, reading(str(path)):
            names, num_thresholds = _names(file, threshold), len(_thresholds(file)) or None
        return open_numbered(path, names, _PIXELS, threshold, num_thresholds)


def _of_expected_length(located: Located, expected: float, where: str) -> Located:
    """The same, not finished where there are fewer frames than the master says; refuses what cannot be an end."""
    if located.num_frames == expected or isnan(expected) or located.unfinished:
        return located
    problem = f"expected {expected:.0f} frames (nimages x ntrigger), found {located.num_frames}"
    error = ScanError(where, problem, "copy all data files beside the master file")
    is_cut = len({*located.lengths[:-1], max(located.lengths)}) == 1  # a file that is short shifts all after it
    if located.num_frames > expected or not is_cut:
        raise error
    return replace(located, is_cut=True, unfinished=f"{error}; or {TAKE}")


def _thresholds(file: h5py.File) -> list[str]:
    """Groups of the frames of each threshold, where they have groups of their own."""
    for parent in ("entry/data", "entry", _DETECTOR):
        group = get_inner(file, parent)
        keys = [match for key in group if (match := _THRESHOLD.fullmatch(key))] if isinstance(group, h5py.Group) else []
        names = [f"{parent}/{match[0]}" for match in sorted(keys, key=lambda match: int(match[1]))]
        found = [name for name in names if _links(file, (name,)) or route(file, f"{name}/data").end == "found"]
        if found:
            return found
    return []


def _links(file: h5py.File, groups: Sequence[str] = ("entry/data", "entry")) -> dict[int, str]:
    """Names of the datasets with a number, by it; early files have them in `/entry`."""
    for name in groups:
        group = get_inner(file, name)
        if isinstance(group, h5py.Group):
            found = {int(match[1]): f"{name}/{key}" for key in group if (match := _LINK.fullmatch(key))}
            if found:
                return found
    return {}


def _names(file: h5py.File, threshold: int = 1) -> list[str]:
    """Names of the datasets of frames, in their order."""
    groups = _thresholds(file)[threshold - 1 : threshold]
    links = _links(file, groups) if groups else _links(file)
    if not links:
        return [f"{groups[0]}/data"] if groups else [_FRAMES]
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
    distance = quantity(file, f"{_DETECTOR}/detector_distance", "m")
    wavelength = quantity(file, "entry/instrument/beam/incident_wavelength", "m", otherwise="angstrom")
    pixel_size = quantity(file, f"{_DETECTOR}/x_pixel_size", "m")
    x, y = (beam_center(file, f"{_DETECTOR}/beam_center_{axis}", pixel_size) for axis in "xy")
    return Metadata(
        frame_time=quantity(file, f"{_DETECTOR}/frame_time", "s"),
        count_time=quantity(file, f"{_DETECTOR}/count_time", "s"),
        start_time=epoch(start) if start else nan,
        energy=HC * 1e-10 / wavelength if wavelength > 0.0 else nan,
        distance=quantity(file, f"{_DETECTOR}/distance", "m") if isnan(distance) else distance,
        pixel_size=pixel_size,
        beam_center_x=x,
        beam_center_y=y,
        detector=text(file, f"{_DETECTOR}/description"),
    )
