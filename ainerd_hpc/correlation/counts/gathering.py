"""The counts of chosen pixels out of frames, block by block, on several threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np

from ainerd_hpc.correlation.corrections import Corrections
from ainerd_hpc.correlation.counts.layout import Layout
from ainerd_hpc.correlation.memory import BLOCK_BYTES
from ainerd_hpc.correlation.selection import Selection
from ainerd_hpc.formats.reader import Frames, SearchableFrames
from ainerd_hpc.kernels.choice import DENSE
from ainerd_hpc.kernels.counts import Counts, Dense, Events, pixels
from ainerd_hpc.kernels.gather import FrameEvents, by_pixel, dead_values, find_events, sentinel, survey, take


class Gathering:
    """Takes the pixels of a layout out of frames, block by block, on several threads."""

    def __init__(
        self,
        frames: Frames,
        layout: Layout,
        selection: Selection,
        threads: int,
        note: Callable[[int], None] = lambda frames: None,
        corrections: Corrections | None = None,
    ) -> None:
        self.frames, self.layout, self.selection, self.threads, self.note = frames, layout, selection, threads, note
        self.corrections = corrections
        self._area = int(np.prod(frames.shape[1:]))
        frame_bytes = selection.average * self._area * frames.dtype.itemsize
        chunks = int(np.clip(BLOCK_BYTES // max(1, frame_bytes * frames.per_chunk), 1, 64))
        self.per_block = -(-chunks * frames.per_chunk // selection.span)
        self.is_dead = np.zeros(len(layout.order), dtype=bool)

    def run(self, forms: Sequence[str], is_small: bool) -> tuple[list[Counts], np.ndarray]:
        """Counts of each q-bin in the form given for it, and which pixels are dead (p,); dense, where corrected."""
        if self.corrections is not None:
            return self._gather_corrected(), self.is_dead
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
        groups = self._groups(start, stop)
        return groups[:, 0] if self.selection.average == 1 else _added_up(groups)

    def _groups(self, start: int, stop: int) -> np.ndarray:
        """The frames of the file that make frames [start, stop) of the selection, (n, average, y x)."""
        first, last = self.selection.raw(start, stop)
        frames = self.frames.read(first, last, self.selection.stride)
        groups = frames.reshape(stop - start, self.selection.average, self._area)
        bad = self.selection.bad_within(start, stop)
        if bad:  # whatever they hold, they are left out, and kill no pixel
            groups = groups.copy()
            groups[list(bad)] = 0
        return groups

    def measured(self, start: int, stop: int, order: np.ndarray, is_dead: np.ndarray) -> np.ndarray:
        """Counts (n, average, p) of the pixels `order` in the frames that make frames [start, stop) of the selection.

        Dead pixels are marked as by `kernels.gather.take`. Frames of which one was lost are 0, as their sum is.
        """
        groups = self._groups(start, stop)
        frames = groups.reshape(-1, self._area)
        counts = np.empty((len(frames), len(order)), dtype=frames.dtype)
        take(frames, order, np.array([0, len(order)]), is_dead, [counts])
        empty = np.flatnonzero(~counts.any(axis=1))
        lost = [number for number in empty if dead_values(frames[number]).all()]
        counts = counts.reshape(*groups.shape[:2], len(order))
        counts[np.array(lost, dtype=int) // self.selection.average] = 0
        return counts

    def events(self, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray) -> FrameEvents:
        """Events of frames [start, stop) of the selection on the pixels with a position."""
        chosen = self.selection
        is_plain = chosen.span == 1 and not chosen.bad_within(start, stop)
        if is_plain and isinstance(self.frames, SearchableFrames):
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

    def photons(self, order: np.ndarray, is_dead: np.ndarray) -> np.ndarray:
        """(2, t) counts of each frame on the pixels `order`, as measured and as corrected; marks the dead ones.

        Dead values count as 0.
        """
        if self.corrections is None:
            measured = np.concatenate(self.blocks(lambda *frames: survey(self.block(*frames), order, is_dead)))
            return np.stack([measured, measured])
        here = self.corrections.at(order)

        def totals(start: int, stop: int) -> np.ndarray:
            counts = self.measured(start, stop, order, is_dead)
            return np.stack([one.sum(axis=(1, 2), dtype=np.float64) for one in (counts, here.apply(counts))])

        return np.concatenate(self.blocks(totals), axis=1)

    def sums(self, order: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """(p,) corrected counts of each of the pixels `order` in the valid frames, (t,)."""
        here = self.corrections.at(order) if self.corrections is not None else None
        total = np.zeros(len(order))

        def add_up(start: int) -> np.ndarray:
            stop = min(start + self.per_block, self.selection.num_frames)
            counts = self.measured(start, stop, order, np.zeros(len(order), dtype=bool))[valid[start:stop]]
            return np.asarray((here.apply(counts) if here else counts).sum(axis=(0, 1), dtype=np.float64))

        for one in self._in_turn(add_up):
            total += one
        return total

    def _in_turn(self, work: Callable[[int], np.ndarray]) -> Iterator[np.ndarray]:
        """What `work` makes of each block of frames, in their order; never many of them in memory."""
        starts = iter(range(0, self.selection.num_frames, self.per_block))
        with ThreadPoolExecutor(self.threads) as pool:
            waiting = deque(pool.submit(work, start) for start in islice(starts, self.threads + 1))
            while waiting:
                yield waiting.popleft().result()
                waiting += [pool.submit(work, start) for start in islice(starts, 1)]

    def _gather_corrected(self) -> list[Counts]:
        """Corrected counts of each q-bin, float64."""
        assert self.corrections is not None
        order, bounds, here = self.layout.order, self.layout.bounds, self.corrections.at(self.layout.order)
        dense = [np.empty((self.selection.num_frames, size)) for size in np.diff(bounds)]

        def fill(start: int, stop: int) -> None:
            corrected = here.apply(self.measured(start, stop, order, self.is_dead)).sum(axis=1)
            for one, first, last in zip(dense, bounds[:-1], bounds[1:], strict=True):
                one[start:stop] = corrected[:, first:last]

        self.blocks(fill)
        return list(dense)

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
    """The type of averaged frames: it has room for their sums."""
    return np.dtype(np.float64 if dtype.kind == "f" else np.uint32 if dtype.itemsize < 4 else np.int64)


def _added_up(frames: np.ndarray) -> np.ndarray:
    """Sums (n, y x) over the middle axis; dead in one frame is dead in the sum."""
    dtype = _sum_type(frames.dtype)
    dead = np.nan if dtype.kind == "f" else sentinel(dtype)
    return np.where(dead_values(frames).any(axis=1), dead, frames.sum(axis=1, dtype=dtype))
