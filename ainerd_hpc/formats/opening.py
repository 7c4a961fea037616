"""Files of a source folder, opened once while somebody looks at them: for their bytes, by HDF5, by several readers."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ainerd_hpc.formats.suffixes import HDF5_SUFFIXES

READ_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError, OverflowError)
"""What h5py and NumPy make of damaged files."""
_OWN = {errno.EINVAL, errno.EOVERFLOW, errno.EFBIG, errno.EISDIR}
"""Errors of the system that a file itself brings about: damaged numbers in it, or that it is a folder."""
_MOST_KEPT = 128
"""Files that a look keeps open, besides those that are in use."""


def is_refused(error: Exception) -> bool:
    """Whether it is the system that does not let a file be read now (rights, locks, mounts), not the file itself."""
    return isinstance(error, OSError) and error.errno is not None and error.errno not in _OWN


class OpenFile:
    """One descriptor for all that is read of a file: HDF5's own, where the name says that it is HDF5."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.users = 0
        self._closing = ExitStack()

    def close(self) -> None:
        """Let go of the descriptor."""
        self._closing.close()

    @cached_property
    def hdf5(self) -> h5py.File:
        """The file as HDF5; raises `READ_ERRORS` where it is none or is damaged.

        No lock is taken: it would keep the detector from writing, and many network and read-only mounts have none.
        """
        return self._closing.enter_context(h5py.File(self.path, "r", locking=False))

    @cached_property
    def descriptor(self) -> int:
        """The descriptor of the file, as long as it is open; raises OSError where it cannot be read."""
        if self.path.suffix.lower() in HDF5_SUFFIXES:
            with suppress(*READ_ERRORS):
                return int(self.hdf5.id.get_vfd_handle())
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._closing.callback(os.close, descriptor)
        return descriptor

    @property
    def size(self) -> int:
        """Bytes, now."""
        return os.fstat(self.descriptor).st_size

    def read(self, size: int, offset: int = 0) -> bytes:
        """So many bytes from there, less where the file ends before."""
        return self.buffered(offset).read(size)

    def read_array(self, dtype: np.dtype[Any], count: int, offset: int) -> np.ndarray:
        """So many values from there; a file that is mapped instead kills its reader if somebody cuts it meanwhile.

        Raises
        ------
        ValueError
            The file ends before.
        """
        if offset + count * dtype.itemsize > self.size:  # before room is made for a number that is damaged
            raise ValueError(f"expected {count * dtype.itemsize} bytes at {offset}, found a file of {self.size}")
        values = np.empty(count, dtype=dtype)
        left = values.view(np.uint8).data
        while left and (size := os.preadv(self.descriptor, [left], offset)):
            left, offset = left[size:], offset + size
        if left:
            raise ValueError(f"expected {len(left)} bytes more at {offset}, found the end: it was cut off meanwhile")
        return values

    def buffered(self, offset: int = 0) -> io.BufferedReader:
        """The file as a stream, to be read like any file; closing it leaves the descriptor open."""
        raw: Any = _Bytes(self.descriptor)
        file = io.BufferedReader(raw)
        file.seek(offset)
        return file


class _Bytes(io.RawIOBase):
    """The bytes of a descriptor that somebody else uses, too."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._place = descriptor, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._place}.get(whence)
        self._place = (os.fstat(self._descriptor).st_size if begin is None else begin) + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        size = os.preadv(self._descriptor, [buffer], self._place)
        self._place += size
        return size


_kept: ContextVar[dict[Path, OpenFile] | None] = ContextVar("kept", default=None)
"""The files that are kept open, in the order in which they were used."""


@contextmanager
def keeping_open() -> Iterator[Mapping[Path, OpenFile]]:
    """Whatever `opened` opens within stays open to the end: each file is opened once (of very many, most of them).

    Gives those that are open, by their paths.
    """
    files: dict[Path, OpenFile] = {}
    token = _kept.set(files)
    try:
        yield files
    finally:
        _kept.reset(token)
        for file in files.values():
            file.close()


@contextmanager
def opened(path: Path) -> Iterator[OpenFile]:
    """A file to be read, which is opened as soon as something of it is asked for."""
    kept = _kept.get()
    if kept is None:
        file = OpenFile(path)
        try:
            yield file
        finally:
            file.close()
        return
    file = kept[path] = kept.pop(path) if path in kept else OpenFile(path)
    file.users += 1
    try:
        yield file
    finally:
        file.users -= 1
        _let_go(kept)


def _let_go(kept: dict[Path, OpenFile]) -> None:
    """Close those that were used the longest ago."""
    unused = [path for path, file in kept.items() if not file.users] if len(kept) > _MOST_KEPT else []
    for path in unused[: len(kept) - _MOST_KEPT]:
        kept.pop(path).close()
