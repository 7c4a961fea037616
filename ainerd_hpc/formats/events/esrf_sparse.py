"""Sparse HDF5 files of the ESRF, in the two layouts that xpcs-correlator reads, in the root or in any group.

By frame (CSR): `intensity`, `pixel_index` (n,) and `frame_pointer` (t + 1,); by pixel (CSC): `intensity`, `time_index`
(n,) and `pixel_pointer` (y x + 1,), whose arrays may be virtual, with the data in other files. The attribute
`frames_shape` (t, y, x), of the group or of the file, tells the shape. xpcs-correlator writes it into its CSC files;
files of other origin may lack it, and nothing else tells rows from columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn

import h5py
import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.description import Description
from ainerd_hpc.formats.events.blocks import EventFrames, EventsByPixel, GroupedEvents, group_bytes
from ainerd_hpc.formats.hdf5.chunks import read_rows
from ainerd_hpc.formats.hdf5.reading import MOST_PIXELS, NEXT_STEP, check_inside, need_dataset, open_hdf5, reading
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.kernels.no_counts import first_dead
from ainerd_hpc.types import Content

_BY_FRAME = ("intensity", "pixel_index", "frame_pointer")
_BY_PIXEL = ("intensity", "time_index", "pixel_pointer")
_SHAPE = "frames_shape"
_MOST_FRAMES = 2**24
_MOST_CHUNK = 2**28
"""Bytes of a chunk, which HDF5 decodes as a whole."""
_SPAN = 2**20
"""Events by pixel that are read at a time."""


class EsrfSparse:
    """Reader of sparse HDF5 files, by frame or by pixel."""

    name = "esrf-sparse"
    content = Content.FRAMES

    @staticmethod
    def matches(file: SourceFile) -> bool:
        return file.holds(_find_layout)

    @staticmethod
    def describe(file: SourceFile) -> Description:
        with reading(str(file.path)):
            arrays = _Arrays.of(file.need_hdf5())
            companions = {path for one in arrays[:3] for path in _sources(one)} - {file.path}
        num_frames, height, width = arrays.shape
        return Description(
            num_frames,
            EventFrames.dtype.itemsize,
            height,
            width,
            num_events=int(arrays.index.size),
            reader_bytes=arrays.reader_bytes,
            companions=tuple(sorted(companions)),
        )

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[EventFrames]:
        """The frames of a scan.

        Events by frame are read in groups of frames with 4 million events, of which two are in memory (70 MB), with
        the pointer (8 bytes a frame). Events by pixel are sorted by frame out of core: all times are read once to
        count the events of each frame, then the whole file once more for each group of frames with 17 million events,
        of which two are in memory (270 MB), with the pointer (8 bytes a pixel) and the counts (8 bytes a frame).
        """
        with open_hdf5(path) as file:
            with reading(str(path)):
                arrays = _Arrays.of(file)
                build = EventsByPixel if arrays.is_by_pixel else _ByFrame
                frames = build(str(path), arrays.shape, arrays.read_pointer(), arrays)
            yield frames


class _Arrays(NamedTuple):
    """The datasets of one of the layouts, which fit each other."""

    intensity: h5py.Dataset
    index: h5py.Dataset
    """Pixel or time of each event."""
    pointer: h5py.Dataset
    is_by_pixel: bool
    shape: tuple[int, int, int]

    @staticmethod
    def of(file: h5py.File) -> _Arrays:
        layout = _find_layout(file)
        if layout is None:
            problem = f"expected datasets {', '.join(_BY_FRAME)} or {', '.join(_BY_PIXEL)}, found neither"
            raise ScanError(str(file.filename), problem, NEXT_STEP)
        group, names = layout
        intensity, index, pointer = (need_dataset(file, f"{group}/{name}") for name in names)
        shape = _frames_shape(file, group)
        for dataset in (intensity, index, pointer):
            _check_stored(dataset)
        is_by_pixel = names == _BY_PIXEL
        needed = (shape[1] * shape[2] if is_by_pixel else shape[0]) + 1
        if pointer.size != needed or index.size != intensity.size:
            problem = (
                f"expected {needed} values of {names[2]} for frames of {shape} and as many of {names[1]} as of "
                f"intensity, found {pointer.size}, {index.size} and {intensity.size}"
            )
            raise ScanError(f"{file.filename}:/{group}", problem, NEXT_STEP)
        arrays = _Arrays(intensity, index, pointer, is_by_pixel, shape)
        if (pointer[0], pointer[-1]) != (0, index.size):
            arrays.refuse_pointer()
        return arrays

    @property
    def reader_bytes(self) -> int:
        """Groups of events; what of them is read at a time, in the types of the file and in ours; the pointers."""
        num_events, most = int(self.index.size), EventsByPixel.most if self.is_by_pixel else _ByFrame.most
        chunk = self.index.chunks[0] if self.index.chunks else 1
        read = 32 * min(num_events, max(_SPAN, chunk) if self.is_by_pixel else most)
        return group_bytes(num_events, most) + read + 32 * (int(self.pointer.size) + self.shape[0])

    def read_pointer(self) -> np.ndarray:
        """The pointer, int64."""
        pointer = np.asarray(read_rows(self.pointer).astype(np.int64))
        if (np.diff(pointer) < 0).any():
            self.refuse_pointer()
        return pointer

    def refuse_pointer(self) -> NoReturn:
        found = f"found {self.pointer[0]} to {self.pointer[-1]}"
        problem = f"expected ascending numbers from 0 to {self.index.size}, {found}"
        raise ScanError(f"{self.pointer.file.filename}:{self.pointer.name}", problem, NEXT_STEP)

    def refuse_time(self, event: int, num_frames: int) -> NoReturn:
        problem = f"expected times 0..{num_frames - 1}, found {self.index[event]}"
        raise ScanError(f"{self.index.file.filename}:{self.index.name} event {event}", problem, NEXT_STEP)

    def read_count(self, first: int, last: int) -> np.ndarray:
        """Intensities of events [first, last) as uint32; those that are none as the value of dead pixels."""
        from ainerd_hpc.kernels.event_frames import DEAD

        values = read_rows(self.intensity, first, last)
        count = np.asarray(values.astype(np.uint32))
        count[(values < 0) | (values >= min(first_dead(values.dtype), DEAD))] = DEAD
        return count

    def read_index(self, first: int, last: int) -> np.ndarray:
        """Pixels or times of events [first, last), int32; -1 where they do not fit into it."""
        values = read_rows(self.index, first, last)
        index = np.asarray(values.astype(np.int32))
        index[(values < 0) | (values >= 2**31)] = -1
        return index

    def spans(self) -> Iterator[tuple[int, int]]:
        """All events, in ranges of whole chunks that are read together."""
        chunk = self.index.chunks[0] if self.index.chunks else 1
        step = -(-_SPAN // chunk) * chunk
        for first in range(0, self.index.size, step):
            yield first, min(first + step, self.index.size)


class _ByFrame(GroupedEvents):
    most = 2**22

    def __init__(self, where: str, shape: tuple[int, int, int], pointer: np.ndarray, arrays: _Arrays) -> None:
        super().__init__(where, shape, pointer)
        self._arrays = arrays

    def _load(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        first, last = int(self._pointer[start]), int(self._pointer[stop])
        return self._arrays.read_index(first, last), self._arrays.read_count(first, last)


def _find_layout(file: h5py.File) -> tuple[str, tuple[str, str, str]] | None:
    """The group that holds the datasets of a layout, and their names; no link is followed."""
    if found := _layout_of(file, ""):
        return found
    groups: list[str] = []
    file.visititems(lambda name, item: groups.append(name) if isinstance(item, h5py.Group) else None)
    return next(filter(None, (_layout_of(file, group) for group in groups)), None)


def _layout_of(file: h5py.File, group: str) -> tuple[str, tuple[str, str, str]] | None:
    for names in (_BY_FRAME, _BY_PIXEL):
        if all(file.get(f"{group}/{name}", getlink=True) is not None for name in names):
            return group, names
    return None


def _frames_shape(file: h5py.File, group: str) -> tuple[int, int, int]:
    found = file[f"/{group}"].attrs.get(_SHAPE, file.attrs.get(_SHAPE))
    shape = np.asarray([] if found is None else found)
    if shape.shape != (3,) or shape.dtype.kind not in "ui":
        problem = f"expected the attribute {_SHAPE} of three integers (t, y, x), found {found}"
        next_step = f"add it with h5py: file.attrs['{_SHAPE}'] = (frames, rows, columns)"
        raise ScanError(f"{file.filename}:/{group}", problem, next_step)
    frames, height, width = (int(size) for size in shape)
    if not (0 < frames <= _MOST_FRAMES and height > 0 and width > 0 and height * width <= MOST_PIXELS):
        problem = f"expected 1 to {_MOST_FRAMES} frames of 1 to {MOST_PIXELS} pixels, found {(frames, height, width)}"
        raise ScanError(f"{file.filename}:/{group}", problem, NEXT_STEP)
    return frames, height, width


def _check_stored(dataset: h5py.Dataset) -> None:
    """Refuse what is no list of integers, or promises more than the file holds: it would be filled up in memory."""
    where = f"{dataset.file.filename}:{dataset.name}"
    if dataset.ndim != 1 or dataset.dtype.kind not in "ui":
        raise ScanError(where, f"expected a list of integers, found {dataset.dtype} {dataset.shape}", NEXT_STEP)
    if dataset.is_virtual:
        _check_virtual(dataset, where)
        return
    chunk = dataset.chunks[0] if dataset.chunks else 0
    if chunk * dataset.dtype.itemsize > _MOST_CHUNK:
        problem = f"expected chunks of at most {_MOST_CHUNK} bytes, found {chunk * dataset.dtype.itemsize}"
        raise ScanError(where, problem, "write it again with smaller chunks")
    stored = dataset.id.get_num_chunks() * chunk if chunk else dataset.id.get_storage_size() // dataset.dtype.itemsize
    if dataset.external or stored < dataset.size:
        raise ScanError(where, f"expected {dataset.size} values in the file, found {stored}", NEXT_STEP)


def _check_virtual(dataset: h5py.Dataset, where: str) -> None:
    mapped = 0
    for source, path in zip(dataset.virtual_sources(), _sources(dataset)[1:], strict=True):
        with open_hdf5(path) as file:
            one = need_dataset(file, source.dset_name)
            if one.is_virtual:
                raise ScanError(where, f"expected sources with data, found the virtual {source.dset_name}", NEXT_STEP)
            _check_stored(one)
            mapped += min(one.size, source.vspace.get_select_npoints())
    if mapped < dataset.size:
        raise ScanError(where, f"expected {dataset.size} values in its sources, found {mapped}", NEXT_STEP)


def _sources(dataset: h5py.Dataset) -> list[Path]:
    """The file of a dataset, and those that it is made of if it is virtual, as often as it names them."""
    path = Path(dataset.file.filename)
    names = [source.file_name for source in dataset.virtual_sources()] if dataset.is_virtual else []
    where = f"{path}:{dataset.name}"
    return [path] + [path if name == "." else check_inside(path.parent, name, where) for name in names]
