"""Frames in which more values than that of their type mean a dead pixel."""

from __future__ import annotations

import numpy as np

from ainerd_hpc.config import CorrectConfig
from ainerd_hpc.correlation.counts.damaged_frames import KnownFrames
from ainerd_hpc.formats.missing import missing_of
from ainerd_hpc.formats.reader import SearchableFrames
from ainerd_hpc.kernels.corrections import has_marked, mark
from ainerd_hpc.kernels.gather import FrameEvents


def marked(frames: KnownFrames, config: CorrectConfig) -> KnownFrames:
    """Frames in which the values that the config calls dead are those of their type."""
    return MarkedFrames(frames, config) if config.sentinels or config.saturation else frames


class MarkedFrames:
    """Frames with more values of dead pixels than that of their type."""

    def __init__(self, frames: KnownFrames, config: CorrectConfig) -> None:
        self._frames, self._sentinels, self._saturation = frames, config.sentinels, config.saturation
        self.shape, self.dtype, self.per_chunk = frames.shape, frames.dtype, frames.per_chunk
        self.missing = missing_of(frames)

    @property
    def damaged(self) -> np.ndarray:
        return self._frames.damaged

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        return mark(self._frames.read(start, stop, step), self._sentinels, self._saturation)

    def find(self, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray) -> FrameEvents | None:
        """The events as the frames give them; None also where a pixel is dead."""
        if not isinstance(self._frames, SearchableFrames):
            return None
        found = self._frames.find(start, stop, position, is_dead)
        if found is None or has_marked(found, len(is_dead), self._sentinels, self._saturation):
            return None
        return found
