"""Maps that lean on their siblings, and clusters that are one kind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ainerd_hpc.kernels.clustering import density
from ainerd_hpc.kernels.clustering.merging import merge
from ainerd_hpc.kernels.clustering.siblings import find_parity, lean

DIMENSIONS = 8


def drawn(
    spread: float, noise: float, seed: int = 0, moments: int = 400
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """True latents, noisy ones, moments of four siblings each, and signal to noise."""
    random = np.random.default_rng(seed)
    siblings = np.repeat(np.arange(moments), 4)
    true = random.normal(size=(moments, DIMENSIONS))[siblings] + spread * random.normal(
        size=(len(siblings), DIMENSIONS)
    )
    clear = random.lognormal(2.5, 1.0, len(siblings))
    return true, true + noise / clear[:, None] * random.normal(size=true.shape), siblings, clear


@pytest.mark.parametrize(("spread", "noise"), [(0.1, 1.0), (0.1, 3.0), (0.3, 1.0)])
def test_parity_is_noise_over_spread(spread: float, noise: float) -> None:
    """Within a fourth, whatever the order; a fifth of the moments with siblings of another kind do not decide."""
    _, seen, siblings, clear = drawn(spread, noise)
    found = find_parity(seen, siblings, clear, 0)
    assert found == pytest.approx(noise / spread, rel=0.25)
    order = np.random.default_rng(1).permutation(len(seen))
    assert find_parity(seen[order], siblings[order], clear[order], 0) == pytest.approx(noise / spread, rel=0.25)
    odd = np.flatnonzero((siblings % 5 == 0) & (np.arange(len(siblings)) % 4 == 0))
    seen[odd] += 5
    assert find_parity(seen, siblings, clear, 0) == pytest.approx(noise / spread, rel=0.4)


def test_siblings_that_differ_by_noise_alone_lean_by_that_of_the_clearest() -> None:
    """No spread is seen: the bound is the signal to noise of the clearest tenth of the pairs, and all of it counts."""
    true, seen, siblings, clear = drawn(0.0, 1.0)
    found = find_parity(seen, siblings, clear, 0)
    assert np.quantile(clear, 0.7) < found < clear.max()
    off = np.linalg.norm(lean(seen, siblings, clear, found) - true, axis=1)
    assert off.mean() < 0.5 * np.linalg.norm(seen - true, axis=1).mean()


def test_leaning_halves_what_noise_does_and_leaves_clear_maps_alone() -> None:
    true, seen, siblings, clear = drawn(0.1, 3.0)
    leaning = lean(seen, siblings, clear, 30.0)
    off, left = (np.linalg.norm(points - true, axis=1) for points in (seen, leaning))
    assert np.median(left[clear < 10]) < 0.6 * np.median(off[clear < 10])
    assert left.mean() < 0.65 * off.mean()
    is_clear = clear > 300
    np.testing.assert_allclose(leaning[is_clear], seen[is_clear], atol=0.02)


def test_siblings_that_move_in_ways_of_their_own_are_left_alone() -> None:
    """Each is of a kind of its own, so that noise is nothing beside what they are apart."""
    _, seen, _, clear = drawn(0.0, 0.3)
    siblings = np.random.default_rng(2).permutation(np.repeat(np.arange(400), 4))
    leaning = lean(seen, siblings, clear, find_parity(seen, siblings, clear, 0))
    assert np.median(np.linalg.norm(leaning - seen, axis=1)) < 0.02


def test_too_few_and_equal_noise_tell_nothing() -> None:
    _, seen, siblings, clear = drawn(0.1, 1.0)
    assert find_parity(seen[:40], siblings[:40], clear[:40], 0) == 0
    assert find_parity(seen, siblings, np.full(len(seen), 10.0), 0) == 0
    assert find_parity(seen, np.arange(len(seen)), clear, 0) == 0
    assert lean(seen, siblings, clear, 0.0).tobytes() == seen.astype(np.float32).tobytes()


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 100))
def test_leaning_is_a_weighted_mean_of_each_moment(seed: int, equal_at: float) -> None:
    """Against the formula, one map at a time; what is not finite neither leans nor is leaned on."""
    random = np.random.default_rng(seed)
    latents = random.normal(size=(12, 3)).astype(np.float32)
    siblings, clear = random.integers(0, 4, 12), random.lognormal(2.0, 2.0, 12)
    latents[random.integers(12)] = np.nan
    clear[random.integers(12)] = np.nan
    found = lean(latents, siblings, clear, equal_at)
    known = np.maximum(np.nan_to_num(clear), 1e-3) ** 2
    for one in range(12):
        if np.isnan(latents[one]).any():
            assert np.isnan(found[one]).all()
            continue
        others = [row for row in range(12) if siblings[row] == siblings[one] and np.isfinite(latents[row]).all()]
        weights = [1 / (1 + equal_at**2 / known[row]) for row in others]
        mean = np.average(latents[others].astype(float), axis=0, weights=weights)
        share = equal_at**2 / (equal_at**2 + known[one])
        np.testing.assert_allclose(found[one], (1 - share) * latents[one] + share * mean, atol=1e-5)


def test_halves_of_a_kind_are_one_cluster_and_kinds_are_not() -> None:
    """Two pairs of halves, 1 apart, of kinds that are 10 apart, and one that is alone: all noise stays noise."""
    centres = np.array([[0, 0], [1, 0], [10, 0], [11, 0], [5, 9]], dtype=float)
    kinds = np.repeat(np.arange(5), [60, 40, 50, 45, 30])
    latents = centres[kinds] + 0.05 * np.random.default_rng(0).normal(size=(len(kinds), 2))
    latents = np.vstack([latents, [[5.0, 3.0]]])
    groups = density.group(latents, 10, 5)
    assert len(groups.reach) == 5
    merged = merge(groups, latents, 2.0)
    assert np.bincount(merged.label + 1).tolist() == [1, 100, 95, 30]
    for one in range(3):
        parts = np.unique(groups.label[merged.label == one])
        assert merged.reach[one] == groups.reach[parts].max()
        assert merged.densest[one] == groups.densest[parts].min()
    assert merge(groups, latents, 0.0) is groups
    assert len(merge(groups, latents, 0.5).reach) == 5
