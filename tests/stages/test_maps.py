"""Windows, resampling and scaling of C2."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ainerd_hpc.kernels import diagonals, maps, windows


def symmetric_c2(length, seed=0):
    noise = np.random.default_rng(seed).random((length, length))
    c2 = (1 + (noise + noise.T) / 4).astype(np.float32)
    c2.flags.writeable = False
    return c2


def area_average_truth(c2, size):
    """Mean over each output pixel of the piecewise constant map, on the common refinement of both grids."""
    length = len(c2)
    fine = np.repeat(np.repeat(c2.astype(np.float64), size, axis=0), size, axis=1)
    return fine.reshape(size, length, size, length).mean(axis=(1, 3))


def test_window_starts_by_hand():
    assert windows.window_starts(100, 50, 0.0).tolist() == [0, 50]
    assert windows.window_starts(100, 30, 0.0).tolist() == [0, 30, 60]
    assert windows.window_starts(100, 50, 0.5).tolist() == [0, 25, 50]
    assert windows.window_starts(100, 100, 0.9).tolist() == [0]
    assert windows.window_starts(10, 8, 0.9).tolist() == [0, 1, 2]
    assert windows.window_starts(7, 8, 0.0).tolist() == []


@given(st.integers(1, 300), st.integers(1, 60), st.floats(0, 0.99))
def test_windows_lie_in_the_scan_and_share_the_overlap(num_frames, length, overlap):
    starts = windows.window_starts(num_frames, length, overlap)
    assert starts.dtype == np.int64
    assert (len(starts) == 0) == (length > num_frames)
    assert all(0 <= start <= num_frames - length for start in starts)
    steps = np.diff(starts)
    assert all(steps == max(1, round(length * (1 - overlap))))
    assert len(starts) == 0 or num_frames - length - starts[-1] < max(1, round(length * (1 - overlap)))


@pytest.mark.parametrize(("length", "size"), [(12, 12), (24, 8), (13, 8), (25, 7), (8, 1)])
def test_resample_averages_areas(length, size):
    filled = symmetric_c2(length).astype(np.float64)
    np.testing.assert_allclose(maps.resample(symmetric_c2(length), size), area_average_truth(filled, size), rtol=2e-7)


@given(st.integers(2, 60), st.integers(1, 60), st.integers(0, 99))
def test_resample_is_symmetric_and_where_it_averages_keeps_the_mean(length, size, seed):
    c2 = symmetric_c2(length, seed)
    resampled = maps.resample(c2, size)
    assert resampled.shape == (size, size)
    assert resampled.dtype == np.float32
    np.testing.assert_array_equal(resampled, resampled.T)
    filled = c2.astype(np.float64)
    assert filled.min() - 1e-6 <= resampled.min() <= resampled.max() <= filled.max() + 1e-6
    if length >= size:
        assert resampled.mean(dtype=np.float64) == pytest.approx(filled.mean(), rel=1e-7)


def test_resample_to_the_same_size_changes_nothing():
    c2 = symmetric_c2(256)
    np.testing.assert_array_equal(maps.resample(c2), c2)


@pytest.mark.parametrize(("length", "size"), [(2, 5), (5, 16), (100, 256)])
def test_resample_to_more_pixels_interpolates_linearly(length, size):
    filled = symmetric_c2(length).astype(np.float64)
    centres = (np.arange(size) + 0.5) * length / size - 0.5
    once = np.array([np.interp(centres, np.arange(length), column) for column in filled.T])  # (column, size)
    twice = np.array([np.interp(centres, np.arange(length), row) for row in once.T])
    np.testing.assert_allclose(maps.resample(symmetric_c2(length), size), twice, rtol=2e-7)


@pytest.mark.parametrize("size", [20, 8, 6, 33])
def test_the_raw_diagonal_does_not_show(size):
    c2, bright = symmetric_c2(20), symmetric_c2(20).copy()
    np.fill_diagonal(bright, 50)
    for method in ("robust", "minmax"):
        np.testing.assert_array_equal(maps.make_map(bright, method, size).map, maps.make_map(c2, method, size).map)


def test_unscaled_maps_keep_their_diagonal():
    bright = symmetric_c2(256).copy()
    np.fill_diagonal(bright, 50)
    np.testing.assert_array_equal(maps.make_map(bright, "none").map, bright - 1)


def test_missing_entries_carry_no_weight():
    c2 = symmetric_c2(12).copy()
    c2[4], c2[:, 4] = np.nan, np.nan
    filled = c2.astype(np.float64)
    expected = [[np.nanmean(filled[i : i + 2, j : j + 2]) for j in range(0, 12, 2)] for i in range(0, 12, 2)]
    np.testing.assert_allclose(maps.resample(c2, 6), expected, rtol=2e-7)


@pytest.mark.parametrize("size", [6, 3, 24])
def test_pixels_without_entries_get_the_median_of_the_window(size):
    c2 = symmetric_c2(6).copy()
    c2[2:4], c2[:, 2:4] = np.nan, np.nan
    resampled = maps.resample(c2, size)
    assert np.isfinite(resampled).all()
    median = np.nanmedian(c2.astype(np.float64))
    assert resampled[size // 2, 0] == pytest.approx(median, rel=2e-7)
    np.testing.assert_array_equal(resampled, resampled.T)


def test_a_window_without_entries_is_no_map():
    assert np.isnan(maps.resample(np.full((10, 10), np.nan), 4)).all()
    assert np.isnan(maps.make_map(np.full((10, 10), np.nan), "robust", 4).map).all()


def test_robust_scaling_puts_the_baseline_at_0_and_the_percentile_at_1():
    resampled = 1 + 0.3 * np.arange(10_000, dtype=np.float32).reshape(100, 100) / 9999
    scaled = maps.scale(resampled, "robust")
    assert (scaled.low, scaled.high) == (1.0, pytest.approx(1 + 0.3 * 0.995))
    np.testing.assert_allclose(scaled.map, (resampled - 1) / (0.3 * 0.995), atol=1e-5)


def test_robust_scaling_clips_and_does_not_blow_up_noise():
    noise = (1 + 1e-4 * np.random.default_rng(0).normal(size=(64, 64))).astype(np.float32)
    scaled = maps.scale(noise, "robust")
    assert scaled.high == 1 + maps.MIN_SPAN
    np.testing.assert_allclose(scaled.map, (noise - 1) / 0.01, atol=1e-4)
    noise[0, :3] = [9, -9, 1]
    assert maps.scale(noise, "robust").map[0, :3].tolist() == [1.5, -0.5, 0]


@given(st.integers(0, 999), st.floats(0.02, 1), st.floats(-0.2, 0.2))
def test_unscale_gives_the_map_back(seed, contrast, shift):
    resampled = (symmetric_c2(16, seed) - 1) * np.float32(contrast) + np.float32(1 + shift)
    for method in ("minmax", "none"):
        np.testing.assert_allclose(maps.unscale(maps.scale(resampled, method)), resampled, atol=5e-7)
    scaled = maps.scale(resampled, "robust")
    inside = (scaled.map > -0.5) & (scaled.map < 1.5)
    np.testing.assert_allclose(maps.unscale(scaled)[inside], resampled[inside], atol=5e-7)
    assert scaled.map.dtype == np.float32
    assert inside.any() or shift < 0


def test_minmax_is_0_to_1_and_none_takes_the_baseline_off():
    resampled = symmetric_c2(32)
    scaled = maps.scale(resampled, "minmax")
    assert (scaled.map.min(), scaled.map.max()) == (0, 1)
    assert (scaled.low, scaled.high) == (resampled.min(), resampled.max())
    assert not maps.scale(np.ones((4, 4), dtype=np.float32), "minmax").map.any()
    plain = maps.scale(resampled, "none")
    np.testing.assert_array_equal(plain.map, resampled - 1)
    assert (plain.low, plain.high) == (1.0, 2.0)


def test_a_ridge_of_one_pixel_sets_the_scale():
    ridge = np.ones((256, 256), dtype=np.float32)
    np.fill_diagonal(ridge, 1.3)
    scaled = maps.scale(ridge, "robust")
    assert scaled.high == pytest.approx(1.3)
    assert scaled.map.max() == pytest.approx(1)


def test_unknown_scaling_is_refused():
    with pytest.raises(ValueError, match="expected scaling robust, minmax or none, found 'max'"):
        maps.scale(symmetric_c2(4), "max")


@pytest.mark.parametrize("length", [64, 256, 300])
def test_make_map_is_resample_then_scale(length):
    made = maps.make_map(symmetric_c2(length), "robust")
    assert made.map.shape == (256, 256)
    filled = diagonals.fill_diagonal(symmetric_c2(length).astype(np.float64))
    expected = maps.scale(maps.resample(filled), "robust")
    np.testing.assert_array_equal(made.map, expected.map)
    assert (made.low, made.high) == (expected.low, expected.high)
    np.testing.assert_array_equal(made.map, made.map.T)
