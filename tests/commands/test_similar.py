"""The verb `similar`, on a small archive that went through the line."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.tables import read_table, write_table
from ainerd_hpc.cli import main
from ainerd_hpc.commands.similar import Maps, embedded, similar
from ainerd_hpc.kernels.nearest import Scales
from ainerd_hpc.loading import load

Said = pytest.CaptureFixture[str]
SCAN = "sim_0003"


@pytest.fixture(scope="module")
def archive(simulated_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Made up to its latents; clusters by hand, since it takes long to find some."""
    archive = Archive(tmp_path_factory.mktemp("similar"))
    words = ["--source", str(simulated_source), "--archive", str(archive.root), "--executor", "inline"]
    assert main(["run", *words, "--set", "maps.windows=[full, 32]", "--until", "embed"]) == 0
    index = read_table(archive.map_index_path)
    write_table(archive.clusters_path("default"), index.assign(label=index["q_bin"], kind="no common kind"))
    return archive


def _maps(archive: Archive) -> Maps:
    table = read_table(archive.clusters_path("default"))
    embedding = read_table(archive.embedding_path("default")).set_index("map_id").loc[table["map_id"]]
    return Maps(table, np.stack(embedding["latent"].to_list()))


def _rows(capsys: Said, *words: str | Path) -> list[list[str]]:
    assert main(["similar", *map(str, words)]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out.splitlines()
    first = next(number for number, line in enumerate(said) if line.split()[:2] == ["distance", "map_id"])
    return [line.split() for line in said[first + 1 :] if line.strip()]


def test_the_best_map_of_each_other_scan_is_given_nearest_first(archive: Archive, capsys: Said) -> None:
    known = _maps(archive)
    rows = _rows(capsys, SCAN, archive.root)
    own = (known.table["scan_id"] == SCAN).to_numpy()
    distance = cdist(known.latents, known.latents[own]).min(axis=1)
    expected = known.table.assign(distance=distance)[~own].groupby("scan_id")["distance"].min().sort_values()
    assert [row[1].partition(":")[0] for row in rows] == expected.index.tolist()
    np.testing.assert_allclose([float(row[0]) for row in rows], expected, rtol=1e-3)


def test_a_map_has_its_nearest_maps_of_any_scan(archive: Archive, capsys: Said) -> None:
    known = _maps(archive)
    rows = _rows(capsys, known.table["map_id"][5], archive.root, "--num", "4")
    distance = np.sort(cdist(known.latents[5:6], known.latents)[0])[1:5]
    np.testing.assert_allclose([float(row[0]) for row in rows], distance, rtol=1e-3)


def test_a_file_is_placed_as_if_it_were_in_the_archive(archive: Archive, source: Path, capsys: Said) -> None:
    """A file that the archive has finds its own maps at no distance; a copy elsewhere does, too."""
    config = load(archive.config_path)
    asked, known = embedded(source / f"{SCAN}.h5", config), _maps(archive)
    own = (known.table["scan_id"] == SCAN).to_numpy()
    np.testing.assert_array_equal(asked.latents, known.latents[own])
    rows = _rows(capsys, source / f"{SCAN}.h5", "--archive", archive.root, "--scales")
    assert float(rows[0][0]) == 0
    assert rows[0][1].startswith(f"{SCAN}:")
    assert not [path for path in archive.root.iterdir() if "similar" in path.name]


def test_scales_count_how_fast_a_map_is(archive: Archive) -> None:
    known = _maps(archive)
    table = known.table.assign(half_decay=np.geomspace(1, 1e6, len(known.table)), contrast=0.1)
    same = Maps(table, np.zeros_like(known.latents))
    asked, scales = (
        Maps(table.iloc[[7]], same.latents[[7]]),
        Scales.of(same.latents, np.log(table[["half_decay", "contrast"]].to_numpy())),
    )
    assert set(similar(same, asked, 3, scales)["map_id"]) == set(table["map_id"].iloc[[6, 7, 8]])


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("sim_003", "sim_003: expected a scan_id, a map_id or a file, found none of them; did you mean sim_0003?"),
        ("nothing like it", "found none of them; a scan of it is sim_0000"),
    ],
)
def test_what_is_not_there_is_told(archive: Archive, what: str, said: str, capsys: Said) -> None:
    assert main(["similar", what, str(archive.root)]) == 2
    assert said in capsys.readouterr().err


def test_maps_without_finite_latents_have_no_place(archive: Archive, tmp_path: Path, capsys: Said) -> None:
    copied = Archive(Path(shutil.copytree(archive.root, tmp_path / "copy")))
    table = read_table(copied.embedding_path("default"))
    own = np.flatnonzero(table["scan_id"] == SCAN)
    for lost in (own[:1], own):
        latents = np.stack(table["latent"].to_list())
        latents[lost, 3] = np.nan
        write_table(copied.embedding_path("default"), table.assign(latent=list(latents)))
        code = main(["similar", SCAN, "--archive", str(copied.root)])
        assert code == (2 if lost is own else 0)
        assert "nan" not in capsys.readouterr().out.lower().split("kind")[0]


def test_a_file_that_is_no_scan_is_told(archive: Archive, source: Path, capsys: Said) -> None:
    (source / "notes.txt").write_text("no scan", encoding="utf-8")
    assert main(["similar", str(source / "notes.txt"), str(archive.root)]) == 2
    assert "holds for none of 6 scans" in capsys.readouterr().err


def test_an_archive_without_clusters_says_so(simulated_source: Path, tmp_path: Path, capsys: Said) -> None:
    assert main(["similar", SCAN, "--source", str(simulated_source), "--archive", str(tmp_path)]) == 2
    assert "expected the clusters of an archive, found none" in capsys.readouterr().err
