"""Whether a program is writing a file: what cannot be read of it then is not damaged, but not finished."""

from __future__ import annotations

import os
from pathlib import Path

from ainerd_hpc.formats.opening import OpenFile

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_OPEN_FOR_WRITING = 0b101
_HEAD = 12
"""Bytes of a file that tell."""


def is_written(file: OpenFile) -> bool:
    """Whether a program of this host holds HDF5's lock for writing on a file, or the file says that it is open.

    Source: HDF5 file format, II.A: from version 3 on, byte 11 holds the consistency flags; bit 0 is set as long as the
    file is open for writing, bit 2 as long as it is so by a single writer with many readers (SWMR).
    """
    try:
        return _is_open(file.read(_HEAD), file.path)
    except Exception:  # whatever keeps it from being read
        return False


def is_being_written(path: Path) -> bool:
    """The same of a file that nobody has opened; its HDF5 is not looked at, which may change at this very moment."""
    try:
        with path.open("rb") as file:
            return _is_open(file.read(_HEAD), path)
    except OSError:
        return False


def _is_open(head: bytes, path: Path) -> bool:
    is_marked = head.startswith(_SIGNATURE) and head[8] >= 3 and bool(head[11] & _OPEN_FOR_WRITING)
    return is_marked or _is_locked(path)


def _is_locked(path: Path) -> bool:
    """Whether the kernel lists a lock for writing; asking for one ourselves could refuse a writer at that moment."""
    stat = path.stat()
    place = f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}:{stat.st_ino}"
    lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    return any({"WRITE", place} <= set(line.split()) for line in lines)
