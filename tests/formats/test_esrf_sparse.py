"""Sparse HDF5 files of the ESRF, written with plain h5py, against frames by plain NumPy; and all formats of events."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.events import blocks as events_module
from ainerd_hpc.formats.events import esrf_sparse
from ainerd_hpc.formats.events.esrf_sparse import EsrfSparse
from ainerd_hpc.formats.events.imm import Imm
from ainerd_hpc.formats.events.rigaku import Rigaku
from ainerd_hpc.formats.frames.aps import ApsHdf5
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.kernels.counts import Events, to_dense
from ainerd_hpc.kernels.gather import by_pixel, find_events
from ainerd_hpc.kernels.no_counts import first_dead
from ainerd_hpc.types import Content
from tests.formats import test_imm as imm
from tests.formats.test_rigaku import Event, damaged, dense, describe, found, matches, positions, try_all, words

SHAPE = (8, 5, 6)
AREA = 30
SOME = [(0, 3, 1), (0, 29, 4), (2, 7, 2), (2, 3, 1), (7, 0, 255)]


def write_by_frame(path: Path, events: list[Event], shape: Any = SHAPE, group: str = "", **kinds: Any) -> Path:
    """intensity, pixel_index, frame_pointer (t + 1): events in order of frames."""
    events = sorted(events, key=lambda event: event[0])
    pointer = np.searchsorted([event[0] for event in events], np.arange(shape[0] + 1))
    return _write(path, events, 1, "pixel_index", "frame_pointer", pointer, shape, group, **kinds)


def write_by_pixel(path: Path, events: list[Event], shape: Any = SHAPE, group: str = "", **kinds: Any) -> Path:
    """intensity, time_index, pixel_pointer (y x + 1): events in order of pixels, then frames."""
    events = sorted(events, key=lambda event: (event[1], event[0]))
    pointer = np.searchsorted([event[1] for event in events], np.arange(shape[1] * shape[2] + 1))
    return _write(path, events, 0, "time_index", "pixel_pointer", pointer, shape, group, **kinds)


def _write(
    path: Path,
    events: list[Event],
    column: int,
    index: str,
    pointer_name: str,
    pointer: np.ndarray,
    shape: Any,
    group: str,
    count: Any = np.uint16,
    index_kind: Any = np.int32,
    **filters: Any,
) -> Path:
    with h5py.File(path, "w") as file:
        inside = file.require_group(group) if group else file
        inside.attrs["frames_shape"] = shape
        inside.create_dataset("intensity", data=np.array([event[2] for event in events], dtype=count), **filters)
        values = np.array([event[column] for event in events], dtype=index_kind)
        inside.create_dataset(index, data=values, **filters)
        inside[pointer_name] = pointer.astype(np.int64)
    return path


WRITERS = {"by frame": write_by_frame, "by pixel": write_by_pixel}
both = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
INDEX = {"by frame": "pixel_index", "by pixel": "time_index"}
POINTER = {"by frame": "frame_pointer", "by pixel": "pixel_pointer"}


@both
@pytest.mark.parametrize("group", ["", "entry/data"])
def test_describe(tmp_path, write, group):
    path = write(tmp_path / "scan.h5", SOME, group=group)
    description = describe(EsrfSparse, path)
    assert (description.num_frames, description.height, description.width) == SHAPE
    assert (description.itemsize, description.companions, description.stem) == (4, (), "")
    assert not description.metadata.has_frame_time
    assert EsrfSparse.content is Content.FRAMES


@settings(max_examples=40)
@given(
    events=st.lists(
        st.tuples(st.integers(0, 7), st.integers(0, AREA - 1), st.sampled_from([1, 2, 254, 255, 256, 700, 65533])),
        max_size=60,
    ),
    layout=st.sampled_from(list(WRITERS)),
    kinds=st.sampled_from(
        [
            {},
            {"count": "u4", "index_kind": "u8"},
            {"count": ">u2", "index_kind": ">i8"},
            {"count": "i8", "index_kind": "u2", "chunks": (7,), "maxshape": (None,), "compression": "gzip"},
        ]
    ),
    most=st.integers(1, 30),
    span=st.integers(1, 20),
    per_block=st.integers(1, 9),
    data=st.data(),
)
def test_frames_and_events_are_those_written(tmp_path_factory, events, layout, kinds, most, span, per_block, data):
    """Whatever the groups of frames that are read together, and the pieces in which events by pixel are read."""
    path = WRITERS[layout](tmp_path_factory.mktemp("esrf") / "scan.h5", events, **kinds)
    expected = dense(events, 8, AREA)
    order = np.array(data.draw(st.permutations(range(AREA)))[: data.draw(st.integers(1, AREA))])
    start, step = data.draw(st.integers(0, 8)), data.draw(st.integers(1, 4))
    with pytest.MonkeyPatch.context() as patch:
        for groups in (esrf_sparse._ByFrame, events_module.EventsByPixel):
            patch.setattr(groups, "most", most)
        patch.setattr(esrf_sparse, "_SPAN", span)
        with EsrfSparse.open(path) as frames:
            assert (frames.shape, frames.dtype) == (SHAPE, np.uint32)
            np.testing.assert_array_equal(frames.read(0, 8).reshape(8, -1), expected)
            np.testing.assert_array_equal(frames.read(start, 11, step).reshape(-1, AREA), expected[start::step])
            position = positions(order, AREA)
            blocks = [found(frames, first, first + per_block, position)[0] for first in range(0, 8, per_block)]
    np.testing.assert_array_equal(to_dense(by_pixel(blocks, len(order))), expected[:, order])


@both
def test_any_number_of_threads_may_read(tmp_path, write, monkeypatch):
    for groups in (esrf_sparse._ByFrame, events_module.EventsByPixel):
        monkeypatch.setattr(groups, "most", 200)
    random = np.random.default_rng(0)
    counts = random.poisson(0.2, (100, 400))
    events = [(int(t), int(pixel), int(counts[t, pixel])) for t, pixel in np.argwhere(counts)]
    path = write(tmp_path / "scan.h5", events, (100, 20, 20), chunks=(64,), compression="gzip")
    with EsrfSparse.open(path) as frames, ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda first: frames.read(first, first + 3).reshape(-1, 400), range(0, 100, 3)))
        assert len(frames._groups) <= 2
    np.testing.assert_array_equal(np.concatenate(read), counts)


@both
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "i4"])
def test_values_that_are_no_counts_mean_the_same_as_in_frames(tmp_path, write, dtype):
    """Dead-pixel values and negative ones kill a pixel, but for a frame of nothing else, which was lost."""
    counts = np.zeros((8, AREA), dtype=dtype)
    counts[0, 3], counts[2, 3], counts[1, 9], counts[4] = 5, np.iinfo(dtype).max, 2, np.iinfo(dtype).max
    if np.dtype(dtype).kind == "i":
        counts[6, 11] = -7
    events = [(int(t), int(pixel), int(counts[t, pixel])) for t, pixel in np.argwhere(counts)]
    path = write(tmp_path / "scan.h5", events, count=dtype)
    position, expected_dead = positions(np.array([9, 3, 11, 0]), AREA), np.zeros(4, dtype=bool)
    expected = by_pixel([find_events(counts, position, expected_dead)], 4)
    with EsrfSparse.open(path) as frames:
        block, is_dead = found(frames, 0, 8, position)
        read = frames.read(0, 8).reshape(8, -1)
    assert is_dead.tolist() == expected_dead.tolist() == [False, True, np.dtype(dtype).kind == "i", False]
    assert_equal_events(by_pixel([block], 4), expected)
    no_count = (counts >= first_dead(counts.dtype)) | (counts < 0)
    np.testing.assert_array_equal(read, np.where(no_count, 2**32 - 1, counts.astype(np.int64)))


@both
def test_a_sum_never_looks_like_a_dead_pixel(tmp_path, write):
    path = write(
        tmp_path / "scan.h5", [(0, 3, 2**32 - 3), (0, 3, 1), (1, 3, 2**31), (1, 3, 2**31), (1, 4, 2)], count="u4"
    )
    with EsrfSparse.open(path) as frames:
        block = frames.read(0, 2).reshape(2, -1)
        assert block[:, 3].tolist() == [2**32 - 3, 2**32 - 3]
        assert frames.find(0, 8, positions(np.array([3]), AREA), np.zeros(1, bool)) is None  # 16 million events each
        assert found(frames, 0, 8, positions(np.array([4]), AREA))[0].count.tolist() == [2]


def assert_equal_events(events: Events, expected: Events) -> None:
    for name in ("pointer", "time", "count"):
        values = getattr(events, name)
        assert values.dtype == getattr(expected, name).dtype
        np.testing.assert_array_equal(values, getattr(expected, name), err_msg=name)
    assert events.num_frames == expected.num_frames


def test_all_formats_of_events_give_the_same(tmp_path):
    """The same photons as Rigaku words, IMM, ESRF by frame and by pixel, and as frames of HDF5."""
    shape, area = (21, 512, 1024), 512 * 1024
    random = np.random.default_rng(5)
    pixels = random.choice(area, 700, replace=False)
    counts = np.zeros((21, area), dtype=np.uint16)
    counts[:, pixels] = random.poisson(0.1, (21, 700))
    counts[20, pixels[0]], counts[4, pixels[1]], counts[9, pixels[2]] = 1, 3000, 256
    counts[7] = 0
    events = [(int(t), int(pixel), int(counts[t, pixel])) for t, pixel in np.argwhere(counts)]
    (tmp_path / "scan.bin").write_bytes(words(events))
    (tmp_path / "scan.imm").write_bytes(imm.sparse(events, 21, rows=512, columns=1024))
    write_by_frame(tmp_path / "by_frame.h5", events, shape, chunks=(100,), compression="gzip")
    write_by_pixel(tmp_path / "by_pixel.h5", events, shape)
    with h5py.File(tmp_path / "frames.h5", "w") as file:
        file.create_dataset("entry/data/data", data=counts.reshape(shape), chunks=(1, 512, 1024), compression="lzf")
    order = random.permutation(pixels)[:500]
    position = positions(order)
    with ApsHdf5.open(tmp_path / "frames.h5") as frames:
        blocks = [frames.read(first, first + 5) for first in range(0, 21, 5)]
    is_dead = np.zeros(500, dtype=bool)
    expected = by_pixel([find_events(block.reshape(len(block), -1), position, is_dead) for block in blocks], 500)
    assert len(expected.time) > 700
    readers = {"scan.bin": Rigaku, "scan.imm": Imm, "by_frame.h5": EsrfSparse, "by_pixel.h5": EsrfSparse}
    for name, reader in readers.items():
        description = describe(reader, tmp_path / name)
        assert (description.num_frames, description.height, description.width) == shape
        with reader.open(tmp_path / name) as frames:
            for first, block in zip(range(0, 21, 5), blocks, strict=True):
                np.testing.assert_array_equal(frames.read(first, first + 5), block, err_msg=name)
            found_blocks = [found(frames, first, min(first + 4, 21), position)[0] for first in range(0, 21, 4)]
        assert_equal_events(by_pixel(found_blocks, 500), expected)
        others = {other.name for other in readers.values() if matches(other, tmp_path / name)}
        assert others == {reader.name}


def write_virtual(folder: Path, events: list[Event], num_parts: int = 3, lacking: int = 0) -> Path:
    """Events by pixel in part files below the folder, joined by virtual datasets, as xpcs-correlator writes them."""
    plain = write_by_pixel(folder / "plain.h5", events)
    with h5py.File(plain) as file:
        intensity, time, pointer = (file[name][()] for name in ("intensity", "time_index", "pixel_pointer"))
    plain.unlink()
    (folder / "scan_parts").mkdir()
    layouts = {"intensity": h5py.VirtualLayout(intensity.shape, intensity.dtype), "time_index": None}
    layouts["time_index"] = h5py.VirtualLayout(time.shape, time.dtype)
    bounds = np.linspace(0, len(time), num_parts + 1).astype(int)
    for number, (first, last) in enumerate(pairwise(bounds)):
        name = f"scan_parts/part_{number:06d}.h5"
        with h5py.File(folder / name, "w") as file:
            file["intensity"], file["time_index"] = intensity[first:last], time[first : last - lacking]
        for key in layouts:
            layouts[key][first:last] = h5py.VirtualSource(name, key, shape=(last - first,))
    with h5py.File(folder / "scan.h5", "w") as file:
        for key, layout in layouts.items():
            file.create_virtual_dataset(key, layout)
        file["pixel_pointer"] = pointer
        file.attrs["frames_shape"] = SHAPE
    return folder / "scan.h5"


def test_events_in_part_files(tmp_path):
    events = [(t, (7 * t + 3 * k) % AREA, 1 + k) for t in range(8) for k in range(5)]
    path = write_virtual(tmp_path, events)
    parts = sorted((tmp_path / "scan_parts").iterdir())
    assert describe(EsrfSparse, path).companions == tuple(parts)
    assert not any(matches(EsrfSparse, part) for part in parts)
    with EsrfSparse.open(path) as frames:
        np.testing.assert_array_equal(frames.read(0, 8).reshape(8, -1), dense(events, 8, AREA))
    parts[1].unlink()
    with pytest.raises(ScanError, match=r"expected the linked file .*part_000001\.h5, found none"):
        describe(EsrfSparse, path)


def test_part_files_with_less_than_promised_are_refused(tmp_path):
    path = write_virtual(tmp_path, SOME * 3, lacking=1)
    with pytest.raises(ScanError, match="time_index: expected 15 values in its sources, found 12"):
        describe(EsrfSparse, path)


def test_links_do_not_leave_the_folder(tmp_path):
    (tmp_path / "inside").mkdir()
    write_by_frame(tmp_path / "outside.h5", SOME)
    write_by_frame(tmp_path / "inside" / "data.h5", SOME)
    for target in ("../outside.h5", str(tmp_path / "outside.h5"), "absent.h5", "data.h5"):
        path = tmp_path / "inside" / "scan.h5"
        with h5py.File(path, "w") as file:
            for name in ("intensity", "pixel_index", "frame_pointer"):
                file[name] = h5py.ExternalLink(target, name)
            file.attrs["frames_shape"] = SHAPE
        if target == "data.h5":
            assert describe(EsrfSparse, path).companions == (tmp_path / "inside" / "data.h5",)
            with EsrfSparse.open(path) as frames:
                np.testing.assert_array_equal(frames.read(0, 8).reshape(8, -1), dense(SOME, 8, AREA))
        else:
            with pytest.raises(ScanError, match=r"expected links to files below|expected the linked file"):
                describe(EsrfSparse, path)


def change(path: Path, name: str, value: Any, **filters: Any) -> None:
    """Put another dataset, or another attribute frames_shape."""
    with h5py.File(path, "a") as file:
        if name == "frames_shape":
            del file.attrs[name]
            if value is not None:
                file.attrs[name] = value
        else:
            del file[name]
            file.create_dataset(name, data=value, **filters)


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("frames_shape", None, r"expected the attribute frames_shape .* file\.attrs\['frames_shape'\] = "),
        ("frames_shape", (8, 30), "three integers"),
        ("frames_shape", (8.0, 5.0, 6.0), "three integers"),
        ("frames_shape", "8, 5, 6", "three integers"),
        ("frames_shape", (0, 5, 6), r"found \(0, 5, 6\)"),
        ("frames_shape", (-8, -5, 6), r"found \(-8, -5, 6\)"),
        ("frames_shape", (8, 2**40, 2**40), "pixels, found"),
        ("frames_shape", (2**50, 5, 6), "expected 1 to 16777216 frames"),
        ("frames_shape", (9, 5, 7), "values of (frame|pixel)_pointer for frames of"),
        ("intensity", np.ones(5, np.float32), "expected a list of integers, found float32"),
        ("intensity", np.ones((5, 1), np.uint8), r"expected a list of integers, found uint8 \(5, 1\)"),
        ("intensity", np.uint8(3), "expected a list of integers"),
        ("intensity", np.array(["a"] * 5, dtype="S1"), "expected a list of integers"),
        ("intensity", np.ones(4, np.uint8), "found .* 5 and 4"),
        ("pointer", np.arange(3), "for frames of .* found 3"),
        ("index", np.ones(7, np.int32), "found .* 7 and 5"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, layout, name, value, problem):
    path = WRITERS[layout](tmp_path / "scan.h5", SOME)
    change(path, {"pointer": POINTER, "index": INDEX}.get(name, {}).get(layout, name), value)
    with pytest.raises(ScanError, match=r"scan\.h5.*" + problem):
        describe(EsrfSparse, path)
    with pytest.raises(ScanError, match=problem), EsrfSparse.open(path):
        pass


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("wrong", ["begin", "end", "falls", "huge"])
def test_pointers_that_make_no_sense_are_refused(tmp_path, layout, wrong):
    path = WRITERS[layout](tmp_path / "scan.h5", SOME)
    with h5py.File(path) as file:
        pointer = file[POINTER[layout]][()].astype(np.uint64)
    place = {"begin": 0, "end": -1, "falls": 3, "huge": 3}[wrong]
    pointer[place] = {"begin": 1, "end": 4, "falls": 5, "huge": 2**64 - 2}[wrong]
    change(path, POINTER[layout], pointer)
    with pytest.raises(ScanError, match=r"_pointer: expected ascending numbers from 0 to 5"), EsrfSparse.open(path):
        pass


@pytest.mark.parametrize("pixel", [-1, AREA, 2**31, -(2**31), 2**63 - 1])
def test_pixels_outside_of_the_frame_are_refused(tmp_path, pixel):
    path = write_by_frame(tmp_path / "scan.h5", SOME, index_kind=np.int64)
    change(path, "pixel_index", np.array([1, 2, 3, pixel, 4]))
    with EsrfSparse.open(path) as frames:
        assert frames.read(0, 2).sum() == 5
        for read in (lambda: frames.read(1, 4), lambda: found(frames, 0, 8, np.arange(AREA, dtype=np.int32))):
            with pytest.raises(ScanError, match=r"scan\.h5 frame 2: expected pixels 0\.\.29, found"):
                read()


@pytest.mark.parametrize("time", [-1, 8, 2**32, -(2**63)])
def test_times_outside_of_the_scan_are_refused(tmp_path, time):
    path = write_by_pixel(tmp_path / "scan.h5", SOME)
    change(path, "time_index", np.array([1, 2, 3, time, 4]))
    problem = rf"time_index event 3: expected times 0\.\.7, found {time}"
    with pytest.raises(ScanError, match=problem), EsrfSparse.open(path):
        pass


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("name", ["intensity", "index", "pointer"])
@pytest.mark.parametrize("filters", [{}, {"chunks": (1000,)}, {"chunks": (2**29,)}])
def test_a_small_file_that_promises_much_takes_no_memory(tmp_path, layout, name, filters):
    """Datasets never written, which HDF5 would fill up: 4 G events, or 60 million pixels or frames."""
    path = WRITERS[layout](tmp_path / "scan.h5", SOME)
    size = 4 * 10**9 if name != "pointer" else (2**24 if layout == "by frame" else 2**26) + 1
    if name == "pointer":
        change(path, "frames_shape", (2**24, 5, 6) if layout == "by frame" else (8, 2**13, 2**13))
        filters = {**filters, "chunks": (1000,)} if filters else {}
    with h5py.File(path, "a") as file:
        for key in [{"index": INDEX, "pointer": POINTER}.get(name, {}).get(layout, name)]:
            del file[key]
            file.create_dataset(key, (size,), np.uint16, **filters)
    assert path.stat().st_size < 10**6
    tracemalloc.start()
    with pytest.raises(ScanError, match=r"values in the file, found 0|expected chunks of at most"):
        describe(EsrfSparse, path)
    with pytest.raises(ScanError), EsrfSparse.open(path):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_frame_fuller_than_any_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(events_module, "_MOST_EVENTS", 40)
    path = write_by_frame(tmp_path / "scan.h5", [(3, 1, 1)] * 41)
    problem = r"frame 3: expected at most 40 events in a frame, found 41"
    with pytest.raises(ScanError, match=problem), EsrfSparse.open(path):
        pass


def test_other_files_are_left_alone(tmp_path):
    with h5py.File(tmp_path / "frames.h5", "w") as file:
        file["entry/data/data"] = np.zeros((3, 4, 5))
        file["a/intensity"], file["a/pixel_index"], file["b/frame_pointer"] = [1], [1], [0, 1]
    (tmp_path / "text.h5").write_text("not HDF5")
    for name in ("frames.h5", "text.h5", "absent.h5", "."):
        assert not matches(EsrfSparse, tmp_path / name)
    for name in ("frames.h5", "text.h5", "absent.h5"):
        with pytest.raises(ScanError, match=name), EsrfSparse.open(tmp_path / name):
            pass


def small(write: Any, folder: Path) -> bytes:
    return bytes(write(folder / "whole.h5", SOME, chunks=(2,), compression="gzip").read_bytes())


@settings(max_examples=50)
@given(layout=st.sampled_from(list(WRITERS)), data=st.data())
def test_whatever_the_bytes_only_a_scan_error_comes_out(tmp_path_factory, layout, data):
    folder = tmp_path_factory.mktemp("esrf")
    whole = small(WRITERS[layout], folder)
    (folder / "scan.h5").write_bytes(data.draw(damaged(whole, head=2000)))
    try_all(EsrfSparse, folder / "scan.h5")


@settings(max_examples=50)
@given(layout=st.sampled_from(list(WRITERS)), data=st.data())
def test_whatever_the_numbers_only_a_scan_error_comes_out(tmp_path_factory, layout, data):
    """Datasets of any integers, of any length, that are sound HDF5."""
    path = WRITERS[layout](tmp_path_factory.mktemp("esrf") / "scan.h5", SOME)
    name = data.draw(st.sampled_from(["intensity", INDEX[layout], POINTER[layout]]))
    with h5py.File(path) as file:
        values = file[name][()].tolist()
    odd = st.sampled_from([-(2**63), -1, 0, 1, 4, 5, 6, 29, 30, 2**16, 2**31, 2**32 - 1, 2**32, 2**63 - 1])
    for place in data.draw(st.lists(st.integers(0, len(values) - 1), max_size=4)):
        values[place] = data.draw(odd)
    change(path, name, np.array(values[: data.draw(st.sampled_from([None, -1]))], dtype=np.int64))
    with SourceFile(path) as file:
        assert EsrfSparse.matches(file)
    try_all(EsrfSparse, path)
