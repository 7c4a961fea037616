"""Windows of age: where they begin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def window_starts(num_frames: int, length: int, overlap: float) -> NDArray[np.int64]:
    """First frames of the windows along the diagonal of C2.

    Parameters
    ----------
    num_frames, length : int
        Of the scan and of a window. Frames after the last whole window are left out.
    overlap : float
        Share of a window, 0 <= overlap < 1, in common with the next, rounded so that the step is one frame or more.

    Returns
    -------
    (window,) int64
        Window i holds the frames starts[i] .. starts[i] + length - 1. Empty where the scan is shorter than a window.
    """
    step = max(1, round(length * (1 - overlap)))
    return np.arange(0, max(0, num_frames - length + 1), step, dtype=np.int64)
