from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from ainerd_hpc.kernels.clustering import density, reduction
from ainerd_hpc.kernels.clustering.novelty import novelty as novelty_of


def _blobs(sizes: tuple[int, ...], num_noise: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    centres = 20 * np.eye(len(sizes), 8)
    points = [centre + 0.3 * random.normal(size=(size, 8)) for centre, size in zip(centres, sizes, strict=True)]
    noise = random.uniform(-40, 60, (num_noise, 8))
    truth = np.repeat(np.arange(len(sizes)), sizes)
    return np.concatenate([*points, noise]), np.concatenate([truth, np.full(num_noise, -1)])


def test_planted_groups_and_noise_are_found() -> None:
    points, truth = _blobs((80, 50, 30), num_noise=12)
    groups = density.group(points, min_cluster_size=10, min_samples=5)
    assert adjusted_rand_score(truth, groups.label) > 0.99
    assert groups.label[:80].tolist() == [0] * 80  # the largest one is 0
    assert (groups.label[160:] == -1).mean() > 0.9
    assert (groups.probability[160:] == 0).mean() > 0.9
    assert (groups.probability[:160] > 0).mean() > 0.9


def test_the_order_of_points_does_not_matter() -> None:
    points, _ = _blobs((60, 40))
    order = np.random.default_rng(0).permutation(len(points))
    plain, mixed = (density.group(p, 10, 5) for p in (points, points[order]))
    np.testing.assert_array_equal(mixed.label, plain.label[order])


@pytest.mark.parametrize("n", [0, 1, 5])
def test_too_few_points_are_all_noise(n: int) -> None:
    groups = density.group(np.zeros((n, 3)), min_cluster_size=6, min_samples=3)
    assert groups.label.tolist() == [-1] * n
    assert groups.probability.tolist() == [0] * n


@given(st.lists(st.integers(-1, 6), max_size=50))
def test_by_size_renames_and_nothing_else(labels: list[int]) -> None:
    given_labels = np.array(labels, dtype=np.int64)
    renamed = density.by_size(given_labels)
    assert ((renamed == -1) == (given_labels == -1)).all()
    sizes = [int(np.sum(renamed == name)) for name in range(renamed.max(initial=-1) + 1)]
    assert sizes == sorted(sizes, reverse=True)
    assert 0 not in sizes
    assert len(set(zip(labels, renamed.tolist(), strict=True))) == len(set(labels))


def test_the_picture_keeps_neighbours_together_and_repeats() -> None:
    points, truth = _blobs((40, 40, 40))
    picture = reduction.reduce(points, 2, num_neighbours=15, min_dist=0.1, seed=1)
    assert picture.shape == (120, 2)
    np.testing.assert_array_equal(picture, reduction.reduce(points, 2, 15, 0.1, 1))
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
    places = reduction.reduce(points[order], dimensions, 15, 0.0, 1)[np.argsort(order)]
    for equal in (slice(0, 300), slice(300, 360)):
        assert (places[equal] == places[equal][0]).all()
        groups = density.group(places, 20, 10, selection)
        assert len(set(groups.label[equal].tolist())) == 1
        assert (groups.label[equal] >= 0).all()
    assert np.isfinite(groups.probability).all()


def test_latents_that_are_all_distinct_are_taken_as_they_are() -> None:
    points = np.random.default_rng(0).normal(size=(50, 4))
    first, place = reduction.distinct(points)
    assert first.tolist() == place.tolist() == list(range(50))
    first, place = reduction.distinct(np.array([[0.0], [2.0], [-0.0], [1.0], [2.0]]))
    assert (first.tolist(), place.tolist()) == ([0, 1, 3], [0, 1, 0, 2, 1])


def test_all_latents_equal_are_one_cluster() -> None:
    places = reduction.reduce(np.ones((500, 8)), 2, 15, 0.1, 0)
    assert np.isfinite(places).all()
    assert density.group(places, 20, 10).label.tolist() == [0] * 500


@pytest.mark.parametrize("n", [1, 2, 9])
def test_few_points_get_their_principal_components(n: int) -> None:
    points = np.random.default_rng(n).normal(size=(n, 5))
    picture = reduction.reduce(points, 2, 15, 0.1, 0)
    assert picture.shape == (n, 2)
    np.testing.assert_allclose(picture.mean(axis=0), 0, atol=1e-12)
    if n > 2:
        variances = np.sort(np.linalg.eigvalsh(np.cov(points.T)))[::-1][:2]
        np.testing.assert_allclose(picture.var(axis=0, ddof=1), variances, rtol=1e-9)


def test_what_has_no_distance_cannot_be_placed() -> None:
    latents = np.zeros((6, 4), np.float32)
    latents[1, 2], latents[2, 0], latents[3, 3], latents[4, 1] = np.nan, np.inf, -np.inf, -1e30
    assert reduction.can_be_placed(latents).tolist() == [True, False, False, False, False, True]
    assert reduction.can_be_placed(latents[:0]).tolist() == []


def _novelty_truth(points: np.ndarray) -> list[float]:
    """Distances in order, one point after the other: the place of the last of one in twenty, beyond the point."""
    place = min(-(-len(points) // 20), len(points) - 1)
    radius = [sorted(float(np.sqrt(((one - other) ** 2).sum())) for other in points)[place] for one in points]
    return [r / (r + np.median(radius)) if r + np.median(radius) else 0.0 for r in radius]


@given(st.integers(0, 70), st.integers(1, 5), st.integers(0, 2**31))
def test_novelty_is_how_far_one_point_in_twenty_is(n: int, dimensions: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    points = random.integers(-3, 4, (n, dimensions)) * random.choice([0.0, 1.0, 1e-3])
    np.testing.assert_allclose(novelty_of(points), _novelty_truth(points), rtol=1e-12)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_novelty_of_fewer_than_three_points(n: int) -> None:
    assert novelty_of(np.eye(2, 3)[:n]).tolist() == [0.5 if n == 2 else 0.0] * n


@pytest.mark.parametrize("num_maps", [1500, 5000])
def test_a_dense_rare_kind_is_the_most_novel(num_maps: int) -> None:
    """One in fifty, ten times as dense as all others: above 95 % of them, though what is dense is no outlier."""
    random = np.random.default_rng(1)
    rare = num_maps // 50
    points = random.normal(size=(num_maps, 8)) + np.repeat(3 * np.eye(4, 8), num_maps // 4, axis=0)
    points[:rare] = 0.1 * random.normal(size=(rare, 8)) + 5 * np.eye(8)[7]
    order = random.permutation(num_maps)
    novelty = novelty_of(points[order].astype(np.float32))[np.argsort(order)]
    assert novelty[:rare].min() > np.quantile(novelty[rare:], 0.95)
    assert np.median(novelty) == pytest.approx(0.5, abs=1e-6)
    assert (novelty > 0).all()
    assert (novelty < 1).all()


def test_novelty_of_many_is_that_of_all_of_them() -> None:
    """More than 4096 are compared with 4096 of them: the same numbers, but for the draw."""
    points = np.random.default_rng(2).normal(size=(6000, 3))
    some = np.arange(0, 6000, 97)
    distances = np.sort(np.linalg.norm(points[some][:, None] - points, axis=2), axis=1)[:, 300]
    novelty = novelty_of(points)[some]
    found = novelty / (1 - novelty)
    np.testing.assert_allclose(found / np.median(found), distances / np.median(distances), rtol=0.15)


@pytest.mark.parametrize(("num_maps", "asked", "least"), [(0, None, 5), (549, None, 5), (2540, None, 25), (2540, 3, 3)])
def test_the_smallest_cluster_is_one_map_in_a_hundred(num_maps: int, asked: int | None, least: int) -> None:
    assert density.smallest(num_maps, asked) == least


def test_neighbours_and_samples_follow_the_number_of_maps() -> None:
    assert [reduction.neighbours(num, None) for num in (0, 224, 240, 900, 10**6)] == [15, 15, 16, 60, 100]
    assert [density.samples(smallest, None) for smallest in (5, 10, 400)] == [5, 10, 10]
    assert (reduction.neighbours(900, 7), density.samples(400, 2)) == (7, 2)
