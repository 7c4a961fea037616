"""Relaxation time against q as a power law: exponent 2 for diffusion, 1 for ballistic motion and stress relaxation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

_FEWEST = 3  # points; one more than parameters
_RESOLUTION = float(np.finfo(np.float32).eps)


class PowerLaw(NamedTuple):
    """tau(q) = prefactor q^(-exponent), of `fit`; every float is NaN where success is False."""

    prefactor: float
    """tau at q = 1, in the unit of tau."""
    exponent: float
    prefactor_err: float
    exponent_err: float
    covariance: float
    """Covariance of prefactor and exponent, which are strongly correlated unless q = 1 lies amid the points."""
    reduced_chi2: float
    """Sum of squared weighted residuals of ln tau / (points - 2); without errors of tau, their variance."""
    num_points: int
    """How many could be used."""
    success: bool


def model(q: Floats, prefactor: float, exponent: float) -> NDArray[np.float64]:
    """tau = prefactor q^(-exponent)."""
    tau: NDArray[np.float64] = prefactor * np.asarray(q, dtype=np.float64) ** -exponent
    return tau


def fit(q: Floats, tau: Floats, tau_err: Floats | None = None) -> PowerLaw:
    """Fit `model` by weighted linear least squares of ln tau against ln q.

    Parameters
    ----------
    q : (point,) array of floats
        In any unit, say 1/angstrom.
    tau : (point,) array of floats
        Relaxation times, in any unit.
    tau_err : (point,) array of floats or None
        Standard errors, taken as absolute and independent; the error of ln tau is tau_err / tau, which holds for errors
        small beside tau. None: equal weights in ln tau, errors of the parameters from the scatter of the residuals.

    Returns
    -------
    PowerLaw
        Points that are not finite, such as failed fits, with q or tau of zero or less or an error below zero, are left
        out; errors below the resolution of float32 count as that. success is False where fewer than 3 points are left,
        or where they all have the same q.
    """
    x, y, weight = _points(q, tau, tau_err)
    num = len(x)
    if num < _FEWEST or np.ptp(x) <= 1e-12 * np.abs(x).max():
        return PowerLaw._make((*[float("nan")] * 6, num, False))
    total = weight.sum()
    middle, height = weight @ x / total, weight @ y / total
    spread = weight @ (x - middle) ** 2
    slope = weight @ ((x - middle) * (y - height)) / spread
    reduced_chi2 = weight @ (y - height - slope * (x - middle)) ** 2 / (num - 2)
    scale = reduced_chi2 if tau_err is None else 1.0
    prefactor = np.exp(height - slope * middle)
    prefactor_err = prefactor * np.sqrt(scale * (1 / total + middle**2 / spread))
    exponent_err, covariance = np.sqrt(scale / spread), prefactor * scale * middle / spread
    figures = (prefactor, -slope, prefactor_err, exponent_err, covariance, reduced_chi2)
    return PowerLaw._make((*map(float, figures), num, True))


def _points(q: Floats, tau: Floats, tau_err: Floats | None) -> tuple[NDArray[np.float64], ...]:
    """ln q, ln tau and 1 / variance of ln tau of the points that can be used."""
    errors = np.asarray(tau if tau_err is None else tau_err, dtype=np.float64)
    given = np.array([q, tau, errors], dtype=np.float64)
    q, tau, errors = given[:, np.isfinite(given).all(axis=0) & (given[:2] > 0).all(axis=0) & (given[2] >= 0)]
    return np.log(q), np.log(tau), np.maximum(errors / tau, _RESOLUTION) ** -2
