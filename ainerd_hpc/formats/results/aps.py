"""Results in today's APS layout: `/xpcs/...` beside a copy of the metadata in `/entry`; read, and written.

boost_corr writes them, pyXpcsViewer shows them. Two-time maps are `c2_00001` ... (upper triangle, raw diagonal),
numbered by their place in `processed_bins`, which holds the q-bins, from 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.beside.metadata import metadata_of
from ainerd_hpc.formats.description import Metadata
from ainerd_hpc.formats.hdf5.quantities import scale_of
from ainerd_hpc.formats.hdf5.reading import NEXT_STEP, get_dataset, get_inner, number, read_texts
from ainerd_hpc.formats.results.checks import NumberedMaps, check_labels, numbers, whole_number
from ainerd_hpc.formats.results.writing import Lines, empty_map, iso_time, stored, write_detector, write_extra
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.formats.units import PER_ANGSTROM

if TYPE_CHECKING:
    from ainerd_hpc.formats.results.writing import Result

_TWOTIME, _QMAP = "xpcs/twotime", "xpcs/qmap"
_KINDS = ("multitau", "twotime")
_COMPANIONS = ("qmap", "temporal_mean", "spatial_mean")
"""One of which stands beside the correlation in every result."""
_PLACED = {
    *("g2", "g2_err", "lag", "saxs_1d", "saxs_1d_segments"),
    *("mask", "dynamic_roi_map", "static_roi_map", "dynamic_q_list", "static_q_list"),
}
"""Arrays of the archive that the layout holds as they are."""


class ApsResult(NumberedMaps):
    """Reader of the two-time maps of a result."""

    name = "aps-result"
    group, prefix = f"{_TWOTIME}/correlation_map", "c2_"
    g2 = "xpcs/multitau/normalized_g2"

    @staticmethod
    def matches(file: SourceFile) -> bool:
        return file.holds(_is_result)

    @staticmethod
    def metadata(file: h5py.File) -> Metadata:
        span = whole_number(file, f"{_TWOTIME}/config/stride_frame")
        span *= whole_number(file, f"{_TWOTIME}/config/avg_frame")
        first = number(file, f"{_TWOTIME}/config/begin_frame")
        metadata = metadata_of(file)
        frame_time, start = metadata.frame_time, metadata.start_time
        start += frame_time * first if first > 0 and not isnan(frame_time) else 0.0
        return replace(metadata, frame_time=frame_time * span, start_time=start, num_frames=0)

    @staticmethod
    def q_list(file: h5py.File, places: Sequence[int]) -> np.ndarray:
        """NaN where the bins are not bins of q."""
        where, num_maps = f"{file.filename}:/{_TWOTIME}/processed_bins", len(places)
        bins = numbers(file, f"{_TWOTIME}/processed_bins")
        if bins is None or bins.size != num_maps or list(places) != list(range(1, num_maps + 1)):
            found = "none" if bins is None else f"{bins.size} bins and maps {places[:5]}"
            problem = f"expected a bin for each of {num_maps} maps, numbered from 1, found {found}"
            raise ScanError(where, problem, NEXT_STEP)
        values, mapping = numbers(file, f"{_QMAP}/dynamic_v_list_dim0"), numbers(file, f"{_QMAP}/dynamic_index_mapping")
        shape = numbers(file, f"{_QMAP}/dynamic_num_pts")
        if values is None or mapping is None or shape is None or _axis(file, "names", "q") != "q":
            return np.full(num_maps, np.nan)
        scale = scale_of(file, f"{_QMAP}/dynamic_v_list_dim0", PER_ANGSTROM, _axis(file, "units"))
        num_phi = int(shape[-1]) if shape.size == 2 and 0 < shape[-1] < 2**31 else 1
        natural = mapping[check_labels(where, bins, mapping.size)] + 1
        index = check_labels(f"{file.filename}:/{_QMAP}/dynamic_index_mapping", natural, values.size * num_phi)
        q_list: np.ndarray = values.astype(np.float64)[index // num_phi] * scale
        return q_list


def _is_result(file: h5py.File) -> bool:
    """Whether there is `/xpcs`, in it a correlation and what stands beside it."""
    xpcs = get_inner(file, "xpcs")
    return isinstance(xpcs, h5py.Group) and all(any(name in xpcs for name in one) for one in (_KINDS, _COMPANIONS))


def _axis(file: h5py.File, kind: str, otherwise: str = "") -> str:
    """The name or the unit (`kind`) of the first axis of the bins; `otherwise` where the file does not say."""
    found = get_dataset(file, f"{_QMAP}/map_{kind}")
    return otherwise if found is None else read_texts(found, 1)[0]


# ------------------------------------------------------------------------------------------------------------- writing


def write_aps_result(path: Path, result: Result) -> None:
    """Write what the archive holds of a scan as a result that pyXpcsViewer opens.

    What the layout has no place for lies in `/ainerd_hpc`: other g2, errors, fits, attributes.

    Raises
    ------
    ScanError
        The scan was read from two-time maps: the layout asks for a q map and mean intensities. Or the archive lacks an
        array.
    """
    if not result.is_of_frames:
        problem = "expected a scan that was correlated from frames, found one that was read from two-time maps"
        raise ScanError(result.scan.scan_id, problem, "use --format nxxpcs or csv, which need no detector")
    with h5py.File(path, "w") as file:
        file.attrs["simulated"] = result.scan.simulated
        _write_entry(file, result)
        xpcs = file.create_group("xpcs")
        stored(xpcs, "rawdata_path", result.scan.source)
        _write_qmap(xpcs.create_group("qmap"), result)
        _write_means(xpcs, result)
        _write_multitau(xpcs.create_group("multitau"), result)
        _write_twotime(xpcs.create_group("twotime"), result)
        write_extra(file, result, _PLACED)


def _write_entry(file: h5py.File, result: Result) -> None:
    scan, entry = result.scan, file.create_group("entry")
    stored(entry, "start_time", iso_time(scan.start_time))
    entry.create_group("instrument/bluesky/metadata")
    stored(entry, "instrument/incident_beam/incident_energy", scan.energy, units="keV")
    write_detector(entry.create_group("instrument/detector_1"), scan, scan.frame_time)


def _write_qmap(group: h5py.Group, result: Result) -> None:
    """The partition, and where the detector stands."""
    scan, partition = result.scan, result.partition
    group.attrs.update({"hash": scan.partition, "version": str(result.attributes["ainerd_hpc_version"])})
    for name in ("mask", "blemish"):
        stored(group, name, partition["mask"].astype(bool))
    for kind in ("dynamic", "static"):
        labels = partition[f"{kind}_roi_map"]
        q, phi, mapping = _grid(partition[f"{kind}_q_list"], partition.get(f"{kind}_phi_list"))
        stored(group, f"{kind}_roi_map", labels.astype(np.min_scalar_type(int(labels.max(initial=0)))))
        stored(group, f"{kind}_num_pts", [q.size, phi.size])
        stored(group, f"{kind}_index_mapping", mapping)
        stored(group, f"{kind}_v_list_dim0", q, name="q", unit="Å⁻¹", size=q.size)
        stored(group, f"{kind}_v_list_dim1", phi, name="phi", unit="deg", size=phi.size)
    stored(group, "map_names", ["q", "phi"])
    stored(group, "map_units", ["Å⁻¹", "deg"])
    for name, value, unit in (
        ("beam_center_x", scan.beam_center_x, "pixel"),
        ("beam_center_y", scan.beam_center_y, "pixel"),
        ("pixel_size", scan.pixel_size, "m"),
        ("detector_distance", scan.distance, "m"),
        ("energy", scan.energy, "keV"),
    ):
        stored(group, name, value, unit=unit)
    stored(group, "source_file", "")


def _grid(q_list: np.ndarray, phi_list: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of q and of phi, and the place i_q * n_phi + i_phi of each label in their grid; one phi for rings."""
    rings = q_list, np.zeros(1), np.arange(q_list.size)
    if phi_list is None or not np.isfinite(np.concatenate([q_list, phi_list])).all():
        return rings
    q, i_q = np.unique(q_list, return_inverse=True)
    phi, i_phi = np.unique(phi_list, return_inverse=True)
    mapping = i_q * phi.size + i_phi
    return (q, phi, mapping) if np.unique(mapping).size == mapping.size else rings


def _write_means(xpcs: h5py.Group, result: Result) -> None:
    """Mean counts of a pixel and frame: in time, on the detector (0 outside of the q-bins), in the static bins."""
    times = np.arange(result.num_frames, dtype=np.float32)
    stored(xpcs, "spatial_mean/intensity_vs_time", np.stack([times, result.intensity.astype(np.float32)]))
    image = np.nan_to_num(result["saxs_2d"], nan=0.0)
    stored(xpcs, "temporal_mean/scattering_2d", image[np.newaxis].astype(np.float32))
    stored(xpcs, "temporal_mean/scattering_1d", result["saxs_1d"][np.newaxis])
    stored(xpcs, "temporal_mean/scattering_1d_segments", result["saxs_1d_segments"])


def _write_multitau(group: h5py.Group, result: Result) -> None:
    _write_config(group, result, "Multitau")
    stored(group, "delay_list", result["lag"].astype(np.int64))
    stored(group, "normalized_g2", result["g2"].T)
    stored(group, "normalized_g2_err", result["g2_err"].T)


def _write_twotime(group: h5py.Group, result: Result) -> None:
    _write_config(group, result, "Twotime")
    stored(group, "processed_bins", np.arange(1, result.num_q_bins + 1))
    maps, length = group.create_group("correlation_map"), result.num_frames
    lines = [Lines(length) for _ in range(result.num_q_bins)]
    for q_bin, line in enumerate(lines):
        c2 = empty_map(maps, f"c2_{q_bin + 1:05d}", (length, length))
        for start, rows in result.rows(q_bin):
            c2[start : start + len(rows), start:] = np.triu(rows[:, start:])
            line.add(start, rows[:, start:])
    g2 = np.stack([line.whole()[0] for line in lines], axis=-1)
    stored(group, "normalized_g2", g2.astype(np.float32))
    segments = np.stack([line.segments() for line in lines], axis=-1)
    stored(group, "normalized_g2_segments", segments.astype(np.float32))


def _write_config(group: h5py.Group, result: Result, analysis: str) -> None:
    """Frames, and the options that boost_corr has too; all options lie in `/ainerd_hpc/correlation`."""
    options = result.attributes["options"]
    span = result.stride_frames * result.average_frames
    config = {
        "analysis_type": analysis,
        "begin_frame": result.first_frame,
        "end_frame": result.first_frame + result.num_frames * span,
        "stride_frame": result.stride_frames,
        "avg_frame": result.average_frames,
        "smooth": "sqmap" if options["normalisation"] == "static" else "dqmap",
        "normalize_frame": int(bool(options["frame_normalisation"])),
        "dpl": options["delays_per_level"],
    }
    for name, value in config.items():
        stored(group, f"config/{name}", value)
