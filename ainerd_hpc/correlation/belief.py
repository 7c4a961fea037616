"""What of a correlation cannot be believed: q-bins whose C2 is larger than speckle and its counts can make it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ainerd_hpc.config import CorrelateConfig
from ainerd_hpc.kernels.speckle_limit import LARGEST, excess, largest_g2

if TYPE_CHECKING:
    from ainerd_hpc.correlation.product import Arrays

BEYOND_SPECKLE = "beyond_speckle"
"""Name of the array of a product, which is there only where it says something."""
_ATTRIBUTES = {
    "meaning": "contrast over the largest that speckle gives with these pixels, counts and pairs of frames: of lag 1 "
    "or of the fit, in the whole scan or a window of age, the largest; above 1 it is not speckle alone"
}


def of_counts(arrays: Arrays, config: CorrelateConfig) -> Arrays:
    """How far each q-bin lies beyond what speckle can give, (q_bin,), where one does; else nothing."""
    values = {name: stored[0] for name, stored in arrays.items()}
    num_pixels, num_windows = values["num_pixels"], values["g2_window"].shape[1]
    photons = values["intensity"] * (num_pixels[:, np.newaxis] * config.average_frames)
    length = photons.shape[1] // num_windows
    ages = photons[:, : num_windows * length].reshape(-1, num_windows, length)
    is_weighted = config.g2_rule == "ratio"
    whole = _limits(photons[:, np.newaxis], num_pixels, is_weighted)
    aged = _limits(ages, num_pixels, is_weighted)[..., np.newaxis]
    found = (
        excess(values["g2_c2"][:, :1] - 1, values["g2_c2_err"][:, :1], whole),
        excess(values["contrast"][:, np.newaxis], values["contrast_err"][:, np.newaxis], whole),
        excess(values["g2_window"][..., :1] - 1, values["g2_window_err"][..., :1], aged),
        excess(values["contrast_window"][..., np.newaxis], values["contrast_err_window"][..., np.newaxis], aged),
    )
    return _stored(np.concatenate([one.reshape(len(num_pixels), -1) for one in found], axis=1))


def of_maps(g2: np.ndarray, g2_err: np.ndarray) -> Arrays:
    """The same of two-time maps that are taken over, whose pixels and counts nothing tells.

    Parameters
    ----------
    g2, g2_err : (q_bin, lag) array of floats
    """
    known = np.where(np.isfinite(g2_err), g2, np.nan)[:, :1]
    return _stored(excess(known - 1, g2_err[:, :1], LARGEST))


def told(arrays: Arrays) -> str:
    """The q-bins that are beyond it, in words; empty where none is."""
    values = arrays[BEYOND_SPECKLE][0] if BEYOND_SPECKLE in arrays else np.zeros(0)
    bins = np.flatnonzero(values > 1)
    text = ", ".join(f"{q_bin} ({values[q_bin]:.3g} times)" for q_bin in bins[:5])
    more = f" and {len(bins) - 5} more" if len(bins) > 5 else ""
    return f"contrast beyond what speckle can give in q-bin {text}{more}" if len(bins) else ""


def num_beyond(arrays: Arrays) -> dict[str, float]:
    """How many q-bins are beyond it, as a figure of the run; nothing where none is."""
    num = int((arrays[BEYOND_SPECKLE][0] > 1).sum()) if BEYOND_SPECKLE in arrays else 0
    return {"q-bins beyond speckle": float(num)} if num else {}


def _limits(photons: np.ndarray, num_pixels: np.ndarray, is_weighted: bool) -> np.ndarray:
    """(q_bin, window) of the counts (q_bin, window, t)."""
    found = [
        [largest_g2(one, int(num), weighted=is_weighted) for one in ages]
        for ages, num in zip(photons, num_pixels, strict=True)
    ]
    return np.array(found)


def _stored(found: np.ndarray) -> Arrays:
    largest = np.nan_to_num(found, nan=0.0).max(axis=1, initial=0.0)
    return {BEYOND_SPECKLE: (largest.astype(np.float32), ("q_bin",), _ATTRIBUTES)} if (largest > 1).any() else {}
