"""Frames of HDF5 datasets, wherever links and virtual datasets put them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import h5py
import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.detector_pixels import DetectorPixels
from ainerd_hpc.formats.hdf5.detector import Detector
from ainerd_hpc.formats.hdf5.frames import Hdf5Frames
from ainerd_hpc.formats.hdf5.locating import GAP, Located, Place, Run, dataset_at, locate, resolve
from ainerd_hpc.formats.hdf5.reading import open_hdf5, reading
from ainerd_hpc.formats.opening import READ_ERRORS
from ainerd_hpc.formats.reader import COUNT_KINDS
from ainerd_hpc.formats.source_file import SourceFile

if TYPE_CHECKING:
    from ainerd_hpc.kernels.gather import FrameEvents

_MOST_OPEN = 128
"""Files kept open for a scan; HDF5 needs a descriptor for each."""


def detectors_of(
    located: Located, file: h5py.File, groups: Sequence[str], num_thresholds: int | None = None
) -> list[Detector]:
    """What the groups of a file say of the pixels of these frames, for each threshold that the file has."""
    num, shape = num_thresholds or located.num_thresholds, (located.height, located.width)
    return [Detector(file, groups, shape, located.dtype, threshold, num) for threshold in range(1, num + 1)]


@contextmanager
def open_located(
    path: Path, names: Sequence[str], groups: Sequence[str], threshold: int = 1, num_thresholds: int | None = None
) -> Iterator[LocatedFrames]:
    """The frames of a scan that lie in datasets of these names, to be read block by block.

    `groups`: those that say something of the pixels; `num_thresholds`: where each has datasets of its own.

    Raises
    ------
    ScanError
        As for `locate`.
    """
    located = locate(path, names, threshold)
    with open_hdf5(path) as file, reading(str(path)):
        pixels = detectors_of(located, file, groups, num_thresholds)[threshold - 1].pixels()
    with ExitStack() as files:
        yield LocatedFrames(located, files, pixels)


class LocatedFrames:
    """Frames of a scan, wherever its datasets lie."""

    largest_found = Hdf5Frames.largest_found

    def __init__(self, located: Located, files: ExitStack, pixels: DetectorPixels) -> None:
        self._located, self._files, self.pixels = located, files, pixels
        self._starts = [run.start for run in located.runs]
        self._open: dict[int, Hdf5Frames] = {}
        self._lock = Lock()
        self.shape = (located.num_frames, located.height, located.width)
        self.dtype, self.missing = located.dtype, located.missing
        with self._source(next(run.source for run in located.runs if run.source != GAP)) as frames:
            self.per_chunk = frames.per_chunk

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        blocks = []
        for run, first, last in self._overlaps(start, stop, step):
            if run.source == GAP:
                blocks.append(np.zeros((len(range(first, last, step)), *self.shape[1:]), dtype=self.dtype))
                continue
            with self._source(run.source) as frames:
                blocks.append(frames.read(first, last, step))
        if len(blocks) == 1:
            return blocks[0]
        return np.concatenate([np.empty((0, *self.shape[1:]), dtype=self.dtype), *blocks])

    def find(self, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray) -> FrameEvents | None:
        from ainerd_hpc.kernels.gather import FrameEvents

        found: list[FrameEvents] = []
        for run, first, last in self._overlaps(start, stop, 1):
            if run.source == GAP:
                found.append(FrameEvents(np.empty(0, np.int32), np.empty(0, np.uint8), np.zeros(last - first, int)))
                continue
            with self._source(run.source) as frames:
                events = frames.find(first, last, position, is_dead)
            if events is None:
                return None
            found.append(events)
        if len(found) == 1:
            return found[0]
        before = np.cumsum([0, *(len(events.pixel) for events in found[:-1])])
        return FrameEvents(
            np.concatenate([events.pixel for events in found]),
            np.concatenate([events.count for events in found]),
            np.concatenate([events.stops + size for events, size in zip(found, before, strict=True)]),
        )

    def _overlaps(self, start: int, stop: int, step: int) -> Iterator[tuple[Run, int, int]]:
        """(run, first, last): frames first, first + step, ... below last of its source."""
        stop = min(stop, self.shape[0])
        for index in range(max(0, bisect_right(self._starts, start) - 1), len(self._starts)):
            run = self._located.runs[index]
            if run.start >= stop:
                return
            here = start + max(0, -((start - run.start) // step)) * step
            if here < min(stop, run.stop):
                yield run, run.first + here - run.start, run.first + min(stop, run.stop) - run.start

    @contextmanager
    def _source(self, source: int) -> Iterator[Hdf5Frames]:
        """A source of the scan, open as long as the scan, but for those beyond the first hundred or so."""
        place = self._located.sources[source]
        with self._lock:
            if source not in self._open and len(self._open) < _MOST_OPEN:
                self._open[source] = self._frames(place, self._files.enter_context(dataset_at(place, [])))
        if source in self._open:
            yield self._open[source]
            return
        with dataset_at(place, []) as dataset:
            yield self._frames(place, dataset)

    def _frames(self, place: Place, dataset: h5py.Dataset) -> Hdf5Frames:
        with reading(str(place)):
            return Hdf5Frames(dataset, str(place), self._located.threshold)


def holds_frames(file: SourceFile, name: str) -> bool:
    """Whether an HDF5 file has an array (t, y, x) or (t, threshold, y, x) of numbers of this name, or a broken link
    there; never raises."""
    if file.hdf5 is None:
        return False
    try:
        place = resolve(file.hdf5, name)
    except ScanError:
        return True
    except READ_ERRORS:
        return False
    try:
        if place.path == file.path:
            return _is_of_frames(file.hdf5.get(place.name))
        with open_hdf5(place.path) as other:
            return _is_of_frames(other.get(place.name))
    except ScanError:
        return True
    except READ_ERRORS:
        return False


def _is_of_frames(found: object) -> bool:
    return isinstance(found, h5py.Dataset) and found.ndim in (3, 4) and found.dtype.kind in COUNT_KINDS
