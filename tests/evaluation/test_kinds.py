"""Every kind of dynamics is the correlation of a field that can exist."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.evaluation.archives import NUM_COMMON
from ainerd_hpc.evaluation.kinds import KINDS, UNSEEN
from ainerd_hpc.simulate.speckle import square_root

TIMES = (np.arange(48) + 0.5) / 48


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), place=st.floats(0, 1))
def test_g1_is_positive_semidefinite(name: str, seed: int, place: float) -> None:
    kind = KINDS[name]
    tau = float(kind.tau[0] ** (1 - place) * kind.tau[1] ** place)
    g1 = kind.form(TIMES, tau, kind.draw(np.random.default_rng(seed), tau))
    np.testing.assert_allclose(g1, g1.conj().T, atol=1e-12)
    np.testing.assert_allclose(np.diagonal(g1), 1, atol=1e-12)
    assert np.linalg.eigvalsh(g1).min() > -1e-9
    root = square_root(g1).astype(np.complex128)
    np.testing.assert_allclose(root @ root.conj().T, g1, atol=2e-3)


def test_the_unseen_are_kinds_too_and_enough_are_left() -> None:
    assert set(UNSEEN) < set(KINDS)
    assert len(set(KINDS) - set(UNSEEN)) >= NUM_COMMON
