"""Units of the numbers in metadata: converted by a table, refused by name where they are not in it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.config import SourceConfig
from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.beside.metadata import read_metadata
from ainerd_hpc.formats.frames.arrays import EsrfHdf5
from ainerd_hpc.formats.images.series import ImageSeries
from ainerd_hpc.formats.partitions.partition import Geometry, read_partition, read_qmap
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.formats.units import PER_ANGSTROM, UNITS, factor, in_common_unit, unlikely, unlikely_q
from ainerd_hpc.sources.discovery import discover
from tests.formats.test_aps import some_metadata
from tests.formats.test_image_series import edf
from tests.formats.test_partition import write_qmap
from tests.support.correlation_truth import SHAPE, write_source
from tests.support.places import ROOT

DETECTOR = "entry/instrument/detector_1"
PLACES = {
    "frame_time": (f"{DETECTOR}/frame_time", "s"),
    "count_time": (f"{DETECTOR}/count_time", "s"),
    "distance": (f"{DETECTOR}/distance", "m"),
    "pixel_size": (f"{DETECTOR}/x_pixel_size", "m"),
    "energy": ("entry/instrument/incident_beam/incident_energy", "keV"),
}
POWERS = {
    "s": {"s": 0, "ms": -3, "us": -6, "µs": -6, "μs": -6, "ns": -9, "Seconds": 0, "msec": -3, "milliseconds": -3},
    "m": {
        "m": 0,
        "cm": -2,
        "mm": -3,
        "um": -6,
        "micron": -6,
        "nm": -9,
        "angstrom": -10,
        "Å": -10,
        "A": -10,
        "meter": 0,
    },
    "keV": {"keV": 0, "eV": -3, "MeV": 3, "kev": 0},
}
"""Powers of ten, from memory."""


def put(path: Path, name: str, value: Any, unit: str | bytes | None) -> None:
    with h5py.File(path, "a") as file:
        if name in file:
            del file[name]
        file[name] = value
        if unit is not None:
            file[name].attrs["units"] = unit


@settings(max_examples=60, deadline=None)
@given(data=st.data(), value=st.floats(1e-3, 1e3))
def test_metadata_in_any_unit(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, value: float) -> None:
    path = tmp_path_factory.mktemp("units") / "scan_metadata.hdf"
    some_metadata(path)
    field = data.draw(st.sampled_from(sorted(PLACES)))
    name, unit = PLACES[field]
    given_unit = data.draw(st.sampled_from(sorted(POWERS[unit])))
    put(path, name, value, data.draw(st.sampled_from([given_unit, given_unit.encode()])))
    expected = value * 10.0 ** POWERS[unit][given_unit]
    assert getattr(read_metadata(path), field) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("unit", ["", None])
def test_numbers_without_a_unit_are_in_ours(tmp_path: Path, unit: str | None) -> None:
    some_metadata(tmp_path / "a.hdf")
    put(tmp_path / "a.hdf", PLACES["distance"][0], 4.25, unit)
    assert read_metadata(tmp_path / "a.hdf").distance == 4.25


@pytest.mark.parametrize("field", sorted(PLACES))
@pytest.mark.parametrize("unit", ["furlong", "K", "1/m"])
def test_an_unknown_unit_is_refused_by_name(tmp_path: Path, field: str, unit: str) -> None:
    some_metadata(tmp_path / "a.hdf")
    name, ours = PLACES[field]
    put(tmp_path / "a.hdf", name, 1.0, unit)
    problem = f"a.hdf:/{name}: expected a unit such as {ours}, .*, found '{unit}'; correct the unit that the file gives"
    with pytest.raises(ScanError, match=problem) as error:
        read_metadata(tmp_path / "a.hdf")
    assert "\n" not in str(error.value)


def test_a_beam_centre_in_pixels_or_as_a_length(tmp_path: Path) -> None:
    some_metadata(tmp_path / "a.hdf")
    for axis, value, unit in (("x", 100.5, "pixels"), ("y", 7.5, "mm")):
        put(tmp_path / "a.hdf", f"{DETECTOR}/beam_center_{axis}", value, unit)
    found = read_metadata(tmp_path / "a.hdf")
    assert found.beam_center_x == 100.5
    assert found.beam_center_y == pytest.approx(100.0, rel=1e-12)  # pixels of 75 um


def test_samples_are_in_common_units(tmp_path: Path) -> None:
    some_metadata(tmp_path / "a.hdf")
    for name, value, unit in (("hot", 300.0, "K"), ("load", 2.0, "kPa"), ("field", 3.0, "T"), ("flow", 4.0, "")):
        put(tmp_path / "a.hdf", f"entry/sample/{name}", value, unit)
    found = dict(read_metadata(tmp_path / "a.hdf").sample)
    assert found == {"temperature": 25.5, "hot": pytest.approx(26.85), "load": 2000.0, "field": 3.0, "flow": 4.0}


@pytest.mark.parametrize(
    ("unit", "scale"), [("Å⁻¹", 1.0), ("nm⁻¹", 0.1), ("1/nm", 0.1), ("1/um", 1e-4), ("m^-1", 1e-10)]
)
@pytest.mark.parametrize("place", ["list", "axis"])
def test_partitions_in_any_unit(tmp_path: Path, unit: str, scale: float, place: str) -> None:
    path = tmp_path / "qmap.hdf"
    write_qmap(path, map_units=[unit if place == "axis" else "Å⁻¹", "deg"])
    with h5py.File(path, "a") as file:
        if place == "list":
            file["qmap/dynamic_v_list_dim0"].attrs["unit"] = unit
        for name, value, given_unit in (
            ("energy", 8e3, "eV"),
            ("detector_distance", 5e3, "mm"),
            ("pixel_size", 75, "um"),
        ):
            file[f"qmap/{name}"] = value
            file[f"qmap/{name}"].attrs["unit"] = given_unit
    expected = scale * np.array([0.01, 0.01, 0.02, 0.02, 0.02])
    np.testing.assert_allclose(read_partition(path).dynamic_q_list, expected, rtol=1e-12)
    geometry = read_qmap(path).geometry
    assert (geometry.energy, geometry.distance) == (8.0, 5.0)
    assert geometry.pixel_size == pytest.approx(75e-6)


def describe(reader: Any, path: Path) -> Any:
    with SourceFile(path) as file:
        return reader.describe(file).metadata


def test_lima(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry_0000/measurement/data"] = np.zeros((3, 4, 5), np.uint16)
    times = "entry_0000/instrument/eiger/acquisition"
    put(tmp_path / "a.h5", f"{times}/exposure_time", 900.0, "us")
    put(tmp_path / "a.h5", f"{times}/latency_time", 0.1, "ms")
    put(tmp_path / "a.h5", "entry_0000/instrument/eiger/detector_information/pixel_size/xsize", 75.0, "um")
    found = describe(EsrfHdf5, tmp_path / "a.h5")
    assert (found.frame_time, found.count_time, found.pixel_size) == pytest.approx((1e-3, 9e-4, 75e-6), rel=1e-12)


def test_texts_of_images_where_units_stand_behind_or_in_names(tmp_path: Path) -> None:
    keys = {
        "exposure_time_ms": "12.5",
        "SampleDistance": "4950_mm",
        "PSize_1": "75 um",
        "WaveLength": "0.12398 nm",
        "Exposure_period": "0.02 s",
    }
    for number in range(3):
        (tmp_path / f"a_{number}.edf").write_bytes(edf(np.zeros(SHAPE, np.uint16), keys))
    found = describe(ImageSeries, tmp_path / "a_0.edf")
    assert (found.count_time, found.frame_time, found.distance) == pytest.approx((0.0125, 0.02, 4.95), rel=1e-12)
    assert found.pixel_size == pytest.approx(75e-6)
    assert found.energy == pytest.approx(10.00032, abs=2e-5)
    (tmp_path / "a_0.edf").write_bytes(edf(np.zeros(SHAPE, np.uint16), {**keys, "SampleDistance": "4 furlong"}))
    with pytest.raises(ScanError, match=r"a_0\.edf: cannot read it: expected a unit such as m, .* found 'furlong'"):
        describe(ImageSeries, tmp_path / "a_0.edf")


def test_values_that_no_beamline_has() -> None:
    sound = {"energy": 8.0, "distance": 5.0, "pixel_size": 75e-6, "frame_time": 1e-3, "q": 0.01}
    assert not unlikely(sound)
    assert not unlikely(dict.fromkeys(sound, math.nan))
    for name, value in {"energy": 8000, "distance": 5000, "pixel_size": 75, "frame_time": 0.0, "q": 656.0}.items():
        (line,) = unlikely(sound | {name: value})
        assert line.startswith(f"{name.replace('_', ' ')} {value:g} ")
        assert "is none that a beamline has" in line
    assert not unlikely_q([0.0, 0.001, -0.002, math.nan])
    assert len(unlikely_q([656.0, 2316.0])) == len(unlikely_q([1e-9, 0.1])) == 1


def test_they_are_told_in_one_line_and_kept(tmp_path: Path) -> None:
    """The numbers of eV, mm and s without their units: nothing is refused, for nothing says that they are wrong."""
    write_source(tmp_path, np.ones((5, *SHAPE), np.uint16))
    for name, value in (("energy", 8000.0), ("distance", 5000.0), ("count_time", 3.0)):
        put(tmp_path / "scan_metadata.hdf", PLACES[name][0], value, None)
    with h5py.File(tmp_path / "q_map.hdf", "a") as file:
        file["qmap/dynamic_v_list_dim0"][...] *= 1e6
    found = discover(SourceConfig(path=tmp_path))
    (scan,) = found.scans
    assert not found.problems
    assert found.notes == (f"scan: {scan.notes}",)
    for words in ("energy 8000 keV", "distance 5000 m", "exposure 3 s is longer than the frame period 0.01 s", "q "):
        assert words in scan.notes


def test_the_page_lists_what_the_table_knows() -> None:
    page = (ROOT / "docs/formats.md").read_text(encoding="utf-8")
    section = page.partition("## Units")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\S+)` \| (`.*`) \|$", section, re.MULTILINE))
    assert set(rows) == {*UNITS, PER_ANGSTROM, "degC"}
    for unit, spellings in UNITS.items():
        assert set(re.findall(r"`(.+?)`", rows[unit])) == set(spellings)
    for spelling in re.findall(r"`(.+?)`", rows[PER_ANGSTROM]):
        assert factor(spelling, PER_ANGSTROM) > 0
    for spelling in re.findall(r"`(.+?)`", rows["degC"]):
        assert in_common_unit(100.0, spelling) in (100.0, 100.0 - 273.15)


def test_a_geometry_of_ours_is_read_back(tmp_path: Path) -> None:
    partition = write_source(tmp_path, np.ones((5, *SHAPE), np.uint16))
    found = read_qmap(tmp_path / "q_map.hdf")
    assert found.partition.digest == partition.digest
    assert found.geometry == Geometry(
        beam_center_x=10.3, beam_center_y=15.7, pixel_size=75e-6, distance=5.0, energy=8.0
    )
