"""Sudden steps of logs, and changes near them, on series whose steps are known."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ainerd_hpc.kernels.relations.controls import corrected
from ainerd_hpc.kernels.relations.events import at_shifts, far_from_change, level_shifts, sudden_steps


def _log(seed: int = 0, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(n) * 2.0, np.random.default_rng(seed).normal(0, 0.1, n)


def test_steps_are_found_where_they_are() -> None:
    time, values = _log()
    values[100:] -= 3
    values[250:] += 5
    found = sudden_steps(time, values)
    np.testing.assert_array_equal(found.start, [198, 498])
    np.testing.assert_array_equal(found.time, [199, 499])
    np.testing.assert_allclose(found.size, [-3, 5], atol=0.5)


def test_a_drop_over_several_values_is_one() -> None:
    time, values = _log()
    values[100:] -= np.minimum(np.arange(1, 301), 3) * 2.0
    found = sudden_steps(time, values)
    assert (found.start.tolist(), found.stop.tolist()) == ([198], [204])


def test_spikes_slow_drifts_and_noise_are_no_steps() -> None:
    time, values = _log(n=2000)
    values += 0.05 * time
    values[300] += 40
    assert len(sudden_steps(time, values).size) <= 1
    flicker = np.zeros(300)
    flicker[[50, 51, 120]] = 0.1
    assert not len(sudden_steps(np.arange(300.0), flicker).size)


def test_a_setpoint_that_is_changed_is_a_step_though_nothing_else_moves() -> None:
    values = np.repeat([30.0, 100.0, 0.0], 100)
    assert sudden_steps(np.arange(300.0), values).size.tolist() == [70, -100]


@given(st.integers(0, 10**6), st.floats(1e-3, 1e3), st.floats(-10, 10))
def test_steps_do_not_depend_on_units_nor_on_gaps(seed: int, factor: float, offset: float) -> None:
    time, values = _log(seed)
    values[200:] -= 2
    once, again = sudden_steps(time, values), sudden_steps(time, factor * (values + offset))
    np.testing.assert_array_equal(once.time, again.time)
    with_gaps = sudden_steps(np.repeat(time, 2), np.stack([values, np.full(400, np.nan)], axis=1).ravel())
    np.testing.assert_array_equal(once.time, with_gaps.time)


def test_logs_with_nothing_to_say_have_no_steps() -> None:
    for num in (0, 1, 2):
        assert not len(sudden_steps(np.arange(float(num)), np.zeros(num)).size)


@given(st.integers(0, 10**6))
def test_distance_to_the_nearest_change_is_the_least_one(seed: int) -> None:
    changed = np.random.default_rng(seed).random((25, 4)) < 0.2
    found = far_from_change(changed)
    used = [np.flatnonzero(column) for column in changed.T if column.any()]
    for place in range(25):
        expected = np.mean([np.abs(one - place).min() for one in used]) if used else np.nan
        np.testing.assert_allclose(found[place], expected)


def test_levels_are_means_of_three_on_either_side() -> None:
    values = np.array([0, 0, 3, np.nan, 6, 6, 9])
    expected = [3 / 2 - 0, 9 / 2 - 0, 6 - 1, 7 - 3 / 2, 15 / 2 - 9 / 2, 9 - 6]
    np.testing.assert_allclose(level_shifts(values), expected)


def test_values_at_places_are_shifted_together() -> None:
    np.testing.assert_array_equal(at_shifts(np.array([0.0, 1, 2]), np.array([0, 2])), [[0, 2], [1, 0], [2, 1]])


def _lags(chance: np.random.Generator, events: np.ndarray, num: int = 120) -> float:
    """p-value that changes of slowly drifting labels, of four q-bins alike, are near events."""
    changes = np.zeros(num, dtype=bool)
    changes[chance.choice(num, 8, replace=False)] = True
    changed = np.repeat(changes[:, None], 4, axis=1) ^ (chance.random((num, 4)) < 0.01)
    return float(corrected(at_shifts(-far_from_change(changed), events).mean(axis=1)[:, None])[0])


def test_events_that_know_nothing_of_changes_have_any_p_value() -> None:
    chance = np.random.default_rng(7)
    p = np.array([_lags(chance, chance.choice(120, 5, replace=False)) for _ in range(300)])
    assert 0.02 <= np.mean(p <= 0.05) <= 0.09
    assert stats.kstest(p - chance.random(300) / 120, "uniform").pvalue > 0.01


def test_events_at_changes_are_found() -> None:
    changed = np.zeros((120, 4), dtype=bool)
    places = np.array([11, 40, 77, 90])
    changed[places] = True
    assert corrected(at_shifts(-far_from_change(changed), places).mean(axis=1)[:, None])[0] <= 0.01
