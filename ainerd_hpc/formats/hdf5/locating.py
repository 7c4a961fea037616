"""Where the frames of a scan are in HDF5, over links and virtual datasets, and which of them are there at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.hdf5.frames import NO_FRAMES, check_frames, num_thresholds
from ainerd_hpc.formats.hdf5.reading import (
    MOST_LINKS,
    AbsentFileError,
    check_inside,
    need_dataset,
    open_hdf5,
    reading,
    route,
)
from ainerd_hpc.formats.hdf5.stored import Source, stored_boxes
from ainerd_hpc.formats.hdf5.virtual_frames import Block, whole_frames
from ainerd_hpc.formats.missing import TAKE, Box, Missing, Presence, check_written, presence


class Place(NamedTuple):
    """Where a dataset lies after all links."""

    path: Path
    name: str

    def __str__(self) -> str:
        return f"{self.path}:/{self.name}"


class _Stretch(NamedTuple):
    """Frames of a scan that follow each other: so many from frame `first` of a dataset on."""

    place: Place | None
    """None where no file holds them."""
    first: int
    length: int


class Run(NamedTuple):
    """Frames start .. stop - 1 of the scan: frames first ... of one source."""

    start: int
    stop: int
    source: int
    """`GAP` for frames that are missing as a whole or in part: they are not read."""
    first: int


GAP = -1
_UNKNOWN = -1
"""Length of what lies in a file that is not there."""


@dataclass(frozen=True, slots=True)
class Located:
    """The frames of a scan in the datasets that hold them."""

    sources: tuple[Place, ...]
    runs: tuple[Run, ...]
    lengths: tuple[int, ...]
    """Frames of each dataset that was named; -1 where its file is missing."""
    files: tuple[Path, ...]
    """All that links and virtual datasets lead to, as far as it is there."""
    height: int
    width: int
    dtype: np.dtype[Any]
    threshold: int
    num_thresholds: int
    missing: Missing
    is_cut: bool
    """Whether there are no frames to the end."""
    unfinished: str
    """Why more frames may still come, as in `Description.unfinished`."""

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
            num_thresholds=self.num_thresholds,
            missing=self.missing.told(self.num_frames, is_cut=self.is_cut),
            unfinished=self.unfinished,
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


def locate(path: Path, names: Sequence[str], threshold: int = 1) -> Located:
    """Where the frames of a scan are that lie in datasets of these names, one after the other.

    Raises
    ------
    ScanError
        A dataset is missing, outside of the folder, holds no counts (t, y, x), or has other frames than the first; or
        nothing of them was written.
    """
    files: dict[Path, None] = {}
    absent: list[ScanError] = []
    named = _named_stretches(path, names, files, absent)
    stretches = list(chain.from_iterable(named))
    sources = {one.place: _source(one.place, threshold) for one in stretches if one.place}
    if not sources:
        raise absent[0] if absent else ScanError(str(path), "expected frames, found none", NO_FRAMES)
    first, *_ = sources.values()
    _check_alike(sources, first)
    longest = max(one.length for one in stretches)  # files of one scan, but for the last, are of one length
    stretches = [one._replace(length=longest) if one.length == _UNKNOWN else one for one in stretches]
    with reading(str(path)):
        total, found = sum(one.length for one in stretches), _presence(stretches, sources, first)
    cut = check_written(str([*sources][-1]), found, total)
    fault = absent[0] if absent else cut
    return Located(
        sources=tuple(sources),
        runs=tuple(_runs(stretches, sources, found)),
        lengths=tuple(sum(one.length for one in some) for some in named),
        files=tuple(files),
        height=first.shape[1],
        width=first.shape[2],
        dtype=first.dtype,
        threshold=threshold,
        num_thresholds=first.num_thresholds,
        missing=found.missing,
        is_cut=found.num_frames < total,
        unfinished=f"{fault}; or {TAKE}" if fault else "",
    )


def _named_stretches(
    path: Path, names: Sequence[str], files: dict[Path, None], absent: list[ScanError]
) -> list[list[_Stretch]]:
    """What makes up the dataset of each name; of one in a file that is not there, a stretch of unknown length."""
    found: list[list[_Stretch]] = []
    with open_hdf5(path) as file, reading(str(path)):
        for name in names:
            try:
                found.append(list(_stretches(file, name, files, absent)))
            except AbsentFileError as error:
                absent.append(error)
                found.append([_Stretch(None, 0, _UNKNOWN)])
    return found


class _Source(NamedTuple):
    """A dataset that holds frames."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    num_thresholds: int
    stored: list[Box]
    """The parts of its frames that are in a file."""


def _source(place: Place, threshold: int) -> _Source:
    with dataset_at(place, []) as dataset:
        shape, dtype = check_frames(dataset, str(place), threshold)
        with reading(str(place)):
            stored = stored_boxes(dataset, cache(partial(_stored_source, dataset.file)))
            return _Source(shape, dtype, num_thresholds(dataset.shape), list(_of_frames(stored, threshold - 1)))


def _of_frames(boxes: Sequence[Box], plane: int) -> Iterator[Box]:
    """The parts of frames (t, y, x) that parts of a dataset of them are."""
    for start, stop in boxes:
        if len(start) == 2:
            yield Box((0, *start), (1, *stop))
        elif len(start) == 3 or start[1] <= plane < stop[1]:
            yield Box((start[0], *start[-2:]), (stop[0], *stop[-2:]))


def _stored_source(file: h5py.File, source: str, name: str) -> Source | None:
    """A source of a virtual dataset; None where its file is missing."""
    mapped = _source_of(file, source, name)
    if mapped is None:
        return None
    with dataset_at(mapped.place) as dataset:
        return Source(mapped.shape, stored_boxes(dataset, lambda *_: None))


def _check_alike(sources: Mapping[Place, _Source], first: _Source) -> None:
    expected, origin = (first.dtype, first.shape[1:]), next(iter(sources))
    for place, one in sources.items():
        if (one.dtype, one.shape[1:]) != expected:
            problem = (
                f"expected frames of {first.dtype} {first.shape[1:]} as in {origin}, found {one.dtype} {one.shape[1:]}"
            )
            raise ScanError(str(place), problem, "keep the data files of one scan together")


def _presence(stretches: Sequence[_Stretch], sources: Mapping[Place, _Source], first: _Source) -> Presence:
    """What of all frames is stored, those included that may still come."""
    boxes, start = [], 0
    _, height, width = first.shape
    for place, begin, length in stretches:
        here = Box((begin, 0, 0), (begin + length, height, width))
        stored = sources[place].stored if place else []
        boxes += [box.within(here).moved(here.start, (start, 0, 0)) for box in stored]
        start += length
    return presence(boxes, (start, height, width))


def _runs(stretches: Sequence[_Stretch], sources: Iterable[Place], found: Presence) -> Iterator[Run]:
    """The runs of frames, broken where they cease to be whole or are so again."""
    numbers, start = {place: number for number, place in enumerate(sources)}, 0
    lost, breaks = found.missing.frames, np.array([(first, last + 1) for first, last in found.missing.ranges]).ravel()
    for place, first, length in stretches:
        stop = min(start + length, found.num_frames)
        inside = breaks[np.searchsorted(breaks, start, "right") : np.searchsorted(breaks, stop)]
        for begin, end in pairwise([start, *inside.tolist(), stop]) if start < stop else ():
            is_lost = np.searchsorted(lost, begin) < np.searchsorted(lost, begin, "right")
            yield Run(begin, end, numbers[place] if place and not is_lost else GAP, first + begin - start)
        start = stop


def _stretches(file: h5py.File, name: str, files: dict[Path, None], absent: list[ScanError]) -> Iterator[_Stretch]:
    """What makes up a dataset: itself, or the sources of a virtual one.

    The files that it leads to are added to `files`, what is said of those that are not there to `absent`.
    """
    place = resolve(file, name)
    files[place.path] = None
    with dataset_at(place, absent) as dataset:
        shape, _ = check_frames(dataset, str(place))
        with reading(str(place)):
            mapped = dataset.virtual_sources() if dataset.is_virtual else []
            blocks = whole_frames(mapped, shape[0])
        keys = dict.fromkeys((source.file_name, source.dset_name) for source in mapped)
        sources = {key: _source_of(dataset.file, *key) for key in keys}
    files.update(dict.fromkeys(source.place.path for source in sources.values() if source))
    if blocks:
        yield from _in_order(place, shape, blocks, sources)
    else:  # HDF5 puts together what is virtual in another way
        yield _Stretch(place, 0, shape[0])


def _in_order(
    place: Place,
    shape: tuple[int, int, int],
    blocks: Sequence[Block],
    sources: Mapping[tuple[str, str], _Mapped | None],
) -> Iterator[_Stretch]:
    """What makes up a virtual dataset of whole frames, each of which lies in one block, or in none."""
    stop = 0
    for block in sorted(blocks):
        if block.start < stop:
            raise ScanError(str(place), f"expected frame {block.start} in one source, found it in several", NO_FRAMES)
        if block.start > stop:
            yield _Stretch(None, 0, block.start - stop)
        source = sources[block.file, block.name]
        if source and source.shape[1:] != shape[1:]:
            problem = f"expected frames of {shape[1:]} as in {place}, found {source.shape}"
            raise ScanError(str(source.place), problem, NO_FRAMES)
        yield _Stretch(source.place if source else None, block.first, block.length)
        stop = block.start + block.length
    if stop < shape[0]:
        yield _Stretch(None, 0, shape[0] - stop)


class _Mapped(NamedTuple):
    """A source of a virtual dataset."""

    place: Place
    shape: tuple[int, ...]


def _source_of(file: h5py.File, source: str, name: str) -> _Mapped | None:
    """A source of a virtual dataset, which `need_dataset` has found to lie below its folder; None without its file."""
    if source == ".":
        place = resolve(file, name)
    else:
        path = Path(file.filename).parent / source
        if not path.is_file():
            return None
        with open_hdf5(path) as other:
            place = resolve(other, name)
    with dataset_at(place) as dataset:
        if dataset.is_virtual:
            raise ScanError(str(place), "expected frames, found a virtual dataset of virtual datasets", NO_FRAMES)
        return _Mapped(place, dataset.shape or ())


@contextmanager
def dataset_at(place: Place, absent: list[ScanError] | None = None) -> Iterator[h5py.Dataset]:
    """The dataset that lies there; `absent` as for `get_dataset`."""
    with open_hdf5(place.path) as file:
        with reading(str(place)):
            found = need_dataset(file, place.name, absent)
        yield found
