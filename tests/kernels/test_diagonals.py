"""What is read off C2, against plain loops over its diagonals."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ainerd_hpc.kernels import diagonals

FLOAT32_ROUNDING = 2e-7
SHIFT_ROUNDING = 3e-8  # the sums are shifted by 1: what is left of a variance of zero


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Compilation takes longer than an example may."""
    for dtype in (np.float32, np.float64):
        diagonals.g2_from_c2(np.ones((3, 3), dtype))


def frozen(array):
    """The array, so that writing it raises."""
    array.flags.writeable = False
    return array


def c2_maps(min_side=1):
    elements = st.one_of(st.floats(0.5, 2, width=32), st.just(float("nan")), st.just(float("inf")))
    sides = st.integers(min_side, 9)
    return sides.flatmap(lambda side: hnp.arrays(np.float32, (side, side), elements=elements)).map(frozen)


def intensities(c2):
    """Of every frame; some empty, some unknown."""
    elements = st.one_of(st.floats(0.01, 100), st.sampled_from([0.0, float("nan"), float("inf")]))
    return st.one_of(st.none(), hnp.arrays(np.float64, len(c2), elements=elements).map(frozen))


def weighted_mean(values, weights):
    """sum w x / sum w, and the error of a ratio of sums, over the entries that count."""
    counts = np.isfinite(values) & np.isfinite(weights) & (weights > 0)
    x, w, num = values[counts], weights[counts], counts.sum()
    if num == 0:
        return np.nan, np.nan
    mean = (w * x).sum() / w.sum()
    if num == 1:
        return mean, np.nan
    return mean, np.sqrt(num / (num - 1) * ((w * (x - mean)) ** 2).sum()) / w.sum()


def g2_truth(c2, intensity=None):
    """(lag, 2): g2 and g2_err, diagonal by diagonal."""
    intensity = np.ones(len(c2)) if intensity is None else np.where(np.isfinite(intensity), intensity, np.nan)
    lags = range(1, len(c2))
    lines = [weighted_mean(np.diagonal(c2, lag).astype(np.float64), intensity[:-lag] * intensity[lag:]) for lag in lags]
    return np.array(lines).reshape(-1, 2)


def assert_g2(found, truth):
    assert found[0].shape == found[1].shape == truth.shape[:-1]
    np.testing.assert_allclose(found[0], truth[..., 0], rtol=1e-12)
    np.testing.assert_allclose(found[1], truth[..., 1], rtol=1e-9, atol=SHIFT_ROUNDING)


@given(c2_maps())
def test_g2_is_the_mean_of_each_diagonal_with_its_standard_error(c2):
    g2, g2_err = diagonals.g2_from_c2(c2)
    assert g2.shape == g2_err.shape == (len(c2) - 1,)
    for lag in range(1, len(c2)):
        entries = np.diagonal(c2, lag).astype(np.float64)
        entries = entries[np.isfinite(entries)]
        mean = entries.mean() if len(entries) else np.nan
        error = entries.std(ddof=1) / np.sqrt(len(entries)) if len(entries) > 1 else np.nan
        np.testing.assert_allclose(g2[lag - 1], mean, rtol=1e-12)
        np.testing.assert_allclose(g2_err[lag - 1], error, rtol=1e-9, atol=SHIFT_ROUNDING)


@given(st.data())
def test_g2_is_the_weighted_mean_of_each_diagonal(data):
    c2 = data.draw(c2_maps())
    intensity = data.draw(intensities(c2))
    assert_g2(diagonals.g2_from_c2(c2, intensity), g2_truth(c2, intensity))


def test_g2_of_one_and_two_frames():
    assert diagonals.g2_from_c2(np.ones((1, 1)))[0].size == 0
    g2, g2_err = diagonals.g2_from_c2(np.array([[9, 1.5], [1.5, 9]]))
    assert g2.tolist() == [1.5]
    assert np.isnan(g2_err).tolist() == [True]


@pytest.mark.parametrize("odd", [0.0, -1.0, np.nan, np.inf])
def test_frames_of_no_intensity_or_unknown_are_left_out(odd):
    c2 = 1 + np.random.default_rng(6).random((9, 9))
    intensity = np.array([2.0, 1, 3, odd, 1, 2, 5, 1, 2])
    known = np.where(np.arange(9) == 3, np.nan, c2)
    known[3] = np.nan
    for found, expected in zip(
        diagonals.g2_from_c2(c2, intensity),
        diagonals.g2_from_c2(known, np.nan_to_num(intensity, posinf=1)),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


def test_small_errors_of_a_large_map_are_true():
    c2 = frozen(1.3 + 1e-4 * np.random.default_rng(0).normal(size=(301, 301)))
    g2, g2_err = diagonals.g2_from_c2(c2)
    truth = g2_truth(c2)
    np.testing.assert_allclose(g2, truth[:, 0], rtol=1e-14)
    np.testing.assert_allclose(g2_err, truth[:, 1], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", np.int64])
def test_g2_of_any_dtype_and_order_in_memory(dtype):
    c2 = np.random.default_rng(1).integers(1, 4, (40, 40)).astype(dtype)
    for view in (c2, np.asfortranarray(c2), c2[::2, ::2], c2[5:20, 5:20], frozen(c2.copy())):
        assert_g2(diagonals.g2_from_c2(view), g2_truth(view))


def test_g2_with_the_intensity_is_that_of_the_counts():
    """g2(lag) = sum_t <I(t) I(t + lag)> / sum_t <I(t)> <I(t + lag)>, without C2."""
    rng = np.random.default_rng(2)
    counts = rng.poisson(rng.gamma(2, 0.5, size=(1, 500)) * rng.uniform(0.2, 3, size=(30, 1)))
    mean = counts.mean(axis=1)
    c2 = counts @ counts.T / 500 / np.outer(mean, mean)
    expected = [
        (counts[:-lag] * counts[lag:]).mean(axis=1).sum() / (mean[:-lag] * mean[lag:]).sum() for lag in range(1, 30)
    ]
    np.testing.assert_allclose(diagonals.g2_from_c2(c2, mean)[0], expected, rtol=1e-12)
    assert np.abs(diagonals.g2_from_c2(c2)[0] - expected).max() > 1e-3  # which the plain mean is not


def test_error_with_the_intensity_is_the_scatter_of_independent_entries():
    rng, trials, frames = np.random.default_rng(3), 2000, 40
    intensity = rng.uniform(0.3, 3, frames)
    weight = np.outer(intensity, intensity)
    maps = [1.2 + 0.02 / np.sqrt(weight) * rng.normal(size=weight.shape) for _ in range(trials)]
    found = np.array([diagonals.g2_from_c2(one, intensity) for one in maps])
    # 39 entries a diagonal: the estimate of a variance is a few percent low to first order, for unequal weights more
    assert np.median(found[:, 1, :10].mean(axis=0) / found[:, 0, :10].std(axis=0)) == pytest.approx(1, abs=0.06)


@given(st.data())
def test_windows_are_the_squares_along_the_diagonal(data):
    c2 = data.draw(c2_maps())
    intensity = data.draw(intensities(c2))
    num_windows = data.draw(st.integers(1, len(c2) + 2))
    length = len(c2) // num_windows
    found = diagonals.g2_in_windows(c2, num_windows, intensity)
    assert found[0].shape == (num_windows, max(length - 1, 0))
    for window in range(num_windows):
        inside = slice(window * length, (window + 1) * length)
        truth = g2_truth(c2[inside, inside], None if intensity is None else intensity[inside])
        assert_g2((found[0][window], found[1][window]), truth)


@given(st.data())
def test_any_tiling_gives_the_sums_of_the_whole(data):
    c2 = data.draw(c2_maps())
    intensity = data.draw(intensities(c2))
    num_windows = data.draw(st.integers(1, 3))
    whole = diagonals.empty_sums(len(c2), num_windows)
    diagonals.add_tile(c2, 0, 0, whole, intensity)
    edges = [sorted({0, len(c2), *data.draw(st.sets(st.integers(0, len(c2)), max_size=4))}) for _ in "yx"]
    tiles = [(rows, columns) for rows in pairwise(edges[0]) for columns in pairwise(edges[1])]
    shares = [diagonals.empty_sums(len(c2), num_windows) for _ in range(2)]  # of two workers
    for worker, (rows, columns) in enumerate(data.draw(st.permutations(tiles))):
        tile = c2[slice(*rows), slice(*columns)]
        diagonals.add_tile(tile, rows[0], columns[0], shares[worker % 2], intensity)
    np.testing.assert_allclose(shares[0] + shares[1], whole, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(shares[0][0] + shares[1][0], whole[0])  # n


def test_sums_of_a_band_of_tiles_are_those_of_its_lags():
    """A long scan, of which only the tiles on the diagonal and one beside exist."""
    c2 = 1 + np.random.default_rng(4).random((70, 70))
    sums = diagonals.empty_sums(70)
    for start in range(0, 70, 10):
        diagonals.add_tile(c2[start : start + 10, start : start + 20], start, start, sums)
    truth = g2_truth(c2)
    g2, g2_err = diagonals.finish(sums)
    np.testing.assert_allclose(g2[0, :10], truth[:10, 0], rtol=1e-12)  # lags 1..10 are complete
    np.testing.assert_allclose(g2_err[0, :10], truth[:10, 1], rtol=1e-9)
    assert np.isnan(g2[0, 19:]).all()
    assert sums[0, 0].tolist() == [*range(69, 59, -1), *np.cumsum([6] * 9)[::-1].tolist(), *[0] * 50]


def test_the_same_tiles_give_the_same_bits():
    c2 = np.random.default_rng(5).random((200, 200)).astype(np.float32)
    assert diagonals.g2_from_c2(c2)[1].tobytes() == diagonals.g2_from_c2(c2.copy())[1].tobytes()


def test_an_intensity_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="of at least 12 frames, found 10"):
        diagonals.add_tile(np.ones((2, 4)), 8, 8, diagonals.empty_sums(20), np.ones(10))


@given(c2_maps(), st.integers(-2, 40), st.integers(0, 12))
def test_age_cut_is_the_mean_about_an_age(c2, quarter_ages, quarter_widths):
    age, half_width = quarter_ages / 4, quarter_widths / 4
    lag, g2, g2_err = diagonals.age_cut(c2, age, half_width)
    entries = {}
    for t1 in range(len(c2)):
        for t2 in range(t1 + 1, len(c2)):
            if abs((t1 + t2) / 2 - age) <= half_width and np.isfinite(c2[t1, t2]):
                entries.setdefault(t2 - t1, []).append(float(c2[t1, t2]))
    assert lag.tolist() == sorted(entries)
    for position, key in enumerate(lag.tolist()):
        mean, error = weighted_mean(np.array(entries[key]), np.ones(len(entries[key])))
        np.testing.assert_allclose([g2[position], g2_err[position]], [mean, error], rtol=1e-9, atol=1e-12)


def test_age_cut_by_hand():
    c2 = np.arange(25.0).reshape(5, 5)  # c2[t1, t2] = 5 t1 + t2
    lag, g2, g2_err = diagonals.age_cut(c2, 2)
    assert lag.tolist() == [1, 2, 3, 4]
    assert g2.tolist() == [(7 + 13) / 2, 8, (3 + 9) / 2, 4]
    np.testing.assert_allclose(g2_err, [3, np.nan, 3, np.nan])
    assert diagonals.age_cut(c2, 2, 0)[0].tolist() == [2, 4]
    assert diagonals.age_cut(c2, 1.5, 0)[0].tolist() == [1, 3]
    assert diagonals.age_cut(c2, 2.25, 0.25)[1].tolist() == [13, 8, 9, 4]


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(0, 6), st.integers(1, 4)), elements=st.floats(-2, 2) | st.just(np.nan))
)
def test_mean_and_error_of_each_column(values):
    means, errors = diagonals.mean_and_error(frozen(values))
    for column in range(values.shape[1]):
        truth = weighted_mean(values[:, column], np.ones(len(values)))
        np.testing.assert_allclose([means[column], errors[column]], truth, rtol=1e-9, atol=1e-12)


@given(c2_maps())
def test_fill_diagonal_takes_the_mean_of_the_finite_neighbours(c2):
    filled = diagonals.fill_diagonal(c2)
    assert filled.dtype == c2.dtype
    off_diagonal = ~np.eye(len(c2), dtype=bool)
    np.testing.assert_array_equal(filled[off_diagonal], c2[off_diagonal])
    for i in range(len(c2)):
        neighbours = [float(c2[j, j + 1]) for j in (i - 1, i) if 0 <= j < len(c2) - 1]
        finite = [value for value in neighbours if np.isfinite(value)]
        expected = sum(finite) / len(finite) if finite else np.nan
        np.testing.assert_allclose(filled[i, i], expected, rtol=FLOAT32_ROUNDING)


@given(c2_maps())
def test_complete_triangle_from_either_triangle_or_both(c2):
    full = np.triu(c2) + np.triu(c2, 1).T
    for stored in (np.triu(full), np.tril(full), full):
        np.testing.assert_array_equal(diagonals.complete_triangle(frozen(stored)), full)


def test_complete_triangle_averages_rounding_away_and_refuses_more():
    c2 = 1 + 0.1 * np.random.default_rng(1).random((5, 5))
    c2 = c2 + c2.T
    rounded = c2 + 1e-6 * np.triu(np.ones((5, 5)), 1)
    complete = diagonals.complete_triangle(rounded)
    np.testing.assert_array_equal(complete, complete.T)
    np.testing.assert_allclose(complete, c2, atol=1e-6)
    with pytest.raises(ValueError, match=r"expected a symmetric C2.* at \(0, 1\) and .* at \(1, 0\)"):
        diagonals.complete_triangle(c2 + 0.5 * np.triu(np.ones((5, 5)), 1))
    with pytest.raises(ValueError, match="found nan at"):
        diagonals.complete_triangle(np.where(np.tri(5, k=-1).T == 1, np.nan, c2))
