"""IMM files, written field by field from the layout of their header, against frames made by plain NumPy."""

from __future__ import annotations

import math
import os
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.events.imm import Imm
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.kernels.counts import to_dense
from ainerd_hpc.kernels.gather import by_pixel, find_events
from ainerd_hpc.types import Content
from tests.formats.test_rigaku import Event, damaged, dense, describe, found, matches, positions, try_all

LAYOUT = "<ii32s16si16siiiiiiiiiiiiiddiiIiiI" + "40sf" * 10 + "ffiIifc295s84s12s"
"""Every field of the header; the whole has 1024 bytes."""
ROWS, COLUMNS = 6, 7


def header(size: int, sparse: bool, **fields: Any) -> bytes:
    """As the writers of 8-ID-I fill it."""
    rows, columns = fields.get("rows", ROWS), fields.get("columns", COLUMNS)
    compression = fields.get("compression", 6 if sparse else 0)
    begin = [2, compression, b"Mon Jan 15 08:00:00 2024", b"scan_", 1, b".imm", 0, 0]
    region = [0, rows - 1, 0, columns - 1, 1, 1, rows, columns, fields.get("bytes", 2), 0, 0]
    times = [fields.get("elapsed", 0.0), fields.get("preset", 0.0), 0, 0, size, 1, fields.get("number", 0), 0]
    end = [0.0, 0.0, 12, 0, 160, 1.0, b"\0", b"", b"", b"\xff" * 12]
    return struct.pack(LAYOUT, *begin, *region, *times, *[b"", 0.0] * 10, *end)


def sparse_frame(events: list[Event], **fields: Any) -> bytes:
    pixels, counts = [event[1] for event in events], [event[2] for event in events]
    num = len(events)
    return header(num, True, **fields) + struct.pack(f"<{num}I", *pixels) + struct.pack(f"<{num}H", *counts)


def sparse(events: list[Event], num_frames: int, **fields: Any) -> bytes:
    of_frame: list[list[Event]] = [[] for _ in range(num_frames)]
    for event in events:
        of_frame[event[0]].append(event)
    return b"".join(sparse_frame(of_frame[number], number=number, **fields) for number in range(num_frames))


def dense_frames(frames: np.ndarray, **fields: Any) -> bytes:
    """Frames (t, y, x)."""
    rows, columns = frames.shape[1:]
    return b"".join(
        header(rows * columns, False, rows=rows, columns=columns, number=number, **fields) + frame.tobytes()
        for number, frame in enumerate(frames.astype("<u2"))
    )


def some_frames(num_frames: int = 5) -> np.ndarray:
    return np.random.default_rng(0).poisson(2.0, (num_frames, ROWS, COLUMNS)).astype(np.uint16)


def test_the_header_has_1024_bytes_and_its_fields_their_places():
    fields = header(5, True, elapsed=1.5, preset=0.25)
    assert len(fields) == 1024
    assert struct.unpack_from("<i", fields, 4) == (6,)
    assert struct.unpack_from("<iii", fields, 108) == (ROWS, COLUMNS, 2)
    assert struct.unpack_from("<dd", fields, 128) == (1.5, 0.25)
    assert struct.unpack_from("<I", fields, 152) == (5,)
    assert struct.unpack_from("<i", fields, 616) == (12,)


@pytest.mark.parametrize("name", ["scan.imm", "scan_00001-00004.raw"])
def test_describe_sparse(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(sparse([(0, 3, 1), (2, 41, 7)], 4))
    description = describe(Imm, path)
    assert (description.num_frames, description.height, description.width) == (4, ROWS, COLUMNS)
    assert (description.itemsize, description.companions, Imm.content) == (4, (), Content.FRAMES)
    assert not description.metadata.has_frame_time
    assert math.isnan(description.metadata.count_time)


@pytest.mark.parametrize("name", ["scan.imm", "scan.raw"])
def test_dense_files_are_plain_frames(tmp_path, name):
    counts = some_frames()
    counts[:, 2, 3] = 65535
    path = tmp_path / name
    path.write_bytes(dense_frames(counts))
    description = describe(Imm, path)
    assert (description.num_frames, description.height, description.width) == (5, ROWS, COLUMNS)
    assert description.itemsize == 2
    with Imm.open(path) as frames:
        assert (frames.shape, frames.dtype) == (counts.shape, np.uint16)
        assert not hasattr(frames, "find")
        for start, stop, step in [(0, 5, 1), (1, 4, 1), (0, 5, 2), (1, 9, 3), (3, 3, 1), (5, 9, 1)]:
            block = frames.read(start, stop, step)
            assert block.dtype == np.uint16
            np.testing.assert_array_equal(block, counts[start:stop:step])


PIXELS = list(range(0, ROWS * COLUMNS, 5))


@settings(max_examples=40)
@given(
    events=st.lists(
        st.tuples(st.integers(0, 7), st.sampled_from(PIXELS), st.sampled_from([1, 2, 255, 256, 700, 65533])),
        max_size=40,
    ),
    per_block=st.integers(1, 9),
    data=st.data(),
)
def test_frames_and_events_are_those_written(tmp_path_factory, events, per_block, data):
    """Events of one pixel and frame add up; empty frames are kept, at the end too."""
    events = sorted(events, key=lambda event: event[0])
    path = tmp_path_factory.mktemp("imm") / "scan.imm"
    path.write_bytes(sparse(events, 8))
    expected = dense(events, 8, ROWS * COLUMNS)
    order = np.array(data.draw(st.permutations(PIXELS))[: data.draw(st.integers(1, len(PIXELS)))])
    start, step = data.draw(st.integers(0, 8)), data.draw(st.integers(1, 4))
    position = positions(order, ROWS * COLUMNS)
    with Imm.open(path) as frames:
        assert (frames.shape, frames.dtype) == ((8, ROWS, COLUMNS), np.uint32)
        np.testing.assert_array_equal(frames.read(0, 8).reshape(8, -1), expected)
        np.testing.assert_array_equal(frames.read(start, 11, step).reshape(-1, ROWS * COLUMNS), expected[start::step])
        blocks = [found(frames, first, first + per_block, position)[0] for first in range(0, 8, per_block)]
    np.testing.assert_array_equal(to_dense(by_pixel(blocks, len(order))), expected[:, order])


def test_the_value_of_dead_pixels_means_the_same_as_in_frames(tmp_path):
    """A pixel with 65534 or 65535 is dead in every frame, but for a frame of nothing else, which was lost."""
    counts = np.zeros((4, ROWS * COLUMNS), dtype=np.uint16)
    counts[0, 3], counts[2, 3], counts[1, 9], counts[3] = 5, 65534, 2, 65535
    events = [(int(t), int(pixel), int(counts[t, pixel])) for t, pixel in np.argwhere(counts)]
    path = tmp_path / "scan.imm"
    path.write_bytes(sparse(events, 4))
    position = positions(np.array([9, 3, 11]), ROWS * COLUMNS)
    expected_dead = np.zeros(3, dtype=bool)
    expected = find_events(counts, position, expected_dead)
    with Imm.open(path) as frames:
        block, is_dead = found(frames, 0, 4, position)
        read = frames.read(0, 4).reshape(4, -1)
    assert is_dead.tolist() == expected_dead.tolist() == [False, True, False]
    for name in ("pixel", "count", "stops"):
        np.testing.assert_array_equal(getattr(block, name), getattr(expected, name))
    np.testing.assert_array_equal(read, np.where(counts >= 65534, 2**32 - 1, counts.astype(np.int64)))


CLOCKS = {
    "even": ([0.1 * number for number in range(9)], 0.05, 0.1),
    "from any start": ([1e6 + 0.1 * number for number in range(9)], 0.05, 0.1),
    "shaking": ([0.0, 0.11, 0.19, 0.3, 0.41, 0.5, 0.6, 0.69, 0.8], 0.05, 0.1),
    "no exposure": ([0.1 * number for number in range(9)], math.nan, 0.1),
    "stands": ([5.0] * 9, 0.05, math.nan),
    "backwards": ([-0.1 * number for number in range(9)], 0.05, 0.1),
    "faster than the exposure": ([0.1 * number for number in range(9)], 0.2, math.nan),
    "not a number": ([math.nan] * 9, 0.05, math.nan),
    "infinite": ([0.1 * number for number in range(8)] + [math.inf], 0.05, math.nan),
    "a pause": ([0.1 * number for number in range(5)] + [10.0 + number for number in range(4)], 0.05, math.nan),
    "one frame": ([0.0], 0.05, math.nan),
}


@pytest.mark.parametrize(("clock", "preset", "period"), CLOCKS.values(), ids=CLOCKS)
@pytest.mark.parametrize("is_sparse", [True, False])
def test_times_are_those_of_the_headers_where_they_make_sense(tmp_path, clock, preset, period, is_sparse):
    path = tmp_path / "scan.imm"
    body = [sparse_frame([(0, 1, 1)], elapsed=time, preset=preset) for time in clock]
    if not is_sparse:
        body = [dense_frames(some_frames(1), elapsed=time, preset=preset) for time in clock]
    path.write_bytes(b"".join(body))
    metadata = describe(Imm, path).metadata
    np.testing.assert_allclose(metadata.frame_time, period, rtol=1e-6)
    np.testing.assert_equal(metadata.count_time, preset)
    assert math.isnan(metadata.start_time)


WHOLE_SPARSE = sparse([(0, 3, 1), (0, 8, 2), (1, 41, 7), (3, 0, 1)], 5)
WHOLE_DENSE = dense_frames(some_frames())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (WHOLE_SPARSE[:-1], r"frame 4: expected a header of 1024 bytes, found 1023 bytes"),
        (WHOLE_SPARSE[: 1024 + 12 + 1024 + 3], r"frame 1: expected 6 bytes of events, found 3"),
        (WHOLE_SPARSE + b"\0\0", r"frame 5: expected a header of 1024 bytes, found 2 bytes"),
        (WHOLE_SPARSE + bytes(1024), r"frame 5: expected 1 to 67108864 pixels, found 0 x 0"),
        (WHOLE_SPARSE + sparse_frame([], columns=8), r"frame 5: expected 6 x 7 pixels.* found 6 x 8 pixels"),
        (WHOLE_SPARSE + WHOLE_DENSE, r"frame 5: expected .*compression 6 as in the first frame, found .*compression 0"),
        (WHOLE_DENSE[:-1], r"frame 4: expected frames of 1108 bytes, found 1107 bytes at the end"),
        (WHOLE_DENSE[:1500], r"frame 1: expected frames of 1108 bytes, found 392 bytes"),
        (WHOLE_SPARSE[:700], r"frame 0: expected a header of 1024 bytes, found 700 bytes"),
        (b"", r"frame 0: expected a header of 1024 bytes, found 0 bytes"),
        (header(3, True, compression=5), r"expected compression 0 or 6, found 5"),
        (header(3, True, rows=2**14, columns=2**14), r"expected 1 to 67108864 pixels, found 16384 x 16384"),
        (header(0, True, rows=-3), r"found -3 x 7"),
        (header(42, False, bytes=4), r"expected counts of 2 bytes, found 4"),
        (header(41, False), r"expected values of 6 x 7 pixels, found 41"),
        (header(43, True), r"expected values of 6 x 7 pixels, found 43"),
        (header(2**32 - 1, True, rows=2**13, columns=2**13), r"found 4294967295"),
    ],
)
def test_damage_is_refused(tmp_path, content, problem):
    path = tmp_path / "scan.imm"
    path.write_bytes(content)
    with pytest.raises(ScanError, match=r"scan\.imm .*" + problem):
        describe(Imm, path)
    with pytest.raises(ScanError, match=problem), Imm.open(path):
        pass


def test_a_dense_frame_of_another_shape_is_refused_when_it_is_read(tmp_path):
    """Its size may fit by chance."""
    frames = [dense_frames(some_frames(1)) for _ in range(5)]
    frames[3] = dense_frames(some_frames(1).reshape(1, COLUMNS, ROWS))
    path = tmp_path / "scan.imm"
    path.write_bytes(b"".join(frames))
    with Imm.open(path) as found_frames:
        assert found_frames.read(0, 3).shape == (3, ROWS, COLUMNS)
        with pytest.raises(ScanError, match=r"frame 3: expected 6 x 7 pixels.* found 7 x 6"):
            found_frames.read(2, 5)


@pytest.mark.parametrize("pixel", [ROWS * COLUMNS, 2**31 - 1, 2**31, 2**32 - 1])
def test_pixels_outside_of_the_frame_are_refused(tmp_path, pixel):
    path = tmp_path / "scan.imm"
    path.write_bytes(sparse([(0, 1, 1), (2, 5, 1), (2, pixel, 1)], 4))
    signed = pixel if pixel < 2**31 else pixel - 2**32
    problem = re.escape(f"scan.imm frame 2: expected pixels 0..41, found {signed};")
    with Imm.open(path) as frames:
        assert frames.read(0, 2).sum() == 1
        with pytest.raises(ScanError, match=problem):
            frames.read(1, 4)
        with pytest.raises(ScanError, match=problem):
            found(frames, 0, 4, np.arange(ROWS * COLUMNS, dtype=np.int32))


def test_other_files_are_left_alone(tmp_path):
    random = np.random.default_rng(0)
    for number, content in enumerate(
        [b"", bytes(5000), random.bytes(5000), b"a,b\n" * 999, struct.pack("<i", 6) * 999]
    ):
        path = tmp_path / f"{number}.dat"
        path.write_bytes(content)
        assert not matches(Imm, path)
    (tmp_path / "folder.imm").mkdir()
    assert not matches(Imm, tmp_path / "folder.imm")
    assert not matches(Imm, tmp_path / "absent.imm")
    with pytest.raises(ScanError, match=r"absent\.imm"), Imm.open(Path(tmp_path / "absent.imm")):
        pass


@settings(max_examples=50)
@given(content=st.one_of(damaged(WHOLE_SPARSE, head=1100), damaged(WHOLE_DENSE, head=1100)))
def test_whatever_the_bytes_only_a_scan_error_comes_out(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("imm") / "scan.imm"
    path.write_bytes(content)
    try_all(Imm, path)


@settings(max_examples=50)
@given(data=st.data())
def test_whatever_a_field_of_a_header_says_only_a_scan_error_comes_out(tmp_path_factory, data):
    """Flips of the fields that matter, in any frame."""
    content = bytearray(data.draw(st.sampled_from([WHOLE_SPARSE, WHOLE_DENSE])))
    starts = [0, 1036, 2066, 3090, 4120] if content[4] else [1108 * number for number in range(5)]
    start, field = (
        data.draw(st.sampled_from(starts)),
        data.draw(st.sampled_from([4, 108, 112, 116, 128, 136, 152, 160])),
    )
    value = data.draw(st.sampled_from([0, 1, 2, 6, 7, 42, 43, 2**15, 2**26, 2**31 - 1, 2**31, 2**32 - 1]))
    struct.pack_into("<I", content, start + field, value)
    path = tmp_path_factory.mktemp("imm") / "scan.imm"
    path.write_bytes(bytes(content))
    with SourceFile(path) as file:
        assert Imm.matches(file)
    try_all(Imm, path)


@pytest.mark.parametrize("is_sparse", [True, False])
def test_a_file_that_is_cut_while_it_is_read_is_one_line(is_sparse, tmp_path):
    frames = np.random.default_rng(0).poisson(2.0, (40, 100, 120)).astype(np.uint16)
    events = [(int(t), int(120 * y + x), int(frames[t, y, x])) for t, y, x in np.argwhere(frames)]
    shape = {"rows": 100, "columns": 120}
    content = sparse(events, 40, **shape) if is_sparse else dense_frames(frames)
    path = tmp_path / "scan.imm"
    path.write_bytes(content)
    with Imm.open(path) as stored:
        os.truncate(path, len(content) // 2)
        np.testing.assert_array_equal(stored.read(0, 10), frames[:10])
        with pytest.raises(ScanError, match=r"scan\.imm frames 25\.\.39: cannot read it: expected .* found a file of"):
            stored.read(25, 40)
