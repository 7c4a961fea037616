"""The nearest points, and the scales of what they are counted in, against float64 written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from ainerd_hpc.kernels import nearest as kernel
from ainerd_hpc.kernels.nearest import Scales, nearest


@given(st.integers(0, 10**6), st.integers(1, 7), st.floats(0, 1e4))
def test_distances_are_those_of_all_pairs(seed: int, num: int, far: float) -> None:
    chance = np.random.default_rng(seed)
    points = (chance.normal(size=(40, 5)) + far).astype(np.float32)
    asked = points[chance.choice(40, num, replace=False)]
    found, expected = nearest(points, asked), cdist(points, asked)
    np.testing.assert_allclose(found.distance, expected.min(axis=1), rtol=1e-5)
    np.testing.assert_allclose(expected[np.arange(40), found.place], expected.min(axis=1), rtol=1e-3, atol=1e-6)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).normal(size=(100, 4))
    whole = nearest(points, points[:3])
    monkeypatch.setattr(kernel, "_ROWS", 7)
    np.testing.assert_array_equal(nearest(points, points[:3]).distance, whole.distance)


def test_points_that_are_asked_for_are_no_distance_apart() -> None:
    points = np.random.default_rng(1).normal(size=(50, 32)).astype(np.float32) + 100
    found = nearest(points, points[10:20])
    np.testing.assert_array_equal(found.distance[10:20], 0)
    np.testing.assert_array_equal(found.place[10:20], np.arange(10))


def test_maps_are_as_far_apart_by_latents_as_by_each_number() -> None:
    chance = np.random.default_rng(2)
    latents, numbers = 7 * chance.normal(size=(300, 6)), chance.normal(3, 5, (300, 2))
    found = Scales.of(latents, numbers).coordinates(latents, numbers)
    for part in (found[:, :6], found[:, 6:7], found[:, 7:]):
        assert np.mean(cdist(part, part, "sqeuclidean")) == pytest.approx(2, rel=1e-4)


def test_numbers_that_are_not_known_or_do_not_differ_say_nothing() -> None:
    latents, numbers = np.eye(3), np.array([[1, 5.0], [3, 5], [np.nan, np.nan]])
    scales = Scales.of(latents, numbers)
    np.testing.assert_allclose(scales.coordinates(latents, numbers)[:, 3:], [[-1, 0], [1, 0], [0, 0]])
    nothing = Scales.of(np.zeros((3, 2)), np.full((3, 1), np.nan))
    np.testing.assert_array_equal(nothing.coordinates(np.zeros((3, 2)), np.full((3, 1), np.nan)), np.zeros((3, 3)))
