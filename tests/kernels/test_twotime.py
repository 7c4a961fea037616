"""Two-time correlation against plain loops in exact arithmetic."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from threadpoolctl import threadpool_limits

from ainerd_hpc.kernels import twotime
from ainerd_hpc.kernels.counts import pixels, to_dense, to_events

FLOAT32_ROUNDING = 2e-7


def frozen(array):
    """The array, so that writing it raises."""
    array.flags.writeable = False
    return array


def integer_counts(max_value=65534, min_frames=1):
    shapes = st.tuples(st.integers(min_frames, 9), st.integers(1, 13))
    dtypes = st.sampled_from([np.int8, np.uint8, np.uint16, np.int32, np.uint32, np.int64])
    arrays = dtypes.flatmap(
        lambda dtype: hnp.arrays(dtype, shapes, elements=st.integers(0, min(max_value, np.iinfo(dtype).max)))
    )
    return arrays.map(frozen)


@st.composite
def counts_and_starts(draw, max_value=65534):
    """Counts (t, p), and the first pixels of static bins."""
    counts = draw(integer_counts(max_value))
    cuts = draw(st.sets(st.integers(1, counts.shape[1]), max_size=3)) - {counts.shape[1]}
    return counts, np.array([0, *sorted(cuts)])


def c2_truth(counts):
    """The plain definition in exact fractions, rounded once."""
    rows = [[int(value) for value in frame] for frame in counts]
    truth = np.full((len(rows), len(rows)), np.nan)
    for t1, first in enumerate(rows):
        for t2, second in enumerate(rows):
            product = sum(a * b for a, b in zip(first, second, strict=True))
            norm = sum(first) * sum(second)
            if norm:
                truth[t1, t2] = float(Fraction(len(first) * product, norm))
    return truth


def smoothed_truth(counts, starts):
    """The definition with static bins, frame by frame, as boost_corr writes it: divide, then the plain definition."""
    intensity = counts.astype(np.float64)
    stops = [*starts[1:], counts.shape[1]]
    for frame in intensity:
        for start, stop in zip(starts, stops, strict=True):
            mean = frame[start:stop].mean()
            frame[start:stop] /= mean if mean > 0 else 1
    with np.errstate(invalid="ignore"):
        totals = intensity.sum(axis=1)
        return counts.shape[1] * (intensity @ intensity.T) / np.outer(totals, totals)


def speckle(rng, shape, modes, mean):
    """Simulated photons of static speckle of contrast 1 / modes: the same intensities in every frame."""
    intensities = rng.gamma(modes, mean / modes, size=shape[1])
    return rng.poisson(np.broadcast_to(intensities, shape))


@given(integer_counts())
def test_c2_is_the_definition_in_either_form(counts):
    truth = c2_truth(counts)
    for form in (counts, to_events(counts)):
        c2 = twotime.c2(form)
        assert c2.dtype == np.float32
        np.testing.assert_allclose(c2, truth, rtol=FLOAT32_ROUNDING)


@given(counts_and_starts())
def test_c2_with_static_bins_is_the_definition_in_either_form(arguments):
    counts, starts = arguments
    truth = smoothed_truth(counts, starts)
    for form in (counts, to_events(counts)):
        np.testing.assert_allclose(twotime.c2(form, starts), truth, rtol=FLOAT32_ROUNDING)


@given(counts_and_starts())
def test_every_form_and_type_gives_the_same_bits(arguments):
    counts, starts = arguments
    for static in (None, starts):
        expected = twotime.c2(counts, static).tobytes()
        assert twotime.c2(to_events(counts), static).tobytes() == expected
        assert twotime.c2(counts.astype(np.float64), static).tobytes() == expected
        assert twotime.c2(np.asfortranarray(counts), static).tobytes() == expected


def test_one_static_bin_is_the_plain_definition():
    counts = np.random.default_rng(0).poisson(0.3, (30, 40))
    np.testing.assert_allclose(twotime.c2(counts, np.array([0])), twotime.c2(counts), rtol=FLOAT32_ROUNDING)


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 7), st.integers(1, 9)), elements=st.floats(1e-3, 1e4)))
def test_c2_of_float_counts_is_the_definition(counts):
    truth = np.array([[(a * b).mean() / (a.mean() * b.mean()) for b in counts] for a in counts])
    np.testing.assert_allclose(twotime.c2(frozen(counts)), truth, rtol=FLOAT32_ROUNDING)
    np.testing.assert_allclose(twotime.c2(counts.astype(np.float32)), truth, rtol=2e-6)


@given(counts_and_starts())
def test_c2_is_exactly_symmetric(arguments):
    counts, starts = arguments
    for static in (None, starts):
        c2 = twotime.c2(counts, static)
        np.testing.assert_array_equal(c2, c2.T)


@given(integer_counts(), st.randoms(use_true_random=False))
def test_c2_of_integers_is_bitwise_the_same_in_any_order_of_pixels(counts, random):
    order = random.sample(range(counts.shape[1]), counts.shape[1])
    assert twotime.c2(counts[:, order]).tobytes() == twotime.c2(counts).tobytes()


@given(integer_counts(max_value=200), st.lists(st.integers(1, 300), min_size=9, max_size=9))
def test_c2_does_not_see_the_intensity_of_a_frame(counts, factors):
    brighter = counts.astype(np.int64) * np.array(factors[: len(counts)])[:, None]
    np.testing.assert_allclose(twotime.c2(brighter), twotime.c2(counts), rtol=FLOAT32_ROUNDING)


@given(integer_counts(), st.sets(st.integers(0, 8)))
def test_frames_without_photons_and_bad_ones_are_nan_and_only_they(counts, bad):
    valid = ~np.isin(np.arange(len(counts)), list(bad))
    empty = (counts.sum(axis=1) == 0) | ~valid
    c2 = twotime.c2(counts, valid=valid)
    np.testing.assert_array_equal(np.isnan(c2), empty[:, None] | empty[None, :])
    np.testing.assert_array_equal(c2[np.ix_(~empty, ~empty)], twotime.c2(counts)[np.ix_(~empty, ~empty)])


def test_bits_do_not_depend_on_blocks_types_threads_or_order(monkeypatch):
    rng = np.random.default_rng(3)
    counts = rng.poisson(0.2, size=(300, 5001)).astype(np.uint16)
    counts[:, ::700] = rng.integers(0, 65534, size=(300, 8))  # a few bright pixels among dim ones
    assert twotime.methods(counts) == {"int8", "float64"}
    expected = twotime.c2(counts).tobytes()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with threadpool_limits(threads):
            assert twotime.c2(counts).tobytes() == expected
    assert twotime.c2(counts.astype(np.float64)).tobytes() == expected
    assert twotime.c2(to_events(counts)).tobytes() == expected
    assert twotime.c2(counts[:, rng.permutation(5001)]).tobytes() == expected
    monkeypatch.setattr(twotime, "_PIXELS_PER_FLOAT_BLOCK", 500)
    monkeypatch.setattr(twotime, "_PIXELS_PER_INT8_BLOCK", 1000)
    assert twotime.c2(counts).tobytes() == expected


@given(hnp.arrays(np.int8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 127)), st.data())
def test_products_of_any_shape_and_order_in_memory(counts, data):
    """torch multiplies some thin arrays wrongly: whatever the library does, the sums are those of the integers."""
    height = data.draw(st.integers(1, len(counts)))
    first = data.draw(st.integers(0, counts.shape[1] - 1))
    for block in (counts, np.asfortranarray(counts), counts[:, first:], np.ascontiguousarray(counts[:, first:])):
        expected = block[:height].astype(np.int64) @ block.T.astype(np.int64)
        tensor = torch.from_numpy(block)
        np.testing.assert_array_equal(twotime._int8_products(tensor, height), expected)
        np.testing.assert_array_equal(twotime._padded(tensor, height), expected)  # the way of a GPU


def test_the_brightest_int8_counts_do_not_overflow():
    """2^17 + 300 pixels of 127: their products need more than 31 bits, and saturate where a processor saturates."""
    counts = np.full((2, 2**17 + 300), 127, dtype=np.int8)
    assert twotime.methods(counts) == {"int8"}
    bounds = np.array([0, counts.shape[1]])
    (products,) = twotime.product_strips(counts, twotime.normalisation(twotime.sums(counts, bounds), bounds, False))
    assert (products == counts.shape[1] * 127**2).all()
    (pairs,) = twotime.product_strips(
        to_events(counts[:, :140_000]), twotime.Normalisation(np.array([0, 140_000]), None, np.ones(2))
    )
    assert pairs[0, 1] == 131_372 * 127**2


def test_a_processor_without_an_exact_int8_product_takes_float64(monkeypatch):
    counts = np.random.default_rng(1).poisson(0.5, (20, 30)).astype(np.int8)
    expected = twotime.c2(counts).tobytes()
    monkeypatch.setattr(twotime, "has_exact_int8", lambda: False)
    assert twotime.methods(counts) == {"float64"}
    assert twotime.c2(counts).tobytes() == expected


def test_method_names_the_way_of_the_products():
    counts = np.array([[1, 2], [3, 4]], dtype=np.uint16)
    assert twotime.has_exact_int8()  # or this machine tests nothing of it
    assert twotime.methods(counts) == {"int8"}
    assert twotime.methods(to_events(counts)) == {"pairs"}
    assert twotime.methods(counts * [1, 100]) == {"int8", "float64"}
    assert twotime.methods(counts + 200) == twotime.methods(counts / 2) == {"float64"}
    assert twotime.methods(counts[:, :0]) == set()


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 1200), st.sampled_from([256, 512]), st.integers(1, 4), st.booleans(), st.booleans())
def test_rows_of_tiles_are_the_same_c2(num_frames, edge, width, smoothed, as_events):
    """However far a row of tiles reaches, its entries are those of the whole C2."""
    rng = np.random.default_rng(num_frames)
    dense = rng.poisson(0.1, (num_frames, 23)).astype(np.int8)
    starts = np.array([0, 5, 19]) if smoothed else None
    expected = twotime.c2(dense, starts)
    counts = to_events(dense) if as_events else dense
    bounds = np.append(0 if starts is None else starts, 23)
    norm = twotime.normalisation(twotime.sums(counts, bounds), bounds, smoothed)

    def reach(start):
        assert start % edge == 0
        return min(num_frames, start + width * edge)

    strips = twotime.product_strips(counts, norm, edge, reach)
    seen = 0
    for start, rows in twotime.tile_rows(strips, num_frames, edge, reach):
        twotime.normalise(rows, norm.scale[start : start + len(rows)], norm.scale[start : reach(start)])
        assert rows.shape == (min(edge, num_frames - start), reach(start) - start)
        np.testing.assert_array_equal(rows, expected[start : start + len(rows), start : reach(start)])
        seen += len(rows)
    assert seen == num_frames


@given(counts_and_starts(max_value=300), st.integers(1, 12))
def test_products_of_blocks_of_pixels_add_up(arguments, cut):
    counts, _ = arguments
    bounds = np.array([0, counts.shape[1]])
    norm = twotime.normalisation(twotime.sums(counts, bounds), bounds, False)
    (whole,) = twotime.product_strips(counts, norm)
    cut = min(cut, counts.shape[1])
    for form in (counts, to_events(counts)):
        parts = [pixels(form, 0, cut), pixels(form, cut, counts.shape[1])]
        strips = [next(twotime.product_strips(part, norm)) for part in parts]
        upper = np.triu_indices(len(counts))
        np.testing.assert_array_equal((strips[0] + strips[1])[upper], whole[upper])


@given(counts_and_starts())
def test_sums_are_those_of_the_static_bins(arguments):
    counts, starts = arguments
    bounds = np.append(starts, counts.shape[1])
    expected = [counts[:, a:b].sum(axis=1, dtype=np.int64) for a, b in pairwise(bounds)]
    for form in (counts, to_events(counts)):
        np.testing.assert_array_equal(twotime.sums(form, bounds), expected)


@given(integer_counts(max_value=1000))
def test_events_hold_all_counts(counts):
    np.testing.assert_array_equal(to_dense(to_events(counts)), counts)


def test_c2_by_hand():
    counts = np.array([[1, 3], [2, 2], [0, 0]], dtype=np.uint8)
    nan = np.nan
    np.testing.assert_array_equal(twotime.c2(counts), np.float32([[1.25, 1, nan], [1, 1, nan], [nan, nan, nan]]))


def test_c2_of_one_pixel_is_one_and_of_no_pixel_nan():
    assert (twotime.c2(np.array([[7], [5], [9]])) == 1).all()
    assert np.isnan(twotime.c2(np.zeros((3, 0), dtype=np.uint8))).all()
    assert twotime.c2(np.zeros((0, 4), dtype=np.uint8)).shape == (0, 0)


def test_c2_of_simulated_static_speckle_is_one_plus_contrast_off_the_diagonal():
    modes, mean = 4, 0.7
    counts = speckle(np.random.default_rng(0), (40, 100_000), modes, mean)
    c2 = twotime.c2(counts)
    off_diagonal = c2[np.triu_indices(40, 1)].mean()
    # The speckle pattern is one for all frames: its own second moment is known to about 0.3 % of 100,000 pixels.
    assert off_diagonal == pytest.approx(1 + 1 / modes, abs=5e-3)
    assert np.diagonal(c2).mean() - off_diagonal == pytest.approx(1 / mean, rel=1e-2)  # shot noise
