"""Raw frames in today's APS layout: HDF5 with `/entry/data/data` (t, y, x), and a metadata file beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import hdf5plugin
import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.description import Description
from ainerd_hpc.formats.hdf5.frames import Hdf5Frames, num_written
from ainerd_hpc.formats.hdf5.reading import need_dataset, open_hdf5, reading, route
from ainerd_hpc.formats.opening import READ_ERRORS
from ainerd_hpc.formats.partitions.partition import Geometry
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.types import Content

if TYPE_CHECKING:
    from ainerd_hpc.kernels.gather import FrameEvents

_FRAMES = "entry/data/data"


class ApsHdf5:
    """Reader of raw HDF5 frames."""

    name = "aps-hdf5"
    content = Content.FRAMES

    @staticmethod
    def matches(file: SourceFile) -> bool:
        """Whether the file is HDF5 with a 3-D `/entry/data/data`, or a link to another file in its place."""
        try:
            place, link = route(file.hdf5, _FRAMES) if file.hdf5 else ("", "")
            if link:
                return True  # `describe` tells where it may not lead
            frames = file.hdf5.get(place) if file.hdf5 and place else None
            return isinstance(frames, h5py.Dataset) and frames.ndim == 3
        except READ_ERRORS:
            return False

    @staticmethod
    def describe(file: SourceFile) -> Description:
        """Shape of a scan; no frame is read.

        Raises
        ------
        ScanError
            The file is damaged, or holds no counts.
        """
        where = f"{file.path}:/{_FRAMES}"
        assert file.hdf5 is not None
        with reading(where):
            frames = need_dataset(file.hdf5, _FRAMES)
            shape, dtype, written = frames.shape, frames.dtype, num_written(frames)
            simulated = bool(file.hdf5.attrs.get("simulated", False))
        if len(shape) != 3 or 0 in shape or dtype.kind not in "uif":
            problem = f"expected counts (t, y, x), found {dtype} {shape}"
            raise ScanError(where, problem, "check that this is a raw detector file")
        if written < shape[0]:
            problem = f"expected {shape[0]} frames, found {written} that were written"
            raise ScanError(where, problem, "wait until it is finished, or copy it again from where it was measured")
        return Description(shape[0], dtype.itemsize, shape[1], shape[2], simulated=simulated)

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[ApsFrames]:
        """The frames of a scan, to be read block by block.

        Raises
        ------
        ScanError
            The file cannot be opened.
        """
        with open_hdf5(path) as file:
            yield ApsFrames(path, file)


class ApsFrames:
    """Frames of an open file; any number of threads may read."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self._where = f"{path}:/{_FRAMES}"
        with reading(self._where):
            self._frames = Hdf5Frames(need_dataset(file, _FRAMES))
        self.shape, self.dtype, self.per_chunk = self._frames.shape, self._frames.dtype, self._frames.per_chunk

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Frames start, start + step, ... below stop, (n, y, x), in native byte order.

        Raises
        ------
        ScanError
            Naming the frames that cannot be read.
        """
        with reading(f"{self._where} frames {start}..{stop - 1}"):
            return self._frames.read(start, stop, step)

    def find(self, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray) -> FrameEvents | None:
        """Events of frames [start, stop); None where they have to be read as frames."""
        with reading(f"{self._where} frames {start}..{stop - 1}"):
            return self._frames.find(start, stop, position, is_dead)


def write_raw(path: Path, frames: np.ndarray, *, simulated: bool) -> None:
    """Write counts (t, y, x) uint16 as `/entry/data/data`: a frame a chunk, bitshuffle/LZ4; same input, same bytes."""
    with h5py.File(path, "w") as file:
        file.attrs["simulated"] = simulated
        data = file.create_group("entry").create_group("data")
        data.create_dataset(
            "data",
            data=frames,
            chunks=(1, *frames.shape[1:]),
            track_times=False,
            **hdf5plugin.Bitshuffle(cname="lz4"),
        )


def write_metadata(
    path: Path,
    *,
    start_time: float,
    frame_time: float,
    count_time: float,
    geometry: Geometry,
    sample: Mapping[str, tuple[float, str]],
    simulated: bool,
    description: str,
) -> None:
    """Write the metadata file of one scan; the same input gives the same bytes.

    Parameters
    ----------
    start_time : float
        s, UTC epoch.
    frame_time, count_time : float
        Frame period and exposure, s.
    sample : mapping
        Quantities of the sample at the start, name -> (value, unit).
    """
    start = datetime.fromtimestamp(start_time, UTC).isoformat(timespec="milliseconds")
    detector = {
        "frame_time": (frame_time, "s"),
        "count_time": (count_time, "s"),
        "x_pixel_size": (geometry.pixel_size, "m"),
        "y_pixel_size": (geometry.pixel_size, "m"),
        "distance": (geometry.distance, "m"),
        "beam_center_x": (geometry.beam_center_x, "pixel"),
        "beam_center_y": (geometry.beam_center_y, "pixel"),
    }
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        texts = {"schema_version": "1.0", "start_time": start, "description": description}
        for name, value in {**texts, "simulated": simulated}.items():
            entry.create_dataset(name, data=value, track_times=False)
        _write_quantities(entry, "instrument/incident_beam", {"incident_energy": (geometry.energy, "keV")})
        _write_quantities(entry, "instrument/detector_1", detector)
        _write_quantities(entry, "sample", sample)


def _write_quantities(entry: h5py.Group, group: str, quantities: Mapping[str, tuple[float, str]]) -> None:
    for name, (value, unit) in quantities.items():
        dataset = entry.create_dataset(f"{group}/{name}", data=float(value), track_times=False)
        dataset.attrs["units"] = unit
