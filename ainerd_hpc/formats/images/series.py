"""Series of images, one or several in a file: which files make a scan, and what their headers say of it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from importlib.util import find_spec
from itertools import chain, islice
from math import inf, isnan, nan
from os import scandir
from pathlib import Path

import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.beside.metadata import epoch
from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.detector_pixels import DetectorPixels, PixelFacts
from ainerd_hpc.formats.hdf5.reading import reading
from ainerd_hpc.formats.images.files import Image, fill, images_of, kind_of
from ainerd_hpc.formats.images.pixels import facts_of, number_in, numbers_in
from ainerd_hpc.formats.numbering import Numbering, number_frames, numbered, place_frames
from ainerd_hpc.formats.opening import READ_ERRORS
from ainerd_hpc.formats.reader import Frames
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.formats.suffixes import HDF5_SUFFIXES
from ainerd_hpc.formats.units import UNITS, factor
from ainerd_hpc.kernels.partitioning import HC
from ainerd_hpc.types import Content

_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)
"""Prefix, last number and rest of a file's name without suffix."""
_OTHERS = HDF5_SUFFIXES | {".npy", ".bin", ".imm", ".csv", ".log", ".txt", ".json", ".yaml"}
"""Files that have never been images, however damaged they are."""
_NUMBER = r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?"
_UNIT = re.compile(rf"(?>{_NUMBER})[\s_(]*([^\W\d]\w*|°)")
"""A number and what stands behind it: `0.1 s`, `1.5_m`, `172e-6 m x 172e-6 m`."""


class ImageSeries:
    """Reader of series of images: files whose names differ in the last number alone, or one file of several images."""

    name = "image-series"
    content = Content.FRAMES

    @staticmethod
    def matches(file: SourceFile) -> bool:
        try:
            return _is_first(file)
        except (ScanError, *READ_ERRORS):
            return False

    @staticmethod
    def describe(file: SourceFile) -> Description:
        series = _Series(file.path)
        if series.starts[-1] < 2:
            raise ScanError(str(file.path), "expected a series of images, found one", "take it out of the folder")
        height, width = series.first.shape
        stored = Description(
            series.starts[-1],
            series.first.dtype.itemsize,
            height,
            width,
            metadata=_metadata(file.path, series),
            pixels=series.facts,
            stem=series.stem,
            companions=tuple(path for path in series.files[1:] if path),
        )
        return numbered(stored, series.numbering(stored.metadata.count_time))

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[Frames]:
        """The frames of a scan in the order of their numbers (acq_frame_nb), or else of the clock in their headers."""
        series = _Series(path)
        if series.first.is_packed and find_spec("fabio") is None:
            raise ScanError(str(path), "expected the package fabio, which decodes CBF, found none", "pip install fabio")
        yield place_frames(ImageFrames(series), series.numbering())


class ImageFrames:
    """Frames of a series, each read from its file when it is asked for."""

    per_chunk = 1

    def __init__(self, series: _Series) -> None:
        self._series = series
        self.dtype = series.first.dtype.newbyteorder("=")
        self.shape = (series.starts[-1], *series.first.shape)
        self.pixels = DetectorPixels(series.facts.no_counts)
        self._places = lru_cache(maxsize=4)(_places)

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        numbers = range(start, min(stop, self.shape[0]), step)
        frames = np.empty((len(numbers), *self.shape[1:]), dtype=self.dtype)
        for frame, number in zip(frames, numbers, strict=True):
            self._read(number, frame)
        return frames

    def _read(self, number: int, frame: np.ndarray) -> None:
        index = bisect_right(self._series.starts, number) - 1
        path, start = self._series.files[index], self._series.starts[index]
        if path is None:
            frame[...] = 0
            return
        where = f"{path} image {number - start} (frame {number})"
        with reading(where), path.open("rb") as file:
            image = self._places(path)[number - start]
            self._series.check(image, where)
            fill(frame, file, image)


class _Series:
    """The files of a scan, of which the first is `path`, and what their headers say."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.first, last, self._ticks = _ends(path)
        names, place = _siblings(path)
        self.starts, self.stem = [0, len(self._ticks)], path.stem
        self.files: list[Path | None] = [path]
        """None stands for those that are missing side by side."""
        before = path.name
        for number, name in names[place + 1 :]:
            first, following, ticks = self._ends_of(path.with_name(name), last)
            is_other = first is not None and _begins_anew(first, len(ticks), last)
            if is_other or (self.first.number is None and self.starts[1] > 1):
                break
            self._leave_room(path.with_name(name), number, before, len(names))
            self._check_next(path.with_name(name), first)
            self.files.append(path.with_name(name))
            self.starts.append(self.starts[-1] + len(ticks))
            self._ticks += ticks
            last, before = following, name
        if place == 0 and len(self.files) > 1:
            self.stem = split_name(path.name)[0].rstrip("_-. ") or path.stem

    @property
    def facts(self) -> PixelFacts:
        """What the first header says of the pixels."""
        return facts_of(self.first.header, self.first.dtype)

    def _leave_room(self, path: Path, number: int, before: str, num_files: int) -> None:
        """Leave room for files that are missing: they hold as many images as the first, and are the smaller part."""
        lost = number - split_name(before)[1] - 1
        if not 0 <= lost < num_files:
            problem = f"expected number {number - lost} after {before}, found {number}"
            raise ScanError(str(path), problem, "copy all files of the series again")
        if lost:
            self.files.append(None)
            self.starts.append(self.starts[-1] + lost * self.starts[1])

    def _ends_of(self, path: Path, last: Image) -> tuple[Image | None, Image, list[tuple[float, ...]]]:
        """What `_ends` gives; of a damaged one of single images none and the last before it, since reading tells."""
        try:
            return _ends(path)
        except ScanError:
            if self.starts[1] > 1:
                raise
            return None, last, [(nan,) * len(self._ticks[0])]

    def _check_next(self, path: Path, first: Image | None) -> None:
        if first is None:
            return
        self.check(first, str(path))

    def numbering(self, count_time: float = nan) -> Numbering:
        """Where the images stand, with those that are missing; `count_time` is their exposure, s."""
        spans = [range(*self.starts[number : number + 2]) for number, path in enumerate(self.files) if path]
        rows = np.fromiter(chain(*spans), dtype=np.int64)
        counted, *clocks = np.array(self._ticks).T
        numbers = rows if None in self.files else None
        if np.isfinite(counted).all() and np.ptp(counted) > 0.0:
            numbers = counted.astype(np.int64)
        times = next((clock for clock in clocks if np.isfinite(clock).all() and np.ptp(clock) > 0.0), None)
        found = number_frames(len(rows), str(self._path), numbers, times, count_time)
        places = np.full(self.starts[-1], -1, dtype=np.int64)
        places[rows] = found.places
        return replace(found, places=places)

    def check(self, image: Image, where: str) -> None:
        """Refuse an image that is not like the first."""
        if (image.shape, image.dtype) != (self.first.shape, self.first.dtype):
            problem = (
                f"expected {self.first.dtype} {self.first.shape} as in {self._path.name}, "
                f"found {image.dtype} {image.shape}"
            )
            raise ScanError(where, problem, "keep the files of one scan together")


def _is_first(file: SourceFile) -> bool:
    kind = kind_of(file.head)
    if not kind and file.path.suffix.lower() in _OTHERS:
        return False
    names, place = _siblings(file.path)
    if place == 0 and len(names) > 1:  # if it is damaged, which is to be told, the next one shows what it was
        with SourceFile(file.path.with_name(names[1][1])) as following:
            return bool(kind or kind_of(following.head))
    if not kind or kind == "cbf":
        return False
    first, count = _look(file.path)
    if place == 0:
        return count > 1
    before = None
    if count == 1 and first.number == 0 and place + 1 < len(names):
        _, before, _ = _ends(file.path.with_name(names[place - 1][1]))
    return _begins_anew(first, count, before)


def _begins_anew(first: Image, count: int, before: Image | None) -> bool:
    """Whether a file with this first image and so many of them begins another scan than the image before it.

    Files of several images count on, or each is a scan. Single images all belong together, be they of one acquisition
    or each of its own, until one begins a second acquisition.
    """
    if count > 1:
        return not first.number
    return first.number == 0 and before is not None and bool(before.number)


def split_name(name: str) -> tuple[str, int, str]:
    """Prefix, last number and rest of a file's name; -1 where there is no number."""
    stem, dot, suffix = name.rpartition(".")
    match = _NUMBERED.fullmatch(stem or name)
    return (match[1], int(match[2]), match[3] + dot + suffix) if match else (name, -1, "")


def _siblings(path: Path) -> tuple[list[tuple[int, str]], int]:
    """(number, name) of the files whose names differ in the last number alone, in order, and the place of this one."""
    prefix, number, rest = split_name(path.name)
    if number < 0:
        return [(number, path.name)], 0
    with reading(str(path)):
        names = _folder(path.parent, path.parent.stat().st_mtime_ns)[prefix, rest]
    return names, bisect_right(names, (number, path.name)) - 1


@lru_cache(maxsize=8)
def _folder(folder: Path, modified: int) -> Mapping[tuple[str, str], list[tuple[int, str]]]:
    """(number, name) of the files of a folder, in order, by the rest of their names."""
    found: dict[tuple[str, str], list[tuple[int, str]]] = {}
    with scandir(folder) as entries:
        for entry in entries:
            prefix, number, rest = split_name(entry.name)
            if number >= 0 and not entry.name.startswith(".") and entry.is_file():
                found.setdefault((prefix, rest), []).append((number, entry.name))
    return {key: sorted(names) for key, names in found.items()}


def _look(path: Path) -> tuple[Image, int]:
    """The first image of a file, and 1 if it is the only one, else 2; what is damaged behind it counts as another."""
    images = images_of(path)
    first = next(images)
    try:
        return first, 1 + sum(1 for _ in islice(images, 1))
    except ScanError:
        return first, 2


def _ends(path: Path) -> tuple[Image, Image, list[tuple[float, ...]]]:
    """The first and the last image of a file, and when each of all was measured, as of `_tick`."""
    images = images_of(path)
    first = last = next(images)
    ticks = [_tick(first)]
    for last in images:
        if (last.shape, last.dtype) != (first.shape, first.dtype):
            problem = f"expected images of {first.dtype} {first.shape}, found one of {last.dtype} {last.shape}"
            raise ScanError(f"{path} image {len(ticks)}", problem, "take other images out of the file")
        ticks.append(_tick(last))
    return first, last, ticks


def _tick(image: Image) -> tuple[float, ...]:
    """The number of an image in its acquisition, and what clocks say, s; NaN where its header does not."""
    date = nan
    with suppress(ValueError):
        date = _date(image.header["date"]) if "date" in image.header else nan
    times = (number_in(image.header, key) for key in ("time_of_frame", "time_of_day"))
    return (nan if image.number is None else image.number, *times, date)


def _places(path: Path) -> list[Image]:
    """All images of a file, without their headers, which take more memory than what else there is."""
    return [image._replace(header={}) for image in images_of(path)]


def _metadata(path: Path, series: _Series) -> Metadata:
    """What the headers say: of ESRF and SAXS programs in EDF, of Pilatus in CBF and TIFF."""
    first = series.first.header
    with reading(str(path)):
        period = _quantity(first, "s", "exposure_period")
        start, wavelength = number_in(first, "time_of_day"), _quantity(first, "m", "wavelength")
        center = numbers_in(first, "beam_xy")
        return Metadata(
            frame_time=period if 0.0 < period < inf else nan,
            count_time=_quantity(first, "s", "acq_expo_time", "count_time", "exposuretime", "exposure_time"),
            start_time=_date(first["date"]) if isnan(start) and "date" in first else start,
            energy=HC * 1e-10 / wavelength if 1e-12 < wavelength < 1e-7 else nan,
            distance=_quantity(first, "m", "sampledistance", "detector_distance"),
            pixel_size=_quantity(first, "m", "psize_1", "pixel_size"),
            beam_center_x=center[0] if len(center) > 1 else _center(first, 1),
            beam_center_y=center[1] if len(center) > 1 else _center(first, 2),
            detector=first.get("detector", "").partition(",")[0],
        )


def _quantity(header: Mapping[str, str], unit: str, *keys: str) -> float:
    """The first number of the first key that has one, in our unit, whatever stands behind it, or in the key's name."""
    for key in keys:
        for name in (key, *(f"{key}_{given}" for given in UNITS[unit] if len(given) < 4)):
            if numbers := numbers_in(header, name):
                behind = _UNIT.match(header[name].strip())
                return numbers[0] * factor(behind[1] if behind else name.removeprefix(key).strip("_"), unit)
    return nan


def _center(header: Mapping[str, str], axis: int) -> float:
    """Beam centre of the SAXS programs, which count from the edge of the first pixel; here it is from its middle."""
    offset = number_in(header, f"offset_{axis}")
    return number_in(header, f"center_{axis}") - (0.0 if isnan(offset) else offset) - 0.5


def _date(text: str) -> float:
    """2010-06-07T10:10:10.123, or 2010/Jun/07 10:10:10.123."""
    if "/" not in text:
        return epoch(text)
    form = "%Y/%b/%d %H:%M:%S.%f" if "." in text else "%Y/%b/%d %H:%M:%S"
    return epoch(datetime.strptime(text, form).isoformat())
