"""Frames and events straight from compressed chunks against the frames that HDF5 decodes from the same chunks."""

from __future__ import annotations

from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ainerd_hpc.formats.hdf5.frames import Hdf5Frames
from ainerd_hpc.kernels.bits.bitshuffle import ChunkReader
from ainerd_hpc.kernels.counts import to_dense
from ainerd_hpc.kernels.gather import by_pixel


def stored(folder: Path, frames: np.ndarray, **options: int) -> Path:
    """Frames as detectors write them, by HDF5's own filter."""
    path = folder / "frames.h5"
    with h5py.File(path, "w") as file:
        packed = hdf5plugin.Bitshuffle(cname="lz4", **options)
        file.create_dataset("frames", data=frames, chunks=(1, *frames.shape[1:]), **packed)
    return path


def some_frames(dtype: str, shape: tuple[int, int, int], mean: float, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).poisson(mean, shape).astype(dtype)


@given(
    dtype=st.sampled_from(["u1", "u2", "u4"]),
    height=st.integers(1, 40),
    width=st.integers(1, 300),
    mean=st.sampled_from([0.0, 0.001, 0.03, 0.5, 20.0]),
    nelems=st.sampled_from([0, 8, 64, 1024, 4096]),
    seed=st.integers(0, 9),
)
def test_events_are_those_of_the_decoded_frames(tmp_path_factory, dtype, height, width, mean, nelems, seed):
    """Any area: whole blocks, a shorter last block, and the fewer than eight pixels that stand as they are."""
    frames = some_frames(dtype, (3, height, width), mean, seed)
    rng = np.random.default_rng(seed)
    wanted = rng.permutation(height * width)[: max(1, height * width // 2)]
    position = np.full(height * width, -1, dtype=np.int32)
    position[wanted] = np.arange(len(wanted))
    with h5py.File(stored(tmp_path_factory.mktemp("frames"), frames, nelems=nelems)) as file:
        source, is_dead = Hdf5Frames(file["frames"], "scan"), np.zeros(len(wanted), dtype=bool)
        found = source.find(0, 3, position, is_dead)
    assert found is not None
    assert found.stops.tolist() == np.cumsum(np.count_nonzero(frames.reshape(3, -1)[:, wanted], axis=1)).tolist()
    np.testing.assert_array_equal(to_dense(by_pixel([found], len(wanted))), frames.reshape(3, -1)[:, wanted])
    assert not is_dead.any()


@given(
    dtype=st.sampled_from(["u1", "i1", "u2", "f2", "i4", "u4", "f4", "u8", "f8"]),
    height=st.integers(1, 40),
    width=st.integers(1, 300),
    mean=st.sampled_from([0.0, 0.001, 0.03, 0.5, 20.0, 3000.0]),
    repeated=st.integers(1, 40),
    nelems=st.sampled_from([0, 8, 64, 200, 1024, 4096]),
    seed=st.integers(0, 9),
)
def test_frames_are_those_that_hdf5_decodes(tmp_path_factory, dtype, height, width, mean, repeated, nelems, seed):
    """Any type and area; runs of equal counts, too, which repeat what lies few bytes before."""
    with np.errstate(invalid="ignore"):
        frames = np.repeat(np.random.default_rng(seed).poisson(mean, (3, height, width)), repeated, 2).astype(dtype)
    with h5py.File(stored(tmp_path_factory.mktemp("frames"), frames, nelems=nelems)) as file:
        source = Hdf5Frames(file["frames"], "scan")
        np.testing.assert_array_equal(source.read(0, 3), file["frames"][...])


@pytest.mark.parametrize(("value", "dtype"), [(255, "u1"), (255, "u2"), (65535, "u2"), (70000, "u4")])
def test_bright_and_dead_pixels_are_left_to_the_decoder(tmp_path, value, dtype):
    frames = some_frames(dtype, (2, 64, 128), 0.01)
    frames[1, 5, 7] = value
    with h5py.File(stored(tmp_path, frames)) as file:
        source, is_dead = Hdf5Frames(file["frames"], "scan"), np.zeros(64 * 128, dtype=bool)
        everywhere = np.arange(64 * 128, dtype=np.int32)
        assert source.find(0, 2, everywhere, is_dead) is None
        assert source.find(0, 1, everywhere, is_dead) is not None
        elsewhere = np.where(everywhere == 5 * 128 + 7, -1, everywhere)
        assert source.find(0, 2, elsewhere, is_dead) is not None


def test_a_frame_that_was_never_written_is_left_to_hdf5(tmp_path):
    with h5py.File(tmp_path / "frames.h5", "w") as file:
        data = file.create_dataset("frames", (3, 8, 16), "u2", chunks=(1, 8, 16), **hdf5plugin.Bitshuffle(cname="lz4"))
        data[0] = 1
        source = Hdf5Frames(data, "scan")
        assert source.find(0, 3, np.arange(128, dtype=np.int32), np.zeros(128, dtype=bool)) is None


@given(data=st.data())
def test_damaged_chunks_end_in_no_events_and_no_harm(tmp_path_factory, data):
    """Any bytes: never written outside of the scratch memory, and a good chunk afterwards is read as if nothing was."""
    frames = some_frames("u2", (1, 40, 128), 0.05)
    with h5py.File(stored(tmp_path_factory.mktemp("frames"), frames)) as file:
        chunk = file["frames"].id.read_direct_chunk((0, 0, 0))[1]
    broken = bytearray(chunk[: data.draw(st.integers(0, len(chunk)))])
    for _ in range(data.draw(st.integers(0, 5))):
        if broken:
            broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    area = 40 * 128
    pixel, count = np.empty(area, np.int32), np.empty(area, np.uint8)
    reader, position = ChunkReader(area, 2), np.arange(area, dtype=np.int32)
    assert reader.find(bytes(broken), position, pixel, count, 0) <= area
    counts = np.zeros(area, np.uint16)
    reader.unpack(bytes(broken), counts)
    assert reader.unpack(chunk, counts)
    np.testing.assert_array_equal(counts, frames.ravel())
    found = reader.find(chunk, position, pixel, count, 0)
    flat = frames.ravel()
    np.testing.assert_array_equal(pixel[:found], np.flatnonzero(flat))
    np.testing.assert_array_equal(count[:found], flat[flat > 0])
