"""The corrections of counts, as they apply to the pixels of one scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ainerd_hpc.config import CorrectConfig
from ainerd_hpc.correlation.inputs import load_image
from ainerd_hpc.correlation.layout import Layout
from ainerd_hpc.errors import ScanError
from ainerd_hpc.kernels.corrections import correct, has_marked, mark
from ainerd_hpc.types import Scan

if TYPE_CHECKING:
    from ainerd_hpc.correlation.gathering import Frames
    from ainerd_hpc.kernels.gather import FrameEvents


@dataclass(frozen=True, slots=True, eq=False)
class Corrections:
    """A dark, and a flat field whose mean over the valid pixels is 1, of some pixels."""

    dark: np.ndarray
    """(p,)"""
    flat: np.ndarray
    """(p,)"""
    threshold: float | None

    def at(self, numbers: np.ndarray | slice) -> Corrections:
        """Of these pixels alone."""
        return Corrections(self.dark[numbers], self.flat[numbers], self.threshold)

    def apply(self, counts: np.ndarray) -> np.ndarray:
        """Corrected counts, float64, of counts (..., p) as measured."""
        return correct(counts, self.dark, self.flat, self.threshold)


def load_corrections(config: CorrectConfig, scan: Scan, layout: Layout) -> tuple[Corrections | None, np.ndarray]:
    """The corrections of all pixels (y x) of a scan's frames, None where there are none; and which pixels (p,) of the
    layout they leave out.

    Raises
    ------
    ScanError
        An image cannot be read, has another shape than the frames, or leaves no pixel.
    """
    if not config.has_images:
        return None, np.zeros(len(layout.order), dtype=bool)
    dark, flat = load_image("dark", config.dark, scan), load_image("flat", config.flat, scan)
    shape = (scan.height, scan.width)
    dark = (np.zeros(shape) if dark is None else dark).ravel()
    flat = (np.ones(shape) if flat is None else flat).ravel()
    is_unusable = ~(np.isfinite(dark) & np.isfinite(flat) & (flat > 0))[layout.order]
    if is_unusable.all():
        problem = "expected a finite dark and a flat field above 0 on pixels of the partition, found none"
        raise ScanError(scan.source, problem, "correct correct.dark, correct.flat or the partition file")
    flat = flat / flat[layout.order[~is_unusable]].mean()
    return Corrections(dark, flat, config.dark_threshold), is_unusable


def marked(frames: Frames, config: CorrectConfig) -> Frames:
    """Frames in which the values that the config calls dead are those of their type."""
    return MarkedFrames(frames, config) if config.sentinels or config.saturation else frames


class MarkedFrames:
    """Frames with more values of dead pixels than that of their type."""

    def __init__(self, frames: Frames, config: CorrectConfig) -> None:
        self._frames, self._sentinels, self._saturation = frames, config.sentinels, config.saturation
        self.shape, self.dtype, self.per_chunk = frames.shape, frames.dtype, frames.per_chunk

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Frames start, start + step, ... below stop, (n, y, x)."""
        return mark(self._frames.read(start, stop, step), self._sentinels, self._saturation)

    def find(self, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray) -> FrameEvents | None:
        """Events of frames [start, stop); None where a pixel is dead, or they have to be read as frames."""
        find: Any = getattr(self._frames, "find", None)
        found: FrameEvents | None = find(start, stop, position, is_dead) if find else None
        if found is None or has_marked(found, len(is_dead), self._sentinels, self._saturation):
            return None
        return found
