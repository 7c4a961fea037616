"""Counts of any size in every type of integers: exact, in bounded memory, and no counts from 2^53 on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ainerd_hpc.correlation.counts.gathering import Gathering
from ainerd_hpc.correlation.counts.layout import Layout
from ainerd_hpc.correlation.selection import Selection
from ainerd_hpc.errors import PlanError, ScanError
from ainerd_hpc.formats.frames.aps import ApsHdf5
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.kernels import twotime
from ainerd_hpc.kernels.choice import DENSE, EVENTS
from ainerd_hpc.kernels.counts import Counts, Events, to_dense, to_events
from tests.correlation.test_correlate import EACH_WAY, forms
from tests.support.correlation_truth import (
    SHAPE,
    assert_same,
    assert_true,
    c2_truth,
    correlated,
    photons,
    read_arrays,
    truth,
    write_source,
)

INTEGERS = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8")
AREA = 12


class InMemory:
    """Frames that are not in a file."""

    per_chunk = 1

    def __init__(self, frames: np.ndarray) -> None:
        self._frames, self.shape, self.dtype = frames, frames.shape, frames.dtype

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        return self._frames[start:stop:step]


def is_no_count(values: np.ndarray) -> np.ndarray:
    """Negative, the largest of the type or, of more than a byte without a sign, the one below it; or 2^53 and more."""
    exact, kind = values.astype(object), values.dtype
    first = np.iinfo(kind).max - (kind.kind == "u" and kind.itemsize > 1)
    return np.array((exact < 0) | (exact >= min(int(first), 2**53)), dtype=bool)


@st.composite
def counted(draw: st.DrawFn) -> np.ndarray:
    """Frames (t, y x): single photons, and some values of any size."""
    dtype = np.dtype(draw(st.sampled_from(INTEGERS)))
    most, num_frames = int(np.iinfo(dtype).max), draw(st.integers(2, 9))
    frames = np.random.default_rng(draw(st.integers(0, 99))).poisson(1.0, (num_frames, AREA)).astype(dtype)
    borders = [2**power + more for power in (7, 8, 16, 31, 32, 53, 63) for more in (-2, -1, 0, 1)]
    large = st.sampled_from([value for value in (*borders, most - 1, most) if value <= most]) | st.integers(0, most)
    for _ in range(draw(st.integers(0, 12))):
        frames[draw(st.integers(0, num_frames - 1)), draw(st.integers(0, AREA - 1))] = draw(large)
    return frames


def room_for(most_events: int) -> Any:
    return lambda forms, types, num_events=0: most_events


def as_dense(counts: Counts) -> np.ndarray:
    return to_dense(counts) if isinstance(counts, Events) else counts


@given(counted(), st.lists(st.sampled_from([DENSE, EVENTS]), min_size=3, max_size=3), st.integers(0, 10**5), st.data())
def test_counts_of_any_size_are_those_of_the_frames(
    frames: np.ndarray, chosen: list[str], most_events: int, data: st.DataObject
) -> None:
    """Whatever a sample saw of them, and however few events there is room for."""
    bounds, num_frames = np.array([0, 4, 9, AREA]), len(frames)
    order = np.array(data.draw(st.permutations(range(AREA))), dtype=np.int32)
    layout = Layout(order, bounds, np.ones(AREA, np.int32), np.zeros(3), np.zeros(1))
    gathering = Gathering(InMemory(frames.reshape(num_frames, 3, 4)), layout, Selection(0, num_frames), threads=2)
    gathering.per_block = data.draw(st.integers(1, 4))
    sampled = np.array(data.draw(st.lists(st.sampled_from([0, 200, 10**6, 2**40]), min_size=3, max_size=3)))
    found, is_dead = gathering.run(chosen, sampled, room_for(most_events))
    bad = is_no_count(frames)
    lost = bad.all(axis=1)
    expected = np.where(bad, 0, frames).astype(np.float64)
    np.testing.assert_array_equal(is_dead, bad[~lost].any(axis=0)[order])
    for counts, first, last in zip(found, bounds[:-1], bounds[1:], strict=True):
        dense, true = as_dense(counts), expected[:, order[first:last]]
        np.testing.assert_array_equal(dense, true)
        if not isinstance(counts, Events):
            assert counts.itemsize <= frames.itemsize
            continue
        assert len(counts.time) <= most_events
        with np.errstate(divide="ignore", invalid="ignore"):
            c2 = c2_truth(true, np.ones(last - first, int), np.ones(num_frames, bool))
        np.testing.assert_allclose(twotime.c2(counts), c2, rtol=1e-6)


def test_where_there_is_no_room_for_dense_counts_nothing_is_read() -> None:
    frames = np.full((2, 3, 4), 2**20, np.uint32)
    layout = Layout(np.arange(AREA, dtype=np.int32), np.array([0, AREA]), np.ones(AREA, np.int32), *2 * [np.zeros(1)])

    def room(forms: Any, types: Any, num_events: int = 0) -> int:
        if DENSE in forms:
            raise ScanError("here", "no room", "go")
        return 7

    with pytest.raises(ScanError, match="no room"):
        Gathering(InMemory(frames), layout, Selection(0, 2), threads=1).run([EVENTS], np.zeros(1), room)


def test_large_counts_of_whole_scans_are_exact(tmp_path: Path) -> None:
    """A pixel of them, seen by a sample or in one frame alone, and a detector that counts in large units."""
    cases = [("u4", 3 * 10**9, 3 * 10**6), ("u8", 2**33, 2**40)]
    expected = {}
    for dtype, largest, unit in cases:
        hot, flash, scaled = (photons(60).astype(dtype) for _ in range(3))
        hot[:, 17, 20] = largest
        flash[41, 30, 40] = largest
        scaled *= unit
        for name, frames in (("hot", hot), ("flash", flash), ("scaled", scaled)):
            partition = write_source(tmp_path / "source", frames, "gzip", scan_id=f"{dtype} {name}")
            expected[f"{dtype} {name}"] = truth(frames, partition)
    for ingest, form in EACH_WAY:
        correlated(tmp_path / "source", tmp_path / ingest, scan_id="u4 hot", **forms(ingest, form))
        for scan_id, arrays in expected.items():
            found = read_arrays(tmp_path / ingest, scan_id)
            assert_true(found, arrays)
            if scan_id.startswith("u4"):
                assert_same(found, read_arrays(tmp_path / EACH_WAY[0][0], scan_id), but=["method"])


@pytest.mark.parametrize("ingest", ["none", "events"])
def test_from_two_to_the_53_on_there_are_no_counts(ingest: str, tmp_path: Path) -> None:
    """As the largest value of a type, they mark a pixel that is dead."""
    expected = {}
    for dtype, value in (("u8", 2**53), ("u8", 2**64 - 2), ("u8", 2**64 - 1), ("i8", 2**63 - 2), ("i8", -2)):
        frames = photons(40).astype(dtype)
        frames[3, 14, 16] = value
        partition = write_source(tmp_path / "source", frames, "gzip", scan_id=f"{dtype} {value}")
        frames[3, 14, 16] = 0
        expected[f"{dtype} {value}"] = truth(frames, partition, dead=[(14, 16)])
    correlated(tmp_path / "source", tmp_path / "archive", scan_id="u8 9007199254740992", **forms(ingest, "auto"))
    for scan_id, arrays in expected.items():
        assert_true(read_arrays(tmp_path / "archive", scan_id), arrays)


def test_sums_of_products_have_no_end() -> None:
    """More than int64 holds, of events of some of a million pixels."""
    num_pixels, count = 2**20, 4 * 10**6
    pieces = to_events(np.full((3, 1), count))
    pointer = np.append(0, np.full(num_pixels, len(pieces.time)))
    found = twotime.c2(Events(pointer, pieces.time, pieces.count, 3))
    np.testing.assert_allclose(found, np.full((3, 3), num_pixels), rtol=1e-6)


def test_frames_of_single_bits_are_counts_of_one(tmp_path: Path) -> None:
    frames = photons(60) > 0
    partition = write_source(tmp_path / "source", frames, "gzip")
    for ingest, form in EACH_WAY:
        assert_true(correlated(tmp_path / "source", tmp_path / ingest, **forms(ingest, form)), truth(frames, partition))


@pytest.mark.parametrize("dtype", [[("a", "u2"), ("b", "u2")], "c8", "S2"])
def test_what_is_no_number_is_refused_in_one_line(dtype: Any, tmp_path: Path) -> None:
    write_source(tmp_path / "source", np.zeros((9, *SHAPE), dtype), "gzip")
    with pytest.raises(PlanError, match=r"expected counts \(t, y, x\), found [^\n]*$"):
        correlated(tmp_path / "source", tmp_path / "archive")


def test_the_plan_counts_floats_as_they_are_read(tmp_path: Path) -> None:
    for dtype, itemsize in (("f2", 4), ("f4", 4), ("f8", 8), ("?", 1)):
        write_source(tmp_path / "source", photons(4).astype(dtype), "gzip")
        with SourceFile(tmp_path / "source" / "scan.h5") as file:
            assert ApsHdf5.describe(file).itemsize == itemsize
