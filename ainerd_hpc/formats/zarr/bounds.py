"""Chunks of Zarr that unpack to no more than their shape says: codecs make room as they go, without end."""

from __future__ import annotations

import asyncio
import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, NoReturn

import numpy as np
from numcodecs import blosc, lz4, zstd
from numcodecs.abc import Codec
from zarr.abc.codec import BytesBytesCodec
from zarr.abc.store import ByteRequest
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from ainerd_hpc.formats.hdf5.chunks import zstd_size

_SLACK = 2**12
"""Bytes that codecs add to a chunk, at most."""
_INDEX = 16
"""Bytes of a chunk in the index of a shard."""
_LZMA_MEMORY = 2**28
"""Bytes; the largest preset takes a quarter of it."""
_STREAMS: Mapping[str, Callable[[], Any]] = {
    "gzip": partial(zlib.decompressobj, 16 + zlib.MAX_WBITS),
    "zlib": zlib.decompressobj,
    "bz2": bz2.BZ2Decompressor,
    "lzma": partial(lzma.LZMADecompressor, lzma.FORMAT_AUTO, _LZMA_MEMORY),
}
"""What says nothing of its size that is to be trusted, and is unpacked up to the size that is expected."""
_BLOCKS = {"blosc": 16, "lz4": 4, "zstd": 6}
"""What says how large it is, and is unpacked into just so much memory; bytes of the shortest head that does."""


def bounded(document: Mapping[str, Any], itemsize: int) -> tuple[dict[str, Any], int]:
    """The document of an array, with codecs that unpack no chunk to more than its shape says; most bytes under a key.

    Raises
    ------
    ValueError
        Chunks are compressed more than once.
    """
    if document["zarr_format"] == 3:
        shape = document["chunk_grid"]["configuration"]["chunk_shape"]
        codecs, most = _bounded(document["codecs"], shape, itemsize)
        return {**document, "codecs": codecs}, most
    filters, compressor = document["filters"] or [], document["compressor"]
    codecs, most = _bounded([*filters, *([compressor] if compressor else [])], document["chunks"], itemsize)
    compressor = codecs.pop() if compressor else None
    return {**document, "filters": codecs or None, "compressor": compressor}, most


def _bounded(codecs: Sequence[Any], shape: Sequence[int], itemsize: int) -> tuple[list[Any], int]:
    """The codecs, in the order of writing, of chunks of a shape, and most bytes of what they write."""
    packing = [name for name in map(codec_name, codecs) if name in _STREAMS or name in _BLOCKS]
    if len(packing) > 1:
        raise ValueError(f"expected chunks of one compression, found {' of '.join(packing)}")
    size, found = prod(shape) * itemsize, []
    for codec in codecs:
        name, settings = codec_name(codec), codec.get("configuration", codec)
        if name in packing:
            compression = Bounded(name, size)
            codec, size = compression if "id" in codec else BoundedCodec(compression), 2 * size + _SLACK
        elif name == "sharding_indexed":
            inside, most = _bounded(settings["codecs"], settings["chunk_shape"], itemsize)
            codec = {**codec, "configuration": {**settings, "codecs": inside}}
            size = prod(shape) // prod(settings["chunk_shape"]) * (most + _INDEX) + _SLACK
        elif name == "delta":
            size = prod(shape) * max(itemsize, np.dtype(settings.get("astype") or settings["dtype"]).itemsize)
        elif name == "crc32c":
            size += 4
        found.append(codec)
    return found, size


def codec_name(codec: Mapping[str, Any]) -> str:
    """The name in its document, in version 2 or 3."""
    return str(codec.get("name", codec.get("id"))).removeprefix("numcodecs.")


class Bounded(Codec):  # type: ignore[misc]
    """A compression, of version 2, of which no chunk unpacks to more than so many bytes."""

    codec_id = "bounded"

    def __init__(self, name: str, size: int) -> None:
        self._name, self._size = name, size

    def encode(self, buf: Any) -> NoReturn:
        raise NotImplementedError

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The bytes of a chunk.

        Raises
        ------
        ValueError
            They would be more than expected, or the chunk is damaged.
        """
        packed = memoryview(buf).cast("B")
        if self._name in _STREAMS:
            return self._unpack_stream(bytes(packed))
        found = self._stated(bytes(packed[:18]))
        if found > self._size:
            self._refuse(f"one of {found}")
        if self._name == "zstd":
            return zstd.decompress(packed, np.empty(found, np.uint8))
        return (blosc if self._name == "blosc" else lz4).decompress(packed)

    def _stated(self, head: bytes) -> int:
        """Bytes that a chunk says it unpacks to; those expected, where it may be silent."""
        if len(head) < _BLOCKS[self._name]:
            self._refuse(f"one stored in {len(head)}")
        if self._name == "zstd":
            found = zstd_size(head)
            return self._size if found < 0 else found
        return int.from_bytes(head[4:8] if self._name == "blosc" else head[:4], "little")

    def _unpack_stream(self, packed: bytes) -> bytes:
        parts, room = [], self._size + 1
        while packed and room:
            stream = _STREAMS[self._name]()
            parts.append(stream.decompress(packed, room))
            room -= len(parts[-1])
            if room and not stream.eof:
                self._refuse("one that ends early")
            packed = stream.unused_data
        if not room:
            self._refuse("one of more")
        return b"".join(parts)

    def _refuse(self, found: str) -> NoReturn:
        raise ValueError(f"expected a chunk of {self._size} bytes, found {found}")


@dataclass(frozen=True)
class BoundedCodec(BytesBytesCodec):
    """The same, of version 3."""

    compression: Bounded
    is_fixed_size = False

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        unpacked = await asyncio.to_thread(self.compression.decode, chunk_bytes.as_numpy_array())
        return chunk_spec.prototype.buffer.from_array_like(np.frombuffer(unpacked, np.uint8))

    async def _encode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NoReturn:
        raise NotImplementedError

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> NoReturn:
        raise NotImplementedError


class BoundedStore(WrapperStore[Any]):
    """A store of which nothing that is stored in far more than expected is read."""

    def __init__(self, store: Any, size_of: Callable[[str], int], most: int) -> None:
        super().__init__(store)
        self._size_of, self._most = size_of, most

    def within(self, most: int) -> BoundedStore:
        """The same, of which nothing above so many bytes is read."""
        return BoundedStore(self._store, self._size_of, most)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        if (found := self._size_of(key)) > self._most:
            raise ValueError(f"expected at most {self._most} bytes in {key}, found {found}")
        await self._ensure_open()
        stored: Buffer | None = await self._store.get(key, prototype, byte_range)
        return stored
