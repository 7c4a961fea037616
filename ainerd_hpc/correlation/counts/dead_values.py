"""Frames in which more values than that of their type mean a dead pixel, and pixels may be masked by their own file."""

from __future__ import annotations

from math import inf

import numpy as np

from ainerd_hpc.config import CorrectConfig
from ainerd_hpc.correlation.counts.damaged_frames import KnownFrames
from ainerd_hpc.formats.detector_pixels import Span, pixels_of
from ainerd_hpc.formats.missing import missing_of
from ainerd_hpc.formats.reader import SearchableFrames
from ainerd_hpc.kernels.corrections import has_marked, mark
from ainerd_hpc.kernels.gather import FrameEvents, sentinel


def marked(frames: KnownFrames, config: CorrectConfig, *, with_mask: bool = False) -> KnownFrames:
    """Frames in which the values that the config, or the file itself, calls no counts are those of their type.

    `with_mask`: so are all values of the pixels that the file masks.
    """
    pixels = pixels_of(frames)
    no_counts = (*_spans(config), *pixels.no_counts)
    is_masked = pixels.is_masked if with_mask else None
    return frames if not no_counts and is_masked is None else MarkedFrames(frames, no_counts, is_masked)


def _spans(config: CorrectConfig) -> list[Span]:
    saturated = [] if config.saturation is None else [(config.saturation, inf)]
    return [*((value, value) for value in config.sentinels), *saturated]


class MarkedFrames:
    """Frames with more values of dead pixels than that of their type, and pixels that are dead throughout."""

    def __init__(self, frames: KnownFrames, no_counts: tuple[Span, ...], is_masked: np.ndarray | None) -> None:
        self._frames, self._no_counts, self._is_masked = frames, no_counts, is_masked
        self.shape, self.dtype, self.per_chunk = frames.shape, frames.dtype, frames.per_chunk
        self.missing, self.pixels = missing_of(frames), pixels_of(frames)

    @property
    def damaged(self) -> np.ndarray:
        return self._frames.damaged

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        frames = mark(self._frames.read(start, stop, step), self._no_counts)
        if self._is_masked is None:
            return frames
        dead = np.nan if self.dtype.kind == "f" else sentinel(self.dtype)
        return np.where(self._is_masked.reshape(self.shape[1:]), self.dtype.type(dead), frames)

    def find(self, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray) -> FrameEvents | None:
        """The events as the frames give them; None also where a count is none."""
        if not isinstance(self._frames, SearchableFrames):
            return None
        if self._is_masked is not None:
            wanted = position[self._is_masked]
            is_dead[wanted[wanted >= 0]] = True
            position = np.where(self._is_masked, np.int32(-1), position)
        found = self._frames.find(start, stop, position, is_dead)
        if found is None or has_marked(found, len(is_dead), self._no_counts):
            return None
        return found
