"""Arrays in .npy files, read part by part; nothing is unpickled, and no more is believed than the file holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from ainerd_hpc.formats.opening import OpenFile, opened

MAGIC = npy_format.MAGIC_PREFIX


class NpyArray:
    """An array in an open file."""

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        with file.buffered() as content:
            self.shape, self._is_fortran, self.dtype = _header(content)
            self._begin = content.tell()
        expected, found = prod(self.shape) * self.dtype.itemsize, file.size - self._begin
        if expected > found:
            raise ValueError(f"expected {expected} bytes of data, found {found}")

    def __getitem__(self, rows: slice | tuple[()]) -> np.ndarray:
        """All, or some along the first axis."""
        if rows == () or self._is_fortran:
            flat = self._file.read_array(self.dtype, prod(self.shape), self._begin)
            return np.asarray(flat.reshape(self.shape, order="F" if self._is_fortran else "C")[rows])
        assert isinstance(rows, slice)
        start, stop, step = rows.indices(self.shape[0])
        row = prod(self.shape[1:])
        begin = self._begin + start * row * self.dtype.itemsize
        flat = self._file.read_array(self.dtype, max(0, stop - start) * row, begin)
        return np.asarray(flat.reshape(-1, *self.shape[1:])[::step])


@contextmanager
def open_npy(path: Path) -> Iterator[NpyArray]:
    """The array of a file.

    Raises
    ------
    Exception
        It cannot be read: a damaged header is parsed as Python text, which can fail in any way.
    """
    with opened(path) as file:
        yield NpyArray(file)


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    magic = file.read(len(MAGIC))
    if magic != MAGIC:
        raise ValueError(f"expected a .npy file, found one that starts with {magic!r}")
    file.seek(0)
    is_first = npy_format.read_magic(file) == (1, 0)
    read = npy_format.read_array_header_1_0 if is_first else npy_format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, and unpickling these could run any program")
    return shape, is_fortran, dtype
