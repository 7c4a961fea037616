"""Dynamics put together by chance are dynamics: their g1 is that of a field."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.pretraining.compositions import compose

SEEDS = st.integers(0, 2**31)


@settings(max_examples=60)
@given(SEEDS, st.integers(4, 80), st.floats(0.005, 3))
def test_a_composition_is_the_correlation_of_a_field(seed: int, num_frames: int, tau: float) -> None:
    g1 = compose(np.random.default_rng(seed))(num_frames, tau)
    assert g1.shape == (num_frames, num_frames)
    np.testing.assert_allclose(g1, g1.conj().T, atol=1e-12)
    np.testing.assert_allclose(np.diagonal(g1), 1, atol=1e-12)
    assert np.linalg.eigvalsh(g1).min() > -1e-8 * num_frames
    assert np.abs(g1).max() < 1 + 1e-9


@settings(max_examples=20)
@given(SEEDS, st.integers(4, 40))
def test_a_composition_is_the_same_at_any_number_of_frames(seed: int, num_frames: int) -> None:
    form = compose(np.random.default_rng(seed))
    np.testing.assert_allclose(form(2 * num_frames, 0.1)[::2, ::2], form(num_frames, 0.1), atol=1e-12)
    np.testing.assert_array_equal(form(num_frames, 0.1), compose(np.random.default_rng(seed))(num_frames, 0.1))


def test_compositions_differ() -> None:
    windows = [compose(np.random.default_rng(seed))(48, 0.2) for seed in range(30)]
    apart = [np.abs(one - other).mean() for i, one in enumerate(windows) for other in windows[:i]]
    assert np.median(apart) > 0.05
    assert sum(np.iscomplexobj(one) for one in windows) > 0, "some flow"
