"""Frames of HDF5 datasets, wherever links and virtual datasets put them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.hdf5.frames import NO_FRAMES, Hdf5Frames, check_frames
from ainerd_hpc.formats.hdf5.reading import MOST_LINKS, check_inside, need_dataset, open_hdf5, reading, route
from ainerd_hpc.formats.hdf5.virtual_frames import Block, whole_frames
from ainerd_hpc.formats.opening import READ_ERRORS
from ainerd_hpc.formats.source_file import SourceFile

if TYPE_CHECKING:
    from ainerd_hpc.kernels.gather import FrameEvents

_MOST_OPEN = 128
"""Files kept open for a scan; HDF5 needs a descriptor for each."""


class Place(NamedTuple):
    """Where a dataset lies after all links."""

    path: Path
    name: str

    def __str__(self) -> str:
        return f"{self.path}:/{self.name}"


class Run(NamedTuple):
    """Frames start .. stop - 1 of the scan: frames first ... of one source."""

    start: int
    stop: int
    source: int
    first: int


@dataclass(frozen=True, slots=True)
class Located:
    """The frames of a scan in the datasets that hold them."""

    sources: tuple[Place, ...]
    runs: tuple[Run, ...]
    files: tuple[Path, ...]
    """All that links and virtual datasets lead to."""
    height: int
    width: int
    dtype: np.dtype[Any]

    @property
    def num_frames(self) -> int:
        return self.runs[-1].stop

    def description(self, path: Path, metadata: Metadata, stem: str = "") -> Description:
        """The description of the scan whose file is `path`."""
        return Description(
            self.num_frames,
            self.dtype.itemsize,
            self.height,
            self.width,
            metadata=metadata,
            stem=stem,
            companions=tuple(file for file in self.files if file != path),
        )


def resolve(file: h5py.File, name: str, links: int = 0) -> Place:
    """Where a name leads to, over soft and external links; what lies there need not exist.

    Raises
    ------
    ScanError
        A link leads out of the folder of its file or to a file that is missing, or the links go round in a circle.
    """
    path, way = Path(file.filename), route(file, name)
    if way.end == "circle" or links > MOST_LINKS:
        raise ScanError(f"{path}:/{name}", f"expected at most {MOST_LINKS} links in a row, found more", NO_FRAMES)
    if not way.link:
        return Place(path, way.place)
    link = file.get(way.link, getlink=True)
    target = check_inside(path.parent, link.filename, f"{path}:/{way.link}")
    with open_hdf5(target) as other:
        return resolve(other, link.path + way.place.removeprefix(way.link), links + 1)


def locate(path: Path, names: Sequence[str]) -> Located:
    """Where the frames of a scan are that lie in datasets of these names, one after the other.

    Raises
    ------
    ScanError
        A dataset is missing, outside of the folder, holds no counts (t, y, x), or has other frames than the first.
    """
    sources: dict[Place, int] = {}
    runs: list[Run] = []
    files: dict[Path, None] = {}
    with open_hdf5(path) as file, reading(str(path)):
        for name in names:
            for place, first, length in _stretches(file, name, files):
                start = runs[-1].stop if runs else 0
                runs.append(Run(start, start + length, sources.setdefault(place, len(sources)), first))
    lengths, height, width, dtype = _common_frames(list(sources))
    for run in runs:
        if run.first + run.stop - run.start > lengths[run.source]:
            problem = f"expected {run.first + run.stop - run.start} frames, found {lengths[run.source]}"
            raise ScanError(str(list(sources)[run.source]), problem, "copy the file again from its origin")
    return Located(tuple(sources), tuple(runs), tuple(files), height, width, dtype)


def _common_frames(places: Sequence[Place]) -> tuple[list[int], int, int, np.dtype[Any]]:
    """Lengths of datasets, and height, width and dtype of their frames, which all have to share."""
    lengths, frames = [], []
    for place in places:
        with _dataset(place) as dataset:
            (length, height, width), dtype = check_frames(dataset, str(place))
        lengths.append(length)
        frames.append(f"{dtype} {(height, width)}")
        if frames[-1] != frames[0]:
            problem = f"expected frames of {frames[0]} as in {places[0]}, found {frames[-1]}"
            raise ScanError(str(place), problem, "keep the data files of one scan together")
    return lengths, height, width, dtype


def _stretches(file: h5py.File, name: str, files: dict[Path, None]) -> Iterator[tuple[Place, int, int]]:
    """(dataset, first frame, length) of what makes up a dataset: itself, or the sources of a virtual one.

    The files that it leads to are added to `files`.
    """
    place = resolve(file, name)
    files[place.path] = None
    with _dataset(place) as dataset:
        shape, _ = check_frames(dataset, str(place))
        with reading(str(place)):
            mapped = dataset.virtual_sources() if dataset.is_virtual else []
            blocks = whole_frames(mapped, shape[0])
        keys = dict.fromkeys((source.file_name, source.dset_name) for source in mapped)
        sources = {key: _source_of(dataset.file, *key) for key in keys}
    files.update(dict.fromkeys(source.path for source, _ in sources.values()))
    if blocks:
        yield from _in_order(place, shape, blocks, sources)
    else:  # HDF5 puts together what is virtual in another way
        yield place, 0, shape[0]


def _in_order(
    place: Place,
    shape: tuple[int, int, int],
    blocks: Sequence[Block],
    sources: Mapping[tuple[str, str], tuple[Place, tuple[int, ...]]],
) -> Iterator[tuple[Place, int, int]]:
    """(source, first frame, length) of a virtual dataset, each frame of which has to lie in one block."""
    stop = 0
    for block in sorted(blocks):
        if block.start != stop:
            raise ScanError(str(place), f"expected frame {stop} in one source, found none or several", NO_FRAMES)
        source, whole = sources[block.file, block.name]
        if whole[1:] != shape[1:]:
            raise ScanError(str(source), f"expected frames of {shape[1:]} as in {place}, found {whole}", NO_FRAMES)
        yield source, block.first, block.length
        stop += block.length
    if stop != shape[0]:
        raise ScanError(str(place), f"expected sources of {shape[0]} frames, found {stop}", NO_FRAMES)


def _source_of(file: h5py.File, source: str, name: str) -> tuple[Place, tuple[int, ...]]:
    """A source of a virtual dataset, which `need_dataset` has found to lie below its folder, and its shape."""
    if source == ".":
        place = resolve(file, name)
    else:
        with open_hdf5(Path(file.filename).parent / source) as other:
            place = resolve(other, name)
    with _dataset(place) as dataset:
        if dataset.is_virtual:
            raise ScanError(str(place), "expected frames, found a virtual dataset of virtual datasets", NO_FRAMES)
        return place, dataset.shape or ()


@contextmanager
def _dataset(place: Place) -> Iterator[h5py.Dataset]:
    with open_hdf5(place.path) as file:
        with reading(str(place)):
            found = need_dataset(file, place.name)
        yield found


@contextmanager
def open_located(path: Path, names: Sequence[str]) -> Iterator[LocatedFrames]:
    """The frames of a scan that lie in datasets of these names, to be read block by block.

    Raises
    ------
    ScanError
        As for `locate`.
    """
    located = locate(path, names)
    with ExitStack() as files:
        yield LocatedFrames(located, files)


class LocatedFrames:
    """Frames of a scan, wherever its datasets lie."""

    def __init__(self, located: Located, files: ExitStack) -> None:
        self._located, self._files = located, files
        self._starts = [run.start for run in located.runs]
        self._open: dict[int, Hdf5Frames] = {}
        self._lock = Lock()
        self.shape = (located.num_frames, located.height, located.width)
        self.dtype = located.dtype
        with self._source(located.runs[0].source) as frames:
            self.per_chunk = frames.per_chunk

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        blocks = []
        for run, first, last in self._overlaps(start, stop, step):
            with self._source(run.source) as frames:
                blocks.append(frames.read(first, last, step))
        if len(blocks) == 1:
            return blocks[0]
        return np.concatenate([np.empty((0, *self.shape[1:]), dtype=self.dtype), *blocks])

    def find(self, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray) -> FrameEvents | None:
        from ainerd_hpc.kernels.gather import FrameEvents

        found: list[FrameEvents] = []
        for run, first, last in self._overlaps(start, stop, 1):
            with self._source(run.source) as frames:
                events = frames.find(first, last, position, is_dead)
            if events is None:
                return None
            found.append(events)
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
                self._open[source] = _frames(place, self._files.enter_context(_dataset(place)))
        if source in self._open:
            yield self._open[source]
            return
        with _dataset(place) as dataset:
            yield _frames(place, dataset)


def _frames(place: Place, dataset: h5py.Dataset) -> Hdf5Frames:
    with reading(str(place)):
        return Hdf5Frames(dataset, str(place))


def holds_frames(file: SourceFile, name: str) -> bool:
    """Whether an HDF5 file has an array (t, y, x) of numbers of this name, or a broken link there; never raises."""
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
    except (ScanError, *READ_ERRORS):
        return False


def _is_of_frames(found: object) -> bool:
    return isinstance(found, h5py.Dataset) and found.ndim == 3 and found.dtype.kind in "uif"
