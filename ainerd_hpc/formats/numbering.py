"""Frames where they were measured: by the numbers that a file gives them, or else by its clock.

Numbers may begin anywhere. Those that are all the same say nothing; a counter that starts again from its first number
goes on counting. Frames stand in the order of their numbers. What lacks between is missing, and so is a number that
several frames have, for nothing tells which of them is meant. Without numbers, frames stand by their clock where it
goes in steps of one period each, but for gaps; else they stand as they are stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf, isnan, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.detector_pixels import pixels_of
from ainerd_hpc.formats.missing import Missing, missing_of

if TYPE_CHECKING:
    from ainerd_hpc.formats.reader import Frames
    from ainerd_hpc.kernels.gather import FrameEvents

_JITTER = 0.01
"""How far frames may come off their time, as a share of the scan, for the clock to be believed."""
_RESOLUTION = 0.005
"""Time of the computer that wrote a scan between its first and its last frame, s, is not known better."""
_OFF_STEP = 0.25
"""How far a step of the clock may be off whole periods, in periods, for frames to be placed by it."""
_LARGEST = 2**48
"""Larger numbers count no frames."""
_MOST_GAPS = 4
"""Frames of a scan for each that is stored: where more lack, its stretches are scans of their own."""


@dataclass(frozen=True, slots=True, eq=False)
class Numbering:
    """Where the stored frames of a scan stand."""

    num_frames: int
    """Frames of the scan, with those that are missing."""
    places: np.ndarray
    """(n,) int64, number in the scan of each stored frame; -1: left out."""
    notes: tuple[str, ...] = ()
    period: float = nan
    """Frame period by the clock, s."""

    @property
    def is_as_stored(self) -> bool:
        """Whether all frames stand as they are stored."""
        return np.array_equal(self.places, np.arange(self.num_frames))

    @property
    def missing(self) -> Missing:
        """What is missing of the scan."""
        return Missing(np.flatnonzero(self.stored < 0))

    @property
    def stored(self) -> np.ndarray:
        """(t,) int64, which of the stored frames each frame of the scan is; -1: missing."""
        stored = np.full(self.num_frames, -1, dtype=np.int64)
        kept = np.flatnonzero(self.places >= 0)
        stored[self.places[kept]] = kept
        return stored


def number_frames(
    num: int,
    where: str,
    numbers: np.ndarray | None = None,
    times: np.ndarray | None = None,
    count_time: float = nan,
) -> Numbering:
    """Where so many stored frames stand.

    Parameters
    ----------
    where : str
        The file, for errors.
    numbers : ndarray of int, (n,), optional
        Their numbers, as the file gives them.
    times : ndarray of float, (n,), optional
        When they were measured, by the clock of the file, s.
    count_time : float
        Exposure, s: no frame period is shorter.

    Raises
    ------
    ScanError
        Far more frames are missing than there are.
    """
    said, notes = _said(numbers)
    clock = None if times is None or not np.isfinite(times).all() or np.ptp(times) == 0.0 else times
    ticks = None if clock is None else _ticks(clock)
    if said is not None:
        found = _placed(said, where, "numbers")
    elif ticks is not None:
        found = _placed(ticks, where, "clock")
    else:
        found = Numbering(num, np.arange(num))
    if ticks is not None and (off := np.flatnonzero((found.places >= 0) & (found.places != ticks))).size:
        first, clock = found.places[off[0]], None
        notes += (f"its clock puts frames elsewhere than their numbers (first: {first}): it is not used",)
    period, more = _period(clock, found, count_time)
    return Numbering(found.num_frames, found.places, (*notes, *found.notes, *more), period)


def _said(numbers: np.ndarray | None) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The numbers of frames with what is to be told of them; None where they say nothing."""
    if numbers is None or len(numbers) < 2 or (numbers == numbers[0]).all():
        return None, ()
    low, high = int(numbers.min()), int(numbers.max())
    if not 0 <= low <= high <= _LARGEST:
        return None, (f"its frames have numbers from {low} to {high}: these are not used",)
    numbers = numbers.astype(np.int64)
    steps = np.diff(numbers)
    counted = numbers + (high - low + 1) * np.append(0, np.cumsum(steps == low - high))
    if numbers[0] == low and (steps < 0).any() and (np.diff(counted) > 0).all():
        return counted, (f"its counter of frames starts again after {high}: taken as counting on",)
    if 2 * len(found := np.unique(numbers)) < len(numbers):
        return None, (f"its {len(numbers)} frames have {len(found)} numbers: these are not used",)
    return numbers, ()


def _ticks(times: np.ndarray) -> np.ndarray | None:
    """Numbers of frames, from 0, by a clock that goes in whole periods from frame to frame; None where it does not."""
    order = np.argsort(times, kind="stable")
    steps = np.diff(times[order])
    periods = steps / max(float(np.median(steps)), np.finfo(float).tiny)
    whole = np.rint(periods)
    is_whole = (whole >= 1).all() and (abs(periods - whole) <= _OFF_STEP).all()
    if len(times) < 3 or not is_whole or whole.sum() >= _MOST_GAPS * len(times):
        return None
    numbers = np.empty(len(times), dtype=np.int64)
    numbers[order] = np.append(0, np.cumsum(whole))
    return numbers


def _placed(numbers: np.ndarray, where: str, origin: str) -> Numbering:
    """The places of frames with these numbers, which come from there."""
    known, inverse, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    step = int(np.gcd.reduce(np.diff(known)))
    places = (numbers - known[0]) // step
    num_frames, is_single = int((known[-1] - known[0]) // step) + 1, (counts == 1)[inverse]
    if num_frames > _MOST_GAPS * len(numbers):
        problem = f"expected frames one after another, found {len(numbers)} with numbers from {known[0]} to {known[-1]}"
        raise ScanError(where, problem, "write its stretches as scans of their own")
    notes = [f"its frame numbers go up by {step}: taken for frames one after another"] if step > 1 else []
    if (falls := np.flatnonzero(np.diff(places) < 0)).size:
        notes.append(f"not stored in the order of its {origin} (first: frame {falls[0] + 1} of the file): put in order")
    if len(repeated := known[counts > 1]):
        notes.append(f"{len(repeated)} numbers belong to several frames each (first: {repeated[0]}): left out")
    return Numbering(num_frames, np.where(is_single, places, -1), tuple(notes))


def _period(times: np.ndarray | None, found: Numbering, count_time: float) -> tuple[float, tuple[str, ...]]:
    """Mean step of the clock from the first frame to the last, s; NaN, with a line, where it cannot be the period."""
    order = found.stored[found.stored >= 0]
    if times is None or len(order) < 2:
        return nan, ()
    place, elapsed = found.places[order], times[order] - times[order[0]]
    period = float(elapsed[-1] / (place[-1] - place[0]))
    slack = _JITTER * abs(period) * place[-1] + abs(period)
    if not (np.diff(elapsed) >= 0).all() or (abs(elapsed - (place - place[0]) * period) > slack).any():
        return nan, ("its clock does not go evenly from frame to frame: not used",)
    if count_time > period * (1.0 + _JITTER):
        return nan, (f"its clock gives a period of {period:.6g} s, with an exposure of {count_time:.6g} s: not used",)
    return period, ()


def numbered(description: Description, numbering: Numbering) -> Description:
    """What a reader tells of frames as they are stored, as they stand; with the period of the clock if it has none."""
    known = description.metadata
    return replace(
        description,
        num_frames=numbering.num_frames,
        metadata=known.or_else(Metadata(frame_time=numbering.period)),
        missing="; ".join(filter(None, (description.missing, str(numbering.missing)))),
        is_placed=not numbering.is_as_stored,
        notes=numbering.notes + contradiction(known.frame_time, numbering.period, numbering.num_frames),
    )


def contradiction(taken: float, other: float, num_frames: int) -> tuple[str, ...]:
    """A line where two frame periods, s, are more apart in a scan than clocks may be; NaN is not known."""
    slack = _JITTER * taken + _RESOLUTION / num_frames
    if isnan(taken) or isnan(other) or abs(taken - other) <= slack:
        return ()
    return (f"frame period {taken:.6g} s by its metadata, which is taken, {other:.6g} s by the frames themselves",)


def place_frames(frames: Frames, numbering: Numbering) -> Frames:
    """The frames of a scan where they were measured, out of those that are stored."""
    from ainerd_hpc.formats.reader import SearchableFrames

    if numbering.is_as_stored:
        return frames
    is_searchable = isinstance(frames, SearchableFrames)
    return PlacedEvents(frames, numbering.stored) if is_searchable else PlacedFrames(frames, numbering.stored)


class PlacedFrames:
    """Frames in another order than they are stored in; those that are missing are 0.

    Parameters
    ----------
    frames : Frames
        As they are stored.
    stored : ndarray of int64, (t,)
        As of `Numbering.stored`.
    """

    def __init__(self, frames: Any, stored: np.ndarray) -> None:
        self._frames, self._stored = frames, stored
        self.shape, self.dtype = (len(stored), *frames.shape[1:]), frames.dtype
        self.per_chunk = frames.per_chunk
        inner, self.pixels = missing_of(frames), pixels_of(frames)
        self.largest_found: float = getattr(frames, "largest_found", inf)
        is_missing = (stored < 0) | np.isin(stored, inner.frames)
        self.missing = Missing(np.flatnonzero(is_missing), inner.pixels)

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        wanted = self._stored[start:stop:step]
        block: np.ndarray = np.zeros((len(wanted), *self.shape[1:]), dtype=self.dtype)
        for first, last in _stretches(wanted, step):
            block[first:last] = self._frames.read(int(wanted[first]), int(wanted[last - 1]) + 1, step)
        return block


class PlacedEvents(PlacedFrames):
    """The same of frames whose events can be had without making the frames."""

    def find(self, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray) -> FrameEvents | None:
        from ainerd_hpc.kernels.gather import FrameEvents

        wanted = self._stored[start:stop]
        sizes = np.zeros(len(wanted), dtype=np.int64)
        pixel: list[np.ndarray] = [np.empty(0, np.int32)]
        count: list[np.ndarray] = [np.empty(0, np.uint8)]
        for first, last in _stretches(wanted, 1):
            found = self._frames.find(int(wanted[first]), int(wanted[last - 1]) + 1, position, is_dead)
            if found is None:
                return None
            sizes[first:last] = np.diff(found.stops, prepend=0)
            pixel.append(found.pixel)
            count.append(found.count)
        return FrameEvents(np.concatenate(pixel), np.concatenate(count), np.cumsum(sizes))


def _stretches(wanted: np.ndarray, step: int) -> list[tuple[int, int]]:
    """Ranges [first, last) of frames that are there and stored one after another, `step` apart."""
    edges = np.flatnonzero((np.diff(wanted) != step) | (wanted[1:] < 0) | (wanted[:-1] < 0)) + 1
    bounds = pairwise([0, *edges.tolist(), len(wanted)])
    return [(first, last) for first, last in bounds if first < last and wanted[first] >= 0]
