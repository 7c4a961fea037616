"""Numbers of how a window moves: those of C2 = 1 + contrast |g1|^2 that is known, with noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.evaluation.kinds import KINDS
from ainerd_hpc.kernels.cells import cells
from ainerd_hpc.kernels.traits import TIMES, Traits, traits

CONTRAST = 0.2


def window(
    kind: str, tau: float, frames: int = 256, noise: float = 0.02, seed: int = 0, **numbers: object
) -> np.ndarray:
    """C2 of a kind (tau in windows), with noise in contrasts."""
    times = (np.arange(frames) + 0.5) / frames
    signal = np.abs(KINDS[kind].form(times, tau, numbers)) ** 2
    errors = np.triu(np.random.default_rng(seed).normal(0, noise, signal.shape), 1)
    return (1 + CONTRAST * (signal + errors + errors.T)).astype(np.float32)


def traits_of(*args: object, **numbers: object) -> Traits:
    c2 = window(*args, **numbers)  # type: ignore[arg-type]
    return traits(c2, cells(c2))


@pytest.mark.parametrize(("kind", "sign"), [("ageing", 1), ("rejuvenating", -1)])
def test_ageing_is_the_log_ratio_of_half_decays_at_both_ends(kind: str, sign: int) -> None:
    """Against the clock: tau at the middle of the last third over that of the first."""
    age = 0.15
    found = traits_of(kind, 0.08, initial_age=age, kww_exponent=1.0)
    expected = np.log((5 / 6 + age) / (1 / 6 + age))
    assert sign * found.ageing == pytest.approx(expected, abs=0.2)
    assert found.ageing_err < 0.1
    assert found.suddenness < -0.1


@pytest.mark.parametrize("ratio", [8.0, 1 / 8])
@pytest.mark.parametrize("change", [0.4, 0.6])
def test_a_sudden_change_has_a_size_and_a_place(ratio: float, change: float) -> None:
    found = traits_of("slowing_at_once", 0.06, change_time=change, rate_ratio=ratio, kww_exponent=1.0)
    assert -np.sign(np.log(ratio)) * found.ageing == pytest.approx(np.log(8), abs=0.5)
    assert found.suddenness > 0.2
    assert found.change_age / 256 == pytest.approx(change, abs=0.08)


def test_steady_samples_have_neither_age_nor_bursts_nor_returns() -> None:
    for exponent in (0.6, 1.0, 1.8):
        found = traits_of("compressed", 0.1, kww_exponent=exponent)
        assert abs(found.ageing) < 0.2
        assert found.bursts == 0
        assert found.unevenness < 0.05
        assert found.return_height == 0
        assert np.isnan(found.return_lag)
        assert found.second_step == 0


def test_bursts_are_counted() -> None:
    jumps = {"jump_times": [0.2, 0.45, 0.6, 0.9], "jump_sizes": [2.0, 1.0, 3.0, 1.5]}
    found = traits_of("avalanches", 3.0, **jumps)
    assert found.bursts == 4
    assert found.unevenness > 0.2


@pytest.mark.parametrize("period", [0.1, 0.2, 0.3])
def test_echoes_come_back_after_their_period(period: float) -> None:
    found = traits_of("echoes", 1.0, period=period, amplitude=2.0, phase=0.3)
    assert found.return_lag / 256 == pytest.approx(period, rel=0.05)
    assert found.return_height > 10 * found.return_height_err > 0
    assert found.unevenness > 0.2


def test_fringes_are_alike_at_all_ages() -> None:
    found = traits_of("fringes", 0.4, static_share=0.5, fringe_period=0.15)
    assert found.return_lag / 256 == pytest.approx(0.15, rel=0.1)
    assert found.unevenness < 0.1


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_the_static_share_of_g2_is_the_square_of_that_of_the_field(share: float) -> None:
    found = traits_of("partly_static", 0.06, static_share=share, kww_exponent=1.0)
    assert found.static_share == pytest.approx(share**2, abs=0.04)
    assert found.static_share_err < 0.02


def test_a_tail_is_no_plateau() -> None:
    assert np.isnan(traits_of("power_law", 0.05, power=0.3).static_share)
    assert traits_of("simple", 0.03, kww_exponent=1.0).static_share == pytest.approx(0, abs=0.02)
    assert traits_of("frozen", 500.0, kww_exponent=1.0).static_share == pytest.approx(1, abs=0.03)


def test_two_decays_are_two_steps() -> None:
    found = traits_of("two_step", 0.08, ratio=200.0, slow_share=0.7, kww_exponent=1.2)
    assert found.second_step > 5 * found.second_step_err > 0


@pytest.mark.parametrize("frames", [4, 5, 16])
def test_windows_that_cannot_say_say_nothing(frames: int) -> None:
    noise = np.random.default_rng(1).normal(1, 1e-3, (frames, frames)).astype(np.float32)
    assert np.isnan(traits(noise, cells(noise))).all()
    nothing = np.full((frames, frames), np.nan, np.float32)
    assert np.isnan(traits(nothing, cells(nothing))).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 80), st.integers(0, 99), st.floats(0, 0.9), st.sampled_from(sorted(KINDS)))
def test_any_window_gives_numbers_or_nan(frames: int, seed: int, lost: float, kind: str) -> None:
    random = np.random.default_rng(seed)
    low, high = KINDS[kind].tau
    tau = float(np.sqrt(low * high))
    c2 = window(kind, tau, frames, 0.1, seed, **KINDS[kind].draw(random, tau))
    bad = random.random(frames) < lost
    c2[bad], c2[:, bad] = np.nan, np.nan
    found = traits(c2, cells(c2))
    values = np.array(found)
    assert not np.isinf(values).any()
    errors = np.array([value for name, value in found._asdict().items() if name.endswith("_err")])
    assert (errors[np.isfinite(errors)] >= 0).all()
    for name in TIMES:
        assert not getattr(found, name) > frames


def test_scale_and_lost_frames_change_nothing() -> None:
    """A contrast that is twice as high, and a tenth of the frames lost, leave the numbers where they are."""
    given_ = {"initial_age": 0.1, "kww_exponent": 1.0}
    c2 = window("ageing", 0.1, **given_)
    twice = (2 * (c2 - 1) + 1).astype(np.float32)
    np.testing.assert_allclose(traits(twice, cells(twice)), traits(c2, cells(c2)), rtol=1e-3, atol=1e-3)
    lost = c2.copy()
    lost[::10], lost[:, ::10] = np.nan, np.nan
    assert traits(lost, cells(lost)).ageing == pytest.approx(traits(c2, cells(c2)).ageing, abs=0.1)
