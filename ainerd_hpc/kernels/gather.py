"""Counts of chosen pixels out of frames, dense or as events by pixel.

Both ways look at several pixels at once, and at single ones only where that is not enough.

Dense (`take`): pixels are copied without a look at their values, while the words that hold them, 8 bytes with up to
eight pixels, are joined by OR. No value is larger than the OR of all. If that is below the dead value and fits into
the result, nothing is wrong; only else the frames are copied again with a look at every value.

Events (`find_events`): a word that is 0 has no photon, and most words are. The others write every pixel to the next
free place, and move on from it only if it was an event that is wanted: no branch to be guessed wrong.

By pixel (`by_pixel`): events come frame by frame, and are wanted pixel by pixel, in the order of time. A counting sort
needs no comparison:

        frame 0: c a    frame 1: a    frame 2: c b      ->    a: 0 1    b: 2    c: 0 2

First the events of each pixel are counted (2, 1, 2), whose cumulative sums (0, 2, 3) are where the events of each pixel
begin. Then every event goes to the next free place of its pixel. Threads have successive runs of frames, and
each its own part of the room of every pixel, so that the order does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.kernels.counts import LARGEST_COUNT, Counts, Dense, Events, largest_count
from ainerd_hpc.kernels.no_counts import NO_COUNT, first_dead

_TOO_LARGE = 2**32
"""Count that no events are made of."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameEvents:
    """Events of a block of frames, frame by frame."""

    pixel: NDArray[np.int32]
    """(n,)"""
    count: NDArray[np.uint8]
    """(n,)"""
    stops: NDArray[np.int64]
    """(t,) end of the events of each frame."""


def sentinel(dtype: np.dtype[Any]) -> int:
    """The value that detectors give dead pixels: the largest of the type (255, 65535, 2^32 - 1), but no more than
    `NO_COUNT`; -1 for floats. From it on, nothing is a count."""
    return min(int(np.iinfo(dtype).max), NO_COUNT) if dtype.kind in "ui" else -1


def dead_value(dtype: np.dtype[Any]) -> float:
    """The value that we give counts that are none: NaN for floats, else the `sentinel` of the type."""
    return np.nan if dtype.kind == "f" else sentinel(dtype)


def dead_values(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which values are no counts: those of dead pixels, negative, infinite or NaN; an array of the same shape."""
    return np.asarray(~((values >= 0) & (values < first_dead(values.dtype))))


def take(
    frames: Dense, order: NDArray[np.int32], bounds: NDArray[np.int64], is_dead: NDArray[np.bool_], out: Sequence[Dense]
) -> bool:
    """Copy pixels of frames (t, y x), order[bounds[i] : bounds[i + 1]] to out[i] (t, p_i).

    Pixels with a sentinel, a negative, infinite or NaN value in any frame are marked in is_dead (as order), and 0
    there; but not for a frame of such values alone, which was lost: it is 0.

    Returns
    -------
    bool
        Whether all counts fit into the type of out; False leaves out undefined.
    """
    rows = np.empty((len(frames), len(order)), dtype=out[0].dtype)
    if not _take(np.ascontiguousarray(frames), order, is_dead, rows):
        return False
    for target, start, stop in zip(out, bounds[:-1], bounds[1:], strict=True):
        target[...] = rows[:, start:stop]
    return True


def _take(frames: Dense, order: NDArray[np.int32], is_dead: NDArray[np.bool_], rows: Dense) -> bool:
    if frames.dtype.kind == "f":
        return bool(_copy_checked(frames, order, np.inf, np.inf, is_dead, rows))
    dead, largest = first_dead(frames.dtype), largest_count(rows.dtype)
    if _all_bits(frames, order, rows) <= min(largest, dead - 1):
        return True
    return bool(_copy_checked(frames, order, dead, largest, is_dead, rows))


def _all_bits(frames: Dense, order: NDArray[np.int32], rows: Dense) -> int:
    """Copy without a look at single values; gives the bits of all together, of which a negative one has the highest."""
    per_word = 8 // frames.itemsize
    scratch = np.zeros(-(-len(order) // per_word) * per_word, dtype=frames.dtype)
    bits = np.array([_copy(frames, order, scratch, scratch.view(np.uint64), rows)], dtype=np.uint64)
    return int(np.bitwise_or.reduce(bits.view(f"u{frames.itemsize}")))


def survey(frames: Dense, order: NDArray[np.int32], is_dead: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Counts (t,) of frames (t, y x) on the pixels `order`; marks the dead ones among them as `take` does."""
    total = np.zeros(len(frames))
    _survey(np.ascontiguousarray(frames), order, first_dead(frames.dtype), is_dead, total)
    return total


def find_events(
    frames: Dense,
    position: NDArray[np.int32],
    is_dead: NDArray[np.bool_],
    reserve: Callable[[int], None] = lambda num_events: None,
) -> FrameEvents:
    """Events of frames (t, y x) of integers, on the pixels with a position in 0..p-1 (-1: not wanted).

    Pixels with a sentinel or a negative value in any frame are marked in is_dead (p,); these values make no events.
    `reserve` is told the number of events before there is memory for them; large counts make many each.

    Raises
    ------
    OverflowError
        A count is 2^32 or more; or what `reserve` raises.
    """
    per_word, area = 8 // frames.itemsize, frames.shape[1]
    if frames.shape[1] % per_word:
        frames = np.pad(frames, ((0, 0), (0, per_word - frames.shape[1] % per_word)))
        position = np.pad(position, (0, frames.shape[1] - len(position)), constant_values=-1)
    frames = np.ascontiguousarray(frames)
    words, dead, lanes = frames.view(np.uint64), int(first_dead(frames.dtype)), tuple(range(per_word))
    stops = np.empty(len(frames), dtype=np.int64)
    # What is not written takes no memory: room for one event a pixel, and for the one that is written ahead.
    pixel, count = np.empty(frames.size + 1, dtype=np.int32), np.empty(frames.size + 1, dtype=np.uint8)
    size = _find_small(words, frames, lanes, position, min(LARGEST_COUNT, dead), pixel, count, stops)
    if size >= 0:
        reserve(size)
    else:
        size = _count_events(words, frames, position, dead)
        if size < 0:
            raise OverflowError
        reserve(size)
        pixel, count = np.empty(size, dtype=np.int32), np.empty(size, dtype=np.uint8)
        _find_any(words, frames, area, position, dead, is_dead, pixel, count, stops)
    return FrameEvents(pixel[:size].copy(), count[:size].copy(), stops)


def by_pixel(blocks: Sequence[FrameEvents], num_pixels: int, threads: int = 1) -> Events:
    """Put the events of successive blocks of frames in the order of pixels, then time (a counting sort).

    Each thread has a run of blocks, and of every pixel the room for its events of these; where there are few events a
    pixel, that would take more memory than the events themselves.
    """
    threads = int(np.clip(sum(len(block.pixel) for block in blocks) // (4 * max(1, num_pixels)), 1, threads))
    edges = np.linspace(0, len(blocks), threads + 1).astype(int)
    firsts = np.cumsum([0, *(len(block.stops) for block in blocks)])
    sizes = np.zeros((threads, num_pixels), dtype=np.int64)

    def count_events(thread: int) -> None:
        for block in blocks[edges[thread] : edges[thread + 1]]:
            _count_by_pixel(block.pixel, sizes[thread])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(count_events, range(threads)))
        pointer = np.append(0, np.cumsum(sizes.sum(axis=0)))
        time, count = np.empty(pointer[-1], dtype=np.int32), np.empty(pointer[-1], dtype=np.uint8)
        free = pointer[:-1] + np.cumsum(sizes, axis=0) - sizes

        def place(thread: int) -> None:
            for number in range(edges[thread], edges[thread + 1]):
                block = blocks[number]
                _place(block.pixel, block.count, block.stops, firsts[number], free[thread], time, count)

        list(pool.map(place, range(threads)))
    return Events(pointer, time, count, int(firsts[-1]))


@numba.njit(nogil=True, cache=True)
def _is_dead(value: Any, dead: Any) -> Any:
    """Whether a value is no count: negative, NaN, or not below the first that is none."""
    return not 0 <= value < dead


@numba.njit(nogil=True, cache=True)
def _copy(frames: Any, order: Any, scratch: Any, words: Any, rows: Any) -> Any:
    """Copy by way of scratch, whose words are or-ed: several values at a time."""
    bits = np.uint64(0)
    for number in range(frames.shape[0]):
        frame, row = frames[number], rows[number]
        for pixel in range(order.size):
            scratch[pixel] = frame[order[pixel]]
        for word in range(words.size):
            bits |= words[word]
        for pixel in range(order.size):
            row[pixel] = scratch[pixel]
    return bits


@numba.njit(nogil=True, cache=True)
def _copy_checked(frames: Any, order: Any, dead: Any, largest: Any, is_dead: Any, rows: Any) -> bool:
    for number in range(frames.shape[0]):
        is_lost = _is_lost(frames[number], dead)
        for pixel in range(order.size):
            value = frames[number, order[pixel]]
            if _is_dead(value, dead):
                if not is_lost:
                    is_dead[pixel] = True
                rows[number, pixel] = 0
            elif value > largest:
                return False
            else:
                rows[number, pixel] = value
    return True


@numba.njit(nogil=True, cache=True)
def _is_lost(frame: Any, dead: Any) -> bool:
    """Whether all pixels have dead values, as detectors give for a frame that they lost: no pixel's fault."""
    for value in frame:  # noqa: SIM110  Numba compiles no generators
        if not _is_dead(value, dead):
            return False
    return True


@numba.njit(nogil=True, cache=True)
def _survey(frames: Any, order: Any, dead: Any, is_dead: Any, total: Any) -> None:
    for number in range(frames.shape[0]):
        is_lost = _is_lost(frames[number], dead)
        for pixel in range(order.size):
            value = frames[number, order[pixel]]
            if _is_dead(value, dead):
                if not is_lost:
                    is_dead[pixel] = True
            else:
                total[number] += value


@numba.njit(nogil=True, cache=True)
def _find_small(
    words: Any, frames: Any, lanes: Any, position: Any, limit: int, event_pixel: Any, event_count: Any, stops: Any
) -> int:
    """Events of frames whose values are all below a limit, their number; -1 where one is not, or may be.

    Most words hold no photon; within the others there is no branch, which the processor would guess wrong. `lanes`
    numbers the pixels of a word; a tuple, so that the loop over it is unrolled.
    """
    num, bits = 0, np.uint64(0)
    for frame in range(frames.shape[0]):
        row, row_words = frames[frame], words[frame]
        for word in range(row_words.size):
            if row_words[word] != 0:
                for lane in range(len(lanes)):
                    pixel = np.uint64(word * len(lanes) + lane)
                    value, place = row[pixel], position[pixel]
                    is_wanted = place >= 0
                    bits |= np.uint64(value) * np.uint64(is_wanted)
                    event_pixel[num] = place
                    event_count[num] = value
                    num += (value != 0) & is_wanted
        if bits >= limit:
            return -1
        stops[frame] = num
    return num


@numba.njit(nogil=True, cache=True)
def _count_events(words: Any, frames: Any, position: Any, dead: Any) -> Any:
    """The number of events; -1 where a count is too large for any."""
    num, per_word = np.int64(0), frames.shape[1] // words.shape[1]
    for frame in range(frames.shape[0]):
        for word in range(words.shape[1]):
            if words[frame, word] != 0:
                for pixel in range(word * per_word, (word + 1) * per_word):
                    value = frames[frame, pixel]
                    if position[pixel] >= 0 and not _is_dead(value, dead):
                        if value >= _TOO_LARGE:
                            return -1
                        num += (np.int64(value) + LARGEST_COUNT - 1) // LARGEST_COUNT
    return num


@numba.njit(nogil=True, cache=True)
def _find_any(
    words: Any,
    frames: Any,
    area: int,
    position: Any,
    dead: Any,
    is_dead: Any,
    event_pixel: Any,
    event_count: Any,
    stops: Any,
) -> None:
    """Events of frames with any values: large ones are cut in pieces, dead pixels are marked."""
    num, per_word = np.int64(0), frames.shape[1] // words.shape[1]
    for frame in range(frames.shape[0]):
        is_lost = _is_lost(frames[frame, :area], dead)
        for word in range(words.shape[1]):
            if words[frame, word] != 0:
                for pixel in range(word * per_word, (word + 1) * per_word):
                    value, place = frames[frame, pixel], position[pixel]
                    if place >= 0 and _is_dead(value, dead):
                        if not is_lost:
                            is_dead[place] = True
                    elif place >= 0:
                        left = np.int64(value)
                        while left > 0:
                            event_pixel[num] = place
                            event_count[num] = min(left, LARGEST_COUNT)
                            left -= LARGEST_COUNT
                            num += 1
        stops[frame] = num


@numba.njit(nogil=True, cache=True)
def _count_by_pixel(pixel: Any, num: Any) -> None:
    for event in range(pixel.size):
        num[pixel[event]] += 1


@numba.njit(nogil=True, cache=True)
def _place(pixel: Any, count: Any, stops: Any, first: int, free: Any, time: Any, sorted_count: Any) -> None:
    event = 0
    for frame in range(stops.size):
        while event < stops[frame]:
            place = free[pixel[event]]
            time[place], sorted_count[place] = first + frame, count[event]
            free[pixel[event]] = place + 1
            event += 1


def pixel_sums(counts: Counts, valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Counts of each pixel in the valid frames, (p,): int64, float64 for float counts."""
    total = np.zeros(counts.shape[1], dtype=np.int64)
    if isinstance(counts, Events):
        _event_pixel_sums(counts.pointer, counts.time, counts.count, valid, total)
    elif counts.dtype == np.int8 and counts.flags.c_contiguous and counts.flags.writeable:
        _int8_pixel_sums(counts, valid, total)
    else:
        dtype = np.float64 if counts.dtype.kind == "f" else np.int64
        return np.asarray(counts.sum(axis=0, dtype=dtype, where=valid[:, np.newaxis]))
    return total


@numba.njit(nogil=True, cache=True)
def _event_pixel_sums(pointer: Any, time: Any, count: Any, valid: Any, total: Any) -> None:
    for pixel in range(total.size):
        for event in range(pointer[pixel], pointer[pixel + 1]):
            if valid[time[event]]:
                total[pixel] += count[event]


@numba.njit(nogil=True, cache=True)
def _int8_pixel_sums(counts: Any, valid: Any, total: Any) -> None:
    for frame in range(counts.shape[0]):
        if valid[frame]:
            row = counts[frame]
            for pixel in range(total.size):
                total[pixel] += row[pixel]
