"""The two forms of the counts of p pixels in t frames: a dense array, or a list of events by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.kernels.no_counts import NO_COUNT

Dense = NDArray[Any]
"""(t, p) array of photons, or of any non-negative intensity."""

LARGEST_INT8 = 127
"""Count up to which dense products are made of int8."""
LARGEST_COUNT = 255
"""Largest count of one event: more photons of a pixel in a frame make several events."""


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Photons by pixel, in order of time (compressed sparse columns).

    Events of one pixel in one frame add up, wherever they come from: detectors write them so, and counts above
    `LARGEST_COUNT` are stored so.
    """

    pointer: NDArray[np.int64]
    """(p + 1,): the events of pixel i are pointer[i] : pointer[i + 1]."""
    time: NDArray[np.int32]
    """(n,) frame, ascending for each pixel."""
    count: NDArray[np.uint8]
    """(n,) photons, at least 1."""
    num_frames: int

    @property
    def shape(self) -> tuple[int, int]:
        """(t, p), as of a dense array."""
        return self.num_frames, len(self.pointer) - 1


Counts = Dense | Events


def largest_count(dtype: np.dtype[Any]) -> int:
    """The largest count that a type of dense counts holds."""
    return int(np.iinfo(dtype).max) if dtype.kind in "ui" else NO_COUNT - 1


def pixels(counts: Counts, start: int, stop: int) -> Counts:
    """Pixels [start, stop), without a copy of their counts."""
    if not isinstance(counts, Events):
        return counts[:, start:stop]
    pointer = counts.pointer[start : stop + 1]
    inside = slice(pointer[0], pointer[-1])
    return Events(pointer - pointer[0], counts.time[inside], counts.count[inside], counts.num_frames)


def select(counts: Counts, chosen: NDArray[np.integer[Any]]) -> Counts:
    """The pixels of these numbers, in this order."""
    if not isinstance(counts, Events):
        return np.ascontiguousarray(counts[:, chosen])
    sizes = np.diff(counts.pointer)[chosen]
    pointer = np.append(0, np.cumsum(sizes))
    time, count = np.empty(pointer[-1], np.int32), np.empty(pointer[-1], np.uint8)
    _copy_pixels(counts.pointer, counts.time, counts.count, np.asarray(chosen, np.int64), time, count)
    return Events(pointer, time, count, counts.num_frames)


def to_dense(events: Events, dtype: Any = np.int64) -> Dense:
    """The (t, p) array of events; the caller knows that the counts fit into dtype."""
    dense: Dense = np.zeros(events.shape, dtype=dtype)
    _scatter(events.pointer, events.time, events.count, dense)
    return dense


def to_events(dense: Dense) -> Events:
    """The events of a (t, p) array of counts, none of them negative."""
    pixel, time = np.nonzero(dense.T)
    count = dense.T[pixel, time].astype(np.int64)
    repeats = -(-count // LARGEST_COUNT)
    last = np.cumsum(repeats) - 1
    pieces = np.full(int(repeats.sum()), LARGEST_COUNT, dtype=np.uint8)
    pieces[last] = count - (repeats - 1) * LARGEST_COUNT
    pointer = np.searchsorted(np.repeat(pixel, repeats), np.arange(dense.shape[1] + 1))
    return Events(pointer, np.repeat(time, repeats).astype(np.int32), pieces, len(dense))


@numba.njit(nogil=True, cache=True)
def _scatter(pointer: Any, time: Any, count: Any, dense: Any) -> None:
    for pixel in range(pointer.size - 1):
        for event in range(pointer[pixel], pointer[pixel + 1]):
            dense[time[event], pixel] += count[event]


@numba.njit(nogil=True, cache=True)
def _copy_pixels(pointer: Any, time: Any, count: Any, chosen: Any, new_time: Any, new_count: Any) -> None:
    position = 0
    for pixel in chosen:
        for event in range(pointer[pixel], pointer[pixel + 1]):
            new_time[position], new_count[position] = time[event], count[event]
            position += 1
