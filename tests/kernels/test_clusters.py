from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from ainerd_hpc.kernels import clusters


def _blobs(sizes: tuple[int, ...], num_noise: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    centres = 20 * np.eye(len(sizes), 8)
    points = [centre + 0.3 * random.normal(size=(size, 8)) for centre, size in zip(centres, sizes, strict=True)]
    noise = random.uniform(-40, 60, (num_noise, 8))
    truth = np.repeat(np.arange(len(sizes)), sizes)
    return np.concatenate([*points, noise]), np.concatenate([truth, np.full(num_noise, -1)])


def test_planted_groups_and_noise_are_found() -> None:
    points, truth = _blobs((80, 50, 30), num_noise=12)
    groups = clusters.group(points, min_cluster_size=10, min_samples=5)
    assert adjusted_rand_score(truth, groups.label) > 0.99
    assert groups.label[:80].tolist() == [0] * 80  # the largest one is 0
    assert (groups.label[160:] == -1).mean() > 0.9
    assert (groups.probability[160:] == 0).mean() > 0.9
    assert np.median(groups.novelty[160:]) > 0.8 > 0.5 > np.median(groups.novelty[:160])


def test_the_order_of_points_does_not_matter() -> None:
    points, _ = _blobs((60, 40))
    order = np.random.default_rng(0).permutation(len(points))
    plain, mixed = (clusters.group(p, 10, 5) for p in (points, points[order]))
    np.testing.assert_array_equal(mixed.label, plain.label[order])


@pytest.mark.parametrize("n", [0, 1, 5])
def test_too_few_points_are_all_noise(n: int) -> None:
    groups = clusters.group(np.zeros((n, 3)), min_cluster_size=6, min_samples=3)
    assert groups.label.tolist() == [-1] * n
    assert groups.probability.tolist() == [0] * n


@given(st.lists(st.integers(-1, 6), max_size=50))
def test_by_size_renames_and_nothing_else(labels: list[int]) -> None:
    given_labels = np.array(labels, dtype=np.int64)
    renamed = clusters.by_size(given_labels)
    assert ((renamed == -1) == (given_labels == -1)).all()
    sizes = [int(np.sum(renamed == name)) for name in range(renamed.max(initial=-1) + 1)]
    assert sizes == sorted(sizes, reverse=True)
    assert 0 not in sizes
    assert len(set(zip(labels, renamed.tolist(), strict=True))) == len(set(labels))


def test_the_picture_keeps_neighbours_together_and_repeats() -> None:
    points, truth = _blobs((40, 40, 40))
    picture = clusters.reduce(points, 2, num_neighbours=15, min_dist=0.1, seed=1)
    assert picture.shape == (120, 2)
    np.testing.assert_array_equal(picture, clusters.reduce(points, 2, 15, 0.1, 1))
    distances = np.linalg.norm(picture[:, None] - picture, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (truth[distances.argmin(axis=1)] == truth).all()


@pytest.mark.parametrize("selection", ["eom", "leaf"])
@pytest.mark.parametrize("dimensions", [2, 5])
def test_equal_latents_have_one_place_and_one_label(dimensions: int, selection: str) -> None:
    """300 of them, more than UMAP keeps neighbours: it would pull them apart, into clusters of their own."""
    random = np.random.default_rng(0)
    points = np.concatenate([np.repeat(random.normal(size=(2, 8)), (300, 60), axis=0), 9 + random.normal(size=(80, 8))])
    order = random.permutation(len(points))
    places = clusters.reduce(points[order], dimensions, 15, 0.0, 1)[np.argsort(order)]
    for equal in (slice(0, 300), slice(300, 360)):
        assert (places[equal] == places[equal][0]).all()
        groups = clusters.group(places, 20, 10, selection)
        assert len(set(groups.label[equal].tolist())) == 1
        assert (groups.label[equal] >= 0).all()
    assert np.isfinite(groups.probability).all()
    assert np.isfinite(groups.novelty).all()


def test_latents_that_are_all_distinct_are_taken_as_they_are() -> None:
    points = np.random.default_rng(0).normal(size=(50, 4))
    first, place = clusters._distinct(points)
    assert first.tolist() == place.tolist() == list(range(50))
    first, place = clusters._distinct(np.array([[0.0], [2.0], [-0.0], [1.0], [2.0]]))
    assert (first.tolist(), place.tolist()) == ([0, 1, 3], [0, 1, 0, 2, 1])


def test_all_latents_equal_are_one_cluster() -> None:
    places = clusters.reduce(np.ones((500, 8)), 2, 15, 0.1, 0)
    assert np.isfinite(places).all()
    assert clusters.group(places, 20, 10).label.tolist() == [0] * 500


@pytest.mark.parametrize("n", [1, 2, 9])
def test_few_points_get_their_principal_components(n: int) -> None:
    points = np.random.default_rng(n).normal(size=(n, 5))
    picture = clusters.reduce(points, 2, 15, 0.1, 0)
    assert picture.shape == (n, 2)
    np.testing.assert_allclose(picture.mean(axis=0), 0, atol=1e-12)
    if n > 2:
        variances = np.sort(np.linalg.eigvalsh(np.cov(points.T)))[::-1][:2]
        np.testing.assert_allclose(picture.var(axis=0, ddof=1), variances, rtol=1e-9)


def test_what_has_no_distance_cannot_be_placed() -> None:
    latents = np.zeros((6, 4), np.float32)
    latents[1, 2], latents[2, 0], latents[3, 3], latents[4, 1] = np.nan, np.inf, -np.inf, -1e30
    assert clusters.can_be_placed(latents).tolist() == [True, False, False, False, False, True]
    assert clusters.can_be_placed(latents[:0]).tolist() == []
