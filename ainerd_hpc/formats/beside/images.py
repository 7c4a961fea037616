"""Images of a detector that are no scans: dark and flat fields, one image or a series that is averaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ainerd_hpc.formats.detector_pixels import pixels_of
from ainerd_hpc.formats.frames.arrays import Hdf5Array
from ainerd_hpc.formats.hdf5.reading import MOST_PIXELS, need_dataset, only_dataset, reading
from ainerd_hpc.formats.images.series import ImageSeries
from ainerd_hpc.formats.missing import missing_of
from ainerd_hpc.formats.npy import MAGIC, open_npy
from ainerd_hpc.formats.reader import FrameReader, Frames
from ainerd_hpc.formats.registry import reader, scans_of
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.types import Content

_BLOCK_BYTES = 2**25
_NAME_IT = "name the one that is meant: FILE:/dataset"
_NEXT_STEP = "write the image again as .npy, EDF, TIFF or HDF5, or name the dataset: FILE:/dataset"


class ImagePlace(NamedTuple):
    """A file, and which of its datasets."""

    path: Path
    dataset: str = ""
    """Empty where the file is no HDF5, or its only one is meant."""


def place_of(text: Path) -> ImagePlace:
    """What `FILE` or `FILE:/dataset` means."""
    file, colon, dataset = str(text).rpartition(":/")
    return ImagePlace(Path(file), dataset) if colon and not text.is_file() else ImagePlace(text)


def read_image(place: ImagePlace) -> np.ndarray:
    """An image, or the mean of a series of them, (y, x) float64; NaN where a pixel has no count in one of them.

    Parameters
    ----------
    place : ImagePlace
        By content: .npy (y, x) or (t, y, x); a dataset of HDF5 of such a shape; a raw file of frames of any format that
        is known; EDF, TIFF or CBF, with the files that follow it in a series.

    Raises
    ------
    ScanError
        It cannot be read as an image, or holds several arrays and none is named.
    """
    where = f"{place.path}:/{place.dataset}" if place.dataset else str(place.path)
    with reading(where, _NEXT_STEP, what="cannot read it as an image", errors=(Exception,)), _opened(place) as frames:
        return _mean(frames)


def _mean(frames: Frames) -> np.ndarray:
    """Frames of the values of dead pixels alone were lost by the detector: like those in no file, they do not count.

    What the file says of its pixels holds here as well.
    """
    from ainerd_hpc.kernels.corrections import mark

    shape, kind = frames.shape, frames.dtype.kind
    if len(shape) != 3 or 0 in shape or prod(shape[1:]) > MOST_PIXELS or kind not in "buif":
        raise ValueError(f"expected an image (y, x), or several (t, y, x), found {frames.dtype} {shape}")
    total, num, missing, pixels = np.zeros(shape[1:]), 0, missing_of(frames), pixels_of(frames)
    per_block = max(1, _BLOCK_BYTES // (8 * prod(shape[1:])))
    for start in range(0, shape[0], per_block):
        block = _without_dead(mark(frames.read(start, min(start + per_block, shape[0])), pixels.no_counts))
        is_there = ~np.isin(np.arange(start, start + len(block)), missing.frames)
        kept = block[is_there & ~np.isnan(block).all(axis=(1, 2))] if shape[0] > 1 else block
        total += kept.sum(axis=0)
        num += len(kept)
    np.put(total, missing.pixels, np.nan)
    if num == 0:
        return np.full(shape[1:], np.nan)
    return total / num if pixels.mask is None else np.where(pixels.mask == 0, total / num, np.nan)


def _without_dead(frames: np.ndarray) -> np.ndarray:
    """Frames in float64; whole numbers that are the value of dead pixels are NaN, as numbers with a fraction say it."""
    from ainerd_hpc.kernels.gather import dead_values

    if frames.dtype.kind not in "ui":
        return frames.astype(np.float64)
    return np.where(dead_values(frames), np.nan, frames)


@contextmanager
def _opened(place: ImagePlace) -> Iterator[Frames]:
    with SourceFile(place.path) as file:
        if not file.head:
            raise file.unreadable(f"cannot read it: {file.fault or 'it is empty'}", _NEXT_STEP)
        if place.dataset and file.hdf5 is None:
            problem = f"expected HDF5 with the dataset /{place.dataset}, found {file.fault or 'another file'}"
            raise file.unreadable(problem, _NEXT_STEP)
        if file.head.startswith(MAGIC):
            with open_npy(place.path) as array:
                yield _Array(array)
            return
        found = None if place.dataset else _known_reader(file)
        if found is None and file.hdf5 is not None:
            name = place.dataset or only_dataset(file.hdf5, {2: "two", 3: "three"}, _NAME_IT)
            dataset = need_dataset(file.hdf5, name)
            if dataset.ndim != 3 or dataset.dtype.kind == "b":
                yield _Array(dataset)
                return
            with Hdf5Array(name).open(place.path) as frames:
                yield frames
            return
    with (found or ImageSeries).open(place.path) as frames:
        yield frames


def _known_reader(file: SourceFile) -> FrameReader | None:
    """The reader of frames that knows the file, if one does."""
    scan = next(scans_of(file), None)
    is_plain = scan and scan.description and scan.description.num_thresholds == 1
    found = reader(scan.format) if scan and is_plain else None
    return found if found is not None and found.content is Content.FRAMES else None


class _Array:
    """An array (t, y, x), or (y, x) as a series of one, in memory or in a file."""

    per_chunk = 1

    def __init__(self, stored: Any) -> None:
        self._stored, self._is_single = stored, len(stored.shape or ()) == 2
        self.shape: tuple[int, ...] = (1, *stored.shape) if self._is_single else stored.shape
        self.dtype: np.dtype[Any] = stored.dtype

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        values = np.asarray(self._stored[()] if self._is_single else self._stored[start:stop:step])
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        return native[np.newaxis] if self._is_single else native
