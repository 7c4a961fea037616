"""Figures: their numbers against the archive, the same bytes twice, and what a user gives to change them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ainerd_hpc.archive.layout import Archive, recorded_digest
from ainerd_hpc.archive.tables import read_table
from ainerd_hpc.cli import main
from ainerd_hpc.commands.figures import OF_ARCHIVES, OF_SCANS
from ainerd_hpc.figures import of_archives, of_scans
from tests.support.correlation_truth import read_arrays

SCAN = "sim_0002"
"""One whose g2 decays: its tau is known."""


def draw(archive: Path, output: Path, *more: object) -> int:
    return main(["figures", str(archive), "--output", str(output), *map(str, more)])


@pytest.fixture(scope="module")
def drawn(whole_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    assert draw(whole_archive, folder, "--scan", SCAN) == 0
    return folder


def numbers(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv")


def test_every_figure_is_there_as_pdf_and_png_with_its_numbers(drawn: Path) -> None:
    names = {f"{name}_{SCAN}" for name in OF_SCANS} | set(OF_ARCHIVES)
    assert tuple(of_scans.OF_SCANS) == OF_SCANS
    assert tuple(of_archives.OF_ARCHIVES) == OF_ARCHIVES
    files = {f"{name}{end}" for name in names for end in (".pdf", ".png", ".csv")}
    assert {path.name for path in drawn.iterdir()} == files | {"figures.json"}


def test_text_stays_text_in_a_pdf(drawn: Path) -> None:
    page = (drawn / "physics.pdf").read_bytes()
    assert b"/FontFile2" in page, "fonts of type 42"
    assert b"/Type3" not in page
    assert b"CreationDate" not in page


def test_the_same_products_give_the_same_bytes(drawn: Path, whole_archive: Path, tmp_path: Path) -> None:
    assert draw(whole_archive, tmp_path, "--scan", SCAN, "--only", "g2", "--only", "map", "--only", "transitions") == 0
    again = [path for path in tmp_path.iterdir() if path.suffix != ".json"]
    assert len(again) == 9
    assert [path.name for path in again if path.read_bytes() != (drawn / path.name).read_bytes()] == []


def test_numbers_of_a_scan_are_those_of_its_product(drawn: Path, whole_archive: Path) -> None:
    truth, g2, c2 = read_arrays(whole_archive, SCAN), numbers(drawn, f"g2_{SCAN}"), numbers(drawn, f"c2_{SCAN}")
    for q_bin, some in g2.groupby("q_bin"):
        known = truth["g2_err"][q_bin] > 0
        np.testing.assert_allclose(some["g2"], truth["g2"][q_bin][known], rtol=1e-7)
        np.testing.assert_allclose(some["delay_s"], truth["delay"][known])
        tau, contrast, exponent, base = (truth[name][q_bin] for name in ("tau", "contrast", "kww_exponent", "baseline"))
        np.testing.assert_allclose(some["fit"], base + contrast * np.exp(-2 * (some["delay_s"] / tau) ** exponent))
    one = c2[c2["q_bin"] == 1].pivot(index="t1_s", columns="t2_s", values="c2").to_numpy()
    off = ~np.eye(64, dtype=bool)
    np.testing.assert_allclose(one[off], truth["c2"][1][off], rtol=1e-6)
    tau = numbers(drawn, f"tau_q_{SCAN}")
    np.testing.assert_allclose(tau["tau_s"], truth["tau"], rtol=1e-7)
    np.testing.assert_allclose(tau["q_per_angstrom"], truth["dynamic_q_list"], rtol=1e-7)


def test_numbers_of_the_archive_are_those_of_its_clusters(drawn: Path, whole_archive: Path) -> None:
    archive = Archive(whole_archive)
    maps = read_table(archive.clusters_path("default"))
    assert numbers(drawn, "map")["label"].tolist() == maps["label"].tolist()
    clusters = read_table(archive.cluster_summary_path("default"))
    found = numbers(drawn, "physics")
    np.testing.assert_allclose(found["half_decay_median"], clusters["half_decay_median"], rtol=1e-7)
    shown = numbers(drawn, "timeline")
    assert shown["time_s"].is_monotonic_increasing
    assert {"stress", "temperature"} <= set(shown)


def test_transitions_are_counted_q_bin_by_q_bin_in_the_order_of_time(drawn: Path, whole_archive: Path) -> None:
    maps = read_table(Archive(whole_archive).clusters_path("default"))
    short = maps[maps["age_stop"] - maps["age_start"] == 32].sort_values("time", kind="stable")
    expected = Counter[tuple[int, int]]()
    for _, some in short.groupby("q_bin"):
        expected.update(zip(some["label"].iloc[:-1], some["label"].iloc[1:], strict=True))
    found = numbers(drawn, "transitions").set_index(["label", "next_label"])["windows"]
    assert {pair: num for pair, num in found.items() if num} == expected


def test_what_figures_were_made_of_is_written_down(drawn: Path, whole_archive: Path) -> None:
    told = json.loads((drawn / "figures.json").read_text())
    (path, digest), *_ = told["figures"][f"g2_{SCAN}.pdf"].items()
    product = (drawn / path).resolve()
    assert product == (whole_archive / "correlation" / f"{SCAN}.zarr.zip").resolve()
    assert digest == recorded_digest(product)


def test_a_style_file_overrides_how_they_look(
    drawn: Path, whole_archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    style, only = tmp_path / "own.mplstyle", ("--only", "transitions")
    style.write_text("savefig.dpi: 50\n")
    assert draw(whole_archive, tmp_path / "out", "--style", style, *only) == 0
    assert len((tmp_path / "out" / "transitions.png").read_bytes()) < len((drawn / "transitions.png").read_bytes()) / 2
    assert draw(whole_archive, tmp_path / "out", "--style", tmp_path / "none.mplstyle", *only) == 2
    assert "expected a style file of matplotlib" in capsys.readouterr().err


def test_what_an_archive_has_nothing_of_is_told(
    whole_archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert draw(whole_archive, tmp_path, "--only", "tau_q", "--scan", "sim_0001") == 0
    assert "tau_q_sim_0001: the archive has nothing of this to draw" in capsys.readouterr().out
    assert draw(whole_archive, tmp_path, "--only", "g2", "--scan", "sim_002") == 2
    assert "did you mean sim_0002?" in capsys.readouterr().err
