"""Frames out of bitshuffle/LZ4 chunks, the way detectors write them, and events without making the frames.

A chunk is cut in blocks. In a block the bits of all values lie in planes, lowest bit first, packed by LZ4: of frames
with few photons all planes but the first ones are a single run of zeros, which is passed over here, not written out.

        eight pixels     0 3 0 0 1 0 0 0
        plane 0          0 1 0 0 1 0 0 0      the lowest bit of each pixel
        plane 1          0 1 0 0 0 0 0 0
        planes 2 to 15   0 0 0 0 0 0 0 0      one match of LZ4: "repeat the zero before, so many times"

LZ4 passes over the zeros and says where the last byte lies that is not zero, and so how many planes hold bits at all.
For frames, 64 counts at a time are put together out of these planes. Events need less: `_find_in_planes` joins the
planes by OR, the bits of the result are the pixels with photons. They are found word by word, lowest bit first, and
only for them is a count put together.

References
----------
Masui et al., A compression scheme for radio data in high performance computing, Astronomy and Computing 12, 181 (2015).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.kernels.bits.lz4 import DAMAGED, SLACK, unpack
from ainerd_hpc.kernels.bits.vectors import join_planes
from ainerd_hpc.kernels.counts import LARGEST_COUNT

_DEFAULT_BLOCK = 8192
HEADER = 12
"""Bytes before the first block: size of the decoded chunk (8, big-endian) and of a block (4)."""
_LARGE = -2
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
    """Unpacks frames of one shape and type, or finds their events; holds the scratch memory, so one thread a reader.

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
        per_block = self._prepare(chunk)
        if not per_block:
            return DAMAGED
        scratch = self._block, self._lit
        found = _find(data, self._area, self._itemsize, per_block, *scratch, position, pixel, count, start)
        if found < 0:
            self._block[:] = 0
        return int(found)

    def unpack(self, chunk: bytes, counts: NDArray[Any]) -> bool:
        """Write the counts of a frame; whether the chunk is sound. A damaged one leaves `counts` half written.

        Parameters
        ----------
        chunk : bytes
            As HDF5 stores it.
        counts : (area,) array of unsigned integers
            Of `itemsize` bytes each; other types are handed over as a view of these.
        """
        per_block = self._prepare(chunk)
        is_sound = bool(per_block) and bool(_join(np.frombuffer(chunk, dtype=np.uint8), per_block, self._block, counts))
        if not is_sound:
            self._block[:] = 0
        return is_sound

    def _prepare(self, chunk: bytes) -> int:
        """Counts of a block, with memory for it; 0 where the head of the chunk is damaged."""
        size = self._area * self._itemsize
        if len(chunk) < HEADER or int.from_bytes(chunk[:8], "big") != size:
            return 0
        block = int.from_bytes(chunk[8:HEADER], "big") or _DEFAULT_BLOCK
        per_block = block // self._itemsize
        if block % (8 * self._itemsize) or not 0 < per_block <= 2**20:
            return 0
        if len(self._block) != block + SLACK:
            self._block = np.zeros(block + SLACK, dtype=np.uint8)
            self._lit = np.zeros(-(-per_block // 64) * 8, dtype=np.uint8)
        return per_block


@numba.njit(nogil=True, cache=True)
def _next_block(data: Any, place: Any, block: Any, size: Any) -> Any:
    """Unpack the block that begins at `place`; the end of what is not zero in it, and where the next one begins."""
    stop = place + 4
    if stop <= data.size:
        for i in range(4):
            stop += np.int64(data[place + i]) << 8 * (3 - i)
    if stop > data.size:
        return np.int64(DAMAGED), stop
    end = unpack(data, place + 4, stop, block, size)
    block[size : size + SLACK] = 0
    return end, stop


@numba.njit(nogil=True, cache=True)
def _join(data: Any, per_block: Any, block: Any, counts: Any) -> Any:
    """Frames out of planes; False where the chunk is damaged."""
    place, first = np.int64(HEADER), 0
    while first < counts.size:
        values = min(per_block, (counts.size - first) // 8 * 8)
        if values == 0:  # fewer than eight at the end stand as they are
            size = (counts.size - first) * counts.itemsize
            if place + size > data.size:
                return False
            counts[first:].view(np.uint8)[:] = data[place : place + size]
            return True
        end, place = _next_block(data, place, block, values * counts.itemsize)
        if end < 0:
            return False
        _join_block(block, values, (end * 8 + values - 1) // values, counts[first : first + values])
        block[:end] = 0
        first += values
    return True


@numba.njit(nogil=True, cache=True)
def _join_block(block: Any, values: Any, planes: Any, counts: Any) -> None:
    planes = min(planes, 8 * counts.itemsize)
    if values % 64 == 0:
        words = block[: values // 8 * planes].view(np.uint64)
        for word in range(values // 64):
            join_planes(counts, word * 64, words, word, values // 64, planes)
        return
    for number in range(values):
        value = np.uint64(0)
        for plane in range(planes):
            bit = np.uint64(block[plane * (values // 8) + number // 8] >> (number & 7) & 1)
            value |= bit << np.uint64(plane)
        counts[number] = value


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
        end, place = _next_block(data, place, block, values * itemsize)
        if end < 0:
            return DAMAGED
        planes = min(itemsize * 8, (end * 8 + values - 1) // values)
        num = _find_in_planes(block, lit, values, planes, first, position, pixel, count, num)
        if num < 0:
            return num
        block[:end] = 0
        first += values
    return num


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
        return DAMAGED
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
