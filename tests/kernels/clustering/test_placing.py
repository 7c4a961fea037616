"""Maps that were not clustered: where they are put, and what they are said to belong to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.kernels.clustering.coreset import coreset
from ainerd_hpc.kernels.clustering.density import group
from ainerd_hpc.kernels.clustering.fitting import Settings, anchored, clustered, partition, within_edges
from ainerd_hpc.kernels.clustering.novelty import novelty, ordinary_radius, quick_radius, references
from ainerd_hpc.kernels.clustering.placing import Clustered, Placing, renumbered
from ainerd_hpc.kernels.clustering.rare import rare, smallest

SETTINGS = Settings("umap", 5, None, None, "eom", None, 0.1, 42, 0, 0.0)


def three_kinds(seed: int, num: int = 200, width: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Points (3 num, 8) of three kinds that lie far apart, and the kind of each."""
    random = np.random.default_rng(seed)
    kinds = np.arange(3 * num) % 3
    return (10 * np.eye(3, 8)[kinds] + width * random.normal(size=(3 * num, 8))).astype(np.float32), kinds


@pytest.fixture(scope="module")
def fit() -> Clustered:
    latents, _ = three_kinds(0)
    return clustered(latents, SETTINGS, partition(latents, np.arange(len(latents)), SETTINGS))


def test_new_maps_of_known_kinds_join_them(fit: Clustered) -> None:
    kinds = {int(label): {int(row) % 3 for row in np.flatnonzero(fit.belonging.label == label)} for label in range(3)}
    assert sorted(map(len, kinds.values())) == [1, 1, 1]
    latents, truth = three_kinds(1)
    placed = Placing(fit).place(latents)
    label, own = placed.belonging.label, np.array([min(kinds[one]) for one in range(3)])
    assert np.mean(label >= 0) > 0.98
    assert (own[label[label >= 0]] == truth[label >= 0]).all()
    centres = np.stack([fit.picture[fit.belonging.label == one].mean(axis=0) for one in range(3)])
    nearest = np.linalg.norm(placed.picture[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest[label >= 0] == label[label >= 0]).all()
    assert (placed.belonging.probability[label >= 0] > 0).all()


def test_what_fits_nowhere_is_noise_and_novel(fit: Clustered) -> None:
    placing = Placing(fit)
    strange = (10 * np.eye(5, 8)[3:] + 0.1).astype(np.float32)
    placed = placing.place(np.repeat(strange, 20, axis=0))
    assert (placed.belonging.label == -1).all()
    assert (placed.belonging.probability == 0).all()
    assert (placing.novelty(strange) > np.quantile(novelty(fit.latents), 0.99)).all()


def test_what_was_clustered_is_what_it_was(fit: Clustered) -> None:
    placed = Placing(fit).place(fit.latents)
    np.testing.assert_allclose(placed.picture, fit.picture)
    for values, expected in zip(placed.belonging, fit.belonging, strict=True):
        np.testing.assert_array_equal(values, expected)


@given(seed=st.integers(0, 2**31), size=st.integers(1, 40))
@settings(max_examples=10, deadline=None)
def test_the_batch_of_a_map_does_not_matter(fit: Clustered, seed: int, size: int) -> None:
    """UMAP's own transform puts a point elsewhere in another batch."""
    latents, _ = three_kinds(2, num=100, width=2.0)
    placing = Placing(fit)
    whole = placing.place(latents)
    some = np.random.default_rng(seed).choice(len(latents), size, replace=False)
    alone = placing.place(latents[some])
    np.testing.assert_array_equal(alone.picture, whole.picture[some])
    for values, expected in zip(alone.belonging, whole.belonging, strict=True):
        np.testing.assert_array_equal(values, expected[some])
    np.testing.assert_allclose(placing.novelty(latents[some]), placing.novelty(latents)[some], rtol=1e-5)


def test_labels_follow_the_rule_of_mutual_reachability() -> None:
    """Against the rule written out, among the latents themselves."""
    latents, _ = three_kinds(3, num=60, width=1.5)
    groups = group(latents, 10, 5)
    fit = anchored(latents, latents, latents[:, :2].astype(np.float64), np.ones(len(latents)), groups, 5)
    new = three_kinds(4, num=40, width=2.5)[0]
    distance = np.linalg.norm(new[:, None].astype(np.float64) - latents, axis=2)
    own = np.sort(np.linalg.norm(latents[:, None].astype(np.float64) - latents, axis=2), axis=1)[:, 5]
    np.testing.assert_allclose(fit.core, own, rtol=1e-3)
    spacing = np.sort(distance, axis=1)[:, 4]
    expected = []
    for row in range(len(new)):
        mutual = np.maximum(np.maximum(own, spacing[row]), distance[row])
        inside = [
            (mutual[other], groups.label[other])
            for other in np.argsort(distance[row])[:16]
            if groups.label[other] >= 0
            and mutual[other] <= groups.reach[groups.label[other]]
            and spacing[row] <= fit.edge[groups.label[other]]
        ]
        expected.append(min(inside)[1] if inside else -1)
    found = Placing(fit).place(new).belonging.label
    assert len(set(expected)) > 2
    assert np.mean(found == expected) > 0.99  # at the very edge, the last digit decides


def test_many_equal_latents_are_found() -> None:
    """A graph of neighbours does not lead past hundreds of equal points."""
    points = np.repeat(np.random.default_rng(0).normal(size=(3, 8)), 300, axis=0).astype(np.float32)
    fit = anchored(points, points, points[:, :2].astype(np.float64), np.ones(900), group(points, 20, 10), 10)
    placed = Placing(fit).place(points[::300])
    assert placed.belonging.label.tolist() == fit.belonging.label[::300].tolist()
    assert len(set(placed.belonging.label.tolist())) == 3


def test_nothing_is_placed_among_nothing(fit: Clustered) -> None:
    placed = Placing(fit).place(fit.latents[:0])
    assert placed.picture.shape == (0, 2)
    assert [len(values) for values in placed.belonging] == [0] * 4


def test_other_numbers_are_the_same_clusters(fit: Clustered) -> None:
    other = renumbered(fit, np.array([7, 0, 3]))
    latents = three_kinds(5)[0]
    before, after = (Placing(one).place(latents).belonging for one in (fit, other))
    np.testing.assert_array_equal(np.array([7, 0, 3, -1])[before.label], after.label)
    np.testing.assert_array_equal(before.probability, after.probability)


def test_quick_radius_is_the_radius() -> None:
    points = np.random.default_rng(0).normal(5, 2, size=(3000, 16)).astype(np.float32)
    reference = references(points)
    np.testing.assert_allclose(quick_radius(points, reference), ordinary_radius(points, reference), rtol=1e-4)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=200), st.integers(1, 60), st.integers(0, 99))
def test_no_scan_speaks_for_more_than_its_share(scans: list[int], size: int, seed: int) -> None:
    codes = np.array(scans)
    rows = coreset(codes, size, seed)
    assert len(rows) == min(size, len(codes))
    assert (np.diff(rows) > 0).all()
    taken, there = (np.bincount(values, minlength=10) for values in (codes[rows], codes))
    for scan in range(10):  # whoever has more left has as many as any other, but for the last round
        if taken[scan] < there[scan]:
            assert taken[scan] >= taken.max() - 1


def test_rare_kinds_are_found_in_sparse_places_and_outskirts_are_not() -> None:
    random = np.random.default_rng(0)
    latents = three_kinds(0, num=1000)[0]
    common = clustered(latents, SETTINGS, partition(latents, np.arange(len(latents)), SETTINGS))
    placing = Placing(within_edges(common))
    background = random.uniform(-12, 22, (1500, 8))
    kinds = np.concatenate([centre + 0.3 * random.normal(size=(40, 8)) for centre in 10 * np.eye(8)[4:7]])
    shell = random.normal(size=(300, 8))
    shell *= 4 / np.linalg.norm(shell, axis=1, keepdims=True)
    sparse = np.concatenate([background, 10 * np.eye(8)[0] + shell, kinds]).astype(np.float32)
    found = rare(sparse, 20, placing)
    assert found is not None
    own = found.clustered.belonging.label
    assert sorted(set(found.members.tolist()) & set(range(1800))) == [] or np.mean(found.members >= 1800) > 0.9
    truth = (found.members - 1800) // 40
    assert len({tuple(sorted(set(truth[own == one].tolist()))) for one in range(own.max() + 1)}) == 3
    assert rare(background.astype(np.float32), 20, placing) is None


def test_the_smallest_rare_kind_is_one_map_in_ten_thousand() -> None:
    assert smallest(2_000_000, 0.2) == 40
    assert smallest(30_000, 1.0) == 10
