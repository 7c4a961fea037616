"""The counts of chosen pixels out of frames, block by block, on several threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from ainerd_hpc.correlation.layout import Layout
from ainerd_hpc.correlation.memory import BLOCK_BYTES
from ainerd_hpc.correlation.selection import Selection
from ainerd_hpc.kernels.choice import DENSE
from ainerd_hpc.kernels.counts import Counts, Dense, Events, pixels
from ainerd_hpc.kernels.gather import FrameEvents, by_pixel, dead_values, find_events, sentinel, survey, take


class Frames(Protocol):
    """Frames that can be read block by block, on any thread."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    per_chunk: int
    """Frames that are decoded together."""

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Frames start, start + step, ... below stop, (n, y, x)."""


@runtime_checkable
class EventFrames(Frames, Protocol):
    """Frames whose events can be had without the frames."""

    def find(self, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray) -> FrameEvents | None:
        """As `kernels.gather.find_events` of frames [start, stop); None where they have to be read as frames."""


class Survey(NamedTuple):
    """What is to be known of a scan as a whole before some of its q-bins are correlated."""

    is_dead: np.ndarray
    """(p,) of the layout of the whole scan."""
    photons: np.ndarray
    """(t,) counts of each frame on all living pixels."""


class Gathering:
    """Takes the pixels of a layout out of frames, block by block, on several threads."""

    def __init__(
        self,
        frames: Frames,
        layout: Layout,
        selection: Selection,
        threads: int,
        note: Callable[[int], None] = lambda frames: None,
    ) -> None:
        self.frames, self.layout, self.selection, self.threads, self.note = frames, layout, selection, threads, note
        self._area = int(np.prod(frames.shape[1:]))
        frame_bytes = selection.average * self._area * frames.dtype.itemsize
        chunks = int(np.clip(BLOCK_BYTES // max(1, frame_bytes * frames.per_chunk), 1, 64))
        self.per_block = -(-chunks * frames.per_chunk // selection.span)
        self.is_dead = np.zeros(len(layout.order), dtype=bool)

    def run(self, forms: Sequence[str], is_small: bool) -> tuple[list[Counts], np.ndarray]:
        """Counts of each q-bin in the form given for it, and which pixels are dead (p,)."""
        if self.frames.dtype.kind == "f":
            forms, is_small = [DENSE] * len(forms), False
        counts = self._gather(forms, np.dtype(np.int8)) if is_small else None
        if counts is None:  # counts above 127, known or seen only now
            counts = self._gather(forms, self._wide())
        assert counts is not None
        return counts, self.is_dead

    def _wide(self) -> np.dtype[Any]:
        if self.selection.average == 1:
            return self.frames.dtype
        return _sum_type(self.frames.dtype)

    def block(self, start: int, stop: int) -> Dense:
        """Frames [start, stop) of the selection, (n, y x)."""
        first, last = self.selection.raw(start, stop)
        block = self.frames.read(first, last, self.selection.stride).reshape(-1, self._area)
        if self.selection.average > 1:
            block = _added_up(block.reshape(stop - start, self.selection.average, -1))
        bad = [number - start for number in self.selection.bad if start <= number < stop]
        if bad:  # whatever they hold, they are left out, and kill no pixel
            block = block.copy()
            block[bad] = 0
        return block

    def events(self, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray) -> FrameEvents:
        """Events of frames [start, stop) of the selection on the pixels with a position."""
        chosen = self.selection
        is_plain = chosen.span == 1 and not any(start <= number < stop for number in chosen.bad)
        if is_plain and isinstance(self.frames, EventFrames):
            found = self.frames.find(*chosen.raw(start, stop), position, is_dead)
            if found is not None:
                return found
        return find_events(self.block(start, stop), position, is_dead)

    def blocks(self, work: Callable[[int, int], Any]) -> list[Any]:
        """What `work` makes of each block of frames [start, stop), in the order of the frames."""

        def one(start: int) -> Any:
            stop = min(start + self.per_block, self.selection.num_frames)
            result = work(start, stop)
            self.note(stop - start)
            return result

        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(one, range(0, self.selection.num_frames, self.per_block)))

    def survey(self) -> Survey:
        """A look at all frames without keeping them."""
        order = self.layout.order
        sums = self._photons(order, self.is_dead)
        if self.is_dead.any():  # what they counted while they lived
            sums -= self._photons(order[self.is_dead], np.zeros(int(self.is_dead.sum()), dtype=bool))
        return Survey(self.is_dead, sums)

    def _photons(self, order: np.ndarray, is_dead: np.ndarray) -> np.ndarray:
        return np.concatenate(self.blocks(lambda *frames: survey(self.block(*frames), order, is_dead)))

    def _gather(self, forms: Sequence[str], dtype: np.dtype[Any]) -> list[Counts] | None:
        """Counts of each q-bin; None where one does not fit into dtype."""
        num_frames, sizes = self.selection.num_frames, np.diff(self.layout.bounds)
        is_dense = np.array([form == DENSE for form in forms])
        dense = [np.empty((num_frames, size), dtype=dtype) for size in sizes[is_dense]]
        in_dense = np.repeat(is_dense, sizes)
        bounds = np.append(0, np.cumsum(sizes[is_dense]))
        order = self.layout.order[in_dense]
        dead_dense, dead_sparse = np.zeros(len(order), bool), np.zeros(int((~in_dense).sum()), bool)
        position = np.full(self._area, -1, dtype=np.int32)
        position[self.layout.order[~in_dense]] = np.arange(len(dead_sparse))

        def take_or_find(start: int, stop: int) -> FrameEvents | None:
            if not dense:
                return self.events(start, stop, position, dead_sparse)
            block = self.block(start, stop)
            if not take(block, order, bounds, dead_dense, [one[start:stop] for one in dense]):
                raise OverflowError
            return None if is_dense.all() else find_events(block, position, dead_sparse)

        try:
            found = self.blocks(take_or_find)
        except OverflowError:
            return None
        self.is_dead[in_dense], self.is_dead[~in_dense] = dead_dense, dead_sparse
        blocks = [block for block in found if block]
        events = None if is_dense.all() else by_pixel(blocks, len(dead_sparse), self.threads)
        return self._in_order(dense, events, is_dense, sizes)

    def _in_order(
        self, dense: list[Dense], events: Events | None, is_dense: np.ndarray, sizes: np.ndarray
    ) -> list[Counts]:
        stops = np.cumsum(np.where(is_dense, 0, sizes))
        left = iter(dense)
        return [
            next(left) if is_dense[q_bin] else pixels(events, int(stop - sizes[q_bin]), int(stop))  # type: ignore[arg-type]
            for q_bin, stop in enumerate(stops)
        ]


def _sum_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Of averaged frames: room for their sums."""
    return np.dtype(np.float64 if dtype.kind == "f" else np.uint32 if dtype.itemsize < 4 else np.int64)


def _added_up(frames: np.ndarray) -> np.ndarray:
    """Sums (n, y x) over the middle axis; dead in one frame is dead in the sum."""
    dtype = _sum_type(frames.dtype)
    dead = np.nan if dtype.kind == "f" else sentinel(dtype)
    return np.where(dead_values(frames).any(axis=1), dead, frames.sum(axis=1, dtype=dtype))
