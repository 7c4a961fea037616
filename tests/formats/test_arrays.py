"""Arrays by their path in HDF5 and Zarr, the files of the ESRF, and the counts of an archive of ours."""

from __future__ import annotations

import gzip
import json
import math
import shutil
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.archive.journal import Journal
from ainerd_hpc.archive.tables import write_table
from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.beside import sample_log
from ainerd_hpc.formats.frames.aps import write_raw
from ainerd_hpc.formats.frames.arrays import EsrfHdf5, Hdf5Array
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.formats.zarr.arrays import AinerdFrames, ZarrArray
from ainerd_hpc.formats.zarr.events import ZarrEvents
from ainerd_hpc.kernels.gather import find_events
from ainerd_hpc.stages.ingest import Ingest
from ainerd_hpc.stages.line import Line
from ainerd_hpc.types import Content, Scan

SHAPE = (7, 9, 11)
BITSHUFFLE = {"chunks": (1, 9, 11), **hdf5plugin.Bitshuffle(cname="lz4")}
START = 1614935472.5  # 2021-03-05T10:11:12.5+01:00


def some_frames(num_frames: int = 7, dtype: str = "u2") -> np.ndarray:
    frames = np.random.default_rng(2).poisson(0.5, (num_frames, *SHAPE[1:])).astype(dtype)
    frames[:, 4, 5] = np.iinfo(dtype).max if np.dtype(dtype).kind in "ui" else -1
    return frames


def describe(reader: Any, path: Path):
    with SourceFile(path) as file:
        return reader.describe(file)


def matches(reader: Any, path: Path) -> bool:
    with SourceFile(path) as file:
        return reader.matches(file)


def all_frames(reader: Any, path: Path) -> np.ndarray:
    with reader.open(path) as source:
        return source.read(0, source.shape[0])


def survive(reader: Any, path: Path) -> None:
    """Only ScanError comes out of any file."""
    with SourceFile(path) as file:
        if reader.matches(file):
            with suppress(ScanError):
                reader.describe(file)
    with suppress(ScanError), reader.open(path) as source:
        source.read(0, min(source.shape[0], 16))
        source.read(0, 3, 2)


# HDF5


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i4", ">u2", "f4", "f8"])
def test_an_array_of_hdf5_by_its_path(tmp_path, dtype):
    reader = Hdf5Array("/a/b/counts")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/b/counts"] = some_frames(dtype=dtype)
    assert reader.name == "hdf5-array:a/b/counts"
    assert reader.content is Content.FRAMES
    assert matches(reader, tmp_path / "a.h5")
    found = describe(reader, tmp_path / "a.h5")
    assert (found.num_frames, found.height, found.width, found.itemsize) == (*SHAPE, np.dtype(dtype).itemsize)
    assert found.companions == ()
    with reader.open(tmp_path / "a.h5") as source:
        assert source.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(source.read(1, 9, 2), some_frames(dtype=dtype)[1:9:2])


def test_what_is_no_array_of_frames_does_not_match(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["flat"], file["text"], file["complex"] = np.zeros((3, 4)), "text", np.zeros((2, 3, 4), complex)
        file.create_group("group")
    (tmp_path / "text.h5").write_text("no HDF5")
    for name in ("flat", "text", "complex", "group", "absent", "group/absent", "flat/absent"):
        assert not matches(Hdf5Array(name), tmp_path / "a.h5")
        with pytest.raises(ScanError):
            describe(Hdf5Array(name), tmp_path / "a.h5")
    for name in ("text.h5", "absent.h5", "."):
        assert not matches(Hdf5Array("flat"), tmp_path / name)
        with pytest.raises(ScanError):
            all_frames(Hdf5Array("flat"), tmp_path / name)


def test_an_array_behind_links(tmp_path):
    """A soft link to an external link to a virtual dataset in a folder below, which is made of a file beside it."""
    frames, below = some_frames(), tmp_path / "below"
    below.mkdir()
    with h5py.File(below / "raw.h5", "w") as file:
        file.create_dataset("x", data=frames, **BITSHUFFLE)
    layout = h5py.VirtualLayout(SHAPE, "u2")
    layout[...] = h5py.VirtualSource("raw.h5", "x", SHAPE)
    with h5py.File(below / "virtual.h5", "w") as file:
        file.create_virtual_dataset("y", layout)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["outer"] = h5py.ExternalLink("below/virtual.h5", "/")
        file["z"] = h5py.SoftLink("outer/y")
    assert matches(Hdf5Array("z"), tmp_path / "a.h5")
    assert describe(Hdf5Array("z"), tmp_path / "a.h5").companions == (below / "virtual.h5", below / "raw.h5")
    np.testing.assert_array_equal(all_frames(Hdf5Array("z"), tmp_path / "a.h5"), frames)


def test_links_out_of_the_folder_are_refused(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("secret", "in/beside"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["x"] = some_frames()
    layout = h5py.VirtualLayout(SHAPE, "u2")
    layout[...] = h5py.VirtualSource("../secret.h5", "x", SHAPE)
    (tmp_path / "in/alias.h5").symlink_to(tmp_path / "secret.h5")
    with h5py.File(tmp_path / "in/a.h5", "w") as file:
        file["external"] = h5py.ExternalLink("../secret.h5", "x")
        file["absolute"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "x")
        file["alias"] = h5py.ExternalLink("alias.h5", "x")
        file["absent"] = h5py.ExternalLink("absent.h5", "x")
        file["round"] = h5py.SoftLink("round")
        file.create_virtual_dataset("virtual", layout)
    for name in ("external", "absolute", "alias", "absent", "round", "virtual"):
        assert matches(Hdf5Array(name), tmp_path / "in/a.h5")
        with pytest.raises(ScanError, match="expected"):
            describe(Hdf5Array(name), tmp_path / "in/a.h5")


def lima(path: Path, frames: np.ndarray, place: str = "measurement/data", entry: str = "entry_0000") -> None:
    with h5py.File(path, "a") as file:
        group = file.require_group(entry)
        group["start_time"] = "2021-03-05T10:11:12.5+01:00"
        group["instrument/eiger/acquisition/exposure_time"] = 0.125
        group["instrument/eiger/acquisition/latency_time"] = 0.25
        group["instrument/eiger/detector_information/pixel_size/xsize"] = 75e-6
        group.create_dataset(place, data=frames, **BITSHUFFLE)


@pytest.mark.parametrize("place", ["measurement/data", "ESRF-ID02/eiger/data", "instrument/eiger/data"])
def test_a_file_of_lima(tmp_path, place):
    lima(tmp_path / "a.h5", some_frames(), place)
    assert matches(EsrfHdf5, tmp_path / "a.h5")
    found = describe(EsrfHdf5, tmp_path / "a.h5")
    assert (found.num_frames, found.height, found.width) == SHAPE
    metadata = found.metadata
    assert (metadata.frame_time, metadata.count_time, metadata.start_time) == (0.375, 0.125, START)
    assert (metadata.detector, metadata.pixel_size) == ("eiger", 75e-6)
    np.testing.assert_array_equal(all_frames(EsrfHdf5, tmp_path / "a.h5"), some_frames())


def test_a_link_to_the_same_array_is_no_second_one(tmp_path):
    lima(tmp_path / "a.h5", some_frames(), "ESRF-ID02/eiger/data")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["entry_0000/measurement/data"] = h5py.SoftLink("/entry_0000/ESRF-ID02/eiger/data")
    np.testing.assert_array_equal(all_frames(EsrfHdf5, tmp_path / "a.h5"), some_frames())


def bliss(folder: Path, frames: np.ndarray) -> Path:
    """A scan of BLISS: counters in the file, frames in two files of LImA below, put together by a virtual dataset."""
    (folder / "scan0001").mkdir(parents=True)
    layout = h5py.VirtualLayout(frames.shape, "u2")
    for number, start in enumerate((0, 4)):
        mine = frames[start : start + 4]
        lima(folder / f"scan0001/eiger_000{number}.h5", mine)
        source = h5py.VirtualSource(f"scan0001/eiger_000{number}.h5", "entry_0000/measurement/data", mine.shape)
        layout[start : start + 4] = source
    with h5py.File(folder / "sample.h5", "w") as file:
        file["1.1/start_time"] = "2021-03-05T10:11:12.500000+01:00"
        file["1.1/measurement/diode"] = np.arange(len(frames))
        file["1.1/instrument/eiger/acq_parameters/acq_expo_time"] = 0.125
        file["1.1/instrument/eiger/acq_parameters/latency_time"] = 0.0
        file.create_virtual_dataset("1.1/instrument/eiger/data", layout)
        file["1.1/measurement/eiger"] = h5py.SoftLink("/1.1/instrument/eiger/data")
        file["2.1/measurement/diode"] = np.arange(5)
    return folder / "sample.h5"


def test_a_file_of_bliss(tmp_path):
    path = bliss(tmp_path, some_frames())
    found = describe(EsrfHdf5, path)
    assert matches(EsrfHdf5, path)
    assert found.companions == tuple(tmp_path / f"scan0001/eiger_000{number}.h5" for number in (0, 1))
    assert (found.metadata.frame_time, found.metadata.start_time) == (0.125, START)
    assert found.metadata.detector == "eiger"
    with EsrfHdf5.open(path) as source, ThreadPoolExecutor(4) as pool:
        assert source.per_chunk == 1
        blocks = list(pool.map(lambda number: source.read(number, number + 1), range(7)))
    np.testing.assert_array_equal(np.concatenate(blocks), some_frames())


def test_a_file_of_links_to_scans_is_no_scan(tmp_path):
    bliss(tmp_path / "sample_0001", some_frames())
    with h5py.File(tmp_path / "proposal.h5", "w") as file:
        file["sample_0001_1.1"] = file["1.1"] = h5py.ExternalLink("sample_0001/sample.h5", "/1.1")
    assert not matches(EsrfHdf5, tmp_path / "proposal.h5")


def test_several_arrays_are_told(tmp_path):
    for entry in ("entry_0000", "entry_0001"):
        lima(tmp_path / "a.h5", some_frames(), entry=entry)
    assert matches(EsrfHdf5, tmp_path / "a.h5")
    with pytest.raises(ScanError, match=r"found entry_0000/measurement/data, entry_0001/measurement/data"):
        describe(EsrfHdf5, tmp_path / "a.h5")
    assert matches(Hdf5Array("entry_0001/measurement/data"), tmp_path / "a.h5")


def test_other_hdf5_is_not_of_the_esrf(tmp_path):
    write_raw(tmp_path / "aps.h5", some_frames(), simulated=False)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry_0000/measurement/data"], file["1.1/measurement/diode"] = np.zeros((3, 4)), np.zeros(4)
    (tmp_path / "text.h5").write_text("entry_0000")
    for name in ("aps.h5", "a.h5", "text.h5", "absent.h5"):
        assert not matches(EsrfHdf5, tmp_path / name)
        with pytest.raises(ScanError):
            all_frames(EsrfHdf5, tmp_path / name)


# Zarr: documents and chunks written by hand


def write_v2(folder: Path, frames: np.ndarray, **changed: Any) -> None:
    folder.mkdir(parents=True)
    document = {
        "zarr_format": 2,
        "shape": frames.shape,
        "chunks": (3, *frames.shape[1:]),
        "dtype": frames.dtype.str,
        "compressor": {"id": "gzip", "level": 1},
        "filters": None,
        "fill_value": 0,
        "order": "C",
    }
    (folder / ".zarray").write_text(json.dumps(document | changed))
    for number, start in enumerate(range(0, len(frames), 3)):
        chunk = np.zeros((3, *frames.shape[1:]), frames.dtype)
        chunk[: len(frames) - start] = frames[start : start + 3]
        (folder / f"{number}.0.0").write_bytes(gzip.compress(chunk.tobytes()))


def write_v3(folder: Path, frames: np.ndarray, **changed: Any) -> None:
    """Uncompressed, each chunk as it is in memory."""
    folder.mkdir(parents=True)
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": frames.shape,
        "data_type": frames.dtype.newbyteorder("=").name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": (2, *frames.shape[1:])}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {},
    }
    (folder / "zarr.json").write_text(json.dumps(document | changed))
    for number, start in enumerate(range(0, len(frames), 2)):
        chunk = np.zeros((2, *frames.shape[1:]), frames.dtype.newbyteorder("<"))
        chunk[: len(frames) - start] = frames[start : start + 2]
        (folder / f"c/{number}/0").mkdir(parents=True)
        (folder / f"c/{number}/0/0").write_bytes(chunk.tobytes())


def zipped(folder: Path) -> Path:
    path = folder.with_name(f"{folder.name}.zarr.zip")
    with zipfile.ZipFile(path, "w") as file:
        for one in sorted(folder.rglob("*")):
            if one.is_file():
                file.write(one, one.relative_to(folder))
    return path


@pytest.mark.parametrize("write", [write_v2, write_v3])
@pytest.mark.parametrize("dataset", ["", "entry/counts"])
@pytest.mark.parametrize("dtype", ["<u2", "<i4", "<f4"])
def test_an_array_of_zarr_by_its_path(tmp_path, write, dataset, dtype):
    reader, frames, store = ZarrArray(dataset), some_frames(dtype=dtype), tmp_path / "store.zarr"
    write(store / dataset, frames)
    assert (reader.name, reader.content) == (f"zarr-array:{dataset}", Content.FRAMES)
    for path in (store, zipped(store)):
        assert matches(reader, path)
        found = describe(reader, path)
        assert (found.num_frames, found.height, found.width, found.itemsize) == (*SHAPE, np.dtype(dtype).itemsize)
        with reader.open(path) as source:
            assert source.per_chunk == (3 if write is write_v2 else 2)
            for start, stop, step in [(0, 7, 1), (1, 20, 2), (4, 5, 1), (3, 3, 1)]:
                np.testing.assert_array_equal(source.read(start, stop, step), frames[start:stop:step])
    assert [path.name for path in describe(reader, store).companions] == [
        ".zarray" if write is write_v2 else "zarr.json"
    ]


def test_big_endian_comes_in_native_order(tmp_path):
    write_v2(tmp_path / "a", some_frames(dtype=">u2"))
    with ZarrArray("").open(tmp_path / "a") as source:
        assert source.dtype == source.read(0, 2).dtype == np.dtype("u2")
        np.testing.assert_array_equal(source.read(0, 7), some_frames())


def test_shards_and_many_threads(tmp_path):
    array = zarr.create_array(tmp_path / "a", name="x", shape=SHAPE, dtype="u2", chunks=(2, 9, 11), shards=(4, 9, 11))
    array[...] = some_frames()
    with ZarrArray("x").open(tmp_path / "a") as source, ThreadPoolExecutor(4) as pool:
        assert source.per_chunk == 2
        blocks = list(pool.map(lambda number: source.read(number, number + 1), range(7)))
    np.testing.assert_array_equal(np.concatenate(blocks), some_frames())


def test_nothing_is_unpickled(tmp_path):
    """A codec of numcodecs would: Zarr finds it by its name."""
    bomb = b"cposix\nsystem\n(S'touch " + str(tmp_path / "harm").encode() + b"'\ntR."
    for number, change in enumerate([{"filters": [{"id": "pickle"}]}, {"compressor": {"id": "pickle"}}]):
        write_v2(tmp_path / f"a{number}", some_frames(), **change)
        (tmp_path / f"a{number}/0.0.0").write_bytes(bomb)
        assert matches(ZarrArray(""), tmp_path / f"a{number}")
        for look in (describe, all_frames):
            with pytest.raises(ScanError, match="expected codecs that are safe, found pickle"):
                look(ZarrArray(""), tmp_path / f"a{number}")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"shape": (7, 10**6, 10**6)},
        {"shape": (7, 0, 11)},
        {"chunks": (10**6, 10**6, 10**6)},
        {"chunks": (1, 1, 0)},
        {"chunks": (7, 9)},
        {"shape": (7, 10**4, 10**4), "chunks": (1, 1, 1)},
        {"dtype": "<U4"},
        {"dtype": "|O"},
        {"dtype": "nonsense"},
        {"compressor": {"id": "no such"}},
        {"zarr_format": 9},
        {"order": 3},
    ],
)
def test_senseless_metadata_take_no_memory(tmp_path, change):
    write_v2(tmp_path / "a", some_frames(), **change)
    tracemalloc.start()
    for look in (describe, all_frames):
        with suppress(ScanError):
            found = look(ZarrArray(""), tmp_path / "a")
            assert change.get("order") or not found
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


def test_a_damaged_chunk_is_named(tmp_path):
    write_v2(tmp_path / "a", some_frames())
    (tmp_path / "a/1.0.0").write_bytes(b"damaged")
    with ZarrArray("").open(tmp_path / "a") as source:
        np.testing.assert_array_equal(source.read(0, 3), some_frames()[:3])
        with pytest.raises(ScanError, match=r"frames 2\.\.3") as error:
            source.read(2, 4)
    assert "\n" not in str(error.value)


def test_what_is_no_store_does_not_match(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_bytes(b"PK\x03\x04 and then nothing")
    (tmp_path / "text").write_text("zarr.json")
    write_v2(tmp_path / "flat", some_frames()[0][None], shape=(9, 11), chunks=(9, 11))
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("zarr.json", "[1, 2]")
    for name in ("empty", "text.zip", "text", "flat", "other.zip", "absent"):
        assert not matches(ZarrArray(""), tmp_path / name)
        assert not matches(AinerdFrames, tmp_path / name)
        for reader in (ZarrArray(""), AinerdFrames):
            with pytest.raises(ScanError):
                all_frames(reader, tmp_path / name)


# Counts of an archive of ours


def ingested(config: Any, frames: np.ndarray, form: str) -> Path:
    """The product of `ingest` for these frames."""
    folder = Path(config.source.path)
    folder.mkdir(exist_ok=True)
    write_raw(folder / "scan.h5", frames, simulated=True)
    given = Scan(f"scan_{form}", str(folder / "scan.h5"), "aps-hdf5", Content.FRAMES, *frames.shape, 2, 1, 0.125)
    scan = replace(given, simulated=True)
    scan_form = config.model_copy(update={"ingest": config.ingest.model_copy(update={"form": form})})
    stage = Ingest(scan_form)
    line = Line(scan_form, Journal(scan_form.archive), sample_log.empty())
    (task,) = line.tasks("ingest", [scan])
    stage.work(task)
    catalog = pd.DataFrame(
        {"scan_id": ["other", scan.scan_id], "height": [3, frames.shape[1]], "width": [4, frames.shape[2]]}
    )
    write_table(stage.archive.catalog_path, catalog)
    return stage.product(task.key)


@pytest.fixture
def counts() -> np.ndarray:
    """Sparse counts with a dead pixel, a bright one, and frames without a photon."""
    frames = np.random.default_rng(4).poisson(0.05, (40, 9, 12)).astype(np.uint16)
    frames[:, 4, 5] = 65535
    frames[7, 1, 2] = 600
    frames[20:23] = np.where(frames[20:23] == 65535, 65535, 0)
    return frames


def alive(frames: np.ndarray) -> np.ndarray:
    """With the dead pixel as the largest value of uint32."""
    return np.where(frames == 65535, 2**32 - 1, frames.astype(np.int64))


@pytest.mark.parametrize("form", ["frames", "events"])
def test_what_was_ingested_is_read_back(tmp_path, make_config, counts, form):
    path = ingested(make_config(tmp_path / "source"), counts, form)
    assert matches(AinerdFrames, path)
    assert not matches(ZarrArray("counts"), path)
    found = describe(AinerdFrames, path)
    assert (found.num_frames, found.height, found.width) == counts.shape
    assert found.itemsize == (4 if form == "events" else 2)
    assert (found.metadata.frame_time, found.simulated) == (0.125, True)
    expected = alive(counts) if form == "events" else counts
    with AinerdFrames.open(path) as source:
        assert source.shape == counts.shape
        for start, stop, step in [(0, 40, 1), (5, 30, 3), (20, 23, 1), (39, 60, 1)]:
            np.testing.assert_array_equal(source.read(start, stop, step), expected[start:stop:step])


@pytest.mark.parametrize("per_group", [1, 30, 2**23])
def test_events_of_chosen_pixels(tmp_path, make_config, counts, monkeypatch, per_group):
    monkeypatch.setattr(ZarrEvents, "most", per_group)
    path = ingested(make_config(tmp_path / "source"), counts, "events")
    position = np.full(108, -1, dtype=np.int32)
    position[np.arange(3, 100, 2)] = np.random.default_rng(0).permutation(49)
    is_dead, expected_dead = np.zeros(49, dtype=bool), np.zeros(49, dtype=bool)
    expected = find_events(counts[3:37].reshape(34, 108), position, expected_dead)
    with AinerdFrames.open(path) as source, ThreadPoolExecutor(4) as pool:
        found = source.find(3, 37, position, is_dead)
        blocks = list(pool.map(lambda start: source.read(start, start + 4), range(0, 40, 4)))
    np.testing.assert_array_equal(is_dead, expected_dead)
    for name in ("pixel", "count", "stops"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_array_equal(np.concatenate(blocks), alive(counts))


def test_a_product_is_read_wherever_it_lies(tmp_path, make_config, counts):
    path = ingested(make_config(tmp_path / "source"), counts, "events")
    elsewhere = shutil.copy(path, tmp_path / "copy.zarr.zip")
    np.testing.assert_array_equal(all_frames(AinerdFrames, elsewhere), alive(counts))


def rewrite(path: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change one entry of a zip."""
    with zipfile.ZipFile(path) as file:
        entries = {entry: file.read(entry) for entry in file.namelist()}
    entries[name] = change(entries[name])
    with zipfile.ZipFile(path, "w") as file:
        for entry, content in entries.items():
            file.writestr(entry, content)


def by_hand(folder: Path, **changed: Any) -> Path:
    """A product of events, uncompressed: three frames of 2 x 2 pixels."""
    arrays = {
        "pixel_pointer": np.array([0, 2, 2, 3, 3], np.int64),
        "time": np.array([0, 2, 1], np.uint16),
        "count": np.array([5, 1, 7], np.uint8),
        "dead_pixels": np.array([3], np.int64),
    }
    for name, values in (arrays | changed).items():
        grid = {"name": "regular", "configuration": {"chunk_shape": values.shape}}
        write_v3(folder / name, values[:0, None, None], shape=values.shape, chunk_grid=grid)
        (folder / name / "c").mkdir(exist_ok=True)
        (folder / name / "c/0").write_bytes(values.tobytes())
    attributes = {"form": "events", "num_frames": 3, "height": 2, "width": 2, "frame_time": 0.5} | {
        key: value for key, value in changed.items() if not isinstance(value, np.ndarray)
    }
    (folder / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}))
    return zipped(folder)


def test_a_product_written_by_hand(tmp_path):
    dead = 2**32 - 1
    expected = [[[5, 0], [0, dead]], [[0, 0], [7, dead]], [[1, 0], [0, dead]]]
    assert all_frames(AinerdFrames, by_hand(tmp_path / "a")).tolist() == expected


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"time": np.array([0, 3, 1], np.uint16)}, r"time: expected times 0\.\.2.*event 1"),
        ({"time": np.array([0, 1], np.uint16)}, "pixel_pointer: expected ascending pointers from 0 to 2"),
        ({"pixel_pointer": np.array([0, 3, 2, 3, 3], np.int64)}, "pixel_pointer: expected ascending"),
        ({"pixel_pointer": np.array([0, 2, 3], np.int64)}, "expected frames of 2 pixels"),
        ({"dead_pixels": np.array([4], np.int64)}, r"dead_pixels: expected pixels 0\.\.3"),
        ({"count": np.array([[5], [1], [7]], np.uint8)}, "1 dimensions"),
    ],
)
def test_events_that_make_no_sense_are_refused(tmp_path, changed, reason):
    if "count" in changed:
        changed = {"count": changed["count"][:, 0]}
        path = by_hand(tmp_path / "a", **changed)
        rewrite(path, "count/zarr.json", lambda text: text.replace(b'"shape": [3]', b'"shape": [3, 1]'))
    else:
        path = by_hand(tmp_path / "a", **changed)
    with pytest.raises(ScanError, match=reason) as error:
        all_frames(AinerdFrames, path)
    assert "\n" not in str(error.value)


# Damage


def some_stores(folder: Path) -> dict[str, tuple[Any, Path]]:
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("x", data=some_frames(), **BITSHUFFLE)
    lima(folder / "lima.h5", some_frames())
    write_v2(folder / "v2", some_frames())
    write_v3(folder / "v3", some_frames())
    return {
        "hdf5": (Hdf5Array("x"), folder / "a.h5"),
        "lima": (EsrfHdf5, folder / "lima.h5"),
        "bliss": (EsrfHdf5, bliss(folder / "bliss", some_frames())),
        "v2": (ZarrArray(""), zipped(folder / "v2")),
        "v3": (ZarrArray(""), zipped(folder / "v3")),
        "events": (AinerdFrames, by_hand(folder / "events")),
    }


@pytest.fixture(scope="module")
def good_stores(tmp_path_factory):
    return some_stores(tmp_path_factory.mktemp("good"))


def damage_places(path: Path) -> list[int]:
    """Bytes to flip: any of a zip; of HDF5 those of pixels, for its own structures can end a process in its library."""
    if path.suffix != ".h5":
        return list(range(path.stat().st_size))
    found: list[int] = []

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.chunks:
            chunks = [item.id.get_chunk_info(number) for number in range(item.id.get_num_chunks())]
            found.extend(place for one in chunks for place in range(one.byte_offset + 12, one.byte_offset + one.size))

    with h5py.File(path) as file:
        file.visititems(visit)
    return found or [0]


@settings(deadline=None, max_examples=50)
@given(name=st.sampled_from(["hdf5", "lima", "bliss", "v2", "v3", "events"]), data=st.data())
def test_damaged_files_give_nothing_but_scan_errors(good_stores, tmp_path_factory, name, data):
    reader, good = good_stores[name]
    folder = tmp_path_factory.mktemp("damaged")
    if name == "bliss":
        shutil.copytree(good.parent, folder, dirs_exist_ok=True)
    content = bytearray(good.read_bytes())
    for place in data.draw(st.lists(st.sampled_from(damage_places(good)), max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    (folder / good.name).write_bytes(content)
    survive(reader, folder / good.name)


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(["zarr.json", ".zarray"]),
    fields=st.dictionaries(
        st.sampled_from(["shape", "chunks", "dtype", "data_type", "codecs", "compressor", "filters", "zarr_format"]),
        st.one_of(
            st.none(), st.integers(), st.text(max_size=5), st.lists(st.integers(-1, 2**40), max_size=4), st.just([{}])
        ),
    ),
)
def test_any_metadata_give_nothing_but_scan_errors(tmp_path_factory, name, fields):
    folder = tmp_path_factory.mktemp("any")
    (write_v3 if name == "zarr.json" else write_v2)(folder / "a", some_frames(), **fields)
    survive(ZarrArray(""), folder / "a")


@settings(deadline=None, max_examples=30)
@given(magic=st.sampled_from([b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b""]), content=st.binary(max_size=300))
def test_random_bytes(tmp_path_factory, magic, content):
    path = tmp_path_factory.mktemp("random") / "a"
    path.write_bytes(magic + content)
    for reader in (Hdf5Array("x"), EsrfHdf5, ZarrArray(""), AinerdFrames):
        survive(reader, path)


def test_matches_is_cheap(tmp_path):
    for number in range(1000):
        (tmp_path / f"a_{number}.txt").write_bytes(struct.pack("<I", number) * 100)
    files = [SourceFile(path) for path in tmp_path.iterdir()]
    start = time.perf_counter()
    assert not any(reader.matches(file) for reader in (EsrfHdf5, ZarrArray("x"), AinerdFrames) for file in files)
    assert time.perf_counter() - start < 1.0  # 0.01 s on 2 cores
    assert math.isnan(describe(Hdf5Array("x"), some_stores(tmp_path / "..")["hdf5"][1]).metadata.frame_time)
