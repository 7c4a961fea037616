"""What is wrong with one q-bin costs this q-bin, from the partition to the page and the exports."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.map_reader import MapReader
from ainerd_hpc.archive.tables import read_table, read_vectors, table_digest, write_table
from ainerd_hpc.commands.export import FORMATS, export
from ainerd_hpc.config import RunConfig
from ainerd_hpc.loading import load
from ainerd_hpc.models.embedding import reconstruct
from ainerd_hpc.models.weights import load_model
from ainerd_hpc.pipeline import Run
from tests.report.test_page import decoded, payload_of
from tests.support.correlation_truth import read_arrays

NUM_SCANS = 3
EMPTY, NAMELESS = 1, 2
"""The q-bin that is masked wholly, and the one whose q is NaN."""
FAR = 60.0
"""1/angstrom; q of the last q-bin, which no beamline has."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three simulated scans with four q-bins, two of which are not as they should be."""
    from ainerd_hpc.config import SimulateConfig
    from ainerd_hpc.simulate import write_scan, write_shared_files

    folder = tmp_path_factory.mktemp("one_bin") / "source"
    folder.mkdir()
    settings = SimulateConfig(num_scans=NUM_SCANS, num_frames=64, height=48, width=64, num_q_bins=4, seed=7)
    write_shared_files(folder, settings)
    for index in range(NUM_SCANS):
        write_scan(folder, settings, index)
    with h5py.File(folder / "simulated_qmap.hdf", "r+") as file:
        qmap = file["qmap"]
        qmap["mask"][...] = qmap["mask"][...] & (qmap["dynamic_roi_map"][...] != EMPTY + 1)
        qmap["dynamic_v_list_dim0"][NAMELESS] = np.nan
        qmap["dynamic_v_list_dim0"][3] = FAR
    return folder


@pytest.fixture(scope="module")
def archive(source: Path) -> Archive:
    config = {
        "archive": str(source.parent / "archive"),
        "source": {"path": str(source)},
        "maps": {"windows": ["full", 32]},
        "cluster": {"min_cluster_size": 3, "min_samples": 2},
        "executor": {"kind": "inline", "memory": "4 GB"},
    }
    (source.parent / "config.yaml").write_text(json.dumps(config))
    Run(load(source.parent / "config.yaml")).execute()
    return Archive(source.parent / "archive")


@pytest.fixture
def told(source: Path, make_config: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str]) -> str:
    """What a run up to the maps says."""
    Run(make_config(source), until="maps").execute()
    return capsys.readouterr().out


def test_it_is_told(told: str) -> None:
    assert f"simulated_qmap.hdf: q-bin {EMPTY}: no valid pixel: no correlation" in told
    assert f"simulated_qmap.hdf: q-bin {NAMELESS}: a q that is not finite or below 0: NaN instead" in told
    assert f"sim_0001: no correlation in windows of q-bin {EMPTY} (3): these give no map" in told
    assert "empty q-bins 3" in told


@pytest.mark.parametrize("scan_id", [f"sim_{i:04d}" for i in range(NUM_SCANS)])
def test_the_other_q_bins_are_as_ever(archive: Archive, source: Path, scan_id: str) -> None:
    found = read_arrays(archive.root, scan_id)
    with h5py.File(source / f"{scan_id}.h5") as frames, h5py.File(source / "simulated_qmap.hdf") as qmap:
        counts, labels = frames["entry/data/data"][...].astype(float), qmap["qmap/dynamic_roi_map"][...]
        labels = np.where(qmap["qmap/mask"][...], labels, 0)
    for q_bin in {0, 1, 2, 3} - {EMPTY}:
        inside = counts[:, labels == q_bin + 1]
        sums = inside.sum(axis=1)
        truth = inside.shape[1] * (inside @ inside.T) / np.outer(sums, sums)
        np.testing.assert_allclose(found["c2"][q_bin], truth, rtol=1e-6)
        assert np.isfinite(found["g2"][q_bin]).all()
    for name in ("c2", "g2", "g2_c2", "g2_window", "tau", "contrast"):
        assert np.isnan(found[name][EMPTY]).all(), name
    assert found["num_pixels"][EMPTY] == 0
    np.testing.assert_array_equal(np.isnan(found["dynamic_q_list"]), np.arange(4) == NAMELESS)


def test_the_map_has_all_the_others(archive: Archive) -> None:
    table = read_table(archive.clusters_path("default"))
    assert table.groupby(["scan_id", "q_bin"]).size().to_dict() == {
        (f"sim_{i:04d}", q_bin): 3 for i in range(NUM_SCANS) for q_bin in (0, 2, 3)
    }
    np.testing.assert_array_equal(np.isnan(table["q"]), table["q_bin"] == NAMELESS)
    assert np.isfinite(table[["x", "y"]]).to_numpy().all()
    page = payload_of(archive.report_path.read_text(encoding="utf-8"))
    assert page["count"] == page["total"] == len(table) == 27
    assert [(entry["scan_id"], entry["q_bin"]) for entry in page["doubts"]] == [
        (f"sim_{i:04d}", str(EMPTY)) for i in range(NUM_SCANS)
    ]
    (notes,) = page["notes"]
    assert notes["scans"] == "sim_0000, sim_0001, sim_0002"
    assert notes["note"].startswith("q 60 1/angstrom is none that a beamline has")


def test_a_thinned_page_of_the_same_archive(archive: Archive, tmp_path: Path) -> None:
    config = load(archive.root.parent / "config.yaml", [f"archive={tmp_path}/archive", "report.max_maps=10"])
    shutil.copytree(archive.root, config.archive)
    Run(config, first="report").execute()
    page = payload_of(Archive(config.archive).report_path.read_text(encoding="utf-8"))
    table = read_table(archive.clusters_path("default"))
    assert (page["count"], page["pictured"], page["total"], page["numScans"]) == (27, 10, 27, NUM_SCANS)
    assert page["thinned"].startswith("10 of 27 maps have a thumbnail and all of their figures: ")
    assert {item["label"]: item["maps"] for item in page["clusters"]} == table["label"].value_counts().to_dict()
    typical = {name for names in page["exemplars"].values() for name in names}
    assert typical <= {entry["map"] for entry in page["details"]} <= set(page["mapIds"])
    assert len(page["doubts"]) == NUM_SCANS
    sheet = page["thumbnails"]["pages"][0]
    tiles = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet))).convert("L"), float)[:32].reshape(32, -1, 32)
    reader = MapReader(archive, table)
    for i, map_id in enumerate(page["mapIds"]):
        own = reader[int(np.flatnonzero(table["map_id"] == map_id)[0])].reshape(32, 8, 32, 8).mean(axis=(1, 3))
        assert np.abs(tiles[::-1, i] - 255 * np.clip(own, 0, 1)).mean() < 12  # lossy, of 255


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_it_can_be_exported(archive: Archive, tmp_path: Path, name: str) -> None:
    """A table of maps goes beside those of csv, since the archive is clustered."""
    export(archive, name, tmp_path)
    assert len(list(tmp_path.iterdir())) == NUM_SCANS * (len(FORMATS[name]) + (name == "csv"))


def test_a_latent_that_is_not_finite_costs_its_map(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load(archive.root.parent / "config.yaml", [f"archive={tmp_path}/archive", "cluster.min_dist=0.2"])
    copy = Archive(shutil.copytree(archive.root, config.archive))
    embedding, made_of = read_table(copy.embedding_path("default")), table_digest(copy.embedding_path("default"))
    embedding["latent"] = [latent * (np.nan if row == 4 else 1) for row, latent in enumerate(embedding["latent"])]
    write_table(copy.embedding_path("default"), embedding, made_of)
    Run(config).execute()
    assert "cluster: maps without a place: 1; their latents are not finite" in capsys.readouterr().out
    table = read_table(copy.clusters_path("default"))
    lost = table[table["map_id"] == embedding["map_id"][4]].iloc[0]
    assert (lost["label"], lost["probability"]) == (-1, 0)
    assert np.isnan(lost[["x", "y", "novelty"]].astype(float)).all()
    assert np.isfinite(table.drop(index=lost.name)[["x", "y", "novelty"]]).to_numpy().all()
    assert payload_of(copy.report_path.read_text(encoding="utf-8"))["count"] == len(table) == 27


def test_fewer_maps_than_a_cluster_needs_are_told(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load(archive.root.parent / "config.yaml", [f"archive={tmp_path}/archive", "cluster.min_cluster_size=28"])
    shutil.copytree(archive.root, config.archive)
    Run(config).execute()
    said = capsys.readouterr().out
    assert "27 maps are fewer than cluster.min_cluster_size or min_samples ask for: no cluster" in said
    assert (read_table(Archive(config.archive).clusters_path("default"))["label"] == -1).all()


def webp(text: str) -> np.ndarray:
    """A picture of the page, its first row at the bottom, 0..1."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("L"), float)[::-1] / 255


@pytest.mark.parametrize("name", ["maps", "cells"])
def test_maps_are_read_scan_by_scan_as_one_by_one(archive: Archive, name: str) -> None:
    reader = MapReader(archive, read_table(archive.map_index_path), name)
    rows = np.array([0, 3, 4, 11, 20, 26])
    found = list(reader.each(rows))
    assert [row for row, _ in found] == rows.tolist()
    for row, map_ in found:
        np.testing.assert_array_equal(map_, reader[row])


def test_vectors_of_some_rows_are_read(archive: Archive) -> None:
    latents = np.stack(read_table(archive.embedding_path("default"))["latent"].to_list())
    for rows in ([], [0], [2, 3, 26]):
        found = read_vectors(archive.embedding_path("default"), "latent", np.array(rows, dtype=np.int64))
        np.testing.assert_array_equal(found, latents[rows].reshape(found.shape))
        assert len(found) == len(rows)


def test_the_page_shows_what_the_network_reads_and_makes_of_it(archive: Archive) -> None:
    page = payload_of(archive.report_path.read_text(encoding="utf-8"))
    index, embedding = read_table(archive.map_index_path), read_table(archive.embedding_path("default"))
    model = load_model("lag_age", archive.weights_path("default"))
    made = reconstruct(model, np.stack(embedding["latent"].to_list()))
    assert made is not None
    assert {detail["map"] for detail in page["details"]} == set(index["map_id"])
    maps, cells = (MapReader(archive, index, name) for name in ("maps", "cells"))
    for detail in page["details"][::5]:
        row = int(np.flatnonzero(index["map_id"] == detail["map"])[0])
        whole = np.clip(maps[row].reshape(128, 2, 128, 2).mean(axis=(1, 3)), 0, 1)
        assert np.abs(webp(detail["image"]) - whole).mean() < 0.05  # lossy
        known = cells[row][2] > 0
        for key, truth in (("cells", cells[row][0]), ("reconstruction", made[row])):
            assert webp(detail[key]).shape == truth.shape
            assert np.abs(webp(detail[key]) - np.clip(truth * known, 0, 1)).mean() < 0.05, key


def test_neighbours_on_the_page_are_those_by_latent(archive: Archive) -> None:
    page = payload_of(archive.report_path.read_text(encoding="utf-8"))
    latents = np.stack(read_table(archive.embedding_path("default"))["latent"].to_list()).astype(np.float64)
    away = np.linalg.norm(latents[:, None] - latents, axis=2)
    np.fill_diagonal(away, np.inf)
    near = decoded(page["neighbours"]).reshape(27, 8)
    found = np.take_along_axis(away, near, axis=1)
    np.testing.assert_allclose(found, np.sort(away, axis=1)[:, :8], atol=1e-4)
