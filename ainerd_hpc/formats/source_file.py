"""A file that may be anything: opened once, however many readers look at it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from types import TracebackType

import h5py

from ainerd_hpc.formats.hdf5 import READ_ERRORS

_HEAD = 4096
"""Bytes of the beginning that tell formats apart."""
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


class SourceFile:
    """A file of a source folder. Looking at it never raises: what cannot be read has an empty head and no HDF5."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault = ""
        """Why it cannot be read, as far as somebody tried."""

    def __enter__(self) -> SourceFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.__dict__.get("hdf5") is not None:
            self.__dict__.pop("hdf5").close()

    @cached_property
    def head(self) -> bytes:
        """The first bytes, at most 4096."""
        try:
            with self.path.open("rb") as file:
                return file.read(_HEAD)
        except OSError as error:
            self.fault = str(error)
            return b""

    @cached_property
    def hdf5(self) -> h5py.File | None:
        """The file as HDF5; None where it is none, or is damaged."""
        if not self.head.startswith(_HDF5_MAGIC):
            return None
        try:
            return h5py.File(self.path, "r")
        except READ_ERRORS as error:
            self.fault = " ".join(str(error).split())
            return None
