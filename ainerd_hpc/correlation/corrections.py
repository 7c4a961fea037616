"""The corrections of counts, as they apply to the pixels of one scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ainerd_hpc.config import CorrectConfig
from ainerd_hpc.correlation.counts.layout import Layout
from ainerd_hpc.correlation.inputs import load_image
from ainerd_hpc.errors import ScanError
from ainerd_hpc.kernels.corrections import correct
from ainerd_hpc.types import Scan


@dataclass(frozen=True, slots=True, eq=False)
class Corrections:
    """A dark, and a flat field whose mean over the valid pixels is 1, of some pixels."""

    dark: np.ndarray
    """(p,)"""
    flat: np.ndarray
    """(p,)"""
    threshold: float | None

    def at(self, numbers: np.ndarray | slice) -> Corrections:
        """The corrections of these pixels alone."""
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
    if not scan.is_corrected:
        return None, np.zeros(len(layout.order), dtype=bool)
    dark, flat = load_image("dark", scan.dark, scan), load_image("flat", scan.flat, scan)
    shape = (scan.height, scan.width)
    dark = (np.zeros(shape) if dark is None else dark).ravel()
    flat = (np.ones(shape) if flat is None else flat).ravel()
    is_unusable = ~(np.isfinite(dark) & np.isfinite(flat) & (flat > 0))[layout.order]
    if is_unusable.all():
        problem = "expected a finite dark and a flat field above 0 on pixels of the partition, found none"
        raise ScanError(scan.source, problem, "correct correct.dark, correct.flat or the partition file")
    flat = flat / flat[layout.order[~is_unusable]].mean()
    return Corrections(dark, flat, config.dark_threshold), is_unusable
