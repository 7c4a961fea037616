"""Two-time correlation against plain loops in exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from threadpoolctl import threadpool_limits

from ainerd_hpc.kernels import twotime

FLOAT32_ROUNDING = 2e-7


def frozen(array):
    """The array, so that writing it raises."""
    array.flags.writeable = False
    return array


def integer_counts(max_value=65534):
    shapes = st.tuples(st.integers(1, 9), st.integers(1, 13))
    dtypes = st.sampled_from([np.uint8, np.uint16, np.int32, np.uint32, np.int64])
    arrays = dtypes.flatmap(
        lambda dtype: hnp.arrays(dtype, shapes, elements=st.integers(0, min(max_value, np.iinfo(dtype).max)))
    )
    return arrays.map(frozen)


def c2_truth(counts):
    """The definition in exact fractions, rounded once."""
    rows = [[int(value) for value in frame] for frame in counts]
    truth = np.full((len(rows), len(rows)), np.nan)
    for t1, first in enumerate(rows):
        for t2, second in enumerate(rows):
            product = sum(a * b for a, b in zip(first, second, strict=True))
            norm = sum(first) * sum(second)
            if norm:
                truth[t1, t2] = float(Fraction(len(first) * product, norm))
    return truth


def speckle(rng, shape, modes, mean):
    """Simulated photons of static speckle of contrast 1 / modes: the same intensities in every frame."""
    intensities = rng.gamma(modes, mean / modes, size=shape[1])
    return rng.poisson(np.broadcast_to(intensities, shape))


@given(integer_counts())
def test_c2_is_the_definition(counts):
    c2 = twotime.c2(counts)
    assert c2.dtype == np.float32
    np.testing.assert_allclose(c2, c2_truth(counts), rtol=FLOAT32_ROUNDING)


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 7), st.integers(1, 9)), elements=st.floats(1e-3, 1e4)))
def test_c2_of_float_counts_is_the_definition(counts):
    truth = np.array([[(a * b).mean() / (a.mean() * b.mean()) for b in counts] for a in counts])
    np.testing.assert_allclose(twotime.c2(frozen(counts)), truth, rtol=FLOAT32_ROUNDING)
    np.testing.assert_allclose(twotime.c2(counts.astype(np.float32)), truth, rtol=2e-6)


@given(integer_counts())
def test_c2_is_exactly_symmetric(counts):
    c2 = twotime.c2(counts)
    np.testing.assert_array_equal(c2, c2.T)


@given(integer_counts(), st.randoms(use_true_random=False))
def test_c2_of_integers_is_bitwise_the_same_in_any_order_of_pixels(counts, random):
    order = random.sample(range(counts.shape[1]), counts.shape[1])
    assert twotime.c2(counts[:, order]).tobytes() == twotime.c2(counts).tobytes()


@given(integer_counts(max_value=200), st.lists(st.integers(1, 300), min_size=9, max_size=9))
def test_c2_does_not_see_the_intensity_of_a_frame(counts, factors):
    brighter = counts.astype(np.int64) * np.array(factors[: len(counts)])[:, None]
    np.testing.assert_allclose(twotime.c2(brighter), twotime.c2(counts), rtol=FLOAT32_ROUNDING)


@given(integer_counts())
def test_frames_without_photons_are_nan_and_only_they(counts):
    empty = counts.sum(axis=1) == 0
    np.testing.assert_array_equal(np.isnan(twotime.c2(counts)), empty[:, None] | empty[None, :])


def test_c2_of_integers_is_bitwise_the_same_for_any_blocking_dtype_and_threads(monkeypatch):
    counts = np.random.default_rng(3).integers(0, 65535, size=(150, 9001), dtype=np.uint16)
    with threadpool_limits(1):
        expected = twotime.c2(counts).tobytes()
    with threadpool_limits(2):
        assert twotime.c2(counts).tobytes() == expected
    assert twotime.c2(counts.astype(np.float64)).tobytes() == expected
    assert twotime.c2(np.asfortranarray(counts)).tobytes() == expected
    monkeypatch.setattr(twotime, "_PIXELS_PER_BLOCK", 1000)
    assert twotime.c2(counts).tobytes() == expected


def test_c2_by_hand():
    counts = np.array([[1, 3], [2, 2], [0, 0]], dtype=np.uint8)
    nan = np.nan
    np.testing.assert_array_equal(twotime.c2(counts), np.float32([[1.25, 1, nan], [1, 1, nan], [nan, nan, nan]]))


def test_c2_of_one_pixel_is_one_and_of_no_pixel_nan():
    assert (twotime.c2(np.array([[7], [5], [9]])) == 1).all()
    assert np.isnan(twotime.c2(np.zeros((3, 0), dtype=np.uint8))).all()


def test_c2_of_simulated_static_speckle_is_one_plus_contrast_off_the_diagonal():
    modes, mean = 4, 0.7
    counts = speckle(np.random.default_rng(0), (40, 100_000), modes, mean)
    c2 = twotime.c2(counts)
    off_diagonal = c2[np.triu_indices(40, 1)].mean()
    # The speckle pattern is one for all frames: its own second moment is known to about 0.3 % of 100,000 pixels.
    assert off_diagonal == pytest.approx(1 + 1 / modes, abs=5e-3)
    assert np.diagonal(c2).mean() - off_diagonal == pytest.approx(1 / mean, rel=1e-2)  # shot noise


@given(integer_counts())
def test_intensity_is_the_mean_of_the_pixels(counts):
    np.testing.assert_allclose(twotime.intensity(counts), [np.mean(frame, dtype=np.float64) for frame in counts])


def test_intensity_without_pixels_is_nan():
    assert np.isnan(twotime.intensity(np.zeros((2, 0), dtype=np.uint8))).all()


def c2_maps(min_side=1):
    elements = st.one_of(st.floats(0.5, 2, width=32), st.just(float("nan")))
    sides = st.integers(min_side, 9)
    return sides.flatmap(lambda side: hnp.arrays(np.float32, (side, side), elements=elements)).map(frozen)


@given(c2_maps())
def test_g2_is_the_mean_of_each_diagonal_with_its_standard_error(c2):
    g2, g2_err = twotime.g2_from_c2(c2)
    assert g2.shape == g2_err.shape == (len(c2) - 1,)
    for lag in range(1, len(c2)):
        entries = np.diagonal(c2, lag).astype(np.float64)
        entries = entries[~np.isnan(entries)]
        mean = entries.mean() if len(entries) else np.nan
        error = entries.std(ddof=1) / np.sqrt(len(entries)) if len(entries) > 1 else np.nan
        np.testing.assert_allclose(g2[lag - 1], mean, rtol=1e-12)
        np.testing.assert_allclose(g2_err[lag - 1], error, rtol=1e-9, atol=1e-12)


def test_g2_of_one_and_two_frames():
    assert twotime.g2_from_c2(np.ones((1, 1)))[0].size == 0
    g2, g2_err = twotime.g2_from_c2(np.array([[9, 1.5], [1.5, 9]]))
    assert g2.tolist() == [1.5]
    assert np.isnan(g2_err).tolist() == [True]


@given(c2_maps())
def test_fill_diagonal_takes_the_mean_of_the_finite_neighbours(c2):
    filled = twotime.fill_diagonal(c2)
    assert filled.dtype == c2.dtype
    off_diagonal = ~np.eye(len(c2), dtype=bool)
    np.testing.assert_array_equal(filled[off_diagonal], c2[off_diagonal])
    for i in range(len(c2)):
        neighbours = [float(c2[j, j + 1]) for j in (i - 1, i) if 0 <= j < len(c2) - 1]
        finite = [value for value in neighbours if not np.isnan(value)]
        expected = sum(finite) / len(finite) if finite else np.nan
        np.testing.assert_allclose(filled[i, i], expected, rtol=FLOAT32_ROUNDING)


@given(c2_maps())
def test_complete_triangle_from_either_triangle_or_both(c2):
    full = np.triu(c2) + np.triu(c2, 1).T
    for stored in (np.triu(full), np.tril(full), full):
        np.testing.assert_array_equal(twotime.complete_triangle(frozen(stored)), full)


def test_complete_triangle_averages_rounding_away_and_refuses_more():
    c2 = 1 + 0.1 * np.random.default_rng(1).random((5, 5))
    c2 = c2 + c2.T
    rounded = c2 + 1e-6 * np.triu(np.ones((5, 5)), 1)
    complete = twotime.complete_triangle(rounded)
    np.testing.assert_array_equal(complete, complete.T)
    np.testing.assert_allclose(complete, c2, atol=1e-6)
    with pytest.raises(ValueError, match=r"expected a symmetric C2.* at \(0, 1\) and .* at \(1, 0\)"):
        twotime.complete_triangle(c2 + 0.5 * np.triu(np.ones((5, 5)), 1))
    with pytest.raises(ValueError, match="found nan at"):
        twotime.complete_triangle(np.where(np.tri(5, k=-1).T == 1, np.nan, c2))
