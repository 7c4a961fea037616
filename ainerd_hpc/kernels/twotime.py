"""Two-time correlation C2 of one q-bin, and what is read off it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Counts = NDArray[np.integer[Any]] | Floats

_PIXELS_PER_BLOCK = 4096  # float64 copies of 4096 pixel series at a time: 32 MB for 1000 frames
_ASYMMETRY = 1e-3  # more than any rounding between the triangles of a stored map


def c2(counts: Counts) -> NDArray[np.float32]:
    """Two-time correlation of the pixels of one q-bin.

    c2(t1, t2) = p sum_p I_p(t1) I_p(t2) / (sum_p I_p(t1) sum_p I_p(t2))

    Products and sums are float64. For integer counts every sum is an integer, below 2^53 for up to two million pixels
    of 65534 counts, hence exact and the same for any number of threads and any blocking. For other counts it is not.

    Parameters
    ----------
    counts : (t, p) array of integers or floats
        Photons, or any non-negative intensity, of the p valid pixels of the q-bin in t frames.

    Returns
    -------
    (t, t) float32
        Baseline 1, exactly symmetric. The diagonal is raw: it holds the shot noise. Rows and columns of frames without
        photons are NaN.

    References
    ----------
    Brown et al., J. Appl. Cryst. 30, 670 (1997); NXxpcs, two_time_corr_func.
    """
    num_frames, num_pixels = counts.shape
    products = np.zeros((num_frames, num_frames))
    for start in range(0, num_pixels, _PIXELS_PER_BLOCK):
        block = np.ascontiguousarray(counts[:, start : start + _PIXELS_PER_BLOCK], dtype=np.float64)
        products += block @ block.T
    totals = counts.sum(axis=1, dtype=np.float64)
    totals[totals == 0] = np.nan
    products *= num_pixels
    products /= np.multiply.outer(totals, totals)
    return products.astype(np.float32)


def intensity(counts: Counts) -> NDArray[np.float64]:
    """Mean counts a pixel in every frame, (t,), of counts (t, p); NaN where there are no pixels."""
    num_frames, num_pixels = counts.shape
    if num_pixels == 0:
        return np.full(num_frames, np.nan)
    mean: NDArray[np.float64] = counts.sum(axis=1, dtype=np.float64) / num_pixels
    return mean


def g2_from_c2(c2: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """g2 as the mean of C2 along each diagonal, for every lag from 1 to t - 1.

    Parameters
    ----------
    c2 : (t, t) array of floats
        Only the upper triangle, without the diagonal, is read. Entries that are not finite are skipped.

    Returns
    -------
    g2 : (t - 1,) float64
        Mean over the n finite entries of the diagonal; NaN where there is none.
    g2_err : (t - 1,) float64
        Standard deviation (ddof 1) / sqrt(n); NaN for n = 1. Neighbours in C2 share frames and, in slow dynamics,
        speckle: they are correlated, so the true error is larger. The last lags, of few entries, have poor errors.
    """
    return mean_and_error(_diagonals(c2))


def mean_and_error(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (k,) and its standard error (ddof 1) over the finite entries of each column of values (n, k); else NaN."""
    valid = np.isfinite(values)
    num = valid.sum(axis=0).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(valid, values, 0).sum(axis=0) / num
        squares = np.where(valid, values - mean, 0) ** 2
        return mean, np.sqrt(squares.sum(axis=0) / np.where(num > 1, num - 1, np.nan) / num)


def _diagonals(c2: Floats) -> NDArray[np.float64]:
    """Column k - 1 holds diagonal k = 1..t-1 of C2 from its first frame on, NaN below its end."""
    num_frames = len(c2)
    rows, columns = np.ogrid[:num_frames, :num_frames]
    upper = np.where(columns > rows, c2, np.nan).astype(np.float64)
    # Read in rows of t + 1, row i is shifted left by i; what it takes from row i + 1 comes from the NaN triangle.
    sheared = np.append(upper.ravel(), np.full(num_frames, np.nan)).reshape(num_frames, num_frames + 1)
    return sheared[:, 1:num_frames]


def fill_diagonal(c2: Floats) -> Floats:
    """Replace the raw diagonal, which holds the shot noise, by its neighbours at lag 1.

    Parameters
    ----------
    c2 : (t, t) array of floats
        Symmetric.

    Returns
    -------
    (t, t) array, same dtype
        A copy; its entry (i, i) is the mean of c2[i - 1, i] and c2[i, i + 1], of the one that is finite where only one
        exists, and NaN where none does.
    """
    beside = np.diagonal(c2, 1)
    pairs = np.full((2, len(c2)), np.nan)
    pairs[0, 1:], pairs[1, :-1] = beside, beside
    valid = np.isfinite(pairs)
    filled = c2.copy()
    with np.errstate(invalid="ignore"):
        np.fill_diagonal(filled, np.where(valid, pairs, 0).sum(axis=0) / valid.sum(axis=0))
    return filled


def complete_triangle(c2: Floats) -> Floats:
    """Symmetric C2 from one that is stored as one triangle, upper or lower, with zeros in the other.

    Parameters
    ----------
    c2 : (t, t) array of floats
        One triangle with its diagonal, or a full map, whose halves may differ by rounding.

    Returns
    -------
    (t, t) array, same dtype
        A copy, exactly symmetric; a full map is averaged with its transpose.

    Raises
    ------
    ValueError
        Both triangles hold data, and they differ by more than 1e-3 or by a NaN.
    """
    upper, lower = np.triu(c2, 1), np.tril(c2, -1)
    if not lower.any():
        half = upper
    elif not upper.any():
        half = lower.T
    else:
        _check_symmetric(c2)
        half = np.triu((c2 + c2.T) / 2, 1)
    full = half + half.T
    np.fill_diagonal(full, np.diagonal(c2))
    return full


def _check_symmetric(c2: Floats) -> None:
    unequal = ~np.isclose(c2, c2.T, rtol=0, atol=_ASYMMETRY, equal_nan=True)
    if unequal.any():
        t1, t2 = np.argwhere(unequal)[0]
        found = f"found {c2[t1, t2]:.6g} at ({t1}, {t2}) and {c2[t2, t1]:.6g} at ({t2}, {t1})"
        raise ValueError(f"expected a symmetric C2, or one triangle of it and zeros in the other, {found}")
