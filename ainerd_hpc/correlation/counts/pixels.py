"""The counts of a scan's pixels, q-bin by q-bin, from frames or events, wherever they are stored."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ainerd_hpc.archive.groups import array, reading_group
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.config import CorrectConfig, RunConfig
from ainerd_hpc.correlation.corrections import Corrections
from ainerd_hpc.correlation.counts.damaged_frames import KnownFrames, ReadableFrames
from ainerd_hpc.correlation.counts.dead_values import marked
from ainerd_hpc.correlation.counts.gathering import Gathering, Room
from ainerd_hpc.correlation.counts.layout import Layout, spans
from ainerd_hpc.correlation.memory import BLOCK_BYTES, SAMPLE_FRAMES, SAMPLES
from ainerd_hpc.correlation.selection import Selection
from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.detector_pixels import PIXEL_MASK, DetectorPixels
from ainerd_hpc.formats.missing import MISSING, NOTHING, Missing
from ainerd_hpc.formats.reader import Frames
from ainerd_hpc.formats.registry import reader
from ainerd_hpc.kernels.choice import DENSE, EVENTS
from ainerd_hpc.kernels.counts import LARGEST_COUNT, LARGEST_INT8, Counts, Events, pixels, select, to_dense
from ainerd_hpc.kernels.gather import dead_values
from ainerd_hpc.types import Content, Scan

_PIXELS_AT_A_TIME = 2**16
_MOST_DEAD = 0.1
"""Share of dead pixels on the mask above which the partition is not that of the scan."""


@contextlib.contextmanager
def open_source(scan: Scan, config: CorrectConfig) -> Iterator[ReadableFrames]:
    """The frames of a scan's source file; what is damaged among them is left out, unless the config says otherwise.

    Raises
    ------
    ScanError
        They are others than when the file was found: kernels do not look where they read.
    """
    found = reader(scan.format)
    assert found.content is Content.FRAMES
    with found.open(Path(scan.source)) as frames:
        expected = (scan.num_frames, scan.height, scan.width)
        if tuple(frames.shape) != expected:
            problem = f"expected frames (t, y, x) of {expected}, found {tuple(frames.shape)}"
            raise ScanError(scan.source, problem, "copy the file again from its origin")
        yield ReadableFrames(frames, config)


@contextlib.contextmanager
def open_counts(archive: Archive, scan: Scan, config: RunConfig) -> Iterator[KnownFrames | StoredEvents]:
    """The counts of a scan as they are stored: in the archive where they were copied, else in the source."""
    if config.ingest.form == "none":
        with open_source(scan, config.correct) as frames:
            yield marked(frames, config.correct)
        return
    with reading_group(archive.frames_path(scan.scan_id)) as group:
        is_events = group.attrs.get("form") == EVENTS
        yield StoredEvents(group) if is_events else marked(_StoredFrames(group), config.correct)


def _stored_missing(group: Any) -> Missing:
    """What was missing when the counts were copied."""
    return Missing(*(array(group, name)[...] for name in MISSING)) if MISSING[0] in group else NOTHING


def _damaged(group: Any) -> np.ndarray:
    """Numbers of the frames that could not be read when the counts were copied."""
    return np.asarray(array(group, "damaged_frames")[...]) if "damaged_frames" in group else np.empty(0, np.int64)


def _stored_pixels(group: Any) -> DetectorPixels:
    """What the source file said of its pixels when the counts were copied."""
    mask = array(group, PIXEL_MASK)[...] if PIXEL_MASK in group else None
    return DetectorPixels.of_store(group.attrs, mask)


class _StoredFrames:
    def __init__(self, group: Any) -> None:
        self._frames, self.pixels = array(group, "frames"), _stored_pixels(group)
        self.missing, self.damaged = _stored_missing(group), _damaged(group)
        self.shape, self.dtype, self.per_chunk = self._frames.shape, self._frames.dtype, self._frames.chunks[0]

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        return np.asarray(self._frames[start:stop:step])


class StoredEvents:
    """Events by pixel, of which only the chunks that hold wanted pixels are read."""

    def __init__(self, group: Any) -> None:
        self._time, self._count = array(group, "time"), array(group, "count")
        self._pointer = array(group, "pixel_pointer")[...]
        self.dead_pixels: np.ndarray = array(group, "dead_pixels")[...]
        self.missing, self.damaged, self.pixels = _stored_missing(group), _damaged(group), _stored_pixels(group)
        self.num_frames = int(group.attrs["num_frames"])

    def read(self, order: np.ndarray) -> Events:
        """The events of the pixels of these numbers, in this order."""
        wanted = np.zeros(len(self._pointer) - 1, dtype=bool)
        wanted[order] = True
        pointer = np.append(0, np.cumsum(np.where(wanted, np.diff(self._pointer), 0)))
        time, count = np.empty(pointer[-1], np.int32), np.empty(pointer[-1], np.uint8)
        for first, last in self._runs(wanted):
            source = slice(self._pointer[first], self._pointer[last])
            here = slice(pointer[first], pointer[last])
            mine = np.repeat(wanted[first:last], np.diff(self._pointer[first : last + 1]))
            time[here], count[here] = self._time[source][mine], self._count[source][mine]
        chosen = select(Events(pointer, time, count, self.num_frames), order)
        assert isinstance(chosen, Events)
        return chosen

    def read_some(self, order: np.ndarray) -> Iterator[tuple[slice, Events]]:
        """The events of some of these pixels at a time, and which."""
        for start in range(0, len(order), _PIXELS_AT_A_TIME):
            some = slice(start, start + _PIXELS_AT_A_TIME)
            yield some, self.read(order[some])

    def densities(self, layout: Layout) -> np.ndarray:
        """(q_bin,) events a pixel and frame; reads no chunk."""
        sizes = np.diff(self._pointer)[layout.order]
        return np.array([sizes[a:b].sum() / max(1, b - a) for a, b in spans(layout)]) / max(1, self.num_frames)

    def _runs(self, wanted: np.ndarray) -> Iterator[tuple[int, int]]:
        """Ranges of pixels that are read together: chunks side by side, each of them read once."""
        chunk = self._time.chunks[0]
        numbers = np.flatnonzero(wanted & (np.diff(self._pointer) > 0))
        if len(numbers):
            last_chunk = (self._pointer[numbers + 1][:-1] - 1) // chunk
            gaps = np.flatnonzero(self._pointer[numbers][1:] // chunk > last_chunk + 1) + 1
            for run in np.split(numbers, gaps):
                yield int(run[0]), int(run[-1]) + 1


@dataclass(frozen=True, slots=True)
class Pixels:
    """The counts of some q-bins."""

    layout: Layout
    """The layout without the dead pixels."""
    counts: list[Counts]
    """The counts of each q-bin, pixels as in the layout."""
    dead: np.ndarray
    """(n,) numbers in the frame of the pixels that were left out as dead."""


class Sample(NamedTuple):
    """A look at the counts, to choose their forms."""

    density: np.ndarray
    """(q_bin,) events a pixel and frame: the share of pixels with a photon, where counts are small."""
    largest: np.ndarray
    """(q_bin,) count; 0 where nothing is known."""

    def part(self, start: int, stop: int) -> Sample:
        """The sample of the q-bins [start, stop)."""
        return Sample(self.density[start:stop], self.largest[start:stop])


def sample_counts(source: Frames | StoredEvents, layout: Layout, selection: Selection) -> Sample:
    """A sample: of events all of them; of frames some at the start, in the middle and at the end; of floats nothing."""
    if isinstance(source, StoredEvents):
        density = source.densities(layout)
        return Sample(density, np.zeros(len(density)))
    sizes = np.diff(layout.bounds)
    if source.dtype.kind == "f":
        return Sample(np.ones(len(sizes)), np.full(len(sizes), np.inf))
    num = min(SAMPLE_FRAMES, selection.num_frames)
    starts = np.unique(np.linspace(0, selection.num_frames - num, SAMPLES).astype(int)).tolist()
    gathering, is_dead = Gathering(source, layout, selection, 1), np.zeros(len(layout.order), dtype=bool)
    position = layout.position(source.shape)
    found = [_look(gathering, start, start + num, position, is_dead) for start in starts]
    pixel, count = (np.concatenate(some) for some in zip(*found, strict=True))
    q_bin = np.searchsorted(layout.bounds, pixel, side="right") - 1
    num_events = np.bincount(q_bin, -(-count // LARGEST_COUNT), minlength=len(sizes))
    largest = np.zeros(len(sizes))
    np.maximum.at(largest, q_bin, count)
    return Sample(num_events / np.maximum(1, len(starts) * num * sizes), largest)


def _look(
    gathering: Gathering, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pixel and count of the events of some frames; where counts are large, each in one piece."""
    most = len(is_dead) * (stop - start)

    def reserve(num_events: int) -> None:
        if num_events > most:
            raise OverflowError

    try:
        found = gathering.events(start, stop, position, is_dead, reserve)
        return found.pixel, found.count.astype(np.int64)
    except OverflowError:
        counts = gathering.block(start, stop)[:, gathering.layout.order]
        frame, pixel = np.nonzero((counts != 0) & ~dead_values(counts))
        return pixel, counts[frame, pixel].astype(np.int64)


def read_pixels(
    source: Frames | StoredEvents,
    layout: Layout,
    selection: Selection,
    forms: Sequence[str],
    largest: np.ndarray,
    room: Room,
    threads: int,
    note: Callable[[int], None] = lambda frames: None,
    corrections: Corrections | None = None,
) -> Pixels:
    """The counts of the layout's pixels in the selected frames, in the given forms; dense float64 where corrected.

    `largest` (q_bin,) and `room` are as of `Gathering.run`. `note` is told of frames that are done.
    """
    if isinstance(source, StoredEvents):
        num_events = int(source.densities(layout) @ np.diff(layout.bounds) * source.num_frames)
        room(forms, [np.dtype(np.int8)] * len(forms), num_events)
        counts, is_dead = _from_events(source, layout, selection, forms, corrections)
    else:
        gathering = Gathering(source, layout, selection, threads, note, corrections)
        counts, is_dead = gathering.run(forms, largest, room)
    for q_bin, (start, stop) in enumerate(spans(layout)):
        if is_dead[start:stop].any():  # one q-bin after the other: a copy of all would be twice the memory
            counts[q_bin] = select(counts[q_bin], np.flatnonzero(~is_dead[start:stop]))
    return Pixels(layout.without(is_dead), counts, layout.order[is_dead])


def judge(scan: Scan, dead: np.ndarray, num_hot: int, num_left: int, photons: np.ndarray) -> None:
    """Refuse what cannot be meant. Single dead pixels that the mask forgot are left out.

    Raises
    ------
    ScanError
        More than a tenth of the valid pixels are dead, `dead` (n,) being their numbers in the frame, or hot; or no
        frame has a photon on the others.
    """
    num_pixels = len(dead) + num_hot + num_left
    if len(dead) > _MOST_DEAD * num_pixels:
        y, x = divmod(int(dead[0]), scan.width)
        problem = (
            f"expected counts on the pixels that the mask calls good, found negative, NaN or dead-pixel values on "
            f"{len(dead)} of {num_pixels} (first y {y}, x {x})"
        )
        raise ScanError(scan.source, problem, "mask them in the partition file, or give the one of this detector")
    if num_hot > _MOST_DEAD * num_pixels:
        problem = f"expected single hot pixels, found {num_hot} of {num_pixels}"
        raise ScanError(scan.source, problem, "raise correct.hot_pixels: bright speckles may stand still")
    if not (photons > 0).any():
        problem = "expected photons, found none in any frame on any pixel of the partition"
        raise ScanError(scan.source, problem, "check the shutter and the partition file")


def _from_events(
    source: StoredEvents,
    layout: Layout,
    selection: Selection,
    forms: Sequence[str],
    corrections: Corrections | None,
) -> tuple[list[Counts], np.ndarray]:
    is_dead = np.isin(layout.order, source.dead_pixels)
    if corrections is not None:
        return _corrected(source.read(layout.order), layout, selection, corrections.at(layout.order)), is_dead
    events = selected(source.read(layout.order), selection)
    counts: list[Counts] = []
    for (start, stop), form in zip(spans(layout), forms, strict=True):
        one = pixels(events, start, stop)
        if form == DENSE:
            wide = to_dense(one, np.uint32)  # type: ignore[arg-type]
            one = wide.astype(np.int8) if wide.max(initial=0) <= LARGEST_INT8 else wide
        counts.append(one)
    return counts, is_dead


def _corrected(events: Events, layout: Layout, selection: Selection, corrections: Corrections) -> list[Counts]:
    """Corrected counts of each q-bin, float64."""
    counts: list[Counts] = []
    for start, stop in spans(layout):
        dense = np.empty((selection.num_frames, stop - start))
        for some, measured in measured_counts(pixels(events, start, stop), selection):  # type: ignore[arg-type]
            dense[:, some] = corrections.at(slice(start, stop)).at(some).apply(measured).sum(axis=1)
        counts.append(dense)
    return counts


def measured_counts(events: Events, selection: Selection) -> Iterator[tuple[slice, np.ndarray]]:
    """Counts (t, average, p) of some pixels at a time in the frames that make those of the selection, and of which."""
    single = selected(events, selection.single)
    per_block = max(1, BLOCK_BYTES // (8 * max(1, single.num_frames)))
    for start in range(0, events.shape[1], per_block):
        some = slice(start, min(start + per_block, events.shape[1]))
        dense = to_dense(pixels(single, some.start, some.stop), np.uint32)  # type: ignore[arg-type]
        yield some, dense.reshape(selection.num_frames, selection.average, -1)


def selected(events: Events, selection: Selection) -> Events:
    """The events of the selected frames, numbered as in the selection."""
    if selection[:4] == (0, events.num_frames, 1, 1):
        return events
    offset = events.time - selection.first
    time = offset // selection.span
    keep = (offset >= 0) & (offset % selection.stride == 0) & (time < selection.num_frames)
    pointer = np.append(0, np.cumsum(keep))[events.pointer]
    return Events(pointer, time[keep].astype(np.int32), events.count[keep], selection.num_frames)
