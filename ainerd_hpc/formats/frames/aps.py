"""Raw frames in today's APS layout: HDF5 with `/entry/data/data` (t, y, x), and a metadata file beside it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.hdf5.detector import detector_groups
from ainerd_hpc.formats.hdf5.frame_numbers import describe_numbered, open_numbered
from ainerd_hpc.formats.hdf5.reading import get_inner, open_hdf5, reading, route
from ainerd_hpc.formats.partitions.partition import Geometry
from ainerd_hpc.formats.reader import Frames
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.types import Content

_FRAMES = "entry/data/data"


class ApsHdf5:
    """Reader of raw HDF5 frames."""

    name = "aps-hdf5"
    content = Content.FRAMES

    @staticmethod
    def matches(file: SourceFile) -> bool:
        return file.holds(_has_frames)

    @staticmethod
    def describe(file: SourceFile) -> Description:
        hdf5 = file.need_hdf5()
        with reading(f"{file.path}:/{_FRAMES}"):
            simulated, groups = bool(hdf5.attrs.get("simulated", False)), detector_groups(hdf5, "entry")
        return replace(describe_numbered(file.path, _FRAMES, Metadata(), groups), simulated=simulated)

    @staticmethod
    def open(path: Path, threshold: int = 1) -> AbstractContextManager[Frames]:
        with open_hdf5(path) as file, reading(f"{path}:/{_FRAMES}"):
            groups = detector_groups(file, "entry")
        return open_numbered(path, [_FRAMES], groups, threshold)


def _has_frames(file: h5py.File) -> bool:
    """Whether there are frames, or a link to another file in their place: `describe` tells where it may not lead."""
    way = route(file, _FRAMES)
    frames = get_inner(file, way.place)
    return bool(way.link) or (isinstance(frames, h5py.Dataset) and _are_counts(frames))


def _are_counts(frames: h5py.Dataset) -> bool:
    """Whether a dataset is of frames, or a single frame; of numbers with a fraction, that would be any map."""
    return frames.ndim in (3, 4) or (frames.ndim == 2 and frames.dtype.kind in "ui")


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
