"""Frames that cannot be read: they are lost, as a detector loses frames, and what is left of the scan is kept."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Protocol

import numpy as np

from ainerd_hpc.config import CorrectConfig
from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.detector_pixels import pixels_of
from ainerd_hpc.formats.missing import missing_of
from ainerd_hpc.formats.reader import Frames, SearchableFrames
from ainerd_hpc.kernels.gather import FrameEvents, dead_value

MOST_DAMAGED = 0.01
"""Share of the frames that may be damaged, where the config does not say: g2 loses no more than one pair of frames in
fifty. Of more it is told, since a better copy may be had."""


class KnownFrames(Frames, Protocol):
    """Frames of which it is known which could not be read."""

    @property
    def damaged(self) -> np.ndarray:
        """(n,) their numbers, ascending, of all frames that were asked for so far."""


class ReadableFrames:
    """Frames of a source file; those that cannot be read have nothing but the value of dead pixels."""

    def __init__(self, frames: Frames, config: CorrectConfig) -> None:
        self._frames, self._config, self._damaged = frames, config, set[int]()
        self.shape, self.dtype, self.per_chunk = frames.shape, frames.dtype, frames.per_chunk
        self.missing, self.pixels = missing_of(frames), pixels_of(frames)
        self.largest_found: float = getattr(frames, "largest_found", inf)

    @property
    def damaged(self) -> np.ndarray:
        return np.array(sorted(self._damaged), dtype=np.int64)

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        try:
            return self._frames.read(start, stop, step)
        except ScanError:
            if self._config.damaged_frames == "refuse":
                raise
        return self._read_each(range(start, min(stop, self.shape[0]), step))

    def find(self, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray) -> FrameEvents | None:
        """The events as the frames give them; None also where a frame cannot be read."""
        try:
            is_searchable = isinstance(self._frames, SearchableFrames)
            return self._frames.find(start, stop, position, is_dead) if is_searchable else None  # type: ignore[attr-defined]
        except ScanError:
            return None

    def _read_each(self, numbers: Sequence[int]) -> np.ndarray:
        """Frame by frame, so that none is lost but those that are damaged."""
        frames = np.full((len(numbers), *self.shape[1:]), dead_value(self.dtype), dtype=self.dtype)
        for frame, number in zip(frames, numbers, strict=True):
            try:
                frame[...] = self._frames.read(number, number + 1)[0]
            except ScanError as error:
                self._leave_out(number, error)
        return frames

    def _leave_out(self, number: int, error: ScanError) -> None:
        self._damaged.add(number)
        if self._config.damaged_frames is None and len(self._damaged) > MOST_DAMAGED * self.shape[0]:
            num, most = self.shape[0], f"{MOST_DAMAGED:.0%}"
            problem = f"expected at most {most} of {num} frames damaged, found more, one of them: {error.problem}"
            raise ScanError(error.where, problem, f"{error.next_step}, or set correct.damaged_frames: leave_out")
