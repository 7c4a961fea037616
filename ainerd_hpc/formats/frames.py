"""Frames of an HDF5 dataset, decoded on as many threads as ask for them."""

from __future__ import annotations

from typing import Any

import h5py
import hdf5plugin  # noqa: F401  registers the filters with h5py
import numpy as np
from dectris.compression import decompress

_BITSHUFFLE, _LZ4 = 32008, 2
_HEADER = 12
"""Bytes before a bitshuffle/LZ4 chunk: its size decoded (8, big-endian) and that of its blocks (4)."""


class Hdf5Frames:
    """Frames (t, y, x) of a dataset, in native byte order.

    Chunks of one frame in bitshuffle/LZ4, as detectors write them, are read as they are and decoded outside of HDF5,
    which lets one thread at a time decode. Anything else HDF5 decodes itself.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self.shape: tuple[int, int, int] = dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype.newbyteorder("=")
        self.per_chunk = dataset.chunks[0] if dataset.chunks else 1
        self._is_direct = dataset.dtype == self.dtype and _is_frame_a_chunk(dataset)

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Frames start, start + step, ... below stop, (n, y, x)."""
        if not self._is_direct:
            block: np.ndarray = self._dataset[start:stop:step]
            return block.astype(self.dtype, copy=False)
        numbers = range(start, min(stop, self.shape[0]), step)
        frames = np.empty((len(numbers), *self.shape[1:]), dtype=self.dtype)
        for frame, number in zip(frames, numbers, strict=True):
            frame[...] = self._decode(number)
        return frames

    def _decode(self, number: int) -> np.ndarray:
        try:
            skipped, chunk = self._dataset.id.read_direct_chunk((number, 0, 0))
        except (OSError, RuntimeError):  # never written, which HDF5 fills in, or damaged, which it tells
            return np.asarray(self._dataset[number])
        size = self.dtype.itemsize * self.shape[1] * self.shape[2]
        if skipped or int.from_bytes(chunk[:8], "big") != size or len(chunk) < _HEADER:
            return np.asarray(self._dataset[number])
        decoded = decompress(chunk, "bslz4", elem_size=self.dtype.itemsize)
        return np.frombuffer(decoded, dtype=self.dtype).reshape(self.shape[1:])


def _is_frame_a_chunk(dataset: h5py.Dataset) -> bool:
    """Whether every chunk is one frame and bitshuffle/LZ4 the only filter."""
    filters = dataset.id.get_create_plist()
    if dataset.chunks != (1, *dataset.shape[1:]) or filters.get_nfilters() != 1:
        return False
    code, _, options, _ = filters.get_filter(0)
    return bool(code == _BITSHUFFLE and len(options) > 4 and options[4] == _LZ4)
