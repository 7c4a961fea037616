"""Rigaku events, written word by word from the layout, against frames made by plain NumPy."""

from __future__ import annotations

import os
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.events.rigaku import Rigaku
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.kernels.counts import to_dense
from ainerd_hpc.kernels.gather import FrameEvents, by_pixel
from ainerd_hpc.types import Content

ROWS, COLUMNS = 512, 1024
AREA = ROWS * COLUMNS
Event = tuple[int, int, int]
"""Frame, pixel, count."""


def words(events: list[Event]) -> bytes:
    """Bits 0-11 count, 16-36 pixel, 40-63 frame."""
    return b"".join(struct.pack("<Q", frame << 40 | pixel << 16 | count) for frame, pixel, count in events)


def dense(events: list[Event], num_frames: int, area: int = AREA) -> np.ndarray:
    """Sums of counts, (t, y x)."""
    frames = np.zeros((num_frames, area), dtype=np.int64)
    for frame, pixel, count in events:
        frames[frame, pixel] += count
    return frames


def photons(num_frames: int, per_frame: int, seed: int = 0, module: int = 0) -> list[Event]:
    """Single events all over the module, frame by frame, in any order of pixels."""
    random = np.random.default_rng([seed, module])
    return [
        (frame, int(pixel), int(count))
        for frame in range(num_frames)
        for pixel, count in zip(
            random.choice(AREA, per_frame, replace=False), random.integers(1, 4, per_frame), strict=True
        )
    ]


def write(path: Path, events: list[Event]) -> Path:
    path.write_bytes(words(events))
    return path


def write_3m(folder: Path, modules: list[list[Event]], name: str = "scan") -> Path:
    """Six files; gives the first."""
    for number, events in enumerate(modules):
        write(folder / f"{name}.bin.00{number}", events)
    return folder / f"{name}.bin.000"


def describe(reader: Any, path: Path) -> Any:
    with SourceFile(path) as file:
        assert reader.matches(file)
        return reader.describe(file)


def matches(reader: Any, path: Path) -> bool:
    with SourceFile(path) as file:
        return bool(reader.matches(file))


def found(frames: Any, start: int, stop: int, position: np.ndarray) -> tuple[FrameEvents, np.ndarray]:
    is_dead = np.zeros(int(position.max(initial=-1)) + 1, dtype=bool)
    return frames.find(start, stop, position, is_dead), is_dead


def positions(order: np.ndarray, area: int = AREA) -> np.ndarray:
    position = np.full(area, -1, dtype=np.int32)
    position[order] = np.arange(len(order))
    return position


def try_all(reader: Any, path: Path) -> None:
    """Do with a file what may be done with it: whatever its bytes, nothing but a ScanError may come out."""
    reason = f"{path.parent.name}: expected nothing"
    try:
        with SourceFile(path) as file:
            if reader.matches(file):
                assert reader.describe(file).num_frames > 0
                read_some(reader, path)
    except ScanError as error:
        reason = str(error)
    assert path.parent.name in reason
    assert "expected" in reason or "cannot read" in reason
    assert "\n" not in reason


def read_some(reader: Any, path: Path) -> None:
    with reader.open(path) as frames:
        num_frames, *size = frames.shape
        area = int(np.prod(size))
        if area > 2**20:
            return
        for start in {0, max(0, num_frames - 5)}:
            assert frames.read(start, start + 2).shape[1:] == tuple(size)
            if hasattr(frames, "find"):
                events, _ = found(frames, start, min(start + 5, num_frames), np.arange(area, dtype=np.int32))
                if events is not None:  # of large counts frames are read
                    assert events.stops[-1] == len(events.pixel) == len(events.count)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes, head: int = 0) -> bytes:
    """A file cut off, with bytes flipped (often among the first `head`), or of random bytes."""
    kind = draw(st.sampled_from(["cut", "flip", "flip head", "random", "insert"]))
    if kind == "cut":
        return whole[: draw(st.integers(0, len(whole)))]
    if kind == "random":
        return draw(st.binary(max_size=300))
    content = bytearray(whole)
    if kind == "insert":
        place = draw(st.integers(0, len(whole)))
        return bytes(content[:place]) + draw(st.binary(min_size=1, max_size=40)) + bytes(content[place:])
    for _ in range(draw(st.integers(1, 8))):
        stop = head if kind == "flip head" and head else len(content)
        content[draw(st.integers(0, stop - 1))] = draw(st.sampled_from([0, 1, 6, 0x7F, 0x80, 0xFF]))
    return bytes(content)


def test_describe_says_what_the_last_event_tells(tmp_path):
    path = write(tmp_path / "A1.2_scan.bin", [(0, 3, 1), (2, AREA - 1, 4095), (6, 0, 1)])
    description = describe(Rigaku, path)
    assert (description.num_frames, description.height, description.width) == (7, ROWS, COLUMNS)
    assert (description.itemsize, description.stem, description.companions) == (4, "A1.2_scan", ())
    assert not description.metadata.has_frame_time
    assert Rigaku.content is Content.FRAMES


def test_pixels_are_numbered_row_by_row_and_counts_have_twelve_bits(tmp_path):
    path = write(tmp_path / "scan.bin", [(1, 5 * COLUMNS + 7, 4095), (1, AREA - 1, 256), (3, 0, 1)])
    with Rigaku.open(path) as frames:
        block = frames.read(0, 4)
        assert (block.dtype, frames.dtype, block.shape) == (np.uint32, np.uint32, (4, ROWS, COLUMNS))
    assert np.argwhere(block).tolist() == [[1, 5, 7], [1, 511, 1023], [3, 0, 0]]
    assert block[block > 0].tolist() == [4095, 256, 1]


LIT = [0, 1, 1023, 1024, 77 * 1024 + 3, AREA - 2, AREA - 1]


@settings(max_examples=20)
@given(
    events=st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(LIT), st.sampled_from([1, 2, 254, 255, 256, 510, 511, 4095])),
        min_size=1,
        max_size=40,
    ),
    per_block=st.integers(1, 11),
    data=st.data(),
)
def test_frames_and_events_are_those_written(tmp_path_factory, events, per_block, data):
    """Events of one pixel and frame add up; blocks are pieces of the whole; pixels in any order."""
    events = sorted(events, key=lambda event: event[0])
    path = write(tmp_path_factory.mktemp("rigaku") / "scan.bin", events)
    num_frames = events[-1][0] + 1
    expected = dense(events, num_frames)
    order = np.array(data.draw(st.permutations(LIT))[: data.draw(st.integers(1, len(LIT)))])
    step = data.draw(st.integers(1, 4))
    with Rigaku.open(path) as frames:
        np.testing.assert_array_equal(frames.read(0, num_frames).reshape(num_frames, -1), expected)
        start = data.draw(st.integers(0, num_frames))
        some = frames.read(start, num_frames + 3, step)
        np.testing.assert_array_equal(some.reshape(-1, AREA), expected[start::step])
        blocks = [
            found(frames, first, first + per_block, positions(order))[0] for first in range(0, num_frames, per_block)
        ]
    assert all(block.count.min(initial=1) > 0 for block in blocks)
    np.testing.assert_array_equal(to_dense(by_pixel(blocks, len(order))), expected[:, order])


def test_a_large_count_is_cut_in_pieces(tmp_path):
    path = write(tmp_path / "scan.bin", [(0, 9, 1), (1, 9, 700), (1, 2, 255)])
    with Rigaku.open(path) as frames:
        events, is_dead = found(frames, 0, 2, positions(np.array([9, 2])))
    assert events.pixel.tolist() == [0, 0, 0, 0, 1]
    assert events.count.tolist() == [1, 255, 255, 190, 255]
    assert events.stops.tolist() == [1, 5]
    assert (events.pixel.dtype, events.count.dtype, events.stops.dtype) == (np.int32, np.uint8, np.int64)
    assert not is_dead.any()


def test_any_number_of_threads_may_read(tmp_path):
    events = [(frame, pixel // 512 * 512, count) for frame, pixel, count in photons(24, 200)]
    path = write(tmp_path / "scan.bin", events)
    expected, order = dense(events, 24), np.arange(0, AREA, 512)
    position = positions(order)
    with Rigaku.open(path) as frames, ThreadPoolExecutor(4) as pool:
        blocks = list(pool.map(lambda first: found(frames, first, first + 3, position)[0], range(0, 24, 3)))
        read = list(pool.map(lambda first: frames.read(first, first + 2).reshape(-1, AREA), range(0, 24, 2)))
    np.testing.assert_array_equal(np.concatenate(read), expected)
    np.testing.assert_array_equal(to_dense(by_pixel(blocks, len(order))), expected[:, order])


@pytest.mark.parametrize("first_pixel", [0, 2**20])
def test_the_six_modules_lie_where_the_detector_has_them(tmp_path, first_pixel):
    """Corners of each module, by hand: 3 x 2 modules of 512 x 1024, gaps of 70 rows and 52 columns."""
    modules = [[(0, first_pixel, number + 1), (0, first_pixel + AREA - 1, 10 + number)] for number in range(6)]
    path = write_3m(tmp_path, modules, "A.b_3m")
    description = describe(Rigaku, path)
    assert (description.num_frames, description.height, description.width) == (1, 1676, 2100)
    assert description.stem == "A.b_3m"
    assert [one.name for one in description.companions] == [f"A.b_3m.bin.00{number}" for number in range(1, 6)]
    corners = {5: (0, 0), 0: (0, 1076), 4: (582, 0), 1: (582, 1076), 3: (1164, 0), 2: (1164, 1076)}
    with Rigaku.open(path) as frames:
        frame = frames.read(0, 1)[0]
    for number, (row, column) in corners.items():
        assert frame[row, column] == number + 1
        assert frame[row + 511, column + 1023] == 10 + number
    assert np.count_nonzero(frame) == 12


def test_modules_are_put_together_frame_by_frame(tmp_path):
    """One of them ends earlier, with empty frames, and one has none at the beginning."""
    modules = [photons(5, 30, module=number) for number in range(6)]
    modules[2], modules[4] = [(3, 77, 2), (4, 5, 1)], [(0, 8, 1), (2, 8, 3)]
    path = write_3m(tmp_path, modules)
    corners = {5: (0, 0), 0: (0, 1076), 4: (582, 0), 1: (582, 1076), 3: (1164, 0), 2: (1164, 1076)}
    expected = np.zeros((5, 1676, 2100), dtype=np.int64)
    for number, (row, column) in corners.items():
        expected[:, row : row + 512, column : column + 1024] = dense(modules[number], 5).reshape(5, 512, 1024)
    expected = expected.reshape(5, -1)
    order = np.flatnonzero(expected.any(axis=0))[::-1]
    with Rigaku.open(path) as frames:
        assert frames.shape == (5, 1676, 2100)
        np.testing.assert_array_equal(frames.read(0, 5).reshape(5, -1), expected)
        np.testing.assert_array_equal(frames.read(1, 5, 3).reshape(2, -1), expected[1:5:3])
        blocks = [found(frames, first, first + 2, positions(order, 1676 * 2100))[0] for first in (0, 2, 4)]
    np.testing.assert_array_equal(to_dense(by_pixel(blocks, len(order))), expected[:, order])


def test_of_the_six_files_only_the_first_is_a_scan(tmp_path):
    path = write_3m(tmp_path, [photons(3, 40, module=number) for number in range(6)])
    assert [matches(Rigaku, tmp_path / f"scan.bin.00{number}") for number in range(6)] == [True] + [False] * 5
    path.unlink()
    assert matches(Rigaku, tmp_path / "scan.bin.001")
    with pytest.raises(ScanError, match=r"scan\.bin\.000: expected this file of the six .* copy it beside the others"):
        describe(Rigaku, tmp_path / "scan.bin.001")


@pytest.mark.parametrize("number", [1, 5])
def test_a_missing_module_is_named(tmp_path, number):
    path = write_3m(tmp_path, [photons(3, 40, module=number) for number in range(6)])
    path.with_name(f"scan.bin.00{number}").unlink()
    with pytest.raises(ScanError, match=rf"scan\.bin\.00{number}: expected this file of the six"):
        describe(Rigaku, path)
    with pytest.raises(ScanError, match="expected this file of the six"), Rigaku.open(path):
        pass


def test_a_module_that_was_cut_off_is_told_from_one_that_saw_nothing(tmp_path):
    modules = [photons(40, 50, module=number) for number in range(6)]
    modules[3] = [event for event in modules[3] if event[0] < 20]
    path = write_3m(tmp_path, modules)
    with pytest.raises(ScanError, match=r"bin\.003: expected about 1000 more events up to frame 39.* frame 19"):
        describe(Rigaku, path)
    modules[3] = [(frame, 7, 1) for frame in range(20)]  # a photon a frame, which may well end by chance
    assert describe(Rigaku, write_3m(tmp_path, modules)).num_frames == 40


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda raw: raw[:-3], "expected events of 8 bytes each, found 15997 bytes"),
        (lambda raw: b"", "expected events of 8 bytes each, found 0 bytes"),
        (lambda raw: raw[:5], "expected events of 8 bytes each, found 5 bytes"),
        (lambda raw: struct.pack("<Q", AREA << 16 | 1) + raw[8:], f"event 0: .*pixels 0..524287.* pixel {AREA}"),
        (lambda raw: raw[:80] + struct.pack("<Q", 5 << 40 | 1) + raw[88:], r"event 11: .*in order"),
        (lambda raw: raw[:-8] + struct.pack("<Q", 9 << 40 | 1 << 12), r"event 1999: .*unused bits 0x1000"),
        (lambda raw: raw[:-8] + struct.pack("<Q", 9 << 40 | 1 << 39), r"event 1999: .*unused bits 0x8000000000"),
    ],
)
def test_damage_at_the_ends_is_refused(tmp_path, change, problem):
    path = tmp_path / "scan.bin"
    path.write_bytes(change(words(photons(10, 200))))
    with pytest.raises(ScanError, match=r"scan\.bin.*" + problem):
        describe(Rigaku, path)
    with pytest.raises(ScanError, match=problem), Rigaku.open(path):
        pass


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ((4, AREA, 1), f"pixel {AREA}"),
        ((3, 0, 1), "found frame 3"),
        ((6, 0, 1), "found frame [56]"),
        ((4, 0, 1 << 13), "unused bits 0x2000"),
    ],
)
def test_damage_in_the_middle_is_named_by_what_reads_it(tmp_path, bad, problem):
    events = photons(10, 200)
    events[999] = bad
    path = write(tmp_path / "scan.bin", events)
    position = np.arange(AREA, dtype=np.int32)
    with Rigaku.open(path) as frames:
        for read in (lambda: frames.read(4, 6), lambda: frames.read(0, 10), lambda: found(frames, 0, 10, position)):
            with pytest.raises(ScanError, match=r"scan\.bin event (999|1000): expected frames .*" + problem):
                read()
        assert frames.read(8, 10).sum() == dense(events[1600:], 10).sum()


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), per_block=st.integers(1, 40))
def test_frames_out_of_order_never_pass(tmp_path_factory, seed, per_block):
    """Blocks that cover all frames find every event that is out of order, however the file is cut into them."""
    random = np.random.default_rng(seed)
    frame = np.sort(random.integers(0, 40, 3000))
    first, second = random.choice(np.arange(600, 2400), 2, replace=False)
    frame[[first, second]] = frame[[second, first]]
    events = [(int(number), 5, 1) for number in frame]
    path = write(tmp_path_factory.mktemp("rigaku") / "scan.bin", events)
    position = positions(np.array([5]))

    def read_all() -> None:
        with Rigaku.open(path) as frames:
            for start in range(0, 40, per_block):
                found(frames, start, min(start + per_block, 40), position)

    if (np.diff(frame) < 0).any():
        with pytest.raises(ScanError, match="in order"):
            read_all()
    else:
        read_all()


def test_content_tells_unless_the_file_is_too_short(tmp_path):
    many, few = photons(4, 16), photons(3, 4)
    assert matches(Rigaku, write(tmp_path / "scan.raw", many))
    assert matches(Rigaku, write(tmp_path / "scan.bin", many))
    assert matches(Rigaku, write(tmp_path / "SCAN.BIN", few))
    assert not matches(Rigaku, write(tmp_path / "few.raw", few))
    damaged_few = [(0, AREA + 5, 1), *many]
    assert matches(Rigaku, write(tmp_path / "damaged.bin", damaged_few))
    assert not matches(Rigaku, write(tmp_path / "damaged.raw", damaged_few))


@pytest.mark.parametrize(
    "content",
    [
        b"time,load\n" * 100,
        b"\x89HDF\r\n\x1a\n" + bytes(5000),
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'" + bytes(5000),
        bytes(5000),
        np.arange(1, 1000, dtype="<i8").tobytes(),
        np.random.default_rng(0).bytes(5000),
        np.random.default_rng(0).normal(size=600).tobytes(),
        np.random.default_rng(0).poisson(2, 4000).astype("<u2").tobytes(),
    ],
)
def test_other_files_are_left_alone(tmp_path, content):
    (tmp_path / "other.bin").write_bytes(content)
    (tmp_path / "other.dat").write_bytes(content)
    assert not matches(Rigaku, tmp_path / "other.dat")
    if content[:1] != b"\x01":  # small integers are events of one pixel, as far as anybody can tell
        assert not matches(Rigaku, tmp_path / "other.bin")


def test_what_is_no_file_does_not_match(tmp_path):
    (tmp_path / "folder.bin").mkdir()
    assert not matches(Rigaku, tmp_path / "folder.bin")
    assert not matches(Rigaku, tmp_path / "absent.bin")
    with pytest.raises(ScanError, match=r"absent\.bin"), Rigaku.open(tmp_path / "absent.bin"):
        pass


SMALL = photons(6, 30)


@settings(max_examples=50)
@given(content=damaged(words(SMALL), head=512), name=st.sampled_from(["scan.bin", "scan.raw"]))
def test_whatever_the_bytes_only_a_scan_error_comes_out(tmp_path_factory, content, name):
    path = tmp_path_factory.mktemp("rigaku") / name
    path.write_bytes(content)
    try_all(Rigaku, path)


@settings(max_examples=20)
@given(content=damaged(words(SMALL), head=512), number=st.integers(0, 5))
def test_whatever_the_bytes_of_a_module_only_a_scan_error_comes_out(tmp_path_factory, content, number):
    path = write_3m(tmp_path_factory.mktemp("rigaku"), [SMALL] * 6)
    path.with_name(f"scan.bin.00{number}").write_bytes(content)
    try_all(Rigaku, path)
    with SourceFile(path) as file:
        if Rigaku.matches(file):
            try:
                with Rigaku.open(path) as frames:
                    found(frames, 0, min(4, frames.shape[0]), np.arange(1676 * 2100, dtype=np.int32))
            except ScanError:
                pass


def test_a_file_is_mapped_and_not_held(tmp_path):
    """A file of 2^24 frames takes no memory, nor do its events beyond those that are read."""
    num = 2_000_000
    frame = np.linspace(0, 2**24 - 1, num).astype(np.uint64)
    path = tmp_path / "scan.bin"
    (frame << np.uint64(40) | np.uint64(3 << 16 | 1)).astype("<u8").tofile(path)
    position = positions(np.array([3]))
    write(tmp_path / "warm.bin", [(0, 3, 1)])
    with Rigaku.open(tmp_path / "warm.bin") as frames:
        found(frames, 0, 1, position)
    tracemalloc.start()
    assert describe(Rigaku, path).num_frames == 2**24
    with Rigaku.open(path) as frames:
        events, _ = found(frames, 2**24 - 1000, 2**24, position)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(events.pixel) == np.count_nonzero(frame >= 2**24 - 1000)
    assert peak < 2**20


def test_a_file_that_is_cut_while_it_is_read_is_one_line_and_no_end_of_the_process(tmp_path):
    path = write(tmp_path / "scan.bin", photons(50, 4000))
    position = positions(np.arange(AREA))
    with Rigaku.open(path) as frames:
        assert len(found(frames, 0, 10, position)[0].pixel) > 0
        os.truncate(path, 8 * 4000 * 20)
        problem = r"scan\.bin frames 30\.\.39: cannot read it: expected .* bytes at .*, found a file of 640000"
        with pytest.raises(ScanError, match=problem) as e:
            found(frames, 30, 40, position)
        assert "\n" not in str(e.value)
