"""How labels follow each other, against counts written out and chains of known entropy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ainerd_hpc.kernels.relations.transitions import UNKNOWN, changed, counts, entropy, succession, together


@given(st.integers(0, 10**6))
def test_counts_and_changes_are_those_of_a_loop(seed: int) -> None:
    labels = np.random.default_rng(seed).choice([UNKNOWN, -1, 0, 1, 2], (20, 1))
    expected = np.zeros((4, 4), int)
    for before, after in zip(labels[:-1, 0], labels[1:, 0], strict=True):
        if UNKNOWN not in (before, after):
            expected[before + 1, after + 1] += 1
    np.testing.assert_array_equal(counts(labels[:-1, 0], labels[1:, 0], 4), expected)
    assert changed(labels).sum() == expected.sum() - np.trace(expected)


def test_entropy_is_that_of_the_chain() -> None:
    """A chain that stays with probability 0.9: 0.469 bits; one that takes turns: none; a coin: 1."""
    assert entropy(np.array([[900, 100], [100, 900]])) == pytest.approx(0.46900, abs=1e-5)
    assert entropy(np.array([[0, 5], [5, 0]])) == 0
    assert entropy(np.array([[5, 5], [5, 5]])) == 1
    assert np.isnan(entropy(np.zeros((2, 2), int)))


def test_an_order_is_told_from_none() -> None:
    chance = np.random.default_rng(0)
    stays = np.cumsum(chance.random(200) < 0.05) % 3
    found = succession(np.stack([stays, chance.integers(0, 3, 200)], axis=1), np.arange(200) * 5.0)
    assert found.p_value[0] <= 0.01 < 0.05 < found.p_value[1]
    assert found.entropy[0] < 0.5 < 1.0 < found.entropy_shuffled[0]
    np.testing.assert_array_equal(found.pairs, [199, 199])
    assert found.changes[0] == np.count_nonzero(np.diff(stays))


def test_labels_stay_as_long_as_they_are_seen() -> None:
    labels = np.array([[0, 0, 0, 1, 1, UNKNOWN, 1, 2]]).T
    assert succession(labels, np.arange(8) * 10.0).dwell[0] == np.median([30, 40, 0])


def test_p_values_of_random_labels_are_as_often_small_as_they_say() -> None:
    chance = np.random.default_rng(1)
    time = np.arange(30.0)
    p = [succession(chance.integers(0, 2, (30, 1)), time).p_value[0] for _ in range(60)]
    assert np.mean(np.array(p) <= 0.1) < 0.25


def test_q_bins_that_go_together_are_told_from_those_that_do_not() -> None:
    chance = np.random.default_rng(2)
    one = chance.integers(0, 4, 100)
    same, p = together(np.stack([one, one, chance.integers(0, 4, 100)], axis=1))
    assert same[0] == 1
    assert p[0] == pytest.approx(1 / 100)
    assert same[1] < 0.5
    assert p[1] > 0.05
