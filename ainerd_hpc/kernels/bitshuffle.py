"""Events straight out of bitshuffle/LZ4 chunks, the way detectors write frames, without making the frames.

A chunk is cut in blocks. In a block the bits of all values lie in planes, lowest bit first, packed by LZ4: of frames
with few photons all planes but the first ones are a single run of zeros, which is passed over here, not written out.

        eight pixels     0 3 0 0 1 0 0 0
        plane 0          0 1 0 0 1 0 0 0      the lowest bit of each pixel
        plane 1          0 1 0 0 0 0 0 0
        planes 2 to 15   0 0 0 0 0 0 0 0      one match of LZ4: "repeat the zero before, so many times"

LZ4 alternates literals, which are copied, with matches, which repeat earlier bytes. `_unpack` writes into memory that
is zero, so a match or literals of zeros need only be counted. It says where the last byte lies that is not zero, and so
how many planes hold bits at all. `_find_in_planes` joins these planes by OR: the bits of the result are the pixels with
photons. They are found word by word, lowest bit first, and only for them is a count put together out of the planes.

References
----------
Masui et al., A compression scheme for radio data in high performance computing, Astronomy and Computing 12, 181 (2015);
lz4_Block_format.md of the LZ4 project.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.kernels.counts import LARGEST_COUNT

_DEFAULT_BLOCK = 8192
HEADER = 12
"""Bytes before the first block: size of the decoded chunk (8, big-endian) and of a block (4)."""
_DAMAGED, _LARGE = -1, -2
_SHORT = 32
"""Bytes that are sooner copied than looked at."""
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)


def _bit_numbers() -> NDArray[np.uint8]:
    """Number of the only bit of a word, by the top six bits of its product with the de Bruijn sequence."""
    table = np.zeros(64, dtype=np.uint8)
    with np.errstate(over="ignore"):
        for bit in range(64):
            table[(np.uint64(1) << np.uint64(bit)) * _DE_BRUIJN >> np.uint64(58)] = bit
    return table


_BIT_NUMBER = _bit_numbers()


class ChunkReader:
    """Finds the events of frames of one shape and type; holds the scratch memory, so one thread a reader.

    Parameters
    ----------
    area : int
        Pixels of a frame.
    itemsize : int
        Bytes of a count, little-endian.
    """

    def __init__(self, area: int, itemsize: int) -> None:
        self._area, self._itemsize = area, itemsize
        self._block = self._lit = np.zeros(0, dtype=np.uint8)

    def find(
        self,
        chunk: bytes,
        position: NDArray[np.int32],
        pixel: NDArray[np.int32],
        count: NDArray[np.uint8],
        start: int,
    ) -> int:
        """Write the events of a frame on the pixels with a position in 0..p-1 to pixel, count from `start` on.

        Returns
        -------
        int
            Where the next event goes; negative where the chunk is none of bitshuffle/LZ4, is damaged, or holds a count
            of 255 or more (dead pixels among them): then it has to be decoded and looked at.
        """
        data = np.frombuffer(chunk, dtype=np.uint8)
        size = self._area * self._itemsize
        if len(data) < HEADER or int.from_bytes(chunk[:8], "big") != size:
            return _DAMAGED
        block = int.from_bytes(chunk[8:HEADER], "big") or _DEFAULT_BLOCK
        per_block = block // self._itemsize
        if block % (8 * self._itemsize) or not 0 < per_block <= 2**20:
            return _DAMAGED
        if len(self._block) != block:
            self._block = np.zeros(block, dtype=np.uint8)
            self._lit = np.zeros(-(-per_block // 64) * 8, dtype=np.uint8)
        scratch = self._block, self._lit
        found = _find(data, self._area, self._itemsize, per_block, *scratch, position, pixel, count, start)
        if found < 0:
            self._block[:] = 0
        return int(found)


@numba.njit(nogil=True, cache=True)
def _find(
    data: Any,
    area: int,
    itemsize: int,
    per_block: int,
    block: Any,
    lit: Any,
    position: Any,
    pixel: Any,
    count: Any,
    num: int,
) -> Any:
    place, first = np.int64(HEADER), 0
    while first < area:
        values = min(per_block, (area - first) // 8 * 8)
        if values == 0:  # fewer than eight at the end stand as they are
            return _find_plain(data, place, area, itemsize, first, position, pixel, count, num)
        if place + 4 > data.size:
            return _DAMAGED
        size = np.int64(0)
        for i in range(4):
            size = size << 8 | data[place + i]
        place += 4
        if place + size > data.size:
            return _DAMAGED
        end = _unpack(data[place : place + size], block[: values * itemsize])
        if end < 0:
            return _DAMAGED
        planes = min(itemsize * 8, (end * 8 + values - 1) // values)
        num = _find_in_planes(block, lit, values, planes, first, position, pixel, count, num)
        if num < 0:
            return num
        block[:end] = 0
        place, first = place + size, first + values
    return num


@numba.njit(nogil=True, cache=True)
def _unpack(data: Any, out: Any) -> Any:
    """LZ4: fill `out`, which is zero; gives the end of what is not zero there, negative where the data are damaged."""
    place, end, dirty = np.int64(0), np.int64(0), np.int64(0)
    while place < data.size:
        token = np.int64(data[place])
        place += 1
        length, place = _length(data, place, token >> 4)
        if place + length > data.size or end + length > out.size:
            return _DAMAGED
        if place + length < data.size or not _is_zero(data[place:]):  # the last literals are mostly zeros
            for i in range(length):
                out[end + i] = data[place + i]
            dirty = end + length
        place, end = place + length, end + length
        if place == data.size:
            break
        if place + 2 > data.size:
            return _DAMAGED
        offset = np.int64(data[place]) | np.int64(data[place + 1]) << 8
        place += 2
        length, place = _length(data, place, token & 15)
        length += 4
        if place > data.size or offset == 0 or offset > end or end + length > out.size:
            return _DAMAGED
        if length <= _SHORT or not _is_zero(out[end - offset : min(end, end - offset + length)]):
            for i in range(length):
                out[end + i] = out[end + i - offset]
            dirty = end + length
        end += length
    return dirty if end == out.size else np.int64(_DAMAGED)


@numba.njit(nogil=True, cache=True)
def _length(data: Any, place: Any, start: Any) -> Any:
    """A length that begins with four bits, and where the data go on; past their end where they are cut off."""
    more = np.int64(255 if start == 15 else 0)
    while more == 255:
        if place >= data.size:
            return start, place + 1
        more = np.int64(data[place])
        start += more
        place += 1
    return start, place


@numba.njit(nogil=True, cache=True)
def _is_zero(values: Any) -> Any:
    for value in values:  # noqa: SIM110  Numba compiles no generators here
        if value != 0:
            return False
    return True


@numba.njit(nogil=True, cache=True)
def _find_in_planes(
    block: Any, lit: Any, values: Any, planes: Any, first: Any, position: Any, pixel: Any, count: Any, num: Any
) -> Any:
    """Events of a block of which the first `planes` planes hold bits."""
    size = values // 8
    lit[:] = 0
    for number in range(planes):
        plane = block[number * size : (number + 1) * size]
        for i in range(size):
            lit[i] |= plane[i]
    words = lit.view(np.uint64)
    for word in range((size + 7) // 8):
        left = words[word]
        while left != 0:
            lowest = left & (~left + np.uint64(1))
            left ^= lowest
            bit = word * 64 + np.int64(_BIT_NUMBER[lowest * _DE_BRUIJN >> np.uint64(58)])
            place = position[first + bit]
            if place >= 0:
                value = np.int64(0)
                for number in range(planes):
                    value |= (np.int64(block[number * size + (bit >> 3)]) >> (bit & 7) & 1) << number
                if value >= LARGEST_COUNT:
                    return np.int64(_LARGE)
                pixel[num], count[num] = place, value
                num += 1
    return num


@numba.njit(nogil=True, cache=True)
def _find_plain(
    data: Any, place: Any, area: Any, itemsize: Any, first: Any, position: Any, pixel: Any, count: Any, num: Any
) -> Any:
    if place + (area - first) * itemsize > data.size:
        return _DAMAGED
    for number in range(first, area):
        value = np.uint64(0)
        for i in range(itemsize):
            value |= np.uint64(data[place + i]) << np.uint64(8 * i)
        place += itemsize
        if value != 0 and position[number] >= 0:
            if value >= LARGEST_COUNT:
                return _LARGE
            pixel[num], count[num] = position[number], value
            num += 1
    return num
