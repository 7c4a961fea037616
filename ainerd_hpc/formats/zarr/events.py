"""Events of a product of ours: by pixel, in one Zarr store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.detector_pixels import DetectorPixels
from ainerd_hpc.formats.events.blocks import EventsByPixel, group_bytes
from ainerd_hpc.formats.hdf5.reading import MOST_PIXELS, NEXT_STEP
from ainerd_hpc.formats.missing import NOTHING, Missing
from ainerd_hpc.formats.zarr.stores import Documents, attributes_of, open_array, read_layout, reading_store

if TYPE_CHECKING:
    from ainerd_hpc.kernels.gather import FrameEvents

_MOST_FRAMES = 2**31
_SPAN = 2**22
"""Events that are read at a time."""


class ZarrEvents(EventsByPixel):
    """Frames of a product that holds events; any number of threads may read.

    Parameters
    ----------
    path : Path
        Of the product, or a copy of it.
    documents, store
        As of `zarr_stores.open_store`.

    Raises
    ------
    ScanError
        The product is damaged, nothing says how many rows and columns its frames have, or its events make no sense.
    """

    most = 2**23
    missing: Missing = NOTHING

    def __init__(self, path: Path, documents: Documents, store: Any) -> None:
        with reading_store(str(path)):
            shape = event_shape(path, documents)
            layouts = {
                name: read_layout(documents, name, 1) for name in ("pixel_pointer", "dead_pixels", "time", "count")
            }
            arrays = {name: open_array(store, name, layout) for name, layout in layouts.items()}
            stored = _Stored(str(path), arrays["time"], arrays["count"])
            pointer, self._dead = (np.asarray(arrays[name][...], np.int64) for name in ("pixel_pointer", "dead_pixels"))
            _check_pointer(f"{path}:/pixel_pointer", pointer, layouts["time"].shape[0], layouts["count"].shape[0])
            _check_dead(f"{path}:/dead_pixels", self._dead, shape[1] * shape[2])
            super().__init__(str(path), shape, pointer, stored)
            self.pixels = DetectorPixels()

    def _load(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        with reading_store(self.where):
            return super()._load(start, stop)

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        frames = super().read(start, stop, step)
        frames.reshape(-1, self._num_pixels)[:, self._dead] = np.iinfo(np.uint32).max
        return frames

    def find(self, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray) -> FrameEvents | None:
        wanted = position[self._dead]
        is_dead[wanted[wanted >= 0]] = True
        return super().find(start, stop, position, is_dead)


class _Stored(NamedTuple):
    """The events as they are in the store."""

    where: str
    time: Any
    count: Any

    def spans(self) -> Iterator[tuple[int, int]]:
        size = self.time.shape[0]
        for first in range(0, size, _SPAN):
            yield first, min(first + _SPAN, size)

    def read_index(self, first: int, last: int) -> np.ndarray:
        return np.asarray(self.time[first:last]).astype(np.int32)

    def read_count(self, first: int, last: int) -> np.ndarray:
        return np.asarray(self.count[first:last]).astype(np.uint32)

    def refuse_time(self, event: int, num_frames: int) -> NoReturn:
        problem = f"expected times 0..{num_frames - 1}, found another at event {event}"
        raise ScanError(f"{self.where}:/time", problem, NEXT_STEP)


def _check_pointer(where: str, pointer: np.ndarray, num_times: int, num_counts: int) -> None:
    if pointer[0] != 0 or (np.diff(pointer) < 0).any() or not pointer[-1] == num_times == num_counts:
        problem = f"expected ascending pointers from 0 to {num_times}, found {pointer[0]} to {pointer[-1]}"
        raise ScanError(where, problem, NEXT_STEP)


def _check_dead(where: str, dead: np.ndarray, num_pixels: int) -> None:
    if ((dead < 0) | (dead >= num_pixels)).any():
        problem = f"expected pixels 0..{num_pixels - 1}, found {dead.min()}..{dead.max()}"
        raise ScanError(where, problem, NEXT_STEP)


def event_sizes(documents: Documents, shape: tuple[int, int, int]) -> dict[str, int]:
    """Number of events, and memory of their reader: groups of them, what of them is read at a time, the pointers."""
    (num,) = read_layout(documents, "time", 1).shape
    read = 32 * min(num, _SPAN) + 32 * (shape[0] + shape[1] * shape[2])
    return {"num_events": num, "reader_bytes": group_bytes(num, ZarrEvents.most) + read}


def event_shape(path: Path, documents: Documents) -> tuple[int, int, int]:
    """Frames, rows and columns of a product that holds events.

    Raises
    ------
    ScanError
        It does not say them, or they do not fit the events.
    """
    attributes = attributes_of(documents)
    frames = int(attributes["num_frames"])
    height, width = (int(attributes.get(name, 0)) for name in ("height", "width"))
    (num_pointers,) = read_layout(documents, "pixel_pointer", 1).shape
    is_frame = height > 0 and width > 0 and height * width == num_pointers - 1
    if not (is_frame and 0 < frames <= _MOST_FRAMES and height * width <= MOST_PIXELS):
        problem = f"expected frames of {num_pointers - 1} pixels, found {(frames, height, width)}"
        raise ScanError(str(path), problem, "ingest the scan again")
    return frames, height, width
