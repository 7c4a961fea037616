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

from ainerd_hpc.archive import Archive, GroupWriter, limit_threads
from ainerd_hpc.config import RunConfig
from ainerd_hpc.console import size_text, tell
from ainerd_hpc.correlation import memory
from ainerd_hpc.correlation.gathering import Frames, Survey
from ainerd_hpc.correlation.layout import Layout, read_layout, spans
from ainerd_hpc.correlation.pixels import (
    Pixels,
    Sample,
    StoredEvents,
    judge,
    open_counts,
    read_pixels,
    sample_counts,
    survey,
)
from ainerd_hpc.correlation.product import C2_SUMS, Arrays, create_c2, figures, store_rows
from ainerd_hpc.correlation.q_bin import Block, Correlator, Piece, QBin, piece_of
from ainerd_hpc.correlation.selection import as_correlated, selection
from ainerd_hpc.correlation.tiles import Tiles
from ainerd_hpc.costs import load_costs
from ainerd_hpc.errors import ScanError
from ainerd_hpc.kernels import choice
from ainerd_hpc.kernels.counts import LARGEST_INT8, Events
from ainerd_hpc.types import Scan, Task

_NOTE_EVERY = 10.0
"""s between two lines about the progress of a long task."""
_SLACK = 2**26
"""Bytes by which the counts may exceed the plan: the sample of frames is an estimate."""
_BY_CHANCE = 1e-3
"""Dark frames that chance may be expected to give in a scan, for them to be bad."""


def correlate_q_bins(config: RunConfig, archive: Archive, task: Task, tiles: Tiles, group: GroupWriter) -> Arrays:
    """Correlate the q-bins of one task: C2 goes into the product, all else is returned.

    Raises
    ------
    ScanError
        The counts cannot be read, or are not those of the partition.
    """
    limit_threads(config.executor.threads)
    scan: Scan = task.args["scan"]
    with open_counts(archive, scan, is_copied=config.ingest.form != "none") as source:
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
        self.config, self.scan, self.layout, self.source = config, scan, layout, source
        self.tiles, self.group, self.threads = tiles, group, config.executor.threads
        self.chosen = selection(config.correlate, scan.num_frames)
        self.note = Note(f"{scan.scan_id}: frames read", self.chosen.num_frames)

    def run(self, task: Task) -> Arrays:
        """All figures of the task's q-bins; a scan that is split is judged as a whole before."""
        first, stop = task.args["q_bins"]
        layout, known = self.layout.part(first, stop), None
        sample = sample_counts(self.source, self.layout, self.chosen)
        forms = _forms(self.config, self.scan, layout, sample.part(first, stop), self.tiles)
        reading = Reading(forms, sample.part(first, stop).is_small)
        if "/" in task.key or task.args["blocks"] > 1 or self.config.correlate.frame_normalisation:
            known = survey(self.source, self.layout, self.chosen, self.threads)
            self._judge(self.layout.order[known.is_dead], known.photons)
            layout = self.layout.without(known.is_dead).part(first, stop)
        c2 = create_c2(self.group, stop - first, self.tiles, self.chosen.num_frames)
        if task.args["blocks"] > 1:
            assert known is not None
            return self._in_blocks(reading, layout, task.args["blocks"], known.photons, c2)
        return self._at_once(reading, layout, known, c2)

    def _judge(self, dead: np.ndarray, photons: np.ndarray) -> None:
        judge(self.scan, dead, len(self.layout.order) - len(dead), photons)

    def _at_once(self, reading: Reading, layout: Layout, known: Survey | None, c2: Any) -> Arrays:
        """All q-bins of the task in memory."""
        pixels = self._read(reading, layout)
        inside = [pixels.layout.static_labels[start:stop] for start, stop in spans(pixels.layout)]
        blocks = [Block(counts, labels) for counts, labels in zip(pixels.counts, inside, strict=True)]
        pixels.counts.clear()
        with ThreadPoolExecutor(self.threads) as pool:
            pieces = list(pool.map(piece_of, blocks))
        if known is None:
            known = Survey(pixels.dead, np.sum([piece.sums.sum(axis=0) for piece in pieces], axis=0))
            self._judge(pixels.dead, known.photons)
        correlator = self._correlator(known.photons)
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
        return read_pixels(self.source, layout, self.chosen, reading.forms, reading.is_small, self.threads, self.note)

    def _correlator(self, photons: np.ndarray) -> Correlator:
        config, valid = self.config.correlate, valid_frames(photons, self.chosen.bad)
        scale = None
        if config.frame_normalisation:
            mean = photons[valid].mean() if valid.any() else 0.0
            scale = np.divide(mean, photons, out=np.zeros(len(photons)), where=photons > 0)
        return Correlator(config, self.tiles, valid, scale, _device(config.device))

    def _figures(self, layout: Layout, found: Sequence[QBin], correlator: Correlator) -> Arrays:
        scan, config = as_correlated(self.config.correlate, self.scan), self.config.correlate
        return figures(scan, config, layout, found, correlator.valid, self.chosen.average)


def valid_frames(photons: np.ndarray, bad: Sequence[int]) -> np.ndarray:
    """(t,) False for frames that are known to be bad, and for dark ones that are no chance.

    A frame without a photon is bad where chance would give less than a thousandth of one such frame in the scan.
    """
    valid = np.ones(len(photons), dtype=bool)
    valid[list(bad)] = False
    lit = photons[valid]
    if len(lit) and len(lit) * np.exp(-float(lit.mean())) < _BY_CHANCE:
        valid &= photons > 0
    return valid


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
