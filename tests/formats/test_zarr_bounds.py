"""Chunks of Zarr in every codec: those that are as they say are read, those that unpack to more take no memory."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numcodecs import BZ2, LZ4, LZMA, Blosc, Delta, GZip, Shuffle, Zlib, Zstd
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.zarr.arrays import ZarrArray

SHAPE, CHUNK = (5, 120, 160), (2, 120, 160)
BOMB = 2**25
"""Bytes that the chunk of a bomb unpacks to; 76800 are expected."""
FRAMES = np.random.default_rng(3).poisson(0.5, SHAPE).astype("u2")
COMPRESSIONS = [Blosc("lz4"), Blosc("zstd"), LZ4(), Zstd(), GZip(), Zlib(), BZ2(), LZMA(), None]


def read(path: Path) -> np.ndarray:
    with ZarrArray("").open(path) as frames:
        return frames.read(0, SHAPE[0])


def described(part: Any) -> dict[str, Any]:
    """A codec of numcodecs, as version 3 has it."""
    settings = part.get_config()
    return {"name": f"numcodecs.{settings.pop('id')}", "configuration": settings}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("compression", COMPRESSIONS, ids=repr)
@pytest.mark.parametrize("filters", [[], [Delta("u2")], [Delta("u2", "i8"), Shuffle(8)]], ids=len)
def test_what_numcodecs_has_packed_is_read(compression: Any, filters: list[Any], tmp_path: Path) -> None:
    old = zarr.create_array(
        tmp_path / "2.zarr",
        shape=SHAPE,
        chunks=CHUNK,
        dtype="u2",
        zarr_format=2,
        filters=filters,
        compressors=compression,
    )
    old[...] = FRAMES
    assert (read(tmp_path / "2.zarr") == FRAMES).all()


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=repr)
def test_chunks_of_next_to_nothing_are_read(compression: Any, tmp_path: Path) -> None:
    small = np.zeros((5, 2, 2), "u1")
    options: dict[str, Any] = {"chunks": (1, 2, 2), "zarr_format": 2, "fill_value": 7, "compressors": compression}
    zarr.create_array(tmp_path / "2.zarr", shape=small.shape, dtype="u1", **options)[...] = small
    assert (read(tmp_path / "2.zarr") == small).all()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("shards", [None, (4, 120, 160)], ids=["chunks", "shards"])
@pytest.mark.parametrize(
    "codecs",
    [[BloscCodec()], [ZstdCodec()], [GzipCodec()], [Crc32cCodec(), ZstdCodec(), Crc32cCodec()]]
    + [[described(one)] for one in COMPRESSIONS[2:-1]],
    ids=lambda codecs: "+".join(type(one).__name__ for one in codecs),
)
def test_what_version_3_has_packed_is_read(codecs: list[Any], shards: Any, tmp_path: Path) -> None:
    new = zarr.create_array(
        tmp_path / "3.zarr", shape=SHAPE, chunks=CHUNK, shards=shards, dtype="u2", compressors=codecs
    )
    new[...] = FRAMES
    assert (read(tmp_path / "3.zarr") == FRAMES).all()


def zstd_frame(block: bytes, times: int = 1) -> bytes:
    """A frame that does not tell its size, as streaming writers leave it: equal blocks, raw or of one repeated byte.

    Source: RFC 8878, 3.1.1.
    """
    kind, size = (1, 2**17) if len(block) == 1 else (0, len(block))
    headers = [(int(number == times - 1) | kind << 1 | size << 3).to_bytes(3, "little") for number in range(times)]
    return b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(header + block for header in headers)


def test_zstd_that_does_not_tell_its_size_is_read(tmp_path: Path) -> None:
    store(tmp_path / "s.zarr", {"id": "zstd", "level": 1}, zstd_frame(FRAMES[:2].tobytes()))
    assert (read(tmp_path / "s.zarr")[:2] == FRAMES[:2]).all()


def store(path: Path, compressor: dict[str, Any] | None, chunk: bytes, **zipped: Any) -> None:
    """A store of version 2, whose first chunk holds these bytes."""
    document = {"zarr_format": 2, "shape": SHAPE, "chunks": CHUNK, "dtype": "<u2", "order": "C", "fill_value": 0}
    document |= {"filters": None, "compressor": compressor}
    good = b"\0" * 76800 if compressor is None else b""
    members = {
        ".zarray": json.dumps(document).encode(),
        "0.0.0": chunk,
        **({"1.0.0": good, "2.0.0": good} if good else {}),
    }
    if zipped:
        with zipfile.ZipFile(path, "w", **zipped) as file:
            for name, content in members.items():
                file.writestr(name, content)
        return
    path.mkdir()
    for name, content in members.items():
        (path / name).write_bytes(content)


ZEROS = bytes(BOMB)
SMALL = bytes(76800)
BOMBS: dict[str, tuple[dict[str, Any] | None, Callable[[], bytes]]] = {
    "gzip": ({"id": "gzip"}, lambda: gzip.compress(ZEROS, 9)),
    "gzip in parts": ({"id": "gzip"}, lambda: gzip.compress(SMALL) + gzip.compress(ZEROS, 9)),
    "zlib": ({"id": "zlib"}, lambda: zlib.compress(ZEROS, 9)),
    "bz2": ({"id": "bz2"}, lambda: bz2.compress(ZEROS, 9)),
    "lzma": ({"id": "lzma"}, lambda: lzma.compress(ZEROS, preset=0)),
    "lz4": ({"id": "lz4"}, lambda: LZ4().encode(ZEROS)),
    "blosc": ({"id": "blosc"}, lambda: Blosc("zstd").encode(ZEROS)),
    "zstd": ({"id": "zstd"}, lambda: Zstd().encode(ZEROS)),
    "zstd in parts": ({"id": "zstd"}, lambda: Zstd().encode(SMALL) + Zstd().encode(ZEROS)),
    "zstd without a size": ({"id": "zstd"}, lambda: zstd_frame(b"\0", BOMB // 2**17)),
    "nothing": (None, lambda: ZEROS),
}
SCRIPT = """
import sys
from pathlib import Path
from ainerd_hpc.errors import ScanError
from tests.formats.test_zarr_bounds import read

def peak():
    return int(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1]) * 1024

read(Path(sys.argv[1]))
open('/proc/self/clear_refs', 'w').write('5')
before = peak()
for path in sys.argv[2:]:
    try:
        read(Path(path))
        print('read')
    except ScanError as error:
        print(peak() - before, error)
"""


def test_bombs_take_no_memory(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.zarr" for number in range(len(BOMBS))]
    for path, (compressor, chunk) in zip(paths, BOMBS.values(), strict=True):
        store(path, compressor, chunk())
    store(tmp_path / "deflated.zip", None, ZEROS, compression=zipfile.ZIP_DEFLATED)
    store(tmp_path / "good.zarr", None, SMALL)
    names = [str(path) for path in (tmp_path / "good.zarr", *paths, tmp_path / "deflated.zip")]
    said = subprocess.run([sys.executable, "-c", SCRIPT, *names], check=True, capture_output=True, text=True).stdout
    for name, line in zip([*BOMBS, "deflated"], said.splitlines(), strict=True):
        print(f"{name}: {line}")
        assert int(line.split()[0]) < 2**23, name
    assert said.count("expected a chunk of 76800 bytes, found one of ") == 8
    assert said.count("expected at most 76800 bytes in 0.0.0, found 33554432") == 2


def test_chunks_are_packed_once(tmp_path: Path) -> None:
    zarr.create_array(
        tmp_path / "3.zarr", shape=SHAPE, chunks=CHUNK, dtype="u2", compressors=[ZstdCodec(), GzipCodec()]
    )
    with pytest.raises(ScanError, match="expected chunks of one compression, found zstd of gzip"):
        read(tmp_path / "3.zarr")
