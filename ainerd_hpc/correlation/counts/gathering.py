"""The counts of chosen pixels out of frames, block by block, on several threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice, pairwise
from threading import Lock
from typing import Any, Protocol

import numpy as np

from ainerd_hpc.correlation.corrections import Corrections
from ainerd_hpc.correlation.counts.layout import Layout
from ainerd_hpc.correlation.memory import BLOCK_BYTES
from ainerd_hpc.correlation.selection import Selection
from ainerd_hpc.formats.reader import Frames, SearchableFrames
from ainerd_hpc.kernels.choice import DENSE
from ainerd_hpc.kernels.counts import Counts, Dense, largest_count, pixels
from ainerd_hpc.kernels.gather import FrameEvents, by_pixel, dead_value, dead_values, find_events, survey, take


class Room(Protocol):
    """The memory that there is for counts."""

    def __call__(self, forms: Sequence[str], types: Sequence[np.dtype[Any]], num_events: int = 0) -> int:
        """Events that there is room for beside the dense counts, by form and type of each q-bin.

        Raises
        ------
        ScanError
            There is none for the dense counts and so many events.
        """


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

    def run(self, forms: Sequence[str], largest: np.ndarray, room: Room) -> tuple[list[Counts], np.ndarray]:
        """Counts of each q-bin in the form given for it, and which pixels are dead (p,); dense, where corrected.

        Dense counts have the smallest type that holds those of their q-bin, of which `largest` (q_bin,) tells the
        largest as far as it is known: where one is larger than that, the q-bin is read once more. Where large counts
        make more events than there is room for, their q-bins are dense.
        """
        if self.corrections is not None:
            return self._gather_corrected(), self.is_dead
        types = self._types()
        forms = [DENSE] * len(forms) if types[0].kind == "f" else list(forms)
        holds = np.array([largest_count(one) for one in types[:-1]])
        level = np.searchsorted(holds, largest)
        counts: list[Counts | None] = [None] * len(forms)
        while missing := [q_bin for q_bin, one in enumerate(counts) if one is None]:
            chosen = [types[number] for number in level]
            found = self.gather(missing, forms, chosen, room(forms, chosen))
            for q_bin, one in zip(missing, found, strict=True):
                counts[q_bin] = one
                level[q_bin] += one is None and forms[q_bin] == DENSE
            forms = [DENSE if one is None else form for one, form in zip(counts, forms, strict=True)]
        return [one for one in counts if one is not None], self.is_dead

    def _types(self) -> list[np.dtype[Any]]:
        """The types of dense counts, from the smallest; beyond 2^32 they are float64, whose sums have no end."""
        own = self.frames.dtype if self.selection.average == 1 else _sum_type(self.frames.dtype)
        if own.kind == "f":
            return [own]
        wide = [own] if own.itemsize <= 4 else [np.dtype(np.uint32), np.dtype(np.float64)]
        return [np.dtype(np.int8), *wide]

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

    def events(
        self,
        start: int,
        stop: int,
        position: np.ndarray,
        is_dead: np.ndarray,
        reserve: Callable[[int], None],
    ) -> FrameEvents:
        """Events of frames [start, stop) of the selection on the pixels with a position.

        Raises
        ------
        OverflowError
            There is no room for them, as `reserve` tells, or a count is too large for events.
        """
        chosen = self.selection
        is_plain = chosen.span == 1 and not chosen.bad_within(start, stop)
        if is_plain and isinstance(self.frames, SearchableFrames):
            found = self.frames.find(*chosen.raw(start, stop), position, is_dead)
            if found is not None:
                reserve(len(found.pixel))
                return found
        return find_events(self.block(start, stop), position, is_dead, reserve)

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

    def gather(
        self, q_bins: Sequence[int], forms: Sequence[str], types: Sequence[np.dtype[Any]], most_events: int
    ) -> list[Counts | None]:
        """Counts of some q-bins, by the form and the type of each of all; None where they do not fit into these, or
        have more events."""
        dense = [q_bin for q_bin in q_bins if forms[q_bin] == DENSE]
        columns = [
            _Columns(self.layout, [q_bin for q_bin in dense if types[q_bin] == one], self.selection.num_frames, one)
            for one in dict.fromkeys(types[q_bin] for q_bin in dense)
        ]
        events = _Found(self.layout, [q_bin for q_bin in q_bins if forms[q_bin] != DENSE], self._area, most_events)

        def take_or_find(start: int, stop: int) -> FrameEvents | None:
            if columns:
                block = self.block(start, stop)
                for one in columns:
                    one.fill(block, start, stop)
            if not events.is_wanted:
                return None
            find = partial(find_events, block) if columns else partial(self.events, start, stop)
            return events.of(find)

        blocks = [block for block in self.blocks(take_or_find) if block]
        found = events.by_q_bin(blocks, self.threads)
        self.is_dead[events.places] |= events.is_dead
        for one in columns:
            self.is_dead[one.places] |= one.is_dead
            found |= one.by_q_bin()
        return [found[q_bin] for q_bin in q_bins]


class _Columns:
    """Dense counts of some q-bins, in one type."""

    def __init__(self, layout: Layout, q_bins: Sequence[int], num_frames: int, dtype: np.dtype[Any]) -> None:
        self._q_bins, self.places = q_bins, _places(layout, q_bins)
        self._order, self.is_dead = layout.order[self.places], np.zeros(len(self.places), dtype=bool)
        sizes = np.diff(layout.bounds)[list(q_bins)]
        self._bounds = np.append(0, np.cumsum(sizes))
        self._counts = [np.empty((num_frames, size), dtype=dtype) for size in sizes]
        self._fits = np.ones(len(q_bins), dtype=bool)

    def fill(self, block: Dense, start: int, stop: int) -> None:
        """Take the counts of frames [start, stop) out of a block of them."""
        rows = [one[start:stop] for one in self._counts]
        if self._fits.all() and take(block, self._order, self._bounds, self.is_dead, rows):
            return
        for number, (first, last) in enumerate(pairwise(self._bounds)):  # which of them are too large?
            here, bounds = slice(first, last), np.array([0, last - first])
            if not take(block, self._order[here], bounds, self.is_dead[here], rows[number : number + 1]):
                self._fits[number] = False

    def by_q_bin(self) -> dict[int, Counts | None]:
        """The counts of each q-bin; None where they do not fit."""
        every = zip(self._q_bins, self._counts, self._fits, strict=True)
        return {q_bin: counts if fits else None for q_bin, counts, fits in every}


class _Found:
    """Events of some q-bins, as long as there is room for them."""

    def __init__(self, layout: Layout, q_bins: Sequence[int], area: int, most: int) -> None:
        self._q_bins, self.places = q_bins, _places(layout, q_bins)
        self.is_dead = np.zeros(len(self.places), dtype=bool)
        self._stops = np.cumsum(np.diff(layout.bounds)[list(q_bins)])
        self._position = np.full(area, -1, dtype=np.int32)
        self._position[layout.order[self.places]] = np.arange(len(self.places))
        self._left, self._lock, self._fits = most, Lock(), True

    @property
    def is_wanted(self) -> bool:
        return bool(self._q_bins) and self._fits

    def of(self, find: Callable[[np.ndarray, np.ndarray, Callable[[int], None]], FrameEvents]) -> FrameEvents | None:
        """What is found of a block; None where there is no room for it."""
        try:
            return find(self._position, self.is_dead, self._reserve)
        except OverflowError:
            self._fits = False
            return None

    def _reserve(self, num: int) -> None:
        with self._lock:
            self._left -= num
            if self._left < 0:
                raise OverflowError

    def by_q_bin(self, blocks: list[FrameEvents], threads: int) -> dict[int, Counts | None]:
        """The events of each q-bin; None where there was no room for all."""
        if not self.is_wanted:
            return dict.fromkeys(self._q_bins)
        events = by_pixel(blocks, len(self.places), threads)
        spans = pairwise([0, *self._stops.tolist()])
        return {q_bin: pixels(events, *span) for q_bin, span in zip(self._q_bins, spans, strict=True)}


def _places(layout: Layout, q_bins: Sequence[int]) -> np.ndarray:
    """Places in the layout of the pixels of some q-bins."""
    every = [np.arange(layout.bounds[q_bin], layout.bounds[q_bin + 1]) for q_bin in q_bins]
    return np.concatenate([np.empty(0, dtype=np.int64), *every])


def _sum_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type of averaged frames: it has room for their sums."""
    return np.dtype(np.float64 if dtype.kind == "f" else np.uint32 if dtype.itemsize < 4 else np.int64)


def _added_up(frames: np.ndarray) -> np.ndarray:
    """Sums (n, y x) over the middle axis; dead in one frame is dead in the sum."""
    dtype = _sum_type(frames.dtype)
    return np.where(dead_values(frames).any(axis=1), dead_value(dtype), frames.sum(axis=1, dtype=dtype))
