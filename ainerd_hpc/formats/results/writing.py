"""What the writers of results share: what the archive holds of one scan, and how it is laid down in HDF5."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import Enum
from math import isnan
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.types import Scan

if TYPE_CHECKING:
    import pandas as pd

_SMALL = 8192
"""Values in an array that is not worth compressing."""
_COMPRESSED: Mapping[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
"""Every HDF5 library can read it."""
UNITS: Mapping[str, str] = {
    **dict.fromkeys(("q_bin", "label", "next_label", "probability", "novelty", "x", "y"), "1"),
    **dict.fromkeys(("age_start", "age_stop"), "frames"),
    **dict.fromkeys(("half_decay", "tau"), "s"),
    "q": "1/angstrom",
}
"""Units of what is said of maps."""
_EDGE = 512
"""Frames along a chunk of C2."""
NUM_SEGMENTS = 5
"""Windows of age for which these formats keep a g2."""
EXTRA = "ainerd_hpc"
"""Group of what a format has no place for."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What the archive holds of one scan after its correlation."""

    scan: Scan
    """The scan as found: frame period and start are those of the file."""
    first_frame: int
    """The frame of the file that was correlated first."""
    stride_frames: int
    average_frames: int
    attributes: Mapping[str, Any]
    """Attributes of the correlation product: options, digests, versions."""
    arrays: Mapping[str, tuple[np.ndarray, tuple[str, ...], Mapping[str, Any]]]
    """name -> (values, dimensions, attributes) of the correlation product, all but C2."""
    partition: Mapping[str, np.ndarray]
    """Arrays of the partition; none where the scan was read from two-time maps."""
    num_q_bins: int
    num_frames: int
    """That were correlated."""
    rows: Callable[[int], Iterator[tuple[int, np.ndarray]]]
    """C2 of a q-bin in blocks of rows: (first row, (rows, t) float32)."""
    maps: pd.DataFrame | None = None
    """A row a map of the scan: where it was cut, its cluster and its latent; None before the archive is clustered."""

    def __getitem__(self, name: str) -> np.ndarray:
        """An array of the correlation product.

        Raises
        ------
        ScanError
            It has none of this name.
        """
        if name not in self.arrays:
            problem = f"expected the array '{name}' in the correlation, found none"
            raise ScanError(f"scan {self.scan.scan_id}", problem, "correlate it again with this version")
        return self.arrays[name][0]

    @property
    def is_of_frames(self) -> bool:
        """Whether it was correlated from counts, so that there are a multi-tau g2 and mean intensities."""
        return "g2_c2" in self.arrays

    @property
    def frame_time(self) -> float:
        """Time between frames as correlated, s."""
        return self.scan.frame_time * self.stride_frames * self.average_frames

    @property
    def start_time(self) -> float:
        """Time of the first frame that was correlated, s."""
        return self.scan.start_time + self.first_frame * self.scan.frame_time

    @property
    def intensity(self) -> np.ndarray:
        """Mean counts of a valid pixel in each frame, (t,)."""
        weight = self["num_pixels"][:, np.newaxis].astype(np.float64)
        mean: np.ndarray = (self["intensity"] * weight).sum(axis=0) / max(1.0, float(weight.sum()))
        return mean


class Lines:
    """Means along the diagonals of C2 from lag 0 on, gathered while its rows pass."""

    def __init__(self, num_frames: int) -> None:
        from ainerd_hpc.kernels import diagonals  # compiled: not for those who only read

        self._kernels = diagonals
        self._length = num_frames // NUM_SEGMENTS
        self._diagonal = np.full(num_frames, np.nan)
        self._whole = self._kernels.empty_sums(num_frames)
        self._segments = self._kernels.empty_sums(num_frames, NUM_SEGMENTS) if self._length else None

    def add(self, start: int, upper: np.ndarray) -> None:
        """Rows of C2 from the diagonal on, `c2[start : start + rows, start:]`."""
        self._diagonal[start : start + len(upper)] = np.diagonal(upper)
        self._kernels.add_tile(upper, start, start, self._whole)
        if self._segments is not None:
            self._kernels.add_tile(upper, start, start, self._segments)

    def whole(self) -> tuple[np.ndarray, np.ndarray]:
        """g2 and its error, (t,)."""
        lag_0 = self._kernels.mean_and_error(self._diagonal[:, np.newaxis])
        g2, g2_err = self._kernels.finish(self._whole)
        return np.append(lag_0[0], g2[0]), np.append(lag_0[1], g2_err[0])

    def segments(self) -> np.ndarray:
        """g2 in windows of age, (t // 5, 5)."""
        if self._segments is None:
            return np.empty((0, NUM_SEGMENTS))
        blocks = self._diagonal[: self._length * NUM_SEGMENTS].reshape(NUM_SEGMENTS, self._length)
        lag_0 = self._kernels.mean_and_error(blocks.T)[0]
        return np.vstack([lag_0, self._kernels.finish(self._segments)[0].T])


def stored(group: h5py.Group, name: str, values: Any, /, **attributes: Any) -> h5py.Dataset:
    """Write one dataset; the same input gives the same bytes."""
    options = _COMPRESSED if np.size(values) > _SMALL else {}
    dataset = group.create_dataset(name, data=values, track_times=False, **options)
    dataset.attrs.update(attributes)
    return dataset


def write_detector(group: h5py.Group, scan: Scan, frame_time: float) -> None:
    """Where the detector of a scan stood, and how it counted: frame_time s; NaN where nothing is known."""
    stored(group, "description", scan.detector)
    for name, value, units in (
        ("frame_time", frame_time, "s"),
        ("count_time", scan.count_time, "s"),
        ("x_pixel_size", scan.pixel_size, "m"),
        ("y_pixel_size", scan.pixel_size, "m"),
        ("distance", scan.distance, "m"),
        ("beam_center_x", scan.beam_center_x, "pixel"),
        ("beam_center_y", scan.beam_center_y, "pixel"),
    ):
        stored(group, name, value, units=units)


def empty_map(group: h5py.Group, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
    """A dataset for maps (..., t, t) that are written in rows; what is never written is 0 and takes no room."""
    chunks = (*(1 for _ in shape[:-2]), *(min(_EDGE, length) for length in shape[-2:]))
    return group.create_dataset(name, shape, np.float32, chunks=chunks, track_times=False, **_COMPRESSED)


def iso_time(seconds: float) -> str:
    """s, UTC epoch, as an ISO date; empty where unknown, or on a clock of its own."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError, OSError):
        return ""


def write_extra(file: h5py.File, result: Result, placed: Collection[str]) -> None:
    """Keep what the format has no place for, and what tells where it all comes from, in `/ainerd_hpc`.

    Parameters
    ----------
    placed : collection of str
        Arrays of the correlation and of the partition that lie elsewhere in the file.
    """
    file.attrs["creator"] = f"ainerd_hpc {result.attributes['ainerd_hpc_version']}"
    scan = {name: value.value if isinstance(value, Enum) else value for name, value in asdict(result.scan).items()}
    file.create_group(f"{EXTRA}/scan").attrs.update(scan)
    correlation = file.create_group(f"{EXTRA}/correlation")
    for name, value in result.attributes.items():
        if isinstance(value, Mapping):
            stored(correlation, name, json.dumps(value, sort_keys=True))
        else:
            correlation.attrs[name] = value
    for name, (values, dims, attributes) in sorted(result.arrays.items()):
        if name not in placed:
            stored(correlation, name, values, dims=list(dims), **attributes)
    for name, values in sorted(result.partition.items()):
        if name not in placed:
            stored(file, f"{EXTRA}/partition/{name}", values)
    if result.maps is not None and len(result.maps):
        _write_maps(file.create_group(f"{EXTRA}/maps"), result.maps)
        _write_maps(file.create_group(f"{EXTRA}/q_bins"), of_q_bins(result.maps, result.num_q_bins))


def of_q_bins(maps: pd.DataFrame, num_q_bins: int) -> pd.DataFrame:
    """The longest of these maps of each q-bin, a row a q-bin; label -1 and NaN where there is none."""
    length = maps["age_stop"] - maps["age_start"]
    longest = maps.loc[length.groupby(maps["q_bin"]).idxmax()].set_index("q_bin").reindex(range(num_q_bins))
    nothing = np.full_like(maps["latent"].iloc[0], np.nan)
    latents: Any = [one if isinstance(one, np.ndarray) else nothing for one in longest["latent"]]
    whole = {name: longest[name].fillna(-1).astype(np.int64) for name in ("label", "age_start", "age_stop")}
    return longest.assign(**whole, latent=latents).reset_index()


def _write_maps(group: h5py.Group, maps: pd.DataFrame) -> None:
    """The columns of maps as arrays (map), the latents as one (map, component)."""
    for name in maps:
        column = maps[name]
        if name == "latent":
            stored(group, name, np.stack(column.to_list()))
        elif column.dtype.kind in "if":
            stored(group, str(name), column.to_numpy(), units=UNITS[str(name)])
        else:
            stored(group, str(name), column.fillna("").astype(str).to_list())


def unknown(scan: Scan) -> list[str]:
    """What these formats ask for and the archive does not know."""
    names = ("start_time", "count_time", "energy", "distance", "pixel_size", "beam_center_x", "beam_center_y")
    return [name for name in names if isnan(getattr(scan, name))]
