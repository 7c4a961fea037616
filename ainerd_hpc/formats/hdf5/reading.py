"""What all readers of HDF5 share: errors in one line, and no way out of the folder of the file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np

from ainerd_hpc.errors import ScanError, UnavailableError
from ainerd_hpc.formats.hdf5.chunks import LARGEST_CHUNK, Chunks
from ainerd_hpc.formats.opening import READ_ERRORS, is_refused, opened

MOST_PIXELS = 2**26
"""Most pixels of a detector; more is a damaged shape."""
_LONGEST_VALUE = _LONGEST_TEXT = 2**16
"""Bytes."""
MOST_LINKS = 16
"""Most links from one name to its dataset; more go round in a circle."""
_LARGEST_SEARCHED = 2**28
"""Bytes of a file that is searched for damaged texts."""
_SEARCHED = 2**22
"""Bytes of it at a time."""
_HEAP = b"GCOL\x01\0\0\0"
"""What a heap of texts begins with in HDF5."""
NEXT_STEP = "copy the file again from where it was measured, or take it out of the source folder"
REFUSED = "mend this, or take it out of the source folder; the next run looks at it again"
"""What to do about a file that the system does not let us read."""


@contextmanager
def reading(
    where: str,
    next_step: str = NEXT_STEP,
    *,
    what: str = "cannot read it",
    errors: tuple[type[Exception], ...] = READ_ERRORS,
) -> Iterator[None]:
    """Turn what goes wrong into a ScanError that says where, and begins with `what`."""
    try:
        yield
    except ScanError:
        raise
    except errors as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise unreadable(where, f"{what}: {reason}", next_step, is_refused(error)) from None


def unreadable(where: str, problem: str, next_step: str = NEXT_STEP, refused: bool = False) -> ScanError:
    """The error about a file that cannot be read; `refused` by the system, which may pass."""
    return UnavailableError(where, problem, REFUSED) if refused else ScanError(where, problem, next_step)


@contextmanager
def open_hdf5(path: Path, next_step: str = NEXT_STEP) -> Iterator[h5py.File]:
    """An HDF5 file for reading.

    Raises
    ------
    ScanError
        It cannot be opened.
    """
    with opened(path) as file:
        with reading(str(path), next_step):
            hdf5 = file.hdf5
        yield hdf5


class AbsentFileError(UnavailableError):
    """A file that belongs to a scan is not there: it may still come."""


def get_dataset(file: h5py.File, name: str, absent: list[ScanError] | None = None) -> h5py.Dataset | None:
    """The dataset of this name, whose data lie in this file or in files below its folder; None where there is none.

    Virtual sources and external storage that are missing are added to `absent`, where it is given, and not refused.

    Raises
    ------
    ScanError
        A link, a virtual source or an external storage leads out of the folder of the file, or to a file that is
        missing; or its chunks are too large.
    """
    way = route(file, name)
    if way.link:
        target = file.get(way.link, getlink=True)
        check_inside(Path(file.filename).parent, target.filename, f"{file.filename}:/{way.link}")
    found = file.get(way.place) if way.is_found else None
    if not isinstance(found, h5py.Dataset):
        return None
    if found.chunks and prod(found.chunks) * found.dtype.itemsize > LARGEST_CHUNK:
        problem = f"expected chunks of at most {LARGEST_CHUNK} bytes, found {found.chunks} of {found.dtype}"
        raise ScanError(f"{file.filename}:/{name}", problem, "write it again with smaller chunks")
    if way.link or found.is_virtual or found.external:
        _check_sources(file, name, found, absent)
    return found


def get_inner(file: h5py.File, name: str) -> h5py.Dataset | h5py.Group | None:
    """What lies there in this very file; None where there is nothing, or only a link to another file."""
    way = route(file, name)
    return file.get(way.place) if way.is_found and not way.link else None


class Route(NamedTuple):
    """Where a name leads to, over soft links; no other file is opened."""

    place: str
    link: str = ""
    """The first link to another file on the way; empty where everything lies in this file."""
    end: Literal["found", "missing", "circle"] = "found"
    """Found, too, where a link leads to another file."""

    @property
    def is_found(self) -> bool:
        """Whether something is there; the root is nothing."""
        return self.end == "found" and bool(self.place)


def route(file: h5py.File, name: str) -> Route:
    """The way to what has this name."""
    parts, links = _parts(name), 0
    count = 1
    while count <= len(parts):
        here, place = "/".join(parts[:count]), "/".join(parts)
        try:
            kind = file.id.links.get_info(here.encode()).type
        except (KeyError, RuntimeError, ValueError):
            return Route(place, end="missing")
        if kind == h5py.h5l.TYPE_EXTERNAL:
            return Route(place, here)
        if kind == h5py.h5l.TYPE_SOFT:
            if links == MOST_LINKS:
                return Route(place, end="circle")
            target = file.id.links.get_val(here.encode()).decode(errors="surrogateescape")
            base = [] if target.startswith("/") else parts[: count - 1]
            parts = [*base, *_parts(target), *parts[count:]]
            links, count = links + 1, 0
        count += 1
    return Route("/".join(parts))


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _check_sources(file: h5py.File, name: str, found: h5py.Dataset, absent: list[ScanError] | None) -> None:
    """Refuse a dataset whose file, virtual sources or external storage lie outside of the folder of the file."""
    folder, home = Path(file.filename).parent, Path(found.file.filename)  # links may lead from file to file
    where = f"{file.filename}:/{name}"
    if home.resolve() != Path(file.filename).resolve():
        check_inside(folder, os.path.relpath(home.resolve(), folder.resolve()), where)
    sources = [entry[0] for entry in found.external or []]
    sources += [source.file_name for source in found.virtual_sources()] if found.is_virtual else []
    for source in dict.fromkeys(sources):
        try:
            if source != ".":
                check_inside(folder, os.path.relpath(home.parent / source, folder), where)
        except AbsentFileError as error:
            if absent is None:
                raise
            absent.append(error)


def need_dataset(file: h5py.File, name: str, absent: list[ScanError] | None = None) -> h5py.Dataset:
    """The same, where there has to be one.

    Raises
    ------
    ScanError
        There is none, or as for `get_dataset`.
    """
    found = get_dataset(file, name, absent)
    if found is None:
        raise ScanError(f"{file.filename}:/{name}", "expected a dataset, found none", NEXT_STEP)
    return found


def check_inside(folder: Path, target: str, where: str) -> Path:
    """The file that a link in `folder` leads to.

    Raises
    ------
    AbsentFileError
        It is missing.
    ScanError
        It lies outside of the folder.
    """
    path = folder / target
    if not path.resolve().is_relative_to(folder.resolve()):
        problem = f"expected links to files below {folder}, found {target}"
        raise ScanError(where, problem, "copy the linked file beside this one and link it by its name alone")
    if not path.is_file():
        raise AbsentFileError(where, f"expected the linked file {path}, found none", "copy it to where the link leads")
    return path


def number(file: h5py.File, name: str) -> float:
    """A single number; NaN where there is none."""
    found = get_dataset(file, name)
    return float("nan") if found is None else number_of(found, f"{file.filename}:/{name}")


def number_of(dataset: h5py.Dataset, where: str) -> float:
    """The single number of a dataset, which lies there."""
    value = _single(dataset, where)
    try:
        return float(value)
    except (TypeError, ValueError):
        problem = f"expected a number, found {value!r}"
        raise ScanError(where, problem, "correct it, or copy the file again") from None


def text(file: h5py.File, name: str) -> str:
    """A single text; empty where there is none."""
    found = get_dataset(file, name)
    value = "" if found is None else _single(found, f"{file.filename}:/{name}")
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _single(found: h5py.Dataset, where: str) -> Any:
    """The only value of a dataset, which is looked at before it is read: it may claim to be of any size."""
    if np.prod(found.shape or (1,), dtype=float) != 1 or found.dtype.itemsize > _LONGEST_VALUE:
        raise ScanError(where, f"expected one value, found {found.dtype} {found.shape}", NEXT_STEP)
    if found.chunks:
        with reading(where):
            Chunks(found).check(0, 1)
    return read_texts(found, 1)[0] if _is_text(found) else np.asarray(found[()]).item()


def _is_text(dataset: h5py.Dataset) -> bool:
    """Whether it is of texts of variable length."""
    kind = h5py.check_string_dtype(dataset.dtype)
    return kind is not None and kind.length is None


def read_array(file: h5py.File, name: str) -> np.ndarray:
    """A dataset of numbers that has to be there, whole.

    Raises
    ------
    ScanError
        There is none, it is larger than any detector, or it holds something else.
    """
    found = need_dataset(file, name)
    if found.shape is None or prod(found.shape) > MOST_PIXELS or found.dtype.kind not in "buif":
        problem = f"expected at most {MOST_PIXELS} numbers, found {found.dtype} {found.shape}"
        raise ScanError(f"{file.filename}:/{name}", problem, "write the file again, or name another one")
    with reading(f"{file.filename}:/{name}"):
        if found.chunks:
            Chunks(found).check(0, found.shape[0])
        return np.asarray(found[()])


def only_dataset(file: h5py.File, dimensions: Mapping[int, str], next_step: str) -> str:
    """The name of the single dataset of numbers with so many dimensions: number -> as a word.

    Raises
    ------
    ScanError
        There is none, or there are several.
    """
    found: list[str] = []

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and len(item.shape or ()) in dimensions and item.dtype.kind in "buif":
            found.append(name)

    file.visititems(visit)
    if len(found) != 1:
        names = ", ".join(found[:5]) or "none"
        problem = f"expected one dataset of {' or '.join(dimensions.values())} dimensions, found {len(found)}: {names}"
        raise ScanError(str(file.filename), problem, next_step)
    return found[0]


def read_texts(dataset: h5py.Dataset, count: int) -> list[str]:
    """The first texts of a dataset. Over damaged ones HDF5 loops for ever, or fetches gigabytes.

    Source: HDF5 file format, IV.B: a text of variable length is its length (4 bytes), and where it is (12 bytes).

    Raises
    ------
    ValueError
        They are damaged.
    """
    if _is_text(dataset):
        descriptor = int(dataset.file.id.get_vfd_handle())
        stat = os.fstat(descriptor)
        if stat.st_size <= _LARGEST_SEARCHED:
            _check_heaps(descriptor, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if (offset := dataset.id.get_offset()) is not None:
            stored = os.pread(descriptor, 16 * count, offset + dataset.file.userblock_size)
            lengths = np.frombuffer(stored[: len(stored) // 16 * 16], "<u4")[::4]
            if lengths.max(initial=0) > _LONGEST_TEXT:
                raise ValueError(f"expected texts of at most {_LONGEST_TEXT} bytes, found {lengths.max()}")
    texts = np.atleast_1d(dataset.asstr(errors="replace")[()] if dataset.shape == () else dataset.asstr()[:count])
    return [str(text) for text in texts]


@lru_cache(maxsize=64)
def _check_heaps(descriptor: int, inode: int, size: int, modified: int) -> None:
    """Refuse a file with a damaged heap of texts.

    Source: HDF5 file format, III.E, global heap: after 16 bytes each object has its number (2 bytes), 6 others, its
    size (8 bytes) and its data, padded to 8; number 0 is the free rest, whose size is that of all.
    """
    for start in _places_of(_HEAP, descriptor):
        place, stop = start + 16, start + _number_at(descriptor, start + 8)
        while place + 16 <= min(stop, size):
            is_free = os.pread(descriptor, 2, place) == b"\0\0"
            length = _number_at(descriptor, place + 8)
            place += length if is_free else 16 + -(-length // 8) * 8
            if (is_free and length < 16) or place > stop:
                raise ValueError(f"its texts at byte {start} are damaged")


def _number_at(descriptor: int, offset: int) -> int:
    return int.from_bytes(os.pread(descriptor, 8, offset), "little")


def _places_of(words: bytes, descriptor: int) -> Iterator[int]:
    """Where these bytes stand in a file, which is read block by block."""
    offset = 0
    while block := os.pread(descriptor, _SEARCHED + len(words) - 1, offset):
        start = block.find(words)
        while start >= 0:
            yield offset + start
            start = block.find(words, start + 1)
        offset += _SEARCHED
