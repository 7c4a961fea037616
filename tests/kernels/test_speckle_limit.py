"""The limit of g2 against simulated speckle of contrast 1: hardly ever exceeded, but by what is not speckle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.kernels.speckle_limit import excess, largest_g2


def speckle(rng: np.random.Generator, num_scans: int, num_frames: int, num_pixels: int, mean: float, is_static: bool):
    """Counts (scan, t, p) of fully coherent speckle, standing still or new in every frame."""
    intensity = rng.exponential(mean, (num_scans, 1 if is_static else num_frames, num_pixels))
    return rng.poisson(np.broadcast_to(intensity, (num_scans, num_frames, num_pixels)))


def g2_and_photons(counts: np.ndarray, is_weighted: bool) -> tuple[np.ndarray, np.ndarray]:
    """g2 at lag 1 as read off C2, plain NumPy, (scan,), and counts of the frames, (scan, t)."""
    photons = counts.sum(axis=2).astype(float)
    pairs = photons[:, :-1] * photons[:, 1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        c2 = counts.shape[2] * (counts[:, :-1] * counts[:, 1:]).sum(axis=2) / pairs
        weight = pairs if is_weighted else (pairs > 0).astype(float)
        return np.nansum(c2 * weight, axis=1) / weight.sum(axis=1), photons


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("is_static", [False, True])
@pytest.mark.parametrize("num_pixels", [20, 300, 2000])
@pytest.mark.parametrize("mean", [0.002, 0.05, 1.0, 30.0])
def test_speckle_of_contrast_1_stays_below(num_pixels: int, mean: float, is_static: bool, is_weighted: bool) -> None:
    """However few counts there are: 400 scans of a q-bin each, of which one in 2,500 tests would be one too many."""
    num_scans = 400 if num_pixels < 1000 else 100
    rng = np.random.default_rng([num_pixels, round(1000 * mean), is_static])
    counts = speckle(rng, num_scans, 24, num_pixels, mean, is_static)
    g2, photons = g2_and_photons(counts, is_weighted)
    limits = np.array([largest_g2(one, num_pixels, weighted=is_weighted) for one in photons])
    assert not (g2 > limits).any()


def test_the_limit_comes_down_to_2_with_pixels_and_counts() -> None:
    """Not so large that it would hide anything where there is enough to judge by."""
    photons = np.full(1000, 1e6)
    assert 2 < largest_g2(photons, 10**6) < 2.02
    assert largest_g2(photons, 10**4) < 2.15
    assert largest_g2(np.full(1000, 100.0), 10**4) < 2.5  # 0.01 counts a pixel and frame
    assert largest_g2(np.full(1000, 10.0), 10**4) > 4  # 0.001: chance alone gives as much


@settings(max_examples=50)
@given(st.integers(2, 10**6), st.floats(1e-4, 1e3), st.integers(2, 200), st.booleans())
def test_more_of_anything_never_raises_it(num_pixels: int, mean: float, num_frames: int, is_weighted: bool) -> None:
    photons = np.full(num_frames, mean * num_pixels)
    limit = largest_g2(photons, num_pixels, weighted=is_weighted)
    assert limit >= 2
    assert largest_g2(2 * photons, num_pixels, weighted=is_weighted) <= limit
    assert largest_g2(np.tile(photons, 2), num_pixels, weighted=is_weighted) <= limit


def test_a_hot_pixel_is_beyond_it() -> None:
    """Among 384 pixels of 3 counts one of 900, as in a file whose own mask is not applied."""
    counts = np.random.default_rng(0).poisson(3, (1, 64, 384))
    counts[:, :, 5] = 900
    g2, photons = g2_and_photons(counts, False)
    assert g2[0] > 50
    assert excess(g2 - 1, np.zeros(1), largest_g2(photons[0], 384))[0] > 20


def test_a_dim_hot_pixel_is_beyond_it() -> None:
    """0.01 counts a pixel and frame, and one pixel that counts 1 in every frame."""
    counts = np.random.default_rng(0).poisson(0.01, (1, 1000, 1000))
    counts[:, :, 5] = 1
    g2, photons = g2_and_photons(counts, False)
    assert 1000 / 11**2 < g2[0] < 12  # more than of the mean counts, which fluctuate
    assert excess(g2 - 1, np.zeros(1), largest_g2(photons[0], 1000))[0] > 2


def test_frames_that_are_not_used_do_not_count() -> None:
    photons = np.array([50.0, 60, 70, 80, 90])
    gaps = np.array([50.0, 60, 70, 80, 90, np.nan, 0, np.nan])
    assert largest_g2(gaps, 100) == pytest.approx(largest_g2(photons, 100), rel=1e-12)
    assert np.isnan(largest_g2(np.array([5.0, 0, 5, np.nan, 5]), 100))
    assert np.isnan(largest_g2(photons, 0))


def test_an_error_makes_the_limit_wider() -> None:
    found = excess(np.array([3.0, 3.0, np.nan]), np.array([0.0, 1.0, 0.0]), 2.5)
    assert found[0] == pytest.approx(2)
    assert found[1] == pytest.approx(3 / (1.5 + np.sqrt(2 * np.log(1e6))))
    assert np.isnan(found[2])
