"""How far clusters can be trusted: stability over scans, class or slice, and identity from one fit to the next."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ainerd_hpc.kernels.clustering import density, stability
from ainerd_hpc.kernels.clustering.drift import drifted
from ainerd_hpc.kernels.clustering.exemplars import exemplars, medoid
from ainerd_hpc.kernels.clustering.fitting import Settings, clustered, partition
from ainerd_hpc.kernels.clustering.overlap import identify, jaccard
from ainerd_hpc.kernels.clustering.separation import CLASS, SLICE, UNKNOWN, separation

LATENT = Settings("latent", 5, None, None, "eom", None, 0.1, 42, 5, 0.0)


def test_resamplings_leave_out_whole_scans() -> None:
    scans = np.repeat(np.arange(20), 7)
    for kept in stability.draws(scans, 5, 1000, seed=0):
        held, counts = np.unique(scans[kept], return_counts=True)
        assert len(held) == 16
        assert (counts == 7).all()
    assert [len(kept) for kept in stability.draws(scans, 2, 50, seed=0)] == [50, 50]


def test_the_smallest_size_within_one_standard_error_of_the_best_is_chosen() -> None:
    best = [0.9, 1.0, 0.8, 0.9, 0.9]  # 0.9, standard error 0.0316
    assert stability.choose(np.array([[0.8] * 5, best])) == 1
    assert stability.choose(np.array([[0.87] * 5, best])) == 0
    assert stability.choose(np.array([[0.5] * 5, [0.87] * 5, best, [0.89] * 5])) == 1
    assert stability.choose(np.array([[0.4], [0.5]])) == 1


def test_what_tells_nothing_apart_agrees_with_nothing() -> None:
    kept = np.arange(10)
    one, none = np.zeros(10, np.int64), np.full(10, -1)
    some = [stability.Resample(kept, {5: one, 6: none})] * 2
    assert stability.agreement({5: one, 6: none}, some).tolist() == [[0, 0], [0, 0]]


def test_recurrence_is_the_jaccard_index_of_the_most_alike() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, -1, 2])
    kept = np.array([0, 1, 2, 4, 5, 6])
    found = stability.recurrence(labels, [(kept, np.array([1, 1, 0, 0, 0, -1]))])
    np.testing.assert_allclose(found[:2], [2 / 3, 2 / 3])
    assert np.isnan(found[2])  # none of it was drawn


def test_clear_kinds_are_stable_and_a_torn_continuum_is_not() -> None:
    random = np.random.default_rng(0)
    scans = np.repeat(np.arange(60), 5)
    clear = 20 * np.eye(4, 8)[scans % 4] + random.normal(size=(300, 8))
    found = partition(clear, scans, LATENT)
    assert found.agreement == pytest.approx(1, abs=0.02)
    assert (found.stability > 0.95).all()
    one = partition(random.uniform(size=(300, 2)), scans, LATENT)
    assert not len(one.stability) or one.stability.min() < 0.75


@pytest.mark.parametrize("number", [0, 1, 2, 6])
def test_few_maps_and_one_scan(number: int) -> None:
    latents = np.random.default_rng(0).normal(size=(number, 4)).astype(np.float32)
    for scans in (np.arange(number), np.zeros(number)):
        fit = clustered(latents, LATENT, partition(latents, scans, LATENT))
        assert fit.belonging.label.tolist() == [-1] * number
        assert fit.picture.shape == (number, 2)
        assert np.isfinite(fit.core).all()


@pytest.mark.parametrize("dimensions", [1, 2, 4])
def test_a_uniform_continuum_has_no_classes(dimensions: int) -> None:
    """Slices of equal length along the first axis, in 16 dimensions: 5 % of the tests may err, for each of 3 pairs."""
    found = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        scans = np.repeat(np.arange(300), 3)
        points = np.zeros((900, 16))
        points[:, :dimensions] = random.uniform(size=(300, dimensions))[scans]
        points[:, :dimensions] += 0.01 * random.normal(size=(900, dimensions))
        found += separation(points, np.minimum((5 * points[:, 0]).astype(int), 4).clip(0), scans)
    assert len(found) == 50
    assert found.count(CLASS) <= 2
    assert found.count(SLICE) > 40


def test_kinds_far_apart_are_classes_also_where_noise_lies_between() -> None:
    random = np.random.default_rng(0)
    scans = np.repeat(np.arange(120), 4)
    kinds = scans % 3
    points = 8 * np.eye(3, 16)[kinds] + random.normal(size=(480, 16))
    labels = np.where(random.random(480) < 0.1, -1, kinds)
    assert separation(points, labels, scans) == [CLASS] * 3
    assert separation(points[:24], kinds[:24], scans[:24]) == [UNKNOWN] * 3
    assert separation(points, np.minimum(labels, 0), scans) == [CLASS]
    assert separation(points, np.full(480, -1), scans) == []


def test_noise_between_two_halves_of_a_hump_is_no_gap() -> None:
    random = np.random.default_rng(1)
    points = random.uniform(-1, 1, size=(400, 1)) * np.eye(1, 8)
    labels = np.where(points[:, 0] < -0.2, 0, np.where(points[:, 0] > 0.2, 1, -1))
    assert separation(points, labels, np.arange(400)) == [SLICE] * 2


def test_the_same_clusters_keep_their_numbers() -> None:
    old = np.array([3] * 10 + [0] * 8 + [-1] * 3)
    new = np.array([0] * 10 + [1] * 8 + [2] * 3)
    found = identify(old, new, num_old=5, num_new=4)
    assert found.number.tolist() == [3, 0, 5, 6]
    assert found.changes == ()


def test_splits_and_merges_are_told() -> None:
    old = np.repeat([0, 1, 2], (10, 6, 6))
    new = np.repeat([0, 1, 2, 2], (6, 4, 6, 6))
    found = identify(old, new, 3, 3)
    assert found.number.tolist() == [0, 3, 1]
    assert found.changes == ("cluster 0 has split into 0 and 3", "clusters 1 and 2 have merged into 1")


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 4)), max_size=60))
def test_numbers_are_those_of_one_cluster_each(pairs: list[tuple[int, int]]) -> None:
    old, new = (np.array([pair[place] for pair in pairs], dtype=np.int64) for place in (0, 1))
    number = identify(old, new, 5, 5).number
    assert len(set(number.tolist())) == 5
    index = jaccard(old, new)
    for one in range(index.shape[0]):
        for other in range(index.shape[1]):
            inside, there = set(np.flatnonzero(old == one)), set(np.flatnonzero(new == other))
            expected = len(inside & there) / len(inside | there) if inside | there else 0
            assert index[one, other] == pytest.approx(expected)


def test_drift_is_told_where_chance_does_not_explain_it() -> None:
    chance = np.random.default_rng(0).random(1000)
    assert drifted(chance < 0.02, chance > 0.95, 0.02, 200) == ""
    line = drifted(chance < 0.3, chance > 0.6, 0.02, 200)
    assert line.startswith("1000 new maps drift from cluster.fit: 27.7% of them are in no cluster")
    assert "novel, 5.0% of the fit are" in line
    assert drifted(chance[:0] < 0, chance[:0] < 0, 0.02, 10) == ""


def test_medoid_and_exemplars() -> None:
    points = np.array([[0.0], [1.0], [2.0], [10.0]])
    assert medoid(points) in (1, 2)
    assert exemplars(np.array([0.1, 0.9, 0.8, 0.9]), np.array(["a", "b", "b", "c"]), 2).tolist() == [1, 3]


def test_sizes_to_choose_from() -> None:
    assert density.sizes(4000, None) == [10, 20, 40, 80]
    assert density.sizes(210, None) == [5]
    assert density.sizes(4000, 7) == [7]
