"""IMM files of APS 8-ID-I, up to 2022: frames one after another, sparse or dense, each behind a header of 1024 bytes.

Of the header (little-endian; layout as in xpcs-eigen, io/imm_header.h) are used: compression at 4 (6: sparse), rows
108, cols 112, bytes 116, elapsed 128, preset 136, dlen 152, buffer_number 160. A sparse frame is dlen pixels (uint32,
row by row), then dlen counts (uint16); a dense one dlen = rows x cols counts (uint16). Its systick (164) is elapsed in
ms; its corecotick (620) is us of the detector, or a count of frames, as the writer has it, and is left alone.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf, nan
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.events.blocks import EventFrames
from ainerd_hpc.formats.hdf5.reading import MOST_PIXELS, NEXT_STEP, reading
from ainerd_hpc.formats.numbering import Numbering, number_frames, numbered, place_frames
from ainerd_hpc.formats.opening import OpenFile, opened
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.types import Content

if TYPE_CHECKING:
    from ainerd_hpc.formats.reader import Frames
    from ainerd_hpc.kernels.event_frames import EventBlock

_SUFFIX = ".imm"
_BYTES = 1024
"""Bytes of a header."""
_FIELDS = Struct("<4xi100xiii8xdd8xI4xI")
_SPARSE = 6


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
        """Shape and metadata of a scan, from the headers of all frames.

        `count_time` is the header's preset, `frame_time` the mean step of its clock (elapsed, s) from the first frame
        to the last; unknown where the clock does not go evenly, or faster than the exposure lets it. The clock is that
        of the computer which wrote the file: good for long scans, no better than a millisecond a scan. The date of
        the header has no time zone and is left out.
        """
        with _stored(file.path) as frames:
            stored = Description(
                frames.shape[0],
                frames.dtype.itemsize,
                *frames.shape[1:],
                num_events=frames.num_events,
                reader_bytes=frames.reader_bytes,
                metadata=Metadata(count_time=frames.count_time),
            )
            return numbered(stored, frames.numbering)

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[Frames]:
        """The frames of a scan in the order of their numbers (buffer_number), or else of their clock (elapsed)."""
        with _stored(path) as frames:
            yield place_frames(frames, frames.numbering)


@contextmanager
def _stored(path: Path) -> Iterator[SparseFrames | DenseFrames]:
    """The frames as they are in the file."""
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
    number: int
    """Number of the frame (buffer_number)."""

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
    """Frames of a sparse file as they are stored, with a list of where each begins (16 bytes a frame)."""

    def __init__(self, file: OpenFile, first: _Header) -> None:
        self._file, self.count_time = file, _seconds(first.preset)
        self._starts, self._sizes, clock = _hop(file, first)
        self.numbering = _numbering(file, clock, self.count_time)
        super().__init__(str(file.path), (len(self._starts), first.rows, first.columns))

    @property
    def num_events(self) -> int:
        return int(self._sizes.sum())

    @property
    def reader_bytes(self) -> int:
        return 64 * len(self._sizes)  # all lists, while they grow

    def events(self, start: int, stop: int) -> EventBlock:
        from ainerd_hpc.kernels.event_frames import unpack_imm

        starts, sizes = self._starts[start:stop], self._sizes[start:stop]
        begin = int(starts[0]) if len(starts) else 0
        end = int(starts[-1] + _BYTES + 6 * sizes[-1]) if len(starts) else 0
        halves = self._file.read_array(np.dtype("<u2"), (end - begin) // 2, begin)
        return unpack_imm(halves, (starts - begin + _BYTES) // 2, sizes)


class DenseFrames:
    """Frames of a dense file as they are stored; any number of threads may read."""

    dtype = np.dtype(np.uint16)
    per_chunk = 1
    num_events = 0

    def __init__(self, file: OpenFile, first: _Header) -> None:
        self._file, self._first, self.count_time = file, first, _seconds(first.preset)
        self._stored = _BYTES + first.stored
        num_frames, rest = divmod(file.size, self._stored)
        if rest:
            _refuse(file.path, num_frames, f"frames of {self._stored} bytes, found {rest} bytes at the end of the file")
        self.shape = (num_frames, first.rows, first.columns)
        clock = _Clock()
        for number in range(num_frames):
            clock.add(_header(file, number * self._stored))
        self.numbering = _numbering(file, clock, self.count_time)

    @property
    def reader_bytes(self) -> int:
        return 32 * self.shape[0]  # the clock, while it grows

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        numbers = range(start, min(stop, self.shape[0]), step)
        frames = np.empty((len(numbers), *self.shape[1:]), dtype=self.dtype)
        with reading(f"{self._file.path} frames {start}..{stop - 1}"):
            for frame, number in zip(frames, numbers, strict=True):
                stored = self._file.read_array(np.dtype(np.uint8), self._stored, number * self._stored)
                self._check(number, _Header(*_FIELDS.unpack_from(stored.data)))
                frame[...] = stored[_BYTES:].view("<u2").reshape(frame.shape)
        return frames

    def _check(self, number: int, header: _Header) -> None:
        if not header.is_like(self._first):
            _refuse(self._file.path, number, _difference(header, self._first))


class _Clock:
    """What the headers say of when their frames were measured."""

    def __init__(self) -> None:
        self.numbers, self.elapsed = array("q"), array("d")

    def add(self, header: _Header) -> None:
        self.numbers.append(header.number)
        self.elapsed.append(header.elapsed)


def _numbering(file: OpenFile, clock: _Clock, count_time: float) -> Numbering:
    """Where the frames of a file stand."""
    numbers, times = np.frombuffer(clock.numbers, dtype=np.int64), np.frombuffer(clock.elapsed, dtype=np.float64)
    return number_frames(len(numbers), str(file.path), numbers, times, count_time)


def _header(file: OpenFile, start: int) -> _Header:
    return _Header(*_FIELDS.unpack(os.pread(file.descriptor, _FIELDS.size, start)))


def _hop(file: OpenFile, first: _Header) -> tuple[np.ndarray, np.ndarray, _Clock]:
    """Where the header of each frame begins, how many events follow, and the clock, from header to header."""
    starts, sizes, clock, start, stop = array("q"), array("q"), _Clock(), 0, file.size
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
        clock.add(header)
        start = after
    return np.frombuffer(starts, dtype=np.int64), np.frombuffer(sizes, dtype=np.int64), clock


def _difference(header: _Header, first: _Header) -> str:
    """Why a header is not like the first."""
    expected, found = (f"{one.rows} x {one.columns} pixels, compression {one.compression}" for one in (first, header))
    return header.fault or f"{expected} as in the first frame, found {found}"


def _refuse(path: Path, number: int, expected_found: str) -> NoReturn:
    raise ScanError(f"{path} frame {number}", f"expected {expected_found}", NEXT_STEP)


def _seconds(value: float) -> float:
    """A duration; NaN where it is none."""
    return value if 0.0 < value < inf else nan
