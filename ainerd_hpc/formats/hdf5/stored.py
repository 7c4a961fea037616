"""Which parts of a dataset are in a file: HDF5 fills in all others, and reads beyond the end of sources that are short.

A chunk that was never written, a hole of a virtual dataset and what its sources do not have, external storage that ends
early: none of this was measured, whatever value it is filled with. A detector writes every frame, also an empty one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

_MOST_CELLS = 2**28
"""Cells of the grid of all parts; more are damage."""


class Box(NamedTuple):
    """The elements from start to below stop, in as many axes as the dataset has."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(stop - start for start, stop in zip(self.start, self.stop, strict=True))

    def within(self, other: Box) -> Box:
        """What both have in common; of no size where that is nothing."""
        start = tuple(map(max, self.start, other.start))
        return Box(start, tuple(map(max, start, map(min, self.stop, other.stop))))

    def moved(self, origin: Sequence[int], target: Sequence[int]) -> Box:
        """The same where `origin` lies at `target`."""
        steps = [there - here for here, there in zip(origin, target, strict=True)]
        start, stop = (tuple(map(sum, zip(edge, steps, strict=True))) for edge in self)
        return Box(start, stop)


class Source(NamedTuple):
    """What a virtual dataset takes from."""

    shape: tuple[int, ...]
    stored: list[Box]


SourceOf = Callable[[str, str], Source | None]
"""The source of this file and name; None where its file is missing."""


def stored_boxes(dataset: h5py.Dataset, source_of: SourceOf) -> list[Box]:
    """The parts of a dataset that are stored; the whole is one part.

    Raises
    ------
    OSError, RuntimeError, ValueError
        The dataset is damaged.
    """
    whole = Box((0,) * len(dataset.shape), dataset.shape)
    if dataset.is_virtual:
        return [box for one in dataset.virtual_sources() for box in _mapped(one, dataset.shape, source_of)]
    if dataset.external:
        return _external(dataset)
    if dataset.chunks is None:
        return [whole] if dataset.id.get_storage_size() else []
    grid = [-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
    if dataset.id.get_num_chunks() >= prod(grid):
        return [whole]
    found: list[Box] = []

    def visit(chunk: Any) -> None:
        stop = tuple(place + size for place, size in zip(chunk.chunk_offset, dataset.chunks, strict=True))
        found.append(Box(tuple(chunk.chunk_offset), stop).within(whole))

    dataset.id.chunk_iter(visit)
    return found


def _mapped(mapping: Any, shape: tuple[int, ...], source_of: SourceOf) -> Iterator[Box]:
    """What one source gives to a virtual dataset."""
    source = source_of(mapping.file_name, mapping.dset_name)
    targets = blocks(mapping.vspace, shape)
    if source is None:
        return
    origins = blocks(mapping.src_space, source.shape)
    pairs = list(zip(targets, origins, strict=False))
    if len(targets) != len(origins) or any(one.shape[1:] != other.shape[1:] for one, other in pairs):
        yield from targets  # cut up otherwise there than here: HDF5 alone knows
        return
    for target, origin in pairs:
        for box in source.stored:
            yield box.within(origin).moved(origin.start, target.start).within(target)


def blocks(space: Any, shape: tuple[int, ...]) -> list[Box]:
    """The blocks of a selection in an array of this shape, row by row; an unlimited one goes to its end."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return [Box((0,) * len(shape), shape)]
    if space.is_regular_hyperslab():
        start, _, count, block = space.get_regular_hyperslab()
        if h5py.h5s.UNLIMITED in (*count, *block):
            sizes = [one * other for one, other in zip(count, block, strict=True)]
            return [Box(start, tuple(min(a + b, c) for a, b, c in zip(start, sizes, shape, strict=True)))]
    corners = space.get_select_hyper_blocklist().tolist()
    return [Box(tuple(first), tuple(place + 1 for place in last)) for first, last in corners]


def _external(dataset: h5py.Dataset) -> list[Box]:
    """Rows that lie in external files up to the first one that ends too early."""
    size = 0
    for name, offset, length in dataset.external:
        path = Path(dataset.file.filename).parent / (name.decode() if isinstance(name, bytes) else name)
        there = max(0, path.stat().st_size - offset) if path.is_file() else 0
        size += min(there, length)
        if there < length:
            break
    num = size // max(1, prod(dataset.shape[1:]) * dataset.dtype.itemsize)
    return [Box((0,) * len(dataset.shape), (min(num, dataset.shape[0]), *dataset.shape[1:]))]


class Presence(NamedTuple):
    """What of the frames of a scan is stored."""

    is_begun: np.ndarray
    """(t,) bool, whether anything of a frame is."""
    is_whole: np.ndarray
    """(t,) bool, whether all of it is, but for the pixels that are stored in no frame."""
    unseen: np.ndarray
    """(n,) numbers of those pixels in the frame, row by row."""


def presence(boxes: Sequence[Box], shape: tuple[int, int, int]) -> Presence:
    """What the stored parts of frames (t, y, x) leave out.

    Raises
    ------
    ValueError
        There are more parts than frames can have.
    """
    corners = np.array([[*box] for box in boxes if min(box.shape) > 0], dtype=np.int64).reshape(-1, 2, 3)
    edges = [np.unique([0, size, *corners[:, :, axis].ravel()]) for axis, size in enumerate(shape)]
    if prod(len(one) for one in edges) > _MOST_CELLS:
        raise ValueError(f"expected frames in some parts, found {len(boxes)} of all sizes")
    is_stored = np.zeros([len(one) - 1 for one in edges], dtype=bool)
    places = np.stack([np.searchsorted(one, corners[:, :, axis]) for axis, one in enumerate(edges)], axis=-1)
    for (t, y, x), (t_stop, y_stop, x_stop) in places:
        is_stored[t:t_stop, y:y_stop, x:x_stop] = True
    is_seen = is_stored.any(axis=0)
    lengths = [np.diff(one) for one in edges]
    unseen = np.empty(0, dtype=np.int64)
    if not is_seen.all():
        unseen = np.flatnonzero(~np.repeat(np.repeat(is_seen, lengths[1], axis=0), lengths[2], axis=1))
    begun, whole = is_stored.any(axis=(1, 2)), (is_stored | ~is_seen).all(axis=(1, 2)) & is_stored.any(axis=(1, 2))
    return Presence(np.repeat(begun, lengths[0]), np.repeat(whole, lengths[0]), unseen)
