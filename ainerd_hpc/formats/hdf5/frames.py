"""Frames of an HDF5 dataset, decoded on as many threads as ask for them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import h5py
import hdf5plugin  # noqa: F401  registers the filters with h5py
import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.hdf5.chunks import BITSHUFFLE, Chunks
from ainerd_hpc.formats.hdf5.reading import reading
from ainerd_hpc.formats.reader import COUNT_KINDS, frame_type

if TYPE_CHECKING:
    from ainerd_hpc.kernels.gather import FrameEvents

_LZ4 = 2
_LARGEST_FRAME = 2**31
"""Bytes; a damaged header can claim any size."""
_MOST_THRESHOLDS = 8
"""A detector has no more; a longer axis is another one."""
NO_FRAMES = "check that this is a raw detector file"
FrameShape = tuple[int, int, int]
"""(t, y, x)."""


class Hdf5Frames:
    """Frames (t, y, x) of a dataset (t, y, x), (t, threshold, y, x) or (y, x).

    Chunks of one frame in bitshuffle/LZ4, as detectors write them, are read as they are and decoded outside of HDF5,
    which lets one thread at a time decode. Anything else HDF5 decodes itself.

    Parameters
    ----------
    where : str
        The dataset, for errors.
    threshold : int
        Which of several is taken, from 1.
    """

    largest_found = 254

    def __init__(self, dataset: h5py.Dataset, where: str, threshold: int = 1) -> None:
        self._dataset, self._where = dataset, where
        self.shape = frame_shape(dataset.shape)
        self._plane = (threshold - 1,) * (len(dataset.shape) == 4)
        self.dtype = frame_type(dataset.dtype)
        self.per_chunk = dataset.chunks[0] if dataset.chunks and self._has_time else 1
        self._is_direct = dataset.dtype == self.dtype and _is_frame_a_chunk(dataset)
        self._chunks = Chunks(dataset, is_size_checked=self._is_direct)

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        with self._reading(start, stop):
            if not self._is_direct:
                return self._by_hdf5(start, stop, step).astype(self.dtype, copy=False)
            return self._unpack(range(start, min(stop, self.shape[0]), step))

    def _unpack(self, numbers: range) -> np.ndarray:
        from ainerd_hpc.kernels.bits.bitshuffle import ChunkReader

        frames = np.empty((len(numbers), *self.shape[1:]), dtype=self.dtype)
        chunks = ChunkReader(self.shape[1] * self.shape[2], self.dtype.itemsize)
        for frame, number in zip(frames, numbers, strict=True):
            chunk = self._chunk(number)
            if not chunk:
                frame[...] = self._dataset[(number, *self._plane)]
            elif not chunks.unpack(chunk, frame.reshape(-1).view(f"u{frame.itemsize}")):
                raise ValueError(f"expected a chunk of {frame.nbytes} bytes in frame {number}, found a damaged one")
        return frames

    @property
    def _has_time(self) -> bool:
        return len(self._dataset.shape) > 2

    def _by_hdf5(self, start: int, stop: int, step: int) -> np.ndarray:
        if self._has_time:
            self._chunks.check(start, stop)
            return np.asarray(self._dataset[(slice(start, stop, step), *self._plane)])
        self._chunks.check(0, self.shape[1])
        return np.asarray(self._dataset[()])[np.newaxis][start:stop:step]

    def find(self, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray) -> FrameEvents | None:
        """None where frames are stored otherwise or are damaged, pixels are dead, or counts are 255 or more."""
        from ainerd_hpc.kernels.bits.bitshuffle import ChunkReader
        from ainerd_hpc.kernels.gather import FrameEvents

        if not self._is_direct or self.dtype.kind != "u":
            return None
        room = (stop - start) * int(np.count_nonzero(position >= 0))  # what is not written takes no memory
        pixel, count = np.empty(room, dtype=np.int32), np.empty(room, dtype=np.uint8)
        stops, end = np.empty(stop - start, dtype=np.int64), 0
        chunks = ChunkReader(self.shape[1] * self.shape[2], self.dtype.itemsize)
        with self._reading(start, stop):
            for number in range(start, stop):
                chunk = self._chunk(number)
                end = chunks.find(chunk, position, pixel, count, end) if chunk else -1
                if end < 0:
                    return None
                stops[number - start] = end
        return FrameEvents(pixel[:end].copy(), count[:end].copy(), stops)

    def _reading(self, start: int, stop: int) -> AbstractContextManager[None]:
        return reading(f"{self._where} frames {start}..{stop - 1}")

    def _chunk(self, number: int) -> bytes:
        """A frame as it is stored; empty where it has to be left to HDF5."""
        self._chunks.check(number, number + 1)
        try:
            skipped, chunk = self._dataset.id.read_direct_chunk((number, *self._plane, 0, 0))
        except (OSError, RuntimeError):  # never written, which HDF5 fills in, or damaged, which it tells
            return b""
        return b"" if skipped else bytes(chunk)


def check_frames(dataset: h5py.Dataset, where: str, threshold: int = 1) -> tuple[FrameShape, np.dtype[Any]]:
    """Shape (t, y, x) and type of the frames that a dataset gives.

    Raises
    ------
    ScanError
        It holds other things than counts, frames of 2 GiB or more, or has no such threshold.
    """
    with reading(where):
        shape: tuple[int, ...] = dataset.shape or ()
        dtype: np.dtype[Any] = dataset.dtype
    kinds = "ui" if len(shape) == 2 else COUNT_KINDS  # an image with a fraction may be anything
    if len(shape) not in (2, 3, 4) or 0 in shape or dtype.kind not in kinds or num_thresholds(shape) > _MOST_THRESHOLDS:
        raise ScanError(where, f"expected counts (t, y, x), found {dtype} {shape}", NO_FRAMES)
    if shape[-2] * shape[-1] * dtype.itemsize > _LARGEST_FRAME:
        raise ScanError(where, f"expected frames below 2 GiB, found {dtype} {shape}", NO_FRAMES)
    if len(shape) == 4 and threshold > shape[1]:
        problem = f"expected threshold {threshold}, found {shape[1]} in (t, threshold, y, x) of {shape}"
        raise ScanError(where, problem, "correct source.threshold")
    return frame_shape(shape), frame_type(dtype)


def frame_shape(shape: tuple[int, ...]) -> FrameShape:
    """(t, y, x) of a dataset (t, y, x), (t, threshold, y, x), or of the one frame (y, x)."""
    return shape[0] if len(shape) > 2 else 1, shape[-2], shape[-1]


def num_thresholds(shape: tuple[int, ...]) -> int:
    """How many thresholds a dataset of frames of this shape has."""
    return shape[1] if len(shape) == 4 else 1


def _is_frame_a_chunk(dataset: h5py.Dataset) -> bool:
    """Whether every chunk is one frame and bitshuffle/LZ4 the only filter."""
    filters = dataset.id.get_create_plist()
    one_frame = (1,) * (len(dataset.shape) - 2) + dataset.shape[-2:]
    if len(dataset.shape) < 3 or dataset.chunks != one_frame or filters.get_nfilters() != 1:
        return False
    code, _, options, _ = filters.get_filter(0)
    return bool(code == BITSHUFFLE and len(options) > 4 and options[4] == _LZ4)
