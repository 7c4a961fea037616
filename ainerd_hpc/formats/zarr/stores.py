"""Zarr stores that are safe to read: folders and .zip files, of version 2 or 3.

Their metadata are looked at before Zarr is asked: a store can name any codec, of which some unpickle, and claim any
size.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ainerd_hpc.errors import AinerdError, ScanError
from ainerd_hpc.formats.hdf5.reading import NEXT_STEP, unreadable
from ainerd_hpc.formats.opening import is_refused, opened
from ainerd_hpc.formats.reader import COUNT_KINDS

if TYPE_CHECKING:
    from ainerd_hpc.formats.zarr.bounds import BoundedStore

ZIP_MAGIC = b"PK\x03\x04"
_LARGEST_DOCUMENT = 2**20
"""Bytes."""
_LARGEST_CHUNK = 2**31
"""Bytes, of a frame as well."""
_MOST_CHUNKS = 2**12
"""Most chunks of a frame: more take for ever to read."""
_CODECS = {
    *("bytes", "transpose", "sharding_indexed", "crc32c"),
    *("blosc", "gzip", "zlib", "zstd", "lz4", "bz2", "lzma", "shuffle", "delta"),
}
"""Nothing but numbers in and out."""

Documents = Callable[[str], dict[str, Any]]
"""Gives a metadata document of a store by its name; empty where there is none."""


@contextmanager
def open_store(path: Path) -> Iterator[tuple[Documents, BoundedStore]]:
    """The metadata documents of a store, and the store itself for Zarr.

    Raises
    ------
    ScanError
        It cannot be opened.
    """
    from zarr.storage import LocalStore, ZipStore

    from ainerd_hpc.formats.zarr.bounds import BoundedStore

    with ExitStack() as stack:
        with reading_store(str(path)):
            documents, size_of = stack.enter_context(_open(path))
            stored: Any = LocalStore(path, read_only=True) if path.is_dir() else ZipStore(path, mode="r")
            store = BoundedStore(stored, size_of, _LARGEST_CHUNK)
        stack.callback(_close, store)
        yield documents, store


def _close(store: Any) -> None:
    with suppress(AttributeError):  # it was never used
        store.close()


@contextmanager
def open_documents(path: Path) -> Iterator[Documents]:
    """The metadata documents of a store, none of them longer than one of an array can be.

    Raises
    ------
    OSError, ValueError, zipfile.BadZipFile
        The store or a document cannot be read. This and what follows is to be called within `reading_store`: what a
        document holds that is no metadata leads to errors of any kind.
    """
    with _open(path) as (documents, _):
        yield documents


@contextmanager
def _open(path: Path) -> Iterator[tuple[Documents, Callable[[str], int]]]:
    """The documents of a store, and the sizes of what is in it, by key; 0 of what is not."""
    if path.is_dir():
        yield lambda name: _document_in(path / name), lambda key: _size_in(path / key)
        return
    with opened(path) as stored, zipfile.ZipFile(stored.buffered()) as file:
        sizes = {member.filename: member.file_size for member in file.infolist()}
        yield lambda name: _document(file.open(name)) if name in sizes else {}, lambda key: sizes.get(key, 0)


def _size_in(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _document_in(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    with opened(path) as file:
        return _document(file.buffered())


def _document(file: IO[bytes]) -> dict[str, Any]:
    with file:
        text = file.read(_LARGEST_DOCUMENT + 1)
    found = json.loads(text)
    if len(text) > _LARGEST_DOCUMENT or not isinstance(found, dict):
        raise ValueError("expected a document of Zarr, found another one")
    return found


@contextmanager
def reading_store(where: str) -> Iterator[None]:
    """Turn what goes wrong into a ScanError that says where."""
    try:
        yield
    except AinerdError as error:
        raise (error if isinstance(error, ScanError) else ScanError(where, str(error), NEXT_STEP)) from None
    except Exception as error:  # Zarr, its codecs and its metadata fail in any way
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        raise unreadable(where, f"cannot read it: {reason}", refused=is_refused(error)) from None


class Layout(NamedTuple):
    """An array of numbers, by its metadata."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...]
    stored: tuple[int, ...]
    """What lies under one key: a chunk, or a shard of several."""
    fill: Any = None
    """Value of what was not stored."""
    document: Any = None
    """What Zarr opens it by: its metadata, with codecs that are bounded."""
    most: int = 0
    """Bytes of what lies under one key, at most."""


def read_layout(documents: Documents, dataset: str, dimensions: int) -> Layout:
    """The layout of an array that is safe to read: numbers, in known codecs, in chunks that fit into memory.

    Raises
    ------
    ValueError
        There is none, or it is not safe.
    """
    from ainerd_hpc.formats.zarr.bounds import bounded

    document = _document_of(documents, dataset)
    shape, dtype, is_new = *_shape_and_dtype(document), document["zarr_format"] == 3
    outer = document["chunk_grid"]["configuration"]["chunk_shape"] if is_new else document["chunks"]
    codecs = document["codecs"] if is_new else [document["compressor"], *(document["filters"] or [])]
    unknown = set(_codec_names(codecs)) - _CODECS
    if unknown:
        raise ValueError(f"expected codecs that are safe, found {', '.join(sorted(unknown))}")
    inner = next((codec["configuration"]["chunk_shape"] for codec in codecs if _is_sharding(codec)), outer)
    if len(shape) != dimensions or dtype.kind not in COUNT_KINDS or not len(shape) == len(inner) == len(outer):
        raise ValueError(f"expected numbers in {dimensions} dimensions, found {dtype} {shape} in chunks of {inner}")
    if (dimensions == 3 and 0 in shape) or min(*inner, *outer) < 1:
        raise ValueError(f"expected frames, found {shape} in chunks of {inner}")
    num_chunks = prod(-(-size // chunk) for size, chunk in zip(shape[1:], inner[1:], strict=True))
    largest = max(prod(inner), prod(shape[1:])) * dtype.itemsize
    if largest > _LARGEST_CHUNK or num_chunks > _MOST_CHUNKS:
        raise ValueError(f"expected frames in some chunks below 2 GiB, found {shape} in chunks of {inner}")
    return Layout(
        shape, dtype, tuple(inner), tuple(outer), document.get("fill_value"), *bounded(document, dtype.itemsize)
    )


def stored_keys(path: Path, dataset: str) -> Iterator[str]:
    """Names of what is stored of an array, below its own."""
    if path.is_dir():
        for folder, _, names in os.walk(path / dataset):
            below = Path(folder).relative_to(path / dataset)
            yield from ((below / name).as_posix() for name in names)
        return
    start = f"{dataset}/".lstrip("/")
    with opened(path) as stored, zipfile.ZipFile(stored.buffered()) as file:
        yield from (name.removeprefix(start) for name in file.namelist() if name.startswith(start))


def _is_sharding(codec: Any) -> bool:
    return isinstance(codec, dict) and codec.get("name") == "sharding_indexed"


def _codec_names(codecs: Any) -> Iterator[str]:
    for codec in codecs:
        if codec is not None:
            yield str(codec.get("name", codec.get("id"))).removeprefix("numcodecs.")
            inside = codec.get("configuration") or {}
            yield from _codec_names([*inside.get("codecs", []), *inside.get("index_codecs", [])])


def shape_and_dtype(documents: Documents, dataset: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and the type as an array claims them.

    Raises
    ------
    ValueError
        There is none.
    """
    return _shape_and_dtype(_document_of(documents, dataset))


def _document_of(documents: Documents, dataset: str) -> dict[str, Any]:
    """The document of an array."""
    for document in map(documents, document_names(dataset)):
        if "shape" in document and document.get("zarr_format") in (2, 3):
            return document
    raise ValueError(f"expected an array {dataset!r} of version 2 or 3, found none")


def _shape_and_dtype(document: Mapping[str, Any]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    shape = tuple(int(size) for size in document["shape"])
    return shape, np.dtype(document["data_type"] if document["zarr_format"] == 3 else document["dtype"])


def document_names(dataset: str) -> tuple[str, str]:
    """Names of the documents that tell of an array, in version 3 and 2."""
    return f"{dataset}/zarr.json".lstrip("/"), f"{dataset}/.zarray".lstrip("/")


def attributes_of(documents: Documents) -> dict[str, Any]:
    """The attributes of a group of version 3; none where there is no such group."""
    found = documents("zarr.json").get("attributes")
    return found if isinstance(found, dict) else {}


def open_array(store: BoundedStore, dataset: str, layout: Layout) -> Any:
    """A zarr.Array by its layout (its own types do not promise what indexing gives)."""
    import zarr
    from zarr.storage import StorePath

    return zarr.Array(zarr.AsyncArray(layout.document, StorePath(store.within(layout.most), dataset)))
