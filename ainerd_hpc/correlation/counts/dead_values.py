"""Frames in which more values than that of their type mean a dead pixel, as their file or the config says."""

from __future__ import annotations

from math import inf

import numpy as np

from ainerd_hpc.config import CorrectConfig
from ainerd_hpc.correlation.counts.damaged_frames import KnownFrames
from ainerd_hpc.formats.detector_pixels import pixels_of
from ainerd_hpc.formats.missing import missing_of
from ainerd_hpc.formats.reader import SearchableFrames
from ainerd_hpc.kernels.corrections import has_marked, mark
from ainerd_hpc.kernels.gather import FrameEvents
from ainerd_hpc.kernels.no_counts import Span

_FILLED: tuple[Span, ...] = ((2**31 - 1, 2**31), (2**32 - 2, 2**32))
"""Gaps of integers of four bytes that were made floats, where these round to a power of two."""


def marked(frames: KnownFrames, config: CorrectConfig) -> KnownFrames:
    """Frames in which the values that the config, or the file itself, calls no counts are those of their type."""
    filled = _FILLED if frames.dtype.kind == "f" else ()
    no_counts = (*filled, *_spans(config), *pixels_of(frames).no_counts)
    return MarkedFrames(frames, no_counts) if no_counts else frames


def _spans(config: CorrectConfig) -> list[Span]:
    saturated = [] if config.saturation is None else [(config.saturation, inf)]
    return [*((value, value) for value in config.sentinels), *saturated]


class MarkedFrames:
    """Frames with more values of dead pixels than that of their type."""

    def __init__(self, frames: KnownFrames, no_counts: tuple[Span, ...]) -> None:
        self._frames, self._no_counts = frames, no_counts
        self._is_below = getattr(frames, "largest_found", inf) < min(first for first, _ in no_counts)
        self.shape, self.dtype, self.per_chunk = frames.shape, frames.dtype, frames.per_chunk
        self.missing, self.pixels = missing_of(frames), pixels_of(frames)

    @property
    def damaged(self) -> np.ndarray:
        return self._frames.damaged

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        return mark(self._frames.read(start, stop, step), self._no_counts)

    def find(self, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray) -> FrameEvents | None:
        """The events as the frames give them; None also where a count is none."""
        if not isinstance(self._frames, SearchableFrames):
            return None
        found = self._frames.find(start, stop, position, is_dead)
        is_good = self._is_below or found is None or not has_marked(found, len(is_dead), self._no_counts)
        return found if is_good else None
