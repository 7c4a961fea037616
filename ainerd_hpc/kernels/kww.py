"""Fit of the Kohlrausch-Williams-Watts (stretched or compressed exponential) decay to g2."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import fdtrc

Vector = NDArray[np.float64]

EXPONENT_BOUNDS = (0.2, 2.5)
CONTRAST_BOUNDS = (0.0, 1.5)
BASELINE_BOUNDS = (0.9, 1.1)
TAU_MARGIN = 10.0
"""tau is trusted from the shortest delay / TAU_MARGIN to the longest x TAU_MARGIN."""
_NO_DECAY = 1e-4  # a fit that a constant would match with a larger probability shows no decay
_MAX_EVALUATIONS = 100  # a decay needs 5-20; noise may wander for long
_RESOLUTION = float(np.finfo(np.float32).eps)
_START_EXPONENTS = np.array([0.5, 1.0, 1.5, 2.2])
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
    success: bool


_NAN = float("nan")
_FAILED = KwwFit(_NAN, _NAN, _NAN, _NAN, _NAN, _NAN, _NAN, _NAN, _NAN, False)


def model(delay: Vector, tau: float, contrast: float, kww_exponent: float, baseline: float) -> Vector:
    """g2 = baseline + contrast exp(-2 (delay / tau)^kww_exponent), with delay and tau in the same unit."""
    decay: Vector = baseline + contrast * np.exp(-2 * (delay / tau) ** kww_exponent)
    return decay


def fit(delay: Vector, g2: Vector, g2_err: Vector | None = None) -> KwwFit:
    """Fit `model` to one g2; never raises on bad data.

    Weighted least squares with the bounds kww_exponent 0.2..2.5, contrast 0..1.5, baseline 0.9..1.1 and tau from the
    shortest delay / 10 to the longest x 100; started from the best of a grid of tau and exponents.

    Parameters
    ----------
    delay : (lag,) float64
        Positive, in any unit of time. About 500 delays take no longer to fit when averaged by `log_bin` first.
    g2 : (lag,) float64
    g2_err : (lag,) float64 or None
        Standard errors, taken as absolute and independent; lags share frames and speckle, so the errors of the
        parameters are lower bounds. None: equal weights, errors of the parameters from the scatter of the residuals.

    Returns
    -------
    KwwFit
        Points that are not finite, with a delay of zero or less or an error below zero, are left out; errors below the
        resolution of float32, as of maps without noise, count as that. success is False, and all figures NaN, where
        fewer than 5 points are left; where a constant would do as well (F test, p > 1e-4: frozen, or decayed before the
        first delay); where tau is a guess: beyond 10 x the longest or below 1/10 of the shortest delay; and where
        contrast or exponent end at a bound: the model does not describe such data.
    """
    errors = np.ones(len(g2))
    if g2_err is not None:
        errors = np.where(g2_err >= 0, np.maximum(g2_err, _RESOLUTION * np.abs(g2)), np.nan)
    points = np.array([delay, g2, errors], dtype=np.float64)
    points = points[:, np.isfinite(points).all(axis=0) & (points[0] > 0) & (points[2] > 0)]
    if points.shape[1] < 5:
        return _FAILED
    with np.errstate(all="ignore"):  # absurd g2 and errors may overflow; what comes of it fails the checks
        return _fit_points(points[0], points[1], 1 / points[2], absolute=g2_err is not None)


def _fit_points(delay: Vector, g2: Vector, weight: Vector, absolute: bool) -> KwwFit:
    shortest, longest = delay.min(), delay.max()
    log_tau_bounds = (np.log(shortest / TAU_MARGIN), np.log(longest * 100))
    bounds = np.array([log_tau_bounds, CONTRAST_BOUNDS, EXPONENT_BOUNDS, BASELINE_BOUNDS])
    data, limits = (delay, g2, weight), (bounds[:, 0], bounds[:, 1])
    try:
        solution = least_squares(
            _residuals, _start(*data), _jacobian, bounds=limits, x_scale="jac", max_nfev=_MAX_EVALUATIONS, args=data
        )
    except (ValueError, np.linalg.LinAlgError):  # not finite
        return _FAILED
    tau, chi2 = float(np.exp(solution.x[0])), 2 * float(solution.cost)
    trusted = 1.001 * shortest / TAU_MARGIN < tau < longest * TAU_MARGIN  # 0.1 % off the bound counts as at the bound
    at_bound = bool(solution.active_mask[1:3].any())
    if not (solution.success and trusted and not at_bound and _shows_decay(g2, weight, chi2)):
        return _FAILED
    reduced_chi2 = chi2 / (len(g2) - 4)
    errors = _standard_errors(np.asarray(solution.jac), solution.active_mask == 0)
    errors *= 1 if absolute else np.sqrt(reduced_chi2)
    _, contrast, exponent, baseline = map(float, solution.x)
    log_tau_err, contrast_err, exponent_err, baseline_err = map(float, errors)
    tau_err = tau * log_tau_err
    return KwwFit(
        tau, contrast, exponent, baseline, tau_err, contrast_err, exponent_err, baseline_err, reduced_chi2, True
    )


def _residuals(parameters: Vector, delay: Vector, g2: Vector, weight: Vector) -> Vector:
    log_tau, contrast, exponent, baseline = parameters
    weighted: Vector = weight * (model(delay, np.exp(log_tau), contrast, exponent, baseline) - g2)
    return weighted


def _jacobian(parameters: Vector, delay: Vector, g2: Vector, weight: Vector) -> Vector:
    """Derivatives (lag, 4) of the residuals by ln tau, contrast, exponent, baseline."""
    log_tau, contrast, exponent, _ = parameters
    log_ratio = np.log(delay) - log_tau
    power = np.exp(exponent * log_ratio)
    decay = np.exp(-2 * power)
    slope = 2 * contrast * power * decay
    columns: Vector = np.stack([slope * exponent, decay, -slope * log_ratio, np.ones_like(delay)], axis=1)
    return columns * weight[:, None]


def _start(delay: Vector, g2: Vector, weight: Vector) -> Vector:
    """Best of a grid of tau and exponents, with contrast and baseline of each by linear regression."""
    low, high = np.log(delay.min() / 3), np.log(delay.max() * 3)
    log_taus = np.linspace(low, high, 2 + int(_STARTS_PER_DECADE * (high - low) / np.log(10)))
    grid = np.stack(np.meshgrid(log_taus, _START_EXPONENTS), axis=-1).reshape(-1, 2)
    decay = np.exp(-2 * np.exp(grid[:, 1:] * (np.log(delay) - grid[:, :1])))  # (start, lag)
    share = weight**2 / (weight**2).sum()
    mean_decay, mean_g2 = decay @ share, g2 @ share
    spread = (decay - mean_decay[:, None]) ** 2 @ share
    contrast = np.clip((decay @ (share * (g2 - mean_g2))) / np.maximum(spread, 1e-12), *CONTRAST_BOUNDS)
    baseline = np.clip(mean_g2 - contrast * mean_decay, *BASELINE_BOUNDS)
    misfit = (contrast[:, None] * decay + baseline[:, None] - g2) ** 2 @ share
    best = np.argmin(misfit)
    return np.array([grid[best, 0], contrast[best], grid[best, 1], baseline[best]])


def _shows_decay(g2: Vector, weight: Vector, chi2: float) -> bool:
    """F test of the fit, of sum of squares chi2, against a constant."""
    shift = g2 - np.average(g2, weights=weight**2)
    chi2_constant, degrees = float(((weight * shift) ** 2).sum()), len(g2) - 4
    if chi2_constant <= 1e-18 * float((weight**2).sum()):  # constant to nine digits
        return False
    if chi2 == 0:
        return True
    return bool(fdtrc(3, degrees, max(chi2_constant - chi2, 0) / 3 / (chi2 / degrees)) < _NO_DECAY)


def _standard_errors(jacobian: Vector, free: NDArray[np.bool_]) -> Vector:
    """Roots of the covariance's diagonal over the free parameters; NaN for the others and where it is singular."""
    errors = np.full(len(free), np.nan)
    columns = jacobian[:, free]
    if np.linalg.matrix_rank(columns) == columns.shape[1]:
        errors[free] = np.sqrt(np.diagonal(np.linalg.inv(columns.T @ columns)))
    return errors


def log_bin(lag: NDArray[np.int64], g2: Vector, g2_err: Vector, per_octave: int = 4) -> tuple[Vector, Vector, Vector]:
    """Average g2 of every lag in bins of equal width in log(lag), for fits and pictures.

    Parameters
    ----------
    lag : (lag,) int64
        Positive, in frames.
    g2, g2_err : (lag,) float64
        Lags where either is not finite are left out.
    per_octave : int
        Bins in a factor of two of lag. Short lags stay single.

    Returns
    -------
    lag, g2, g2_err : (bin,) float64
        Plain means of lag and g2 over each bin that holds any lag, ascending; sqrt(sum g2_err^2) / n, as of independent
        lags (those of one C2 are correlated: the true error is larger).
    """
    valid = np.isfinite(g2) & np.isfinite(g2_err)
    octave = np.log2(lag[valid].astype(np.float64))
    _, member, num = np.unique(np.floor(octave * per_octave), return_inverse=True, return_counts=True)

    def total(values: NDArray[np.float64]) -> Vector:
        return np.bincount(member, weights=values, minlength=len(num)).astype(np.float64)

    return total(lag[valid].astype(np.float64)) / num, total(g2[valid]) / num, np.sqrt(total(g2_err[valid] ** 2)) / num
