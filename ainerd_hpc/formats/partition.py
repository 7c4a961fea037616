"""Partition files: which pixel belongs to which q(-phi) bin, in today's APS layout (`/qmap`).

Written by pySimpleMask, read by boost_corr and pyXpcsViewer; q = 2 k0 sin(alpha / 2), k0 = 2 pi E / 12.39841984.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from ainerd_hpc import __version__
from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.hdf5 import READ_ERRORS
from ainerd_hpc.formats.source_file import SourceFile

_HC = 12.39841984
"""Planck constant times speed of light, keV angstrom."""
_NEXT_STEP = "write the partition again (pySimpleMask), or name another one in source.partition"


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """Mask and q-bins of a detector; compare two by `digest`."""

    mask: np.ndarray
    """(y, x) bool, True = use the pixel."""
    dynamic_roi_map: np.ndarray
    """(y, x) int32, labels 1..n_dynamic, 0 = unused or masked."""
    static_roi_map: np.ndarray
    """(y, x) int32, labels 1..n_static, 0 = unused or masked; each lies in one dynamic label."""
    dynamic_q_list: np.ndarray
    """(n_dynamic,) float64, q of each dynamic label, 1/angstrom."""
    static_q_list: np.ndarray
    """(n_static,) float64, q of each static label, 1/angstrom; NaN where the file does not say."""
    digest: str
    """First 16 hex digits of the SHA-256 of the arrays."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the detector stands in the beam (transmission, detector normal to the beam)."""

    beam_center_x: float
    """Column of the direct beam, pixels."""
    beam_center_y: float
    """Row of the direct beam, pixels."""
    pixel_size: float
    """m."""
    distance: float
    """Sample to detector, m."""
    energy: float
    """Photon energy, keV."""

    def q_map(self, height: int, width: int) -> np.ndarray:
        """q of every pixel, (height, width) float64, 1/angstrom."""
        y = np.arange(height)[:, np.newaxis] - self.beam_center_y
        x = np.arange(width) - self.beam_center_x
        alpha = np.arctan(np.hypot(x, y) * self.pixel_size / self.distance)
        return np.asarray(4.0 * np.pi * self.energy / _HC * np.sin(alpha / 2.0))


@dataclass(frozen=True, slots=True, eq=False)
class Rings:
    """A partition into q-rings, with what its file says about the bins, empty ones included."""

    partition: Partition
    dynamic_v_list: np.ndarray
    """(num_q_bins,) float64, bin centres, 1/angstrom."""
    static_v_list: np.ndarray
    """(num_q_bins * num_static_per_q,) float64, bin centres, 1/angstrom."""
    dynamic_index_mapping: np.ndarray
    """(n_dynamic,) int, natural index of each compact label."""
    static_index_mapping: np.ndarray
    """(n_static,) int, natural index of each compact label."""


def is_partition(file: SourceFile) -> bool:
    """Whether the file is HDF5 and holds `/qmap/dynamic_roi_map`; never raises."""
    try:
        return isinstance(file.hdf5.get("qmap/dynamic_roi_map") if file.hdf5 else None, h5py.Dataset)
    except READ_ERRORS:
        return False


def read_partition(path: Path) -> Partition:
    """Read and check a partition file.

    Raises
    ------
    ScanError
        The file is damaged or lacks a dataset; shapes disagree; labels are not compact; a static label lies in two
        dynamic ones; a q is not finite; the bins are not bins of q in 1/angstrom.
    """
    with _reading(path), h5py.File(path, "r") as file:
        group = file["qmap"]
        _check_axis(path, group)
        mask = group["mask"][()].astype(bool)
        dynamic = _label_map(path, group, "dynamic_roi_map")
        static = _label_map(path, group, "static_roi_map") if "static_roi_map" in group else dynamic
        q_list = _q_list(path, group, "dynamic")
        has_static_q = "static_v_list_dim0" in group and "static_roi_map" in group
        static_q = _q_list(path, group, "static") if has_static_q else np.full(int(static.max(initial=0)), np.nan)
    return _checked(f"{path}:/qmap", mask, dynamic, static, q_list, static_q)


def make_ring_partition(
    mask: np.ndarray,
    geometry: Geometry,
    num_q_bins: int,
    num_static_per_q: int,
    spacing: Literal["linear", "log"] = "linear",
) -> Rings:
    """Concentric q-rings over the valid pixels.

    Parameters
    ----------
    mask : ndarray of bool, (y, x)
        True = use the pixel. The rings reach from the smallest to the largest q of these.
    num_q_bins, num_static_per_q : int
        Dynamic rings, and static rings in each of them. Rings without a pixel get no label.
    spacing : {"linear", "log"}
        Edges equally far apart in q or in log q; centres are arithmetic or geometric means of the edges.

    Raises
    ------
    ScanError
        No pixel is valid.
    """
    if not mask.any():
        raise ScanError(
            "mask", f"expected valid pixels, found none in {mask.shape}", "use a larger detector or less mask"
        )
    q = geometry.q_map(*mask.shape).round(12)
    space = np.linspace if spacing == "linear" else np.geomspace
    static_edges = space(q[mask].min(), q[mask].max(), num_q_bins * num_static_per_q + 1)
    static_bin = np.clip(np.digitize(q, static_edges) - 1, 0, num_q_bins * num_static_per_q - 1)
    static, static_mapping = _compact(static_bin, mask)
    dynamic, dynamic_mapping = _compact(static_bin // num_static_per_q, mask)
    static_centres = _centres(static_edges, spacing)
    dynamic_centres = _centres(static_edges[::num_static_per_q], spacing)
    partition = _checked(
        "rings", mask.astype(bool), dynamic, static, dynamic_centres[dynamic_mapping], static_centres[static_mapping]
    )
    return Rings(partition, dynamic_centres, static_centres, dynamic_mapping, static_mapping)


def write_partition(path: Path, rings: Rings, geometry: Geometry, description: str = "") -> None:
    """Write a partition file that boost_corr and pyXpcsViewer read too; the same input gives the same bytes."""
    partition = rings.partition
    with h5py.File(path, "w") as file:
        group = file.create_group("qmap")
        group.attrs["hash"] = partition.digest
        group.attrs["version"] = f"ainerd_hpc {__version__}"
        group.attrs["description"] = description
        _write(group, mask=partition.mask, blemish=partition.mask, map_names=["q", "phi"], map_units=["Å⁻¹", "deg"])
        _write_bins(group, "dynamic", partition.dynamic_roi_map, rings.dynamic_v_list, rings.dynamic_index_mapping)
        _write_bins(group, "static", partition.static_roi_map, rings.static_v_list, rings.static_index_mapping)
        _write(group, beam_center_x=geometry.beam_center_x, beam_center_y=geometry.beam_center_y)
        _write(group, pixel_size=geometry.pixel_size, detector_distance=geometry.distance, energy=geometry.energy)
        _write(group, source_file="")
        for name, unit in {"pixel_size": "m", "detector_distance": "m", "energy": "keV"}.items():
            group[name].attrs["unit"] = unit


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        problem = f"expected a partition in the layout /qmap, cannot read it: {' '.join(str(error).split())}"
        raise ScanError(str(path), problem, _NEXT_STEP) from None


def _check_axis(path: Path, group: h5py.Group) -> None:
    """The first axis has to be q in 1/angstrom, or everything downstream is off by a factor."""
    for dataset, axis in (("map_names", "name"), ("map_units", "unit")):
        if dataset not in group:
            continue
        found = group[dataset].asstr()[0]
        if (axis == "name" and found != "q") or "nm" in found:
            problem = f"expected bins of q in 1/angstrom, found the {axis} '{found}' of the first axis"
            raise ScanError(f"{path}:/qmap/{dataset}", problem, _NEXT_STEP)


def _label_map(path: Path, group: h5py.Group, name: str) -> np.ndarray:
    labels = group[name][()]
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or labels.min(initial=0) < 0:
        problem = f"expected a 2-D map of labels from 0, found {labels.dtype} {labels.shape}"
        raise ScanError(f"{path}:/qmap/{name}", problem, _NEXT_STEP)
    return np.asarray(labels, dtype=np.int32)


def _q_list(path: Path, group: h5py.Group, kind: str) -> np.ndarray:
    """q of each compact label: natural index = i_q * n_phi + i_phi."""
    q_centres = np.atleast_1d(group[f"{kind}_v_list_dim0"][()]).astype(np.float64)
    mapping = np.atleast_1d(group[f"{kind}_index_mapping"][()]).astype(np.int64)
    num_q, num_phi = (int(number) for number in group[f"{kind}_num_pts"][()])
    if (
        num_q != q_centres.size
        or num_phi < 1
        or mapping.min(initial=0) < 0
        or mapping.max(initial=0) >= num_q * num_phi
    ):
        problem = (
            f"expected indices below {num_q} x {num_phi} ({kind}_num_pts) and {num_q} bin centres, "
            f"found indices up to {mapping.max(initial=0)} and {q_centres.size} centres"
        )
        raise ScanError(f"{path}:/qmap/{kind}_index_mapping", problem, _NEXT_STEP)
    return q_centres[mapping // num_phi]


def _checked(
    where: str, mask: np.ndarray, dynamic: np.ndarray, static: np.ndarray, q_list: np.ndarray, static_q: np.ndarray
) -> Partition:
    """The partition with masked pixels unlabelled, or the first rule that it breaks."""
    if not mask.shape == dynamic.shape == static.shape:
        shapes = f"mask {mask.shape}, dynamic {dynamic.shape}, static {static.shape}"
        raise ScanError(where, f"expected maps of one shape, found {shapes}", _NEXT_STEP)
    dynamic, static = np.where(mask, dynamic, 0), np.where(mask, static, 0)
    _check_compact(f"{where}/dynamic_roi_map", dynamic, q_list.size)
    _check_compact(f"{where}/static_roi_map", static, int(static.max(initial=0)))
    _check_nested(where, dynamic, static)
    if static_q.size != static.max(initial=0):
        problem = f"expected a q for each of {static.max(initial=0)} static labels, found {static_q.size}"
        raise ScanError(f"{where}/static_index_mapping", problem, _NEXT_STEP)
    if not np.isfinite(q_list).all():
        raise ScanError(f"{where}/dynamic_v_list_dim0", "expected finite q, found NaN or infinity", _NEXT_STEP)
    digest = hashlib.sha256()
    for array in (mask, dynamic.astype("<i4"), static.astype("<i4"), q_list.astype("<f8"), static_q.astype("<f8")):
        digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return Partition(mask, dynamic.astype(np.int32), static.astype(np.int32), q_list, static_q, digest.hexdigest()[:16])


def _check_compact(where: str, labels: np.ndarray, num_labels: int) -> None:
    found = np.unique(labels[labels > 0])
    if num_labels == 0 or not np.array_equal(found, np.arange(1, num_labels + 1)):
        largest = int(found.max(initial=0))
        problem = f"expected every label 1..{num_labels} on valid pixels, found {found.size} labels up to {largest}"
        raise ScanError(where, problem, _NEXT_STEP)


def _check_nested(where: str, dynamic: np.ndarray, static: np.ndarray) -> None:
    pairs = np.unique(np.stack([static.ravel(), dynamic.ravel()]), axis=1)
    pairs = pairs[:, pairs.any(axis=0)]
    repeated = np.flatnonzero(np.diff(pairs[0]) == 0)
    if repeated.size or not pairs.all():
        wrong = pairs[0, repeated[0]] if repeated.size else pairs[0, np.argmin(pairs.all(axis=0))]
        problem = f"expected every static label inside one dynamic label, found static label {wrong} across a border"
        raise ScanError(f"{where}/static_roi_map", problem, _NEXT_STEP)


def _compact(natural: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels 1..N in natural order without the empty bins, and the natural index of each."""
    mapping = np.unique(natural[mask])
    return np.where(mask, np.searchsorted(mapping, natural) + 1, 0).astype(np.int32), mapping


def _centres(edges: np.ndarray, spacing: str) -> np.ndarray:
    low, high = edges[:-1], edges[1:]
    return np.asarray((low + high) / 2.0 if spacing == "linear" else np.sqrt(low * high))


def _write(group: h5py.Group, **values: Any) -> None:
    for name, value in values.items():
        group.create_dataset(name, data=value, track_times=False)


def _write_bins(group: h5py.Group, kind: str, labels: np.ndarray, centres: np.ndarray, mapping: np.ndarray) -> None:
    """The datasets of one set of bins; rings have a single bin in phi."""
    small = labels.astype(np.min_scalar_type(int(labels.max(initial=0))))
    _write(group, **{f"{kind}_roi_map": small, f"{kind}_num_pts": [centres.size, 1], f"{kind}_index_mapping": mapping})
    axes: Mapping[str, tuple[np.ndarray, str, str]] = {
        f"{kind}_v_list_dim0": (centres, "q", "Å⁻¹"),
        f"{kind}_v_list_dim1": (np.zeros(1), "phi", "deg"),
    }
    for name, (values, axis, unit) in axes.items():
        _write(group, **{name: values})
        group[name].attrs.update({"name": axis, "unit": unit, "size": values.size})
