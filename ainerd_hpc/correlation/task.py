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
from ainerd_hpc.correlation.corrections import load_corrections
from ainerd_hpc.correlation.counts.gathering import Frames
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
from ainerd_hpc.correlation.counts.survey import look_at, survey
from ainerd_hpc.correlation.inputs import load_monitor
from ainerd_hpc.correlation.product import C2_SUMS, Arrays, create_c2, figures, left_out, store_rows
from ainerd_hpc.correlation.q_bin import Block, Correlator, Piece, QBin, piece_of
from ainerd_hpc.correlation.selection import as_correlated, selection
from ainerd_hpc.correlation.tiles import Tiles
from ainerd_hpc.errors import ScanError
from ainerd_hpc.kernels import choice
from ainerd_hpc.kernels.counts import LARGEST_INT8, Events
from ainerd_hpc.site.calibration import load_costs
from ainerd_hpc.types import Scan, Task

_NOTE_EVERY = 10.0
"""s between two lines about the progress of a long task."""
_SLACK = 2**26
"""Bytes by which the counts may exceed the plan: the sample of frames is an estimate."""


def correlate_q_bins(config: RunConfig, archive: Archive, task: Task, tiles: Tiles, group: GroupWriter) -> Arrays:
    """Correlate the q-bins of one task: C2 goes into the product, all else is returned.

    Raises
    ------
    ScanError
        The counts cannot be read, or are not those of the partition.
    """
    limit_threads(config.executor.threads)
    scan: Scan = task.args["scan"]
    with open_counts(archive, scan, config) as source:
        return _Line(config, scan, read_layout(archive, scan), source, tiles, group).run(task)


class Reading(NamedTuple):
    """How counts are read."""

    forms: list[str]
    """Of each q-bin."""
    is_small: bool
    """Whether all counts fit into int8, as far as is known."""


class _Line:
    """One task at work: read, judge, correlate."""

    def __init__(
        self,
        config: RunConfig,
        scan: Scan,
        layout: Layout,
        source: Frames | StoredEvents,
        tiles: Tiles,
        group: GroupWriter,
    ) -> None:
        self.config, self.scan, self.source = config, scan, source
        self.tiles, self.group, self.threads = tiles, group, config.executor.threads
        self.chosen = selection(config.correlate, scan.num_frames)
        self.corrections, is_unusable = load_corrections(config.correct, scan, layout)
        self.layout = layout.without(is_unusable)
        self.dead, self.hot = layout.order[is_unusable], layout.order[:0]
        """Numbers in the frame of the pixels that are left out."""
        self.monitor = load_monitor(config, scan, self.chosen)
        divisor = self.monitor if config.correlate.frame_normalisation == "monitor" else None
        self.rules = FrameRules(self.chosen.bad, divisor, config.correct.bad_frames)
        self.reasons = np.zeros(self.chosen.num_frames, dtype=np.uint8)
        """Why frames are bad, as soon as their counts are known."""
        self.note = Note(f"{scan.scan_id}: frames read", self.chosen.num_frames)

    def run(self, task: Task) -> Arrays:
        """All figures of the task's q-bins; a scan that is split is judged as a whole before."""
        first, stop = task.args["q_bins"]
        layout, photons = self.layout.part(first, stop), None
        reading = self._reading(first, stop)
        if "/" in task.key or task.args["blocks"] > 1 or memory.is_surveyed(self.config, self.scan):
            photons = self._survey()
            layout = self.layout.part(first, stop)
        c2 = create_c2(self.group, stop - first, self.tiles, self.chosen.num_frames)
        if task.args["blocks"] > 1:
            assert photons is not None
            return self._in_blocks(reading, layout, task.args["blocks"], photons, c2)
        return self._at_once(reading, layout, photons, c2)

    def _reading(self, first: int, stop: int) -> Reading:
        """How the counts of the q-bins [first, stop) are read, by a look at a sample of all."""
        if self.corrections is not None:
            return Reading([choice.DENSE] * (stop - first), is_small=False)
        sample = sample_counts(self.source, self.layout, self.chosen).part(first, stop)
        forms = _forms(self.config, self.scan, self.layout.part(first, stop), sample, self.tiles)
        return Reading(forms, sample.is_small)

    def _survey(self) -> np.ndarray:
        """Look at the whole scan and leave its dead and hot pixels out; the counts of its frames on the others."""
        look = look_at(self.source, self.layout, self.chosen, self.corrections, self.threads)
        found = survey(
            look, self.layout, lambda photons: self.rules.reasons(photons) == 0, self.config.correct.hot_pixels
        )
        dead, self.hot = self.layout.order[found.is_dead], self.layout.order[found.is_hot]
        self.layout = self.layout.without(found.is_dead | found.is_hot)
        self._judge(dead, len(self.layout.order), found.photons)
        return found.photons

    def _judge(self, dead: np.ndarray, num_left: int, photons: np.ndarray) -> None:
        judge(self.scan, dead, len(self.hot), num_left, photons)
        self.dead = np.append(self.dead, dead)

    def _at_once(self, reading: Reading, layout: Layout, photons: np.ndarray | None, c2: Any) -> Arrays:
        """All q-bins of the task in memory."""
        pixels = self._read(reading, layout)
        inside = [pixels.layout.static_labels[start:stop] for start, stop in spans(pixels.layout)]
        blocks = [Block(counts, labels) for counts, labels in zip(pixels.counts, inside, strict=True)]
        pixels.counts.clear()
        with ThreadPoolExecutor(self.threads) as pool:
            pieces = list(pool.map(piece_of, blocks))
        if photons is None:
            photons = np.sum([piece.sums.sum(axis=0) for piece in pieces], axis=0)
            self._judge(pixels.dead, len(pixels.layout.order), photons)
        correlator = self._correlator(photons)
        note = Note(f"{self.scan.scan_id}: q-bins correlated", len(blocks))
        found = _each(blocks, pieces, correlator, self.group, c2, self.threads, note)
        return self._figures(pixels.layout, found, correlator)

    def _in_blocks(self, reading: Reading, layout: Layout, num_blocks: int, photons: np.ndarray, c2: Any) -> Arrays:
        """One q-bin that is too large for the memory, block by block of its pixels, each read twice."""
        parts = layout.blocks(num_blocks, whole_static_bins=self.config.correlate.normalisation == "static")

        def blocks() -> Iterator[Block]:
            for part in parts:
                yield Block(self._read(reading, part).counts[0], part.static_labels)

        correlator = self._correlator(photons)
        with limited(self.threads, with_torch=True):
            pieces = [piece_of(block) for block in blocks()]
            found = correlator.run(pieces, blocks(), _storing(self.group, c2, 0))
        return self._figures(layout, [found], correlator)

    def _read(self, reading: Reading, layout: Layout) -> Pixels:
        more = self.threads, self.note, self.corrections
        return read_pixels(self.source, layout, self.chosen, reading.forms, reading.is_small, *more)

    def _correlator(self, photons: np.ndarray) -> Correlator:
        config = self.config.correlate
        self.reasons = self.rules.reasons(photons)
        valid, scale = self.reasons == 0, None
        if config.frame_normalisation:
            divisor = photons if self.rules.monitor is None else self.rules.monitor.values
            mean = divisor[valid].mean() if valid.any() else 0.0
            scale = np.divide(mean, divisor, out=np.zeros(len(divisor)), where=divisor > 0)
        return Correlator(config, self.tiles, valid, scale, _device(config.device))

    def _figures(self, layout: Layout, found: Sequence[QBin], correlator: Correlator) -> Arrays:
        scan, config = as_correlated(self.config.correlate, self.scan), self.config.correlate
        arrays = figures(scan, config, layout, found, correlator.valid, self.chosen.average)
        monitor = None if self.monitor is None else self.monitor.values
        return arrays | left_out(self.reasons, self.dead, self.hot, monitor)


def _forms(config: RunConfig, scan: Scan, layout: Layout, sample: Sample, tiles: Tiles) -> list[str]:
    """The form of the counts of each q-bin: the faster one, unless one is asked for.

    Raises
    ------
    ScanError
        The memory that was planned from the size of the file would be exceeded.
    """
    sizes, costs, forced = np.diff(layout.bounds), load_costs(), config.correlate.form
    num_frames = selection(config.correlate, scan.num_frames).num_frames
    loads = [
        choice.Load(int(size), num_frames, tiles.num_products, float(share), bool(most <= LARGEST_INT8))
        for size, share, most in zip(sizes, sample.density, sample.largest, strict=True)
    ]
    forms = [choice.choose(load, costs) if forced == "auto" else forced for load in loads]
    share = np.where(np.array(forms) == choice.EVENTS, memory.BYTES_PER_EVENT * sample.density, 1.0)
    expected, planned = num_frames * float(sizes @ share), memory.counts_bytes(config, scan, len(layout.order))
    if expected > planned + _SLACK:
        problem = f"expected at most {size_text(planned)} of counts from the file's size, found {size_text(expected)}"
        raise ScanError(scan.source, problem, "set correlate.form: dense, so that the plan counts every pixel")
    return forms


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
