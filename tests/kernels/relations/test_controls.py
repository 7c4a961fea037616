"""Controls, and p-values corrected for many statistics, against counts written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ainerd_hpc.kernels.relations import controls


def test_one_statistic_has_the_p_value_that_is_counted() -> None:
    values = np.random.default_rng(0).normal(size=(200, 1))
    assert controls.corrected(values)[0] == pytest.approx(np.mean(values[:, 0] >= values[0, 0]))


@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(0.01, 100))
def test_p_values_do_not_change_with_units_nor_with_copies(seed: int, copies: int, factor: float) -> None:
    values = np.random.default_rng(seed).normal(size=(60, 3))
    p = controls.corrected(values)
    np.testing.assert_allclose(controls.corrected(values * [factor, 1, 2] + 5), p)
    np.testing.assert_allclose(controls.corrected(np.hstack([values] * copies))[:3], p)
    assert (p >= 1 / 60).all()
    assert p.min() == pytest.approx(p[np.argmin([np.mean(one >= one[0]) for one in values.T])])


def test_correction_costs_what_so_many_independent_statistics_are_worth() -> None:
    """The least of 20 p-values is below 0.05 in 5 % of all cases, not in 64 %."""
    chance = np.random.default_rng(1)
    least, naive = np.empty(400), np.empty(400)
    for trial in range(400):
        values = chance.normal(size=(200, 20))
        least[trial] = controls.corrected(values).min()
        naive[trial] = np.mean(values >= values[0], axis=0).min()
    assert 0.02 < np.mean(least <= 0.05) < 0.09
    assert np.mean(naive <= 0.05) > 0.5


def test_equal_statistics_have_equal_p_values_whatever_their_rounding() -> None:
    values = np.array([[0.1 + 0.2], [0.3], [0.3 - 1e-16], [0.1]])
    assert controls.corrected(values)[0] == 0.75


def test_a_statistic_without_differences_has_no_p_value() -> None:
    assert np.isnan(controls.corrected(np.full((10, 2), [1.0, np.nan]))).all()
    assert controls.corrected(np.empty((1, 0))).shape == (0,)


def test_a_large_effect_is_found_among_many_however_few_controls_there_are() -> None:
    values = np.random.default_rng(2).normal(size=(200, 300))
    values[0, 7] = 40
    p = controls.corrected(values)
    assert p[7] == pytest.approx(1 / 200)
    assert np.delete(p, 7).min() > 0.05


def test_shifts_are_all_there_are_or_evenly_spaced() -> None:
    np.testing.assert_array_equal(controls.shifts(5), [1, 2, 3, 4])
    many = controls.shifts(10**6)
    assert (len(many), many[0], many[-1]) == (99, 1, 10**6 - 1)
    orders = list(controls.shifted(4))
    np.testing.assert_array_equal(orders, [[3, 0, 1, 2], [2, 3, 0, 1], [1, 2, 3, 0]])


def test_permutations_are_the_same_each_time_and_hold_every_unit() -> None:
    one, other = list(controls.permutations(30)), list(controls.permutations(30))
    np.testing.assert_array_equal(one, other)
    assert len(one) == controls.NUM_CONTROLS
    np.testing.assert_array_equal(np.sort(one, axis=1), np.tile(np.arange(30), (len(one), 1)))
