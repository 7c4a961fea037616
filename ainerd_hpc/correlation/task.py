"""The way of one task of correlation: read the counts, correlate q-bin by q-bin on several threads, store."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from ainerd_hpc.archive.groups import GroupWriter, limit_threads
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.config import RunConfig
from ainerd_hpc.console import size_text, tell
from ainerd_hpc.correlation import memory
from ainerd_hpc.correlation.bad_frames import FrameRules
from ainerd_hpc.correlation.corrections import Corrections, load_corrections
from ainerd_hpc.correlation.counts.damaged_frames import KnownFrames
from ainerd_hpc.correlation.counts.gathering import Room
from ainerd_hpc.correlation.counts.layout import Layout, read_layout, spans
from ainerd_hpc.correlation.counts.pixels import (
    Pixels,
    Sample,
    StoredEvents,
    judge,
    open_counts,
    read_pixels,
    sample_counts,
)
from ainerd_hpc.correlation.counts.survey import Survey, look_at, survey
from ainerd_hpc.correlation.inputs import Monitor, load_monitor
from ainerd_hpc.correlation.product import C2_SUMS, Arrays, create_c2, figures, left_out, store_rows
from ainerd_hpc.correlation.q_bin import Block, Correlator, Piece, QBin, piece_of
from ainerd_hpc.correlation.selection import Selection, as_correlated, selection
from ainerd_hpc.correlation.tiles import Tiles
from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.detector_pixels import pixels_of
from ainerd_hpc.formats.missing import missing_of
from ainerd_hpc.kernels import choice
from ainerd_hpc.kernels.counts import LARGEST_INT8, Events
from ainerd_hpc.site.calibration import load_costs
from ainerd_hpc.types import Scan, Task

_NOTE_EVERY = 10.0
"""s between two lines about the progress of a long task."""


def correlate_q_bins(config: RunConfig, archive: Archive, task: Task, tiles: Tiles, group: GroupWriter) -> Arrays:
    """Correlate the q-bins of one task: C2 goes into the product, all else is returned.

    Raises
    ------
    ScanError
        The counts cannot be read, or are not those of the partition.
    """
    limit_threads(config.executor.threads)
    scan: Scan = task.args["scan"]
    (first, stop), num_blocks = task.args["q_bins"], task.args["blocks"]
    is_split = "/" in task.key or num_blocks > 1
    with open_counts(archive, scan, config) as source:
        inputs = _inputs(config, scan, tiles, source, read_layout(archive, scan))
        reading = _reading(inputs, first, stop)
        seen = _seen(inputs) if is_split or memory.is_surveyed(config, scan) else None
        layout = (seen or inputs).layout.part(first, stop)
        c2 = create_c2(group, stop - first, tiles, inputs.chosen.num_frames)
        if seen and num_blocks > 1:
            return _in_blocks(reading, layout, num_blocks, seen, group, c2)
        return _at_once(reading, layout, seen, group, c2)


def correlate_counts(
    config: RunConfig, scan: Scan, tiles: Tiles, source: KnownFrames, layout: Layout, group: GroupWriter, c2: Any
) -> Arrays:
    """Correlate all q-bins of counts that are at hand: C2 goes where `c2` is, all else is returned.

    Raises
    ------
    ScanError
        The counts are not those of the partition.
    """
    inputs = _inputs(config, scan, tiles, source, layout)
    return _at_once(_reading(inputs, 0, len(layout.bounds) - 1), inputs.layout, None, group, c2)


class _Inputs(NamedTuple):
    """What the correlation of a scan begins with."""

    config: RunConfig
    scan: Scan
    tiles: Tiles
    source: KnownFrames | StoredEvents
    chosen: Selection
    corrections: Corrections | None
    monitor: Monitor | None
    layout: Layout
    """The layout of the whole scan, without the pixels that are masked, cannot be corrected, or are missing."""
    unusable: np.ndarray
    """(n,) numbers in the frame of those, and of pixels that the file of the scan masks."""
    missing: np.ndarray
    """(m,) the same of pixels that no file holds; they are not in the layout either."""

    @property
    def divisor(self) -> Monitor | None:
        """The monitor, where frames are divided by it."""
        return self.monitor if self.config.correlate.frame_normalisation == "monitor" else None

    def reasons(self, photons: np.ndarray) -> np.ndarray:
        """Why frames are bad, (t,) as of `FrameRules`, by their counts."""
        damaged = self.chosen.places(self.source.damaged.tolist())
        rules = FrameRules(self.chosen.bad, self.divisor, self.config.correct.bad_frames, self.chosen.missing, damaged)
        return rules.reasons(photons)

    def correlator(self, photons: np.ndarray) -> Correlator:
        """What correlates the q-bins of a scan with these counts of its frames, (t,)."""
        config, valid, scale = self.config.correlate, self.reasons(photons) == 0, None
        if config.frame_normalisation:
            divisor = photons if self.divisor is None else self.divisor.values
            mean = divisor[valid].mean() if valid.any() else 0.0
            scale = np.divide(mean, divisor, out=np.zeros(len(divisor)), where=divisor > 0)
        return Correlator(config, self.tiles, valid, scale, _device(config.device))


def _inputs(config: RunConfig, scan: Scan, tiles: Tiles, source: KnownFrames | StoredEvents, layout: Layout) -> _Inputs:
    lost = missing_of(source)
    chosen = selection(config.correlate, scan.num_frames, lost.frames.tolist())
    there, missing = _without_missing(scan, lost.pixels, layout)
    good, masked = _without_masked(scan, source, there)
    corrections, is_unusable = load_corrections(config.correct, scan, good)
    monitor = load_monitor(config, scan, chosen)
    usable, unusable = good.without(is_unusable), np.append(masked, good.order[is_unusable])
    return _Inputs(config, scan, tiles, source, chosen, corrections, monitor, usable, unusable, missing)


def _without_missing(scan: Scan, pixels: np.ndarray, layout: Layout) -> tuple[Layout, np.ndarray]:
    """The layout without pixels that no file holds, and which of its own these are, (n,).

    Raises
    ------
    ScanError
        None is left.
    """
    is_missing = np.isin(layout.order, pixels)
    if is_missing.all():
        problem = "expected frames of pixels of the partition, found none of them in any file"
        raise ScanError(scan.source, problem, "give the partition file of this detector")
    return layout.without(is_missing), layout.order[is_missing]


def _without_masked(scan: Scan, source: KnownFrames | StoredEvents, layout: Layout) -> tuple[Layout, np.ndarray]:
    """The layout without the pixels that the file of a scan masks, and their numbers in the frame, (n,).

    Raises
    ------
    ScanError
        It masks all.
    """
    if (everywhere := pixels_of(source).is_masked) is None:
        return layout, layout.order[:0]
    is_masked = everywhere[layout.order]
    if is_masked.all():
        problem = f"expected good pixels in the partition, found all {len(is_masked)} in the pixel_mask of the file"
        raise ScanError(scan.source, problem, "give the partition file of this detector, or correct the mask")
    return layout.without(is_masked), layout.order[is_masked]


class _Reading(NamedTuple):
    """How the counts of some q-bins are read."""

    inputs: _Inputs
    forms: list[str]
    """The form of each q-bin."""
    sample: Sample
    note: Note

    def pixels(self, layout: Layout) -> Pixels:
        """The counts of the pixels of this layout."""
        source, chosen, threads = self.inputs.source, self.inputs.chosen, self.inputs.config.executor.threads
        options = threads, self.note, self.inputs.corrections
        return read_pixels(source, layout, chosen, self.forms, self.sample.largest, self._room(layout), *options)

    def _room(self, layout: Layout) -> Room:
        """The memory that was planned for the counts of this layout."""
        config, scan, sizes = self.inputs.config, self.inputs.scan, np.diff(layout.bounds)
        planned = max(memory.counts_bytes(config, scan, len(layout.order)), memory.ALLOWANCE)

        def room(forms: Sequence[str], types: Sequence[np.dtype[Any]], num_events: int = 0) -> int:
            is_dense = np.array(forms) == choice.DENSE
            itemsizes = np.array([one.itemsize for one in types])
            dense = self.inputs.chosen.num_frames * int(sizes[is_dense] @ itemsizes[is_dense])
            found = dense + memory.BYTES_PER_EVENT * num_events
            if found > planned + (memory.ALLOWANCE if num_events else 0):
                text = f"expected at most {size_text(planned)} of counts from the file's size, found {size_text(found)}"
                raise ScanError(scan.source, text, "set correlate.form: dense, so that the plan counts every pixel")
            return (planned - dense) // memory.BYTES_PER_EVENT

        return room


def _reading(inputs: _Inputs, first: int, stop: int) -> _Reading:
    """How the counts of the q-bins [first, stop) are read, by a look at a sample of all."""
    note = Note(f"{inputs.scan.scan_id}: frames read", inputs.chosen.num_frames)
    if inputs.corrections is not None:
        num = stop - first
        return _Reading(inputs, [choice.DENSE] * num, Sample(np.ones(num), np.full(num, np.inf)), note)
    sample = sample_counts(inputs.source, inputs.layout, inputs.chosen).part(first, stop)
    forms = _forms(inputs.config, inputs.chosen, inputs.layout.part(first, stop), sample, inputs.tiles)
    return _Reading(inputs, forms, sample, note)


def _seen(inputs: _Inputs) -> Survey:
    """What a look at the whole scan tells, which is split or whose pixels and frames are judged by it."""
    correct, threads = inputs.config.correct, inputs.config.executor.threads
    look = look_at(inputs.source, inputs.layout, inputs.chosen, inputs.corrections, threads)
    seen = survey(look, inputs.layout, lambda photons: inputs.reasons(photons) == 0, correct.hot_pixels)
    return _judged(inputs.scan, seen)


def _judged(scan: Scan, seen: Survey) -> Survey:
    judge(scan, seen.dead, len(seen.hot), len(seen.layout.order), seen.photons)
    return seen


def _at_once(reading: _Reading, layout: Layout, seen: Survey | None, group: GroupWriter, c2: Any) -> Arrays:
    """All q-bins of the task in memory; where the scan was not looked at before, they are all of it."""
    inputs, threads = reading.inputs, reading.inputs.config.executor.threads
    blocks, layout, dead = _blocks(reading.pixels(layout))
    with ThreadPoolExecutor(threads) as pool:
        pieces = list(pool.map(piece_of, blocks))
    if seen is None:
        photons = np.sum([piece.sums.sum(axis=0) for piece in pieces], axis=0)
        seen = _judged(inputs.scan, Survey(layout, dead, dead[:0], photons))
    correlator = inputs.correlator(seen.photons)
    note = Note(f"{inputs.scan.scan_id}: q-bins correlated", len(blocks))
    return _figures(inputs, seen, layout, _each(blocks, pieces, correlator, group, c2, threads, note))


def _blocks(pixels: Pixels) -> tuple[list[Block], Layout, np.ndarray]:
    """The counts of each q-bin, which nothing else holds after this; their layout; the pixels that were found dead."""
    inside = [pixels.layout.static_labels[start:stop] for start, stop in spans(pixels.layout)]
    blocks = [Block(counts, labels) for counts, labels in zip(pixels.counts, inside, strict=True)]
    return blocks, pixels.layout, pixels.dead


def _in_blocks(reading: _Reading, layout: Layout, num_blocks: int, seen: Survey, group: GroupWriter, c2: Any) -> Arrays:
    """One q-bin that is too large for the memory, block by block of its pixels, each read twice."""
    config = reading.inputs.config
    parts = layout.blocks(num_blocks, whole_static_bins=config.correlate.normalisation == "static")

    def blocks() -> Iterator[Block]:
        for part in parts:
            yield Block(reading.pixels(part).counts[0], part.static_labels)

    correlator = reading.inputs.correlator(seen.photons)
    with limited(config.executor.threads, with_torch=True):
        pieces = [piece_of(block) for block in blocks()]
        found = correlator.run(pieces, blocks(), _storing(group, c2, 0))
    return _figures(reading.inputs, seen, layout, [found])


def _figures(inputs: _Inputs, seen: Survey, layout: Layout, found: Sequence[QBin]) -> Arrays:
    """All that is stored beside C2 of the q-bins of this layout, and what was left out of the whole scan."""
    config, reasons = inputs.config.correlate, inputs.reasons(seen.photons)
    scan = as_correlated(config, inputs.scan)
    arrays = figures(scan, config, layout, found, reasons == 0, inputs.chosen.average)
    monitor = None if inputs.monitor is None else inputs.monitor.values
    dead, mask = np.append(inputs.unusable, seen.dead), pixels_of(inputs.source).mask
    return arrays | left_out(reasons, dead, seen.hot, inputs.missing, monitor, mask)


def _forms(config: RunConfig, chosen: Selection, layout: Layout, sample: Sample, tiles: Tiles) -> list[str]:
    """The form of the counts of each q-bin: the faster one, unless one is asked for."""
    sizes, costs, forced = np.diff(layout.bounds), load_costs(), config.correlate.form
    loads = [
        choice.Load(int(size), chosen.num_frames, tiles.num_products, float(share), bool(most <= LARGEST_INT8))
        for size, share, most in zip(sizes, sample.density, sample.largest, strict=True)
    ]
    return [choice.choose(load, costs) if forced == "auto" else forced for load in loads]


class Note:
    """Tells now and then how far a long task is."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done, self._lock = what, total, 0, Lock()
        self._began = self._told = time.monotonic()

    def __call__(self, more: int = 1) -> None:
        with self._lock:
            self._done += more
            now = time.monotonic()
            if now - self._told > _NOTE_EVERY:
                self._told = now
                left = max(0.0, (now - self._began) * (self._total / self._done - 1))
                tell(f"{self._what}: {self._done} of {self._total}, {left:.0f} s left")


def _each(
    blocks: list[Block],
    pieces: Sequence[Piece],
    correlator: Correlator,
    group: GroupWriter,
    c2: Any,
    threads: int,
    note: Note,
) -> list[QBin]:
    """Correlate q-bin by q-bin, as many at a time as there are threads; what is written has one order."""
    workers, with_torch = min(threads, len(blocks)), any(not isinstance(block.counts, Events) for block in blocks)
    queue = iter(range(len(blocks)))

    def one(q_bin: int, store: Callable[[int, np.ndarray], None]) -> QBin:
        block, blocks[q_bin] = blocks[q_bin], Block(np.empty((0, 0)), np.empty(0, int))  # its memory is freed when done
        found = correlator.run([pieces[q_bin]], [block], store)
        note()
        return found

    with limited(threads // workers, with_torch):
        if workers == 1:
            return [one(q_bin, _storing(group, c2, q_bin)) for q_bin in queue]
        limit = partial(_limit_torch, threads // workers, with_torch)
        with ThreadPoolExecutor(workers, initializer=limit) as pool:
            waiting = deque(pool.submit(one, q, partial(store_rows, group, c2, q)) for q in islice(queue, workers + 1))
            found: list[QBin] = []
            while waiting:
                found.append(waiting.popleft().result())
                waiting += [pool.submit(one, q, partial(store_rows, group, c2, q)) for q in islice(queue, 1)]
                group.flush(f"{C2_SUMS}/c/{len(found) - 1}/", key=_tile_order)
        return found


def _storing(group: GroupWriter, c2: Any, q_bin: int) -> Callable[[int, np.ndarray], None]:
    def store(start: int, rows: np.ndarray) -> None:
        store_rows(group, c2, q_bin, start, rows)
        group.flush(f"{C2_SUMS}/c/{q_bin}/", key=_tile_order)

    return store


def _tile_order(key: str) -> tuple[int, int, int]:
    """Rows of tiles one after the other, each with its mirror image."""
    i, j = (int(part) for part in key.split("/")[-2:])
    return min(i, j), i, j


def _device(name: str) -> str:
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def limited(threads: int, with_torch: bool) -> Iterator[None]:
    """Let every product use so many threads, however many are made at a time; torch is loaded only where it is used."""
    with threadpool_limits(threads):
        before = _limit_torch(threads, with_torch)
        try:
            yield
        finally:
            _limit_torch(before, with_torch)


def _limit_torch(threads: int, with_torch: bool) -> int:
    """Limit torch in this thread, the only one that it holds for; gives the limit of before."""
    if not with_torch:
        return threads
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    return before
