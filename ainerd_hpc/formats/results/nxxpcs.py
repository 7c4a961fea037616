"""Results by the NeXus application definition NXxpcs, read and written.

Two-time maps are `twotime/two_time_corr_func` of an entry: one array, or one a q-bin, under the number of its label.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.beside.metadata import check_period, epoch
from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.hdf5.chunks import Chunks, read_rows
from ainerd_hpc.formats.hdf5.quantities import beam_center, quantities, quantity
from ainerd_hpc.formats.hdf5.reading import (
    NEXT_STEP,
    get_dataset,
    get_inner,
    need_dataset,
    open_hdf5,
    reading,
    text,
)
from ainerd_hpc.formats.results.checks import check_map, is_simulated, need_maps, no_maps, numbered, read_stack
from ainerd_hpc.formats.results.writing import Lines, empty_map, iso_time, stored, write_detector, write_extra
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.formats.units import PER_ANGSTROM, unlikely_q
from ainerd_hpc.types import Content

if TYPE_CHECKING:
    from ainerd_hpc.formats.results.writing import Result

_PLACED = {"g2", "g2_err", "lag"}
_IN_MASKS = {"dynamic_roi_map", "static_roi_map", "dynamic_q_list", "static_q_list"}
"""Arrays of the archive that the definition has a place for; the latter where there is a partition."""


class NxXpcs:
    """Reader of the two-time maps of a result."""

    name = "nxxpcs"
    content = Content.C2
    baseline = 1

    @staticmethod
    def matches(file: SourceFile) -> bool:
        return file.holds(_entry)

    @staticmethod
    def describe(file: SourceFile) -> Description:
        hdf5 = file.need_hdf5()
        with reading(str(file.path)):
            entry = _entry(hdf5)
            maps, metadata = _maps(file.path, hdf5, entry), _metadata(hdf5, entry)
            notes, simulated = tuple(unlikely_q(_q_list(hdf5, entry, maps))), is_simulated(hdf5)
        num = len(maps.labels)
        return Description(maps.length, 4, num_q_bins=num, metadata=metadata, simulated=simulated, notes=notes)

    @staticmethod
    def read_c2(path: Path) -> np.ndarray:
        with open_hdf5(path) as file, reading(str(path)):
            maps = _maps(path, file, _entry(file))
            c2 = read_stack(len(maps.labels), maps.length, maps.read)
        if maps.baseline == 0:
            c2 += np.float32(1)
        return c2

    @staticmethod
    def read_q(path: Path) -> np.ndarray:
        with open_hdf5(path) as file, reading(str(path)):
            entry = _entry(file)
            return _q_list(file, entry, _maps(path, file, entry))


class _Maps(NamedTuple):
    """The two-time maps of an open file."""

    labels: list[int]
    """Numbers of the q-bins, from 1."""
    is_numbered: bool
    """Whether the file gives these numbers."""
    length: int
    baseline: int
    read: Callable[[int], tuple[str, np.ndarray]]


def _entry(file: h5py.File) -> str:
    """Name of the first entry of this definition; empty where there is none."""
    names = (name for name in file if isinstance(get_inner(file, name), h5py.Group))
    return next((name for name in names if text(file, f"{name}/definition") == "NXxpcs"), "")


def _maps(path: Path, file: h5py.File, entry: str) -> _Maps:
    name = f"{entry}/twotime/two_time_corr_func"
    found = get_inner(file, name)
    if found is None:
        raise no_maps(path, "g2 only" if f"{entry}/data/g2" in file else "none")
    baseline = found.attrs.get("baseline_reference", 1)
    if baseline not in (0, 1):
        raise ScanError(f"{path}:/{name}", f"expected a baseline_reference of 0 or 1, found {baseline!r}", NEXT_STEP)
    turn = _upright if _attribute(found, "time_origin_location") == "lower_left" else np.asarray
    if not isinstance(found, h5py.Group):
        return _stacked(need_dataset(file, name), f"{path}:/{name}", baseline, turn)
    names = numbered(file, name, r"\D*")
    if not names:
        raise no_maps(path, "none")
    places = list(names.values())
    maps = need_maps(file, places)

    def read(i: int) -> tuple[str, np.ndarray]:
        return f"{path}:/{places[i]}", turn(read_rows(maps[i]))

    return _Maps(list(names), True, maps[0].shape[0], baseline, read)


def _stacked(stack: h5py.Dataset, where: str, baseline: int, turn: Callable[[np.ndarray], np.ndarray]) -> _Maps:
    """Maps that lie in one array."""
    num, length, is_last = _layout(stack)
    check_map(stack, where, (length, length, num) if is_last else (num, length, length)[-stack.ndim :])

    chunks = Chunks(stack)

    def read(i: int) -> tuple[str, np.ndarray]:
        if stack.ndim == 2:
            return f"{where} q_bin {i}", turn(read_rows(stack))
        chunks.check(*((0, length) if is_last else (i, i + 1)))
        values = stack[:, :, i] if is_last else stack[i]
        return f"{where} q_bin {i}", turn(values)

    return _Maps(list(range(1, num + 1)), False, length, baseline, read)


def _layout(stack: h5py.Dataset) -> tuple[int, int, bool]:
    """How many maps, of which length, and whether the q-bins are the last axis; (t, t) is one map."""
    if stack.ndim != 3:
        return 1, stack.shape[0] if stack.ndim == 2 else 0, False
    mode = _attribute(stack, "storage_mode")
    is_last = mode == "one_array_q_last" or (mode != "one_array_q_first" and stack.shape[1] != stack.shape[2])
    return stack.shape[2 if is_last else 0], stack.shape[1], is_last


def _upright(c2: np.ndarray) -> np.ndarray:
    """Rows from the first frame on, of a map whose origin is said to be lower left.

    Some mean a map that is drawn so, others one that is stored so, with its last frame in the first row. C2 is largest
    beside its diagonal: that tells them apart.
    """

    def ridge(turned: np.ndarray) -> float:
        beside = [np.diagonal(turned, offset) for offset in (-1, 1)]
        return max(float(line[np.isfinite(line)].mean()) if np.isfinite(line).any() else -np.inf for line in beside)

    return c2[::-1] if ridge(c2[::-1]) > ridge(c2) else c2


def _q_list(file: h5py.File, entry: str, maps: _Maps) -> np.ndarray:
    """The labels, from the list of all, or from the axis of the maps."""
    labels = np.array(maps.labels)
    known = _listed_q(file, f"{entry}/instrument/masks/dynamic_q_list")
    if known is not None and _covers(known.size, maps):
        return np.asarray(known[labels - 1])
    along = _listed_q(file, f"{entry}/twotime/q")
    return along if along is not None and along.size == labels.size else np.full(labels.size, nan)


def _covers(num: int, maps: _Maps) -> bool:
    """Whether a list of `num` labels is that of these maps: it may hold more where they are numbered."""
    return 1 <= maps.labels[0] <= maps.labels[-1] <= num if maps.is_numbered else len(maps.labels) == num


def _metadata(file: h5py.File, entry: str) -> Metadata:
    instrument = f"{entry}/instrument"
    detector = _detector(file, instrument)
    start = text(file, f"{entry}/start_time")
    frame_time = quantity(file, f"{detector}/frame_time", "s")
    if get_dataset(file, f"{detector}/frame_time") is not None:
        check_period(frame_time, f"{file.filename}:/{detector}/frame_time")
    pixel_size = quantity(file, f"{detector}/x_pixel_size", "m")
    x, y = (beam_center(file, f"{detector}/beam_center_{axis}", pixel_size) for axis in "xy")
    return Metadata(
        frame_time=frame_time,
        count_time=quantity(file, f"{detector}/count_time", "s"),
        start_time=epoch(start) if start else nan,
        energy=quantity(file, f"{instrument}/incident_beam/incident_energy", "keV"),
        distance=quantity(file, f"{detector}/distance", "m"),
        pixel_size=pixel_size,
        beam_center_x=x,
        beam_center_y=y,
        detector=text(file, f"{detector}/description"),
    )


def _detector(file: h5py.File, instrument: str) -> str:
    """Name of the first detector."""
    group = get_inner(file, instrument)
    names = [f"{instrument}/{name}" for name in group] if isinstance(group, h5py.Group) else []
    timed = (name for name in names if get_inner(file, f"{name}/frame_time") is not None)
    return next(timed, f"{instrument}/detector")


def _listed_q(file: h5py.File, name: str) -> np.ndarray | None:
    """A list of q, 1/angstrom; None where there is none."""
    found = get_dataset(file, name)
    return None if found is None or found.ndim != 1 else quantities(file, name, PER_ANGSTROM)


def _attribute(item: h5py.Dataset | h5py.Group, name: str) -> str:
    value: Any = item.attrs.get(name, "")
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


# ------------------------------------------------------------------------------------------------------------- writing


def write_nxxpcs(path: Path, result: Result) -> None:
    """Write what the archive holds of a scan by the definition NXxpcs; what it has no place for into `/ainerd_hpc`.

    Raises
    ------
    ScanError
        The archive lacks an array.
    """
    with h5py.File(path, "w") as file:
        file.attrs.update({"NX_class": "NXroot", "default": "entry"})
        entry = _group(file, "entry", "NXentry", default="data")
        stored(entry, "definition", "NXxpcs")
        stored(entry, "entry_identifier", result.scan.scan_id)
        stored(entry, "scan_number", int((re.findall(r"\d{1,18}", result.scan.scan_id) or [0])[-1]))
        stored(entry, "start_time", iso_time(result.start_time))
        _write_g2(_group(entry, "data", "NXdata"), result)
        _write_twotime(_group(entry, "twotime", "NXdata"), result)
        _write_instrument(_group(entry, "instrument", "NXinstrument"), result)
        _write_process(_group(entry, "process", "NXprocess"), result)
        if result.scan.simulated:
            stored(_group(entry, "note_1", "NXnote"), "description", "simulated, not measured")
        write_extra(file, result, _PLACED | _IN_MASKS if result.partition else _PLACED)


def _group(parent: h5py.Group, name: str, nx_class: str, **attributes: Any) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs.update({"NX_class": nx_class, **attributes})
    return group


def _write_g2(group: h5py.Group, result: Result) -> None:
    """g2 (delay, q), multi-tau or along the diagonals of the maps that the scan was read from."""
    group.attrs.update({"signal": "g2", "axes": ["delay_difference", "q"]})
    stored(group, "delay_difference", result["lag"].astype(np.int64), units="frames", storage_mode="one_array")
    stored(group, "q", result["dynamic_q_list"], units="1/angstrom")
    stored(group, "g2", result["g2"].T, units="1", storage_mode="one_array")
    stored(group, "g2_derr", result["g2_err"].T, units="1", storage_mode="one_array")
    if result.is_of_frames:
        stored(group, "frame_average", result["saxs_2d"], units="counts", long_name="mean counts of a frame")


def _write_twotime(group: h5py.Group, result: Result) -> None:
    """C2 (q, t1, t2) and its means along the diagonals from lag 0, raw, on."""
    num, length = result.num_q_bins, result.num_frames
    group.attrs.update({"signal": "two_time_corr_func", "axes": ["q", "t1", "t2"]})
    stored(group, "q", result["dynamic_q_list"], units="1/angstrom")
    for axis in ("t1", "t2"):
        stored(group, axis, np.arange(length) * result.frame_time, units="s")
    c2 = empty_map(group, "two_time_corr_func", (num, length, length))
    c2.attrs.update({"units": "1", "storage_mode": "one_array_q_first", "baseline_reference": 1})
    c2.attrs.update({"time_origin_location": "upper_left", "populated_elements": "all"})
    lines = [Lines(length) for _ in range(num)]
    for q_bin, line in enumerate(lines):
        for start, rows in result.rows(q_bin):
            c2[q_bin, start : start + len(rows)] = rows
            line.add(start, rows[:, start:])
    g2, g2_err = np.stack([line.whole() for line in lines], axis=-1).astype(np.float32)
    q_last = {"units": "1", "storage_mode": "one_array_q_last"}
    stored(group, "g2_from_two_time_corr_func", g2, baseline_reference=1, first_point_for_fit=0, **q_last)
    stored(group, "g2_err_from_two_time_corr_func", g2_err, **q_last)
    partials = np.stack([line.segments() for line in lines], axis=1).astype(np.float32)
    name = "g2_from_two_time_corr_func_partials"
    stored(group, name, partials, units="1", storage_mode="one_array", baseline_reference=1)


def _write_instrument(group: h5py.Group, result: Result) -> None:
    scan, partition = result.scan, result.partition
    beam = _group(group, "incident_beam", "NXbeam")
    stored(beam, "incident_energy", scan.energy, units="keV")
    write_detector(_group(group, "detector", "NXdetector"), scan, result.frame_time)
    if partition:
        masks = _group(group, "masks", "NXnote")
        for kind in ("dynamic", "static"):
            stored(masks, f"{kind}_roi_map", partition[f"{kind}_roi_map"], units="au")
            stored(masks, f"{kind}_q_list", partition[f"{kind}_q_list"], units="1/angstrom")


def _write_process(group: h5py.Group, result: Result) -> None:
    stored(group, "program", "ainerd_hpc")
    stored(group, "version", str(result.attributes["ainerd_hpc_version"]))
