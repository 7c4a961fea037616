"""Frames stand by their numbers, or else by their clock: against places that plain NumPy gives them."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.description import Description
from ainerd_hpc.formats.events.imm import Imm
from ainerd_hpc.formats.frames.aps import ApsHdf5
from ainerd_hpc.formats.frames.eiger import EigerHdf5
from ainerd_hpc.formats.images.series import ImageSeries
from ainerd_hpc.formats.missing import missing_of
from ainerd_hpc.formats.numbering import contradiction, number_frames
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.kernels.gather import find_events
from tests.formats.test_eiger import write_data_file, write_header
from tests.formats.test_image_series import edf
from tests.formats.test_imm import dense_frames, sparse_frame

SHAPE = (4, 5)


def some_frames(num: int = 12) -> np.ndarray:
    return np.random.default_rng(3).poisson(0.7, (num, *SHAPE)).astype(np.uint16)


def numbers_of(*values: int) -> np.ndarray:
    return np.array(values)


@settings(max_examples=100)
@given(data=st.data(), start=st.integers(0, 2**40), step=st.sampled_from([1, 1, 10]))
def test_any_order_with_any_gaps_is_put_right(data: st.DataObject, start: int, step: int) -> None:
    """What is left of 12 frames, in any order: the first and the last are there, so that the length is known."""
    kept = [0, *sorted(data.draw(st.sets(st.integers(1, 10), min_size=3))), 11]
    order = np.array(data.draw(st.permutations(kept)))
    found = number_frames(len(order), "scan", start + step * order)
    if math.gcd(*(int(one) for one in order)) == 1:
        assert found.num_frames == 12
        np.testing.assert_array_equal(found.places, order)
        assert sorted(set(range(12)) - set(order.tolist())) == found.missing.frames.tolist()


RULES: dict[str, tuple[list[int], list[int], int, str]] = {
    "in order": ([7, 8, 9], [0, 1, 2], 3, ""),
    "all the same": ([5, 5, 5], [0, 1, 2], 3, ""),
    "swapped": ([1, 3, 2, 4], [0, 2, 1, 3], 4, "numbers .first: frame 2 of the file.: put in order"),
    "reversed": ([4, 3, 2, 1], [3, 2, 1, 0], 4, "put in order"),
    "a gap": ([1, 2, 5, 6], [0, 1, 4, 5], 6, ""),
    "one twice": ([1, 2, 2, 3], [0, -1, -1, 2], 3, "1 numbers belong to several frames each .first: 2.: left out"),
    "counter of four": ([0, 1, 2, 3, 0, 1, 2], [0, 1, 2, 3, 4, 5, 6], 7, "starts again after 3: taken as counting on"),
    "counter with a gap": ([0, 1, 3, 0, 2, 3], [0, 1, 3, 4, 6, 7], 8, "counting on"),
    "every tenth": ([10, 20, 30], [0, 1, 2], 3, "go up by 10"),
    "a monitor": ([9, 1, 2, 9, 1, 2, 9], [0, 1, 2, 3, 4, 5, 6], 7, "7 frames have 3 numbers: these are not used"),
    "no numbers": ([2**60, 5, 7], [0, 1, 2], 3, "from 5 to 1152921504606846976: these are not used"),
    "below zero": ([-1, 0, 1], [0, 1, 2], 3, "from -1 to 1: these are not used"),
}


@pytest.mark.parametrize(("numbers", "places", "num_frames", "note"), RULES.values(), ids=RULES)
def test_rules(numbers: list[int], places: list[int], num_frames: int, note: str) -> None:
    found = number_frames(len(numbers), "scan", np.array(numbers))
    assert (found.places.tolist(), found.num_frames) == (places, num_frames)
    assert len(found.notes) == bool(note)
    assert all(re.search(note, one) for one in found.notes)


def test_far_more_gaps_than_frames_are_refused_in_one_line() -> None:
    problem = r"^scan\.imm: expected frames one after another, found 3 with numbers from 0 to 1000; write its stretches"
    with pytest.raises(ScanError, match=problem):
        number_frames(3, "scan.imm", numbers_of(0, 1, 1000))


def clock(*places: int, jitter: float = 0.0) -> np.ndarray:
    return 1e9 + 0.25 * (np.array(places) + jitter * np.random.default_rng(1).uniform(-1, 1, len(places)))


CLOCKS: dict[str, tuple[np.ndarray, list[int] | None, float, str]] = {
    "even": (clock(*range(9)), None, 0.25, ""),
    "shaking": (clock(*range(9), jitter=0.1), None, 0.25, ""),
    "a frame lost": (clock(0, 1, 2, 4, 5, 6), [0, 1, 2, 4, 5, 6], 0.25, ""),
    "swapped": (clock(0, 2, 1, 3, 4), [0, 2, 1, 3, 4], 0.25, "order of its clock .first: frame 2"),
    "a pause of no whole periods": (
        np.append(np.arange(10.0), 15.5 + np.arange(10)),
        None,
        math.nan,
        "does not go evenly",
    ),
    "repeated": (clock(0, 1, 1, 2, 3), None, 0.25, ""),
    "unset": (np.zeros(5), None, math.nan, ""),
}


@pytest.mark.parametrize(("times", "places", "period", "note"), CLOCKS.values(), ids=CLOCKS)
def test_clocks(times: np.ndarray, places: list[int] | None, period: float, note: str) -> None:
    found = number_frames(len(times), "scan", None, times)
    assert found.places.tolist() == (places or list(range(len(times))))
    np.testing.assert_allclose(found.period, period, rtol=0.3 if len(set(times)) < len(times) else 0.03)
    assert len(found.notes) == bool(note)
    assert all(re.search(note, one) for one in found.notes)


def test_a_lost_frame_does_not_bend_the_period() -> None:
    """60 frames of 0.1 s, of which one is lost: 5.9 s over 58 steps would be 1.7 % too long."""
    kept = np.delete(np.arange(60), 30)
    for numbers in (kept, None):
        found = number_frames(59, "scan", numbers, 0.1 * kept)
        assert found.period == pytest.approx(0.1, rel=1e-12)
        assert found.missing.frames.tolist() == [30]


def test_numbers_and_clock_that_do_not_agree_are_told() -> None:
    found = number_frames(5, "scan", np.arange(5), clock(0, 1, 3, 4, 5))
    assert found.places.tolist() == [0, 1, 2, 3, 4]
    assert math.isnan(found.period)
    assert found.notes == ("its clock puts frames elsewhere than their numbers (first: 2): it is not used",)


def test_periods_that_do_not_agree_are_told() -> None:
    (note,) = contradiction(0.01, 0.0102, 100)
    assert note == "frame period 0.01 s by its metadata, which is taken, 0.0102 s by the frames themselves"
    assert not contradiction(0.01, 0.0102, 10), "2 ms in all are within what such clocks can tell"
    assert not contradiction(0.01, math.nan, 100)
    assert not contradiction(math.nan, 0.01, 100)


# --------------------------------------------------------------------------------------------------- in files

FRAMES, ORDER = some_frames(12), [0, 1, 4, 3, 5, 6, 8, 9, 11, 10]
"""Frames 2 and 7 are lost, 3 and 4, 10 and 11 are swapped."""
MISSING = [2, 7]


def write_imm_sparse(folder: Path) -> tuple[Any, Path]:
    body = []
    for number in ORDER:
        flat = FRAMES[number].ravel()
        events = [(0, int(pixel), int(flat[pixel])) for pixel in np.flatnonzero(flat)]
        body.append(sparse_frame(events, rows=SHAPE[0], columns=SHAPE[1], number=300 + number, elapsed=0.1 * number))
    (folder / "scan.imm").write_bytes(b"".join(body))
    return Imm, folder / "scan.imm"


def write_imm_dense(folder: Path) -> tuple[Any, Path]:
    """No numbers: the clock alone tells."""
    body = [dense_frames(FRAMES[number : number + 1], elapsed=0.1 * number) for number in ORDER]
    (folder / "scan.imm").write_bytes(b"".join(body))
    return Imm, folder / "scan.imm"


def write_edf(folder: Path) -> tuple[Any, Path]:
    for index, number in enumerate(ORDER):
        content = edf(FRAMES[number], {"acq_frame_nb": number, "time_of_frame": 0.1 * number})
        (folder / f"scan_{index:04d}.edf").write_bytes(content)
    return ImageSeries, folder / "scan_0000.edf"


def write_hdf5(folder: Path) -> tuple[Any, Path]:
    """The writer of areaDetector lost two frames."""
    with h5py.File(folder / "scan.h5", "w") as file:
        file.create_dataset("entry/data/data", data=FRAMES[ORDER], chunks=(1, *SHAPE), compression="gzip")
        file["entry/instrument/NDAttributes/NDArrayUniqueId"] = np.array(ORDER, np.int32) + 5
        file["entry/instrument/NDAttributes/NDArrayTimeStamp"] = 1e9 + 0.1 * np.array(ORDER)
    return ApsHdf5, folder / "scan.h5"


def write_uid(folder: Path) -> tuple[Any, Path]:
    with h5py.File(folder / "scan.h5", "w") as file:
        file.create_dataset("entry/data/data", data=FRAMES[ORDER], chunks=(1, *SHAPE), compression="gzip")
        file["entry/data/uid"] = np.array(ORDER, np.uint64)
    return ApsHdf5, folder / "scan.h5"


WRITERS = [write_imm_sparse, write_imm_dense, write_edf, write_hdf5, write_uid]


def describe(reader: Any, path: Path) -> Description:
    with SourceFile(path) as file:
        found = reader.describe(file)
    assert isinstance(found, Description)
    return found


@pytest.mark.parametrize("write", WRITERS)
def test_frames_of_files_stand_where_they_were_measured(tmp_path: Path, write: Any) -> None:
    reader, path = write(tmp_path)
    expected = FRAMES.copy()
    expected[MISSING] = 0
    found = describe(reader, path)
    assert (found.num_frames, found.missing, found.is_placed) == (12, "2 frames (2, 7)", True)
    assert len(found.notes) == 1
    assert "first: frame 3 of the file): put in order" in found.notes[0]
    if write is not write_uid:
        assert found.metadata.frame_time == pytest.approx(0.1, rel=1e-6)
    with reader.open(path) as frames:
        assert frames.shape == (12, *SHAPE)
        assert missing_of(frames).frames.tolist() == MISSING
        for start, stop, step in [(0, 12, 1), (1, 9, 1), (0, 12, 2), (1, 12, 3), (2, 3, 1), (5, 5, 1), (8, 20, 1)]:
            np.testing.assert_array_equal(frames.read(start, stop, step), expected[start:stop:step])


@pytest.mark.parametrize("keys", [(), ("acq_frame_nb",), ("time_of_frame",), ("acq_frame_nb", "time_of_frame")])
def test_a_file_that_is_not_there_is_missing_once(tmp_path: Path, keys: tuple[str, ...]) -> None:
    """The names of the files, their headers and their clock may all tell of the same gap."""
    for number in (0, 1, 2, 4, 5, 6):
        said = {"acq_frame_nb": number, "time_of_frame": 0.1 * number}
        (tmp_path / f"a_{number}.edf").write_bytes(edf(FRAMES[number], {key: said[key] for key in keys}))
    found = describe(ImageSeries, tmp_path / "a_0.edf")
    assert (found.num_frames, found.missing, found.notes) == (7, "1 frames (3)", ())
    with ImageSeries.open(tmp_path / "a_0.edf") as frames:
        assert missing_of(frames).frames.tolist() == [3]
        np.testing.assert_array_equal(frames.read(4, 7), FRAMES[4:7])
        assert not frames.read(3, 4).any()


@settings(max_examples=30)
@given(start=st.integers(0, 12), length=st.integers(0, 12), seed=st.integers(0, 9))
def test_events_stand_where_they_were_measured(
    tmp_path_factory: pytest.TempPathFactory, start: int, length: int, seed: int
) -> None:
    _, path = write_imm_sparse(tmp_path_factory.mktemp("imm"))
    stop, area = min(12, start + length), SHAPE[0] * SHAPE[1]
    position = np.random.default_rng(seed).permutation(area).astype(np.int32)
    position[position > 12] = -1
    expected = FRAMES.copy()
    expected[MISSING] = 0
    truth = find_events(expected[start:stop].reshape(-1, area), position, np.zeros(13, dtype=bool))
    with Imm.open(path) as frames:
        found = frames.find(start, stop, position, np.zeros(13, dtype=bool))  # type: ignore[attr-defined]
    for name in ("pixel", "count", "stops"):
        np.testing.assert_array_equal(getattr(found, name), getattr(truth, name))


def write_master(folder: Path, firsts: list[int], per_file: int = 3, num_images: int = 12) -> Path:
    """Data files whose first images have these numbers, from 1."""
    with h5py.File(folder / "run_master.h5", "w") as file:
        write_header(file, num_images)
        for number, first in enumerate(firsts, start=1):
            frames = some_frames(12)[first - 1 : first - 1 + per_file].repeat(2, 1).repeat(2, 2)
            write_data_file(folder / f"run_data_{number:06d}.h5", frames, {"compression": "gzip"}, first)
            file[f"entry/data/data_{number:06d}"] = h5py.ExternalLink(f"run_data_{number:06d}.h5", "/entry/data/data")
    return folder / "run_master.h5"


def test_data_files_of_a_master_stand_by_the_numbers_of_their_images(tmp_path: Path) -> None:
    path = write_master(tmp_path, [1, 7, 4, 10])
    expected = some_frames(12).repeat(2, 1).repeat(2, 2)
    assert describe(EigerHdf5, path).notes[0].startswith("not stored in the order of its numbers (first: frame 6 ")
    with EigerHdf5.open(path) as frames:
        np.testing.assert_array_equal(frames.read(0, 12), expected)


def test_images_that_lack_between_data_files_are_missing(tmp_path: Path) -> None:
    path = write_master(tmp_path, [1, 4, 10])
    found = describe(EigerHdf5, path)
    assert (found.num_frames, found.missing) == (12, "3 frames (6..8)")
    with EigerHdf5.open(path) as frames:
        assert not frames.read(6, 9).any()
        np.testing.assert_array_equal(frames.read(9, 12), some_frames(12)[9:].repeat(2, 1).repeat(2, 2))


def test_data_files_that_all_begin_at_one_are_taken_in_their_order(tmp_path: Path) -> None:
    """Some programs number the images of each file anew."""
    path = write_master(tmp_path, [1, 1, 1, 1])
    found = describe(EigerHdf5, path)
    assert (found.num_frames, found.missing, found.is_placed) == (12, "", False)


@pytest.mark.parametrize("ids", [np.arange(9), np.arange(10.0), np.ones((10, 1), int), np.zeros(10, int)])
def test_lists_that_are_no_numbers_of_these_frames_are_left_alone(tmp_path: Path, ids: np.ndarray) -> None:
    _, path = write_uid(tmp_path)
    with h5py.File(path, "a") as file:
        del file["entry/data/uid"]
        file["entry/data/uid"] = ids
    found = describe(ApsHdf5, path)
    assert (found.num_frames, found.missing, found.is_placed, found.notes) == (10, "", False, ())
