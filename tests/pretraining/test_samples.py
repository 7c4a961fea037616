"""Simulated windows as cells, beside the cells that their g1 says."""

from __future__ import annotations

import numpy as np
import pytest

from ainerd_hpc.evaluation.kinds import UNSEEN
from ainerd_hpc.kernels.cells import SURENESS_UNIT, cells
from ainerd_hpc.pretraining import samples
from ainerd_hpc.pretraining.samples import KNOWN, VIEWS, Samples, make_samples


@pytest.fixture(scope="module")
def drawn() -> Samples:
    return make_samples(1, 3, seed=5, workers=1)


def test_samples_do_not_depend_on_the_workers(drawn: Samples) -> None:
    again, other = make_samples(1, 3, seed=5, workers=2), make_samples(1, 3, seed=6, workers=2)
    for one, same, another in zip(drawn, again, other, strict=True):
        np.testing.assert_array_equal(one, same)  # NaN where NaN is
        assert one.dtype == same.dtype
        assert one.shape == another.shape
    assert (drawn.cells != other.cells).any()


def test_samples_are_one_of_each_kind_and_the_views_of_each_composition(drawn: Samples) -> None:
    compositions = np.repeat(len(KNOWN) + 1 + np.arange(3), VIEWS)
    assert drawn.label.tolist() == [*range(len(KNOWN)), *compositions]
    assert drawn.cells.shape == (len(drawn.label), 3, 60, 16)
    assert drawn.expected.shape == (len(drawn.label), 60, 16)
    assert not set(KNOWN) & set(UNSEEN)
    for values in (drawn.cells, drawn.expected, drawn.label):
        assert np.isfinite(values).all()


def test_what_is_measured_scatters_around_what_is_expected(drawn: Samples) -> None:
    """In cells that are sure to a tenth of the contrast; the contrast itself is estimated, so that a scale is left."""
    sureness = np.expm1(SURENESS_UNIT * drawn.cells[:, 2].astype(np.float64))
    known = sureness > 10
    difference = drawn.cells[:, 0].astype(np.float64) - drawn.expected
    of_sample = [np.abs(one[sure]).mean() for one, sure in zip(difference, known, strict=True) if sure.sum() > 20]
    assert len(of_sample) > len(drawn.label) / 4
    assert np.median(of_sample) < 0.1


def test_a_measured_window_has_the_mean_and_the_noise_that_it_was_drawn_with() -> None:
    """2 modes, 1000 pixels, 0.5 photons: C2 = 1 + |g1|^2 / 2, and far from its diagonal the variance of counts."""
    w, random = 256, np.random.default_rng(3)
    g1 = np.exp(-np.abs(np.subtract.outer(np.arange(w), np.arange(w))) / 6.0)
    photons = samples._Photons(2, 1000.0, 0.5)
    c2 = np.mean([samples._measured(g1, photons, random) for _ in range(4)], axis=0)
    lag1, far = np.diagonal(c2, 1), np.diagonal(c2, 120)
    assert lag1.mean() == pytest.approx(1 + np.exp(-2 / 6) / 2, abs=0.02)
    assert far.mean() == pytest.approx(1, abs=0.01)
    assert cells(c2).half_decay == pytest.approx(6 * np.log(2) / 2, rel=0.6)
    variance = (1 / 0.5**2 + 2 * 1.5 / 0.5) / 1000 / 4
    found = np.mean([np.var(np.diff(np.diagonal(c2, lag))) / 2 for lag in range(80, 200)])
    assert 0.95 * variance < found < 1.5 * variance, "that of the speckle of 1000 pixels comes on top"


def test_the_half_decay_of_a_sample_is_where_its_expected_cells_cross_one_half(drawn: Samples) -> None:
    """Cell 23.5 is the half decay that the cells count in, and six of them are an octave."""
    seen = 0
    known = drawn.cells[:, 2] > 0
    means = np.sum(drawn.expected * known, axis=2, dtype=np.float64) / known.sum(axis=2).clip(1)
    for expected, ratio in zip(means, drawn.half_decay, strict=True):
        below = np.flatnonzero(expected < 0.5)
        if np.isfinite(ratio) and len(below) and below[0] > 6:
            crossing = below[0] - (0.5 - expected[below[0]]) / (expected[below[0] - 1] - expected[below[0]])
            assert ratio == pytest.approx((crossing - 23.5) * np.log(2) / 6, abs=0.35)
            seen += 1
    assert seen > len(drawn.label) / 3
