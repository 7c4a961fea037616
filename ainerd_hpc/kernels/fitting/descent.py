"""Descent to the least squares of many KWW decays, one at a time, within bounds; see `kww`.

Compiled, and in scalar loops: array expressions would compile three times as long. Points of a curve are its ln delay,
g2 and weight, (point,) each. Parameters are ln tau, contrast, kww_exponent and baseline. Equations (4, 5) hold J^T J
and, last, J^T r of the weighted residuals r and their derivatives J.

References: Madsen, Nielsen, Tingleff, Methods for non-linear least squares problems (2004), section 3.2, of Levenberg,
Marquardt and the damping.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_MAX_EVALUATIONS = 100  # a decay needs 5-20; noise may wander for long
_CONVERGED = 1e-12  # of chi2, still to be gained by a step: one of 1e-6 standard errors times sqrt(chi2)
_SINGULAR = 1e-13  # 1 - R^2 of a parameter whose effect on g2 the others have as well


def _compiled(function: Any) -> Any:
    """Compiled without the lock of Python; a division by zero is infinite, not an error."""
    return numba.njit(nogil=True, cache=True, error_model="numpy")(function)


@_compiled
def fit_rows(
    rows: Any, log_delay: Any, g2: Any, weight: Any, bounds: Any, starts: Any, decays: Any,
    parameters: Any, covariance: Any, chi2: Any, converged: Any,
) -> None:  # fmt: skip
    """Fit the curves g2, weight (row, point) of equal delays, and fill the rows of the last four arrays.

    Parameters
    ----------
    rows : (row,) int64
        Where in the results each curve belongs.
    log_delay : (point,) float64
    g2, weight : (row, point) float64
    bounds : (2, 4) float64
        Lowest and highest parameters.
    starts : (start, 2) float64
        ln tau and exponent to start from.
    decays : (point, start) float64
        exp(-2 (delay / tau)^exponent) of the starts.
    parameters, covariance : (n, 4), (n, 4, 4) float64
        The covariance is NaN for parameters that end at bounds, and all NaN where it is singular.
    chi2, converged : (n,) float64, bool
    """
    for i in range(rows.size):
        row = rows[i]
        _start(g2[i], weight[i], starts, decays, bounds, parameters[row])
        points = (log_delay, g2[i], weight[i])
        chi2[row], converged[row] = _descend(points, bounds, parameters[row], covariance[row])


@_compiled
def _start(g2: Any, weight: Any, starts: Any, decays: Any, bounds: Any, parameters: Any) -> None:
    """Best of the starts, with contrast and baseline of each by linear regression."""
    total, mean_g2 = 0.0, 0.0
    for lag in range(g2.size):
        total += weight[lag] ** 2
        mean_g2 += weight[lag] ** 2 * g2[lag]
    mean_g2 /= total
    sums = np.zeros((3, len(starts)))
    for lag in range(g2.size):
        share = weight[lag] ** 2 / total
        for start in range(len(starts)):
            weighted = share * decays[lag, start]
            sums[0, start] += weighted
            sums[1, start] += weighted * decays[lag, start]
            sums[2, start] += weighted * (g2[lag] - mean_g2)
    least = np.inf
    for start in range(len(starts)):
        mean, product = sums[0, start], sums[2, start]
        spread = max(sums[1, start] - mean**2, 1e-12)
        contrast = min(max(product / spread, bounds[0, 1]), bounds[1, 1])
        offset = mean_g2 - contrast * mean
        baseline = min(max(offset, bounds[0, 3]), bounds[1, 3])
        misfit = contrast**2 * spread - 2 * contrast * product + (baseline - offset) ** 2  # less the variance of g2
        if misfit < least:
            least = misfit
            parameters[0], parameters[1], parameters[2] = starts[start, 0], contrast, starts[start, 1]
            parameters[3] = baseline


@_compiled
def _descend(points: Any, bounds: Any, parameters: Any, covariance: Any) -> Any:
    """Descent from parameters to a minimum of chi2 within bounds, in place; chi2 and whether it converged.

    A step solves the damped normal equations of the parameters that no bound holds, and is clipped to the bounds.
    """
    now, ahead, trial = np.empty((4, 5)), np.empty((4, 5)), np.empty(4)
    chi2 = _normal_equations(points, parameters, now)
    damping, growth = 1e-3, 2.0
    for _ in range(_MAX_EVALUATIONS):
        if not _step(now, bounds, parameters, damping, covariance, trial):
            break
        gain = _predicted_gain(now, parameters, trial)
        if abs(gain) <= _CONVERGED * chi2:
            _covariance(now, bounds, parameters, covariance)
            return chi2, True
        trial_chi2 = _normal_equations(points, trial, ahead)
        if gain > 0 and trial_chi2 < chi2:
            damping, growth = damping * max(1 / 3, 1 - (2 * (chi2 - trial_chi2) / gain - 1) ** 3), 2.0
            chi2, now, ahead = trial_chi2, ahead, now
            for i in range(4):
                parameters[i] = trial[i]
        else:
            damping, growth = damping * growth, growth * 2
    return chi2, False


@_compiled
def _step(equations: Any, bounds: Any, parameters: Any, damping: Any, inverse: Any, trial: Any) -> Any:
    """Fill trial, the parameters after a step; False where there is none."""
    free = np.empty(4, dtype=np.bool_)
    for i in range(4):
        slope, at_lowest, at_highest = equations[i, 4], parameters[i] <= bounds[0, i], parameters[i] >= bounds[1, i]
        free[i] = equations[i, i] > 0 and not (at_lowest and slope > 0) and not (at_highest and slope < 0)
    if not _invert(equations, free, damping, 0.0, inverse):
        return False
    for i in range(4):
        moved = parameters[i]
        for j in range(4):
            moved -= inverse[i, j] * equations[j, 4]
        trial[i] = min(max(moved, bounds[0, i]), bounds[1, i])
    return True


@_compiled
def _predicted_gain(equations: Any, parameters: Any, trial: Any) -> Any:
    """The amount by which chi2 would fall from parameters to trial if the model were linear."""
    gain = 0.0
    for i in range(4):
        slope = 2 * equations[i, 4]
        for j in range(4):
            slope += equations[i, j] * (trial[j] - parameters[j])
        gain -= slope * (trial[i] - parameters[i])
    return gain


@_compiled
def _normal_equations(points: Any, parameters: Any, equations: Any) -> Any:
    """Fill equations; chi2."""
    log_delay, g2, weight = points
    row, chi2 = np.empty(5), 0.0
    equations[:] = 0.0
    for point in range(g2.size):
        value, row[0], row[1], row[2] = value_and_slopes(log_delay[point], parameters)
        row[3], row[4] = 1.0, value - g2[point]
        chi2 += (weight[point] * row[4]) ** 2
        for i in range(4):
            for j in range(i, 5):
                equations[i, j] += weight[point] ** 2 * row[i] * row[j]
    for i in range(4):
        for j in range(i):
            equations[i, j] = equations[j, i]
    return chi2


@_compiled
def value_and_slopes(log_delay: Any, parameters: Any) -> Any:
    """g2 of the model and its derivatives by ln tau, contrast and exponent."""
    contrast, exponent, baseline = parameters[1], parameters[2], parameters[3]
    log_ratio = log_delay - parameters[0]
    power = np.exp(exponent * log_ratio)
    if power > 350:  # decayed to 1e-304
        return baseline, 0.0, 0.0, 0.0
    decay = np.exp(-2 * power)
    slope = 2 * contrast * power * decay
    return baseline + contrast * decay, slope * exponent, decay, -slope * log_ratio


@_compiled
def _covariance(equations: Any, bounds: Any, parameters: Any, covariance: Any) -> None:
    """Inverse of J^T J over the parameters within bounds; NaN for those at bounds, and for all where it is singular."""
    free = np.empty(4, dtype=np.bool_)
    for i in range(4):
        free[i] = bounds[0, i] < parameters[i] < bounds[1, i]
    if not _invert(equations, free, 0.0, np.nan, covariance):
        covariance[:] = np.nan


@_compiled
def _invert(equations: Any, free: Any, damping: Any, outside: Any, inverse: Any) -> Any:
    """Fill the inverse of J^T J, its diagonal times 1 + damping, over the free parameters, outside for the others.

    By Gauss and Jordan in units that make the diagonal 1; False where it is singular.
    """
    scale = np.zeros(4)
    for i in range(4):
        if free[i]:
            scale[i] = 1 / np.sqrt(equations[i, i])
    for i in range(4):
        for j in range(4):
            inverse[i, j] = 1 + damping if i == j else equations[i, j] * scale[i] * scale[j]
    for k in range(4):
        pivot = inverse[k, k]
        if not pivot > _SINGULAR:
            return False
        inverse[k, k] = 1.0
        for j in range(4):
            inverse[k, j] /= pivot
        for i in range(4):
            factor = inverse[i, k]
            if i != k:
                inverse[i, k] = 0.0
                for j in range(4):
                    inverse[i, j] -= factor * inverse[k, j]
    for i in range(4):
        for j in range(4):
            inverse[i, j] = inverse[i, j] * scale[i] * scale[j] if free[i] and free[j] else outside
    return True
