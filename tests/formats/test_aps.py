"""Raw APS files: what is written is read back by plain h5py, and broken files are told apart from good ones."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.beside.metadata import is_metadata
from ainerd_hpc.formats.frames.aps import ApsHdf5, write_metadata, write_raw
from ainerd_hpc.formats.partitions.partition import Geometry
from ainerd_hpc.formats.registry import describe
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.types import Content

GEOMETRY = Geometry(beam_center_x=5.0, beam_center_y=10.5, pixel_size=75e-6, distance=5.0, energy=10.0)
START = 1705305600.5  # 2024-01-15T08:00:00.5Z


DIRECT = {"chunks": (1, 9, 11), **hdf5plugin.Bitshuffle(cname="lz4")}
"""How detectors write: a frame a chunk, bitshuffle/LZ4."""


def all_frames(path: Path) -> np.ndarray:
    with ApsHdf5.open(path) as source:
        return source.read(0, source.shape[0])


def some_frames(num_frames: int = 7, dtype: type = np.uint16) -> np.ndarray:
    frames = np.random.default_rng(0).poisson(2.0, (num_frames, 9, 11)).astype(dtype)
    frames[:, 4, 5] = 65535
    return frames


def some_metadata(path: Path, frame_time: float = 0.01) -> None:
    write_metadata(
        path,
        start_time=START,
        frame_time=frame_time,
        count_time=0.001,
        geometry=GEOMETRY,
        sample={"temperature": (25.5, "degC")},
        simulated=True,
        description="simulated",
    )


def test_raw_file_in_plain_h5py(tmp_path):
    write_raw(tmp_path / "scan.h5", some_frames(), simulated=True)
    with h5py.File(tmp_path / "scan.h5") as file:
        data = file["entry/data/data"]
        assert data.chunks == (1, 9, 11)
        assert data.dtype == np.uint16
        assert str(hdf5plugin.BSHUF_ID) in data._filters
        assert bool(file.attrs["simulated"])
        np.testing.assert_array_equal(data[()], some_frames())


def test_metadata_file_in_plain_h5py(tmp_path):
    some_metadata(tmp_path / "scan_metadata.hdf")
    expected = {
        "instrument/incident_beam/incident_energy": 10.0,
        "instrument/detector_1/frame_time": 0.01,
        "instrument/detector_1/count_time": 0.001,
        "instrument/detector_1/x_pixel_size": 75e-6,
        "instrument/detector_1/y_pixel_size": 75e-6,
        "instrument/detector_1/distance": 5.0,
        "instrument/detector_1/beam_center_x": 5.0,
        "instrument/detector_1/beam_center_y": 10.5,
        "sample/temperature": 25.5,
        "schema_version": b"1.0",
        "start_time": b"2024-01-15T08:00:00.500+00:00",
        "simulated": True,
    }
    with h5py.File(tmp_path / "scan_metadata.hdf") as file:
        assert {name: file["entry"][name][()] for name in expected} == expected


def test_same_input_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_raw(tmp_path / f"{name}.h5", some_frames(), simulated=True)
        some_metadata(tmp_path / f"{name}.hdf")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert (tmp_path / "a.hdf").read_bytes() == (tmp_path / "b.hdf").read_bytes()


def test_describe(tmp_path):
    raw, metadata = tmp_path / "scan.h5", tmp_path / "scan_metadata.hdf"
    write_raw(raw, some_frames(), simulated=True)
    some_metadata(metadata)
    found = describe(raw)
    assert (found.num_frames, found.height, found.width, found.itemsize) == (7, 9, 11, 2)
    assert (found.metadata.frame_time, found.metadata.start_time, found.simulated) == (0.01, START, True)
    assert found.companions == (metadata,)
    assert ApsHdf5.content is Content.FRAMES
    assert ApsHdf5.matches(SourceFile(raw))
    assert not ApsHdf5.matches(SourceFile(metadata))
    assert is_metadata(SourceFile(metadata))
    assert not is_metadata(SourceFile(raw))


def test_a_result_file_is_no_metadata_though_it_holds_a_copy_of_it(tmp_path):
    some_metadata(tmp_path / "scan_results.hdf")
    with h5py.File(tmp_path / "scan_results.hdf", "a") as file:
        file["xpcs/multitau/normalized_g2"] = np.ones((20, 3))
    assert not is_metadata(SourceFile(tmp_path / "scan_results.hdf"))


def test_without_metadata_nothing_is_invented(tmp_path):
    write_raw(tmp_path / "scan.h5", some_frames(), simulated=False)
    found = describe(tmp_path / "scan.h5")
    assert found.metadata.has_frame_time is False
    assert math.isnan(found.metadata.start_time)
    assert not found.simulated
    assert found.companions == ()


def test_metadata_is_paired_by_its_exact_name(tmp_path):
    """Names ending in letters of "_metadata", and several scans in a folder, must not mix."""
    for number, stem in enumerate(["sample_data", "sample", "sampl", "a.b", "other"]):
        write_raw(tmp_path / f"{stem}.h5", some_frames(), simulated=True)
        if stem != "other":
            suffix = [".hdf", ".h5", ".hdf5", ".hdf"][number]
            some_metadata(tmp_path / f"{stem}_metadata{suffix}", frame_time=0.01 * (number + 1))
    periods = [
        describe(tmp_path / f"{s}.h5").metadata.frame_time for s in ("sample_data", "sample", "sampl", "a.b", "other")
    ]
    np.testing.assert_equal(periods, [0.01, 0.02, 0.03, 0.04, math.nan])


def test_metadata_without_schema_version_is_not_used(tmp_path):
    write_raw(tmp_path / "scan.h5", some_frames(), simulated=True)
    with h5py.File(tmp_path / "scan_metadata.hdf", "w") as file:
        file["entry/instrument/detector_1/frame_time"] = 0.5
    assert describe(tmp_path / "scan.h5").metadata.has_frame_time is False


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        ("2024-01-15T08:00:00.5Z", START),
        ("2024-01-15T02:00:00.5-06:00", START),
        ("2024-01-15 08:00:00.5", START),
    ],
)
def test_start_time_with_and_without_zone(tmp_path, text, epoch):
    write_raw(tmp_path / "scan.h5", some_frames(), simulated=True)
    with h5py.File(tmp_path / "scan_metadata.hdf", "w") as file:
        file["entry/schema_version"], file["entry/start_time"] = 1.0, text
    assert describe(tmp_path / "scan.h5").metadata.start_time == epoch


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("instrument/detector_1/frame_time", math.nan),
        ("instrument/detector_1/frame_time", 0.0),
        ("instrument/detector_1/frame_time", "fast"),
        ("instrument/detector_1/frame_time", [0.1, 0.2]),
        ("start_time", "yesterday"),
        ("start_time", 3.0),
    ],
)
def test_senseless_metadata_is_refused(tmp_path, field, value):
    write_raw(tmp_path / "scan.h5", some_frames(), simulated=True)
    with h5py.File(tmp_path / "scan_metadata.hdf", "w") as file:
        file["entry/schema_version"], file[f"entry/{field}"] = "1.0", value
    with pytest.raises(ScanError, match=r"scan_metadata\.hdf"):
        describe(tmp_path / "scan.h5")


@pytest.mark.parametrize("content", [b"", b"no HDF5", b"\x89HDF\r\n\x1a\n and then nothing"])
def test_corrupt_metadata_is_named(tmp_path, content):
    write_raw(tmp_path / "scan.h5", some_frames(), simulated=True)
    (tmp_path / "scan_metadata.hdf").write_bytes(content)
    assert not is_metadata(SourceFile(tmp_path / "scan_metadata.hdf"))
    with pytest.raises(ScanError, match=r"scan_metadata\.hdf"):
        describe(tmp_path / "scan.h5")


@settings(deadline=None, max_examples=25)
@given(
    dtype=st.sampled_from([np.uint8, np.uint16, np.uint32, np.int32, ">u2", np.float32, np.float64]),
    num_frames=st.integers(1, 20),
    per_block=st.integers(1, 25),
    filters=st.sampled_from(
        [
            {},
            {"chunks": True, "compression": "gzip"},
            DIRECT,
            {**DIRECT, "chunks": (2, 9, 11), "maxshape": (None, 9, 11)},
        ]
    ),
)
def test_blocks_are_the_frames_in_order(tmp_path_factory, dtype, num_frames, per_block, filters):
    frames = (some_frames(num_frames) % 200).astype(dtype)
    path = tmp_path_factory.mktemp("raw") / "scan.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("entry/data/data", data=frames, **filters)
    with ApsHdf5.open(path) as source:
        assert (source.shape, source.dtype) == (frames.shape, frames.dtype.newbyteorder("="))
        blocks = [source.read(start, start + per_block) for start in range(0, num_frames, per_block)]
        np.testing.assert_array_equal(source.read(0, num_frames, 3), frames[::3])
    assert all(len(block) == per_block for block in blocks[:-1])
    assert all(block.dtype == np.dtype(dtype).newbyteorder("=") for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), frames)


@settings(deadline=None, max_examples=25)
@given(share=st.floats(0.0, 0.999))
def test_truncated_raw_file_is_refused(tmp_path_factory, share):
    path = tmp_path_factory.mktemp("raw") / "scan.h5"
    write_raw(path, some_frames(), simulated=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert not ApsHdf5.matches(SourceFile(path))
    for read in (lambda: describe(path), lambda: all_frames(path)):
        with pytest.raises(ScanError, match=r"scan\.h5"):
            read()


def overwrite_chunk(path, number, content):
    """Put content(size of the chunk) where a chunk begins."""
    with h5py.File(path) as file:
        chunk = file["entry/data/data"].id.get_chunk_info(number)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(content(chunk.size))


def test_damaged_frame_is_named(tmp_path):
    path = tmp_path / "scan.h5"
    write_raw(path, some_frames(), simulated=True)
    overwrite_chunk(path, 4, lambda size: b"\xff" * size)
    with ApsHdf5.open(path) as source:
        np.testing.assert_array_equal(source.read(0, 4), some_frames()[:4])
        np.testing.assert_array_equal(source.read(5, 6), some_frames()[5:6])
        with pytest.raises(ScanError, match=r"scan\.h5:/entry/data/data frames 4\.\.5"):
            source.read(4, 6)


def test_chunks_that_lie_about_their_size_take_no_memory(tmp_path):
    """A frame whose header claims 2^62 bytes is refused, not believed."""
    path = tmp_path / "scan.h5"
    write_raw(path, some_frames(), simulated=True)
    overwrite_chunk(path, 3, lambda size: (2**62).to_bytes(8, "big"))
    with ApsHdf5.open(path) as source, pytest.raises(ScanError, match=r"frames 3\.\.3"):
        source.read(3, 4)


@pytest.mark.parametrize("claimed", [2**62, 2**31, 5])
@pytest.mark.parametrize(
    ("filters", "place"),
    [
        (hdf5plugin.Bitshuffle(cname="lz4"), (0, 8, "big")),
        (hdf5plugin.Bitshuffle(cname="zstd"), (0, 8, "big")),
        (hdf5plugin.LZ4(), (0, 8, "big")),
        (hdf5plugin.Blosc(), (4, 4, "little")),
    ],
    ids=["bitshuffle lz4", "bitshuffle zstd", "lz4", "blosc"],
)
def test_chunks_of_several_frames_are_not_believed_either(filters, place, claimed, tmp_path):
    path, (offset, size, order) = tmp_path / "scan.h5", place
    with h5py.File(path, "w") as file:
        file.create_dataset("entry/data/data", data=some_frames(), chunks=(2, 9, 11), **filters)
    claim = (claimed % 256**size).to_bytes(size, order)
    overwrite_chunk(path, 1, lambda _: path.read_bytes()[chunk_place(path, 1) :][:offset] + claim)
    with ApsHdf5.open(path) as source:
        np.testing.assert_array_equal(source.read(4, 7), some_frames()[4:])
        np.testing.assert_array_equal(source.read(0, 2), some_frames()[:2])
        for start, stop in ((0, 3), (3, 5), (2, 3)):
            problem = rf"frames {start}\.\.{stop - 1}: cannot read it: expected a chunk of 396 bytes in frame 2"
            with pytest.raises(ScanError, match=problem):
                source.read(start, stop)


def chunk_place(path, number):
    with h5py.File(path) as file:
        return file["entry/data/data"].id.get_chunk_info(number).byte_offset


@pytest.mark.parametrize(
    "compression", [{"compression": "gzip"}, hdf5plugin.Bitshuffle(cname="lz4"), hdf5plugin.Blosc()]
)
def test_chunks_that_would_fill_the_memory_are_refused(compression, tmp_path):
    """Next to nothing in the file, 2 GiB as soon as a frame is read."""
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        layout = {"shape": (100, 1024, 1024), "chunks": (1024, 1024, 1024), "maxshape": (None, 1024, 1024)}
        file.create_dataset("entry/data/data", dtype=np.uint16, **layout, **compression)
    with pytest.raises(ScanError, match=r"expected chunks of at most 1073741824 bytes, found \(1024, 1024, 1024\)"):
        describe(path)


def test_frames_never_written_are_missing(tmp_path):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        data = file.create_dataset("entry/data/data", (3, 9, 11), np.uint16, **DIRECT)
        data[1] = 7
    with ApsHdf5.open(tmp_path / "scan.h5") as source:
        assert source.read(0, 3).sum(axis=(1, 2)).tolist() == [0, 7 * 9 * 11]
        assert source.missing.frames.tolist() == [0]
    with SourceFile(tmp_path / "scan.h5") as file:
        found = ApsHdf5.describe(file)
    assert (found.num_frames, found.missing) == (2, "1 frames (0) and all that was to follow frame 1")
    assert "expected 3 frames, found 2 that were written" in found.unfinished


def test_a_single_image_is_a_scan_of_one_frame(tmp_path):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["entry/data/data"] = np.arange(20, dtype=np.uint16).reshape(4, 5)
    with SourceFile(tmp_path / "scan.h5") as file:
        assert ApsHdf5.matches(file)
        assert ApsHdf5.describe(file).num_frames == 1
    with ApsHdf5.open(tmp_path / "scan.h5") as source:
        assert source.read(0, 1).tolist() == [np.arange(20).reshape(4, 5).tolist()]


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((4, 5)),
        np.zeros((3, 4, 5), complex),
        np.zeros((0, 4, 5), np.uint16),
        np.zeros((3, 9, 4, 5), np.uint16),
        np.zeros(4, np.uint16),
    ],
)
def test_what_is_not_counts_is_refused(tmp_path, frames):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["entry/data/data"] = frames
    with pytest.raises(ScanError, match="expected counts"):
        ApsHdf5.describe(SourceFile(tmp_path / "scan.h5"))


def test_other_files_do_not_match(tmp_path):
    (tmp_path / "text.h5").write_text("not HDF5")
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_group("entry/data/data")
    for name in ("text.h5", "group.h5", "absent.h5", "."):
        assert not ApsHdf5.matches(SourceFile(tmp_path / name))
        assert not is_metadata(SourceFile(tmp_path / name))
        with pytest.raises(ScanError):
            describe(tmp_path / name)
