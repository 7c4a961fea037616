"""Neighbours by latent are those of a search through all of them."""

from __future__ import annotations

import numpy as np
import pytest

from ainerd_hpc.report.neighbours import NUM_NEIGHBOURS, nearest


@pytest.mark.parametrize(("num", "scale"), [(400, 1.0), (300, 1e4), (9, 1e-6)])
def test_the_nearest_in_order(num: int, scale: float) -> None:
    latents = (scale * np.random.default_rng(0).normal(size=(num, 16))).astype(np.float32)
    away = np.linalg.norm(latents[:, None].astype(np.float64) - latents, axis=2)
    np.fill_diagonal(away, np.inf)
    np.testing.assert_array_equal(nearest(latents), np.argsort(away, axis=1)[:, :NUM_NEIGHBOURS])


def test_of_equal_ones_the_first_come_first() -> None:
    found = nearest(np.ones((300, 4), np.float32))
    assert found[0].tolist() == list(range(1, 9))
    assert found[3].tolist() == [0, 1, 2, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("num", [0, 1, 2, 5])
def test_fewer_than_asked_for(num: int) -> None:
    found = nearest(np.eye(num, 4, dtype=np.float32))
    assert found.shape == (num, NUM_NEIGHBOURS)
    assert ((found >= 0).sum(axis=1) == max(0, num - 1)).all()


def test_what_is_not_finite_has_no_neighbours_and_is_none() -> None:
    latents = np.random.default_rng(0).normal(size=(20, 4))
    latents[3, 1] = np.nan
    found = nearest(latents)
    assert (found[3] == -1).all()
    assert not (found == 3).any()
    assert (np.delete(found, 3, axis=0) >= 0).all()
