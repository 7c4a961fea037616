"""The cluster stage over tables as the stages before it write them: blocks, fits, and what joins them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from ainerd_hpc.archive import tables
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.tables import read_table, write_table
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.loading import load
from ainerd_hpc.stages.cluster import Cluster
from ainerd_hpc.types import Task

KINDS, DIMENSIONS, NUM_MAPS, PER_SCAN = 4, 8, 1200, 6


def write_maps(root: Path, num_maps: int, num_strange: int = 0) -> np.ndarray:
    """The tables of maps of four kinds, the last ones of a fifth; the kind of each."""
    random = np.random.default_rng(0)
    kinds = random.integers(0, KINDS, num_maps)
    kinds[num_maps - num_strange :] = KINDS
    latents = 8 * np.eye(KINDS + 1, DIMENSIONS)[kinds] + random.normal(size=(num_maps, DIMENSIONS))
    ids = [f"map_{number:05d}" for number in range(num_maps)]
    scans = [f"scan_{number // PER_SCAN}" for number in range(num_maps)]
    tau = 10.0**kinds * random.uniform(0.9, 1.1, num_maps)
    archive = Archive(root)
    index = pd.DataFrame({"map_id": ids, "scan_id": scans, "time": np.arange(num_maps) * 1.0, "tau": tau})
    index = index.assign(age_start=0, age_stop=100, signal_to_noise=random.lognormal(3.0, 1.0, num_maps))
    write_table(archive.map_index_path, index, "i")
    embedding = {"map_id": ids, "latent": list(latents.astype(np.float32)), "reconstruction_l1": 0.1}
    write_table(archive.embedding_path("default"), pd.DataFrame(embedding), "e")
    write_table(archive.sample_log_path, pd.DataFrame({"time": [0.0, 1e6], "stress": [1.0, 2.0]}))
    return kinds


def cluster(root: Path, *options: str) -> tuple[pd.DataFrame, dict[str, float]]:
    """The table of maps that the stage makes, and its figures."""
    wanted = [f"cluster.{option}" for option in ("space=latent", "resamples=2", *options)]
    stage = Cluster(load(None, [f"archive={root}", "source.path=nowhere", *wanted]))
    figures = stage.work(Task("default", "digest", 0, 0, 0))
    return read_table(stage.product("default")), dict(figures)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, pd.DataFrame]:
    """An archive that is clustered by a third of its maps."""
    root = tmp_path_factory.mktemp("made")
    kinds = write_maps(root, NUM_MAPS)
    return root, kinds, cluster(root, "coreset=400")[0]


def copied(made: tuple[Path, np.ndarray, pd.DataFrame], folder: Path) -> Path:
    """The archive in a folder that a test may change."""
    return Path(shutil.copytree(made[0], folder / "copy"))


def test_a_coreset_speaks_for_all_maps(made: tuple[Path, np.ndarray, pd.DataFrame], tmp_path: Path) -> None:
    root, kinds, table = made
    assert adjusted_rand_score(kinds, table["label"]) > 0.97
    whole, _ = cluster(copied(made, tmp_path))
    both = (table["label"] >= 0) & (whole["label"] >= 0)
    assert adjusted_rand_score(whole["label"][both], table["label"][both]) > 0.99
    assert len(read_table(Archive(root).cluster_fit_path("default"))) == 400
    assert np.isfinite(table[["x", "y", "novelty", "stress"]]).all(axis=None)


def test_blocks_and_workers_do_not_matter(
    made: tuple[Path, np.ndarray, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "ROWS", 170)
    other, _ = cluster(copied(made, tmp_path), "coreset=400")
    np.testing.assert_allclose(other["novelty"], made[2]["novelty"], rtol=1e-5)
    pd.testing.assert_frame_equal(other.drop(columns="novelty"), made[2].drop(columns="novelty"))


def test_the_table_of_clusters_says_what_they_are_and_are_worth(
    made: tuple[Path, np.ndarray, pd.DataFrame],
) -> None:
    root, kinds, table = made
    summary = read_table(Archive(root).cluster_summary_path("default")).set_index("label")
    assert summary.index.tolist() == list(range(KINDS))
    pd.testing.assert_series_equal(summary["maps"], table["label"].value_counts().sort_index()[1:], check_names=False)
    assert summary["separation"].tolist() == ["class"] * KINDS
    assert (summary["stability"] > 0.9).all()
    assert summary["persistence"].between(0, 1).all()
    for label, row in summary.iterrows():
        members = table[table["label"] == label]
        kind = np.bincount(kinds[members.index]).argmax()
        assert row["medoid"] in set(members["map_id"])
        assert set(row["exemplars"]) <= set(members["map_id"])
        assert len(row["exemplars"]) == 6
        assert row["scans"] == members["scan_id"].nunique()
        assert 0.9 * 10.0**kind <= row["tau_low"] <= row["tau_median"] <= row["tau_high"] <= 1.1 * 10.0**kind
        assert (members["stability"] == row["stability"]).all()
    assert table.loc[table["label"] < 0, "stability"].isna().all()


def test_new_maps_join_a_given_fit(
    made: tuple[Path, np.ndarray, pd.DataFrame], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Old labels stay; a new kind is noise and novel, and told of; nothing is clustered anew."""
    fit = Archive(made[0]).cluster_fit_path("default")
    same, _ = cluster(copied(made, tmp_path), f"fit={fit}")
    assert (same["label"] == made[2]["label"]).all()
    assert "drift" not in capsys.readouterr().out
    grown = tmp_path / "grown"
    write_maps(grown, NUM_MAPS, num_strange=200)
    table, figures = cluster(grown, f"fit={fit}")
    assert (table["label"][-200:] == -1).all()
    assert table["novelty"][-200:].median() > table["novelty"][:-200].quantile(0.95)
    assert set(table["label"][:-200]) <= {-1, 0, 1, 2, 3}
    said = " ".join(capsys.readouterr().out.split())
    assert "new maps drift from cluster.fit" in said
    assert figures["clusters"] == KINDS
    assert not Archive(grown).cluster_fit_path("default").exists()


def test_a_fit_of_another_model_is_refused(made: tuple[Path, np.ndarray, pd.DataFrame], tmp_path: Path) -> None:
    fit = read_table(Archive(made[0]).cluster_fit_path("default"))
    write_table(tmp_path / "fit.parquet", fit.assign(latent=[one[:3] for one in fit["latent"]]))
    with pytest.raises(ConfigError, match="expected latents of 8 numbers, found 3; give one of this model"):
        cluster(copied(made, tmp_path), f"fit={tmp_path / 'fit.parquet'}")


def test_clusters_keep_their_numbers_when_they_are_made_anew(
    made: tuple[Path, np.ndarray, pd.DataFrame], tmp_path: Path
) -> None:
    root = copied(made, tmp_path)
    path = Archive(root).clusters_path("default")
    table = read_table(path)
    number = np.array([6, 2, 5, 0, -1])
    write_table(path, table.assign(label=number[table["label"]]), "earlier")
    again, figures = cluster(root, "coreset=500", "seed=1")
    old = number[made[2]["label"]]
    both = (old >= 0) & (again["label"] >= 0)
    assert (again["label"] == old)[both].mean() > 0.99
    assert figures["clusters"] == KINDS
    fit = read_table(Archive(root).cluster_fit_path("default"))
    assert set(fit["label"]) - {-1} == {6, 2, 5, 0}


def test_latents_without_a_place_are_in_no_cluster(made: tuple[Path, np.ndarray, pd.DataFrame], tmp_path: Path) -> None:
    root = copied(made, tmp_path)
    path = Archive(root).embedding_path("default")
    embedding = read_table(path)
    embedding["latent"] = [
        np.full_like(one, np.nan) if row % 100 == 7 else one for row, one in embedding["latent"].items()
    ]
    write_table(path, embedding, "e")
    for size in (400, 2000):
        table, figures = cluster(root, f"coreset={size}")
        lost = table[7::100]
        assert figures["maps without a place"] == 12
        assert (lost["label"] == -1).all()
        assert lost[["x", "y", "novelty"]].isna().all(axis=None)
        assert np.isfinite(table.drop(lost.index)[["x", "y", "novelty"]]).all(axis=None)


@pytest.mark.parametrize("num_maps", [1, 4, 9])
def test_a_few_maps_are_no_cluster(num_maps: int, tmp_path: Path) -> None:
    write_maps(tmp_path, num_maps)
    table, figures = cluster(tmp_path, "min_cluster_size=20")
    assert (table["label"] == -1).all()
    assert figures["clusters"] == 0
    assert len(read_table(Archive(tmp_path).cluster_summary_path("default"))) == 0
