"""What `ainerd-hpc export` writes: against the archive, the layouts it claims, and the programs that read these."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from ainerd_hpc.archive.groups import reading_group, writing_group
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.tables import read_table
from ainerd_hpc.cli import main
from ainerd_hpc.commands.export import FORMATS
from ainerd_hpc.config import RunConfig
from ainerd_hpc.formats.partitions.partition import read_partition
from ainerd_hpc.formats.results.aps import ApsResult
from ainerd_hpc.formats.results.nxxpcs import NxXpcs
from ainerd_hpc.formats.results.writing import of_q_bins
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.pipeline import Run
from ainerd_hpc.types import Scan
from tests.conftest import SMALL
from tests.support.correlation_truth import configure, photons, read_arrays, write_source

SCAN = "sim_0001"
FIRST, STRIDE, AVERAGE = 3, 2, 3
"""Of the second archive: of 640 frames 106 are left."""
READERS = {"aps": ApsResult, "nxxpcs": NxXpcs}
ENDS = {"aps": "_results.hdf", "nxxpcs": "_nxxpcs.h5"}

APS_REQUIRED = {
    "entry/start_time": (),
    "entry/instrument/incident_beam/incident_energy": (),
    "entry/instrument/detector_1/frame_time": (),
    "entry/instrument/detector_1/count_time": (),
    "xpcs/qmap/mask": ("y", "x"),
    "xpcs/qmap/dynamic_roi_map": ("y", "x"),
    "xpcs/qmap/static_roi_map": ("y", "x"),
    "xpcs/qmap/dynamic_v_list_dim0": ("q",),
    "xpcs/qmap/static_v_list_dim0": ("s",),
    "xpcs/qmap/dynamic_v_list_dim1": (1,),
    "xpcs/qmap/static_v_list_dim1": (1,),
    "xpcs/qmap/beam_center_x": (),
    "xpcs/qmap/beam_center_y": (),
    "xpcs/qmap/detector_distance": (),
    "xpcs/qmap/pixel_size": (),
    "xpcs/qmap/static_index_mapping": ("s",),
    "xpcs/qmap/dynamic_index_mapping": ("q",),
    "xpcs/qmap/static_num_pts": (2,),
    "xpcs/qmap/dynamic_num_pts": (2,),
    "xpcs/qmap/map_names": (2,),
    "xpcs/qmap/map_units": (2,),
    "xpcs/spatial_mean/intensity_vs_time": (2, "t"),
    "xpcs/temporal_mean/scattering_2d": (1, "y", "x"),
    "xpcs/temporal_mean/scattering_1d": (1, "s"),
    "xpcs/temporal_mean/scattering_1d_segments": (10, "s"),
    "xpcs/multitau/delay_list": ("lag",),
    "xpcs/multitau/normalized_g2_err": ("lag", "q"),
    "xpcs/multitau/config/stride_frame": (),
    "xpcs/multitau/config/avg_frame": (),
    "xpcs/twotime/processed_bins": ("q",),
    "xpcs/twotime/normalized_g2": ("t", "q"),
    "xpcs/twotime/normalized_g2_segments": ("t / 5", 5, "q"),
    "xpcs/twotime/config/stride_frame": (),
    "xpcs/twotime/config/avg_frame": (),
}
"""What pyXpcsViewer cannot do without, besides g2 and C2 themselves and the attribute `hash` of the q map."""
NXXPCS_REQUIRED = {
    "entry": "NXentry",
    "entry/definition": "",
    "entry/entry_identifier": "",
    "entry/scan_number": "",
    "entry/start_time": "",
    "entry/data": "NXdata",
    "entry/twotime": "NXdata",
    "entry/instrument": "NXinstrument",
    "entry/instrument/incident_beam": "NXbeam",
    "entry/instrument/incident_beam/incident_energy": "keV",
    "entry/instrument/detector": "NXdetector",
    "entry/instrument/detector/count_time": "s",
    "entry/instrument/detector/frame_time": "s",
    "entry/instrument/detector/beam_center_x": "pixel",
    "entry/instrument/detector/beam_center_y": "pixel",
    "entry/instrument/masks": "NXnote",
    "entry/instrument/masks/dynamic_roi_map": "au",
    "entry/process": "NXprocess",
}
"""Required groups with their class, required fields with their unit."""
PLACES = {
    "aps": {
        "g2": "xpcs/multitau/normalized_g2",
        "g2_err": "xpcs/multitau/normalized_g2_err",
        "lag": "xpcs/multitau/delay_list",
        "saxs_1d": "xpcs/temporal_mean/scattering_1d",
        "saxs_1d_segments": "xpcs/temporal_mean/scattering_1d_segments",
        "dynamic_q_list": "xpcs/qmap/dynamic_v_list_dim0",
        "static_q_list": "xpcs/qmap/static_v_list_dim0",
    },
    "nxxpcs": {
        "g2": "entry/data/g2",
        "g2_err": "entry/data/g2_derr",
        "lag": "entry/data/delay_difference",
        "dynamic_q_list": "entry/instrument/masks/dynamic_q_list",
        "static_q_list": "entry/instrument/masks/static_q_list",
    },
}
"""Where a format has a place for an array of the correlation product; all others lie in /ainerd_hpc/correlation."""


class Exported:
    """An archive, the scan in it that is looked at, and a folder of it in every format."""

    def __init__(self, root: Path, config: RunConfig, scan_id: str) -> None:
        Run(config, until="correlate").execute()
        self.root, self.folder, self.scan_id = config.archive, root / "out", scan_id
        for name in FORMATS:
            assert run("export", "--archive", self.root, "--format", name, "--output", self.folder) == 0
        self.arrays = read_arrays(self.root, scan_id)
        self.c2 = self.arrays.pop("c2")
        del self.arrays["c2_unnormalized"]

    @property
    def scan(self) -> Scan:
        return next(scan for scan in Archive(self.root).read_catalog() if scan.scan_id == self.scan_id)

    def path(self, name: str) -> Path:
        return self.folder / f"{self.scan_id}{ENDS[name]}"

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.folder / f"{self.scan_id}_{name}.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def plain(simulated_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Six simulated scans, as they are."""
    root = tmp_path_factory.mktemp("plain")
    return Exported(root, configure(simulated_source, root / "archive"), SCAN)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Frames that were chosen and averaged, one of which is dark, and other options than the defaults."""
    root = tmp_path_factory.mktemp("odd")
    frames = photons(640)
    frames[63:69] = 0
    options = {"begin_frame": FIRST, "stride_frames": STRIDE, "average_frames": AVERAGE, "age_windows": 3}
    write_source(root / "source", frames)
    return Exported(
        root, configure(root / "source", root / "archive", correlate=options | {"g2_rule": "ratio"}), "scan"
    )


@pytest.fixture(scope="module")
def strip(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A scan of which C2 was made only along its diagonal."""
    root = tmp_path_factory.mktemp("strip")
    write_source(root / "source", photons(600), num_q_bins=2)
    return Exported(root, configure(root / "source", root / "archive", maps={"windows": [64]}), "scan")


@pytest.fixture(params=["plain", "odd", "strip"])
def exported(request: pytest.FixtureRequest) -> Exported:
    found: Exported = request.getfixturevalue(request.param)
    return found


def test_every_dataset_of_the_aps_layout(exported: Exported) -> None:
    arrays = exported.arrays
    (height, width), num_frames = arrays["saxs_2d"].shape, exported.c2.shape[-1]
    sizes = {"y": height, "x": width, "t": num_frames, "t / 5": num_frames // 5}
    sizes |= {"q": len(arrays["g2"]), "s": len(arrays["saxs_1d"]), "lag": len(arrays["lag"])}
    assert len(APS_REQUIRED) == 34
    with h5py.File(exported.path("aps")) as file:
        for name, shape in APS_REQUIRED.items():
            assert file[name].shape == tuple(sizes.get(size, size) for size in shape), name
        for name in ("multitau", "twotime/normalized_g2", "spatial_mean", "temporal_mean"):
            for kind, item in datasets(file[f"xpcs/{name}"]):
                assert item.dtype == np.float32 or "delay_list" in item.name or "config" in item.name, kind
        assert file["xpcs/multitau/delay_list"].dtype == np.int64
        assert file["xpcs/qmap"].attrs["hash"] == exported.scan.partition
        assert "entry/instrument/bluesky/metadata" in file
        assert all(item.compression in (None, "gzip", "lzf") for _, item in datasets(file))


def datasets(group: h5py.Group | h5py.Dataset) -> Iterator[tuple[str, h5py.Dataset]]:
    if isinstance(group, h5py.Dataset):
        yield group.name, group
        return
    found: list[tuple[str, h5py.Dataset]] = []
    group.visititems(lambda name, item: found.append((name, item)) if isinstance(item, h5py.Dataset) else None)
    yield from found


def test_metadata_of_the_aps_layout(plain: Exported, simulated_source: Path) -> None:
    partition, scan = read_partition(simulated_source / "simulated_qmap.hdf"), plain.scan
    with h5py.File(plain.path("aps")) as file, h5py.File(simulated_source / f"{SCAN}_metadata.hdf") as truth:
        for name in ("frame_time", "count_time", "x_pixel_size", "y_pixel_size", "distance", "beam_center_x"):
            place = f"entry/instrument/detector_1/{name}"
            assert file[place][()] == truth[place][()]
        energy = "entry/instrument/incident_beam/incident_energy"
        assert file[energy][()] == file["xpcs/qmap/energy"][()] == truth[energy][()]
        started = (datetime.fromisoformat(one["entry/start_time"].asstr()[()]) for one in (file, truth))
        assert next(started) == next(started)
        for name in ("mask", "dynamic_roi_map", "static_roi_map"):
            np.testing.assert_array_equal(file[f"xpcs/qmap/{name}"], getattr(partition, name))
        assert file["xpcs/rawdata_path"].asstr()[()] == scan.source
        assert file.attrs["simulated"]
        assert list(file["xpcs/qmap/map_names"].asstr()) == ["q", "phi"]


def test_bins_of_q_and_phi_are_a_grid(plain: Exported, tmp_path: Path) -> None:
    archive = shutil.copytree(plain.root, tmp_path / "archive")
    path = archive / "partitions" / f"{plain.scan.partition}.zarr.zip"
    with reading_group(path) as group:
        arrays = {name: found[...] for name, found in group.arrays()}
    arrays |= {"dynamic_q_list": np.array([0.02, 0.02]), "dynamic_phi_list": np.array([30.0, -60.0])}
    with writing_group(path, {"digest": plain.scan.partition}) as writer:
        for name, values in arrays.items():
            writer.add(name, values, [f"{name}_{axis}" for axis in range(values.ndim)])
    command = ("export", "--archive", archive, "--format", "aps", "--output", tmp_path, "--scan", SCAN)
    assert run(*command) == 0
    with h5py.File(tmp_path / f"{SCAN}_results.hdf") as file:
        qmap = file["xpcs/qmap"]
        assert qmap["dynamic_v_list_dim0"][...].tolist() == [0.02]
        assert qmap["dynamic_v_list_dim1"][...].tolist() == [-60.0, 30.0]
        assert qmap["dynamic_num_pts"][...].tolist() == [1, 2]
        assert qmap["dynamic_index_mapping"][...].tolist() == [1, 0]
        assert qmap["static_num_pts"][1] == 1
        assert file["ainerd_hpc/partition/dynamic_phi_list"][...].tolist() == [30.0, -60.0]


def test_mean_counts_of_the_aps_layout(exported: Exported) -> None:
    arrays = exported.arrays
    with h5py.File(exported.path("aps")) as file:
        index, intensity = file["xpcs/spatial_mean/intensity_vs_time"]
        image = file["xpcs/temporal_mean/scattering_2d"][0]
    np.testing.assert_array_equal(index, np.arange(exported.c2.shape[-1]))
    weight = arrays["num_pixels"][:, None]
    np.testing.assert_allclose(intensity, (arrays["intensity"] * weight).sum(axis=0) / weight.sum(), rtol=1e-6)
    known = np.isfinite(arrays["saxs_2d"])
    np.testing.assert_array_equal(image[known], arrays["saxs_2d"][known])
    assert not image[~known].any()


def test_two_time_maps_of_the_aps_layout(exported: Exported) -> None:
    """Upper triangle with the raw diagonal, zeros below; numbered from 1; means along the diagonals from lag 0 on."""
    c2, num_frames = exported.c2.astype(np.float64), exported.c2.shape[-1]
    with h5py.File(exported.path("aps")) as file:
        twotime = file["xpcs/twotime"]
        names = [f"c2_{number:05d}" for number in range(1, len(c2) + 1)]
        assert list(twotime["correlation_map"]) == names
        assert twotime["processed_bins"][...].tolist() == list(range(1, len(c2) + 1))
        for name, one in zip(names, exported.c2, strict=True):
            stored = twotime[f"correlation_map/{name}"][...]
            np.testing.assert_array_equal(stored, np.where(np.tri(num_frames, k=-1, dtype=bool), 0, one))
        g2, segments = twotime["normalized_g2"][...], twotime["normalized_g2_segments"][...]
    length = num_frames // 5
    for q_bin, one in enumerate(c2):
        np.testing.assert_allclose(g2[:, q_bin], diagonal_means(one), rtol=1e-6)
        for number in range(5):
            inside = slice(number * length, (number + 1) * length)
            np.testing.assert_allclose(segments[:, number, q_bin], diagonal_means(one[inside, inside]), rtol=1e-6)


def diagonal_means(c2: np.ndarray) -> np.ndarray:
    lines = [np.diagonal(c2, lag) for lag in range(len(c2))]
    return np.array([line[np.isfinite(line)].mean() if np.isfinite(line).any() else np.nan for line in lines])


def test_frames_as_they_were_taken(odd: Exported) -> None:
    """The period and start in the file are those of the raw frames; stride, average and first frame tell the rest."""
    scan, frame_time = odd.scan, odd.scan.frame_time
    with h5py.File(odd.path("aps")) as file:
        assert file["entry/instrument/detector_1/frame_time"][()] == frame_time
        for kind in ("multitau", "twotime"):
            config = {name: file[f"xpcs/{kind}/config/{name}"][()] for name in file[f"xpcs/{kind}/config"]}
            wanted = ("begin_frame", "end_frame", "stride_frame", "avg_frame", "normalize_frame", "dpl")
            assert [config[name] for name in wanted] == [FIRST, FIRST + 106 * 6, STRIDE, AVERAGE, 0, 4]
    with h5py.File(odd.path("nxxpcs")) as file:
        assert file["entry/instrument/detector/frame_time"][()] == pytest.approx(6 * frame_time)
        np.testing.assert_allclose(file["entry/twotime/t1"], np.arange(106) * 6 * frame_time)
    for name, reader in READERS.items():
        with SourceFile(odd.path(name)) as file:
            metadata = reader.describe(file).metadata
        assert metadata.frame_time == pytest.approx(6 * frame_time, rel=1e-12)
        assert metadata.start_time == pytest.approx(scan.start_time + FIRST * frame_time, abs=1e-6)


@pytest.mark.parametrize("name", READERS)
def test_nothing_is_lost_on_the_way_out_and_in(exported: Exported, name: str) -> None:
    """C2 bit by bit through our own reader, every other array from where it lies in the file."""
    path, reader, scan = exported.path(name), READERS[name], exported.scan
    np.testing.assert_array_equal(reader.read_c2(path).view(np.uint32), exported.c2.view(np.uint32))
    np.testing.assert_array_equal(reader.read_q(path), exported.arrays["dynamic_q_list"])
    with SourceFile(path) as file:
        assert reader.matches(file)
        found = reader.describe(file)
    assert (found.num_q_bins, found.num_frames, found.simulated) == (*exported.c2.shape[:2], scan.simulated)
    for field in ("count_time", "energy", "distance", "pixel_size", "beam_center_x", "beam_center_y", "detector"):
        assert getattr(found.metadata, field) == getattr(scan, field)
    with h5py.File(path) as file, reading_group(exported.root / "correlation" / f"{scan.scan_id}.zarr.zip") as product:
        for array, values in exported.arrays.items():
            stored = file[PLACES[name].get(array, f"ainerd_hpc/correlation/{array}")]
            in_place = stored[...].T if array in ("g2", "g2_err") else stored[...].reshape(values.shape)
            assert in_place.dtype == values.dtype, array
            np.testing.assert_array_equal(in_place, values, err_msg=array)
            if array not in PLACES[name]:
                described = product[array]
                assert tuple(stored.attrs["dims"]) == described.metadata.dimension_names
                assert all(np.array_equal(stored.attrs[key], value) for key, value in described.attrs.items())
        kept = file["ainerd_hpc/correlation"].attrs
        assert {key: kept[key] for key in ("digest", "partition", "definition")} == {
            key: product.attrs[key] for key in ("digest", "partition", "definition")
        }
        assert json.loads(file["ainerd_hpc/correlation/options"].asstr()[()]) == product.attrs["options"]
        catalog = file["ainerd_hpc/scan"].attrs
        assert (catalog["scan_id"], catalog["start_time"]) == (scan.scan_id, scan.start_time)


def test_required_fields_of_nxxpcs(exported: Exported) -> None:
    with h5py.File(exported.path("nxxpcs")) as file:
        for name, kind in NXXPCS_REQUIRED.items():
            item = file[name]
            found = item.attrs.get("NX_class" if isinstance(item, h5py.Group) else "units", "")
            assert found == kind, name
        assert file["entry/definition"].asstr()[()] == "NXxpcs"
        assert file["entry/entry_identifier"].asstr()[()] == exported.scan_id
        assert datetime.fromisoformat(file["entry/start_time"].asstr()[()]).tzinfo
        c2 = dict(file["entry/twotime/two_time_corr_func"].attrs)
        wanted = {"storage_mode": "one_array_q_first", "baseline_reference": 1, "populated_elements": "all"}
        assert wanted.items() <= c2.items()
        assert c2["time_origin_location"] == "upper_left"
        for name in ("data", "twotime"):
            group = file[f"entry/{name}"]
            shape = tuple(group[axis].size for axis in group.attrs["axes"])
            assert group[group.attrs["signal"]].shape == shape
        lines = file["entry/twotime/g2_from_two_time_corr_func"][...]
        partials = file["entry/twotime/g2_from_two_time_corr_func_partials"][...]
    for q_bin, one in enumerate(exported.c2.astype(np.float64)):
        np.testing.assert_allclose(lines[:, q_bin], diagonal_means(one), rtol=1e-6)
        length = len(one) // 5
        np.testing.assert_allclose(
            partials[:, q_bin, 1], diagonal_means(one[length:][:length, length:][:, :length]), 1e-6
        )


def test_nxxpcs_by_a_public_validator(exported: Exported) -> None:
    validate = pytest.importorskip("nexusformat.nexus.validate", reason="nexusformat is not installed")
    warnings, errors = validate.validate_application(str(exported.path("nxxpcs")), application="NXxpcs")
    assert errors == 0
    assert warnings <= 1  # of scan_number, which is required and deprecated


def test_results_in_the_viewer(exported: Exported) -> None:
    viewer = pytest.importorskip(
        "pyxpcsviewer.core.xpcs_file", reason="pyXpcsViewer (xpcs-viewer on PyPI) is not installed"
    )
    found, arrays = viewer.XpcsFile(str(exported.path("aps"))), exported.arrays
    assert set(found.atype) == {"Multitau", "Twotime"}
    period = exported.scan.frame_time * (STRIDE * AVERAGE if exported.c2.shape[-1] == 106 else 1)
    q, delay, g2, _, labels = found.get_g2_data()
    np.testing.assert_allclose(q, arrays["dynamic_q_list"])
    np.testing.assert_allclose(delay, arrays["lag"] * period)
    np.testing.assert_array_equal(g2, arrays["g2"].T)
    assert len(labels) == len(q)
    for q_bin, c2 in enumerate(exported.c2):
        shown = found.get_twotime_c2(selection=q_bin, correct_diag=False)
        np.testing.assert_array_equal(shown["c2_mat"], c2)
        assert shown["acquire_period"] == pytest.approx(period)
    np.testing.assert_array_equal(found.saxs_1d["Iq"][0], arrays["saxs_1d"])
    assert found.c2_t0 == pytest.approx(period)


def test_the_tables(exported: Exported) -> None:
    arrays, frame_time = exported.arrays, float(exported.arrays["delay"][0] / exported.arrays["lag"][0])
    rows = exported.table("g2")
    assert list(rows[0])[:6] == ["scan_id", "method", "q_bin", "q_per_angstrom", "age_start_s", "age_stop_s"]
    assert {row["scan_id"] for row in rows} == {exported.scan_id}
    num_windows, num_frames = arrays["g2_window"].shape[1], exported.c2.shape[-1]
    length = num_frames // num_windows
    for q_bin, q in enumerate(arrays["dynamic_q_list"]):
        here = [row for row in rows if row["q_bin"] == str(q_bin)]
        assert {float(row["q_per_angstrom"]) for row in here} == {q}
        check_curve(here, "multitau", 0, arrays["lag"] * frame_time, arrays["g2"][q_bin], arrays["g2_err"][q_bin])
        every = np.arange(1, num_frames) * frame_time
        check_curve(here, "c2", 0, every, arrays["g2_c2"][q_bin], arrays["g2_c2_err"][q_bin])
        for window in range(num_windows):
            aged = arrays["g2_window"][q_bin, window], arrays["g2_window_err"][q_bin, window]
            check_curve(here, "c2_window", window * length * frame_time, every[: length - 1], *aged)
    fits = {
        (row["method"], int(row["q_bin"]), float(row["age_start_s"]), row["parameter"]): row
        for row in exported.table("fits")
    }
    assert len(fits) == len(arrays["g2"]) * (1 + num_windows) * 6
    for (method, q_bin, start, parameter), row in fits.items():
        ending, at = ("", q_bin) if method == "multitau" else ("_window", (q_bin, round(start / frame_time) // length))
        np.testing.assert_equal(number(row["value"]), arrays[f"{parameter}{ending}"][at])
        assert row["unit"] == ("s" if parameter == "tau" else "1")
        if f"{parameter}_err" in arrays:
            np.testing.assert_equal(number(row["error"]), arrays[f"{parameter}_err{ending}"][at])


def check_curve(
    rows: list[dict[str, str]], method: str, start: float, delay: np.ndarray, g2: np.ndarray, g2_err: np.ndarray
) -> None:
    found = [row for row in rows if row["method"] == method and abs(float(row["age_start_s"]) - start) < 1e-9]
    np.testing.assert_allclose([float(row["delay_s"]) for row in found], delay, rtol=1e-12)
    for name, values in (("g2", g2), ("g2_err", g2_err)):
        np.testing.assert_array_equal(np.array([number(row[name]) for row in found], np.float32), values)


def number(text: str) -> float:
    return float(text) if text else np.nan


def test_the_same_archive_gives_the_same_bytes(plain: Exported, tmp_path: Path) -> None:
    for name in FORMATS:
        assert run("export", "--archive", plain.root, "--format", name, "--output", tmp_path, "--scan", SCAN) == 0
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 5
    assert [path.read_bytes() for path in paths] == [(plain.folder / path.name).read_bytes() for path in paths]


def test_all_scans_by_a_config_and_nothing_but_these(plain: Exported, tmp_path: Path, simulated_source: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"archive: {plain.root}\nsource:\n  path: {simulated_source}\n", encoding="utf-8")
    assert run("export", config, "--format", "aps", "--output", tmp_path / "out") == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"sim_{number:04d}_results.hdf" for number in range(SMALL.num_scans)]


def test_intensities_over_time_are_those_of_the_counts(plain: Exported, simulated_source: Path) -> None:
    with h5py.File(simulated_source / f"{SCAN}.h5") as file, h5py.File(simulated_source / "simulated_qmap.hdf") as qmap:
        counts, mask = file["entry/data/data"][...].astype(float), qmap["qmap/mask"][...] > 0
        labels = np.where(mask, qmap["qmap/dynamic_roi_map"][...], 0)
    rows = plain.table("intensity")
    assert [int(row["q_bin"]) for row in rows] == [0, 1]
    for label, row in enumerate(rows, start=1):
        mean = counts[:, labels == label].mean(axis=1)
        truth = {"mean": mean.mean(), "min": mean.min(), "max": mean.max(), "std": mean.std(ddof=1)}
        assert {name: float(row[f"intensity_{name}"]) for name in truth} == pytest.approx(truth, rel=1e-6)
        assert (int(row["num_pixels"]), int(row["num_frames"])) == ((labels == label).sum(), len(counts))
        assert row["beyond_speckle"] == ""


def test_a_file_that_is_there_is_kept(plain: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / f"{SCAN}_results.hdf").write_text("mine", encoding="utf-8")
    command = ("export", "--archive", plain.root, "--format", "aps", "--output", tmp_path)
    assert run(*command) == 3
    told = capsys.readouterr()
    lines = [line for line in told.out.splitlines() if "not exported" in line]
    assert len(lines) == 1
    assert "give --overwrite" in lines[0]
    assert "1 of 6 scans could not be exported" in told.err
    assert (tmp_path / f"{SCAN}_results.hdf").read_text(encoding="utf-8") == "mine"
    assert len(list(tmp_path.iterdir())) == 6  # no temporary file either
    assert run(*command, "--overwrite") == 0
    assert (tmp_path / f"{SCAN}_results.hdf").read_bytes() == plain.path("aps").read_bytes()


@pytest.mark.parametrize(("name", "damage"), [("aps", "truncated"), ("nxxpcs", "missing"), ("csv", "truncated")])
def test_one_scan_does_not_stop_the_others(
    plain: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, damage: str
) -> None:
    archive = shutil.copytree(plain.root, tmp_path / "archive")
    product = archive / "correlation" / f"{SCAN}.zarr.zip"
    product.unlink() if damage == "missing" else product.write_bytes(product.read_bytes()[:2000])
    assert run("export", "--archive", archive, "--format", name, "--output", tmp_path / "out") == 3
    assert sum("not exported: sim_0001" in line for line in capsys.readouterr().out.splitlines()) == 1
    done = {path.name[:8] for path in (tmp_path / "out").iterdir()}
    assert done == {f"sim_{number:04d}" for number in range(SMALL.num_scans)} - {SCAN}


def test_what_is_in_quarantine_is_left_out(tmp_path: Path, source: Path) -> None:
    (source / "sim_0002.h5").write_bytes((source / "sim_0002.h5").read_bytes()[:5000])
    command = ("run", "--source", source, "--archive", tmp_path / "archive", "--executor", "inline")
    assert run(*command, "--until", "correlate") == 3
    assert run("export", "--archive", tmp_path / "archive", "--format", "csv", "--output", tmp_path / "out") == 0
    assert not (tmp_path / "out" / "sim_0002_g2.csv").exists()
    assert len(list((tmp_path / "out").iterdir())) == 15


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--scan", "sim_0010"], "did you mean sim_00"),
        (["--scan", "zzz"], "it has 6 scans, such as sim_0000"),
        (["--archive", "nowhere"], "expected a catalog, found none"),
    ],
)
def test_wrong_usage(
    plain: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    command = ["export", "--archive", plain.root, "--format", "aps", "--output", tmp_path / "out", *arguments]
    assert run(*command) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run("export", "--format", "aps", "--output", tmp_path / "out") == 2
    assert "expected a config or an archive" in capsys.readouterr().err


def test_what_the_archive_does_not_know_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = photons(40)
    for scan_id in ("one", "two"):
        write_source(tmp_path / "source", frames + (scan_id == "two"), scan_id=scan_id)
        with h5py.File(tmp_path / "source" / f"{scan_id}_metadata.hdf", "a") as file:
            for name in ("start_time", "instrument/incident_beam/incident_energy", "instrument/detector_1/distance"):
                del file[f"entry/{name}"]
    Run(configure(tmp_path / "source", tmp_path / "archive"), until="correlate").execute()
    capsys.readouterr()
    for name, reader in READERS.items():
        assert run("export", "--archive", tmp_path / "archive", "--format", name, "--output", tmp_path / "out") == 0
        told = [line for line in capsys.readouterr().out.splitlines() if "NaN" in line]
        assert len(told) == 1
        assert "start_time (2 scans), energy (2 scans), distance (2 scans)" in told[0]
        with SourceFile(tmp_path / "out" / f"one{ENDS[name]}") as file:
            metadata = reader.describe(file).metadata
        assert np.isnan([metadata.start_time, metadata.energy, metadata.distance]).all()
        assert metadata.count_time == 0.01


def test_scans_that_were_read_from_two_time_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They have no detector: no result in the layout of the APS, but all else."""
    t = np.arange(40)
    c2 = (1 + 0.3 * np.exp(-abs(t[:, None] - t) / np.array([5.0, 9.0])[:, None, None])).astype(np.float32)
    (tmp_path / "source").mkdir()
    np.save(tmp_path / "source" / "maps.npy", c2)
    command = ("run", "--source", tmp_path / "source", "--archive", tmp_path / "archive", "--executor", "inline")
    assert run(*command, "--set", "source.frame_time=0.5", "--until", "correlate") == 0
    command = ("export", "--archive", tmp_path / "archive", "--output", tmp_path / "out", "--format")
    assert run(*command, "aps") == 3
    assert "expected a scan that was correlated from frames" in capsys.readouterr().out
    assert run(*command, "nxxpcs") == 0
    np.testing.assert_array_equal(NxXpcs.read_c2(tmp_path / "out" / "maps_nxxpcs.h5"), c2)
    assert run(*command, "csv") == 0
    with (tmp_path / "out" / "maps_g2.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["method"], row["q_per_angstrom"]) for row in rows} == {("c2", "")}
    np.testing.assert_allclose([float(row["g2"]) for row in rows[:39]], c2[0, 0, 1:], rtol=1e-6)
    assert (tmp_path / "out" / "maps_fits.csv").read_text(encoding="utf-8").startswith("scan_id,method,q_bin,")


@pytest.mark.parametrize("name", READERS)
def test_an_archive_of_what_another_one_exported(plain: Exported, tmp_path: Path, name: str) -> None:
    """Results go round: out, in through the whole line, out again; the raw files are not needed."""
    (tmp_path / "source").mkdir()
    shutil.copy(plain.path(name), tmp_path / "source" / "again.h5")
    Run(configure(tmp_path / "source", tmp_path / "archive"), until="correlate").execute()
    arrays: dict[str, Any] = read_arrays(tmp_path / "archive", "again")
    np.testing.assert_array_equal(arrays["c2"], plain.c2)
    np.testing.assert_array_equal(arrays["dynamic_q_list"], plain.arrays["dynamic_q_list"])
    np.testing.assert_allclose(arrays["g2"], plain.arrays["g2_c2"], rtol=1e-6)
    (scan,) = Archive(tmp_path / "archive").read_catalog()
    assert (scan.frame_time, scan.start_time) == (plain.scan.frame_time, plain.scan.start_time)
    assert (scan.energy, scan.simulated) == (plain.scan.energy, True)
    command = ("export", "--archive", tmp_path / "archive", "--format", "nxxpcs", "--output", tmp_path / "out")
    assert run(*command) == 0
    np.testing.assert_array_equal(NxXpcs.read_c2(tmp_path / "out" / "again_nxxpcs.h5"), plain.c2)
    np.testing.assert_array_equal(NxXpcs.read_q(tmp_path / "out" / "again_nxxpcs.h5"), arrays["dynamic_q_list"])


@pytest.mark.parametrize("name", READERS)
def test_what_maps_are_alike_lies_beside_them(whole_archive: Path, tmp_path: Path, name: str) -> None:
    """Every map in one group, the longest of each q-bin in another; C2 is read as before."""
    archive = Archive(whole_archive)
    assert run("export", whole_archive, "--format", name, "--output", tmp_path, "--scan", SCAN) == 0
    maps = read_table(archive.clusters_path("default"))
    latents = read_table(archive.embedding_path("default")).set_index("map_id")["latent"]
    maps = maps[maps["scan_id"] == SCAN]
    path = tmp_path / f"{SCAN}{ENDS[name]}"
    with h5py.File(path) as file:
        found, of_q_bins = file["ainerd_hpc/maps"], file["ainerd_hpc/q_bins"]
        assert list(found["map_id"].asstr()) == maps["map_id"].tolist()
        assert list(found["kind"].asstr()) == maps["kind"].fillna("").tolist()
        np.testing.assert_array_equal(found["label"], maps["label"])
        np.testing.assert_array_equal(found["novelty"], maps["novelty"])
        np.testing.assert_array_equal(found["latent"], np.stack(latents.loc[maps["map_id"]].to_list()))
        whole = maps[maps["age_stop"] - maps["age_start"] == 64].set_index("q_bin").sort_index()
        np.testing.assert_array_equal(of_q_bins["label"], whole["label"])
        np.testing.assert_array_equal(of_q_bins["latent"], np.stack(latents.loc[whole["map_id"]].to_list()))
        assert (found["q"].attrs["units"], found["age_start"].attrs["units"]) == ("1/angstrom", "frames")
    np.testing.assert_array_equal(READERS[name].read_c2(path), read_arrays(whole_archive, SCAN)["c2"])


def test_maps_are_a_table_of_csv_with_times_in_s(whole_archive: Path, tmp_path: Path) -> None:
    assert run("export", whole_archive, "--format", "csv", "--output", tmp_path, "--scan", SCAN) == 0
    table = pd.read_csv(tmp_path / f"{SCAN}_maps.csv")
    maps = read_table(Archive(whole_archive).clusters_path("default")).query("scan_id == @SCAN")
    assert table["label"].tolist() == maps["label"].tolist()
    np.testing.assert_allclose(table["age_stop_s"], maps["age_stop"] * 0.01)
    assert sum(name.startswith("latent_") for name in table) == 32


def test_a_q_bin_without_a_map_is_of_no_cluster() -> None:
    maps = {"map_id": ["a"], "q_bin": [1], "age_start": [0], "age_stop": [8], "label": [3], "latent": [np.ones(2)]}
    found = of_q_bins(pd.DataFrame(maps), 3)
    assert found["label"].tolist() == [-1, 3, -1]
    assert np.isnan(np.stack(found["latent"].to_list())).sum(axis=1).tolist() == [2, 0, 2]
