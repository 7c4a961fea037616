"""Raw frames in today's APS layout: HDF5 with `/entry/data/data` (t, y, x), and a metadata file beside it.

The metadata of `scan.h5` is `scan_metadata.hdf` (or .h5, .hdf5), paired by exact name, never by folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.description import Description
from ainerd_hpc.formats.frames import Hdf5Frames
from ainerd_hpc.formats.partition import Geometry
from ainerd_hpc.types import Content

_FRAMES = "entry/data/data"
_SCHEMA = "entry/schema_version"
_RESULTS = "xpcs"
_READ_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError)
_NEXT_STEP = "copy the file again from where it was measured, or take it out of the source folder"


class ApsHdf5:
    """Reader of raw HDF5 frames."""

    name = "aps-hdf5"
    content = Content.FRAMES

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether the file is HDF5 with a 3-D `/entry/data/data`; False if it cannot be opened."""
        try:
            with h5py.File(path, "r") as file:
                frames = file.get(_FRAMES)
                return isinstance(frames, h5py.Dataset) and frames.ndim == 3
        except _READ_ERRORS:
            return False

    @staticmethod
    def is_metadata(path: Path) -> bool:
        """Whether the file is HDF5 with `/entry/schema_version` and nothing measured; False if it cannot be opened.

        Result files (`/xpcs`) are no metadata files, though boost_corr copies the whole of one into them.
        """
        try:
            with h5py.File(path, "r") as file:
                return _SCHEMA in file and _FRAMES not in file and _RESULTS not in file
        except _READ_ERRORS:
            return False

    @staticmethod
    def describe(path: Path) -> Description:
        """Shape, times and companions of a scan; no frame is read.

        Raises
        ------
        ScanError
            The raw file or its metadata file is damaged, or a field has another type than the layout says.
        """
        with _reading(f"{path}:/{_FRAMES}"), h5py.File(path, "r") as file:
            frames = file[_FRAMES]
            shape, dtype = frames.shape, frames.dtype
            simulated = bool(file.attrs.get("simulated", False))
        if len(shape) != 3 or 0 in shape or dtype.kind not in "uif":
            problem = f"expected counts (t, y, x), found {dtype} {shape}"
            raise ScanError(f"{path}:/{_FRAMES}", problem, "check that this is a raw detector file")
        metadata = _find_metadata(path)
        frame_time, start_time = _times(metadata) if metadata else (None, float("nan"))
        return Description(
            num_frames=shape[0],
            itemsize=dtype.itemsize,
            height=shape[1],
            width=shape[2],
            frame_time=frame_time,
            start_time=start_time,
            simulated=simulated,
            companions=(metadata,) if metadata else (),
        )

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[ApsFrames]:
        """The frames of a scan, to be read block by block.

        Raises
        ------
        ScanError
            The file cannot be opened.
        """
        with _reading(f"{path}:/{_FRAMES}"):
            file = h5py.File(path, "r")
        with file:
            yield ApsFrames(path, file)


class ApsFrames:
    """Frames of an open file; any number of threads may read."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self._where = f"{path}:/{_FRAMES}"
        with _reading(self._where):
            self._frames = Hdf5Frames(file[_FRAMES])
        self.shape, self.dtype, self.per_chunk = self._frames.shape, self._frames.dtype, self._frames.per_chunk

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Frames start, start + step, ... below stop, (n, y, x), in native byte order.

        Raises
        ------
        ScanError
            Naming the frames that cannot be read.
        """
        with _reading(f"{self._where} frames {start}..{stop - 1}"):
            return self._frames.read(start, stop, step)


def check_hdf5(path: Path) -> None:
    """Open an HDF5 file and everything in it.

    Raises
    ------
    ScanError
        It is truncated, empty, unreadable, or not HDF5.
    """
    with _reading(str(path)), h5py.File(path, "r") as file:
        file.visititems(lambda name, item: None)


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


@contextmanager
def _reading(where: str) -> Iterator[None]:
    try:
        yield
    except _READ_ERRORS as error:
        raise ScanError(where, f"cannot read it: {' '.join(str(error).split())}", _NEXT_STEP) from None


def _find_metadata(path: Path) -> Path | None:
    """The metadata file of this very scan, if there is one with a schema version."""
    for suffix in (".hdf", ".h5", ".hdf5"):
        candidate = path.with_name(f"{path.stem}_metadata{suffix}")
        if not candidate.is_file():
            continue
        with _reading(str(candidate)), h5py.File(candidate, "r") as file:
            if _SCHEMA in file:
                return candidate
    return None


def _times(metadata: Path) -> tuple[float | None, float]:
    """Frame period, s, or None; start, s UTC epoch (a date without a zone is taken as UTC), or nan."""
    with _reading(str(metadata)), h5py.File(metadata, "r") as file:
        period = file.get("entry/instrument/detector_1/frame_time")
        frame_time = None if period is None else float(np.asarray(period[()]).item())
        start = file.get("entry/start_time")
        start_time = float("nan") if start is None else _epoch(np.asarray(start[()]).item())
    if frame_time is not None and not 0.0 < frame_time < float("inf"):
        where = f"{metadata}:/entry/instrument/detector_1/frame_time"
        raise ScanError(
            where, f"expected a period above 0 s, found {frame_time}", "correct it, or set source.frame_time"
        )
    return frame_time, start_time


def _epoch(text: bytes | str) -> float:
    moment = datetime.fromisoformat(text.decode() if isinstance(text, bytes) else text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
