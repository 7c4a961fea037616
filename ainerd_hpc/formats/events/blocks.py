"""Frames of detectors that store photons as events: what readers of such files share.

A reader gives the events of some frames (`EventFrames`), of groups of them where single frames are slow to read
(`GroupedEvents`), or events by pixel as its file has them (`EventsByPixel`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator
from threading import Lock
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.hdf5.reading import NEXT_STEP, reading

if TYPE_CHECKING:
    from ainerd_hpc.kernels.event_frames import EventBlock
    from ainerd_hpc.kernels.gather import FrameEvents

_KEPT = 2
"""Groups of frames in memory: the one that threads are leaving, and the one they enter."""
_MOST_EVENTS = 2**26
"""Most events of one frame."""


class EventFrames(ABC):
    """Frames made of events; any number of threads may read.

    A reader gives the events of some frames; here they become frames, or events of chosen pixels. Several events of
    one pixel and frame add up. Counts are uint32, so that no sum of them looks like the value of a dead pixel
    (2^32 - 1), which is that of pixels without a count.

    Parameters
    ----------
    where : str
        The file, for errors.
    shape : tuple
        Frames, rows, columns.
    """

    dtype: np.dtype[Any] = np.dtype(np.uint32)
    per_chunk = 1
    """Frames that are decoded together."""

    def __init__(self, where: str, shape: tuple[int, int, int]) -> None:
        self.where, self.shape = where, shape
        self._num_pixels = shape[1] * shape[2]

    @abstractmethod
    def events(self, start: int, stop: int) -> EventBlock:
        """The events of frames [start, stop), which the scan has; called from several threads at once.

        Raises
        ------
        ScanError
            They cannot be read.
        """

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        from ainerd_hpc.kernels.event_frames import BadEventError, to_frames

        block = self._events(start, stop)
        try:
            frames = to_frames(block, self._num_pixels, step)
        except BadEventError as error:
            self._refuse(block, error.index, start)
        return frames.reshape(-1, *self.shape[1:])

    def find(self, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray) -> FrameEvents | None:
        """None where counts are so large that frames take less memory."""
        from ainerd_hpc.kernels.event_frames import BadEventError, find

        block = self._events(start, stop)
        try:
            return find(block, position, is_dead)
        except BadEventError as error:
            self._refuse(block, error.index, start)

    def _events(self, start: int, stop: int) -> EventBlock:
        stop = max(start, min(stop, self.shape[0]))
        with reading(self._frames(start, stop)):
            return self.events(start, stop)

    def _frames(self, start: int, stop: int) -> str:
        return f"{self.where} frames {start}..{stop - 1}"

    def _refuse(self, block: EventBlock, index: int, start: int) -> NoReturn:
        frame = start + int(np.searchsorted(block.stops, index, side="right"))
        problem = f"expected pixels 0..{self._num_pixels - 1}, found {block.pixel[index]}"
        raise ScanError(f"{self.where} frame {frame}", problem, NEXT_STEP)


class GroupedEvents(EventFrames):
    """Frames whose events are read by groups of successive frames, of which the last two are kept.

    Parameters
    ----------
    where, shape
        As for `EventFrames`.
    pointer : ndarray of int64, (t + 1,)
        Where the events of each frame begin, in the order of frames.

    Raises
    ------
    ScanError
        A frame has more events than are believed.
    """

    most: int
    """Events of a group, but for a frame that has more."""

    def __init__(self, where: str, shape: tuple[int, int, int], pointer: np.ndarray) -> None:
        super().__init__(where, shape)
        sizes = np.diff(pointer)
        fullest = int(np.argmax(sizes))
        if sizes[fullest] > _MOST_EVENTS:
            problem = f"expected at most {_MOST_EVENTS} events in a frame, found {sizes[fullest]}"
            raise ScanError(f"{where} frame {fullest}", problem, NEXT_STEP)
        self._pointer, self._bounds = pointer, _cut(pointer, self.most)
        self._groups: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._lock = Lock()

    @abstractmethod
    def _load(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixel, int32, and count, uint32, of the events of frames [start, stop), frame by frame."""

    def events(self, start: int, stop: int) -> EventBlock:
        from ainerd_hpc.kernels.event_frames import EventBlock

        pixel, count = [np.empty(0, dtype=np.int32)], [np.empty(0, dtype=np.uint32)]
        for group in range(bisect_right(self._bounds, start) - 1, len(self._bounds) - 1):
            first, last = max(start, self._bounds[group]), min(stop, self._bounds[group + 1])
            if first >= last:
                break
            here = slice(*(self._pointer[[first, last]] - self._pointer[self._bounds[group]]))
            pixels, counts = self._group(group)
            pixel.append(pixels[here])
            count.append(counts[here])
        stops = self._pointer[start + 1 : stop + 1] - self._pointer[start]
        return EventBlock(np.concatenate(pixel), np.concatenate(count), stops)

    def _group(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        with self._lock:
            if number not in self._groups:
                while len(self._groups) >= _KEPT:
                    self._groups.pop(next(iter(self._groups)))
                self._groups[number] = self._load(self._bounds[number], self._bounds[number + 1])
            return self._groups[number]


def group_bytes(num_events: int, most: int) -> int:
    """Memory of the groups that are kept, of so many events at most."""
    return 8 * _KEPT * min(num_events, most)


class EventsAsStored(Protocol):
    """Events by pixel, in the order in which a file has them."""

    def spans(self) -> Iterator[tuple[int, int]]:
        """All events, in ranges [first, last) that are read together."""

    def read_index(self, first: int, last: int) -> np.ndarray:
        """Frame of events [first, last), int32; none of the scan where it does not fit into that."""

    def read_count(self, first: int, last: int) -> np.ndarray:
        """Photons of events [first, last), uint32, or `kernels.event_frames.DEAD`."""

    def refuse_time(self, event: int, num_frames: int) -> NoReturn:
        """Raise the ScanError of an event that is in none of the frames."""


class EventsByPixel(GroupedEvents):
    """Frames of events that are stored by pixel, which are put in the order of frames out of core.

    All times are read once, to count the events of each frame; then times and counts once more for each group.

    Parameters
    ----------
    where, shape
        As for `EventFrames`.
    pixel_pointer : ndarray of int64, (y x + 1,)
        Where the events of each pixel begin, as they are stored.
    stored : EventsAsStored

    Raises
    ------
    ScanError
        An event is in no frame of the scan, or a frame has more events than are believed.
    """

    most = 2**24

    def __init__(
        self, where: str, shape: tuple[int, int, int], pixel_pointer: np.ndarray, stored: EventsAsStored
    ) -> None:
        self._pixel_pointer, self._stored = pixel_pointer, stored
        super().__init__(where, shape, _count_frames(stored, shape[0]))

    def _load(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        from ainerd_hpc.kernels.event_frames import pick_frames

        free = self._pointer[start:stop] - self._pointer[start]
        size = int(self._pointer[stop] - self._pointer[start])
        out = np.empty(size, dtype=np.int32), np.empty(size, dtype=np.uint32)
        for first, last in self._stored.spans():
            time, count = self._stored.read_index(first, last), self._stored.read_count(first, last)
            pick_frames(time, count, first, self._pixel_pointer, start, free, out)
        return out


def _count_frames(stored: EventsAsStored, num_frames: int) -> np.ndarray:
    """(t + 1,) where the events of each frame begin, in the order of frames."""
    from ainerd_hpc.kernels.event_frames import BadEventError, count_frames

    sizes = np.zeros(num_frames, dtype=np.int64)
    for first, last in stored.spans():
        try:
            count_frames(stored.read_index(first, last), sizes)
        except BadEventError as error:
            stored.refuse_time(first + error.index, num_frames)
    return np.append(0, np.cumsum(sizes))


def _cut(pointer: np.ndarray, most: int) -> list[int]:
    """Bounds of groups of frames with at most so many events, or of single frames with more."""
    bounds = [0]
    while bounds[-1] < len(pointer) - 1:
        last = int(np.searchsorted(pointer, pointer[bounds[-1]] + most, side="right")) - 1
        bounds.append(max(last, bounds[-1] + 1))
    return bounds
