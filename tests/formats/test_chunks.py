"""Chunks that unpack to far more than the file says: refused, in bounded memory; honest ones are read."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.frames.aps import ApsHdf5
from ainerd_hpc.formats.hdf5.chunks import read_rows
from ainerd_hpc.formats.hdf5.reading import open_hdf5, read_array, text
from ainerd_hpc.formats.results.c2_maps import C2Hdf5

_DATA = "entry/data/data"
_MIB = 2**20
_READ = """
import sys
from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.frames.aps import ApsHdf5
def status(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024
with ApsHdf5.open(sys.argv[1]) as source:
    before, said = status("VmRSS"), "nothing"
    try:
        source.read(2, 4)
    except ScanError as error:
        said = str(error)
    print(status("VmHWM") - before, said)
"""


def with_chunk(path: Path, chunk: bytes, skipped: int = 0, shape: tuple[int, ...] = (2, 64, 64), **filters) -> Path:
    """A file of three chunks, whose second one is this."""
    with h5py.File(path, "w") as file:
        whole = (3 * shape[0], *shape[1:])
        data = file.create_dataset(_DATA, data=np.ones(whole, np.uint16), chunks=shape, **filters)
        data.id.write_direct_chunk((shape[0], 0, 0), chunk, skipped)
    return path


def deflated(size: int) -> bytes:
    """So many zeros as a stream of deflate."""
    packing = zlib.compressobj(9, wbits=-15)
    piece = packing.compress(bytes(16 * _MIB)) + packing.flush(zlib.Z_FULL_FLUSH)
    return b"\x78\xda" + piece * (size // _MIB // 16) + packing.flush()


def zstd(size: int, said: bytes, descriptor: int = 0xC0) -> bytes:
    """So many zeros as a frame of zstd, by hand from RFC 8878: blocks of one repeated byte, 128 KiB each."""
    blocks = [(2**17 << 3 | 1 << 1 | (left == 0)).to_bytes(3, "little") + b"\0" for left in range(size // 2**17)][::-1]
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor, 7 << 3]) + said + b"".join(blocks)


GZIP_BOMB = deflated(2048 * _MIB)
ZSTD_BOMB = zstd(2048 * _MIB, (2048 * _MIB).to_bytes(8, "little"))
GZIP = {"compression": "gzip"}
LARGE = (2, 1024, 1024)
"""4 MiB: a chunk of a bomb of 2 MiB is not refused for what it is stored in."""


@pytest.mark.parametrize(
    ("chunk", "filters", "found"),
    [
        (GZIP_BOMB, {"compression": "gzip"}, f"one of {5 * _MIB} or more"),
        (GZIP_BOMB, {"compression": "gzip", "shuffle": True, "fletcher32": True}, "one of"),
        (ZSTD_BOMB, hdf5plugin.Zstd(), "one of 2147483648"),
    ],
    ids=["gzip", "gzip and others", "zstd"],
)
def test_bombs_take_no_memory(chunk, filters, found, tmp_path):
    path = with_chunk(tmp_path / "scan.h5", chunk, shape=LARGE, **filters)
    done = subprocess.run([sys.executable, "-c", _READ, str(path)], capture_output=True, text=True, check=True)
    memory, said = done.stdout.strip().split(" ", 1)
    assert int(memory) < 32 * _MIB
    wanted = f"expected a chunk of {4 * _MIB} bytes in frame 2, found {found}"
    assert f"{path}:/{_DATA} frames 2..3" in said
    assert wanted in said
    assert "copy the file again" in said
    assert "\n" not in said


@pytest.mark.parametrize("filters", [{"compression": "gzip"}, hdf5plugin.Zstd(), {"compression": "lzf"}])
def test_a_stored_chunk_far_larger_than_its_frames_is_refused(filters, tmp_path):
    path = with_chunk(tmp_path / "scan.h5", bytes(_MIB), **filters)
    refused(path, rf"expected a chunk of {2 * 64 * 64 * 2} bytes in frame 2, found one stored in {_MIB}")


@pytest.mark.parametrize("skipped", [0, 1])
@pytest.mark.parametrize(
    ("chunk", "problem"),
    [
        (zstd(2**17, (2**17).to_bytes(8, "little")), "found one of 131072"),
        (zstd(2**17, (2**62).to_bytes(8, "little")), f"found one of {2**62}"),
        (zstd(2**17, (2**17).to_bytes(4, "little"), 0x80), "found one of 131072"),
        (zstd(2**17, (5000).to_bytes(2, "little"), 0x40), "found one of 5256"),
        (zstd(2**17, b"\1\0\0\0" + (2**31).to_bytes(4, "little"), 0x83), f"found one of {2**31}"),
        (zstd(2**17, b"", 0), "found one that does not tell its size"),
        (b"\x50\x2a\x4d\x18" + bytes(20), "found one that does not tell its size"),
        (b"\x28\xb5", "found one that does not tell its size"),
    ],
)
def test_sizes_that_zstd_says_are_not_believed(chunk, problem, skipped, tmp_path):
    """Whichever of its forms, and when a chunk says that it was not shuffled."""
    path = with_chunk(tmp_path / "scan.h5", chunk, skipped, shuffle=True, **hdf5plugin.Zstd())
    refused(path, rf"expected a chunk of 16384 bytes in frame 2, {problem}")


def refused(path: Path, problem: str) -> None:
    """The chunk of frames 2 and 3, and no other."""
    with ApsHdf5.open(path) as source:
        assert source.read(0, 2).all()
        assert source.read(4, 6).all()
        for _ in range(2):
            with pytest.raises(ScanError, match=problem):
                source.read(3, 4)


def test_a_chunk_compressed_twice_is_refused(tmp_path):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_chunk((2, 64, 64))
        layout.set_deflate(4)
        layout.set_deflate(4)
        space = h5py.h5s.create_simple((6, 64, 64))
        group = file.create_group("entry/data")
        h5py.h5d.create(group.id, b"data", h5py.h5t.NATIVE_UINT16, space, layout)
        file[_DATA][:] = 1
    with ApsHdf5.open(tmp_path / "scan.h5") as source, pytest.raises(ScanError, match=r"one compression.*filters 1, 1"):
        source.read(0, 1)


@pytest.mark.parametrize(
    "filters",
    [
        {"compression": "gzip"},
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
        {"compression": "gzip", "scaleoffset": 0},
        hdf5plugin.Zstd(),
        {"shuffle": True, "fletcher32": True, **hdf5plugin.Zstd()},
        {"compression": "lzf", "shuffle": True},
        {"fletcher32": True},
    ],
)
@pytest.mark.parametrize("most", [1, 2**16])
def test_honest_chunks_are_read(filters, most, tmp_path):
    """Zeros, and noise, which is stored in more than it is."""
    frames = np.random.default_rng(1).integers(0, most, (2, 100, 100)).astype(np.uint16)
    read_back(frames, tmp_path / "scan.h5", filters)


@pytest.mark.parametrize("filters", [{"compression": "gzip"}, hdf5plugin.Zstd()], ids=["gzip", "zstd"])
def test_large_chunks_of_zeros_are_read(filters, tmp_path):
    """64 MiB in a chunk that is stored a thousand times smaller."""
    read_back(np.zeros((32, 1024, 1024), np.uint16), tmp_path / "scan.h5", filters)


def read_back(frames: np.ndarray, path: Path, filters: dict) -> None:
    """Written as one chunk, they are read as they were."""
    with h5py.File(path, "w") as file:
        file.create_dataset(_DATA, data=frames, chunks=frames.shape, **filters)
    with ApsHdf5.open(path) as source:
        np.testing.assert_array_equal(source.read(0, 2), frames[:2])


def test_large_honest_streams_of_deflate_are_looked_at_and_read(tmp_path):
    frames = np.random.default_rng(1).integers(0, 2**16, (2, 1024, 1024)).astype(np.uint16)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        stored = file.create_dataset(_DATA, data=frames, chunks=frames.shape, compression="gzip").id
        assert stored.get_storage_size() * 1032 > 2**30
    with ApsHdf5.open(tmp_path / "scan.h5") as source:
        np.testing.assert_array_equal(source.read(0, 2), frames)


def test_maps_and_single_values_are_looked_at_too(tmp_path):
    with h5py.File(tmp_path / "q.h5", "w") as file:
        for name, shape in (("map", (64, 64)), ("number", (1,))):
            data = file.create_dataset(name, shape, np.uint16, chunks=shape, **hdf5plugin.Zstd())
            data.id.write_direct_chunk((0,) * len(shape), ZSTD_BOMB[:8000])
        file.create_dataset("text", data=["some words"], chunks=(1,), dtype=h5py.string_dtype(), **hdf5plugin.Zstd())
    with open_hdf5(tmp_path / "q.h5") as file:
        assert text(file, "text") == "some words"
        with pytest.raises(ScanError, match=r"q\.h5:/map: cannot read it: expected a chunk of 8192 bytes"):
            read_array(file, "map")
        with pytest.raises(ScanError, match=r"q\.h5:/number: cannot read it: expected a chunk of 2 bytes"):
            text(file, "number")


@pytest.mark.parametrize("shape", [(3, 1024, 1024), (1024, 1024)])
def test_maps_are_looked_at_too(shape, tmp_path):
    path = tmp_path / "maps.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "c2", data=np.ones(shape, np.float32), chunks=(1,) * (len(shape) - 2) + (1024, 1024), **GZIP
        )
        data.id.write_direct_chunk((0,) * len(shape), GZIP_BOMB)
    with pytest.raises(ScanError, match=r"maps\.h5: cannot read it: expected a chunk of \d+ bytes in frame 0, found"):
        C2Hdf5.read_c2(path)


def test_a_series_by_pixel_of_a_bomb_is_refused(tmp_path):
    path = tmp_path / "events.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("x", data=np.arange(3 * _MIB), chunks=(_MIB,), **GZIP)
        data.id.write_direct_chunk((_MIB,), GZIP_BOMB)
        assert read_rows(data, 5, 7).tolist() == [5, 6]
        with pytest.raises(ValueError, match=f"expected a chunk of {8 * _MIB} bytes in frame {_MIB}"):
            read_rows(data, 5, _MIB + 1)
