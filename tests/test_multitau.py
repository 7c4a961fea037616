"""Multi-tau g2 against the literal definition in loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ainerd_hpc.kernels import multitau


def delays_truth(num_frames, delays_per_level):
    """Every (lag, level) that the rule x 2^L < floor(T / 2^L) 2^L allows, x from 1 at level 0 and above n at others."""
    allowed = []
    for level in range(30):
        for x in range(1, 2 * delays_per_level + 1):
            in_scheme = x > delays_per_level or level == 0
            if in_scheme and x * 2**level < num_frames // 2**level * 2**level:
                allowed.append((x * 2**level, level))
    return sorted(allowed)


def g2_truth(counts, static_labels, delays_per_level):
    """Pixel by pixel and pair by pair."""
    lags, g2s, errors = [], [], []
    for lag, level in delays_truth(len(counts), delays_per_level):
        fold, moments = 2**level, []
        for series in counts.T:
            frames = [sum(float(v) for v in series[i * fold : (i + 1) * fold]) for i in range(len(series) // fold)]
            pairs = [(frames[i], frames[i + lag // fold]) for i in range(len(frames) - lag // fold)]
            moments.append([np.mean([a * b for a, b in pairs]), *np.mean(pairs, axis=0)])
        moments = np.array(moments)
        in_bins = [moments[static_labels == label].mean(axis=0) for label in np.unique(static_labels) if label > 0]
        ratios = [g / (past * future) for g, past, future in in_bins if past * future > 0]
        pixels = [g / (past * future) for g, past, future in moments[static_labels > 0] if past * future > 0]
        lags.append(lag)
        g2s.append(np.mean(ratios) if ratios else np.nan)
        errors.append(np.std(pixels, ddof=1) / np.sqrt(len(pixels)) if len(pixels) > 1 else np.nan)
    return lags, g2s, errors


@pytest.mark.parametrize("delays_per_level", [1, 2, 3, 4, 8])
def test_delays_follow_the_rule_of_boost_corr(delays_per_level):
    for num_frames in [*range(140), 1000, 1023, 1024, 100_000]:
        lag, level = multitau.delays(num_frames, delays_per_level)
        assert lag.dtype == level.dtype == np.int64
        assert list(zip(lag.tolist(), level.tolist(), strict=True)) == delays_truth(num_frames, delays_per_level)


def test_delays_of_64_frames_by_hand():
    lag, level = multitau.delays(64)
    assert lag.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56]
    assert level.tolist() == [0] * 8 + [1] * 4 + [2] * 4 + [3] * 3


def counts_and_labels():
    shapes = st.tuples(st.integers(1, 45), st.integers(1, 7))
    counts = st.sampled_from([np.uint8, np.uint16, np.int64]).flatmap(
        lambda dtype: hnp.arrays(dtype, shapes, elements=st.sampled_from([0, 0, 0, 1, 1, 2, 7, 255]))
    )
    return counts.flatmap(
        lambda array: st.tuples(st.just(array), hnp.arrays(np.int32, array.shape[1], elements=st.integers(0, 3)))
    )


@given(counts_and_labels(), st.integers(1, 5))
def test_g2_is_the_definition(case, delays_per_level):
    counts, static_labels = case
    counts.flags.writeable = static_labels.flags.writeable = False
    lag, g2, g2_err = multitau.g2(counts, static_labels, delays_per_level)
    lags, g2s, errors = g2_truth(counts, static_labels, delays_per_level)
    assert lag.tolist() == lags
    np.testing.assert_allclose(g2, g2s, rtol=1e-12)
    np.testing.assert_allclose(g2_err, errors, rtol=1e-9, atol=1e-12)


def test_g2_at_level_zero_is_every_lag_g2_of_the_whole_bin():
    counts = np.random.default_rng(5).poisson(1.5, size=(300, 400)).astype(np.uint16)
    lag, g2, _ = multitau.g2(counts, np.ones(400, dtype=np.int64))
    intensities = counts.astype(np.float64)
    for index in range(8):
        past, future = intensities[: -lag[index]], intensities[lag[index] :]
        expected = (past * future).mean() / (past.mean() * future.mean())
        assert g2[index] == pytest.approx(expected, rel=1e-12)


def test_static_bins_count_alike_whatever_their_size_and_intensity():
    steady, blinking = np.full((64, 30), 50), np.tile([[0], [2]], (32, 2))
    counts = np.hstack([steady, blinking])
    labels = np.array([1] * 30 + [2] * 2)
    _, g2, _ = multitau.g2(counts, labels)
    assert g2[1] == pytest.approx((1 + 2) / 2)  # lag 2: steady pixels give 1, blinking ones 2


def test_g2_is_bitwise_the_same_for_any_blocking(monkeypatch):
    counts = np.random.default_rng(6).poisson(0.2, size=(200, 3000)).astype(np.uint8)
    labels = np.random.default_rng(7).integers(1, 9, size=3000)
    expected = [array.tobytes() for array in multitau.g2(counts, labels)]
    monkeypatch.setattr(multitau, "_PIXELS_PER_BLOCK", 77)
    assert [array.tobytes() for array in multitau.g2(counts, labels)] == expected


def test_g2_without_photons_pixels_or_pairs():
    lag, g2, g2_err = multitau.g2(np.zeros((20, 4), dtype=np.uint8), np.ones(4, dtype=int))
    assert len(lag) > 0
    assert np.isnan(g2).all()
    assert np.isnan(g2_err).all()
    assert np.isnan(multitau.g2(np.ones((20, 4)), np.zeros(4, dtype=int))[1]).all()
    assert np.isnan(multitau.g2(np.ones((20, 0)), np.zeros(0, dtype=int))[1]).all()
    assert multitau.g2(np.ones((1, 4)), np.ones(4, dtype=int))[1].size == 0


def test_error_is_the_scatter_of_repeated_simulations():
    rng = np.random.default_rng(8)
    results = [multitau.g2(rng.poisson(5.0, size=(64, 400)), np.ones(400, dtype=int)) for _ in range(300)]
    scatter = np.std([g2 for _, g2, _ in results], axis=0)
    stated = np.mean([g2_err for _, _, g2_err in results], axis=0)
    # 300 repeats know a scatter to 4 %; the pixel normalisation by its own few pairs adds some at the longest lags
    np.testing.assert_allclose(stated[:12], scatter[:12], rtol=0.2)
