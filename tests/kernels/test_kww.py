"""KWW fits: planted parameters, a general solver as truth, honest errors, bad data, and a published analysis."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.optimize import curve_fit, least_squares

from ainerd_hpc.kernels import diagonals
from ainerd_hpc.kernels.fitting import descent, kww
from tests.support.places import SHARED

BNL = SHARED / "bnl-c2-2022"
LAG = np.array([*range(1, 9), *(step << level for level in range(1, 7) for step in (5, 6, 7, 8))][:-1])
DELAY = LAG * 0.01
PARAMETERS = ("tau", "contrast", "kww_exponent", "baseline")


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Compilation takes seconds, which no example has."""
    kww.fit(DELAY, np.ones(len(DELAY)))
    descent.value_and_slopes(0.0, np.ones(4))


def curve(delay, tau, contrast, exponent, baseline):
    return np.array([baseline + contrast * np.exp(-2 * (t / tau) ** exponent) for t in delay.tolist()])


def floats_of(fit):
    return np.array(fit[:-1])


def test_model_is_the_siegert_relation_of_a_kww_decay():
    np.testing.assert_allclose(kww.model(DELAY, 0.3, 0.2, 1.4, 1.01), curve(DELAY, 0.3, 0.2, 1.4, 1.01), rtol=1e-14)
    assert kww.model(np.array([0.0, 0.3]), 0.3, 0.2, 1.4, 1.0).tolist() == [1.2, 1 + 0.2 * np.exp(-2)]


@given(st.floats(-2, 1), st.floats(0.01, 1.4), st.floats(0.25, 2.4), st.floats(0.91, 1.09))
def test_slopes_are_those_of_central_differences(log_tau, contrast, exponent, baseline):
    at, step = np.array([log_tau, contrast, exponent, baseline]), 1e-6
    found = np.array([descent.value_and_slopes(log_delay, at) for log_delay in np.log(DELAY)])
    np.testing.assert_allclose(found[:, 0], curve(DELAY, np.exp(log_tau), *at[1:]), rtol=1e-12)
    for column in range(3):
        ends = [at + sign * step * (np.arange(4) == column) for sign in (1, -1)]
        ahead, behind = (curve(DELAY, np.exp(end[0]), *end[1:]) for end in ends)
        np.testing.assert_allclose(found[:, 1 + column], (ahead - behind) / (2 * step), atol=1e-7)


@given(st.floats(0.03, 2), st.floats(0.01, 1.4), st.floats(0.3, 2.3), st.floats(0.95, 1.05))
def test_planted_parameters_are_found_without_noise(tau, contrast, exponent, baseline):
    fit = kww.fit(DELAY, curve(DELAY, tau, contrast, exponent, baseline))
    assert fit.success
    np.testing.assert_allclose([fit.tau, fit.contrast, fit.kww_exponent], [tau, contrast, exponent], rtol=1e-3)
    assert fit.baseline == pytest.approx(baseline, abs=1e-4)


def noisy(num, sigma, seed=0):
    """Planted parameters (n, 4), g2 and its errors (n, lag) of simulated decays."""
    rng = np.random.default_rng(seed)
    columns = [10 ** rng.uniform(-1.3, 0.0, num), *(rng.uniform(*ends, num) for ends in RANGES)]
    planted = np.stack(columns, axis=1)
    errors = sigma * rng.uniform(0.5, 2, (num, len(DELAY)))
    g2 = np.array([curve(DELAY, *one) for one in planted]) + errors * rng.normal(size=errors.shape)
    return planted, g2, errors


RANGES = [(0.1, 0.5), (0.6, 1.8), (0.98, 1.02)]


def general_fit(delay, g2, errors, start, model=kww.model):
    """Parameters and covariance by a solver without bounds, in tau itself, with numerical derivatives."""
    valid = np.isfinite(g2)
    points = delay[valid], g2[valid]
    options = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15, "maxfev": 10_000}
    if errors is None:
        return curve_fit(model, *points, start, **options)
    return curve_fit(model, *points, start, errors[valid], absolute_sigma=True, **options)


@pytest.mark.parametrize("use_errors", [True, False])
def test_fits_and_covariances_are_those_of_a_general_solver(use_errors):
    planted, g2, errors = noisy(60, 0.003)
    g2[np.random.default_rng(1).random(g2.shape) < 0.1] = np.nan
    fits = kww.fit_many(DELAY, g2, errors if use_errors else None)
    assert fits.success.all()
    assert fits.covariance.shape == (60, 4, 4)
    for row in range(60):
        found, covariance = np.array([figure[row] for figure in fits[:4]]), fits.covariance[row]
        truth, expected = general_fit(DELAY, g2[row], errors[row] if use_errors else None, planted[row])
        deviation = np.sqrt(np.diagonal(expected))
        assert np.abs((found - truth) / deviation).max() < 1e-4
        np.testing.assert_allclose(covariance / np.outer(deviation, deviation), _correlation(expected), atol=1e-3)
        np.testing.assert_array_equal(covariance, covariance.T)
        np.testing.assert_allclose(np.sqrt(np.diagonal(covariance)), [figure[row] for figure in fits[4:8]])
        valid, sigma = np.isfinite(g2[row]), errors[row] if use_errors else 1
        chi2 = np.nansum(((g2[row] - curve(DELAY, *found)) / sigma) ** 2)
        assert fits.reduced_chi2[row] == pytest.approx(chi2 / (valid.sum() - 4), rel=1e-9)


def _correlation(covariance):
    deviation = np.sqrt(np.diagonal(covariance))
    return covariance / np.outer(deviation, deviation)


def test_a_baseline_at_its_bound_is_held_there():
    rng, sigma = np.random.default_rng(2), 0.001
    g2 = curve(DELAY, 0.3, 0.4, 1.2, 1.15) + sigma * rng.normal(size=len(DELAY))
    errors = np.full(len(DELAY), sigma)
    fits = kww.fit_many(DELAY, g2[np.newaxis], errors[np.newaxis])
    truth, expected = general_fit(
        DELAY, g2, errors, (0.3, 0.4, 1.2), lambda delay, *three: kww.model(delay, *three, 1.1)
    )
    assert fits.success[0]
    assert fits.baseline[0] == 1.1
    found = np.array([figure[0] for figure in fits[:3]])
    assert np.abs((found - truth) / np.sqrt(np.diagonal(expected))).max() < 1e-3
    np.testing.assert_allclose(fits.covariance[0, :3, :3], expected, rtol=1e-3)
    assert np.isnan(fits.covariance[0, 3]).all()
    assert np.isnan(fits.covariance[0, :, 3]).all()
    assert np.isnan(fits.baseline_err[0])
    assert fits.chi2_probability[0] < 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_no_minimum_is_missed_that_a_general_solver_finds_from_the_truth(seed):
    """Noise up to a fifth of the contrast, where descents differ in where they end."""
    planted, g2, errors = noisy(40, 0.02, seed)
    fits, compared = kww.fit_many(DELAY, g2, errors), 0
    for row in np.flatnonzero(fits.success):
        try:
            truth, _ = general_fit(DELAY, g2[row], errors[row], planted[row])
        except RuntimeError:  # wanders off
            continue
        bounds = np.array([kww.CONTRAST_BOUNDS, kww.EXPONENT_BOUNDS, kww.BASELINE_BOUNDS])
        if ((truth[1:] > bounds[:, 0]) & (truth[1:] < bounds[:, 1])).all():
            chi2 = (((g2[row] - curve(DELAY, *truth)) / errors[row]) ** 2).sum()
            assert fits.reduced_chi2[row] * (len(DELAY) - 4) < chi2 + 1e-6
            compared += 1
    assert compared > 20


@pytest.mark.parametrize("seed", range(4))
def test_minima_at_bounds_are_those_of_a_general_solver(seed):
    """Planted parameters beyond bounds: whatever the fit makes of them, the descent goes to the end."""
    rng, num, sigma = np.random.default_rng(seed), 60, 0.01
    planted = np.stack(
        [10 ** rng.uniform(-1.3, 1, num), rng.choice([0.3, 1.6], num), rng.uniform(0.15, 2.7, num), np.zeros(num)],
        axis=1,
    )
    planted[:, 3] = rng.choice([0.88, 0.901, 1.0, 1.099, 1.12], num)
    g2 = np.array([curve(DELAY, *one) for one in planted]) + sigma * rng.normal(size=(num, len(DELAY)))
    log_delay, weight = np.broadcast_to(np.log(DELAY), g2.shape), np.full(g2.shape, 1 / sigma)
    solution = kww._solve(log_delay, g2, weight)
    assert solution.converged.sum() > 0.95 * num
    bounds = kww._bounds(np.log(DELAY))
    assert ((solution.parameters >= bounds[0]) & (solution.parameters <= bounds[1])).all()
    assert ((solution.parameters == bounds[0]) | (solution.parameters == bounds[1])).any(axis=1).sum() > num / 3
    for row in np.flatnonzero(solution.converged):
        start = np.clip([np.log(planted[row, 0]), *planted[row, 1:]], bounds[0], bounds[1])
        truth = least_squares(
            lambda at, row=row: (curve(DELAY, np.exp(at[0]), *at[1:]) - g2[row]) / sigma,
            start,
            bounds=bounds,
            ftol=1e-12,
        )
        assert solution.chi2[row] < 2 * truth.cost + 1e-5


def test_each_fit_is_that_of_its_curve_alone():
    _, g2, errors = noisy(12, 0.003)
    rng = np.random.default_rng(3)
    g2[rng.random(g2.shape) < 0.2], errors[rng.random(g2.shape) < 0.05] = np.nan, np.nan
    g2[:3] = g2[0]  # with a constant and a curve without points between equals
    g2[1], g2[2] = 1.2, np.nan
    for array in (g2, errors):
        array.flags.writeable = False
    fits = kww.fit_many(DELAY, g2, errors)
    assert fits.success.tolist() == [True, False, False, *[True] * 9]
    assert np.isnan(fits.covariance[1:3]).all()
    for row in range(12):
        keep = np.isfinite(g2[row]) & np.isfinite(errors[row])
        alone = kww.fit(DELAY[keep], g2[row, keep], errors[row, keep])
        np.testing.assert_array_equal(np.array(alone), np.array([figure[row] for figure in fits[:-1]]))


def test_curves_may_have_delays_of_their_own():
    _, g2, errors = noisy(4, 0.003)
    factors = np.array([1, 10, 1, 0.1])
    fits = kww.fit_many(DELAY * factors[:, np.newaxis], g2, errors)
    np.testing.assert_allclose(fits.tau, kww.fit_many(DELAY, g2, errors).tau * factors, rtol=1e-6)


@pytest.mark.parametrize("shape", [(0, 31), (3, 0), (0, 0)])
def test_nothing_to_fit(shape):
    fits = kww.fit_many(np.ones(shape[1]), np.ones(shape), np.ones(shape))
    assert fits.success.tolist() == [False] * shape[0]
    assert fits.covariance.shape == (shape[0], 4, 4)


def test_probability_is_that_of_chi2():
    _, g2, errors = noisy(400, 0.003)
    fits = kww.fit_many(DELAY, g2, errors)
    degrees = len(DELAY) - 4
    np.testing.assert_allclose(fits.chi2_probability, stats.chi2.sf(fits.reduced_chi2 * degrees, degrees), rtol=1e-9)
    assert stats.kstest(fits.chi2_probability, "uniform").pvalue > 1e-3
    assert (kww.fit_many(DELAY, g2, errors / 3).chi2_probability < 1e-6).all()
    assert np.isnan(kww.fit_many(DELAY, g2).chi2_probability).all()


def pulls(seed, sigma, use_errors):
    """(found - planted) / error of the four parameters, and reduced chi2, of one noisy decay."""
    rng = np.random.default_rng(seed)
    planted = (10 ** rng.uniform(-1.3, 0.0), rng.uniform(0.1, 0.5), rng.uniform(0.6, 1.8), rng.uniform(0.98, 1.02))
    errors = sigma * rng.uniform(0.5, 2, len(DELAY)) if use_errors else np.full(len(DELAY), sigma)
    g2 = curve(DELAY, *planted) + rng.normal(size=len(DELAY)) * errors
    fit = kww.fit(DELAY, g2, errors if use_errors else None)
    assert fit.success
    found = [
        (getattr(fit, name) - value) / getattr(fit, f"{name}_err")
        for name, value in zip(PARAMETERS, planted, strict=True)
    ]
    return [*found, fit.reduced_chi2]


@pytest.mark.parametrize("use_errors", [True, False])
def test_errors_are_the_scatter_of_the_fits(use_errors):
    trials, sigma = 400, 0.002
    results = np.array([pulls(seed, sigma, use_errors) for seed in range(trials)])
    assert np.isfinite(results).all()
    chi2 = (results[:, :4] ** 2).sum(axis=0)  # chi-square of 400 degrees: 400 +- 28 (without errors, t: + 8 %)
    assert ((chi2 > trials - 4 * 28) & (chi2 < 1.08 * trials + 4 * 28)).all(), chi2
    assert (np.abs(results[:, :4].mean(axis=0)) < 4 / np.sqrt(trials)).all()
    expected = 1 if use_errors else sigma**2
    assert results[:, 4].mean() == pytest.approx(expected, rel=0.08)  # 27 degrees: 1 +- 0.014 over all trials


def test_fit_does_not_depend_on_the_unit_of_time():
    g2 = curve(DELAY, 0.2, 0.3, 1.3, 1.0) + 0.003 * np.random.default_rng(0).normal(size=len(DELAY))
    seconds, microseconds = kww.fit(DELAY, g2), kww.fit(DELAY * 1e6, g2)
    assert microseconds.tau == pytest.approx(seconds.tau * 1e6, rel=1e-5)
    assert microseconds.tau_err == pytest.approx(seconds.tau_err * 1e6, rel=1e-4)
    assert microseconds.kww_exponent == pytest.approx(seconds.kww_exponent, rel=1e-5)


def test_points_that_are_not_finite_or_not_positive_are_left_out():
    g2, errors = curve(DELAY, 0.2, 0.3, 1.3, 1.0), np.full(len(DELAY), 0.01)
    g2 += 0.01 * np.random.default_rng(1).normal(size=len(g2))
    bad_g2, bad_errors, bad_delay = g2.copy(), errors.copy(), DELAY.copy()
    bad_g2[3], bad_g2[4], bad_errors[10], bad_errors[11], bad_delay[0] = np.nan, np.inf, np.nan, -1, 0
    keep = np.setdiff1d(np.arange(len(g2)), [0, 3, 4, 10, 11])
    for array in (bad_delay, bad_g2, bad_errors):
        array.flags.writeable = False
    assert kww.fit(bad_delay, bad_g2, bad_errors) == kww.fit(DELAY[keep], g2[keep], errors[keep])


def test_errors_of_zero_count_as_the_resolution_of_float32():
    g2 = curve(DELAY, 0.2, 0.3, 1.3, 1.0)
    fitted = kww.fit(DELAY, g2, np.zeros(len(DELAY)))
    np.testing.assert_allclose(fitted[:4], [0.2, 0.3, 1.3, 1.0], rtol=1e-6)


FROZEN = 1.3 + 0.003 * np.random.default_rng(2).normal(size=len(DELAY))
BAD = {
    "constant": np.full(len(DELAY), 1.2),
    "frozen": FROZEN,
    "decayed before the first delay": FROZEN - 0.3,
    "frozen, of a contrast that the baseline could take": FROZEN - 0.25,
    "rising": 1 + 0.05 * DELAY,
    "contrast beyond its bound": curve(DELAY, 0.2, 1.8, 1.2, 1.0),
    "exponent beyond its bound": curve(DELAY, 0.2, 0.3, 3.0, 1.0),
    "exponent below its bound": curve(DELAY, 0.2, 0.3, 0.12, 1.0),
    "constant to nine digits": curve(DELAY, 0.2, 1e-11, 1.0, 1.05),
    "tau of a fiftieth of the shortest delay": curve(DELAY, DELAY[0] / 50, 0.9, 0.3, 1.0),
    "tau of 40 times the longest delay": curve(DELAY, 40 * DELAY[-1], 0.5, 1.0, 1.0),
    "all NaN": np.full(len(DELAY), np.nan),
    "four points": np.where(np.arange(len(DELAY)) < 4, curve(DELAY, 0.1, 0.3, 1, 1), np.nan),
    "huge": np.where(np.arange(len(DELAY)) < 9, 1e300, -1e300),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("errors", [None, np.full(len(DELAY), 0.003)], ids=["unit weights", "errors"])
def test_no_decay_no_success_all_nan(case, errors):
    fit = kww.fit(DELAY, BAD[case], errors)
    assert not fit.success
    assert np.isnan(floats_of(fit)).all()


@settings(deadline=None)
@given(
    hnp.arrays(np.float64, st.integers(0, 12), elements=st.floats(allow_nan=True, allow_infinity=True)),
    st.randoms(use_true_random=False),
)
def test_fit_never_raises(g2, random):
    delay = np.array([random.choice([0.1, 1.0, 3.0, 1e9, 1e-9, np.nan, -1.0]) for _ in g2])
    errors = np.array([random.choice([1.0, 1e-300, 1e300, 1e-3, np.nan, 0.0]) for _ in g2])
    for fit in (kww.fit(delay, g2), kww.fit(delay, g2, errors)):
        assert fit.success or np.isnan(floats_of(fit)).all()


def test_noise_alone_is_no_decay():
    rng = np.random.default_rng(4)
    successes = sum(kww.fit(DELAY, 1 + 0.01 * rng.normal(size=len(DELAY))).success for _ in range(400))
    assert successes <= 2  # an F test at 1e-4 of a linear model would pass 0.04


@given(st.integers(1, 600), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_log_bin_is_the_mean_of_each_bin(num_lags, per_octave, seed):
    rng, lag = np.random.default_rng(seed), np.arange(1, num_lags + 1)
    g2, g2_err = rng.normal(size=num_lags), rng.uniform(0.1, 1, num_lags)
    g2[rng.random(num_lags) < 0.2] = np.nan
    g2_err[rng.random(num_lags) < 0.1] = np.nan
    bins = {}
    for one in zip(lag, g2, g2_err, strict=True):
        if np.isfinite(one).all():  # bin n holds 2^(n / per_octave) <= lag < 2^((n + 1) / per_octave)
            exact = next(n for n in range(99) if int(one[0]) ** per_octave < 2 ** (n + 1))
            bins.setdefault(exact, []).append(one)
    expected = [
        (np.mean([p[0] for p in b]), np.mean([p[1] for p in b]), np.sqrt(sum(p[2] ** 2 for p in b)) / len(b))
        for b in bins.values()
    ]
    binned = kww.log_bin(lag, g2, g2_err, per_octave)
    for found, truth in zip(binned, np.array(expected).reshape(-1, 3).T, strict=True):
        np.testing.assert_allclose(found, truth, rtol=1e-9, atol=1e-12)


def test_log_bin_of_many_is_that_of_each():
    rng, lag = np.random.default_rng(6), np.arange(1, 200)
    g2, g2_err = rng.normal(size=(3, 199)), rng.uniform(0.1, 1, (3, 199))
    g2[0, 10:15], g2[1, 100:], g2[2] = np.nan, np.nan, np.nan
    binned = kww.log_bin(lag, g2, g2_err)
    assert binned[0].shape == (3, len(kww.log_bin(lag, g2_err[0], g2_err[0])[0]))
    for row in range(3):
        filled = np.isfinite(binned[0][row])
        for many, one in zip(binned, kww.log_bin(lag, g2[row], g2_err[row]), strict=True):
            np.testing.assert_array_equal(many[row, filled], one)
            assert np.isnan(many[row, ~filled]).all()


def test_log_bin_of_no_lag():
    assert [values.size for values in kww.log_bin(np.arange(1, 1), np.ones(0), np.ones(0))] == [0, 0, 0]


def test_fit_of_binned_lags_finds_the_planted_tau():
    lag = np.arange(1, 500)
    errors = 0.02 / np.sqrt(500 - lag)
    g2 = curve(lag, 40.0, 0.25, 0.8, 1.0) + errors * np.random.default_rng(5).normal(size=499)
    binned = kww.log_bin(lag, g2, errors)
    assert len(binned[0]) < 35
    fit = kww.fit(*binned)
    assert fit.tau == pytest.approx(40, abs=4 * fit.tau_err)
    assert fit.tau_err < 1
    assert fit.kww_exponent == pytest.approx(0.8, abs=4 * fit.kww_exponent_err)


@pytest.fixture(scope="module")
def bnl():
    if not BNL.is_dir():
        pytest.skip("needs c2.npy and fit_results_raw.json of Konstantinova et al. (2022) in ../shared/data")
    results = json.loads((BNL / "fit_results_raw.json").read_text())["1"]
    return np.load(BNL / "c2.npy"), {name: np.array(values) for name, values in results["parameters"].items()}


def squares(cut, tau, contrast, exponent, baseline):
    return ((cut[1] - curve(cut[0], tau, contrast, exponent, baseline)) ** 2).sum()


def test_fits_of_age_cuts_equal_the_published_ones_or_fit_better(bnl, monkeypatch):
    c2, published = bnl
    monkeypatch.setattr(kww, "_NO_DECAY", 2.0)  # the published fits are not tested for significance; most would fail
    tau = 1 / published["gamma"]
    comparable = (published["alpha"] > 0.2) & (published["alpha"] < kww.EXPONENT_BOUNDS[1])
    comparable &= (published["ginf"] > 0.991) & (published["ginf"] < kww.BASELINE_BOUNDS[1])  # theirs starts at 0.99
    comparable &= (tau > 0.2) & (tau < 350) & (published["beta"] > 1e-4)
    excess, deviations = [], []
    for frame in np.flatnonzero(comparable):
        cut = diagonals.age_cut(c2, frame + 0.25, 0.25)[:2]  # as published: t1 + t2 = 2 frame, or + 1
        theirs = [tau[frame], *(published[name][frame] for name in ("beta", "alpha", "ginf"))]
        fit = kww.fit(*cut)
        if fit.success:
            excess.append(squares(cut, *fit[:4]) / squares(cut, *theirs) - 1)
            deviations.append((np.array(fit[:4]) - theirs) / fit[4:8])  # NaN for a parameter at its bound
    excess, deviations = np.array(excess), np.array(deviations)
    assert len(excess) > 50
    assert excess.max() < 1e-6  # never a worse minimum than theirs
    same = excess > -1e-8
    assert same.sum() > 30
    assert np.nanmax(np.abs(deviations[same])) < 0.01


def test_whole_published_map_gives_the_median_relaxation_of_its_ages(bnl):
    c2, published = bnl
    g2, g2_err = diagonals.g2_from_c2(c2)
    fit = kww.fit(*kww.log_bin(np.arange(1, len(c2)), g2, g2_err))
    assert fit.success
    assert fit.tau == pytest.approx(1 / np.nanmedian(published["gamma"]), rel=0.5)
    assert fit.contrast == pytest.approx(np.nanmedian(published["beta"]), rel=0.5)
    assert fit.baseline == pytest.approx(np.nanmedian(published["ginf"]), abs=0.01)
