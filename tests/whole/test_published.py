"""The published data of AI-NERD through the line, with its config."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.tables import read_table
from ainerd_hpc.loading import load
from ainerd_hpc.pipeline import Run
from tests.support.places import ROOT, SHARED

FOLDER = SHARED / "ainerd-2024"
pytestmark = [
    pytest.mark.published,
    pytest.mark.slow,
    pytest.mark.skipif(
        not FOLDER.is_dir(),
        reason="the published AI-NERD data is not here; docs/published.md says where the authors have it",
    ),
]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    root = tmp_path_factory.mktemp("published")
    overrides = [
        f"archive={root}",
        f"source.path={FOLDER}",
        f"model.weights={FOLDER / 'autoencoder_weights.npz'}",
        "executor.kind=inline",
    ]
    Run(load(ROOT / "configs" / "published.yaml", overrides)).execute()
    return Archive(root)


@pytest.fixture(scope="module")
def table(archive: Archive) -> pd.DataFrame:
    return read_table(archive.clusters_path("ainerd2024"))


def test_the_measured_map_is_reconstructed_as_published(table: pd.DataFrame) -> None:
    target = table[table["scan_id"] == "c2_target"]
    assert target["reconstruction_l1"].item() == pytest.approx(0.0368, abs=5e-5)


def test_all_maps_are_there(table: pd.DataFrame) -> None:
    assert len(table) == 901
    assert table["scan_id"].nunique() == 51
    assert table["label"].max() >= 3


def test_encoding_the_decoded_maps_comes_back_near_the_published_latents(archive: Archive) -> None:
    embedding = read_table(archive.embedding_path("ainerd2024"))
    embedding = embedding[embedding["scan_id"] != "c2_target"]
    latents = np.stack(embedding["latent"].to_list())
    start, sector = np.load(FOLDER / "scan_start_s.npy"), np.load(FOLDER / "sector.npy")
    published = np.load(FOLDER / "latents.npy")[np.lexsort((sector, start))]
    cosine = (latents * published).sum(axis=1) / np.linalg.norm(latents, axis=1) / np.linalg.norm(published, axis=1)
    assert np.median(cosine) > 0.99


def test_rheology_is_tied_in_by_time(table: pd.DataFrame) -> None:
    rheology = pd.read_csv(FOLDER / "rheology.csv")
    start = np.unique(np.load(FOLDER / "scan_start_s.npy"))
    for number in (0, 10, 49):
        rows = table[table["scan_id"] == f"rheo_{number:02d}"]
        assert len(rows) == 18
        middle = start[number] + 0.5 * 256 * 0.2
        stress = np.interp(middle, rheology["time"], rheology["shear_stress"])
        np.testing.assert_allclose(rows["shear_stress"], stress, rtol=1e-12)


def test_the_maps_under_shear_lie_apart(table: pd.DataFrame) -> None:
    """The island of the published picture: all 18 sectors of the scan that starts at -5 s, under 30 /s."""
    island = table[table["scan_id"] == "rheo_00"][["x", "y"]].to_numpy()
    others = table[table["time"] > 500][["x", "y"]].to_numpy()
    gap = np.linalg.norm(island[:, None] - others, axis=2).min()
    assert gap > np.linalg.norm(island - island.mean(axis=0), axis=1).max()


def test_the_change_from_shear_to_rest_is_found(archive: Archive, table: pd.DataFrame) -> None:
    """Clusters differ in shear rate, and where the shear stops the half decay changes more than anywhere else."""
    relations = read_table(archive.relations_path("relations"))
    rate = relations[(relations["column"] == "shear_rate") & (relations["measure"] == "epsilon squared")].iloc[0]
    assert rate["p_value"] <= 0.05
    assert rate["p_shifted"] <= 0.05
    steps = read_table(archive.relations_path("events"))
    (stop,) = steps[(steps["column"] == "shear_rate") & (steps["size"] < 0)].itertuples()
    assert 199 <= stop.time <= 209
    assert stop.p_speed == pytest.approx(1 / 49)
    assert stop.p_speed_corrected <= 0.05
    maps = table[table["scan_id"] != "c2_target"]
    decay = np.log(maps["half_decay"]).groupby(maps["time"]).median().to_numpy()
    assert stop.speed == pytest.approx(np.exp(abs(decay[4:7].mean() - decay[1:4].mean())), rel=1e-6)


def test_stress_drops_at_rest_are_found_and_go_with_nothing_that_chance_would_not_give(archive: Archive) -> None:
    steps = read_table(archive.relations_path("events"))
    stress = steps[(steps["column"] == "shear_stress") & (steps["time"] > 210)]
    rheology = pd.read_csv(FOLDER / "rheology.csv")
    np.testing.assert_allclose(stress["time"], [784, 994, 1674])
    assert (stress["size"] < 0).all()
    after, before = (np.interp(stress["time"] + by, rheology["time"], rheology["shear_stress"]) for by in (20, -20))
    assert (after < before - 1.5).all()
    assert (stress["p_lag_corrected"] > 0.05).all()
    assert (stress["p_speed_corrected"] > 0.4).all()
