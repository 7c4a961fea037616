"""Cells of (log lag, age), against a plain truth that walks along the diagonals in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.kernels.cells import cells, expected_cells

NUM_AGES = 16


def lines_truth(c2: np.ndarray) -> dict[str, np.ndarray]:
    """Sums over each sixth of an octave of lag, from half a frame on, and each sixteenth of the window."""
    w = len(c2)
    num_lags = int(np.ceil((np.log2(w) + 1) * 6))
    names = ("number", "squared", "sum", "squares", "steps", "num_steps")
    sums = {name: np.zeros((num_lags, NUM_AGES)) for name in names}
    for lag in range(1, w):
        value = np.diagonal(c2, lag).astype(np.float64) - 1
        age = (2 * np.arange(w - lag) + lag + 1) * NUM_AGES // (2 * w)
        step = np.append(np.diff(value), np.nan)
        found, stepped = np.isfinite(value), np.isfinite(step)
        for k in range(num_lags):
            low, high = 2 ** (k / 6 - 1), 2 ** ((k + 1) / 6 - 1)
            share = min(high, lag + 0.5) - max(low, lag - 0.5)
            if share > 0:
                one = np.ones(w - lag)
                for name, weight, values, where in (
                    ("number", share, one, found),
                    ("squared", share**2, one, found),
                    ("sum", share, value, found),
                    ("squares", share, value**2, found),
                    ("steps", share, step**2, stepped),
                    ("num_steps", share, one, stepped),
                ):
                    sums[name][k] += weight * np.bincount(age[where], values[where], NUM_AGES)
    return sums


def values_truth(c2: np.ndarray, contrast: float, half_decay: float) -> np.ndarray:
    """The cells of a window whose contrast and half decay (frames) are known."""
    sums = lines_truth(c2)
    known = sums["number"] > 1e-9
    number = np.where(known, sums["number"], 1)
    mean = np.where(known, sums["sum"] / number, 0)
    variance = np.where(known, sums["squares"] / number, 0) - mean**2
    noise = np.where(sums["num_steps"] > 1e-9, sums["steps"] / np.maximum(2 * sums["num_steps"], 1e-9), 0)
    excess = np.maximum(np.maximum(variance, 0) - noise, 0)
    stepped = sums["num_steps"].sum(axis=1) > 0.5
    of_lag = sums["steps"].sum(axis=1) / np.maximum(2 * sums["num_steps"].sum(axis=1), 1e-9)
    if stepped.any():
        of_lag = np.interp(np.arange(len(of_lag)), np.flatnonzero(stepped), of_lag[stepped])
    entries = number**2 / np.maximum(sums["squared"], 1e-12)
    error = np.sqrt(of_lag[:, None] / np.maximum(entries, 1e-9))
    sureness = np.where(known, contrast / np.maximum(error, 1e-9), 0)
    place = 6 * np.log2(half_decay) + 6 - 24 + np.arange(60)
    at = [
        np.array([np.interp(place, np.arange(len(rows)), row) for row in rows.T]).T for rows in (mean, excess, sureness)
    ]
    sure = np.where(((place >= -0.5) & (place <= len(mean) - 0.5))[:, None], at[2], 0)
    values = [np.clip(at[0] / contrast, -1, 2), np.clip(np.sqrt(at[1]) / contrast, 0, 2)]
    return np.stack([np.where(sure > 0, value, 0) for value in values] + [np.log1p(sure) / 5])


def window(
    w: int, contrast: float = 0.2, tau: float = 0.1, noise: float = 0.02, seed: int = 0, age: float = 0.0
) -> Any:
    """C2 of a decay that slows down by a factor exp(age) over the window; tau in windows."""
    random = np.random.default_rng(seed)
    time = np.arange(w) / w
    clock = time if age == 0 else (1 - np.exp(-age * time)) / age
    c2 = 1 + contrast * np.exp(-2 * np.abs(clock[:, None] - clock) / tau)
    more = np.triu(random.normal(size=(w, w)), 1)
    return (c2 + noise * (more + more.T)).astype(np.float32)


def assert_true(c2: np.ndarray, atol: float = 2e-6) -> None:
    found = cells(c2)
    truth = values_truth(c2, found.contrast, found.half_decay)
    assert found.values.shape == (3, 60, NUM_AGES)
    assert found.values.dtype == np.float32
    np.testing.assert_allclose(found.values[[0, 2]], truth[[0, 2]], rtol=1e-5, atol=atol)
    # A spread is the root of a difference of nearly equal squares.
    np.testing.assert_allclose(found.values[1] ** 2, truth[1] ** 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("w", [4, 5, 7, 15, 16, 17, 33, 256, 700])
def test_cells_equal_plain_numpy(w: int) -> None:
    assert_true(window(w, age=1.0))


def test_cells_of_the_longest_window() -> None:
    assert_true(window(4096, tau=0.01))


def test_frames_without_values_carry_no_weight() -> None:
    c2 = window(60)
    lost = [0, 7, 8, 31, 59]
    c2[lost], c2[:, lost] = np.nan, np.nan
    assert_true(c2)
    kept = np.isfinite(c2)
    c2[~kept] = np.inf
    np.testing.assert_array_equal(cells(c2).values, cells(np.where(kept, c2, np.nan)).values)


@pytest.mark.parametrize("w", [4, 40])
def test_a_window_without_values_has_no_entry(w: int) -> None:
    found = cells(np.full((w, w), np.nan, np.float32))
    assert (found.values == 0).all()
    assert found.signal_to_noise == 0
    assert np.isnan(found.half_decay_err)
    assert np.isfinite([found.contrast, found.half_decay]).all()


@given(
    w=st.integers(4, 70),
    seed=st.integers(0, 2**31),
    contrast=st.floats(0.001, 1),
    tau=st.floats(0.01, 5),
    noise=st.floats(1e-4, 1),
    lost=st.floats(0, 0.9),
)
@settings(max_examples=60)
def test_cells_of_any_window_equal_plain_numpy(
    w: int, seed: int, contrast: float, tau: float, noise: float, lost: float
) -> None:
    c2 = window(w, contrast, tau, noise, seed)
    bad = np.random.default_rng(seed).random(w) < lost
    c2[bad], c2[:, bad] = np.nan, np.nan
    before = c2.copy()
    found = cells(c2)
    np.testing.assert_array_equal(c2, before)
    assert np.isfinite(found.values).all()
    assert np.isfinite([found.contrast, found.half_decay, found.signal_to_noise]).all()
    assert found.contrast >= 1e-4
    assert found.half_decay > 0
    assert_true(c2, atol=2e-5)


@given(seed=st.integers(0, 2**31), factor=st.sampled_from([0.5, 2.0, 3.0, 4.0]), noise=st.floats(0.001, 0.1))
@settings(max_examples=30)
def test_another_contrast_changes_the_contrast_alone(seed: int, factor: float, noise: float) -> None:
    c2 = window(50, 0.1, 0.15, noise, seed).astype(np.float64)
    plain, other = cells(c2), cells(1 + factor * (c2 - 1))
    if plain.contrast > 1e-3:
        assert other.contrast == pytest.approx(factor * plain.contrast, rel=1e-3)
        assert other.half_decay == pytest.approx(plain.half_decay, rel=1e-3)
        assert other.signal_to_noise == pytest.approx(plain.signal_to_noise, rel=1e-3)
        np.testing.assert_allclose(other.values, plain.values, atol=0.01)


@pytest.mark.parametrize("seed", range(4))
def test_another_time_scale_changes_the_half_decay_alone(seed: int) -> None:
    """The same sample at twice as many frames a second: the cells stay where they are, to half a cell of lag."""
    plain = cells(window(200, tau=0.15, noise=0.01, seed=seed, age=1.0))
    finer = cells(window(400, tau=0.15, noise=0.01, seed=10 + seed, age=1.0))
    error = np.hypot(2 * plain.half_decay_err, finer.half_decay_err)
    assert abs(finer.half_decay - 2 * plain.half_decay) < 3 * error + (2 ** (1 / 12) - 1) * finer.half_decay
    assert finer.contrast == pytest.approx(plain.contrast, rel=0.05)
    sure = (plain.values[2] > 0.5) & (finer.values[2] > 0.5)  # ten times as large as its error
    assert sure.sum() > 300
    assert np.abs(finer.values[0] - plain.values[0])[sure].max() < 0.15
    assert np.abs(finer.values[0] - plain.values[0])[sure].mean() < 0.02


@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0])
def test_half_decay_and_contrast_of_a_plain_decay(tau: float) -> None:
    """g2 - 1 halves at tau ln 2 / 2; decays of fewer frames are less sharp, as g2 is smoothed to find it."""
    w, noise = 400, 0.02
    taken = [cells(window(w, 0.2, tau, noise, seed)) for seed in range(5)]
    for found in taken:
        assert found.half_decay == pytest.approx(w * tau * np.log(2) / 2, rel=0.1)
        assert found.contrast == pytest.approx(0.2, rel=0.1)
        assert 0 < found.half_decay_err < 0.1 * found.half_decay
        assert found.signal_to_noise > 20


def test_a_decay_longer_than_the_window_has_no_half_decay() -> None:
    found = cells(window(100, tau=50.0))
    assert found.half_decay > 90
    assert np.isnan(found.half_decay_err)
    assert found.signal_to_noise > 20


def test_noise_alone_tells_nothing() -> None:
    found = cells(window(100, contrast=0.0, noise=0.1))
    assert found.signal_to_noise < 5
    assert found.values[2].max() < cells(window(100, contrast=0.2, noise=0.1)).values[2].max()


@given(w=st.integers(4, 60), tau=st.floats(0.02, 3), half_decay=st.floats(0.5, 100))
@settings(max_examples=30)
def test_expected_cells_are_the_means_without_noise(w: int, tau: float, half_decay: float) -> None:
    c2 = window(w, 1.0, tau, noise=0.0).astype(np.float64) - 1
    sums = lines_truth((c2 + 1).astype(np.float32))
    mean = np.divide(sums["sum"], sums["number"], out=np.zeros_like(sums["sum"]), where=sums["number"] > 1e-9)
    place = 6 * np.log2(half_decay) + 6 - 24 + np.arange(60)
    truth = np.array([np.interp(place, np.arange(len(mean)), row) for row in mean.T]).T
    np.testing.assert_allclose(expected_cells(c2, half_decay), truth, rtol=1e-4, atol=1e-6)
