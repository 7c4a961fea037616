"""What an HDF5 file says of the pixels of its detector, by the names of NeXus (NXdetector) and of DECTRIS."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil, floor, inf, isfinite, isnan, nan
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.description import Description
from ainerd_hpc.formats.detector_pixels import MASK_BYTES, DetectorPixels, PixelFacts
from ainerd_hpc.formats.hdf5.reading import get_dataset, get_inner, number, read_array, reading
from ainerd_hpc.kernels.no_counts import Span, first_dead

_MASK, _CUTOFF = "pixel_mask", "countrate_correction_count_cutoff"
_CORRECTIONS = {
    "flatfield_applied": "flat field",
    "flatfield_correction_applied": "flat field",
    "countrate_correction_applied": "count rate",
}
"""Flags of corrections that detectors make themselves."""
_BY_COUNTS = "bad pixels are known by their counts alone"
_OWN = re.compile(r"(?:threshold_(\d+)|difference)_channel")
"""Groups of what is said of one threshold; the difference of two comes last."""
_UNMASKED = {
    "virtual_pixel_correction_applied": "interpolated pixels are taken for measured ones",
    "number_of_excluded_pixels": _BY_COUNTS,
}
"""What matters where there is no mask."""


def with_pixels(description: Description, detectors: Sequence[Detector]) -> Description:
    """The description of a scan with what its file says of the pixels, for each threshold."""
    first, *others = (detector.facts() for detector in detectors)
    has_mask = any(facts.has_mask for facts in (first, *others))
    files = (file for detector in detectors for file in detector.files())
    return replace(
        description,
        pixels=first,
        other_pixels=tuple(others),
        reader_bytes=description.reader_bytes + MASK_BYTES * description.height * description.width * has_mask,
        companions=tuple(dict.fromkeys([*description.companions, *files])),
    )


def detector_groups(file: h5py.File, entry: str) -> list[str]:
    """Groups of detectors of an entry, by the names of NeXus."""
    group = get_inner(file, f"{entry}/instrument")
    named = sorted(group) if isinstance(group, h5py.Group) else []
    return [f"{entry}/instrument/{name}" for name in named if name.startswith("detector")]


def _own_groups(file: h5py.File, group: str, threshold: int, num_thresholds: int) -> list[str]:
    """The group below a detector's in which DECTRIS tells of one of its thresholds, where there is one.

    Where each has one, they are counted as they are stored: a detector may have been told not to count the first.
    """
    found = get_inner(file, group)
    matches = [match for key in found if (match := _OWN.fullmatch(key))] if isinstance(found, h5py.Group) else []
    if len(matches) == num_thresholds:
        own = sorted(matches, key=lambda match: float(match[1] or inf))[threshold - 1 : threshold]
    else:
        own = [match for match in matches if match[1] == str(threshold)]
    return [f"{group}/{match[0]}" for match in own]


class Detector:
    """The groups of a file that say something of the pixels of its frames.

    Parameters
    ----------
    groups : sequence of str
        In which it may say so; of a number, the first that has one. What is no group of this very file is left out.
    shape : (y, x)
        Of the frames.
    dtype : dtype
        Type of a count, in native byte order.
    threshold, num_thresholds : int
        That of the frames, from 1, and how many there are.

    Raises
    ------
    ScanError
        A mask has another shape than the frames.
    """

    def __init__(
        self,
        file: h5py.File,
        groups: Sequence[str],
        shape: tuple[int, int],
        dtype: np.dtype[Any],
        threshold: int = 1,
        num_thresholds: int = 1,
    ) -> None:
        self._file, self._shape, self._dtype = file, shape, dtype
        self._threshold, self._num_thresholds = threshold, num_thresholds
        self._unused: list[str] = []
        with reading(str(file.filename)):
            own = [name for group in groups for name in _own_groups(file, group, threshold, num_thresholds)]
            found = {name: get_inner(file, name) for name in (*groups, *own)}
            self._groups = {name: group for name, group in found.items() if isinstance(group, h5py.Group)}
            self._masks = self._find_masks()

    def facts(self) -> PixelFacts:
        """What it says, without reading a mask."""
        limits, unapplied = dict(self._limits()), list(self._unapplied())
        no_counts = tuple(span for span in limits.values() if self._is_new(span))
        unused = dict.fromkeys([*self._unused, *unapplied])
        return PixelFacts(no_counts, bool(self._masks), (*self._masks, *limits), tuple(unused))

    def pixels(self) -> DetectorPixels:
        """What is to be acted on; pixels that one of several masks has are masked.

        Raises
        ------
        ScanError
            A mask is damaged.
        """
        with reading(str(self._file.filename)):
            masks = [self._read(mask) for mask in self._masks.values()]
        mask = np.bitwise_or.reduce(masks).astype(np.uint32) if masks else None
        return DetectorPixels(self.facts().no_counts, mask)

    def _read(self, mask: h5py.Dataset) -> np.ndarray:
        values = read_array(mask.file, mask.name).reshape(-1, *self._shape)
        mine: np.ndarray = values[self._threshold - 1 if len(values) > 1 else 0]
        return mine.astype(np.int64)

    def files(self) -> list[Path]:
        """Other files in which its masks lie."""
        paths = {Path(os.path.abspath(mask.file.filename)) for mask in self._masks.values()}
        return sorted(paths - {Path(os.path.abspath(self._file.filename))})

    def _find_masks(self) -> dict[str, h5py.Dataset]:
        """The masks by name, each once; a link to one that is not there is noted."""
        found: dict[Any, tuple[str, h5py.Dataset]] = {}
        others: list[ScanError] = []
        for group in self._groups:
            if not self._has(group, _MASK):
                continue
            try:
                mask = get_dataset(self._file, f"{group}/{_MASK}")
            except ScanError:
                mask = None
            if mask is None:
                link = self._groups[group].get(_MASK, getlink=True)
                target = getattr(link, "filename", "") or getattr(link, "path", "no array")
                self._unused.append(f"{_MASK}, a link to what is not there ({target}): {_BY_COUNTS}")
                continue
            fitting = (self._shape, (1, *self._shape), (self._num_thresholds, *self._shape))
            if mask.shape not in fitting or mask.dtype.kind not in "bui":
                others.append(self._misfit(group, mask))
                continue
            place = h5py.h5o.get_info(mask.id)
            found.setdefault((mask.file.filename, place.addr), (f"{_MASK} of /{group}", mask))
        if others and not found:
            raise others[0]
        self._unused += [f"{_MASK} {one.where.rpartition(':')[2]} of another detector" for one in others]
        return dict(found.values())

    def _misfit(self, group: str, mask: h5py.Dataset) -> ScanError:
        problem = f"expected whole numbers {self._shape}, one a pixel, found {mask.dtype} {mask.shape}"
        where = f"{self._file.filename}:/{group}/{_MASK}"
        return ScanError(where, problem, "write the mask of this detector there, or take it out of the file")

    def _limits(self) -> Iterator[tuple[str, Span]]:
        """(what the file says, values that are no counts) for each limit that it gives."""
        if 0 < (limit := self._number("saturation_value")) < inf:
            yield f"saturation_value {limit:.10g}", (self._beyond(limit, inf), inf)
        if isfinite(limit := self._number("underload_value")):
            yield f"underload_value {limit:.10g}", (-inf, self._beyond(limit, -inf))
        if 0 < (limit := self._number(_CUTOFF)) < inf and self._number("countrate_correction_applied") != 0:
            yield f"{_CUTOFF} {limit:.10g}", (limit, inf)
        bits = self._number("bit_depth_image")
        if self._dtype.kind == "u" and 1 < bits <= 8 * self._dtype.itemsize:
            yield f"bit_depth_image {bits:.0f}", (2 ** int(bits) - 2, inf)

    def _beyond(self, limit: float, end: float) -> float:
        """The next value of the type of the counts towards an end."""
        if self._dtype.kind == "f":
            with np.errstate(over="ignore"):
                return float(np.nextafter(self._dtype.type(limit), self._dtype.type(end)))
        return floor(limit) + 1 if end > 0 else ceil(limit) - 1

    def _is_new(self, span: Span) -> bool:
        """Whether values of a span would be counts without it."""
        return span[0] < first_dead(self._dtype) and span[1] >= 0

    def _unapplied(self) -> Iterator[str]:
        """A line on each thing that is said and not acted on."""
        for name, what in _CORRECTIONS.items():
            if self._number(name) == 0:
                yield f"{name} 0: counts are not corrected for the {what}"
        for name, what in _UNMASKED.items():
            if not self._masks and (value := self._number(name)) > 0:
                yield f"{name} {value:.10g}, and no pixel_mask: {what}"

    def _number(self, key: str) -> float:
        """The first number of this name; NaN without. What is none is noted."""
        for group in self._groups:
            try:
                with reading(group):
                    if self._has(group, key) and not isnan(value := number(self._file, f"{group}/{key}")):
                        return value
            except ScanError:
                self._unused.append(f"{key}, which is no single number")
        return nan

    def _has(self, group: str, key: str) -> bool:
        """Whether a group has something of this name, be it a link to nothing."""
        return bool(self._groups[group].id.links.exists(key.encode()))
