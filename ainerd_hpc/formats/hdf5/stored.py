"""Which parts of a dataset are in a file: HDF5 fills in all others, and reads beyond the end of sources that are short.

A chunk that was never written, a hole of a virtual dataset and what its sources do not have, external storage that ends
early: none of this was measured, whatever value it is filled with. A detector writes every frame, also an empty one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from ainerd_hpc.formats.hdf5.virtual_frames import paired
from ainerd_hpc.formats.missing import Box


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
    pairs = _pairs(targets, blocks(mapping.src_space, source.shape), source.shape[0] if source.shape else 0)
    if pairs is None:  # cut up otherwise there than here: HDF5 alone knows
        yield from targets
        return
    for target, origin in pairs:
        for box in source.stored:
            yield box.within(origin).moved(origin.start, target.start).within(target)


def _pairs(targets: list[Box], origins: list[Box], end: int) -> list[tuple[Box, Box]] | None:
    """Blocks that lie side by side in two selections, the second of a source that ends there; None where they are of
    another cut."""
    columns = [{(box.start[1:], box.stop[1:]) for box in one} for one in (targets, origins)]
    if len(targets) == len(origins) and all(a.shape[1:] == b.shape[1:] for a, b in zip(targets, origins, strict=True)):
        return list(zip(targets, origins, strict=True))
    if len(columns[0]) != 1 or len(columns[1]) != 1 or targets[0].shape[1:] != origins[0].shape[1:]:
        return None
    spans, sources = ([(box.start[0], box.shape[0]) for box in one] for one in (targets, origins))
    sources.append((end, sum(length for _, length in spans)))  # what the source does not have
    return [
        (targets[0].spanning(start, start + length), origins[0].spanning(first, first + length))
        for start, first, length in paired(spans, sources)
    ]


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
