"""DECTRIS masters and their data files, written with plain h5py as the detector's own software lays them out."""

from __future__ import annotations

import math
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats import registry
from ainerd_hpc.formats.frames.aps import ApsHdf5
from ainerd_hpc.formats.frames.eiger import EigerHdf5
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.kernels.gather import find_events
from ainerd_hpc.types import Content

BITSHUFFLE = dict(hdf5plugin.Bitshuffle(cname="lz4"))
LZ4 = dict(hdf5plugin.LZ4())
START = 1462451403.125  # 2016-05-05T14:30:03.125+02:00


def some_frames(num_frames: int = 10, dtype: str = "u2") -> np.ndarray:
    """Counts with dead pixels (the largest value of the type) and a pixel that is dead at times."""
    frames = np.random.default_rng(5).poisson(0.4, (num_frames, 8, 12)).astype(dtype)
    frames[:, 2, 3] = np.iinfo(dtype).max
    frames[num_frames // 2, 5, 6] = np.iinfo(dtype).max
    return frames


def write_data_file(path: Path, frames: np.ndarray, filters: dict | None = None, first: int = 1) -> None:
    with h5py.File(path, "w") as file:
        chunks = (1, *frames.shape[1:])
        options = BITSHUFFLE if filters is None else filters
        data = file.create_dataset("entry/data/data", data=frames, chunks=chunks, **options)
        data.attrs["image_nr_low"], data.attrs["image_nr_high"] = first, first + len(frames) - 1


def write_header(file: h5py.File, num_images: int, num_triggers: int = 1) -> None:
    detector = file.create_group("entry/instrument/detector")
    lengths = {"x_pixel_size": 7.5e-5, "y_pixel_size": 7.5e-5, "detector_distance": 4.9}
    for name, value in lengths.items():
        detector[name] = np.float32(value)
        detector[name].attrs["units"] = "m"
    detector["frame_time"], detector["count_time"] = 0.00134, 0.00133
    detector["beam_center_x"], detector["beam_center_y"] = 5.25, 3.5
    detector["bit_depth_image"] = np.uint32(16)
    detector["description"] = "Dectris Eiger 4M"
    specific = detector.create_group("detectorSpecific")
    specific["nimages"], specific["ntrigger"] = np.uint64(num_images), np.uint64(num_triggers)
    specific["data_collection_date"] = "2016-05-05T14:30:03.125+02:00"
    file["entry/instrument/beam/incident_wavelength"] = 1.2398
    file["entry/instrument/beam/incident_wavelength"].attrs["units"] = "angstrom"


def write_scan(folder: Path, frames: np.ndarray, per_file: int = 4, filters: dict | None = None) -> Path:
    """A master with links to data files of so many frames."""
    master = folder / "run_7_master.h5"
    with h5py.File(master, "w") as file:
        write_header(file, len(frames))
        for number, start in enumerate(range(0, len(frames), per_file), start=1):
            name = f"run_7_data_{number:06d}.h5"
            write_data_file(folder / name, frames[start : start + per_file], filters, start + 1)
            file[f"entry/data/data_{number:06d}"] = h5py.ExternalLink(name, "/entry/data/data")
    return master


def describe(path: Path):
    with SourceFile(path) as file:
        return EigerHdf5.describe(file)


def matches(path: Path) -> bool:
    with SourceFile(path) as file:
        return EigerHdf5.matches(file)


def all_frames(path: Path) -> np.ndarray:
    with EigerHdf5.open(path) as source:
        return source.read(0, source.shape[0])


def test_a_scan_is_its_master_and_the_data_files_belong_to_it(tmp_path):
    frames = some_frames()
    master = write_scan(tmp_path, frames)
    found = describe(master)
    assert (found.num_frames, found.height, found.width, found.itemsize) == (10, 8, 12, 2)
    assert found.companions == tuple(tmp_path / f"run_7_data_00000{number}.h5" for number in (1, 2, 3))
    assert found.stem == "run_7"
    assert matches(master)
    assert not any(matches(companion) for companion in found.companions)
    assert EigerHdf5.content is Content.FRAMES
    assert all(ApsHdf5.matches(SourceFile(companion)) for companion in found.companions)
    np.testing.assert_array_equal(all_frames(master), frames)


def test_metadata(tmp_path):
    found = describe(write_scan(tmp_path, some_frames())).metadata
    assert (found.frame_time, found.count_time, found.start_time) == (0.00134, 0.00133, START)
    assert found.energy == pytest.approx(10.00032, abs=2e-5)  # 12.39842 / 1.2398
    assert (found.distance, found.pixel_size) == pytest.approx((4.9, 75e-6), rel=1e-6)
    assert (found.beam_center_x, found.beam_center_y, found.detector) == (5.25, 3.5, "Dectris Eiger 4M")


@pytest.mark.parametrize(
    ("dataset", "value", "units", "field", "expected"),
    [
        ("detector/detector_distance", 4900.0, "mm", "distance", 4.9),
        ("detector/x_pixel_size", 75.0, "um", "pixel_size", 75e-6),
        ("beam/incident_wavelength", 0.12398, b"nm", "energy", 10.00032),
        ("beam/incident_wavelength", 1.2398, None, "energy", 10.00032),
        ("beam/incident_wavelength", 0.0, "angstrom", "energy", math.nan),
        ("detector/detectorSpecific/data_collection_date", "2016-05-05T12:30:03.125000", None, "start_time", START),
    ],
)
def test_units(tmp_path, dataset, value, units, field, expected):
    master = write_scan(tmp_path, some_frames())
    with h5py.File(master, "a") as file:
        del file[f"entry/instrument/{dataset}"]
        file[f"entry/instrument/{dataset}"] = value
        if units:
            file[f"entry/instrument/{dataset}"].attrs["units"] = units
    np.testing.assert_allclose(getattr(describe(master).metadata, field), expected, rtol=2e-6)


@settings(deadline=None, max_examples=30)
@given(
    dtype=st.sampled_from(["u1", "u2", "u4", ">u2"]),
    filters=st.sampled_from([BITSHUFFLE, LZ4, {"compression": "gzip"}]),
    num_frames=st.integers(1, 14),
    per_file=st.integers(1, 6),
    frames=st.tuples(st.integers(0, 13), st.integers(0, 20), st.integers(1, 7)),
)
def test_frames_are_those_of_all_data_files_in_order(tmp_path_factory, dtype, filters, num_frames, per_file, frames):
    expected, (start, stop, step) = some_frames(num_frames, dtype), frames
    master = write_scan(tmp_path_factory.mktemp("eiger"), expected, per_file, filters)
    with EigerHdf5.open(master) as source:
        assert source.shape == expected.shape
        assert source.dtype == np.dtype(dtype).newbyteorder("=")
        assert source.per_chunk == 1
        found = source.read(start, stop, step)
    assert found.dtype == source.dtype
    np.testing.assert_array_equal(found, expected[start:stop:step])


@pytest.mark.parametrize("most_open", [1, 128])
def test_many_threads_may_read(tmp_path, monkeypatch, most_open):
    """Also where there are more files than are kept open."""
    monkeypatch.setattr("ainerd_hpc.formats.hdf5.datasets._MOST_OPEN", most_open)
    frames = some_frames(60)
    with EigerHdf5.open(write_scan(tmp_path, frames, 7)) as source, ThreadPoolExecutor(4) as pool:
        blocks = list(pool.map(lambda start: source.read(start, start + 5), range(0, 60, 5)))
    np.testing.assert_array_equal(np.concatenate(blocks), frames)


def test_events_over_several_data_files(tmp_path):
    frames = np.random.default_rng(1).poisson(0.2, (11, 8, 12)).astype(np.uint16)
    position = np.arange(96, dtype=np.int32)
    with EigerHdf5.open(write_scan(tmp_path, frames)) as source:
        found = source.find(2, 11, position, np.zeros(96, dtype=bool))
    expected = find_events(frames[2:].reshape(9, 96), position, np.zeros(96, dtype=bool))
    for name in ("pixel", "count", "stops"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_events_are_left_to_the_frames_where_pixels_are_dead(tmp_path):
    with EigerHdf5.open(write_scan(tmp_path, some_frames())) as source:
        assert source.find(0, 10, np.arange(96, dtype=np.int32), np.zeros(96, dtype=bool)) is None


def test_early_files_have_their_links_in_entry(tmp_path):
    frames = some_frames(6)
    with h5py.File(tmp_path / "a_master.h5", "w") as file:
        write_header(file, 6)
        for number in (1, 2):
            write_data_file(tmp_path / f"a_data_00000{number}.h5", frames[3 * number - 3 : 3 * number])
            file[f"entry/data_00000{number}"] = h5py.ExternalLink(f"a_data_00000{number}.h5", "entry/data/data")
    assert matches(tmp_path / "a_master.h5")
    np.testing.assert_array_equal(all_frames(tmp_path / "a_master.h5"), frames)


def test_images_in_the_master_itself(tmp_path):
    frames = some_frames(5)
    for name in ("entry/data/data", "entry/data/data_000001"):
        with h5py.File(tmp_path / "b_master.h5", "w") as file:
            write_header(file, 5)
            file.create_dataset(name, data=frames, chunks=(1, 8, 12), **BITSHUFFLE)
        assert matches(tmp_path / "b_master.h5")
        assert describe(tmp_path / "b_master.h5").companions == ()
        np.testing.assert_array_equal(all_frames(tmp_path / "b_master.h5"), frames)


def test_files_of_other_makers_do_not_match(tmp_path):
    write_data_file(tmp_path / "aps.h5", some_frames())
    with h5py.File(tmp_path / "aps.h5", "a") as file:
        file["entry/instrument/detector_1/frame_time"] = 0.1
    with h5py.File(tmp_path / "header.h5", "w") as file:
        write_header(file, 3)
    (tmp_path / "text.h5").write_text("entry/data/data_000001")
    for name in ("aps.h5", "header.h5", "text.h5", "absent.h5", "."):
        assert not matches(tmp_path / name)


def virtual_master(folder: Path, blocks: list[tuple[int, int, int]], frames: np.ndarray, per_file: int) -> Path:
    """A master with one virtual dataset: frames start, start + step, ... are those of file i, in order."""
    master = folder / "v.nxs"
    layout = h5py.VirtualLayout(frames.shape, frames.dtype)
    for number, (start, step, length) in enumerate(blocks, start=1):
        name = f"v_{number:06d}.h5"
        mine = frames[start : start + step * length : step]
        with h5py.File(folder / name, "w") as file:
            file.create_dataset("data", data=mine, chunks=(1, 8, 12), **BITSHUFFLE)
        layout[start : start + step * length : step] = h5py.VirtualSource(name, "data", mine.shape)
    with h5py.File(master, "w") as file:
        write_header(file, len(frames))
        file.create_virtual_dataset("entry/data/data", layout)
    return master


@pytest.mark.parametrize(
    "blocks",
    [
        [(0, 1, 12)],
        [(0, 1, 5), (5, 1, 4), (9, 1, 3)],
        [(0, 3, 4), (1, 3, 4), (2, 3, 4)],
        [(0, 2, 3), (1, 2, 3), (6, 1, 6)],
    ],
    ids=["one", "in a row", "in turns", "both"],
)
def test_a_virtual_dataset_is_read_from_its_sources(tmp_path, blocks):
    frames = some_frames(12)
    master = virtual_master(tmp_path, blocks, frames, 4)
    assert matches(master)
    assert len(describe(master).companions) == len(blocks)
    with h5py.File(master) as file:
        np.testing.assert_array_equal(file["entry/data/data"][()], frames)  # HDF5 sees the same
    with EigerHdf5.open(master) as source:
        assert source.per_chunk == 1
        for start, stop, step in [(0, 12, 1), (3, 9, 1), (1, 12, 5), (4, 30, 2), (11, 12, 1)]:
            np.testing.assert_array_equal(source.read(start, stop, step), frames[start:stop:step])


def test_a_virtual_dataset_of_parts_of_sources(tmp_path):
    frames = some_frames(9)
    write_data_file(tmp_path / "all.h5", frames)
    layout = h5py.VirtualLayout((6, 8, 12), "u2")
    layout[0:2] = h5py.VirtualSource("all.h5", "entry/data/data", frames.shape)[5:7]
    layout[2:6] = h5py.VirtualSource("all.h5", "entry/data/data", frames.shape)[1:9:2]
    with h5py.File(tmp_path / "v.h5", "w") as file:
        write_header(file, 6)
        file.create_virtual_dataset("entry/data/data", layout)
    np.testing.assert_array_equal(all_frames(tmp_path / "v.h5"), frames[[5, 6, 1, 3, 5, 7]])


def test_a_virtual_dataset_of_tiles_is_left_to_hdf5(tmp_path):
    frames = some_frames(5)
    layout = h5py.VirtualLayout((5, 8, 12), "u2")
    for number, rows in enumerate((slice(0, 4), slice(4, 8))):
        with h5py.File(tmp_path / f"module_{number}.h5", "w") as file:
            file["data"] = frames[:, rows]
        layout[:, rows] = h5py.VirtualSource(f"module_{number}.h5", "data", (5, 4, 12))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        write_header(file, 5)
        file.create_virtual_dataset("entry/data/data", layout)
    np.testing.assert_array_equal(all_frames(tmp_path / "v.h5"), frames)


def test_the_hole_of_a_virtual_dataset_is_missing(tmp_path):
    """HDF5 fills it with zeros, which are not measured; what follows stands where it was measured."""
    frames = some_frames(12)
    master = virtual_master(tmp_path, [(0, 1, 4), (4, 1, 4), (8, 1, 4)], frames, 4)
    layout = h5py.VirtualLayout((12, 8, 12), "u2")
    for number, start in ((1, 0), (3, 8)):
        layout[start : start + 4] = h5py.VirtualSource(f"v_{number:06d}.h5", "data", (4, 8, 12))
    with h5py.File(master, "a") as file:
        del file["entry/data/data"]
        file.create_virtual_dataset("entry/data/data", layout)
    assert (describe(master).num_frames, describe(master).missing) == (12, "4 frames (4..7)")
    position = np.arange(96, dtype=np.int32)
    position[[2 * 12 + 3, 5 * 12 + 6]] = -1  # dead ones
    with EigerHdf5.open(master) as source:
        assert source.missing.frames.tolist() == [4, 5, 6, 7]
        found = source.read(0, 12)
        events = source.find(2, 12, position, np.zeros(96, dtype=bool))
    np.testing.assert_array_equal(found[[0, 1, 2, 3, 8, 9, 10, 11]], frames[[0, 1, 2, 3, 8, 9, 10, 11]])
    expected = find_events(found[2:].reshape(10, 96), position, np.zeros(96, dtype=bool))
    np.testing.assert_array_equal(events.stops, expected.stops)
    np.testing.assert_array_equal(events.pixel, expected.pixel)


def test_frames_of_a_virtual_dataset_in_two_sources_are_refused(tmp_path):
    master = virtual_master(tmp_path, [(0, 1, 12), (0, 1, 4)], some_frames(12), 4)
    with pytest.raises(ScanError, match="expected frame 0 in one source, found it in several"):
        describe(master)


def test_a_virtual_dataset_is_refused_where_its_source_is_of_another_shape(tmp_path):
    """HDF5 compares numbers of values alone, or fills up what a source does not have."""
    master = virtual_master(tmp_path, [(0, 1, 12)], some_frames(12), 4)
    for shape in [(24, 4, 12), (9, 8, 12)]:
        with h5py.File(tmp_path / "v_000001.h5", "w") as file:
            file["data"] = np.zeros(shape, np.uint16)
        if shape[0] == 24:
            with pytest.raises(ScanError, match="expected frames of"):
                describe(master)
    found = describe(master)
    assert (found.num_frames, found.missing) == (9, "all that was to follow frame 8")
    assert "expected 12 frames, found 9 that were written" in found.unfinished


def shorten(folder: Path) -> None:
    write_data_file(folder / "run_7_data_000002.h5", some_frames(3))


def widen(folder: Path) -> None:
    write_data_file(folder / "run_7_data_000002.h5", np.zeros((4, 8, 13), np.uint16))


def retype(folder: Path) -> None:
    write_data_file(folder / "run_7_data_000002.h5", np.zeros((4, 8, 12), np.uint32))


def remove(folder: Path) -> None:
    (folder / "run_7_data_000002.h5").unlink()


def empty(folder: Path) -> None:
    (folder / "run_7_data_000002.h5").write_bytes(b"")


def lose_two(folder: Path) -> None:
    for number in (2, 3):
        (folder / f"run_7_data_00000{number}.h5").unlink()


def abort(folder: Path) -> None:
    """As many frames as were asked for, of which the last was not written."""
    with h5py.File(folder / "run_7_data_000003.h5", "w") as file:
        data = file.create_dataset("entry/data/data", (4, 8, 12), np.uint16, chunks=(1, 8, 12), **BITSHUFFLE)
        data[:3] = 1


def unlink(folder: Path) -> None:
    with h5py.File(folder / "run_7_master.h5", "a") as file:
        del file["entry/data/data_000002"]


def relink(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    shutil.move(folder / "run_7_data_000002.h5", folder.parent / "elsewhere" / "data.h5")
    unlink(folder)
    with h5py.File(folder / "run_7_master.h5", "a") as file:
        file["entry/data/data_000002"] = h5py.ExternalLink("../elsewhere/data.h5", "/entry/data/data")


def relink_twice(folder: Path) -> None:
    """The data file, which lies where it should, leads out of the folder in its turn."""
    relink(folder)
    with h5py.File(folder / "run_7_data_000002.h5", "w") as file:
        file["entry/data/data"] = h5py.ExternalLink("../elsewhere/data.h5", "/entry/data/data")
    unlink(folder)
    with h5py.File(folder / "run_7_master.h5", "a") as file:
        file["entry/data/data_000002"] = h5py.ExternalLink("run_7_data_000002.h5", "/entry/data/data")


def go_round(folder: Path) -> None:
    unlink(folder)
    with h5py.File(folder / "run_7_master.h5", "a") as file:
        file["entry/data/data_000002"] = h5py.SoftLink("/entry/data/data_000002")


def set_frame_time(folder: Path) -> None:
    with h5py.File(folder / "run_7_master.h5", "a") as file:
        file["entry/instrument/detector/frame_time"][...] = 0.0


def set_date(folder: Path) -> None:
    with h5py.File(folder / "run_7_master.h5", "a") as file:
        del file["entry/instrument/detector/detectorSpecific/data_collection_date"]
        file["entry/instrument/detector/detectorSpecific/data_collection_date"] = "last week"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (shorten, "expected 12 frames"),
        (widen, r"run_7_data_000002\.h5.*expected frames of uint16 \(8, 12\).*found uint16 \(8, 13\)"),
        (retype, r"run_7_data_000002\.h5.*found uint32 \(8, 12\)"),
        (empty, r"run_7_data_000002\.h5: cannot read it"),
        (unlink, "expected a link data_000002, found data_000003"),
        (relink, r"expected links to files below .*, found \.\./elsewhere"),
        (relink_twice, r"expected links to files below .*, found \.\./elsewhere"),
        (go_round, "expected at most 16 links"),
        (set_frame_time, "expected a period above 0 s, found 0"),
        (set_date, "last week"),
    ],
)
def test_faults_are_told_in_one_line(tmp_path, damage, reason):
    (tmp_path / "source").mkdir()
    master = write_scan(tmp_path / "source", some_frames(12))
    damage(tmp_path / "source")
    assert matches(master)
    with pytest.raises(ScanError, match=reason) as error:
        describe(master)
    assert "\n" not in str(error.value)


def remove_last(folder: Path) -> None:
    (folder / "run_7_data_000003.h5").unlink()


@pytest.mark.parametrize(
    ("damage", "kept", "missing", "reason"),
    [
        (remove, [*range(4), *range(8, 12)], "4 frames (4..7)", r"data_000002: .*run_7_data_000002\.h5, found none"),
        (remove_last, range(8), "all that was to follow frame 7", r"data_000003: .*run_7_data_000003\.h5, found none"),
        (lose_two, range(4), "all that was to follow frame 3", r"data_000002: .*run_7_data_000002\.h5, found none"),
        (
            abort,
            range(11),
            "all that was to follow frame 10",
            r"run_7_data_000003\.h5.*expected 12 frames, found 11 that were written",
        ),
    ],
)
def test_what_may_still_come_is_told_and_the_rest_can_be_taken(tmp_path, damage, kept, missing, reason):
    frames = np.ones((12, 8, 12), np.uint16) * np.arange(1, 13, dtype=np.uint16)[:, None, None]
    master = write_scan(tmp_path, frames)
    damage(tmp_path)
    found, num_frames = describe(master), kept[-1] + 1
    assert re.search(reason, found.unfinished)
    assert "source.incomplete: take" in found.unfinished
    assert found.num_frames == num_frames
    assert found.missing == missing
    assert all(path.is_file() for path in found.companions)
    if damage is not abort:
        with EigerHdf5.open(master) as source:
            assert source.shape == (num_frames, 8, 12)
            np.testing.assert_array_equal(source.read(0, 20)[list(kept)], frames[list(kept)])


def test_a_frame_that_was_not_written_in_between_is_missing(tmp_path):
    """A detector writes every frame, also an empty one."""
    master = write_scan(tmp_path, some_frames(12))
    with h5py.File(tmp_path / "run_7_data_000002.h5", "w") as file:
        data = file.create_dataset("entry/data/data", (4, 8, 12), np.uint16, chunks=(1, 8, 12), **BITSHUFFLE)
        data[:2], data[3] = 1, 0
    found = describe(master)
    assert (found.num_frames, found.missing, found.unfinished) == (12, "1 frames (6)", "")


def test_a_master_of_single_images_is_one_scan(tmp_path):
    """An axis of one frame may be left out."""
    frames = some_frames(20)
    master = write_scan(tmp_path, frames, 1)
    for number, frame in enumerate(frames, start=1):
        with h5py.File(tmp_path / f"run_7_data_{number:06d}.h5", "w") as file:
            file["entry/data/data"] = frame
    assert describe(master).num_frames == 20
    np.testing.assert_array_equal(all_frames(master), frames)


@pytest.mark.parametrize("layout", ["groups of links", "groups", "an axis", "an axis of links"])
def test_one_of_several_thresholds(tmp_path, layout):
    low = some_frames(10)
    frames, master = [low, np.where(low == 65535, low, low // 2)], tmp_path / "run_8_master.h5"
    both = np.stack(frames, axis=1)
    masks = [np.eye(8, 12, number, dtype=np.uint32) for number in (0, 1)]
    with h5py.File(master, "w") as file:
        write_header(file, 10)
        for number, mask in zip((2, 3), masks, strict=True):  # the first threshold was not counted
            file[f"entry/instrument/detector/threshold_{number}_channel/pixel_mask"] = mask
        if layout == "groups":
            for number in (1, 2):
                file[f"entry/data/threshold_{number}/data"] = frames[number - 1]
        elif layout == "an axis":
            file.create_dataset("entry/data/data", data=both, chunks=(1, 1, 8, 12), **BITSHUFFLE)
        for start in (0, 5) if "links" in layout else ():
            for number in (1, 2) if layout == "groups of links" else (0,):
                name = f"run_8_{number}_data_{start + 1:06d}.h5"
                write_data_file(tmp_path / name, frames[number - 1][start : start + 5])
                group = f"entry/data/threshold_{number}" if number else "entry/data"
                if not number:
                    with h5py.File(tmp_path / name, "w") as data:
                        data["entry/data/data"] = both[start : start + 5]
                file[f"{group}/data_{start // 5 + 1:06d}"] = h5py.ExternalLink(name, "entry/data/data")
    found = describe(master)
    assert matches(master)
    assert (found.num_frames, found.height, found.width, found.num_thresholds) == (10, 8, 12, 2)
    assert len(found.companions) == {"groups of links": 4, "an axis of links": 2}.get(layout, 0)
    assert registry.reader("eiger-hdf5@2").describe(SourceFile(master)) == found
    for threshold, name in enumerate(("eiger-hdf5", "eiger-hdf5@2")):
        with registry.reader(name).open(master) as source:
            assert source.shape == (10, 8, 12)
            for start, stop, step in [(0, 10, 1), (3, 9, 2)]:
                np.testing.assert_array_equal(source.read(start, stop, step), frames[threshold][start:stop:step])
            np.testing.assert_array_equal(source.pixels.mask, masks[threshold])


def test_several_triggers(tmp_path):
    master = write_scan(tmp_path, some_frames(12))
    for num_images, num_triggers, is_right in [(3, 4, True), (12, 1, True), (3, 1, False), (12, 2, False)]:
        with h5py.File(master, "a") as file:
            specific = file["entry/instrument/detector/detectorSpecific"]
            specific["nimages"][...], specific["ntrigger"][...] = num_images, num_triggers
        if is_right:
            assert describe(master).num_frames == 12
        elif num_images * num_triggers < 12:
            with pytest.raises(ScanError, match="nimages x ntrigger"):
                describe(master)
        else:
            assert "expected 24 frames (nimages x ntrigger), found 12" in describe(master).unfinished


def test_a_header_that_claims_giant_frames_is_refused(tmp_path):
    with h5py.File(tmp_path / "a_master.h5", "w") as file:
        write_header(file, 3)
        file.create_dataset("entry/data/data", (3, 2**20, 2**20), np.uint16, chunks=(1, 2**10, 2**10))
    with pytest.raises(ScanError, match="below 2 GiB"):
        describe(tmp_path / "a_master.h5")


def survive(path: Path) -> None:
    """Only ScanError comes out of any file."""
    with SourceFile(path) as file:
        if EigerHdf5.matches(file):
            with suppress(ScanError):
                EigerHdf5.describe(file)
    with suppress(ScanError), EigerHdf5.open(path) as source:
        source.read(0, min(source.shape[0], 16))
        source.find(0, 1, np.zeros(source.shape[1] * source.shape[2], np.int32), np.zeros(1, bool))


@pytest.fixture(scope="module")
def good_scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    write_scan(folder, some_frames())
    return folder


def payload(path: Path) -> list[int]:
    """Where bytes of pixels are. Of HDF5's own structures one flipped bit can end a process inside of the library."""
    with h5py.File(path) as file:
        frames = file["entry/data/data"].id
        chunks = [frames.get_chunk_info(number) for number in range(frames.get_num_chunks())]
    return [place for one in chunks for place in range(one.byte_offset + 12, one.byte_offset + one.size)]


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_damaged_files_give_nothing_but_scan_errors(good_scan, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged") / "scan"
    shutil.copytree(good_scan, folder)
    path = folder / "run_7_data_000002.h5"
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.sampled_from(payload(path)), max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    cut = folder / data.draw(st.sampled_from(["run_7_master.h5", "run_7_data_000002.h5"]))
    if data.draw(st.booleans()):
        cut.write_bytes(cut.read_bytes()[: data.draw(st.integers(0, cut.stat().st_size))])
    survive(folder / "run_7_master.h5")


@settings(deadline=None, max_examples=25)
@given(st.binary(max_size=600), st.booleans())
def test_random_bytes(tmp_path_factory, content, has_magic):
    path = tmp_path_factory.mktemp("random") / "a_master.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" * has_magic + content)
    survive(path)
