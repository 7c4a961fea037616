"""What no file holds of a scan: it was not measured, which is another thing than a count of 0."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from ainerd_hpc.errors import ScanError

_MOST_CELLS = 2**28
"""Cells of the grid of all parts; more are damage."""
_MOST_NAMED = 3
"""Ranges of frames that are told one by one."""


class Missing(NamedTuple):
    """Frames and pixels that are not there; others of both are whole."""

    frames: np.ndarray = np.empty(0, dtype=np.int64)
    """(n,) numbers of frames of which something is missing; whatever is read of them is no count."""
    pixels: np.ndarray = np.empty(0, dtype=np.int64)
    """(m,) numbers, row by row, of pixels that are in no frame."""

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """(first, last) of the frames that are missing side by side."""
        runs = np.split(self.frames, np.flatnonzero(np.diff(self.frames) > 1) + 1)
        return [(int(run[0]), int(run[-1])) for run in runs if len(run)]

    def __str__(self) -> str:
        """What is missing, in words; empty where nothing is."""
        named = [f"{first}..{last}" if last > first else f"{first}" for first, last in self.ranges]
        more = ", ..." if len(named) > _MOST_NAMED else ""
        frames = f"{len(self.frames)} frames ({', '.join(named[:_MOST_NAMED])}{more})" if named else ""
        pixels = f"{len(self.pixels)} pixels of all frames" if len(self.pixels) else ""
        return " and ".join(filter(None, (frames, pixels)))

    def told(self, num_frames: int, *, is_cut: bool) -> str:
        """The same, with what was to follow the last of these frames and never came, if the scan is cut."""
        follow = f"all that was to follow frame {num_frames - 1}" if is_cut else ""
        return " and ".join(filter(None, (str(self), follow)))


NOTHING = Missing()
TAKE = "take what is there: source.incomplete: take"
"""The next step where a scan is not finished."""
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

    def spanning(self, start: int, stop: int) -> Box:
        """The same with other ends in the first axis."""
        return Box((start, *self.start[1:]), (stop, *self.stop[1:]))

    def moved(self, origin: Sequence[int], target: Sequence[int]) -> Box:
        """The same where `origin` lies at `target`."""
        steps = [there - here for here, there in zip(origin, target, strict=True)]
        start, stop = (tuple(map(sum, zip(edge, steps, strict=True))) for edge in self)
        return Box(start, stop)


class Presence(NamedTuple):
    """What of the frames of a scan is stored."""

    num_frames: int
    """Frames up to the last of which anything is: those after it may still come."""
    missing: Missing
    """What is missing of these."""


def presence(boxes: Sequence[Box], shape: tuple[int, int, int]) -> Presence:
    """What the stored parts of frames (t, y, x) leave out.

    Pixels that are stored in no frame are missing; of the others, a frame has to have all, or it is missing.

    Raises
    ------
    ValueError
        There are more parts, or more frames without one, than there can be.
    """
    if len(boxes) == 1 and boxes[0].shape == shape:
        return Presence(shape[0], NOTHING)
    corners = np.array([[*box] for box in boxes if min(box.shape) > 0], dtype=np.int64).reshape(-1, 2, 3)
    edges = [np.unique([0, size, *corners[:, :, axis].ravel()]) for axis, size in enumerate(shape)]
    if prod(len(one) for one in edges) > _MOST_CELLS:
        raise ValueError(f"expected frames in some parts, found {len(boxes)} of all sizes")
    is_stored = np.zeros([len(one) - 1 for one in edges], dtype=bool)
    places = np.stack([np.searchsorted(one, corners[:, :, axis]) for axis, one in enumerate(edges)], axis=-1)
    for (t, y, x), (t_stop, y_stop, x_stop) in places:
        is_stored[t:t_stop, y:y_stop, x:x_stop] = True
    is_seen, num_begun = is_stored.any(axis=0), 1 + int(np.max(np.nonzero(is_stored)[0], initial=-1))
    times, unseen = edges[0][: num_begun + 1], np.empty(0, dtype=np.int64)
    is_lost = np.any(~is_stored[:num_begun] & is_seen, axis=(1, 2))
    if np.diff(times)[is_lost].sum() > _MOST_CELLS:
        raise ValueError(f"expected frames, found {times[-1]} of which most are missing")
    lost = [np.arange(*span) for span, one in zip(pairwise(times.tolist()), is_lost.tolist(), strict=True) if one]
    if not is_seen.all() and num_begun:
        rows = np.repeat(~is_seen, np.diff(edges[1]), axis=0)
        unseen = np.flatnonzero(np.repeat(rows, np.diff(edges[2]), axis=1))
    return Presence(int(times[-1]), Missing(np.concatenate([unseen[:0], *lost]), unseen))


def check_written(where: str, found: Presence, total: int) -> ScanError | None:
    """What is wrong where the last of all frames were not written; None where nothing is.

    Raises
    ------
    ScanError
        No frame at all is there as a whole.
    """
    num_whole = found.num_frames - len(found.missing.frames)
    problem = f"expected {total} frames, found {found.num_frames if num_whole else 0} that were written"
    cut = ScanError(where, problem, "wait until it is finished, or copy it again from where it was measured")
    if not num_whole:
        raise cut
    return cut if found.num_frames < total else None
