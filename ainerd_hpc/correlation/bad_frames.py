"""Which frames are left out, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ainerd_hpc.correlation.inputs import Monitor

REASONS = ("good", "listed", "monitor", "dark", "outlier", "missing", "damaged")
"""Why a frame is bad, by number: named in correlate.bad_frames; no beam by its monitor; without a photon, which is no
chance; by its counts (correct.bad_frames); in no file, as a whole or in part; it cannot be read
(correct.damaged_frames)."""
_LISTED, _MONITOR, _DARK, _OUTLIER, _MISSING, DAMAGED = range(1, 7)
_ALWAYS_NAMED = 5
"""Reasons that every product names; others only where they occur, so that products of sound scans stay as they were."""
_BY_CHANCE = 1e-3
"""Dark frames that chance may be expected to give in a scan, for them to be bad."""


class FrameRules(NamedTuple):
    """What makes a frame bad."""

    listed: Sequence[int] = ()
    monitor: Monitor | None = None
    """Where frames are divided by it."""
    threshold: float | None = None
    """The threshold of `kernels.corrections.outlying_frames`."""
    missing: Sequence[int] = ()
    damaged: Sequence[int] = ()

    def reasons(self, photons: np.ndarray) -> np.ndarray:
        """(t,) uint8, index into `REASONS`, from the counts of each frame on all living pixels.

        A frame without a photon is bad where chance would give less than a thousandth of one such frame in the scan.
        """
        from ainerd_hpc.kernels.corrections import outlying_frames

        reason = np.zeros(len(photons), dtype=np.uint8)
        if self.monitor is not None:
            reason[~self.monitor.is_usable] = _MONITOR
        reason[list(self.listed)] = _LISTED
        reason[list(self.missing)] = _MISSING
        reason[list(self.damaged)] = DAMAGED
        lit = photons[reason == 0]
        if len(lit) and len(lit) * np.exp(-float(lit.mean())) < _BY_CHANCE:
            reason[(reason == 0) & ~(photons > 0)] = _DARK
        if self.threshold is not None:
            left = np.flatnonzero(reason == 0)
            reason[left[outlying_frames(photons[left], self.threshold)]] = _OUTLIER
        return reason


def meanings(reasons: np.ndarray) -> list[str]:
    """Names of the reasons (t,) of a scan, by number."""
    return list(REASONS[: max(_ALWAYS_NAMED, int(reasons.max(initial=0)) + 1)])
