"""Zarr stores of frames: any array (t, y, x) by its path, and the counts of an archive of ours.

A store is a folder or a .zip file, of version 2 or 3. Its metadata are looked at before Zarr is asked: a store can name
any codec, of which some unpickle, and claim any size.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from math import inf, nan, prod
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
import zarr
from zarr.storage import LocalStore, ZipStore

from ainerd_hpc.errors import AinerdError, ScanError
from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.events import EventFrames
from ainerd_hpc.formats.hdf5 import NEXT_STEP
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.types import Content

if TYPE_CHECKING:
    from ainerd_hpc.kernels.event_frames import EventBlock
    from ainerd_hpc.kernels.gather import FrameEvents

_ZIP_MAGIC = b"PK\x03\x04"
_LARGEST_DOCUMENT = 2**20
_LARGEST_CHUNK = 2**31
"""Bytes, of a frame as well."""
_MOST_CHUNKS = 2**12
"""Of a frame: more take for ever to read."""
_MOST_PIXELS, _MOST_FRAMES = 2**26, 2**31
_CODECS = {
    *("bytes", "transpose", "sharding_indexed", "crc32c"),
    *("blosc", "gzip", "zlib", "zstd", "lz4", "bz2", "lzma", "shuffle", "delta"),
}
"""Nothing but numbers in and out."""
_EVENTS_PER_GROUP, _EVENTS_AT_A_TIME = 2**23, 2**22
_KEPT = 2
"""Groups of frames in memory: the one that threads are leaving, and the one they enter."""
_FORMS = ("events", "frames")
_NEXT_STEP = "check the path of the array in the config"

Documents = Callable[[str], dict[str, Any]]
"""Gives a metadata document of a store by its name; empty where there is none."""


class ZarrArray:
    """Reader of one array (t, y, x) of Zarr stores, by its path in them.

    Parameters
    ----------
    dataset : str
        Such as `measurement/data`; empty for a store that is an array itself.
    """

    content = Content.FRAMES

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset.strip("/")
        self.name = f"zarr-array:{self.dataset}"

    def matches(self, file: SourceFile) -> bool:
        """Whether the file or folder is a store with such an array."""
        try:
            if not _is_store(file):
                return False
            with _documents(file.path) as documents:
                document = _found(documents, self.dataset)
                return len(_shape(document)) == 3 and _dtype(document).kind in "uif"
        except Exception:  # whatever a document holds that is no metadata
            return False

    def describe(self, file: SourceFile) -> Description:
        """Shape of the array; no frame is read.

        Raises
        ------
        ScanError
            It is damaged, holds no counts, or is stored in a way that is not safe to read.
        """
        with _reading(f"{file.path}:/{self.dataset}"), _documents(file.path) as documents:
            layout = _checked(documents, self.dataset, 3)
        metadata = tuple(file.path / name for name in _names(self.dataset) if (file.path / name).is_file())
        num_frames, height, width = layout.shape
        return Description(num_frames, layout.dtype.itemsize, height, width, companions=metadata)

    @contextmanager
    def open(self, path: Path) -> Iterator[ZarrFrames]:
        """The frames, to be read block by block.

        Raises
        ------
        ScanError
            As for `describe`.
        """
        with _opened(path) as (documents, store):
            yield ZarrFrames(path, documents, store, self.dataset)


class ZarrFrames:
    """Frames of an open store, in native byte order; any number of threads may read."""

    def __init__(self, path: Path, documents: Documents, store: Any, dataset: str) -> None:
        self._where = f"{path}:/{dataset}"
        with _reading(self._where):
            layout = _checked(documents, dataset, 3)
            self._array = _array(store, dataset, layout)
        self.dtype = layout.dtype.newbyteorder("=")
        self.shape, self.per_chunk = layout.shape, layout.chunk[0]

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Frames start, start + step, ... below stop, (n, y, x).

        Raises
        ------
        ScanError
            Naming the frames that cannot be read.
        """
        with _reading(f"{self._where} frames {start}..{stop - 1}"):
            return np.asarray(self._array[start : max(start, stop) : step]).astype(self.dtype, copy=False)


class AinerdFrames:
    """Reader of `frames/<scan>.zarr.zip` of an archive of ours: frames, or events by pixel."""

    name = "ainerd-frames"
    content = Content.FRAMES

    @staticmethod
    def matches(file: SourceFile) -> bool:
        """Whether the file is a Zarr group in a zip that says so."""
        try:
            if not file.head.startswith(_ZIP_MAGIC):
                return False
            with _documents(file.path) as documents:
                return _attributes(documents).get("form") in _FORMS
        except Exception:  # whatever a document holds that is no metadata
            return False

    @staticmethod
    def describe(file: SourceFile) -> Description:
        """Shape of a scan and its frame period; no count is read.

        Raises
        ------
        ScanError
            The product is damaged, or nothing says how many rows and columns its events come from.
        """
        with _reading(str(file.path)), _documents(file.path) as documents:
            attributes, metadata = _attributes(documents), _metadata(documents)
            if attributes.get("form") == "events":
                (num_frames, height, width), itemsize = _event_shape(file.path, documents), EventFrames.dtype.itemsize
            else:
                layout = _checked(documents, "frames", 3)
                (num_frames, height, width), itemsize = layout.shape, layout.dtype.itemsize
        simulated = attributes.get("simulated") is True
        return Description(num_frames, itemsize, height, width, metadata=metadata, simulated=simulated)

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[ZarrFrames | StoredEvents]:
        """The frames of a scan, to be read block by block.

        Of events, the pointer (8 bytes a pixel) and a number for each frame are in memory, for which all times are read
        once; then some 8 million events at a time, for each of which the file is read once more.

        Raises
        ------
        ScanError
            As for `describe`, or the events make no sense.
        """
        with _opened(path) as (documents, store):
            with _reading(str(path)):
                is_events = _attributes(documents).get("form") == "events"
            yield (StoredEvents if is_events else _frames)(path, documents, store)


def _frames(path: Path, documents: Documents, store: Any) -> ZarrFrames:
    return ZarrFrames(path, documents, store, "frames")


class StoredEvents(EventFrames):
    """Frames made of events by pixel, which are put in the order of frames by groups of successive ones."""

    def __init__(self, path: Path, documents: Documents, store: Any) -> None:
        with _reading(str(path)):
            super().__init__(str(path), _event_shape(path, documents))
            layouts = {name: _checked(documents, name, 1) for name in ("pixel_pointer", "dead_pixels", "time", "count")}
            arrays = {name: _array(store, name, layout) for name, layout in layouts.items()}
            self._time, self._count = arrays["time"], arrays["count"]
            self._pixel_pointer = np.asarray(arrays["pixel_pointer"][...], dtype=np.int64)
            self._dead = np.asarray(arrays["dead_pixels"][...], dtype=np.int64)
            self._check({name: layout.shape[0] for name, layout in layouts.items()})
            self._pointer = self._count_frames()
        self._bounds = _cut(self._pointer, _EVENTS_PER_GROUP)
        self._groups: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._lock = Lock()

    def _check(self, sizes: Mapping[str, int]) -> None:
        pointer = self._pixel_pointer
        if pointer[0] != 0 or (np.diff(pointer) < 0).any() or not pointer[-1] == sizes["time"] == sizes["count"]:
            problem = f"expected ascending pointers from 0 to {sizes['time']}, found {pointer[0]} to {pointer[-1]}"
            raise ScanError(f"{self.where}:/pixel_pointer", problem, NEXT_STEP)
        if ((self._dead < 0) | (self._dead >= self._num_pixels)).any():
            problem = f"expected pixels 0..{self._num_pixels - 1}, found {self._dead.min()}..{self._dead.max()}"
            raise ScanError(f"{self.where}:/dead_pixels", problem, NEXT_STEP)

    def _count_frames(self) -> np.ndarray:
        """(t + 1,) where the events of each frame begin, in the order of frames."""
        from ainerd_hpc.kernels.event_frames import BadEventError, count_frames

        sizes = np.zeros(self.shape[0], dtype=np.int64)
        for first in range(0, int(self._pixel_pointer[-1]), _EVENTS_AT_A_TIME):
            try:
                count_frames(self._read(self._time, first, np.int32), sizes)
            except BadEventError as error:
                problem = f"expected times 0..{len(sizes) - 1}, found another at event {first + error.index}"
                raise ScanError(f"{self.where}:/time", problem, NEXT_STEP) from None
        return np.append(0, np.cumsum(sizes))

    @staticmethod
    def _read(array: Any, first: int, dtype: Any) -> np.ndarray:
        return np.asarray(array[first : first + _EVENTS_AT_A_TIME]).astype(dtype)

    def events(self, start: int, stop: int) -> EventBlock:
        """The events of frames [start, stop)."""
        from ainerd_hpc.kernels.event_frames import EventBlock

        parts = [(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.uint32))]
        for group in range(int(np.searchsorted(self._bounds, start, side="right")) - 1, len(self._bounds) - 1):
            first, last = max(start, self._bounds[group]), min(stop, self._bounds[group + 1])
            if first >= last:
                break
            here = slice(*(self._pointer[[first, last]] - self._pointer[self._bounds[group]]))
            parts.append(tuple(values[here] for values in self._group(group)))  # type: ignore[arg-type]
        pixel, count = (np.concatenate(values) for values in zip(*parts, strict=True))
        return EventBlock(pixel, count, self._pointer[start + 1 : stop + 1] - self._pointer[start])

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Frames start, start + step, ... below stop, (n, y, x) uint32; dead pixels are 2^32 - 1."""
        frames = super().read(start, stop, step)
        frames.reshape(-1, self._num_pixels)[:, self._dead] = np.iinfo(np.uint32).max
        return frames

    def find(self, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray) -> FrameEvents:
        """Events of frames [start, stop) on chosen pixels; the dead ones among these are marked."""
        wanted = position[self._dead]
        is_dead[wanted[wanted >= 0]] = True
        return super().find(start, stop, position, is_dead)

    def _group(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        with self._lock:
            if number not in self._groups:
                while len(self._groups) >= _KEPT:
                    self._groups.pop(next(iter(self._groups)))
                with _reading(str(self.where)):
                    self._groups[number] = self._load(*self._bounds[number : number + 2])
            return self._groups[number]

    def _load(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixel and count of the events of frames [start, stop), frame by frame."""
        from ainerd_hpc.kernels.event_frames import pick_frames

        free = self._pointer[start:stop] - self._pointer[start]
        size = int(self._pointer[stop] - self._pointer[start])
        out = np.empty(size, dtype=np.int32), np.empty(size, dtype=np.uint32)
        for first in range(0, int(self._pixel_pointer[-1]), _EVENTS_AT_A_TIME):
            time, count = self._read(self._time, first, np.int32), self._read(self._count, first, np.uint32)
            pick_frames(time, count, first, self._pixel_pointer, int(start), free, out)
        return out


def _cut(pointer: np.ndarray, most: int) -> list[int]:
    """Bounds of groups of frames with at most so many events, or of single frames with more."""
    bounds = [0]
    while bounds[-1] < len(pointer) - 1:
        last = int(np.searchsorted(pointer, pointer[bounds[-1]] + most, side="right")) - 1
        bounds.append(max(last, bounds[-1] + 1))
    return bounds


def _metadata(documents: Documents) -> Metadata:
    """What the attributes of a product of ours say."""
    attributes = _attributes(documents)
    known = Metadata(frame_time=float(attributes.get("frame_time", nan)))
    if known.has_frame_time and not 0.0 < known.frame_time < inf:
        raise ValueError(f"expected a frame_time above 0 s, found {known.frame_time}")
    return known


def _event_shape(path: Path, documents: Documents) -> tuple[int, int, int]:
    """Frames, rows and columns of a product that holds events; its archive knows what it does not say itself."""
    attributes = _attributes(documents)
    frames = int(attributes["num_frames"])
    height, width = (int(attributes.get(name, 0)) for name in ("height", "width"))
    if not height:
        height, width = _rows_and_columns(path, str(attributes.get("scan_id")))
    (num_pointers,) = _checked(documents, "pixel_pointer", 1).shape
    is_frame = height > 0 and width > 0 and height * width == num_pointers - 1
    if not (is_frame and 0 < frames <= _MOST_FRAMES and height * width <= _MOST_PIXELS):
        problem = f"expected frames of {num_pointers - 1} pixels, found {(frames, height, width)}"
        raise ScanError(str(path), problem, "leave the file in its archive, whose catalog says how many rows it has")
    return frames, height, width


def _rows_and_columns(path: Path, scan_id: str) -> tuple[int, int]:
    """As the catalog of the archive has them; 0 where there is none."""
    from ainerd_hpc.tables import read_table

    catalog = path.parent.parent / "catalog.parquet"
    if not catalog.is_file():
        return 0, 0
    table = read_table(catalog, ["scan_id", "height", "width"])
    rows = table[table["scan_id"] == scan_id]
    return (int(rows["height"].iloc[0]), int(rows["width"].iloc[0])) if len(rows) else (0, 0)


class _Layout(NamedTuple):
    """Of an array of numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...]


def _checked(documents: Documents, dataset: str, dimensions: int) -> _Layout:
    """The layout of an array that is safe to read: numbers, in known codecs, in chunks that fit into memory."""
    document = _found(documents, dataset)
    shape, dtype, is_new = _shape(document), _dtype(document), document["zarr_format"] == 3
    outer = document["chunk_grid"]["configuration"]["chunk_shape"] if is_new else document["chunks"]
    codecs = document["codecs"] if is_new else [document["compressor"], *(document["filters"] or [])]
    unknown = set(_codec_names(codecs)) - _CODECS
    if unknown:
        raise ValueError(f"expected codecs that are safe, found {', '.join(sorted(unknown))}")
    inner = next((codec["configuration"]["chunk_shape"] for codec in codecs if _is_sharding(codec)), outer)
    if len(shape) != dimensions or dtype.kind not in "uif" or not len(shape) == len(inner) == len(outer):
        raise ValueError(f"expected numbers in {dimensions} dimensions, found {dtype} {shape} in chunks of {inner}")
    if (dimensions == 3 and 0 in shape) or min(*inner, *outer) < 1:
        raise ValueError(f"expected frames, found {shape} in chunks of {inner}")
    num_chunks = prod(-(-size // chunk) for size, chunk in zip(shape[1:], inner[1:], strict=True))
    largest = max(prod(inner), prod(shape[1:])) * dtype.itemsize
    if largest > _LARGEST_CHUNK or num_chunks > _MOST_CHUNKS:
        raise ValueError(f"expected frames in some chunks below 2 GiB, found {shape} in chunks of {inner}")
    return _Layout(shape, dtype, tuple(inner))


def _is_sharding(codec: Any) -> bool:
    return isinstance(codec, dict) and codec.get("name") == "sharding_indexed"


def _codec_names(codecs: Any) -> Iterator[str]:
    for codec in codecs:
        if codec is not None:
            yield str(codec.get("name", codec.get("id"))).removeprefix("numcodecs.")
            inside = codec.get("configuration") or {}
            yield from _codec_names([*inside.get("codecs", []), *inside.get("index_codecs", [])])


def _found(documents: Documents, dataset: str) -> dict[str, Any]:
    """The document of an array."""
    for document in map(documents, _names(dataset)):
        if "shape" in document and document.get("zarr_format") in (2, 3):
            return document
    raise ValueError(f"expected an array {dataset!r} of version 2 or 3, found none")


def _shape(document: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in document["shape"])


def _dtype(document: Mapping[str, Any]) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(document["data_type"] if document["zarr_format"] == 3 else document["dtype"])
    return dtype


def _names(dataset: str) -> tuple[str, str]:
    """Of the documents that tell of an array, in version 3 and 2."""
    return f"{dataset}/zarr.json".lstrip("/"), f"{dataset}/.zarray".lstrip("/")


def _attributes(documents: Documents) -> dict[str, Any]:
    """Of a group of ours."""
    found = documents("zarr.json").get("attributes")
    return found if isinstance(found, dict) else {}


def _array(store: Any, dataset: str, layout: _Layout) -> Any:
    """A zarr.Array, which has to be what its document said (zarr's own types do not promise what indexing gives)."""
    found = zarr.open_array(store, path=dataset, mode="r")
    if (found.shape, found.dtype) != (layout.shape, layout.dtype):
        raise ValueError(f"expected {layout.dtype} {layout.shape}, found {found.dtype} {found.shape}")
    return found


def _is_store(file: SourceFile) -> bool:
    return file.head.startswith(_ZIP_MAGIC) or (not file.head and file.path.is_dir())


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Documents, Any]]:
    with ExitStack() as stack:
        with _reading(str(path)):
            documents = stack.enter_context(_documents(path))
            store: Any = LocalStore(path, read_only=True) if path.is_dir() else ZipStore(path, mode="r")
        stack.callback(_close, store)
        yield documents, store


def _close(store: Any) -> None:
    with suppress(AttributeError):  # it was never used
        store.close()


@contextmanager
def _documents(path: Path) -> Iterator[Documents]:
    """The metadata documents of a store, none of them longer than one of an array can be."""
    if path.is_dir():
        yield lambda name: _document((path / name).open, "rb") if (path / name).is_file() else {}
        return
    with zipfile.ZipFile(path) as file:
        known = set(file.namelist())
        yield lambda name: _document(file.open, name) if name in known else {}


def _document(opener: Callable[[str], IO[bytes]], argument: str) -> dict[str, Any]:
    with opener(argument) as file:
        text = file.read(_LARGEST_DOCUMENT + 1)
    found = json.loads(text)
    if len(text) > _LARGEST_DOCUMENT or not isinstance(found, dict):
        raise ValueError("expected a document of Zarr, found another one")
    return found


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Turn what goes wrong into a ScanError that says where."""
    try:
        yield
    except AinerdError as error:
        raise (error if isinstance(error, ScanError) else ScanError(where, str(error), NEXT_STEP)) from None
    except Exception as error:  # Zarr, its codecs and its metadata fail in any way
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        raise ScanError(where, f"cannot read it: {reason}", NEXT_STEP) from None
