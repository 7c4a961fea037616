"""Blocks of LZ4, unpacked into memory that is zero: runs of zeros are passed over, not written.

LZ4 alternates literals, which are copied, with matches, which repeat earlier bytes. Copies are 8 or 16 bytes wide and
may write up to `SLACK` bytes too far: these are written again by what follows, or cleared where zeros follow.

References
----------
lz4_Block_format.md of the LZ4 project.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ainerd_hpc.kernels.bits.vectors import copy8, copy16

DAMAGED = -1
SLACK = 32
"""Bytes beyond a block that are written to and cleared again; no copy of less than the whole goes further."""


@numba.njit(nogil=True, cache=True)
def unpack(data: Any, place: Any, stop: Any, out: Any, size: Any) -> Any:
    """Unpack data[place:stop] to out[:size], uint8, which is zero and has `SLACK` bytes more.

    Returns
    -------
    int
        Where the zeros begin that `out` ends with, or later; negative where the data are damaged.
    """
    end, lit = np.int64(0), np.int64(0)
    while place < stop:
        token = np.int64(data[place])
        length, place = token >> 4, place + 1
        if length < 15 and place + length < stop and place + 16 <= data.size and end + length <= size:
            copy16(out, end, data, place)
            if length:
                lit = end + length
        else:
            if length == 15:
                length, place = _length(data, place, stop)
            if place + length > stop or end + length > size:
                return np.int64(DAMAGED)
            if _copy_literals(data, place, stop, out, end, length):
                lit = end + length
        place, end = place + length, end + length
        if place == stop:
            break
        if place + 2 > stop:
            return np.int64(DAMAGED)
        offset = np.int64(data[place]) | np.int64(data[place + 1]) << 8
        length, place = token & 15, place + 2
        if length == 15:
            length, place = _length(data, place, stop)
        length += 4
        if place > stop or offset == 0 or offset > end or end + length > size:
            return np.int64(DAMAGED)
        start = end - offset
        if offset == 1 and out[start] == 0:
            for i in range(SLACK):
                out[end + i] = 0
        elif length <= 24 and offset >= 8:
            copy8(out, end, out, start)
            copy8(out, end + 8, out, start + 8)
            copy8(out, end + 16, out, start + 16)
            lit = end + length
        elif _repeat(out, start, end, length):
            lit = end + length
        end += length
    return lit if end == size else np.int64(DAMAGED)


@numba.njit(nogil=True, cache=True)
def is_zero(values: Any, start: Any, stop: Any) -> Any:
    for place in range(start, stop):  # noqa: SIM110  Numba compiles no generators here
        if values[place] != 0:
            return False
    return True


@numba.njit(nogil=True, cache=True)
def _length(data: Any, place: Any, stop: Any) -> Any:
    """A length of 15 or more, and where the data go on; past their end where they are cut off."""
    length, more = np.int64(15), np.int64(255)
    while more == 255:
        if place >= stop:
            return length, stop + 1
        more = np.int64(data[place])
        length += more
        place += 1
    return length, place


@numba.njit(nogil=True, cache=True)
def _copy_literals(data: Any, place: Any, stop: Any, out: Any, end: Any, length: Any) -> Any:
    """Copy literals; False where they end the block with zeros, as most blocks do."""
    if place + length == stop and is_zero(data, place, stop):
        _fill(out, end, np.uint8(0))
        return False
    if place + length + 16 <= data.size:
        _copy(out, end, data, place, length)
    else:
        for i in range(length):
            out[end + i] = data[place + i]
    return True


@numba.njit(nogil=True, cache=True)
def _repeat(out: Any, start: Any, end: Any, length: Any) -> Any:
    """Repeat at `end` what begins at `start`; False where it is all zero."""
    if length > SLACK and is_zero(out, start, min(end, start + length)):
        _fill(out, end, np.uint8(0))
        return False
    if end - start >= 16:
        _copy(out, end, out, start, length)
        return True
    for i in range(min(length, 16)):
        out[end + i] = out[start + i]
    distance = (15 + end - start) // (end - start) * (end - start)
    _copy(out, end + 16, out, end + 16 - distance, length - 16)
    return True


@numba.njit(nogil=True, cache=True)
def _copy(target: Any, to: Any, source: Any, start: Any, length: Any) -> None:
    i = np.int64(0)
    while i < length:
        copy16(target, to + i, source, start + i)
        i += 16


@numba.njit(nogil=True, cache=True)
def _fill(out: Any, start: Any, value: Any) -> None:
    for i in range(SLACK):
        out[start + i] = value
