"""The recipes of CONTRIBUTING.md work: each is followed in a copy of the package, with the toy that it shows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.map_reader import MapReader
from ainerd_hpc.archive.tables import read_table
from tests.conftest import SMALL
from tests.support.correlation_truth import assert_same, correlated, photons, read_arrays, write_source
from tests.support.places import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^## (Add an? [^\n]+)\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S))
BLOCK = re.compile(r'^```(\w+) title="([^"]+)"\n(.*?)^```', re.M | re.S)
LONGEST = 40
"""Lines of a recipe, with its code."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a copy of the package, in which a recipe may be followed."""
    shutil.copytree(ROOT / "ainerd_hpc", tmp_path / "ainerd_hpc", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def follow(place: Path, recipe: str) -> None:
    """Do what a recipe says: write its files, and put its lines where the lines around them are."""
    for language, title, text in BLOCK.findall(RECIPES[recipe]):
        path = place / title
        if language != "diff":
            assert not path.exists(), f"{title} is there already"
            path.write_text(text, encoding="utf-8")
            continue
        lines = text.splitlines()
        before = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
        source = path.read_text(encoding="utf-8")
        assert source.count(before) == 1, f"{title}: expected these lines once: {before}"
        path.write_text(source.replace(before, "".join(f"{line[1:]}\n" for line in lines)), encoding="utf-8")


def call(place: Path, *words: str) -> str:
    """Call the program of the copy; what it prints."""
    command = [sys.executable, "-m", "ainerd_hpc.cli", *words]
    environment = {**os.environ, "PYTHONPATH": str(place), "COLUMNS": "120"}
    result = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def run(place: Path, source: Path, *words: str, windows: str = "[full, 32]") -> str:
    places = ["--source", str(source), "--archive", str(place / "archive"), "--executor", "inline"]
    return call(place, *words, *places, "--set", f"maps.windows={windows}")


def test_recipes_are_short_and_all_here() -> None:
    assert set(RECIPES) == {"Add a format", "Add a network", "Add a stage", "Add a site"}
    for recipe, text in RECIPES.items():
        assert len(text.strip().splitlines()) <= LONGEST, recipe


@pytest.mark.slow
def test_a_stage_is_added(place: Path, simulated_source: Path) -> None:
    follow(place, "Add a stage")
    assert "how many maps every scan gave" in call(place, "--help")
    run(place, simulated_source, "run", "--until", "maps")
    assert re.search(r"census +single +0 +1", run(place, simulated_source, "plan"))
    run(place, simulated_source, "census", "--set", "census.least=2")
    table = read_table(place / "archive" / "census.parquet")
    windows = 1 + SMALL.num_frames // 32
    assert table["num_maps"].tolist() == [windows * SMALL.num_q_bins] * SMALL.num_scans
    run(place, simulated_source, "census", "--set", f"census.least={windows * SMALL.num_q_bins + 1}")
    assert read_table(place / "archive" / "census.parquet").empty, "another option, another digest"


@pytest.mark.slow
def test_a_format_is_added(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same counts give the same correlations, whether they are text or HDF5; a damaged file is told in one line."""
    follow(place, "Add a format")
    source, counts = place / "source", photons(20)
    write_source(source, counts)
    expected = correlated(source, tmp_path_factory.mktemp("expected"))
    (source / "scan.h5").unlink()
    _write_plain(source / "scan.txt", counts)
    run(place, source, "run", "--until", "correlate", windows="[full, 16]")
    assert_same(read_arrays(place / "archive"), expected)
    _write_plain(source / "scan.txt", counts[:-1])
    with pytest.raises(AssertionError, match="cannot read it: cannot reshape array of size 36480 into shape"):
        run(place, source, "run", "--until", "correlate")


def _write_plain(path: Path, counts: np.ndarray) -> None:
    numbers = " ".join(map(str, counts.ravel()))
    path.write_text(f"#plain 20 {counts.shape[1]} {counts.shape[2]} 0.1\n{numbers}\n")


@pytest.mark.slow
def test_a_network_is_added(place: Path, simulated_source: Path) -> None:
    follow(place, "Add a network")
    assert '"blocks"' in call(place, "schema")
    more = ["--set", "model.variant=blocks", "--set", "train.epochs=2", "--set", "train.threads=1"]
    run(place, simulated_source, "run", "--until", "embed", *more)
    archive = Archive(place / "archive")
    table, index = read_table(archive.embedding_path("default")), read_table(archive.map_index_path)
    maps = MapReader(archive, index)
    means = [maps[i].reshape(4, 64, 4, 64).mean(axis=(1, 3)).ravel() for i in range(len(index))]
    np.testing.assert_allclose(np.stack(table["latent"].to_list()), means, atol=1e-5)
    history = json.loads((archive.model_folder("default") / "model.json").read_text())["history"]
    assert history[1]["valid_l1"] < history[0]["valid_l1"], "the gain is learned"


def test_a_site_is_added(place: Path, simulated_source: Path) -> None:
    follow(place, "Add a site")
    said = run(place, simulated_source, "submit", "--site", "my_site.yaml", "--dry-run")
    (ingest,) = [line for line in said.splitlines() if line.startswith("qsub") and "-N ingest " in line]
    memory = 64 * 10**9 // 2**20
    assert f"-q workq -l select=1:ncpus=16:mem={memory}mb,walltime=02:00:00 -J 1-6 " in ingest
