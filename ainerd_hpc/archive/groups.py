"""Products in Zarr: how they are written and how they are read.

A product is one file: a Zarr v3 group packed as a zip, a Parquet table, or a small text file. It is written under a
temporary name, synced, and published by one atomic rename: a product that exists is complete. The bytes depend on the
content alone (fixed dates and order inside the zip), so that two runs can be compared file by file.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numcodecs
import numcodecs.blosc
import numpy as np
import zarr
from zarr.codecs import BloscCodec
from zarr.core import sync
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore, ZipStore

from ainerd_hpc.errors import ProductError, is_of_the_system, reading_product
from ainerd_hpc.publishing import publishing

if TYPE_CHECKING:
    import pandas as pd

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_CODECS: dict[str, tuple[Any, Any]] = {
    "small": ("zstd", "bitshuffle"),
    "fast": ("lz4", "bitshuffle"),
}
"""The sums that make C2 take hardly less room in zstd than in lz4, which is four times as fast."""


_COLUMNS, _DTYPES = "columns", "dtypes"
"""Name of the array that holds a table, and of its attribute with the columns' names and dtypes."""
_GAP = "a member is missing before {}"
_PATIENCE = 60.0
"""Seconds."""
_SHUFFLES = {"bitshuffle": numcodecs.Blosc.BITSHUFFLE}
numcodecs.blosc.use_threads = False  # threads are ours to divide


@atexit.register
def _let_zarr_end() -> None:
    """Wait for Zarr's thread: Zarr itself, which ends after this, waits 0.2 s and fails on a busy machine."""
    if sync.loop[0] is not None and sync.iothread[0] is not None:
        sync.loop[0].call_soon_threadsafe(sync.loop[0].stop)
        sync.iothread[0].join(_PATIENCE)


class _Zip(zipfile.ZipFile):
    """A zip that is finished by `close` only: one that failed is removed, and must not be written to when collected."""

    def __del__(self) -> None:
        pass


class GroupWriter:
    """A Zarr group that grows in memory and is moved, chunk by finished chunk, into a zip file.

    Use it through `writing_group`. Whoever writes an array in pieces writes whole shards, and calls `flush` after each
    piece to keep memory low.
    """

    def __init__(self, path: Path, attributes: Mapping[str, Any]) -> None:
        self._pending: dict[str, Buffer] = {}
        self._zip = _Zip(path, "w", zipfile.ZIP_STORED)
        self._group = zarr.create_group(MemoryStore(self._pending), attributes=dict(attributes))

    def create(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: Any,
        dims: Sequence[str],
        chunks: tuple[int, ...],
        shards: tuple[int, ...] | None = None,
        codec: str = "small",
        **attributes: Any,
    ) -> zarr.Array:
        """A new array of the group; NaN or 0 where nothing is written."""
        fill = float("nan") if np.dtype(dtype).kind == "f" else 0
        cname, shuffle = _CODECS[codec]
        return self._group.create_array(
            name,
            shape=shape,
            dtype=dtype,
            chunks=chunks,
            shards=shards,
            dimension_names=list(dims),
            compressors=BloscCodec(cname=cname, clevel=1, shuffle=shuffle),
            fill_value=fill,
            attributes=attributes,
        )

    def write_chunk(self, array: zarr.Array, index: tuple[int, ...], values: np.ndarray) -> None:
        """Write one chunk of an array without shards, whole or cut off by the array's end; on any thread.

        Zarr takes some milliseconds for a chunk, whatever its size, and its event loop one chunk at a time.
        """
        chunk = np.asarray(values, dtype=array.dtype, order="C")
        if values.shape != array.chunks:
            chunk = np.full(array.chunks, array.fill_value, dtype=array.dtype)
            chunk[tuple(slice(0, size) for size in values.shape)] = values
        codec: Any = array.compressors[0]
        blosc = numcodecs.Blosc(codec.cname.value, codec.clevel, _SHUFFLES[codec.shuffle.value])
        key = "/".join([array.path, "c", *map(str, index)])
        self._put(key, blosc.encode(chunk))

    def add(self, name: str, values: np.ndarray, dims: Sequence[str], **attributes: Any) -> None:
        """A small array, written whole as one chunk.

        A product holds dozens of them, and Zarr takes a millisecond for each; so its metadata is written out here.
        """
        blosc = numcodecs.Blosc("zstd", 1, numcodecs.Blosc.BITSHUFFLE)
        values = np.ascontiguousarray(values)
        self._put(f"{name}/zarr.json", json.dumps(_metadata(values, dims, attributes)).encode())
        if values.size:
            self._put("/".join([name, "c", *["0"] * values.ndim]), blosc.encode(values))
        self.flush()

    def add_columns(self, table: pd.DataFrame, dim: str) -> None:
        """The numbers of a table as one array (row, column) of float64: one a column would be 30 entries to open."""
        dtypes = {str(name): str(dtype) for name, dtype in table.dtypes.items()}
        self.add(_COLUMNS, table.to_numpy(np.float64), (dim, "column"), **{_DTYPES: dtypes})

    def _put(self, key: str, data: bytes) -> None:
        self._pending[key] = default_buffer_prototype().buffer.from_bytes(data)

    def flush(self, prefix: str = "", key: Callable[[str], Any] | None = None) -> None:
        """Move the chunks that are written so far, below a prefix, into the file, sorted by key; metadata stays."""
        chunks = [name for name in list(self._pending) if name.startswith(prefix) and not name.endswith("zarr.json")]
        self._move(sorted(chunks, key=key))

    def adopt(self, path: Path, name: str, offset: int) -> None:
        """Copy the chunks of an array of another product, as they are, `offset` chunks further along the first axis."""
        with zipfile.ZipFile(path) as other:
            for entry in other.namelist():
                if entry.startswith(f"{name}/c/"):
                    first, *rest = entry.removeprefix(f"{name}/c/").split("/")
                    key = "/".join([name, "c", str(int(first) + offset), *rest])
                    self._zip.writestr(zipfile.ZipInfo(key, _ZIP_DATE), other.read(entry))

    def close(self) -> None:
        self._move(sorted(self._pending))
        self._zip.close()

    def _move(self, keys: Any) -> None:
        for key in list(keys):
            entry = zipfile.ZipInfo(key, _ZIP_DATE)
            self._zip.writestr(entry, self._pending.pop(key).to_bytes())


def _metadata(values: np.ndarray, dims: Sequence[str], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of an array in one chunk of Blosc, as version 3 of the Zarr specification has it."""
    kind, itemsize = values.dtype.kind, values.itemsize
    blosc = {"typesize": itemsize, "cname": "zstd", "clevel": 1, "shuffle": "bitshuffle", "blocksize": 0}
    in_bytes = {"name": "bytes", "configuration": {"endian": "little"}} if itemsize > 1 else {"name": "bytes"}
    chunk_shape = [max(1, size) for size in values.shape]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(values.shape),
        "data_type": values.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk_shape}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": {"f": "NaN", "b": False}.get(kind, 0),
        "codecs": [in_bytes, {"name": "blosc", "configuration": blosc}],
        "attributes": dict(attributes),
        "dimension_names": list(dims),
    }


@contextlib.contextmanager
def writing_group(path: Path, attributes: Mapping[str, Any]) -> Iterator[GroupWriter]:
    """Publish a Zarr group as one zip file when the block ends well."""
    with publishing(path) as temporary:
        writer = GroupWriter(temporary, attributes)
        yield writer
        writer.close()


class _CheckedStore(ZipStore):
    """A zip whose members are checked where only a part of them is read, too: once, before the first part."""

    def _get(self, key: str, prototype: Any, byte_range: Any = None) -> Buffer | None:
        checked = self.__dict__.setdefault("checked", set[str]())
        try:
            if byte_range is not None and key not in checked and self._is_open and key in self._zf.NameToInfo:
                read_through(self._zf, key)
                checked.add(key)
            return super()._get(key, prototype, byte_range)
        except Exception as error:  # a damaged zip can claim to be encrypted, or compressed in any way
            if is_of_the_system(error):
                raise
            raise zipfile.BadZipFile(str(error)) from None


def read_through(file: zipfile.ZipFile, name: str) -> None:
    """Read a member of a zip, which compares its checksum.

    Raises
    ------
    zipfile.BadZipFile
        It is damaged.
    """
    with file.open(name) as member:
        while member.read(2**20):
            pass


@contextlib.contextmanager
def reading_group(path: Path) -> Iterator[zarr.Group]:
    """Open a Zarr group product for reading.

    Raises
    ------
    ProductError
        The product is missing or damaged, or it is that of another scan.
    """
    with reading_product(path, "cannot open the product: {}"):
        store = _CheckedStore(path, mode="r")
        group = zarr.open_group(store, mode="r", zarr_format=3)  # 2 would let a file name codecs that unpickle
    check_owner(path, group.attrs)
    try:
        with contextlib.closing(store):
            yield group
    except zipfile.BadZipFile as error:
        raise ProductError(path, f"the product is damaged: {error}") from None


def check_owner(path: Path, attributes: Mapping[str, Any]) -> None:
    """Refuse the product of another scan under the name of this one.

    Raises
    ------
    ProductError
        It is.
    """
    folder, name = path.parent, path.name.removesuffix(".zarr.zip")
    owner = folder.name.removesuffix(".parts") if folder.suffix == ".parts" else name
    if (found := attributes.get("scan_id", owner)) != owner:
        raise ProductError(path, f"expected the product of {owner}, found that of {found}")


def check_group(path: Path) -> str:
    """Read a product through, and give the digest that it records.

    Raises
    ------
    ProductError
        It is missing or damaged, or that of another scan.
    """
    damaged = "the product is damaged: {}"
    with reading_product(path, damaged), path.open("rb") as raw, zipfile.ZipFile(raw) as file:
        end = 0
        for entry in sorted(file.infolist(), key=lambda entry: entry.header_offset):
            read_through(file, entry.filename)
            end = _end_of(raw, entry, end)
        if end != file.start_dir:
            raise zipfile.BadZipFile(_GAP.format("the list of members"))
        attributes = json.loads(file.read("zarr.json"))["attributes"]
    check_owner(path, attributes)
    return str(attributes.get("digest", ""))


def _end_of(file: BinaryIO, entry: zipfile.ZipInfo, begin: int) -> int:
    """Where a member ends that has to begin there: one that the list at the end hides leaves a gap.

    That list alone is believed when a member is read: what stands before it is compared with it.
    """
    expected = entry.FileHeader()
    file.seek(entry.header_offset)
    if file.read(len(expected)) != expected:
        raise zipfile.BadZipFile(f"two accounts of {entry.filename!r}")
    if entry.header_offset != begin:
        raise zipfile.BadZipFile(_GAP.format(repr(entry.filename)))
    return begin + len(expected) + entry.compress_size


def limit_threads(threads: int) -> None:
    """Let Zarr encode and decode on this many threads: its own default is many more, whatever else is at work."""
    zarr.config.set({"threading.max_workers": threads, "async.concurrency": max(2, threads)})


def array(group: zarr.Group, name: str) -> Any:
    """A zarr.Array of a product; indexing reads from the file into NumPy (zarr's own types do not promise that)."""
    found = group.get(name)
    if not isinstance(found, zarr.Array):
        store: Any = group.store
        raise ProductError(store.path, f"array '{name}' is missing")
    return found


def columns_of(group: zarr.Group) -> pd.DataFrame:
    """The table that `add_columns` wrote."""
    import pandas as pd

    stored = array(group, _COLUMNS)
    dtypes = stored.attrs[_DTYPES]
    return pd.DataFrame(stored[...], columns=list(dtypes)).astype(dtypes)
