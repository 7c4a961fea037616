"""Fit of the Kohlrausch-Williams-Watts (stretched or compressed exponential) decay to g2."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, fdtrc

from ainerd_hpc.kernels.fitting.descent import fit_rows

Vector = NDArray[np.float64]
Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

EXPONENT_BOUNDS = (0.2, 2.5)
CONTRAST_BOUNDS = (0.0, 1.5)
BASELINE_BOUNDS = (0.9, 1.1)
TAU_MARGIN = 10.0
"""tau is trusted from the shortest delay / TAU_MARGIN to the longest x TAU_MARGIN."""
_NO_DECAY = 1e-4  # a fit that a constant would match with a larger probability shows no decay
_FEWEST = 5  # points; one more than parameters
_RESOLUTION = float(np.finfo(np.float32).eps)
_START_EXPONENTS = (0.5, 1.0, 1.5, 2.2)
_STARTS_PER_DECADE = 6


class KwwFit(NamedTuple):
    """Result of `fit`; every float is NaN where success is False."""

    tau: float
    """Relaxation time, in the unit of the delays."""
    contrast: float
    kww_exponent: float
    baseline: float
    tau_err: float
    """Standard errors from the covariance; NaN for a baseline that ended at its bound."""
    contrast_err: float
    kww_exponent_err: float
    baseline_err: float
    reduced_chi2: float
    """Sum of squared weighted residuals / (points - 4); without errors of g2, the variance of the residuals."""
    chi2_probability: float
    """Probability of a larger chi2 by chance, if model and errors are true: tiny if not. NaN without errors of g2."""
    success: bool


class KwwFits(NamedTuple):
    """Result of `fit_many`: the figures of `KwwFit` as arrays (n,), and the covariance; NaN where success is False."""

    tau: Vector
    contrast: Vector
    kww_exponent: Vector
    baseline: Vector
    tau_err: Vector
    contrast_err: Vector
    kww_exponent_err: Vector
    baseline_err: Vector
    reduced_chi2: Vector
    chi2_probability: Vector
    success: Flags
    covariance: Array
    """(n, 4, 4) of tau, contrast, kww_exponent, baseline."""


class _Solution(NamedTuple):
    parameters: Array
    """(n, 4): ln tau, contrast, kww_exponent, baseline."""
    covariance: Array
    """(n, 4, 4), of the same, for weights that are true."""
    chi2: Vector
    converged: Flags


def model(delay: Vector, tau: float, contrast: float, kww_exponent: float, baseline: float) -> Vector:
    """g2 = baseline + contrast exp(-2 (delay / tau)^kww_exponent), with delay and tau in the same unit."""
    decay: Vector = baseline + contrast * np.exp(-2 * (delay / tau) ** kww_exponent)
    return decay


def fit(delay: Vector, g2: Vector, g2_err: Vector | None = None) -> KwwFit:
    """`fit_many` of one g2 (lag,)."""
    fits = fit_many(delay, g2[np.newaxis], None if g2_err is None else g2_err[np.newaxis])
    return KwwFit._make(figure.item() for figure in fits[: len(KwwFit._fields)])


def fit_many(delay: Array, g2: Array, g2_err: Array | None = None) -> KwwFits:
    """Fit `model` to every g2; never raises on bad data.

    Weighted least squares with the bounds kww_exponent 0.2..2.5, contrast 0..1.5, baseline 0.9..1.1 and tau from the
    shortest delay / 10 to the longest x 100; started from the best of a grid of tau and exponents, then Levenberg and
    Marquardt's descent. About 500 delays fit ten times faster when averaged by `log_bin` first, which changes
    tau by a few parts in a thousand.

    Parameters
    ----------
    delay : (lag,) or (n, lag) float64
        Positive, in any unit of time. Curves with the same valid delays share the grid of starts.
    g2 : (n, lag) float64
    g2_err : (n, lag) float64 or None
        Standard errors, taken as absolute and independent; lags share frames and speckle, so the errors of the
        parameters are lower bounds. None: equal weights, errors of the parameters from the scatter of the residuals.

    Returns
    -------
    KwwFits
        Points that are not finite, with a delay of zero or less or an error below zero, are left out; errors below the
        resolution of float32, as of maps without noise, count as that. success is False, and all figures NaN, where
        fewer than 5 points are left; where a constant would do as well (F test, p > 1e-4: frozen, or decayed before the
        first delay); where tau is a guess: beyond 10 x the longest or below 1/10 of the shortest delay; where contrast
        or exponent end at a bound: the model does not describe such data; and where 100 steps reach no minimum.
    """
    g2 = np.asarray(g2, dtype=np.float64)
    delay = np.broadcast_to(delay, g2.shape)
    with np.errstate(all="ignore"):  # absurd g2 and errors may overflow; what comes of it fails the checks
        weight = _weights(delay, g2, g2_err)
        used = weight > 0
        log_delay = np.log(np.where(used, delay, 1.0))
        solution = _solve(log_delay, g2, weight)
        success = _describes(solution, log_delay, g2, weight)
        return _figures(solution, success, used.sum(axis=1), g2_err is not None)


def _weights(delay: Array, g2: Array, g2_err: Array | None) -> Array:
    """1 / error of every point, 0 for those to be left out."""
    errors = np.ones(g2.shape) if g2_err is None else np.maximum(g2_err, _RESOLUTION * np.abs(g2))
    valid = np.isfinite(delay) & np.isfinite(g2) & np.isfinite(errors) & (delay > 0) & (errors > 0)
    if g2_err is not None:
        valid &= g2_err >= 0
    return np.where(valid, 1 / errors, 0.0)


def _solve(log_delay: Array, g2: Array, weight: Array) -> _Solution:
    """Curve by curve in groups of equal valid delays; NaN where fewer than 5 points are left."""
    num = len(g2)
    solution = _Solution(
        np.full((num, 4), np.nan), np.full((num, 4, 4), np.nan), np.full(num, np.nan), np.zeros(num, dtype=np.bool_)
    )
    used = weight > 0
    groups, group_of = np.unique(np.where(used, log_delay, np.inf), axis=0, return_inverse=True)
    for number, delays in enumerate(groups):
        rows, columns = np.flatnonzero(group_of.reshape(-1) == number), np.flatnonzero(delays < np.inf)
        if len(columns) >= _FEWEST:
            points = delays[columns], g2[np.ix_(rows, columns)], weight[np.ix_(rows, columns)]
            fit_rows(rows, *map(np.ascontiguousarray, points), _bounds(points[0]), *_grid(points[0]), *solution)
    return solution


def _bounds(log_delay: Vector) -> Array:
    """(2, 4): lowest and highest ln tau, contrast, exponent, baseline."""
    log_tau = log_delay.min() - np.log(TAU_MARGIN), log_delay.max() + np.log(100)
    return np.array([log_tau, CONTRAST_BOUNDS, EXPONENT_BOUNDS, BASELINE_BOUNDS]).T.copy()


def _grid(log_delay: Vector) -> tuple[Array, Array]:
    """ln tau and exponent (start, 2), from a third of the shortest to three times the longest delay, and their decays
    (lag, start)."""
    low, high = log_delay.min() - np.log(3), log_delay.max() + np.log(3)
    log_taus = np.linspace(low, high, 2 + int(_STARTS_PER_DECADE * (high - low) / np.log(10)))
    starts = np.stack(np.meshgrid(log_taus, _START_EXPONENTS), axis=-1).reshape(-1, 2)
    return starts, np.exp(-2 * np.exp(starts[:, 1] * (log_delay[:, np.newaxis] - starts[:, 0])))


def _describes(solution: _Solution, log_delay: Array, g2: Array, weight: Array) -> Flags:
    """(n,) True where the model describes the data; see `fit_many`."""
    used = weight > 0
    shortest = np.where(used, log_delay, np.inf).min(axis=1, initial=np.inf)
    longest = np.where(used, log_delay, -np.inf).max(axis=1, initial=-np.inf)
    log_tau, contrast, exponent, _ = solution.parameters.T
    margin = np.log(TAU_MARGIN)
    trusted = _between(log_tau, shortest - margin + 1e-3, longest + margin)  # 0.1 % off the bound counts as at it
    free = _between(contrast, *CONTRAST_BOUNDS) & _between(exponent, *EXPONENT_BOUNDS)
    return solution.converged & trusted & free & _shows_decay(np.where(used, g2, 0), weight, solution.chi2)


def _between(values: Vector, low: float | Vector, high: float | Vector) -> Flags:
    between: Flags = (values > low) & (values < high)
    return between


def _shows_decay(g2: Array, weight: Array, chi2: Vector) -> Flags:
    """F test of fits, of sums of squares chi2, against a constant."""
    squares, degrees = weight**2, (weight > 0).sum(axis=1) - 4
    total = squares.sum(axis=1)
    mean = (squares * g2).sum(axis=1) / total
    chi2_constant = (squares * (g2 - mean[:, np.newaxis]) ** 2).sum(axis=1)
    varies = chi2_constant > 1e-18 * total  # in the first nine digits
    chance = fdtrc(3, degrees, np.maximum(chi2_constant - chi2, 0) / 3 / (chi2 / degrees))
    decays: Flags = varies & (chance < _NO_DECAY)
    return decays


def _figures(solution: _Solution, success: Flags, num_points: NDArray[np.int64], absolute: bool) -> KwwFits:
    degrees = num_points - 4
    reduced_chi2 = np.where(success, solution.chi2 / degrees, np.nan)
    probability = np.where(success & absolute, chdtrc(degrees, solution.chi2), np.nan)
    parameters = np.where(success[:, np.newaxis], solution.parameters, np.nan)
    parameters[:, 0] = np.exp(parameters[:, 0])
    scale = np.ones_like(parameters)
    scale[:, 0] = parameters[:, 0]  # d tau = tau d ln tau
    scale *= 1 if absolute else np.sqrt(reduced_chi2)[:, np.newaxis]
    covariance = solution.covariance * scale[:, :, np.newaxis] * scale[:, np.newaxis, :]
    covariance = (covariance + covariance.swapaxes(1, 2)) / 2  # symmetric to the last bit
    covariance[~success] = np.nan
    errors = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    return KwwFits._make((*parameters.T, *errors.T, reduced_chi2, probability, success, covariance))


def log_bin(lag: NDArray[np.int64], g2: Array, g2_err: Array, per_octave: int = 4) -> tuple[Array, Array, Array]:
    """Average g2 of every lag in bins of equal width in log(lag), for fits and pictures.

    Parameters
    ----------
    lag : (lag,) int64
        Positive, in frames.
    g2, g2_err : (lag,) or (n, lag) float64
        Lags where either is not finite are left out, curve by curve.
    per_octave : int
        Bins in a factor of two of lag. Short lags stay single.

    Returns
    -------
    lag, g2, g2_err : (bin,) or (n, bin) float64
        Plain means of lag and g2 over each bin, ascending; sqrt(sum g2_err^2) / n, as of independent lags (those of one
        C2 are correlated: the true error is larger). A bin without lags is NaN in one of n curves, and absent from one
        alone.
    """
    octave = np.floor(np.log2(lag.astype(np.float64)) * per_octave)
    bins, member = np.unique(octave, return_inverse=True)
    curves, errors = np.atleast_2d(g2, g2_err)
    valid = np.isfinite(curves) & np.isfinite(errors)
    cell = np.arange(len(curves))[:, np.newaxis] * len(bins) + member

    def total(values: Array) -> Array:
        sums = np.bincount(cell[valid], weights=values[valid], minlength=len(curves) * len(bins))
        return sums.reshape(len(curves), len(bins)).astype(np.float64)

    lags = np.broadcast_to(lag.astype(np.float64), curves.shape)
    with np.errstate(invalid="ignore"):
        num = total(np.ones(curves.shape))
        binned = total(lags) / num, total(curves) / num, np.sqrt(total(errors**2)) / num
    if g2.ndim == 2:
        return binned
    filled = num[0] > 0
    return binned[0][0, filled], binned[1][0, filled], binned[2][0, filled]
