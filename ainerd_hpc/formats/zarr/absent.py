"""Which chunks of frames in Zarr are not there, and whether that means counts of 0.

Zarr leaves out chunks of nothing but the fill value. Where that is 0, a chunk that is not there may be one without a
photon: it is, as long as chance may give one such in the scan, by the photons of other chunks of the same pixels. Where
these are too many, and where the fill value is another one, the chunk was lost or never measured.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from math import exp, prod

import numpy as np

from ainerd_hpc.formats.missing import Box, Presence, presence
from ainerd_hpc.formats.zarr.stores import Layout

_KEY = re.compile(r"(?:c[./])?(\d+)[./](\d+)[./](\d+)")
_LOOKED_AT = 8
"""Chunks of the same pixels whose photons are counted."""
_BY_CHANCE = 1e-3
"""Chunks without a photon that chance may be expected to give in a scan, for one to be missing."""


def frames_present(layout: Layout, keys: Iterable[str], read: Callable[[Box], np.ndarray]) -> Presence:
    """What of the frames (t, y, x) is there.

    Parameters
    ----------
    layout : Layout
        Of three dimensions.
    keys : iterable of str
        Names of the chunks, or shards, that are stored.
    read : callable
        Gives the counts of a chunk.

    Raises
    ------
    ValueError
        As `missing.presence`.
    """
    grid = tuple(-(-size // chunk) for size, chunk in zip(layout.shape, layout.stored, strict=True))
    found = {tuple(map(int, match.groups())) for key in keys if (match := _KEY.fullmatch(key))}
    whole = Box((0, 0, 0), layout.shape)
    if len(found) >= prod(grid):
        return presence([whole], layout.shape)  # type: ignore[arg-type]
    times = defaultdict(list)
    for t, y, x in sorted(found):
        times[y, x].append(t)
    boxes = []
    for (y, x), stored in times.items():
        chunks = [_box(layout, (t, y, x)).within(whole) for t in stored]
        is_empty = len(stored) < grid[0] and layout.fill == 0 and _may_be_empty(chunks, grid[0], read)
        boxes += [_box(layout, (t, y, x)).within(whole) for t in range(grid[0])] if is_empty else chunks
    return presence(boxes, layout.shape)  # type: ignore[arg-type]


def _box(layout: Layout, place: tuple[int, ...]) -> Box:
    start = tuple(number * size for number, size in zip(place, layout.stored, strict=True))
    return Box(start, tuple(one + size for one, size in zip(start, layout.stored, strict=True)))


def _may_be_empty(chunks: list[Box], num_chunks: int, read: Callable[[Box], np.ndarray]) -> bool:
    """Whether chance may leave one of these chunks without a photon."""
    step = -(-len(chunks) // _LOOKED_AT)
    photons = float(np.mean([_photons(read(chunk)) for chunk in chunks[::step]]))
    return num_chunks * exp(-photons) >= _BY_CHANCE


def _photons(counts: np.ndarray) -> float:
    """Counts but those of dead pixels."""
    from ainerd_hpc.kernels.gather import dead_values

    return float(counts[~dead_values(counts)].sum(dtype=np.float64))
