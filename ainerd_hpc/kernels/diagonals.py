"""What is read off a two-time correlation: g2 of a scan and of its windows of age, age cuts, a readable diagonal."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Sums = NDArray[np.float64]
"""(6, window, lag - 1) over the pairs of one lag: n, sum w, sum w d, sum w^2, sum w^2 d, sum w^2 d^2; d = c2 - 1."""

_NUM_SUMS = 6
_ASYMMETRY = 1e-3  # more than any rounding between the triangles of a stored map


def g2_from_c2(c2: Floats, intensity: Floats | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """g2 for every lag from 1 to t - 1, from the diagonals of C2.

    Without intensity the mean of each diagonal (boost_corr, pyCHX, scikit-beam). With it the ratio of sums (dynamix,
    xpcs-correlator), which bright frames weigh more on and which equals the g2 of the counts themselves:

    g2(lag) = sum_t w(t) c2(t, t + lag) / sum_t w(t),  w(t) = I(t) I(t + lag)

    Parameters
    ----------
    c2 : (t, t) array of floats
        Only the upper triangle, without the diagonal, is read. Entries that are not finite are skipped.
    intensity : (t,) array of floats or None
        Mean counts a pixel in each frame, in any unit. Pairs whose w is not positive and finite are skipped.

    Returns
    -------
    g2 : (t - 1,) float64
        NaN where a diagonal has no entry.
    g2_err : (t - 1,) float64
        sqrt(n / (n - 1) sum w^2 (c2 - g2)^2) / sum w over the n entries, the error of a ratio of sums to first order;
        without intensity it is the standard deviation (ddof 1) / sqrt(n). NaN for n = 1. It is true to 1e-8 of g2 - 1.
        Neighbours in C2 share frames and, in slow dynamics, speckle: they are correlated, so the true error is larger.
        The last lags, of few entries, have poor errors.

    References
    ----------
    Cochran, Sampling Techniques, 3rd ed. (1977), section 6.3, for the error of a ratio.
    """
    g2, g2_err = g2_in_windows(c2, 1, intensity)
    return g2[0], g2_err[0]


def g2_in_windows(
    c2: Floats, num_windows: int, intensity: Floats | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`g2_from_c2` in equal windows of age, the squares of C2 along its diagonal (the partials of boost_corr).

    Parameters
    ----------
    c2 : (t, t) array of floats
    num_windows : int
        Window i holds frames [i length, (i + 1) length), length = t // num_windows; frames left over are not used.
    intensity : (t,) array of floats or None

    Returns
    -------
    g2, g2_err : (window, length - 1) float64
        For every lag from 1 on.
    """
    sums = empty_sums(len(c2), num_windows)
    add_tile(c2, 0, 0, sums, intensity)
    return finish(sums)


def empty_sums(num_frames: int, num_windows: int = 1) -> Sums:
    """Sums to be filled by `add_tile`, for the windows of `g2_in_windows` of C2 of num_frames."""
    return np.zeros((_NUM_SUMS, num_windows, max(num_frames // num_windows - 1, 0)))


def add_tile(tile: Floats, t1_start: int, t2_start: int, sums: Sums, intensity: Floats | None = None) -> None:
    """Add one tile of C2 to sums, in place; tiles that together hold every pair once make the g2 of the whole.

    Sums of different tiles, by different workers, may also be added to each other. The same tiles in the same order
    give the same bits; another tiling differs by rounding, 1e-13 or so.

    Parameters
    ----------
    tile : (rows, columns) array of floats
        c2[t1_start : t1_start + rows, t2_start : t2_start + columns]. Entries with t2 <= t1 are not read.
    t1_start, t2_start : int
    sums : (6, window, lag - 1) float64
    intensity : (t,) array of floats or None
        Of all frames of the scan; None for the plain mean.

    Raises
    ------
    ValueError
        The tile reaches beyond the intensity.
    """
    num_frames = max(t1_start + tile.shape[0], t2_start + tile.shape[1])
    weight = np.ones(num_frames) if intensity is None else np.array(intensity, dtype=np.float64)
    if len(weight) < num_frames:
        raise ValueError(f"expected the intensity of at least {num_frames} frames, found {len(weight)}")
    entries = np.ascontiguousarray(tile, dtype=tile.dtype if tile.dtype == np.float32 else np.float64).view()
    entries.flags.writeable = False  # whatever the caller's array is: one kernel to compile for each of two dtypes
    _add(entries, t1_start, t2_start, weight, sums)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _add(tile: Any, t1_start: Any, t2_start: Any, weight: Any, sums: Any) -> None:
    num_windows, length = sums.shape[1], sums.shape[2] + 1
    for row in range(tile.shape[0]):
        t1 = t1_start + row
        window = t1 // length
        if window >= num_windows:
            break
        first = max(t1 + 1, t2_start)
        stop = min((window + 1) * length, t2_start + tile.shape[1])
        if first < stop:
            begin, end = first - t1 - 1, stop - t1 - 1
            entries = tile[row, first - t2_start : stop - t2_start]
            _add_row(
                entries,
                weight[t1] * weight[first:stop],
                sums[0, window, begin:end],
                sums[1, window, begin:end],
                sums[2, window, begin:end],
                sums[3, window, begin:end],
                sums[4, window, begin:end],
                sums[5, window, begin:end],
            )


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _add_row(entries: Any, weight: Any, num: Any, w: Any, wd: Any, ww: Any, wwd: Any, wwdd: Any) -> None:
    """One entry of each of successive lags, without branches: the compiler works on several lags at once."""
    for i in range(entries.size):
        shift = np.float64(entries[i]) - 1
        valid = (abs(shift) < np.inf) & (weight[i] > 0) & (weight[i] < np.inf)
        d = shift if valid else 0.0
        one = weight[i] if valid else 0.0
        num[i] += 1.0 if valid else 0.0
        w[i] += one
        wd[i] += one * d
        ww[i] += one * one
        wwd[i] += one * (one * d)
        wwdd[i] += (one * d) * (one * d)


def finish(sums: Sums) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """g2 and g2_err, (window, lag - 1), of sums; see `g2_from_c2`."""
    num, total, first, squares, cross, second = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = first / total
        scatter = np.maximum(second - 2 * shift * cross + shift**2 * squares, 0)
        return 1 + shift, np.sqrt(scatter * num / np.where(num > 1, num - 1, np.nan)) / total


def age_cut(
    c2: Floats, age: float, half_width: float = 0.5
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """g2 at one age: C2 along the anti-diagonal (t1 + t2) / 2 = age.

    A lag has the entries with |(t1 + t2) / 2 - age| <= half_width. Even lags lie at whole ages, odd ones at half ages:
    with half_width 0 every other lag is missing. With 0.5 and a whole age, even lags have one entry, odd ones two. The
    cut of Konstantinova et al. (2022), t1 + t2 = 2 frame, or + 1 at odd lags, is that of age frame + 0.25 within 0.25.

    Parameters
    ----------
    c2 : (t, t) array of floats
        Only the upper triangle, without the diagonal, is read.
    age, half_width : float
        Frames.

    Returns
    -------
    lag : (lag,) int64
        Those of at least one finite entry.
    g2, g2_err : (lag,) float64
        Mean over the finite entries and its standard error (ddof 1), NaN for one entry; see `g2_from_c2`.
    """
    num_frames = len(c2)
    lag = np.arange(1, num_frames)
    lowest, highest = np.ceil(2 * (age - half_width)), np.floor(2 * (age + half_width))
    sum_of_times = np.arange(max(lowest, 1), min(highest, 2 * num_frames - 3) + 1, dtype=np.int64)
    t1, odd = np.divmod(sum_of_times[:, np.newaxis] - lag, 2)
    inside = (odd == 0) & (t1 >= 0) & (t1 + lag < num_frames)
    rows = np.where(inside, t1, 0)
    g2, g2_err = mean_and_error(np.where(inside, c2[rows, rows + lag], np.nan).astype(np.float64))
    known = np.isfinite(g2)
    return lag[known], g2[known], g2_err[known]


def mean_and_error(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (k,) and its standard error (ddof 1) over the finite entries of each column of values (n, k); else NaN."""
    valid = np.isfinite(values)
    num = valid.sum(axis=0).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(valid, values, 0).sum(axis=0) / num
        squares = np.where(valid, values - mean, 0) ** 2
        return mean, np.sqrt(squares.sum(axis=0) / np.where(num > 1, num - 1, np.nan) / num)


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
