"""What the page carries of a column is what it was, to the digits that are promised."""

from __future__ import annotations

import base64
import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ainerd_hpc.report.packing import COARSE, FINE, MOST_LEVELS, coded, exact, packed, packed_texts
from tests.report.test_page import decoded, uncoded

NUMBERS = st.floats(-1e30, 1e30) | st.just(np.nan) | st.just(np.inf)


@given(hnp.arrays(st.sampled_from(["u1", "u2", "i4", "f4", "f8"]), st.integers(0, 40)))
def test_packed_arrays_keep_their_bits(values: np.ndarray) -> None:
    found = decoded(packed(values))
    assert found.dtype == values.dtype.newbyteorder("<")
    assert found.tobytes() == values.astype(found.dtype).tobytes()


@given(hnp.arrays(np.float64, st.integers(0, 60), elements=NUMBERS), st.booleans())
def test_few_values_are_exact(values: np.ndarray, log: bool) -> None:
    item = coded(values, log)
    json.dumps(item, allow_nan=False)
    np.testing.assert_array_equal(uncoded(**item), np.where(np.isfinite(values), values, np.nan))


@pytest.mark.parametrize("steps", [COARSE, FINE])
@pytest.mark.parametrize("log", [False, True])
def test_many_values_move_by_half_a_step_at_most(steps: int, log: bool) -> None:
    values = np.exp(np.random.default_rng(0).uniform(-9, 4, 3 * MOST_LEVELS))
    values[::7] = np.nan
    item = coded(values, log, steps)
    found, known = uncoded(**item), np.isfinite(values)
    np.testing.assert_array_equal(np.isfinite(found), known)
    moved = np.log(found[known] / values[known]) if log else found[known] - values[known]
    span = np.ptp(np.log(values[known]) if log else values[known])
    assert np.abs(moved).max() <= 0.501 * span / steps
    assert item["log"] is log


def test_a_column_with_a_zero_has_equal_steps_of_its_value() -> None:
    values = np.r_[0.0, np.random.default_rng(0).uniform(1, 2, 2 * MOST_LEVELS)]
    item = coded(values, log=True)
    assert item["log"] is False
    np.testing.assert_allclose(uncoded(**item), values, atol=2 / COARSE)


def test_many_whole_numbers_are_exact() -> None:
    values = np.arange(-5000.0, 5000.0)
    np.testing.assert_array_equal(uncoded(**coded(values, log=True)), values)


def test_exact_takes_the_smallest_type_that_tells() -> None:
    assert exact(np.arange(3.0))["dtype"] == "int32"
    assert exact(np.array([0.5, np.nan]))["dtype"] == "float32"
    assert exact(1.7e9 + np.array([0.001, 0.002]))["dtype"] == "float64"


@given(st.lists(st.text()))
def test_packed_texts(texts: list[str]) -> None:
    assert json.loads(zlib.decompress(base64.b64decode(packed_texts(texts)))) == texts
