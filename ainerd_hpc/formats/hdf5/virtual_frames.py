"""Which frames of its sources make up a virtual dataset of HDF5, where each source gives whole frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import h5py

_MOST_BLOCKS = 2**20


class Block(NamedTuple):
    """Frames start ... of a virtual dataset: frames first ... of a source."""

    start: int
    length: int
    first: int
    file: str
    name: str


def whole_frames(mapped: Sequence[Any], num_frames: int) -> list[Block]:
    """What the sources of a virtual dataset give to its frames; empty where one gives no whole ones.

    `mapped`: as h5py's `Dataset.virtual_sources` gives them.
    """
    blocks: list[Block] = []
    for source in mapped:
        target = _spans(source.vspace, num_frames)
        origin = _spans(source.src_space, sum(length for _, length in target))
        if not target or not origin or len(target) + len(blocks) > _MOST_BLOCKS:
            return []
        for start, first, length in paired(target, origin):
            blocks.append(Block(start, length, first, source.file_name, source.dset_name))
    return blocks


def _spans(space: Any, num_frames: int) -> list[tuple[int, int]]:
    """(first, length) of the frames of a selection, so many if it is all; empty where it is not of whole frames."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return [(0, num_frames)]
    shape = space.get_simple_extent_dims()
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or len(shape) != 3 or not space.is_regular_hyperslab():
        return []
    start, stride, count, block = space.get_regular_hyperslab()
    steps = [step if number > 1 else size for step, number, size in zip(stride, count, block, strict=True)]
    if any(start[axis] or steps[axis] != block[axis] or count[axis] * block[axis] != shape[axis] for axis in (1, 2)):
        return []
    if count[0] == h5py.h5s.UNLIMITED:
        return [(int(start[0]), int(shape[0] - start[0]))]
    if steps[0] == block[0]:
        return [(int(start[0]), int(count[0] * block[0]))]
    if count[0] > _MOST_BLOCKS:
        return []
    return [(int(start[0] + index * stride[0]), int(block[0])) for index in range(count[0])]


def paired(target: list[tuple[int, int]], origin: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """(start, first, length) of frames that lie side by side in both of two equally long selections."""
    there, left = iter(origin), 0
    first = 0
    for start, length in target:
        while length:
            if not left:
                first, left = next(there, (0, length))
            size = min(length, left)
            yield start, first, size
            start, first, length, left = start + size, first + size, length - size, left - size
