"""tau(q) as a power law: exact lines, honest errors, and what is left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from ainerd_hpc.kernels.fitting import power_law

Q = np.geomspace(0.002, 0.03, 12)


def planted(seed=0, prefactor=4e-5, exponent=2.0, relative=0.03):
    """tau and its error at every Q, of simulated fits with these relative errors, log-normal."""
    rng = np.random.default_rng(seed)
    sigma = relative * rng.uniform(0.5, 2, len(Q))
    tau = prefactor * Q**-exponent * np.exp(sigma * rng.normal(size=len(Q)))
    return tau, sigma * tau


@given(st.floats(1e-6, 1e6), st.floats(-4, 4))
def test_a_power_law_is_found_exactly(prefactor, exponent):
    tau = prefactor * Q**-exponent
    np.testing.assert_allclose(power_law.model(Q, prefactor, exponent), tau, rtol=1e-12)
    for found in (power_law.fit(Q, tau), power_law.fit(Q, tau, 0.1 * tau), power_law.fit(Q, tau, np.zeros(len(Q)))):
        assert found.success
        assert found.num_points == len(Q)
        assert found.prefactor == pytest.approx(prefactor, rel=1e-9)
        assert found.exponent == pytest.approx(exponent, abs=1e-9)


@pytest.mark.parametrize("use_errors", [True, False])
def test_figures_are_those_of_a_general_fit(use_errors):
    tau, tau_err = planted()
    sigma = tau_err / tau if use_errors else None
    (intercept, slope), truth = curve_fit(
        lambda x, a, b: a + b * x, np.log(Q), np.log(tau), sigma=sigma, absolute_sigma=use_errors
    )
    found = power_law.fit(Q, tau, tau_err if use_errors else None)
    prefactor = np.exp(intercept)
    np.testing.assert_allclose([found.prefactor, found.exponent], [prefactor, -slope], rtol=1e-6)
    errors = [prefactor * np.sqrt(truth[0, 0]), np.sqrt(truth[1, 1]), -prefactor * truth[0, 1]]
    np.testing.assert_allclose([found.prefactor_err, found.exponent_err, found.covariance], errors, rtol=1e-4)
    residuals = (np.log(tau) - intercept - slope * np.log(Q)) / (1 if sigma is None else sigma)
    assert found.reduced_chi2 == pytest.approx((residuals**2).sum() / (len(Q) - 2), rel=1e-6)


@pytest.mark.parametrize("use_errors", [True, False])
def test_errors_are_the_scatter_of_the_fits(use_errors):
    trials, pulls, chi2 = 500, [], []
    for seed in range(trials):
        tau, tau_err = planted(seed)
        found = power_law.fit(Q, tau, tau_err) if use_errors else power_law.fit(Q, tau)
        pulls.append([(found.prefactor - 4e-5) / found.prefactor_err, (found.exponent - 2) / found.exponent_err])
        chi2.append(found.reduced_chi2)
    squares = (np.array(pulls) ** 2).sum(axis=0)  # chi-square of 500 degrees: +- 32; without errors t of 10: + 25 %
    assert ((squares > trials - 4 * 32) & (squares < 1.35 * trials + 4 * 32)).all(), squares
    if use_errors:
        assert np.mean(chi2) == pytest.approx(1, abs=4 * np.sqrt(2 / 10 / trials))


def test_the_exponent_does_not_depend_on_units_and_the_covariance_follows():
    tau, tau_err = planted()
    first, other = power_law.fit(Q, tau, tau_err), power_law.fit(Q * 10, tau * 1e6, tau_err * 1e6)
    assert other.exponent == pytest.approx(first.exponent, rel=1e-9)
    assert other.exponent_err == pytest.approx(first.exponent_err, rel=1e-9)
    assert other.reduced_chi2 == pytest.approx(first.reduced_chi2, rel=1e-9)
    assert other.prefactor == pytest.approx(first.prefactor * 1e6 * 10**first.exponent, rel=1e-9)
    # ln prefactor grows by ln 10 exponent.
    expected = first.covariance / first.prefactor + np.log(10) * first.exponent_err**2
    assert other.covariance / other.prefactor == pytest.approx(expected, rel=1e-9)


def test_points_that_say_nothing_are_left_out():
    tau, tau_err = planted()
    q = Q.copy()
    q[0], q[1], tau[2], tau[3], tau[4], tau_err[5], tau_err[6] = 0, np.nan, np.nan, -1, np.inf, np.nan, -1
    for array in (q, tau, tau_err):
        array.flags.writeable = False
    found = power_law.fit(q, tau, tau_err)
    assert found == power_law.fit(q[7:], tau[7:], tau_err[7:])
    assert found.num_points == 5


@pytest.mark.parametrize("case", ["two points", "none", "all NaN", "one q"])
def test_no_line_no_success_all_nan(case):
    tau, tau_err = planted()
    arrays = {
        "two points": (Q[:2], tau[:2], tau_err[:2]),
        "none": (Q[:0], tau[:0], tau_err[:0]),
        "all NaN": (Q, tau * np.nan, tau_err),
        "one q": (np.full(5, 0.01), tau[:5], tau_err[:5]),
    }[case]
    found = power_law.fit(*arrays)
    assert not found.success
    assert np.isnan(found[:6]).all()
    assert found.num_points == {"two points": 2, "one q": 5}.get(case, 0)


def test_float32_columns_are_fitted_in_float64():
    columns = [array.astype(np.float32) for array in (Q, *planted())]
    assert power_law.fit(*columns) == power_law.fit(*(column.astype(np.float64) for column in columns))
