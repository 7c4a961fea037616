"""What no file holds of a scan is told apart from counts of 0, whatever HDF5 and Zarr fill it with."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.beside.images import ImagePlace, read_image
from ainerd_hpc.formats.frames.aps import ApsHdf5
from ainerd_hpc.formats.missing import Box, presence
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.formats.zarr.arrays import ZarrArray

T, ROWS, W = 9, 4, 6
"""Frames, rows and columns of a module."""
FRAMES = "entry/data/data"


def describe(path: Path, reader: object = ApsHdf5):
    with SourceFile(path) as file:
        return reader.describe(file)


@settings(deadline=None, max_examples=200)
@given(is_stored=arrays.arrays(bool, (5, 3, 2)), sizes=st.tuples(*[st.integers(1, 3)] * 3))
def test_presence_is_that_of_single_elements(is_stored, sizes):
    """Boxes of blocks of an array of flags, against the flags themselves."""
    boxes = [
        Box(
            tuple(int(place * size) for place, size in zip(cell, sizes, strict=True)),
            tuple(int((place + 1) * size) for place, size in zip(cell, sizes, strict=True)),
        )
        for cell in np.argwhere(is_stored)
    ]
    full = is_stored.repeat(sizes[0], axis=0).repeat(sizes[1], axis=1).repeat(sizes[2], axis=2)
    begun = np.flatnonzero(full.any(axis=(1, 2)))
    num_frames = begun[-1] + 1 if len(begun) else 0
    is_seen = full.any(axis=0)
    found = presence(boxes, full.shape)
    assert found.num_frames == num_frames
    assert found.missing.frames.tolist() == [t for t in range(num_frames) if not full[t][is_seen].all()]
    assert found.missing.pixels.tolist() == (np.flatnonzero(~is_seen).tolist() if num_frames else [])


def write_modules(folder: Path, modules: list[tuple[int, int, bool]], counts: np.ndarray) -> Path:
    """Modules one below the other behind a virtual dataset; each is (first frame, frames, whether it is in chunks).

    Elements that nothing backs hold 999 in the eyes of HDF5.
    """
    layout = h5py.VirtualLayout(counts.shape, "u2")
    for number, (first, length, is_chunked) in enumerate(modules):
        rows = slice(number * ROWS, (number + 1) * ROWS)
        if not length:
            continue
        with h5py.File(folder / f"module_{number}.h5", "w") as file:
            mine = counts[first : first + length, rows]
            options = {"chunks": (1, ROWS, W), **hdf5plugin.Bitshuffle(cname="lz4")} if is_chunked else {}
            file.create_dataset("m", data=mine, **options)
        source = h5py.VirtualSource(f"module_{number}.h5", "m", (length, ROWS, W))
        layout[first : first + length, rows] = source
    with h5py.File(folder / "scan.h5", "w") as file:
        file.create_virtual_dataset(FRAMES, layout, fillvalue=999)
    return folder / "scan.h5"


module = st.tuples(st.integers(0, 4), st.integers(0, T), st.booleans()).map(
    lambda one: (one[0], min(one[1], T - one[0]), one[2])
)


@settings(deadline=None, max_examples=40)
@given(modules=st.lists(module, min_size=1, max_size=3))
def test_modules_of_unequal_lengths(tmp_path_factory, modules):
    """Truth: where HDF5 itself gives the fill value; half a detector at the start, gaps, modules without a frame."""
    folder = tmp_path_factory.mktemp("modules")
    counts = np.random.default_rng(1).poisson(3, (T, ROWS * len(modules), W)).astype(np.uint16)
    path = write_modules(folder, modules, counts)
    with h5py.File(path) as file:
        is_there = file[FRAMES][()] != 999
    is_seen, begun = is_there.any(axis=0), np.flatnonzero(is_there.any(axis=(1, 2)))
    whole = [t for t in begun if is_there[t][is_seen].all()]
    if not whole:
        with pytest.raises(ScanError, match=f"expected {T} frames, found 0 that were written"):
            describe(path)
        return
    found = describe(path)
    assert found.num_frames == begun[-1] + 1
    assert bool(found.unfinished) == (begun[-1] + 1 < T)
    assert set(found.companions) == {folder / f"module_{n}.h5" for n, one in enumerate(modules) if one[1]}
    with ApsHdf5.open(path) as source:
        assert source.missing.frames.tolist() == sorted(set(range(begun[-1] + 1)) - set(whole))
        assert source.missing.pixels.tolist() == np.flatnonzero(~is_seen).tolist()
        read = source.read(0, T)
    np.testing.assert_array_equal(read[whole][:, is_seen], counts[whole][:, is_seen])


def test_a_module_whose_file_is_shorter_than_the_virtual_dataset_says(tmp_path):
    """HDF5 reads beyond the end of such a source, or fails."""
    counts = np.random.default_rng(2).poisson(3, (T, 2 * ROWS, W)).astype(np.uint16)
    path = write_modules(tmp_path, [(0, T, False), (0, T, False)], counts)
    with h5py.File(tmp_path / "module_1.h5", "w") as file:
        file["m"] = counts[: T - 2, ROWS:]
    assert describe(path).missing == f"2 frames ({T - 2}..{T - 1})"
    with ApsHdf5.open(path) as source:
        np.testing.assert_array_equal(source.read(0, T)[:-2], counts[:-2])


def test_a_module_in_turns_that_is_short(tmp_path):
    """Every other frame of a part of the detector lies in a file of its own, which lacks the last one."""
    counts = np.random.default_rng(6).poisson(3, (8, 2 * ROWS, W)).astype(np.uint16)
    layout = h5py.VirtualLayout(counts.shape, "u2")
    for number, (rows, start, step) in enumerate(
        [(slice(0, ROWS), 0, 1), (slice(ROWS, None), 0, 2), (slice(ROWS, None), 1, 2)]
    ):
        mine = counts[start::step, rows]
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["m"] = mine[:-1] if number == 1 else mine
        layout[start::step, rows] = h5py.VirtualSource(f"{number}.h5", "m", mine.shape)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_virtual_dataset(FRAMES, layout)
    assert describe(tmp_path / "scan.h5").missing == "1 frames (6)"
    with ApsHdf5.open(tmp_path / "scan.h5") as source:
        np.testing.assert_array_equal(np.delete(source.read(0, 8), 6, axis=0), np.delete(counts, 6, axis=0))


def test_a_module_whose_file_never_came(tmp_path):
    """The scan is refused or, if that is asked for, taken without these pixels."""
    counts = np.random.default_rng(2).poisson(3, (T, 2 * ROWS, W)).astype(np.uint16)
    path = write_modules(tmp_path, [(0, T, True), (0, T, True)], counts)
    (tmp_path / "module_0.h5").unlink()
    found = describe(path)
    assert "expected the linked file" in found.unfinished
    assert found.missing == f"{ROWS * W} pixels of all frames"
    assert found.companions == (tmp_path / "module_1.h5",)
    with ApsHdf5.open(path) as source:
        assert source.missing.pixels.tolist() == list(range(ROWS * W))
        np.testing.assert_array_equal(source.read(0, T)[:, ROWS:], counts[:, ROWS:])


def test_chunks_that_were_never_written(tmp_path):
    """Parts of a frame, a whole frame, a corner of all frames."""
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        data = file.create_dataset(FRAMES, (6, 4, 6), "u2", chunks=(1, 2, 3), fillvalue=7)
        for frame in (0, 1, 3, 5):
            data[frame, :, :3] = frame
            if frame != 3:
                data[frame, :2, 3:] = frame
    with ApsHdf5.open(tmp_path / "scan.h5") as source:
        assert source.missing.frames.tolist() == [2, 3, 4]
        assert source.missing.pixels.tolist() == [15, 16, 17, 21, 22, 23]
    assert describe(tmp_path / "scan.h5").missing == "3 frames (2..4) and 6 pixels of all frames"


@pytest.mark.parametrize("name", [FRAMES, "dark/frames"])
def test_a_dark_is_the_mean_of_the_frames_that_are_there(tmp_path, name):
    counts = np.random.default_rng(5).poisson(20, (6, 4, 6)).astype(np.uint16)
    with h5py.File(tmp_path / "dark.h5", "w") as file:
        data = file.create_dataset(name, counts.shape, "u2", chunks=(1, 2, 6))
        for frame in (0, 1, 3):
            data[frame, :2] = counts[frame, :2]
    expected = np.full((4, 6), np.nan)
    expected[:2] = counts[[0, 1, 3], :2].mean(axis=0)
    np.testing.assert_allclose(read_image(ImagePlace(tmp_path / "dark.h5")), expected, rtol=1e-14)


def test_external_storage_that_ends_early(tmp_path):
    """HDF5 reads zeros behind its end."""
    counts = np.arange(1, 1 + 6 * 20, dtype="<u2").reshape(6, 4, 5)
    (tmp_path / "a.raw").write_bytes(counts[:4].tobytes())
    (tmp_path / "b.raw").write_bytes(counts[4:].tobytes()[:-1])
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset(FRAMES, (6, 4, 5), "<u2", external=[("a.raw", 0, 160), ("b.raw", 0, 80)])
    found = describe(tmp_path / "scan.h5")
    assert (found.num_frames, found.missing) == (5, "all that was to follow frame 4")
    assert "expected 6 frames, found 5 that were written" in found.unfinished


def test_a_virtual_dataset_that_grows_with_its_source(tmp_path):
    counts = np.random.default_rng(3).poisson(2, (T, ROWS, W)).astype(np.uint16)
    for number, length in ((0, T), (1, T - 1)):
        with h5py.File(tmp_path / f"module_{number}.h5", "w") as file:
            file.create_dataset("m", data=counts[:length], maxshape=(None, ROWS, W), chunks=(1, ROWS, W))
    layout = h5py.VirtualLayout((1, 2 * ROWS, W), "u2", maxshape=(None, 2 * ROWS, W))
    for number in (0, 1):
        source = h5py.VirtualSource(f"module_{number}.h5", "m", (1, ROWS, W), maxshape=(None, ROWS, W))
        rows = slice(number * ROWS, (number + 1) * ROWS)
        layout[: h5py.h5s.UNLIMITED, rows] = source[: h5py.h5s.UNLIMITED]
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_virtual_dataset(FRAMES, layout)
    found = describe(tmp_path / "scan.h5")
    assert (found.num_frames, found.missing, found.unfinished) == (T, f"1 frames ({T - 1})", "")
    with ApsHdf5.open(tmp_path / "scan.h5") as source:
        np.testing.assert_array_equal(source.read(0, T - 1)[:, :ROWS], counts[:-1])
        np.testing.assert_array_equal(source.read(0, T - 1)[:, ROWS:], counts[:-1])


def test_a_shape_that_claims_any_number_of_frames_takes_no_memory(tmp_path):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset(FRAMES, (2**50, 4, 5), "u2", chunks=(1, 4, 5))[1] = 3
    assert describe(tmp_path / "scan.h5").num_frames == 2
    with h5py.File(tmp_path / "scan.h5", "a") as file:
        file[FRAMES][2**49] = 3
    with pytest.raises(ScanError, match="of which most are missing"):
        describe(tmp_path / "scan.h5")


def write_zarr(path: Path, frames: np.ndarray, mean: float, **more: object) -> None:
    array = zarr.create_array(path, shape=frames.shape, dtype="u2", chunks=(2, 4, 6), **more)
    array[...] = np.random.default_rng(4).poisson(mean, frames.shape)


@pytest.mark.parametrize("more", [{}, {"zarr_format": 2}, {"shards": (4, 4, 6)}, {"fill_value": 65535}])
def test_chunks_of_zarr_that_were_lost(tmp_path, more):
    """3 photons a pixel: no chunk of 48 pixels is empty by chance."""
    write_zarr(tmp_path / "a", np.empty((20, 8, 6)), 3.0, **more)
    name = {"zarr_format": "2.1.0", "shards": "c/1/1/0"}.get(next(iter(more), ""), "c/2/1/0")
    (tmp_path / "a" / name).unlink()
    first, last = (4, 7) if "shards" in more else (4, 5)
    reader = ZarrArray("")
    assert describe(tmp_path / "a", reader).missing == f"{last - first + 1} frames ({first}..{last})"
    with reader.open(tmp_path / "a") as source:
        assert source.missing.frames.tolist() == list(range(first, last + 1))
        assert source.shape == (20, 8, 6)


def test_chunks_of_zarr_without_a_photon_are_counts_of_0(tmp_path):
    """0.05 photons a pixel: chunks of 48 pixels are empty by chance, and Zarr leaves them out."""
    write_zarr(tmp_path / "a", np.empty((200, 8, 6)), 0.05)
    num_chunks = sum(path.is_file() for path in (tmp_path / "a" / "c").rglob("*"))
    assert num_chunks < 200
    found = describe(tmp_path / "a", ZarrArray(""))
    assert (found.num_frames, found.missing, found.unfinished) == (200, "", "")


def test_the_end_of_a_zarr_array_that_is_still_written(tmp_path):
    write_zarr(tmp_path / "a", np.empty((20, 8, 6)), 3.0)
    shutil.rmtree(tmp_path / "a" / "c" / "9")
    shutil.rmtree(tmp_path / "a" / "c" / "3")
    found = describe(tmp_path / "a", ZarrArray(""))
    assert (found.num_frames, found.missing) == (18, "2 frames (6..7) and all that was to follow frame 17")
    assert "expected 20 frames, found 18 that were written" in found.unfinished
    with ZarrArray("").open(tmp_path / "a") as source:
        assert source.read(15, 30).shape == (3, 8, 6)
