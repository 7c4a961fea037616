"""Numbers of frames and their clock, as detectors and their software write them beside frames in HDF5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import nan
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.hdf5.datasets import detectors_of, open_located
from ainerd_hpc.formats.hdf5.detector import with_pixels
from ainerd_hpc.formats.hdf5.locating import Place, dataset_at, locate, resolve
from ainerd_hpc.formats.hdf5.reading import get_dataset, open_hdf5, read_array, reading
from ainerd_hpc.formats.numbering import Numbering, number_frames, numbered, place_frames
from ainerd_hpc.formats.opening import READ_ERRORS
from ainerd_hpc.formats.reader import Frames

_ENDS = ("image_nr_low", "image_nr_high")
"""Attributes of the frames of DECTRIS: numbers of the first and the last."""
_BESIDE = ("uid", "frame_id", "frame_number", "frame_index")
"""Lists of numbers beside the frames: of Odin, of Jungfrau and others."""
_IDS, _TIMES = (f"entry/instrument/NDAttributes/{name}" for name in ("NDArrayUniqueId", "NDArrayTimeStamp"))
"""Numbers and times, s, of areaDetector."""


class _Clock(NamedTuple):
    numbers: np.ndarray | None = None
    times: np.ndarray | None = None


def numbering_of(path: Path, names: Sequence[str], num: int, count_time: float = nan) -> Numbering:
    """Where so many frames stand that lie in datasets of these names, one after the other; `count_time` in s.

    Raises
    ------
    ScanError
        As for `number_frames`.
    """
    try:
        with open_hdf5(path) as file:
            places = [resolve(file, name) for name in names]
        clocks = [_clock(place) for place in places]
    except (ScanError, *READ_ERRORS):  # the reader tells of what is damaged
        clocks = []
    numbers, times = (_joined(list(one), num) for one in zip(*clocks, strict=True)) if clocks else (None, None)
    return number_frames(num, str(path), numbers, times, count_time)


def describe_numbered(path: Path, name: str, metadata: Metadata, groups: Sequence[str]) -> Description:
    """The scan in a dataset of this name, with these metadata; `groups` say something of its pixels.

    Raises
    ------
    ScanError
        As for `locate`, or `number_frames`.
    """
    located = locate(path, [name])
    numbering = numbering_of(path, [name], located.num_frames, metadata.count_time)
    with open_hdf5(path) as file, reading(str(path)):
        detectors = detectors_of(located, file, groups)
        return with_pixels(numbered(located.description(path, metadata), numbering), detectors)


@contextmanager
def open_numbered(
    path: Path, names: Sequence[str], groups: Sequence[str], threshold: int = 1, num_thresholds: int | None = None
) -> Iterator[Frames]:
    """The frames of a scan that lie in datasets of these names, where they were measured; the others as of
    `open_located`.

    Raises
    ------
    ScanError
        As for `open_located`, or `number_frames`.
    """
    with open_located(path, names, groups, threshold, num_thresholds) as frames:
        yield place_frames(frames, numbering_of(path, names, frames.shape[0]))


def _joined(lists: Sequence[np.ndarray | None], num: int) -> np.ndarray | None:
    """One list after the other; None where one lacks, or they are not one for each frame."""
    found = [one for one in lists if one is not None]
    return np.concatenate(found) if len(found) == len(lists) and sum(map(len, found)) == num else None


def _clock(place: Place) -> _Clock:
    """What is known of the frames of a dataset."""
    with dataset_at(place) as dataset:
        return _clock_of(dataset)


def _clock_of(dataset: h5py.Dataset) -> _Clock:
    low, high = (dataset.attrs.get(end) for end in _ENDS)
    if low is not None and high is not None and int(high) - int(low) + 1 == dataset.shape[0]:
        return _Clock(np.arange(int(low), int(high) + 1))
    home, folder, beside = dataset.file, dataset.name.rpartition("/")[0], dataset.parent
    ids = (_list(home, place, "ui") for place in (*(f"{folder}/{name}" for name in _BESIDE if name in beside), _IDS))
    return _Clock(next((one for one in ids if one is not None), None), _list(home, _TIMES, "f"))


def _list(file: h5py.File, name: str, kinds: str) -> np.ndarray | None:
    """A list of numbers of these kinds; None where there is none."""
    found = get_dataset(file, name)
    is_list = found is not None and found.ndim == 1 and found.size and found.dtype.kind in kinds
    return read_array(file, name) if is_list else None
