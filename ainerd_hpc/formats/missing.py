"""What no file holds of a scan: it was not measured, which is another thing than a count of 0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

_MOST_NAMED = 3
"""Ranges of frames that are told one by one."""


class Missing(NamedTuple):
    """Frames and pixels that are not there; others of both are whole."""

    frames: np.ndarray = np.empty(0, dtype=np.int64)
    """(n,) numbers of frames of which something is missing; whatever is read of them is no count."""
    pixels: np.ndarray = np.empty(0, dtype=np.int64)
    """(m,) numbers, row by row, of pixels that are in no frame."""

    def __str__(self) -> str:
        """What is missing, in words; empty where nothing is."""
        parts = []
        if len(self.frames):
            ranges = [f"{first}..{last}" if last > first else f"{first}" for first, last in _ranges(self.frames)]
            more = ", ..." if len(ranges) > _MOST_NAMED else ""
            parts.append(f"{len(self.frames)} frames ({', '.join(ranges[:_MOST_NAMED])}{more})")
        return " and ".join(parts + ([f"{len(self.pixels)} pixels of all frames"] if len(self.pixels) else []))


NOTHING = Missing()
MISSING = ("missing_frames", "missing_pixels")
"""Arrays of a product of ours that hold both, where something is missing."""


@runtime_checkable
class Gapped(Protocol):
    """Frames of which something may be missing."""

    @property
    def missing(self) -> Missing:
        """What is."""


def missing_of(frames: object) -> Missing:
    """What is missing of frames; nothing where their reader does not say."""
    return frames.missing if isinstance(frames, Gapped) else NOTHING


def _ranges(numbers: np.ndarray) -> Iterator[tuple[int, int]]:
    """(first, last) of the runs in ascending numbers."""
    for run in np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1):
        yield int(run[0]), int(run[-1])
