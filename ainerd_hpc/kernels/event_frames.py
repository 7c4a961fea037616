"""Events as detectors write them, frame by frame: out of their bits, to frames, and to events of chosen pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.kernels.counts import LARGEST_COUNT
from ainerd_hpc.kernels.gather import FrameEvents

DEAD = 2**32 - 1
"""Mark of a dead pixel, in place of its count. Sums of counts stop two below: one below is no count either."""

_MOST_PIECES, _SOME_PIECES = 4, 2**16
"""Events that are made of one of a file, in the mean, which in memory are as large as all else that is read of it; and
how many it may be at any rate."""
_RIGAKU_ROWS, _RIGAKU_COLUMNS = 512, 1024
"""Shape of a module, pixels."""
_RIGAKU_UNUSED = np.uint64(0b111 << 37 | 0b1111 << 12)
"""Bits of a word."""


class BadEventError(ValueError):
    """An event that cannot be: `index` is its number in the block."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


@dataclass(frozen=True, slots=True, eq=False)
class EventBlock:
    """Events of a block of frames, frame by frame; those of one pixel and frame add up."""

    pixel: NDArray[np.int32]
    """(n,) number in the frame, (y x)."""
    count: NDArray[np.uint32]
    """(n,) photons, or `DEAD`."""
    stops: NDArray[np.int64]
    """(t,) end of the events of each frame."""


def to_frames(block: EventBlock, num_pixels: int, step: int = 1) -> NDArray[np.uint32]:
    """Every step-th frame of a block, (n, y x).

    Raises
    ------
    BadEventError
        A pixel is not in 0..num_pixels-1.
    """
    frames = np.zeros((-(-len(block.stops) // step), num_pixels), dtype=np.uint32)
    _check(_add_up(block.pixel, block.count, block.stops, step, frames))
    return frames


def find(block: EventBlock, position: NDArray[np.int32], is_dead: NDArray[np.bool_]) -> FrameEvents | None:
    """Events on the pixels with a position in 0..p-1 (-1: not wanted), as `gather.find_events` gives them for frames.

    None where large counts make several times as many events: then frames take less memory.

    Raises
    ------
    BadEventError
        A pixel is not in 0..len(position)-1.
    """
    stops = np.empty(len(block.stops), dtype=np.int64)
    room, most = len(block.pixel), len(block.pixel) * _MOST_PIECES + _SOME_PIECES
    while room <= most:
        pixel, count = np.empty(room, dtype=np.int32), np.empty(room, dtype=np.uint8)
        size = _find(block.pixel, block.count, block.stops, position, is_dead, pixel, count, stops)
        _check(-1 - size)
        if size <= room:
            return FrameEvents(pixel[:size].copy(), count[:size].copy(), stops)
        room = int(size)  # large counts make several events each: once more, with room for all
    return None


def join(blocks: Sequence[EventBlock]) -> EventBlock:
    """The events of several modules of a detector in the same frames."""
    sizes = [np.diff(block.stops, prepend=0) for block in blocks]
    stops = np.cumsum(np.sum(sizes, axis=0))
    pixel, count = np.empty(stops[-1], dtype=np.int32), np.empty(stops[-1], dtype=np.uint32)
    free = np.append(0, stops[:-1])
    for block in blocks:
        _place_frames(block.pixel, block.count, block.stops, free, pixel, count)
    return EventBlock(pixel, count, stops)


def unpack_rigaku(
    words: NDArray[np.uint64],
    frames: tuple[int, int],
    first_pixel: int = 0,
    corner: tuple[int, int] = (0, 0),
    width: int = _RIGAKU_COLUMNS,
) -> EventBlock:
    """Events of the frames [start, stop) of one module.

    Parameters
    ----------
    words : ndarray of uint64, (n,)
        Bits 0-11 count, 16-36 pixel, 40-63 frame, others 0; in order of frames.
    frames : tuple
        start and stop.
    first_pixel : int
        Number of the first pixel of the module.
    corner, width
        Row and column of the module's first pixel in the frame, and columns of the frame.

    Raises
    ------
    BadEventError
        An unused bit is set, a pixel lies outside of the module, or a frame is out of order or outside of `frames`.
    """
    start, stop = frames
    pixel, count = np.empty(len(words), dtype=np.int32), np.empty(len(words), dtype=np.uint32)
    stops = np.empty(stop - start, dtype=np.int64)
    _check(_unpack_rigaku(words, start, first_pixel, *corner, width, pixel, count, stops))
    return EventBlock(pixel, count, stops)


def unpack_imm(halves: NDArray[np.uint16], starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> EventBlock:
    """Events of some frames of an IMM file; 65534 and 65535 photons are those of a dead pixel.

    Parameters
    ----------
    halves : ndarray of uint16, (n,)
        The file, two bytes each: of each frame four bytes of pixel for each event, then two of count for each.
    starts, sizes : ndarray of int64, (t,)
        Where the events of each frame begin, in halves, and how many there are.
    """
    stops = np.cumsum(sizes)
    total = int(stops[-1]) if len(stops) else 0
    pixel, count = np.empty(total, dtype=np.int32), np.empty(total, dtype=np.uint32)
    _unpack_imm(halves, starts, sizes, pixel, count)
    return EventBlock(pixel, count, stops)


def count_frames(time: NDArray[np.int32], sizes: NDArray[np.int64]) -> None:
    """Add the number of events in each frame to sizes (t,).

    Raises
    ------
    BadEventError
        A time is not in 0..t-1.
    """
    _check(_count_frames(time, sizes))


def pick_frames(
    time: NDArray[np.int32],
    count: NDArray[np.uint32],
    first: int,
    pixel_pointer: NDArray[np.int64],
    start: int,
    free: NDArray[np.int64],
    out: tuple[NDArray[np.int32], NDArray[np.uint32]],
) -> None:
    """Put the events of some frames, out of events by pixel, where they belong: a step of a counting sort by frame.

    Parameters
    ----------
    time, count : ndarray, (n,)
        Events first, first + 1, ... of the whole.
    pixel_pointer : ndarray of int64, (p + 1,)
        The events of pixel i are pixel_pointer[i] : pixel_pointer[i + 1] of the whole.
    start, free
        The frames are start, start + 1, ...; free (t,) is the next place of each in `out`, and moves on.
    out : tuple
        Pixel and count of the events picked.
    """
    pixel = int(np.searchsorted(pixel_pointer, first, side="right")) - 1
    _pick_frames(time, count, first, pixel, pixel_pointer, start, free, *out)


def _check(bad: int) -> None:
    if bad >= 0:
        raise BadEventError(bad)


@numba.njit(nogil=True, cache=True)
def _add_up(pixel: Any, count: Any, stops: Any, step: int, frames: Any) -> int:
    """Sum events up in every step-th frame; gives the number of the first that is outside, or -1."""
    event = 0
    for number in range(stops.size):
        row, is_wanted = frames[number // step], number % step == 0
        while event < stops[number]:
            place = pixel[event]
            if not 0 <= place < row.size:
                return event
            if is_wanted:
                before, added = np.int64(row[place]), np.int64(count[event])
                is_dead = before == DEAD or added == DEAD
                row[place] = DEAD if is_dead else min(before + added, DEAD - 2)
            event += 1
    return -1


@numba.njit(nogil=True, cache=True)
def _find(
    pixel: Any, count: Any, stops: Any, position: Any, is_dead: Any, out_pixel: Any, out_count: Any, out_stops: Any
) -> Any:
    """Number of the events found, of which those are written that fit; -1 - i where event i is outside."""
    num, first = np.int64(0), np.int64(0)
    for frame in range(stops.size):
        is_lost = stops[frame] - first >= position.size and _is_lost(count[first : stops[frame]])
        for event in range(first, stops[frame]):
            if not 0 <= pixel[event] < position.size:
                return -1 - event
            place, left = position[pixel[event]], np.int64(count[event])
            if left <= LARGEST_COUNT:  # no branch on what is wanted, which the processor would guess wrong
                if num < out_pixel.size:
                    out_pixel[num], out_count[num] = place, left
                num += (place >= 0) & (left > 0)
            elif place >= 0 and left >= DEAD - 1:
                if not is_lost:
                    is_dead[place] = True
            elif place >= 0:
                pieces = (left + LARGEST_COUNT - 1) // LARGEST_COUNT
                if num + pieces <= out_pixel.size:
                    for piece in range(num, num + pieces):
                        out_pixel[piece], out_count[piece] = place, min(left, LARGEST_COUNT)
                        left -= LARGEST_COUNT
                num += pieces
        first = stops[frame]
        out_stops[frame] = num
    return num


@numba.njit(nogil=True, cache=True)
def _is_lost(count: Any) -> bool:
    """Whether no event of a frame is a count, as of a frame that the detector lost: no pixel's fault."""
    for value in count:  # noqa: SIM110  Numba compiles no generators
        if value < DEAD - 1:
            return False
    return True


@numba.njit(nogil=True, cache=True)
def _place_frames(pixel: Any, count: Any, stops: Any, free: Any, out_pixel: Any, out_count: Any) -> None:
    event = 0
    for frame in range(stops.size):
        place = free[frame]
        while event < stops[frame]:
            out_pixel[place], out_count[place] = pixel[event], count[event]
            event += 1
            place += 1
        free[frame] = place


@numba.njit(nogil=True, cache=True)
def _unpack_rigaku(
    words: Any, start: int, first_pixel: int, row: int, column: int, width: int, pixel: Any, count: Any, stops: Any
) -> int:
    """Gives the number of the first wrong event, or -1."""
    frame = 0
    for event in range(words.size):
        word = words[event]
        number = np.int64(word >> np.uint64(40)) - start
        place = np.int64((word >> np.uint64(16)) & np.uint64(0x1FFFFF)) - first_pixel
        if not frame <= number < stops.size or word & _RIGAKU_UNUSED:
            return event
        if not 0 <= place < _RIGAKU_ROWS * _RIGAKU_COLUMNS:
            return event
        while frame < number:
            stops[frame] = event
            frame += 1
        pixel[event] = (row + place // _RIGAKU_COLUMNS) * width + column + place % _RIGAKU_COLUMNS
        count[event] = word & np.uint64(0xFFF)
    stops[frame:] = words.size
    return -1


@numba.njit(nogil=True, cache=True)
def _unpack_imm(halves: Any, starts: Any, sizes: Any, pixel: Any, count: Any) -> None:
    event = 0
    for frame in range(starts.size):
        place, values = starts[frame], starts[frame] + 2 * sizes[frame]
        for number in range(sizes[frame]):
            low, high = np.uint32(halves[place + 2 * number]), np.uint32(halves[place + 2 * number + 1])
            pixel[event] = np.int32(low | high << np.uint32(16))
            value = halves[values + number]
            count[event] = DEAD if value >= 65534 else value
            event += 1


@numba.njit(nogil=True, cache=True)
def _count_frames(time: Any, sizes: Any) -> int:
    for event in range(time.size):
        if not 0 <= time[event] < sizes.size:
            return event
        sizes[time[event]] += 1
    return -1


@numba.njit(nogil=True, cache=True)
def _pick_frames(
    time: Any,
    count: Any,
    first: int,
    pixel: Any,
    pixel_pointer: Any,
    start: int,
    free: Any,
    out_pixel: Any,
    out_count: Any,
) -> None:
    for event in range(time.size):
        while pixel_pointer[pixel + 1] <= first + event:
            pixel += 1
        frame = time[event] - start
        if 0 <= frame < free.size and free[frame] < out_pixel.size:
            out_pixel[free[frame]], out_count[free[frame]] = pixel, count[event]
            free[frame] += 1
