"""The recipes of CONTRIBUTING.md work: each is followed in a copy of the package, with the toy that it shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ainerd_hpc.archive.tables import read_table
from tests.conftest import SMALL
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


def run(place: Path, source: Path, *words: str) -> str:
    places = ["--source", str(source), "--archive", str(place / "archive"), "--executor", "inline"]
    return call(place, *words, *places, "--set", "maps.windows=[full, 32]")


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


def test_a_site_is_added(place: Path, simulated_source: Path) -> None:
    follow(place, "Add a site")
    said = run(place, simulated_source, "submit", "--site", "my_site.yaml", "--dry-run")
    (ingest,) = [line for line in said.splitlines() if line.startswith("qsub") and "-N ingest " in line]
    memory = 64 * 10**9 // 2**20
    assert f"-q workq -l select=1:ncpus=16:mem={memory}mb,walltime=02:00:00 -J 1-6 " in ingest
