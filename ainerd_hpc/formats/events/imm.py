"""IMM files of APS 8-ID-I, up to 2022: frames one after another, sparse or dense, each behind a header of 1024 bytes.

Of the header (little-endian; layout as in xpcs-eigen, io/imm_header.h) are used: compression at 4 (6: sparse), rows
108, cols 112, bytes 116, elapsed 128, preset 136, dlen 152. A sparse frame is dlen pixels (uint32, row by row), then
dlen counts (uint16); a dense one dlen = rows x cols counts (uint16).
"""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.events.blocks import EventFrames
from ainerd_hpc.formats.hdf5.reading import MOST_PIXELS, NEXT_STEP, reading
from ainerd_hpc.formats.opening import OpenFile, opened
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.types import Content

if TYPE_CHECKING:
    from ainerd_hpc.kernels.event_frames import EventBlock

_SUFFIX = ".imm"
_BYTES = 1024
"""Bytes of a header."""
_FIELDS = Struct("<4xi100xiii8xdd8xI")
_SPARSE = 6
_JITTER = 0.01
"""How far frames may come off their time, as a share of the scan, for the clock to be believed."""


class Imm:
    """Reader of IMM frames."""

    name = "imm"
    content = Content.FRAMES

    @staticmethod
    def matches(file: SourceFile) -> bool:
        """Whether the file begins with a header that makes sense; one called .imm matches so that damage is told."""
        if len(file.head) >= _BYTES and not _Header(*_FIELDS.unpack_from(file.head)).fault:
            return True
        return file.path.suffix.lower() == _SUFFIX and file.path.is_file()

    @staticmethod
    def describe(file: SourceFile) -> Description:
        """Shape and metadata of a scan; of sparse files, all headers are read.

        `count_time` is the header's preset, `frame_time` the mean step of its clock (elapsed, s) from the first frame
        to the last; unknown where the clock does not go evenly, or faster than the exposure lets it. The clock is that
        of the computer which wrote the file: good for long scans, no better than a millisecond a scan. The date of
        the header has no time zone and is left out.
        """
        with Imm.open(file.path) as frames:
            num_frames, height, width = frames.shape
            numbers = sorted({0, num_frames // 2, num_frames - 1})
            headers = [frames.header(number) for number in numbers]
            metadata = Metadata(frame_time=_period(numbers, headers), count_time=_seconds(headers[0].preset))
            return Description(
                num_frames,
                frames.dtype.itemsize,
                height,
                width,
                num_events=frames.num_events,
                reader_bytes=frames.reader_bytes,
                metadata=metadata,
            )

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[SparseFrames | DenseFrames]:
        with opened(path) as file:
            with reading(str(path)):
                if file.size < _BYTES:
                    _refuse(path, 0, f"a header of {_BYTES} bytes, found {file.size} bytes")
                first = _header(file, 0)
                if first.fault:
                    _refuse(path, 0, first.fault)
                frames = (SparseFrames if first.compression == _SPARSE else DenseFrames)(file, first)
            yield frames


class _Header(NamedTuple):
    compression: int
    rows: int
    columns: int
    itemsize: int
    elapsed: float
    preset: float
    size: int
    """Values that follow."""

    @property
    def fault(self) -> str:
        """What makes no sense, with what was expected; empty where all does."""
        area = self.rows * self.columns
        if self.compression not in (0, _SPARSE):
            return f"compression 0 or {_SPARSE}, found {self.compression}"
        if min(self.rows, self.columns) < 1 or area > MOST_PIXELS:
            return f"1 to {MOST_PIXELS} pixels, found {self.rows} x {self.columns}"
        if self.itemsize != 2:
            return f"counts of 2 bytes, found {self.itemsize}"
        if self.size > area or (self.size != area and self.compression == 0):
            return f"values of {self.rows} x {self.columns} pixels, found {self.size}"
        return ""

    @property
    def stored(self) -> int:
        """Bytes of the frame behind the header."""
        return self.size * (6 if self.compression == _SPARSE else 2)

    def is_like(self, first: _Header) -> bool:
        return not self.fault and self[:4] == first[:4]


class SparseFrames(EventFrames):
    """Frames of a sparse file, with a list of where each begins (16 bytes a frame)."""

    def __init__(self, file: OpenFile, first: _Header) -> None:
        self._file = file
        self._starts, self._sizes = _hop(file, first)
        super().__init__(str(file.path), (len(self._starts), first.rows, first.columns))

    @property
    def num_events(self) -> int:
        return int(self._sizes.sum())

    @property
    def reader_bytes(self) -> int:
        return 32 * len(self._sizes)  # both lists, while they grow

    def events(self, start: int, stop: int) -> EventBlock:
        from ainerd_hpc.kernels.event_frames import unpack_imm

        starts, sizes = self._starts[start:stop], self._sizes[start:stop]
        begin = int(starts[0]) if len(starts) else 0
        end = int(starts[-1] + _BYTES + 6 * sizes[-1]) if len(starts) else 0
        halves = self._file.read_array(np.dtype("<u2"), (end - begin) // 2, begin)
        return unpack_imm(halves, (starts - begin + _BYTES) // 2, sizes)

    def header(self, number: int) -> _Header:
        """The header of a frame."""
        return _header(self._file, int(self._starts[number]))


class DenseFrames:
    """Frames of a dense file; any number of threads may read."""

    dtype = np.dtype(np.uint16)
    per_chunk = 1
    num_events = reader_bytes = 0

    def __init__(self, file: OpenFile, first: _Header) -> None:
        self._file, self._first = file, first
        self._stored = _BYTES + first.stored
        num_frames, rest = divmod(file.size, self._stored)
        if rest:
            _refuse(file.path, num_frames, f"frames of {self._stored} bytes, found {rest} bytes at the end of the file")
        self.shape = (num_frames, first.rows, first.columns)

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        numbers = range(start, min(stop, self.shape[0]), step)
        frames = np.empty((len(numbers), *self.shape[1:]), dtype=self.dtype)
        with reading(f"{self._file.path} frames {start}..{stop - 1}"):
            for frame, number in zip(frames, numbers, strict=True):
                stored = self._file.read_array(np.dtype(np.uint8), self._stored, number * self._stored)
                self._check(number, _Header(*_FIELDS.unpack_from(stored.data)))
                frame[...] = stored[_BYTES:].view("<u2").reshape(frame.shape)
        return frames

    def header(self, number: int) -> _Header:
        """The header of a frame."""
        header = _header(self._file, number * self._stored)
        self._check(number, header)
        return header

    def _check(self, number: int, header: _Header) -> None:
        if not header.is_like(self._first):
            _refuse(self._file.path, number, _difference(header, self._first))


def _header(file: OpenFile, start: int) -> _Header:
    return _Header(*_FIELDS.unpack(os.pread(file.descriptor, _FIELDS.size, start)))


def _hop(file: OpenFile, first: _Header) -> tuple[np.ndarray, np.ndarray]:
    """Where the header of each frame begins, and how many events follow, from header to header."""
    starts, sizes, start, stop = array("q"), array("q"), 0, file.size
    path = file.path
    while start < stop:
        if start + _BYTES > stop:
            _refuse(path, len(starts), f"a header of {_BYTES} bytes, found {stop - start} bytes to the end of the file")
        header = _header(file, start)
        if not header.is_like(first):
            _refuse(path, len(starts), _difference(header, first))
        after = start + _BYTES + header.stored
        if after > stop:
            left = stop - start - _BYTES
            _refuse(path, len(starts), f"{header.stored} bytes of events, found {left} to the end of the file")
        starts.append(start)
        sizes.append(header.size)
        start = after
    return np.frombuffer(starts, dtype=np.int64), np.frombuffer(sizes, dtype=np.int64)


def _difference(header: _Header, first: _Header) -> str:
    """Why a header is not like the first."""
    expected, found = (f"{one.rows} x {one.columns} pixels, compression {one.compression}" for one in (first, header))
    return header.fault or f"{expected} as in the first frame, found {found}"


def _refuse(path: Path, number: int, expected_found: str) -> NoReturn:
    raise ScanError(f"{path} frame {number}", f"expected {expected_found}", NEXT_STEP)


def _period(numbers: list[int], headers: list[_Header]) -> float:
    """Mean step of the clock, s; NaN where it cannot be the frame period."""
    elapsed = [header.elapsed for header in headers]
    if len(numbers) < 2 or not all(map(math.isfinite, elapsed)):
        return math.nan
    period = (elapsed[-1] - elapsed[0]) / numbers[-1]
    slack = _JITTER * period * numbers[-1] + period
    is_even = all(
        abs(time - elapsed[0] - number * period) <= slack for number, time in zip(numbers, elapsed, strict=True)
    )
    grows = all(earlier < later for earlier, later in pairwise(elapsed))
    is_possible = not headers[0].preset > period * (1.0 + _JITTER)
    return period if grows and is_even and is_possible else math.nan


def _seconds(value: float) -> float:
    """A duration; NaN where it is none."""
    return value if 0.0 < value < math.inf else math.nan
