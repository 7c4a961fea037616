"""Timepix4 files: known by name only, for the layout of their words is not public."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ainerd_hpc.errors import ScanError
from ainerd_hpc.types import Content

if TYPE_CHECKING:
    from ainerd_hpc.formats.source_file import SourceFile

_SUFFIXES = {".tpx", ".tpx4"}


class Timepix:
    """Says what to do with a Timepix4 file, which would go unnoticed otherwise."""

    name = "timepix4"
    content = Content.FRAMES

    @staticmethod
    def matches(file: SourceFile) -> bool:
        """Whether the file is called .tpx or .tpx4; nothing in it is known to tell."""
        return file.path.suffix.lower() in _SUFFIXES and file.path.is_file()

    @staticmethod
    def describe(file: SourceFile) -> NoReturn:
        raise _refusal(file.path)

    @staticmethod
    def open(path: Path) -> NoReturn:
        raise _refusal(path)


def _refusal(path: Path) -> ScanError:
    problem = "expected a format with a published layout, found Timepix4 events, whose layout of words is not public"
    next_step = (
        "convert it with the detector's own software to HDF5 frames (/entry/data/data) or to sparse HDF5 "
        "(intensity, pixel_index, frame_pointer, with the attribute frames_shape)"
    )
    return ScanError(str(path), problem, next_step)
