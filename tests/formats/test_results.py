"""Results of other programs as sources: files written byte by byte from their layouts, and what is refused of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.archive.tables import read_table
from ainerd_hpc.config import RunConfig, SourceConfig
from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.beside.metadata import is_metadata
from ainerd_hpc.formats.description import Description
from ainerd_hpc.formats.frames.aps import ApsHdf5
from ainerd_hpc.formats.partitions.partition import is_partition
from ainerd_hpc.formats.results.aps import ApsResult
from ainerd_hpc.formats.results.c2_maps import C2Hdf5
from ainerd_hpc.formats.results.legacy import EsrfResult, LegacyResult
from ainerd_hpc.formats.results.nxxpcs import NxXpcs
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.pipeline import Run
from ainerd_hpc.sources.discovery import discover
from ainerd_hpc.types import Content

LENGTH = 24
START = 1705305600.5  # 2024-01-15T08:00:00.5Z
READERS = {"aps": ApsResult, "legacy": LegacyResult, "nxxpcs": NxXpcs}
Put = dict[str, Any]


def c2_of(num_q_bins: int, length: int = LENGTH, seed: int = 0) -> np.ndarray:
    """Symmetric maps with noise, and a diagonal with shot noise."""
    rng, t = np.random.default_rng(seed), np.arange(length)
    taus = np.linspace(4.0, 12.0, num_q_bins)[:, None, None]
    half = np.triu(1 + 0.3 * np.exp(-2 * abs(t[:, None] - t) / taus) + rng.normal(0, 0.02, (length, length)))
    c2 = half + np.triu(half, 1).transpose(0, 2, 1) + 2.0 * np.eye(length)
    return np.asarray(c2, dtype=np.float32)


def aps(c2: np.ndarray) -> Put:
    """Today's APS layout: 2 x 3 bins of q and phi, the fourth empty; maps of the bins 2, 5, 3 ... in that order."""
    detector, qmap = "entry/instrument/detector_1", "xpcs/qmap"
    return {
        "entry/start_time": "2024-01-15T08:00:00.5Z",
        "entry/schema_version": "1.0",
        "entry/instrument/incident_beam/incident_energy": 10.0,
        "entry/sample/temperature": 25.5,
        f"{detector}/frame_time": 0.01,
        f"{detector}/count_time": 0.004,
        f"{detector}/x_pixel_size": 75e-6,
        f"{detector}/distance": 5.0,
        f"{detector}/beam_center_x": 5.0,
        f"{detector}/beam_center_y": 10.5,
        f"{detector}/description": "Lambda2M",
        f"{qmap}/dynamic_roi_map": np.arange(64, dtype=np.uint8).reshape(8, 8) % 6,
        f"{qmap}/dynamic_num_pts": [2, 3],
        f"{qmap}/dynamic_index_mapping": [0, 1, 2, 4, 5],
        f"{qmap}/dynamic_v_list_dim0": [0.01, 0.02],
        f"{qmap}/dynamic_v_list_dim1": [-60.0, 0.0, 60.0],
        f"{qmap}/map_names": ["q", "phi"],
        f"{qmap}/map_units": ["Å⁻¹", "deg"],
        "xpcs/temporal_mean/scattering_2d": np.ones((1, 32, 32), np.float32),
        "xpcs/multitau/normalized_g2": np.ones((10, 5), np.float32),
        "xpcs/multitau/config/stride_frame": 1,
        "xpcs/twotime/processed_bins": np.array([2, 5, 3, 1])[: len(c2)],
        "xpcs/twotime/config/stride_frame": 3,
        "xpcs/twotime/config/avg_frame": 2,
        **{f"xpcs/twotime/correlation_map/c2_{n:05d}": np.triu(one) for n, one in enumerate(c2, start=1)},
    }


def legacy(c2: np.ndarray) -> Put:
    """8-ID-I before the upgrade: tables of one row, lengths in mm; maps numbered by their place."""
    instrument = "measurement/instrument"
    return {
        "xpcs/Version": "1.0",
        "xpcs/analysis_type": "Twotime",
        "xpcs/dqlist": [[0.01, 0.02, 0.03, 0.04]],
        "xpcs/qphi_bin_to_process": np.array([[1, 2, 4]])[:, : len(c2)],
        "xpcs/stride_frames": np.array([[3]], np.uint64),
        "xpcs/avg_frames": np.array([[2]], np.uint64),
        "exchange/norm-0-g2": np.ones((10, 4), np.float32),
        "exchange/pixelSum": np.ones((32, 32), np.float32),
        f"{instrument}/detector/exposure_period": [[0.01]],
        f"{instrument}/detector/exposure_time": [[0.004]],
        f"{instrument}/detector/distance": [[5000.0]],
        f"{instrument}/detector/x_pixel_size": [[0.075]],
        f"{instrument}/detector/manufacturer": "LAMBDA",
        f"{instrument}/acquisition/beam_center_x": [[5.0]],
        f"{instrument}/acquisition/beam_center_y": [[10.5]],
        f"{instrument}/source_begin/energy": [[10.0]],
        f"{instrument}/source_begin/datetime": "Mon Jan 15 08:00:00 2024",
        **{f"exchange/C2T_all/g2_{n:05d}": np.triu(one) for n, one in enumerate(c2, start=1)},
    }


def nxxpcs(c2: np.ndarray) -> Put:
    """The application definition, in other units than ours."""
    maps, instrument = "run/twotime/two_time_corr_func", "run/instrument"
    return {
        "run/definition": "NXxpcs",
        "run/start_time": "2024-01-15T08:00:00.5Z",
        "run/data/g2": np.ones((10, len(c2)), np.float32),
        maps: c2,
        f"{maps}@storage_mode": "one_array_q_first",
        f"{maps}@baseline_reference": 1,
        f"{maps}@time_origin_location": "upper_left",
        f"{maps}@populated_elements": "all",
        f"{instrument}/incident_beam/incident_energy": 10000.0,
        f"{instrument}/incident_beam/incident_energy@units": "eV",
        f"{instrument}/lambda_2m/description": "Lambda2M",
        f"{instrument}/lambda_2m/frame_time": 60.0,
        f"{instrument}/lambda_2m/frame_time@units": "ms",
        f"{instrument}/lambda_2m/count_time": 0.004,
        f"{instrument}/lambda_2m/distance": 5000.0,
        f"{instrument}/lambda_2m/distance@units": "mm",
        f"{instrument}/lambda_2m/x_pixel_size": 75.0,
        f"{instrument}/lambda_2m/x_pixel_size@units": "um",
        f"{instrument}/lambda_2m/beam_center_x": 5.0,
        f"{instrument}/lambda_2m/beam_center_x@units": "pixel",
        f"{instrument}/lambda_2m/beam_center_y": 10.5 * 0.075,
        f"{instrument}/lambda_2m/beam_center_y@units": "mm",
        f"{instrument}/masks/dynamic_roi_map": np.ones((8, 8), np.uint8),
        f"{instrument}/masks/dynamic_q_list": 0.1 * np.arange(1, len(c2) + 1),
        f"{instrument}/masks/dynamic_q_list@units": "1/nm",
    }


LAYOUTS = {"aps": aps, "legacy": legacy, "nxxpcs": nxxpcs}
MAPS = {
    "aps": "xpcs/twotime/correlation_map/c2_00002",
    "legacy": "exchange/C2T_all/g2_00002",
    "nxxpcs": "run/twotime/two_time_corr_func",
}


def write(path: Path, content: Put) -> Path:
    """A file with these datasets and `name@attribute`s; None leaves one out."""
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            target, _, attribute = name.partition("@")
            if attribute:
                file[target].attrs[attribute] = value
            elif value is not None:
                file[target] = value
    return path


def describe(reader: Any, path: Path) -> Description:
    with SourceFile(path) as file:
        assert reader.matches(file)
        found: Description = reader.describe(file)
        return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_maps_and_metadata(tmp_path: Path, layout: str) -> None:
    c2 = c2_of(3)
    path, reader = write(tmp_path / "scan.hdf", LAYOUTS[layout](c2)), READERS[layout]
    found = describe(reader, path)
    assert (found.num_frames, found.num_q_bins, found.height) == (LENGTH, 3, 0)
    assert reader.content is Content.C2
    assert not found.simulated
    maps = reader.read_c2(path)
    assert maps.dtype == np.float32
    np.testing.assert_array_equal(maps, c2)
    metadata = found.metadata
    assert metadata.frame_time == pytest.approx(0.06)  # 0.01 s, every third frame, two averaged
    assert metadata.start_time == START - (0.5 if layout == "legacy" else 0)
    assert metadata.detector == ("LAMBDA" if layout == "legacy" else "Lambda2M")
    figures = [metadata.count_time, metadata.energy, metadata.distance, metadata.pixel_size]
    np.testing.assert_allclose(
        [*figures, metadata.beam_center_x, metadata.beam_center_y], [4e-3, 10, 5, 75e-6, 5, 10.5]
    )


@pytest.mark.parametrize(
    ("layout", "q"), [("aps", [0.01, 0.02, 0.01]), ("legacy", [0.01, 0.02, 0.04]), ("nxxpcs", [0.01, 0.02, 0.03])]
)
def test_q_is_that_of_the_bins_with_maps(tmp_path: Path, layout: str, q: list[float]) -> None:
    path = write(tmp_path / "scan.hdf", LAYOUTS[layout](c2_of(3)))
    np.testing.assert_allclose(READERS[layout].read_q(path), q, rtol=1e-12)


@pytest.mark.parametrize(
    ("layout", "change"),
    [
        ("aps", {"xpcs/qmap/map_names": ["x", "y"]}),
        ("aps", {"xpcs/qmap/dynamic_v_list_dim0": None}),
        ("legacy", {"xpcs/dqlist": None}),
        ("nxxpcs", {"run/instrument/masks/dynamic_q_list": np.ones((3, 2))}),
    ],
)
def test_q_that_is_not_told_is_not_invented(tmp_path: Path, layout: str, change: Put) -> None:
    path = write(tmp_path / "scan.hdf", LAYOUTS[layout](c2_of(3)) | change)
    assert np.isnan(READERS[layout].read_q(path)).all()
    assert describe(READERS[layout], path).num_q_bins == 3


@pytest.mark.parametrize(
    ("layout", "change"),
    [
        ("aps", {"xpcs/qmap/map_units": ["furlong", "deg"]}),
        ("aps", {"entry/instrument/detector_1/distance@units": "furlong"}),
        ("legacy", {"measurement/instrument/detector/distance@units": "furlong"}),
        ("nxxpcs", {"run/instrument/masks/dynamic_q_list@units": "furlong"}),
        ("nxxpcs", {"run/instrument/lambda_2m/count_time@units": "furlong"}),
    ],
)
def test_an_unknown_unit_is_refused_by_name(tmp_path: Path, layout: str, change: Put) -> None:
    path = write(tmp_path / "scan.hdf", LAYOUTS[layout](c2_of(3)) | change)
    with pytest.raises(ScanError, match=r"scan\.hdf:/\S+: expected a unit such as .*, found 'furlong'; correct"):
        describe(READERS[layout], path)


@pytest.mark.parametrize(
    ("layout", "change"),
    [("aps", {"xpcs/qmap/map_units": ["nm⁻¹", "deg"]}), ("legacy", {"xpcs/dqlist@units": "1/nm"})],
)
def test_q_in_other_units_is_converted(tmp_path: Path, layout: str, change: Put) -> None:
    as_it_is, changed = LAYOUTS[layout](c2_of(3)), LAYOUTS[layout](c2_of(3)) | change
    known = READERS[layout].read_q(write(tmp_path / "a.hdf", as_it_is))
    np.testing.assert_allclose(READERS[layout].read_q(write(tmp_path / "b.hdf", changed)), 0.1 * known, rtol=1e-12)


def test_bins_without_a_name_are_bins_of_q(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.hdf", aps(c2_of(3)) | {"xpcs/qmap/map_names": None, "xpcs/qmap/map_units": None})
    np.testing.assert_array_equal(ApsResult.read_q(path), [0.01, 0.02, 0.01])


def test_a_scan_begins_with_its_first_frame(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.hdf", aps(c2_of(2)) | {"xpcs/twotime/config/begin_frame": 200})
    assert describe(ApsResult, path).metadata.start_time == START + 2.0


def test_the_number_of_raw_frames_is_not_that_of_a_result(tmp_path: Path) -> None:
    """It is in the copy of the metadata; every third frame was taken, and two averaged."""
    write(tmp_path / "scan.hdf", aps(c2_of(2)) | {"entry/instrument/bluesky/metadata/num_capture": 6 * LENGTH})
    assert not discover(SourceConfig(path=tmp_path)).problems


@pytest.mark.parametrize("numbers", [[2, 4], [1, 3]])
def test_maps_that_are_numbered_by_their_q_bins(tmp_path: Path, numbers: list[int]) -> None:
    """xpcs-eigen numbers them so."""
    c2 = c2_of(2)
    names = {f"exchange/C2T_all/g2_{n:05d}": np.triu(one) for n, one in zip(numbers, c2, strict=True)}
    content = legacy(c2[:0]) | names | {"xpcs/qphi_bin_to_process": [[1], [2], [3], [4]]}
    path = write(tmp_path / "scan.hdf", content)
    np.testing.assert_array_equal(LegacyResult.read_c2(path), c2)
    np.testing.assert_allclose(LegacyResult.read_q(path), np.array(numbers) / 100)


@pytest.mark.parametrize("half", [np.triu, np.tril])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_either_triangle_is_completed(tmp_path: Path, layout: str, half: Callable[[np.ndarray], np.ndarray]) -> None:
    c2 = c2_of(2)
    content = LAYOUTS[layout](c2)
    stored = {name: half(c2 if value.ndim == 3 else value + np.triu(value, 1).T) for name, value in maps_of(content)}
    path = write(tmp_path / "scan.hdf", content | stored)
    np.testing.assert_array_equal(READERS[layout].read_c2(path), c2)


def maps_of(content: Put) -> list[tuple[str, np.ndarray]]:
    places = ("correlation_map/", "C2T_all/", "two_time_corr_func")
    return [(name, value) for name, value in content.items() if "@" not in name and any(p in name for p in places)]


@pytest.mark.parametrize("form", ["q first", "q last", "no mode, q last", "one map", "keys", "baseline 0", "flipped"])
def test_forms_of_nxxpcs(tmp_path: Path, form: str) -> None:
    c2, maps = c2_of(3), "run/twotime/two_time_corr_func"
    content = nxxpcs(c2)
    changed: Put = {}
    if form == "q last":
        changed = {maps: np.moveaxis(c2, 0, -1), f"{maps}@storage_mode": "one_array_q_last"}
    elif form == "no mode, q last":
        changed = {maps: np.moveaxis(c2, 0, -1), f"{maps}@storage_mode": "other"}
    elif form == "one map":
        c2 = c2[:1]
        changed = {maps: c2[0], "run/instrument/masks/dynamic_q_list": [0.1]}
    elif form == "keys":
        content = {name: value for name, value in content.items() if not name.startswith(maps)}
        changed = {f"{maps}/roi_{number}": one for number, one in zip((1, 2, 10), c2, strict=True)}
        changed["run/instrument/masks/dynamic_q_list"] = 0.1 * np.array([1, 2, 0, 0, 0, 0, 0, 0, 0, 3])
    elif form == "baseline 0":
        changed = {maps: np.triu(c2 - 1), f"{maps}@baseline_reference": 0}
    elif form == "flipped":
        changed = {maps: c2[:, ::-1], f"{maps}@time_origin_location": "lower_left"}
    path = write(tmp_path / "scan.h5", content | changed)
    assert describe(NxXpcs, path).num_q_bins == len(c2)
    np.testing.assert_allclose(NxXpcs.read_c2(path), c2, rtol=0, atol=1e-6 if form == "baseline 0" else 0)
    np.testing.assert_allclose(NxXpcs.read_q(path), 0.01 * np.arange(1, len(c2) + 1), rtol=1e-12)


def test_an_origin_at_the_lower_left_of_a_picture_turns_nothing(tmp_path: Path) -> None:
    c2, maps = c2_of(2), "run/twotime/two_time_corr_func"
    path = write(tmp_path / "scan.h5", nxxpcs(c2) | {f"{maps}@time_origin_location": "lower_left"})
    np.testing.assert_array_equal(NxXpcs.read_c2(path), c2)


def test_q_along_the_axis_of_the_maps(tmp_path: Path) -> None:
    content = {name: value for name, value in nxxpcs(c2_of(2)).items() if "/masks/" not in name}
    content |= {"run/twotime/q": [0.1, 0.2], "run/twotime/q@units": "nm^-1"}
    np.testing.assert_allclose(NxXpcs.read_q(write(tmp_path / "scan.h5", content)), [0.01, 0.02])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_g2_alone_is_known_and_refused_in_one_line(tmp_path: Path, layout: str) -> None:
    content = LAYOUTS[layout](c2_of(3))
    for name, _ in maps_of(content):
        content = {key: value for key, value in content.items() if not key.startswith(name)}
    path = write(tmp_path / "scan.hdf", content)
    with pytest.raises(ScanError, match=r"^[^\n]*scan\.hdf: expected two-time maps, found g2 only; correlate[^\n]*$"):
        describe(READERS[layout], path)
    found = discover(SourceConfig(path=tmp_path, frame_time=1.0))
    assert [(scan.scan_id, scan.state) for scan in found.scans] == [("scan", "quarantined")]


def test_maps_of_age_and_lag_are_known_and_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file.attrs["MagicString"] = "XPCSResultFile_v2.0"
        file["entry_0000/correlations/a/twotime/ttcf"] = np.ones((3, 40, 40), np.float32)
        file["entry_0000/time_averaged/frame_average"] = np.ones((64, 64))
    with pytest.raises(ScanError, match="age and lag"):
        describe(EsrfResult, path)
    assert discover(SourceConfig(path=tmp_path, frame_time=1.0)).scans[0].state == "quarantined"


BAD: list[tuple[str, Put, str]] = [
    *((layout, {MAPS[layout]: np.ones((2, LENGTH, 30))}, r"real numbers, found float64") for layout in LAYOUTS),
    *((layout, {MAPS[layout]: np.ones((2, LENGTH, LENGTH), int)}, r"found int64") for layout in LAYOUTS),
    ("aps", {MAPS["aps"]: np.ones((30, 30))}, r"c2_00002: expected two-time maps of \(24, 24\)"),
    ("legacy", {MAPS["legacy"]: np.ones((30, 30))}, r"g2_00002: expected two-time maps of \(24, 24\)"),
    ("nxxpcs", {MAPS["nxxpcs"]: np.full((3, LENGTH, LENGTH), np.nan)}, "found only NaN"),
    ("nxxpcs", {MAPS["nxxpcs"]: np.random.default_rng(0).random((3, LENGTH, LENGTH))}, "expected a symmetric C2"),
    ("nxxpcs", {MAPS["nxxpcs"]: 3.0}, "expected two-time maps"),
    ("nxxpcs", {f"{MAPS['nxxpcs']}@baseline_reference": 7}, "baseline_reference of 0 or 1"),
    ("aps", {"xpcs/twotime/config/stride_frame": None}, "stride_frame: expected a dataset, found none"),
    ("aps", {"xpcs/twotime/config/avg_frame": 0}, "avg_frame: expected a whole number above 0"),
    ("aps", {"xpcs/twotime/config/avg_frame": 1.5}, "avg_frame: expected a whole number above 0"),
    ("legacy", {"xpcs/stride_frames": None}, "stride_frames: expected a dataset"),
    ("legacy", {"xpcs/avg_frames": "two"}, "expected numbers"),
    ("legacy", {"xpcs/avg_frames": [[1, 2]]}, "expected a whole number above 0"),
    ("aps", {"xpcs/twotime/processed_bins": None}, "expected a bin for each of 3 maps"),
    ("aps", {"xpcs/twotime/processed_bins": [1, 2]}, "expected a bin for each of 3 maps"),
    ("aps", {"xpcs/twotime/processed_bins": [1, 2, 6]}, "expected numbers of q-bins from 1 to 5"),
    ("aps", {"xpcs/twotime/processed_bins": [0, 1, 2]}, "expected numbers of q-bins from 1 to 5"),
    ("aps", {"xpcs/twotime/processed_bins": [1, 2, np.nan]}, "expected numbers of q-bins from 1 to 5"),
    ("aps", {"xpcs/twotime/processed_bins": ["a", "b", "c"]}, "expected numbers"),
    ("aps", {MAPS["aps"]: None}, "expected a bin for each of 2 maps"),
    ("aps", {"xpcs/qmap/dynamic_index_mapping": [0, 1, 6, 7, 8]}, "dynamic_index_mapping: expected numbers of q-bins"),
    ("legacy", {"xpcs/qphi_bin_to_process": [[2, 4, 5, 6]]}, "expected a q-bin for each of 3 maps"),
    ("legacy", {"xpcs/dqlist": [[0.1, 0.2]]}, "expected numbers of q-bins from 1 to 2"),
    ("aps", {"entry/instrument/detector_1/frame_time": 0.0}, "expected a period above 0 s"),
    ("legacy", {"measurement/instrument/detector/exposure_period": [[np.nan]]}, "expected a period above 0 s"),
    ("nxxpcs", {"run/instrument/lambda_2m/frame_time": -1.0}, "expected a period above 0 s"),
    ("aps", {"entry/start_time": "yesterday"}, "yesterday"),
    ("nxxpcs", {"run/start_time": "yesterday"}, "yesterday"),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_map_of_nan_is_an_empty_q_bin(tmp_path: Path, layout: str) -> None:
    c2 = c2_of(3)
    whole = READERS[layout].read_c2(write(tmp_path / "whole.hdf", LAYOUTS[layout](c2)))
    c2[1] = np.nan
    found = READERS[layout].read_c2(write(tmp_path / "scan.hdf", LAYOUTS[layout](c2)))
    np.testing.assert_array_equal(found[[0, 2]], whole[[0, 2]])
    off_diagonal = ~np.eye(LENGTH, dtype=bool)
    assert np.isnan(found[1][off_diagonal]).all()


@pytest.mark.parametrize(("layout", "change", "told"), BAD)
def test_what_is_damaged_is_refused_in_one_line(tmp_path: Path, layout: str, change: Put, told: str) -> None:
    path, reader = write(tmp_path / "scan.hdf", LAYOUTS[layout](c2_of(3)) | change), READERS[layout]
    with pytest.raises(ScanError, match=told) as caught:
        _ = describe(reader, path), reader.read_c2(path)
    assert "\n" not in str(caught.value)


def test_maps_that_were_never_written_take_no_memory(tmp_path: Path) -> None:
    content = aps(c2_of(3)) | {name: None for name, _ in maps_of(aps(c2_of(3)))}
    path = write(tmp_path / "scan.hdf", content)
    with h5py.File(path, "a") as file:
        for number in (1, 2, 3):
            name = f"xpcs/twotime/correlation_map/c2_{number:05d}"
            file.create_dataset(name, (10**6, 10**6), np.float32, chunks=(512, 512), compression="gzip")
    with pytest.raises(ScanError, match="found 0 bytes of data"):
        describe(ApsResult, path)
    with pytest.raises(ScanError, match="found 0 bytes of data"):
        ApsResult.read_c2(path)


def test_maps_behind_links_stay_in_their_folder(tmp_path: Path) -> None:
    folder, name = tmp_path / "source", MAPS["aps"]
    folder.mkdir()
    for place, is_inside in ((folder, True), (tmp_path, False)):
        write(place / "maps.h5", {"c2": np.triu(c2_of(3)[1])})
        path = write(folder / "scan.hdf", aps(c2_of(3)) | {name: None})
        with h5py.File(path, "a") as file:
            file[name] = h5py.ExternalLink("maps.h5" if is_inside else "../maps.h5", "c2")
        if is_inside:
            np.testing.assert_array_equal(ApsResult.read_c2(path), c2_of(3))
        else:
            with pytest.raises(ScanError, match="expected links to files below"):
                describe(ApsResult, path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_result_is_nothing_else(tmp_path: Path, layout: str) -> None:
    path = write(tmp_path / "scan.hdf", LAYOUTS[layout](c2_of(3)))
    with SourceFile(path) as file:
        assert not is_metadata(file)
        assert not is_partition(file)
        assert not ApsHdf5.matches(file)
        assert [name for name, reader in READERS.items() if reader.matches(file)] == [layout]
    (scan,) = discover(SourceConfig(path=tmp_path)).scans
    assert scan.format == READERS[layout].name  # not that of any file with square arrays


@pytest.mark.parametrize("content", [b"", b"no HDF5", b"\x89HDF\r\n\x1a\n and then nothing"])
def test_other_files_do_not_match(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "scan.hdf").write_bytes(content)
    write(tmp_path / "plain.h5", {"c2": c2_of(2), "xpcs": 1.0, "exchange": 2.0, "entry/definition": "NXsas"})
    for path in (tmp_path / "scan.hdf", tmp_path / "plain.h5", tmp_path / "absent.h5"):
        for reader in (*READERS.values(), EsrfResult):
            with SourceFile(path) as file:
                assert not reader.matches(file)


def test_archives_of_results_go_straight_to_maps(tmp_path: Path, make_config: Callable[..., RunConfig]) -> None:
    """Without any raw file: decays that were put in come out, at their q and at the period of the frames."""
    folder, t = tmp_path / "results", np.arange(120)
    folder.mkdir()
    taus = np.array([10.0, 15.0, 20.0])
    c2 = 1 + 0.3 * np.exp(-2 * (abs(t[:, None] - t) / taus[:, None, None]) ** 1.5)
    c2 += np.random.default_rng(1).normal(0, 1e-3, c2.shape)
    c2 = (c2 + c2.transpose(0, 2, 1)) / 2
    for layout, content in LAYOUTS.items():
        write(folder / f"{layout}.h5", content(c2))
    config = make_config(folder, maps={"windows": ["full"]})
    Run(config, until="maps").execute()
    index = read_table(config.archive / "maps" / "index.parquet").set_index(["scan_id", "q_bin"])
    assert len(index) == 9
    for layout, q in {"aps": [0.01, 0.02, 0.01], "legacy": [0.01, 0.02, 0.04], "nxxpcs": [0.01, 0.02, 0.03]}.items():
        rows = index.loc[layout]
        np.testing.assert_allclose(rows["q"], q, rtol=1e-12)
        np.testing.assert_allclose(rows["tau"], 0.06 * taus, rtol=0.02)
        np.testing.assert_allclose(rows["contrast"], 0.3, rtol=0.02)
        start = START - (0.5 if layout == "legacy" else 0)
        np.testing.assert_allclose(rows["time"], start + 60 * 0.06, atol=1e-3)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of a good file of each layout, with texts of fixed length.

    HDF5 2.0 itself may loop for ever on a damaged heap of texts of any length.
    """

    def fixed(value: Any) -> Any:
        is_text = isinstance(value, str) or (isinstance(value, list) and isinstance(value[0], str))
        return np.char.encode(value, "utf-8") if is_text else value

    folder = tmp_path_factory.mktemp("good")
    contents = {
        layout: {name: fixed(value) for name, value in put(c2_of(2, 17)).items()} for layout, put in LAYOUTS.items()
    }
    return {layout: write(folder / layout, content).read_bytes() for layout, content in contents.items()}


def read_all(reader: Any, path: Path) -> None:
    """Whatever happens, nothing but a ScanError comes out."""
    with SourceFile(path) as file:
        if reader.matches(file):
            for read in (lambda: reader.describe(file), lambda: reader.read_c2(path), lambda: reader.read_q(path)):
                with contextlib.suppress(ScanError):
                    read()


@settings(max_examples=40)
@given(share=st.floats(0.0, 0.999), layout=st.sampled_from(sorted(LAYOUTS)))
def test_truncated_files(
    good: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, share: float, layout: str
) -> None:
    path = tmp_path_factory.mktemp("truncated") / "scan.hdf"
    path.write_bytes(good[layout][: int(share * len(good[layout]))])
    read_all(READERS[layout], path)


@settings(max_examples=50)
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    flips=st.lists(st.tuples(st.floats(0.0, 1.0, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=30),
)
def test_flipped_bytes(
    good: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, layout: str, flips: list[tuple[float, int]]
) -> None:
    damaged = bytearray(good[layout])
    for place, flip in flips:
        damaged[int(place * len(damaged))] ^= flip
    path = tmp_path_factory.mktemp("flipped") / "scan.hdf"
    path.write_bytes(damaged)
    read_all(READERS[layout], path)


def test_maps_of_any_hdf5_do_not_come_from_another_folder(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["c2"] = np.ones((20, 20)) + np.eye(20)
    layout = h5py.VirtualLayout((20, 20), float)
    layout[...] = h5py.VirtualSource("../secret.h5", "c2", (20, 20))
    path = tmp_path / "inside" / "maps.h5"
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("c2", layout)
    for read in (C2Hdf5.read_c2, lambda one: describe(C2Hdf5, one)):
        with pytest.raises(ScanError, match="expected links to files below"):
            read(path)
