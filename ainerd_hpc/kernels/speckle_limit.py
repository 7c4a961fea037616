"""The largest g2 that speckle can give: a contrast of 1, and what chance adds with so many pixels, counts and pairs.

Fully developed, fully coherent speckle has intensities W of exponential distribution, <W^2> / <W>^2 = 2 (Goodman,
Speckle Phenomena in Optics, 2007, section 3.2); whatever is less coherent, or averaged over a pixel, has less. A g2
above 2 by more than chance comes from elsewhere: hot pixels, parasitic light, bins that are not of one intensity. What
chance may add, but once in 10^6 q-bins of contrast 1 (`CHANCE`; at the contrasts of real beams never):

- **pixels**: <W^2> / <W>^2 of N pixels scatters by sqrt(4 / N), and one pixel may be ln(N / CHANCE) times the mean;
- **counts**: S(t) = sum_p I_p(t) I_p(t + lag), the coincidences of a pair of frames, is a Poisson number of expectation
  g2 s(t) s(t + lag) / N, s being the counts of the frame, and g2 = sum_t a(t) S(t) a weighted sum of such numbers. It
  exceeds its expectation by x with a probability below exp(-x^2 / 2 (v + a x / 3)), v its variance and a the largest
  weight (Bernstein; Boucheron, Lugosi, Massart, Concentration Inequalities, 2013, section 2.8). It holds for a handful
  of coincidences, where a normal distribution is no help;
- **pairs** of frames: the standard error of the mean over them, as it is measured.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

CHANCE = 1e-6
"""Probability that speckle of contrast 1 exceeds the limit."""
LARGEST = 2.0
"""g2 of fully coherent speckle."""
_LOG_ODDS = float(-np.log(CHANCE))
_SIGMAS = float(np.sqrt(2 * _LOG_ODDS))
"""Standard errors that a normal number exceeds with less than that probability."""


def largest_g2(photons: Floats, num_pixels: int, lag: int = 1, *, weighted: bool = False) -> float:
    """The g2 that fully coherent speckle does not exceed, as read off C2 at one lag.

    Parameters
    ----------
    photons : (t,) array of floats
        Counts of all pixels of the q-bin in each frame; frames where it is not positive are not used.
    num_pixels : int
    lag : int
        In frames.
    weighted : bool
        g2 is the ratio of sums over the pairs of frames, not the mean of C2 over them.

    Returns
    -------
    float
        NaN without a pair of frames.
    """
    before, after = (np.asarray(part, dtype=np.float64) for part in (photons[:-lag], photons[lag:]))
    pairs = before * after
    pairs = pairs[(before > 0) & (after > 0) & np.isfinite(pairs)]
    if not len(pairs) or num_pixels < 1:
        return float("nan")
    of_speckle = _of_pixels(num_pixels, float(np.nansum(photons)))
    weights = num_pixels / (pairs.sum() if weighted else pairs * len(pairs))
    variance = float(np.sum(weights**2 * of_speckle * pairs / num_pixels))
    step = float(np.max(weights)) * _LOG_ODDS / 3
    return of_speckle + step + float(np.sqrt(step**2 + 2 * variance * _LOG_ODDS))


def _of_pixels(num_pixels: int, photons: float) -> float:
    """The largest <W^2> / <W>^2 of so many pixels: by all of them a little, or by a single one.

    Its variance is 4 / N; the shot noise of the frames, which C2 is divided by, adds 8 / photons.
    """
    brightest = np.log(num_pixels) + _LOG_ODDS
    of_one = (LARGEST + brightest**2 / num_pixels) / (1 + brightest / num_pixels) ** 2
    return max(float(of_one), LARGEST + _SIGMAS * float(np.sqrt(4 / num_pixels + 8 / photons)))


def excess(value: Floats, error: Floats, limit: Floats | float) -> NDArray[np.float64]:
    """How many times a contrast is the largest that can be, g2 - 1 or one that was fitted; above 1 it is not speckle.

    Parameters
    ----------
    value, error : (...) array of floats
        The contrast and its standard error; an error that is not known counts as 0.
    limit : (...) array of floats or float
        Of g2, by `largest_g2`.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(value / (limit - 1 + _SIGMAS * np.nan_to_num(error)), dtype=np.float64)
