"""A file that may be anything, however many readers look at it."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType

import h5py

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.hdf5.reading import NEXT_STEP, unreadable
from ainerd_hpc.formats.opening import READ_ERRORS, OpenFile, is_refused, opened

_HEAD = 4096
"""Bytes of the beginning that tell formats apart."""
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


class SourceFile:
    """A file of a source folder. Looking at it never raises: what cannot be read has an empty head and no HDF5."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault = ""
        """Why it cannot be read, as far as somebody tried."""
        self.is_refused = False
        """Whether the system did not let somebody read it."""
        self._open = ExitStack()

    def __enter__(self) -> SourceFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @cached_property
    def _file(self) -> OpenFile:
        return self._open.enter_context(opened(self.path))

    @cached_property
    def head(self) -> bytes:
        """The first bytes, at most 4096."""
        try:
            return self._file.read(_HEAD)
        except OSError as error:
            self.fault, self.is_refused = str(error), is_refused(error)
            return b""

    @cached_property
    def hdf5(self) -> h5py.File | None:
        """The file as HDF5; None where it is none, or is damaged."""
        if not self.head.startswith(_HDF5_MAGIC):
            return None
        try:
            return self._file.hdf5
        except READ_ERRORS as error:
            self.fault, self.is_refused = " ".join(str(error).split()), is_refused(error)
            return None

    def need_hdf5(self) -> h5py.File:
        """The file as HDF5.

        Raises
        ------
        ScanError
            It is none, or is damaged.
        """
        if self.hdf5 is None:
            raise self.unreadable(f"cannot read it: {self.fault or 'it is not HDF5'}")
        return self.hdf5

    def unreadable(self, problem: str, next_step: str = NEXT_STEP) -> ScanError:
        """The error about this file, which cannot be read."""
        return unreadable(str(self.path), problem, next_step, self.is_refused)

    def holds(self, look: Callable[[h5py.File], object]) -> bool:
        """Whether it is HDF5 in which `look` finds something; where that is damaged, it finds nothing."""
        try:
            return self.hdf5 is not None and bool(look(self.hdf5))
        except (ScanError, *READ_ERRORS):
            return False

    def buffered(self) -> io.BufferedReader:
        """Its bytes; raises OSError where they cannot be read."""
        return self._file.buffered()
