"""Effects of columns on clusters, against their definitions, and how often chance alone is taken for one."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.stats.contingency import association

from ainerd_hpc.kernels.relations.columns import Effects, effects, shares
from ainerd_hpc.kernels.relations.controls import permutations, shifted

Chance = np.random.Generator


def _sizes(labels: np.ndarray, units: np.ndarray, column: np.ndarray) -> Effects:
    orders = islice(permutations(len(column)), 19)
    return effects(shares(labels, units), column[:, None], np.empty((len(column), 0), np.int64), orders)


def _delta(labels: np.ndarray, units: np.ndarray, column: np.ndarray, cluster: int) -> float:
    """Cliff's delta by pairs of maps, in which every scan has the same weight."""
    weight = 1 / np.bincount(units)[units]
    inside = labels == cluster
    pairs = weight[inside][:, None] * weight[~inside][None]
    return float((pairs * np.sign(column[units][inside][:, None] - column[units][~inside][None])).sum() / pairs.sum())


def test_delta_is_that_of_all_pairs_of_maps() -> None:
    chance = np.random.default_rng(0)
    units = np.sort(chance.integers(0, 12, 80))
    units = np.unique(units, return_inverse=True)[1]
    labels, column = chance.integers(0, 3, 80), chance.integers(0, 6, units.max() + 1).astype(float)
    found = _sizes(labels, units, column)
    expected = [_delta(labels, units, column, cluster) for cluster in range(3)]
    np.testing.assert_allclose(found.delta[0], expected, rtol=1e-12)


def test_epsilon_squared_and_v_are_those_of_scipy() -> None:
    chance = np.random.default_rng(1)
    labels, column, text = chance.integers(0, 4, 90), chance.normal(size=90), chance.integers(0, 3, 90)
    found = effects(shares(labels, np.arange(90)), column[:, None], text[:, None], islice(permutations(90), 9))
    h = stats.kruskal(*(column[labels == one] for one in range(4))).statistic
    assert found.epsilon2[0] == pytest.approx(h / 89)
    assert found.cramers_v[0] == pytest.approx(association(stats.contingency.crosstab(labels, text).count, "cramer"))


def test_units_without_a_value_are_as_if_they_were_not_there() -> None:
    chance = np.random.default_rng(2)
    labels, columns, text = chance.integers(0, 3, 40), chance.normal(size=(40, 3)), chance.integers(0, 3, (40, 1))
    columns[:7, 1], text[:7] = np.nan, -1
    whole = effects(shares(labels, np.arange(40)), columns, text, islice(permutations(40), 9))
    part = effects(shares(labels[7:], np.arange(33)), columns[7:], text[7:], islice(permutations(33), 9))
    np.testing.assert_allclose(whole.delta[1], part.delta[1])
    np.testing.assert_allclose(whole.cramers_v, part.cramers_v)
    assert whole.delta[0] != pytest.approx(part.delta[0])


@given(st.integers(0, 10**6))
def test_effects_do_not_change_with_what_does_not_matter(seed: int) -> None:
    chance = np.random.default_rng(seed)
    labels, column = chance.integers(0, 3, 30), chance.integers(-4, 5, 30).astype(float)
    column[0] += 0.5
    units = np.arange(30)
    once = _sizes(labels, units, column)
    np.testing.assert_allclose(_sizes(labels, units, np.exp(column)).delta, once.delta)
    np.testing.assert_allclose(_sizes(labels, units, -column).delta, -once.delta, atol=1e-12)
    np.testing.assert_allclose(_sizes(np.repeat(labels, 3), np.repeat(units, 3), column).delta_p, once.delta_p)
    np.testing.assert_allclose(_sizes(2 - labels, units, column).epsilon2, once.epsilon2)
    assert (np.abs(once.delta[np.isfinite(once.delta)]) <= 1).all()


def _scans(chance: Chance, num: int = 30, maps: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Labels of maps that mostly are that of their scan, and the scan of each."""
    of_scan = np.repeat(chance.integers(0, 3, num), maps)
    own = chance.random(num * maps) < 0.2
    return np.where(own, chance.integers(0, 3, num * maps), of_scan), np.repeat(np.arange(num), maps)


def test_chance_is_taken_for_an_effect_as_often_as_the_p_value_says() -> None:
    """Maps of a scan are alike: a test that takes them one by one finds an effect of nothing in most archives."""
    chance = np.random.default_rng(3)
    p, of_maps = np.empty(300), np.empty(300)
    for trial in range(300):
        labels, units = _scans(chance)
        column = chance.normal(size=30)
        orders = islice(permutations(30, trial), 99)
        p[trial] = effects(shares(labels, units), column[:, None], np.empty((30, 0), np.int64), orders).epsilon2_p[0]
        of_maps[trial] = stats.kruskal(*(column[units][labels == one] for one in range(3))).pvalue
    assert np.mean(of_maps <= 0.05) > 0.5
    assert 0.02 <= np.mean(p <= 0.05) <= 0.09
    assert stats.kstest(p - chance.random(300) / 100, "uniform").pvalue > 0.01


def _drift(chance: Chance, num: int) -> np.ndarray:
    """A slow drift (autoregressive)."""
    found = chance.normal(size=num)
    for i in range(1, num):
        found[i] += 0.95 * found[i - 1]
    return found


def test_two_drifts_that_know_nothing_of_each_other_are_told_by_shifts_alone() -> None:
    chance = np.random.default_rng(4)
    p = {"permuted": np.empty(150), "shifted": np.empty(150)}
    for trial in range(150):
        share, column = shares((_drift(chance, 120) > 0).astype(int), np.arange(120)), _drift(chance, 120)[:, None]
        for name, orders in (("permuted", islice(permutations(120, trial), 99)), ("shifted", shifted(120))):
            p[name][trial] = effects(share, column, np.empty((120, 0), np.int64), orders).epsilon2_p[0]
    assert np.mean(p["permuted"] <= 0.05) > 0.3
    assert np.mean(p["shifted"] <= 0.05) < 0.12


def test_an_effect_is_found_in_its_column_and_cluster_alone() -> None:
    chance = np.random.default_rng(5)
    labels, units = _scans(chance, 40)
    of_scan = np.array([np.bincount(labels[units == scan], minlength=3).argmax() for scan in range(40)])
    columns = chance.normal(size=(40, 12))
    columns[:, 4] += 2.0 * (of_scan == 1)
    found = effects(shares(labels, units), columns, chance.integers(0, 2, (40, 1)), permutations(40))
    assert found.epsilon2_p[4] <= 0.005
    assert found.delta_p[4, 1] <= 0.005
    assert found.delta[4, 1] > 0.5
    assert np.delete(found.epsilon2_p, 4).min() > 0.05
    assert found.cramers_v_p[0] > 0.05


def test_any_of_many_columns_is_found_by_chance_as_often_as_one_alone() -> None:
    chance = np.random.default_rng(6)
    found = []
    for trial in range(150):
        labels, units = _scans(chance, 24, 3)
        common = chance.normal(size=(24, 1))
        orders = islice(permutations(24, trial), 99)
        columns = common + chance.normal(size=(24, 10))
        found.append(effects(shares(labels, units), columns, np.empty((24, 0), np.int64), orders))
    assert np.mean([np.nanmin(one.epsilon2_p) <= 0.05 for one in found]) < 0.1
    assert np.mean([np.nanmin(one.delta_p) <= 0.05 for one in found]) < 0.1


def test_one_cluster_or_one_value_has_no_p_value() -> None:
    found = effects(np.ones((9, 1)), np.zeros((9, 1)), np.zeros((9, 1), np.int64), permutations(9))
    assert np.isnan(found.delta_p).all()
    assert np.isnan(found.epsilon2_p).all()
    assert np.isnan(found.cramers_v_p).all()
