"""The Python API: what it promises, and its arrays against the archive and plain float64 truth."""

from __future__ import annotations

import doctest
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest

import ainerd_hpc
from ainerd_hpc.api import archive as archive_module
from ainerd_hpc.api import in_memory as in_memory_module
from ainerd_hpc.api.archive import Archive
from ainerd_hpc.errors import ConfigError, ScanError
from ainerd_hpc.formats.partitions.partition import make_ring_partition, read_partition
from tests.support.api_reference import recorded, signatures
from tests.support.correlation_truth import GEOMETRY, SHAPE, photons, read_arrays, truth
from tests.support.places import ROOT

SCAN = "sim_0001"


@pytest.fixture(scope="module")
def archive(whole_archive: Path) -> Archive:
    return ainerd_hpc.open(whole_archive)


def test_a_change_of_a_signature_is_in_the_changelog() -> None:
    assert signatures() == recorded()["signatures"], "run `python -m tests.support.api_reference`, tell CHANGELOG.md"
    assert f"version {recorded()['version']} of the Python API" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_to_import_and_to_open_reads_and_loads_nothing_heavy(whole_archive: Path) -> None:
    heavy = {"numpy", "pandas", "xarray", "torch", "dask", "numba", "zarr"}
    script = f"import sys, ainerd_hpc\nprint(sorted({heavy!r} & set(sys.modules)))\n"
    script += (
        f"found = ainerd_hpc.open({str(whole_archive)!r})\nprint(sorted({{'torch', 'dask'}} & set(sys.modules)))\n"
    )
    script += "print(sorted(vars(found)))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["[]", "[]", "['_model', 'layout', 'path']"]


@pytest.mark.parametrize("module", [archive_module, in_memory_module])
def test_the_examples_are_true(module: ModuleType, whole_archive: Path, archive: Archive) -> None:
    names = {"ainerd_hpc": ainerd_hpc, "DIR": whole_archive, "archive": archive}
    told = doctest.testmod(module, extraglobs=names)
    assert told.attempted > 0
    assert told.failed == 0


def test_tables_are_those_of_the_archive(archive: Archive) -> None:
    assert list(archive.scans.index) == [f"sim_{number:04}" for number in range(6)]
    assert set(archive.maps["label"]) - {-1} == set(archive.clusters.index)
    assert {"stress", "temperature"} <= set(archive.sample_log)
    assert archive.scan(SCAN).maps["map_id"].str.startswith(SCAN).all()


def test_c2_is_the_sums_times_their_scale_with_times_in_s(archive: Archive) -> None:
    truth = read_arrays(archive.path, SCAN)
    c2 = archive.c2(SCAN, 1)
    np.testing.assert_allclose(c2, truth["c2"][1], rtol=1e-6)
    np.testing.assert_allclose(c2.t1, np.arange(64) * 0.01)
    assert float(c2.q) == truth["dynamic_q_list"][1]
    assert (c2.t2.attrs["units"], c2.q.attrs["units"]) == ("s", "1/angstrom")
    part = archive.c2(SCAN, 1, slice(16, -8))
    np.testing.assert_array_equal(part, c2[16:-8, 16:-8])
    assert float(part.t1[0]) == pytest.approx(0.16)


def test_g2_and_fits_are_those_of_the_product(archive: Archive) -> None:
    truth, g2, fits = read_arrays(archive.path, SCAN), archive.g2(SCAN), archive.fits(SCAN)
    np.testing.assert_array_equal(g2.g2, truth["g2"])
    np.testing.assert_array_equal(g2.delay, truth["lag"] * 0.01)
    np.testing.assert_allclose(g2.age, (np.arange(5) + 0.5) * 12 * 0.01)
    np.testing.assert_array_equal(fits.tau_window, truth["tau_window"])
    np.testing.assert_array_equal(fits.power_law.sel(law="exponent"), truth["power_law"][1])
    assert {fits[name].attrs["units"] for name in ("tau", "tau_err", "tau_err_window")} == {"s"}
    assert g2.q.attrs["units"] == "1/angstrom"


def test_windows_of_the_archive_are_embedded_and_assigned_as_it_has_them(archive: Archive) -> None:
    windows = [archive.c2(SCAN, q_bin) for q_bin in (0, 1)] + [archive.c2("sim_0002", 0, slice(0, 32))]
    ids = [f"{SCAN}:0:0-64", f"{SCAN}:1:0-64", "sim_0002:0:0-32"]
    np.testing.assert_array_equal(archive.embed(windows), archive.latents.sel(map_id=ids))
    found, known = archive.assign(windows), archive.maps.set_index("map_id").loc[ids]
    assert found["label"].tolist() == known["label"].tolist()
    assert found["kind"].fillna("").tolist() == known["kind"].fillna("").tolist()
    np.testing.assert_allclose(found[["x", "y", "novelty"]], known[["x", "y", "novelty"]], rtol=1e-3)


def test_a_window_without_counts_is_of_no_cluster(archive: Archive) -> None:
    (found,) = archive.assign([np.full((16, 16), np.nan)]).to_dict("records")
    assert found["label"] == -1
    assert np.isnan(found["novelty"])
    with pytest.raises(ValueError, match=r"expected windows of C2, \(t, t\) with t of 8 or more, found \(3, 4\)"):
        archive.embed([np.ones((3, 4))])


def test_similar_gives_other_scans_nearest_first(archive: Archive) -> None:
    found = archive.similar(SCAN, num=4)
    assert found["distance"].is_monotonic_increasing
    assert SCAN not in {map_id.partition(":")[0] for map_id in found["map_id"]}


def test_pages_show_what_there_is(archive: Archive) -> None:
    pages = [thing._repr_html_() for thing in (archive, archive.scan(SCAN), archive.cluster(0))]
    assert "6 scans · 36 maps" in pages[0]
    assert pages[0].count("<tr>") == 1 + len(archive.clusters)
    assert "64 frames of 0.01 s · 2 q-bins" in pages[1]
    assert pages[1].count("<img") == 2
    assert pages[2].count("<img") == len(archive.cluster(0).exemplars)
    assert archive.cluster(0).exemplars.shape[1:] == (256, 256)


def test_archives_that_are_not_finished_show_what_they_have(whole_archive: Path, tmp_path: Path) -> None:
    """After ingest there is a catalog; with an index of maps there are maps without clusters."""
    for name in ("catalog.parquet", "runs"):
        copy = shutil.copytree if (whole_archive / name).is_dir() else shutil.copy
        copy(whole_archive / name, tmp_path / name)
    found = ainerd_hpc.open(tmp_path)
    assert repr(found) == "<archive of 6 scans, 0 maps>"
    assert "not clustered yet" in found._repr_html_()
    assert "no maps" in found.scan(SCAN)._repr_html_()
    shutil.copytree(whole_archive / "maps", tmp_path / "maps")
    found = ainerd_hpc.open(tmp_path)
    assert "36 maps · not clustered yet" in found._repr_html_()
    assert found.scan(SCAN)._repr_html_().count("<img") == 2


def test_what_is_not_there_is_told_with_what_is_near(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected an archive, found no catalog.parquet"):
        ainerd_hpc.open(tmp_path)
    with pytest.raises(ConfigError, match=r"did you mean sim_0001\?"):
        archive.g2("sim_001")
    with pytest.raises(ConfigError, match=r"expected a q_bin below 2, found 2"):
        archive.c2(SCAN, 2)
    with pytest.raises(ConfigError, match=r"cluster 99: expected one of"):
        assert archive.cluster(99).summary is None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        assert ainerd_hpc.nothing


# arrays in memory


def test_a_movie_is_correlated_as_its_file_is(archive: Archive, whole_archive: Path) -> None:
    source = whole_archive.parent / "source"
    with h5py.File(source / f"{SCAN}.h5") as file:
        found = ainerd_hpc.correlate(file["entry/data/data"], source / "simulated_qmap.hdf", frame_time=0.01)
    for stored in (archive.g2(SCAN), archive.fits(SCAN)):
        for name in stored.variables:
            np.testing.assert_array_equal(found[name], stored[name], err_msg=str(name))
    np.testing.assert_array_equal(found.c2, [archive.c2(SCAN, q_bin) for q_bin in (0, 1)])


@pytest.mark.parametrize("dtype", ["uint16", "int64", "float32"])
def test_a_movie_against_plain_numpy(dtype: str) -> None:
    frames = photons(48).astype(dtype)
    partition = make_ring_partition(np.ones(SHAPE, bool), GEOMETRY, 2, 2).partition
    options = {"normalisation": "static", "bad_frames": [7], "threads": 2}
    found = ainerd_hpc.correlate(frames, partition, frame_time=0.5, **options)
    expected = truth(frames, partition, static=True, bad=[7])
    np.testing.assert_allclose(found.c2, expected["c2"], rtol=1e-5)
    np.testing.assert_allclose(found.g2, expected["g2"], rtol=1e-5)
    np.testing.assert_allclose(found.t1, np.arange(48) * 0.5)


def test_labels_alone_are_a_partition_and_dead_pixels_are_left_out(simulated_source: Path) -> None:
    labels = read_partition(simulated_source / "simulated_qmap.hdf").dynamic_roi_map
    movie = np.random.default_rng(1).poisson(0.3, (32, *labels.shape)).astype(np.int32)
    movie[5, *np.argwhere(labels == 1)[0]] = -1
    found = ainerd_hpc.correlate(movie, labels, frame_time=0.1, q=np.array([0.01, 0.02]))
    assert found.num_pixels.values.tolist() == [(labels == 1).sum() - 1, (labels == 2).sum()]
    assert found.q.values.tolist() == [0.01, 0.02]
    assert abs(float(found.g2.mean()) - 1) < 0.01


def test_what_is_no_movie_is_refused() -> None:
    movie, labels = np.ones((8, 4, 4), int), np.ones((4, 4), int)
    with pytest.raises(
        ConfigError, match=r"expected labels \(y, x\) of frames \(t, y, x\), found \(4, 4\) and \(8, 4\)"
    ):
        ainerd_hpc.correlate(movie[:, 0], labels, frame_time=1.0)
    with pytest.raises(ConfigError, match="q: expected one of each of 1 q-bins"):
        ainerd_hpc.correlate(movie, labels, frame_time=1.0, q=np.ones(3))
    with pytest.raises(ConfigError, match="frames: expected two or more to correlate, found 1 of 8"):
        ainerd_hpc.correlate(movie, labels, frame_time=1.0, average_frames=5)
    with pytest.raises(ConfigError, match=r"correlate.bins"):
        ainerd_hpc.correlate(movie, labels, frame_time=1.0, bins=5)
    with pytest.raises(ScanError, match="expected photons, found none"):
        ainerd_hpc.correlate(0 * movie, labels, frame_time=1.0)
