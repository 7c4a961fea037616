"""Counts taken out of frames, dense or as events, against plain loops and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ainerd_hpc.kernels.counts import Events, pixels, select, to_dense, to_events
from ainerd_hpc.kernels.gather import by_pixel, dead_values, find_events, pixel_sums, sentinel, take
from ainerd_hpc.kernels.no_counts import first_dead

DTYPES = [np.uint8, np.uint16, np.uint32, np.int32]


def values(dtype: Any) -> st.SearchStrategy[int]:
    """Mostly nothing or a few photons; some bright, dead or negative."""
    largest = int(np.iinfo(dtype).max)
    odd = [1, 127, 128, 254, 255, 256, 510, 511, 70000, largest - 1, largest, -1, int(np.iinfo(dtype).min)]
    least, ends = int(np.iinfo(dtype).min), (largest - 1, largest)
    known = [value for value in odd if least <= value <= min(largest, 70000) or value in ends]
    return st.one_of(st.just(0), st.integers(0, 3), st.sampled_from(known))


@st.composite
def frames_of(draw: st.DrawFn, dtypes: list[Any] = DTYPES, odd: bool = True) -> np.ndarray:
    """Frames (t, y x) of counts."""
    dtype = draw(st.sampled_from(dtypes))
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 21)))
    return draw(hnp.arrays(dtype, shape, elements=values(dtype) if odd else st.integers(0, 100), fill=st.just(0)))


@st.composite
def frames_and_order(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Frames, and the numbers of some of their pixels in some order."""
    frames = draw(frames_of())
    order = draw(st.permutations(range(frames.shape[1])))
    return frames, np.array(order[: draw(st.integers(1, frames.shape[1]))], dtype=np.int32)


def is_no_count(frames: np.ndarray) -> np.ndarray:
    largest = int(np.iinfo(frames.dtype).max)
    defective = largest - 1 if frames.dtype in (np.uint16, np.uint32, np.uint64) else largest
    return (frames == largest) | (frames == defective) | (frames < 0)


def are_dead(frames: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Pixels with no count in any frame but those that were lost whole."""
    no_count = is_no_count(frames)
    return (no_count & ~no_count.all(axis=1)[:, np.newaxis])[:, order].any(axis=0)


def position_of(order: np.ndarray, num_pixels: int) -> np.ndarray:
    position = np.full(num_pixels, -1, dtype=np.int32)
    position[order] = np.arange(len(order))
    return position


def pieces(count: int) -> list[int]:
    """Of a count, no larger than an event holds."""
    return [255] * (count // 255) + [count % 255] * (count % 255 > 0)


@given(frames_and_order(), st.integers(1, 3))
def test_events_by_pixel_are_all_counts_in_order(arguments: tuple[np.ndarray, np.ndarray], per_block: int) -> None:
    frames, order = arguments
    before, position = frames.copy(), position_of(order, frames.shape[1])
    is_dead = np.zeros(len(order), dtype=bool)
    blocks = [find_events(frames[i : i + per_block], position, is_dead) for i in range(0, len(frames), per_block)]
    events = by_pixel(blocks, len(order))
    expected = []
    for pixel in order:
        series = np.where(is_no_count(frames[:, pixel]), 0, frames[:, pixel])
        expected.append([(t, piece) for t, count in enumerate(series.tolist()) for piece in pieces(count)])
    found = [
        list(zip(events.time[start:stop].tolist(), events.count[start:stop].tolist(), strict=True))
        for start, stop in zip(events.pointer[:-1], events.pointer[1:], strict=True)
    ]
    assert found == expected
    assert events.shape == (len(frames), len(order))
    np.testing.assert_array_equal(is_dead, are_dead(frames, order))
    np.testing.assert_array_equal(frames, before)


@given(frames_and_order(), st.booleans(), st.integers(0, 21))
def test_dense_counts_are_those_of_the_frames(
    arguments: tuple[np.ndarray, np.ndarray], as_int8: bool, cut: int
) -> None:
    frames, order = arguments
    dtype = np.int8 if as_int8 else frames.dtype
    bounds = np.array([0, min(cut, len(order)), len(order)])
    out = [np.full((len(frames), size), 77, dtype=dtype) for size in np.diff(bounds)]
    is_dead, before = np.zeros(len(order), dtype=bool), frames.copy()
    expected = np.where(is_no_count(frames), 0, frames)[:, order]
    fits = take(frames, order, bounds, is_dead, out)
    np.testing.assert_array_equal(frames, before)
    assert fits == (expected.max() <= np.iinfo(dtype).max)
    if fits:
        np.testing.assert_array_equal(np.concatenate(out, axis=1), expected)
        np.testing.assert_array_equal(is_dead, are_dead(frames, order))


def test_marks_of_dead_pixels_are_kept_from_block_to_block() -> None:
    frames = np.array([[65534, 0, 3], [2, 0, 0]], dtype=np.uint16)
    order, bounds = np.arange(3, dtype=np.int32), np.array([0, 3])
    by_take, by_find = np.zeros(3, dtype=bool), np.zeros(3, dtype=bool)
    for block in (frames[:1], frames[1:]):
        assert take(block, order, bounds, by_take, [np.empty((1, 3), np.int8)])
        find_events(block, order, by_find)
    assert by_take.tolist() == by_find.tolist() == [True, False, False]


def test_pixels_that_are_not_wanted_may_be_anything() -> None:
    frames = np.array([[65535, 1, 2**15, 4, 0, 300]] * 3, dtype=np.uint16)
    is_dead = np.zeros(2, dtype=bool)
    events = by_pixel([find_events(frames, np.array([-1, 1, -1, 0, -1, -1], dtype=np.int32), is_dead)], 2)
    np.testing.assert_array_equal(to_dense(events), [[4, 1]] * 3)
    assert not is_dead.any()
    out = np.empty((3, 2), np.int8)
    assert take(frames, np.array([3, 1], dtype=np.int32), np.array([0, 2]), is_dead, [out])
    np.testing.assert_array_equal(out, [[4, 1]] * 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_frames_are_copied_as_they_are(dtype: Any) -> None:
    frames = np.array([[0.5, np.nan, 3e9, -0.25, 0.0], [1.5, 2.0, 0.125, 7.0, -0.0]], dtype=dtype)
    order = np.array([4, 0, 1, 2, 3], dtype=np.int32)
    out, is_dead = [np.empty((2, 2), dtype), np.empty((2, 3), dtype)], np.zeros(5, dtype=bool)
    assert take(frames, order, np.array([0, 2, 5]), is_dead, out)
    np.testing.assert_array_equal(out[0], [[0, 0.5], [0, 1.5]])
    np.testing.assert_array_equal(out[1], np.array([[0, 3e9, 0], [2, 0.125, 7]], dtype))
    assert is_dead.tolist() == [False, False, True, False, True]


@pytest.mark.parametrize(
    ("dtype", "expected"), [("u1", 255), ("u2", 65535), ("u4", 2**32 - 1), ("i4", 2**31 - 1), ("f4", -1), ("f8", -1)]
)
def test_the_value_of_dead_pixels(dtype: str, expected: int) -> None:
    assert sentinel(np.dtype(dtype)) == expected


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("u1", 255), ("u2", 65534), ("u4", 2**32 - 2), ("u8", 2**53), ("i4", 2**31 - 1), ("f4", np.inf)],
)
def test_the_first_value_that_is_no_count(dtype: str, expected: float) -> None:
    """DECTRIS detectors give 2^n - 1 to gaps and 2^n - 2 to defective pixels; a byte may count to 254."""
    assert first_dead(np.dtype(dtype)) == expected
    around = np.array([expected - 1, expected], dtype=dtype)
    if dtype != "f4":
        assert dead_values(around).tolist() == [False, True]


@given(frames_of(odd=False), st.data())
def test_sums_of_pixels_over_valid_frames(counts: np.ndarray, data: st.DataObject) -> None:
    valid = np.array(data.draw(st.lists(st.booleans(), min_size=len(counts), max_size=len(counts))))
    expected = counts[valid].sum(axis=0, dtype=np.int64)
    small = counts.astype(np.int8)
    frozen = small.copy()
    frozen.flags.writeable = False
    for form in (counts, small, frozen, np.asfortranarray(small), to_events(counts)):
        found = pixel_sums(form, valid)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, expected)
    halves = pixel_sums(counts * 0.5, valid)
    assert halves.dtype == np.float64
    np.testing.assert_array_equal(halves, expected * 0.5)


@given(frames_of([np.uint16, np.int32], odd=False), st.data())
def test_some_pixels_of_counts(counts: np.ndarray, data: st.DataObject) -> None:
    num_pixels = counts.shape[1]
    start = data.draw(st.integers(0, num_pixels))
    stop = data.draw(st.integers(start, num_pixels))
    chosen = np.array(data.draw(st.lists(st.integers(0, num_pixels - 1))), dtype=np.int64)
    events = to_events(counts * 7)
    part, selected = pixels(events, start, stop), select(events, chosen)
    assert isinstance(part, Events)
    assert isinstance(selected, Events)
    np.testing.assert_array_equal(to_dense(part), counts[:, start:stop] * 7)
    np.testing.assert_array_equal(to_dense(selected), counts[:, chosen] * 7)
    np.testing.assert_array_equal(pixels(counts, start, stop), counts[:, start:stop])
    np.testing.assert_array_equal(select(counts, chosen), counts[:, chosen])
    np.testing.assert_array_equal(to_dense(select(part, np.arange(stop - start))), counts[:, start:stop] * 7)


@given(hnp.arrays(np.int64, st.tuples(st.integers(0, 5), st.integers(0, 7)), elements=st.integers(0, 2000)))
def test_events_of_dense_counts_and_back(counts: np.ndarray) -> None:
    events = to_events(counts)
    assert events.shape == counts.shape
    assert (events.count > 0).all()
    assert len(events.time) == sum(len(pieces(count)) for count in counts.ravel().tolist())
    np.testing.assert_array_equal(to_dense(events), counts)


def test_no_events_at_all() -> None:
    nothing = find_events(np.zeros((3, 5), np.uint16), np.arange(5, dtype=np.int32), np.zeros(5, bool))
    events = by_pixel([nothing, nothing], 5)
    assert events.shape == (6, 5)
    assert len(events.time) == len(events.count) == 0
    assert by_pixel([], 4).shape == (0, 4)
