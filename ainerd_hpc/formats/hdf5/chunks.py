"""What a chunk of HDF5 unpacks to, looked at before HDF5 unpacks it: its filters make room as they go, without end."""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from functools import cached_property
from math import prod
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np

LARGEST_CHUNK = 2**30
"""Bytes; HDF5 unpacks a chunk as a whole, however little of it is read."""
BITSHUFFLE = 32008
_DEFLATE, _SHUFFLE, _FLETCHER32, _ZSTD = 1, 2, 3, 32015
_RESHAPING = (5, 6)
"""n-bit and scale-offset, after which a chunk has another size."""
_MOST_DEFLATED = 1032
"""Times; no stream of deflate unpacks to more."""
_PIECE = 2**16
_SLACK = 2**12
"""Bytes that filters add to a chunk, at most."""
_UNKNOWN = -1


class _Size(NamedTuple):
    """Where a filter keeps the size of a chunk."""

    offset: int
    size: int
    order: Literal["big", "little"]

    def read(self, descriptor: int, begin: int) -> int:
        return int.from_bytes(os.pread(descriptor, self.size, begin + self.offset), self.order)


_SIZES = {BITSHUFFLE: _Size(0, 8, "big"), 32004: _Size(0, 8, "big"), 32001: _Size(4, 4, "little")}
"""Where chunks of bitshuffle, LZ4 and Blosc say how large they are."""


def read_rows(dataset: h5py.Dataset, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Rows [start, stop) of a dataset, all by default, after a look at their chunks.

    Raises
    ------
    ValueError
        As `Chunks.check`.
    """
    if not dataset.shape:
        return np.asarray(dataset[()])
    stop = dataset.shape[0] if stop is None else stop
    Chunks(dataset).check(start, stop)
    return np.asarray(dataset[start:stop])


class Chunks:
    """The chunks of a dataset, each looked at once, before it is first unpacked.

    Parameters
    ----------
    dataset
        Of any layout; only what lies in chunks of its own is looked at.
    is_size_checked
        Whether the reader itself checks what a chunk says of its size: then only the stored bytes are looked at.
    """

    def __init__(self, dataset: h5py.Dataset, *, is_size_checked: bool = False) -> None:
        self._dataset = dataset
        self._is_packed = dataset.chunks is not None and not dataset.is_virtual
        self._length = dataset.chunks[0] if self._is_packed else 1
        self._is_size_checked = is_size_checked

    def check(self, start: int, stop: int) -> None:
        """Refuse chunks of rows [start, stop) that unpack to more than theirs, or are stored in far more.

        Raises
        ------
        ValueError
            With the chunk, what was expected and what was found.
        """
        for first in range(start // self._length * self._length, stop, self._length) if self._suspects else ():
            for chunk in self._suspects.get(first, ()):
                self._check_one(chunk)
            self._suspects.pop(first, None)

    @cached_property
    def _suspects(self) -> dict[int, list[Any]]:
        """The chunks, by first row, that cannot be told to be sound from their stored size and filter alone."""
        found: dict[int, list[Any]] = {}
        if not self._is_packed or not self._num_filters:
            return found

        def visit(chunk: Any) -> None:
            if self._is_suspect(chunk.size):
                found.setdefault(int(chunk.chunk_offset[0]), []).append(chunk)

        self._dataset.id.chunk_iter(visit)
        return found

    def _is_suspect(self, stored: int) -> bool:
        if stored > 2 * self._bytes + _SLACK or len(self._packing) > 1:
            return True
        if not self._packing or self._is_size_checked:
            return False
        code = self._filters[self._packing[0]]
        return code in _SIZES or code == _ZSTD or (code == _DEFLATE and stored * _MOST_DEFLATED > LARGEST_CHUNK)

    def _check_one(self, chunk: Any) -> None:
        where = f"in frame {int(chunk.chunk_offset[0])}"
        if chunk.size > 2 * self._bytes + _SLACK:
            raise ValueError(f"expected a chunk of {self._bytes} bytes {where}, found one stored in {chunk.size}")
        packing = [number for number in self._packing if not chunk.filter_mask >> number & 1]
        if len(packing) > 1:
            codes = ", ".join(str(self._filters[number]) for number in packing)
            raise ValueError(f"expected a chunk of one compression {where}, found filters {codes}")
        if not packing or self._is_size_checked:
            return
        expected, is_exact = self._unpacked(packing[0], chunk.filter_mask)
        found = self._size(self._filters[packing[0]], chunk, expected)
        if found == _UNKNOWN:
            raise ValueError(f"expected a chunk of {expected} bytes {where}, found one that does not tell its size")
        if found > expected or (is_exact and found < expected):
            more = " or more" if self._filters[packing[0]] == _DEFLATE else ""
            raise ValueError(f"expected a chunk of {expected} bytes {where}, found one of {found}{more}")

    def _unpacked(self, number: int, skipped: int) -> tuple[int, bool]:
        """Bytes that a filter has to give, and whether just these, after those before it in the pipeline."""
        inner = [code for one, code in enumerate(self._filters[:number]) if not skipped >> one & 1]
        if any(code in _RESHAPING for code in inner):
            return self._bytes + _SLACK, False
        is_exact = self._filters[number] != _DEFLATE and not self._dataset.dtype.hasobject
        return self._bytes + 4 * inner.count(_FLETCHER32), is_exact

    def _size(self, code: int, chunk: Any, expected: int) -> int:
        """Bytes that a chunk unpacks to; of deflate, which does not say them, no further than beyond the expected."""
        descriptor = int(self._dataset.file.id.get_vfd_handle())
        begin = self._dataset.file.userblock_size + chunk.byte_offset
        if code in _SIZES:
            return _SIZES[code].read(descriptor, begin)
        if code == _ZSTD:
            return zstd_size(os.pread(descriptor, 18, begin))
        return _inflated_size(descriptor, begin, chunk.size, expected) if code == _DEFLATE else expected

    @cached_property
    def _num_filters(self) -> int:
        return int(self._dataset.id.get_create_plist().get_nfilters())

    @cached_property
    def _filters(self) -> list[int]:
        """Numbers of the filters, in the order of writing; bitshuffle that only shuffles is taken for shuffle."""
        found = []
        for number in range(self._num_filters):
            code, _, options, _ = self._dataset.id.get_create_plist().get_filter(number)
            is_plain = code == BITSHUFFLE and (len(options) < 5 or not options[4])
            found.append(_SHUFFLE if is_plain else int(code))
        return found

    @cached_property
    def _packing(self) -> list[int]:
        """Which of the filters compress."""
        kept = (_SHUFFLE, _FLETCHER32, *_RESHAPING)
        return [number for number, code in enumerate(self._filters) if code not in kept]

    @cached_property
    def _bytes(self) -> int:
        """Bytes of a chunk; of texts, which are 16 bytes in a file and 8 for NumPy, no less."""
        kind = self._dataset.dtype
        return int(prod(self._dataset.chunks)) * int(kind.itemsize) * (2 if kind.hasobject else 1)


def _inflated_size(descriptor: int, begin: int, stored: int, expected: int) -> int:
    """Bytes that a stream of deflate unpacks to, counted piece by piece; damaged ones are left to HDF5 to tell."""
    stream, total, place, packed = zlib.decompressobj(), 0, 0, b""
    with suppress(zlib.error):
        while not stream.eof and total <= expected:
            if not packed:
                packed = os.pread(descriptor, min(_PIECE, stored - place), begin + place)
                place += len(packed)
            piece = stream.decompress(packed, 16 * _PIECE)
            if not packed and not piece:
                break
            total, packed = total + len(piece), stream.unconsumed_tail
    return total


def zstd_size(head: bytes) -> int:
    """Bytes that a frame says it unpacks to, below 0 where it does not; HDF5's filter, too, needs it to.

    Source: RFC 8878, 3.1.1.1: magic number, descriptor, window (absent in single segments), dictionary, content size.
    """
    if len(head) < 6 or head[:4] != b"\x28\xb5\x2f\xfd":
        return _UNKNOWN
    kind, is_single, dictionary = head[4] >> 6, head[4] >> 5 & 1, (0, 1, 2, 4)[head[4] & 3]
    length = (is_single, 2, 4, 8)[kind]
    place = 5 + (not is_single) + dictionary
    if not length or len(head) < place + length:
        return _UNKNOWN
    return int.from_bytes(head[place : place + length], "little") + (256 if length == 2 else 0)
