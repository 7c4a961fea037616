"""Partition files: which pixel belongs to which bin of q and phi, in the layouts of the APS, today's and the former.

Today's is `/qmap`: written by pySimpleMask, read by boost_corr and pyXpcsViewer, which copy it to `/xpcs/qmap` of their
results. The former is in `partition_legacy`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from ainerd_hpc import __version__
from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.hdf5.quantities import beam_center, quantity, scale_of
from ainerd_hpc.formats.hdf5.reading import get_dataset, get_inner, read_array, read_texts
from ainerd_hpc.formats.opening import READ_ERRORS, opened
from ainerd_hpc.formats.partitions.legacy import is_legacy, legacy_datasets, legacy_root, read_legacy
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.formats.units import PER_ANGSTROM
from ainerd_hpc.kernels.partitioning import (
    RING,
    Axis,
    Bins,
    Labels,
    Spacing,
    axis_over,
    azimuth,
    label_bins,
    scattering_vector,
)

_NEXT_STEP = "write the partition again (ainerd-hpc qmap), or name another one in source.partition"
_ENLARGE = "use a larger detector, less mask or other bins"


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """Mask and bins of a detector; compare two by `digest`."""

    mask: np.ndarray
    """(y, x) bool, True = use the pixel."""
    dynamic_roi_map: np.ndarray
    """(y, x) int32, labels 1..n_dynamic, 0 = unused or masked; a label may have no pixel."""
    static_roi_map: np.ndarray
    """(y, x) int32, labels 1..n_static, 0 = unused or masked; each lies in one dynamic label."""
    dynamic_q_list: np.ndarray
    """(n_dynamic,) float64, q of each dynamic label, 1/angstrom; NaN where that of the file cannot be."""
    static_q_list: np.ndarray
    """(n_static,) float64, q of each static label, 1/angstrom; NaN where the file does not say."""
    dynamic_phi_list: np.ndarray
    """(n_dynamic,) float64, phi of each dynamic label, degrees; NaN for rings, and where the file does not say."""
    static_phi_list: np.ndarray
    """(n_static,) float64, phi of each static label, degrees; NaN for rings, and where the file does not say."""
    digest: str
    """First 16 hex digits of the SHA-256 of the arrays; phi is in it where the dynamic bins have one."""
    notes: tuple[str, ...] = ()
    """A line for each kind of bin that gives less than it should: no pixels, no q."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the detector stands in the beam (transmission, detector normal to the beam); NaN where nothing says."""

    beam_center_x: float = nan
    """Column of the direct beam, pixels; a whole number is the middle of a pixel."""
    beam_center_y: float = nan
    """Row of the direct beam, pixels."""
    pixel_size: float = nan
    """m."""
    distance: float = nan
    """Sample to detector, m."""
    energy: float = nan
    """Photon energy, keV."""

    def q_map(self, height: int, width: int) -> np.ndarray:
        """q of every pixel, (height, width) float64, 1/angstrom."""
        center = self.beam_center_x, self.beam_center_y
        return scattering_vector(height, width, *center, self.pixel_size, self.distance, self.energy)

    def phi_map(self, height: int, width: int) -> np.ndarray:
        """phi of every pixel, (height, width) float64, degrees: 0 to the right, 90 upwards."""
        return azimuth(height, width, self.beam_center_x, self.beam_center_y)


@dataclass(frozen=True, slots=True, eq=False)
class QMap:
    """All that a partition file says: the partition, its bins, empty ones included, and where it comes from."""

    partition: Partition
    dynamic: Bins
    static: Bins
    blemish: np.ndarray
    """(y, x) bool, True = the pixel counts well, whether it is used or not."""
    geometry: Geometry = Geometry()


def is_partition(file: SourceFile) -> bool:
    """Whether the file is HDF5 and a partition file of either layout; never raises.

    Results that hold a copy of their partition are none.
    """
    name = "qmap/dynamic_roi_map"
    return file.holds(lambda hdf5: isinstance(get_inner(hdf5, name), h5py.Dataset) or is_legacy(hdf5))


def read_partition(path: Path) -> Partition:
    """The partition of a file; raises what `read_qmap` raises."""
    return read_qmap(path).partition


def read_qmap(path: Path) -> QMap:
    """Read and check a partition file of either layout, or the partition that a result holds.

    What is wrong with single bins costs these alone, and is told in the notes of the partition.

    Raises
    ------
    ScanError
        The file is damaged or lacks a dataset; shapes disagree; no label has a valid pixel; a static label lies in two
        dynamic ones; the bins are not bins of q; a unit is not known.
    """
    with _reading(path), opened(path) as one:
        file = one.hdf5
        root = next((name for name in ("qmap", "xpcs/qmap") if f"{name}/dynamic_roi_map" in file), "")
        if root:
            labels, geometry = _read_current(file, root), _read_geometry(file, root)
        elif root := legacy_root(file):
            labels, x, y = read_legacy(file)
            geometry = Geometry(beam_center_x=x, beam_center_y=y)
        else:
            raise KeyError("there is neither /qmap/dynamic_roi_map nor /data/dynamicMap")
    return _checked(f"{path}:/{root}", labels, geometry)


def make_qmap(
    mask: np.ndarray,
    q: np.ndarray,
    phi: np.ndarray,
    q_axis: Axis,
    phi_axis: Axis = RING,
    symmetry: int = 1,
    geometry: Geometry = Geometry(),
) -> QMap:
    """Bins of q and phi over the valid pixels, as of `kernels.partitioning.label_bins`.

    Raises
    ------
    ScanError
        No valid pixel lies in them.
    """
    try:
        labels = label_bins(mask, q, phi, q_axis, phi_axis, symmetry)
    except ValueError as error:
        raise ScanError("mask", str(error), _ENLARGE) from None
    return _checked("partition", labels, geometry)


def make_ring_partition(
    mask: np.ndarray, geometry: Geometry, num_q_bins: int, num_static_per_q: int, spacing: Spacing = "linear"
) -> QMap:
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
    q, mask = geometry.q_map(*mask.shape), mask.astype(bool)
    try:
        axis = axis_over(q, mask, num_q_bins, num_static_per_q, spacing)
    except ValueError as error:
        raise ScanError("mask", str(error), _ENLARGE) from None
    return make_qmap(mask, q, np.zeros(mask.shape), axis, geometry=geometry)


def write_partition(
    path: Path, qmap: QMap, geometry: Geometry | None = None, description: str = "", *, legacy: bool = False
) -> None:
    """Write a partition file; the same input gives the same bytes.

    Parameters
    ----------
    geometry : Geometry, optional
        Instead of that of the q map.
    legacy : bool
        In the former layout, which keeps of the geometry only the beam centre, and neither blemish nor description.
    """
    geometry = geometry or qmap.geometry
    with h5py.File(path, "w") as file:
        if legacy:
            _write_legacy(file.create_group("data"), qmap, geometry)
        else:
            _write_current(file.create_group("qmap"), qmap, geometry, description)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except READ_ERRORS as error:
        problem = f"expected a partition in the layout /qmap or /data, cannot read it: {' '.join(str(error).split())}"
        raise ScanError(str(path), problem, _NEXT_STEP) from None


def _read_current(file: h5py.File, root: str) -> Labels:
    axes = _read_axes(file, root)
    mask = read_array(file, f"{root}/mask").astype(bool)
    blemish = read_array(file, f"{root}/blemish").astype(bool) if f"{root}/blemish" in file else mask
    dynamic_map = _label_map(file, f"{root}/dynamic_roi_map")
    static_map = _label_map(file, f"{root}/static_roi_map") if f"{root}/static_roi_map" in file else dynamic_map
    dynamic = _read_bins(file, root, "dynamic", axes)
    if f"{root}/static_roi_map" in file and f"{root}/static_v_list_dim0" in file:
        static = _read_bins(file, root, "static", axes)
    else:
        num = int(static_map.max(initial=0))
        static = Bins(np.full(num, nan), np.zeros(1), np.arange(num))
    return Labels(mask, dynamic_map, static_map, dynamic, static, blemish)


class _Axes(NamedTuple):
    q_unit: str
    """Empty where nothing says."""
    is_angle: bool
    """Whether the second axis is phi in degrees."""


def _read_axes(file: h5py.File, root: str) -> _Axes:
    """What the axes of the bins are, of which the first has to be q."""
    names, units = (
        read_texts(found, 2) if (found := get_dataset(file, f"{root}/map_{kind}")) is not None else default
        for kind, default in (("names", ["q", "phi"]), ("units", ["", "deg"]))
    )
    if names[0] != "q":
        problem = f"expected bins of q, found the name '{names[0]}' of the first axis"
        raise ScanError(f"{file.filename}:/{root}/map_names", problem, _NEXT_STEP)
    return _Axes(units[0], names[1:] == ["phi"] and units[1:] == ["deg"])


def _label_map(file: h5py.File, name: str) -> np.ndarray:
    labels = read_array(file, name)
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or labels.min(initial=0) < 0:
        problem = f"expected a 2-D map of labels from 0, found {labels.dtype} {labels.shape}"
        raise ScanError(f"{file.filename}:/{name}", problem, _NEXT_STEP)
    return np.minimum(labels.astype(np.uint64), np.iinfo(np.int32).max).astype(np.int32)


def _read_bins(file: h5py.File, root: str, kind: str, axes: _Axes) -> Bins:
    """The bins of one kind."""
    name = f"{root}/{kind}_v_list_dim0"
    q, q_edges = (values * scale_of(file, name, PER_ANGSTROM, axes.q_unit) for values in _read_axis(file, name))
    mapping = np.atleast_1d(read_array(file, f"{root}/{kind}_index_mapping")).astype(np.int64)
    num_q, num_phi = (int(number) for number in read_array(file, f"{root}/{kind}_num_pts"))
    found, last = np.unique(mapping), num_q * num_phi
    if (
        num_q != q.size
        or num_phi < 1
        or found.size != mapping.size
        or (found.size and not 0 <= found[0] <= found[-1] < last)
    ):
        problem = (
            f"expected distinct indices below {num_q} x {num_phi} ({kind}_num_pts) and {num_q} bin centres, "
            f"found indices up to {mapping.max(initial=0)} and {q.size} centres"
        )
        raise ScanError(f"{file.filename}:/{root}/{kind}_index_mapping", problem, _NEXT_STEP)
    phi, phi_edges = np.broadcast_to(nan, num_phi), np.empty(0)
    if axes.is_angle and f"{root}/{kind}_v_list_dim1" in file:
        phi, phi_edges = _read_axis(file, f"{root}/{kind}_v_list_dim1")
    if phi.size != num_phi:
        problem = f"expected {num_phi} values of phi ({kind}_num_pts), found {phi.size}"
        raise ScanError(f"{file.filename}:/{root}/{kind}_v_list_dim1", problem, _NEXT_STEP)
    return Bins(q, phi, mapping, q_edges, phi_edges)


def _read_axis(file: h5py.File, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Centres, and the edges where we have written them."""
    middle = np.atleast_1d(read_array(file, name)).astype(np.float64)
    edges = np.atleast_1d(file[name].attrs.get("edges", np.empty(0))).astype(np.float64)
    return middle, edges if edges.size == middle.size + 1 else np.empty(0)


def _read_geometry(file: h5py.File, root: str) -> Geometry:
    pixel_size = quantity(file, f"{root}/pixel_size", "m")
    x, y = (beam_center(file, f"{root}/beam_center_{axis}", pixel_size) for axis in "xy")
    distance = quantity(file, f"{root}/detector_distance", "m")
    return Geometry(x, y, pixel_size, distance, quantity(file, f"{root}/energy", "keV"))


def _checked(where: str, labels: Labels, geometry: Geometry) -> QMap:
    """The partition with unlabelled pixels where they are masked or have no q, or the first rule that it breaks."""
    mask, dynamic, static = labels.mask, labels.dynamic_roi_map, labels.static_roi_map
    if not mask.shape == dynamic.shape == static.shape == labels.blemish.shape:
        shapes = f"mask {mask.shape}, dynamic {dynamic.shape}, static {static.shape}, blemish {labels.blemish.shape}"
        raise ScanError(where, f"expected maps of one shape, found {shapes}", _NEXT_STEP)
    q_list, is_nameless = labels.dynamic.q_list, dynamic > labels.dynamic.q_list.size
    used = mask & ~is_nameless
    dynamic, static = np.where(used, dynamic, 0), np.where(used, static, 0)
    _check_sizes(f"{where}/dynamic_roi_map", dynamic, q_list.size)
    _check_sizes(f"{where}/static_roi_map", static, labels.static.q_list.size)
    _check_nested(where, dynamic, static)
    is_wrong = ~(np.isfinite(q_list) & (q_list >= 0))
    num_static = max(int(static.max(initial=0)), labels.static.q_list.size)
    arrays = (mask, dynamic.astype(np.int32), static.astype(np.int32), np.where(is_wrong, nan, q_list))
    lists = (_padded(labels.static.q_list, num_static), labels.dynamic.phi_list)
    static_phi = _padded(labels.static.phi_list, num_static)
    is_ring = not np.isfinite(lists[1]).any()
    digest = _digest(*arrays, lists[0], *(() if is_ring else (lists[1], static_phi)))
    notes = tuple(_notes(dynamic, is_wrong, np.unique(labels.dynamic_roi_map[mask & is_nameless])))
    partition = Partition(*arrays, *lists, static_phi, digest, notes)
    return QMap(partition, labels.dynamic, labels.static, labels.blemish, geometry)


def _padded(values: np.ndarray, size: int) -> np.ndarray:
    """The list with NaN for the labels that it does not reach."""
    return np.append(values, np.full(size - values.size, nan))


def _notes(dynamic: np.ndarray, is_wrong: np.ndarray, nameless: np.ndarray) -> Iterator[str]:
    """What the dynamic bins lack, a line a kind."""
    empty = np.flatnonzero(np.bincount(dynamic.ravel(), minlength=is_wrong.size + 1)[1:] == 0)
    for bins, text in (
        (empty, "no valid pixel: no correlation"),
        (np.flatnonzero(is_wrong), "a q that is not finite or below 0: NaN instead"),
        (nameless - 1, "pixels, but no q: left out"),
    ):
        if bins.size:
            numbers = ", ".join(map(str, bins[:5])) + (f" and {bins.size - 5} more" if bins.size > 5 else "")
            yield f"q-bin {numbers}: {text}"


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        little = array.astype(array.dtype.newbyteorder("<"))
        digest.update(str(array.shape).encode() + np.ascontiguousarray(little).tobytes())
    return digest.hexdigest()[:16]


def _check_sizes(where: str, labels: np.ndarray, num_listed: int) -> None:
    if not labels.any():
        problem = f"expected valid pixels in the bins, found none in {num_listed} bins"
        raise ScanError(where, problem, _NEXT_STEP)
    largest = max(int(labels.max()), num_listed)
    if largest > labels.size:
        problem = f"expected at most one bin a pixel, found {largest} bins and {labels.size} pixels"
        raise ScanError(where, problem, _NEXT_STEP)


def _check_nested(where: str, dynamic: np.ndarray, static: np.ndarray) -> None:
    base = int(dynamic.max(initial=0)) + 1
    pairs = np.stack(np.divmod(np.unique(static.astype(np.int64) * base + dynamic), base))
    pairs = pairs[:, pairs.any(axis=0)]
    repeated = np.flatnonzero(np.diff(pairs[0]) == 0)
    if repeated.size or not pairs.all():
        wrong = pairs[0, repeated[0]] if repeated.size else pairs[0, np.argmin(pairs.all(axis=0))]
        problem = f"expected every static label inside one dynamic label, found static label {wrong} across a border"
        raise ScanError(f"{where}/static_roi_map", problem, _NEXT_STEP)


def _write_legacy(group: h5py.Group, qmap: QMap, geometry: Geometry) -> None:
    partition = qmap.partition
    maps = partition.mask, partition.dynamic_roi_map, partition.static_roi_map
    labels = Labels(*maps, qmap.dynamic, qmap.static, qmap.blemish)
    _write(group, **legacy_datasets(labels, geometry.beam_center_x, geometry.beam_center_y))


def _write_current(group: h5py.Group, qmap: QMap, geometry: Geometry, description: str) -> None:
    partition = qmap.partition
    group.attrs["hash"] = partition.digest
    group.attrs["version"] = f"ainerd_hpc {__version__}"
    group.attrs["description"] = description
    _write(group, mask=partition.mask, blemish=qmap.blemish, map_names=["q", "phi"], map_units=["Å⁻¹", "deg"])
    _write_bins(group, "dynamic", partition.dynamic_roi_map, qmap.dynamic)
    _write_bins(group, "static", partition.static_roi_map, qmap.static)
    _write_geometry(group, geometry)
    _write(group, source_file="")


def _write(group: h5py.Group, **values: Any) -> None:
    for name, value in values.items():
        group.create_dataset(name, data=value, track_times=False)


def _write_bins(group: h5py.Group, kind: str, labels: np.ndarray, bins: Bins) -> None:
    """The datasets of one set of bins; edges, which the layout lacks, as attributes of the centres."""
    small = labels.astype(np.min_scalar_type(int(labels.max(initial=0))))
    sizes = [bins.q.size, bins.phi.size]
    _write(group, **{f"{kind}_roi_map": small, f"{kind}_num_pts": sizes, f"{kind}_index_mapping": bins.index_mapping})
    axes = (("dim0", bins.q, bins.q_edges, "q", "Å⁻¹"), ("dim1", bins.phi, bins.phi_edges, "phi", "deg"))
    for dimension, values, edges, axis, unit in axes:
        name = f"{kind}_v_list_{dimension}"
        _write(group, **{name: values})
        group[name].attrs.update({"name": axis, "unit": unit, "size": values.size})
        if edges.size:
            group[name].attrs["edges"] = edges


def _write_geometry(group: h5py.Group, geometry: Geometry) -> None:
    """What is known of it."""
    values = {
        "beam_center_x": (geometry.beam_center_x, "pixel"),
        "beam_center_y": (geometry.beam_center_y, "pixel"),
        "pixel_size": (geometry.pixel_size, "m"),
        "detector_distance": (geometry.distance, "m"),
        "energy": (geometry.energy, "keV"),
    }
    for name, (value, unit) in values.items():
        if np.isfinite(value):
            _write(group, **{name: value})
            group[name].attrs["unit"] = unit
