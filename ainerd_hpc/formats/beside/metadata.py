"""The APS metadata file of a scan, `/entry/...`: one beside each raw file, paired by exact name, never by folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import h5py

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.description import Metadata
from ainerd_hpc.formats.hdf5.quantities import beam_center, quantity, unit_of
from ainerd_hpc.formats.hdf5.reading import get_dataset, get_inner, number, reading, route, text
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.formats.units import in_common_unit

_SCHEMA = "entry/schema_version"
_NOT_METADATA = ("entry/data/data", "xpcs")
"""Raw files and results hold the whole of a metadata file, too."""
_DETECTOR = "entry/instrument/detector_1"
_FRAME_TIME = f"{_DETECTOR}/frame_time"


def is_metadata(file: SourceFile) -> bool:
    """Whether the file is HDF5 with `/entry/schema_version` and nothing measured."""
    hdf5 = file.hdf5
    if hdf5 is None or get_inner(hdf5, _SCHEMA) is None:
        return False
    return not any(route(hdf5, name).is_found for name in _NOT_METADATA)


def find_metadata(path: Path, stem: str) -> Path | None:
    """The metadata file of this very scan, if there is one."""
    for suffix in (".hdf", ".h5", ".hdf5"):
        candidate = path.with_name(f"{stem}_metadata{suffix}")
        if candidate.is_file():
            with SourceFile(candidate) as file:
                if file.hdf5 is None or get_inner(file.hdf5, _SCHEMA) is not None:
                    return candidate
    return None


def read_metadata(path: Path) -> Metadata:
    """What a metadata file says.

    Raises
    ------
    ScanError
        It is damaged, or a value has another type than the layout says.
    """
    with SourceFile(path) as file:
        return metadata_of(file.need_hdf5())


def metadata_of(file: h5py.File) -> Metadata:
    """What `/entry` says, in a metadata file or in a result that holds a copy of one.

    Raises
    ------
    ScanError
        A value has another type than the layout says, or a unit that is not known; or the frame period is not above 0.
    """
    with reading(str(file.filename)):
        start, pixel_size = text(file, "entry/start_time"), quantity(file, f"{_DETECTOR}/x_pixel_size", "m")
        x, y = (beam_center(file, f"{_DETECTOR}/beam_center_{axis}", pixel_size) for axis in "xy")
        found = Metadata(
            frame_time=quantity(file, _FRAME_TIME, "s"),
            count_time=quantity(file, f"{_DETECTOR}/count_time", "s"),
            start_time=epoch(start) if start else float("nan"),
            energy=quantity(file, "entry/instrument/incident_beam/incident_energy", "keV"),
            distance=quantity(file, f"{_DETECTOR}/distance", "m"),
            pixel_size=pixel_size,
            beam_center_x=x,
            beam_center_y=y,
            detector=text(file, f"{_DETECTOR}/description") or text(file, f"{_DETECTOR}/model"),
            num_frames=_num_frames(file),
            sample=_numbers(file, "entry/sample"),
        )
    if route(file, _FRAME_TIME).is_found:
        step = "correct it, or set source.frame_time and take this file away"
        check_period(found.frame_time, f"{file.filename}:/{_FRAME_TIME}", step)
    return found


def check_period(seconds: float, where: str, next_step: str = "correct it, or set source.frame_time") -> None:
    """Refuse a frame period that cannot be one.

    Raises
    ------
    ScanError
        It is not above 0, or not finite.
    """
    if not 0.0 < seconds < float("inf"):
        raise ScanError(where, f"expected a period above 0 s, found {seconds}", next_step)


def epoch(moment: str) -> float:
    """An ISO date as s, UTC epoch; without a zone it is taken as UTC."""
    date = datetime.fromisoformat(moment)
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _num_frames(file: h5py.File) -> int:
    """The number of frames that the run engine noted; 0 where it did not."""
    found = number(file, "entry/instrument/bluesky/metadata/num_capture")
    return int(found) if found > 0 else 0


def _numbers(file: h5py.File, name: str) -> dict[str, float]:
    """All single numbers of a group, in the common unit of their kind."""
    group = get_inner(file, name)
    if not isinstance(group, h5py.Group):
        return {}
    found = {key: get_dataset(file, f"{name}/{key}") for key in sorted(group)}
    return {
        key: in_common_unit(float(item[()]), unit_of(item))
        for key, item in found.items()
        if item is not None and item.shape == () and item.dtype.kind in "uif"
    }
