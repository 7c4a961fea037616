"""The benchmark of clusters at its smallest."""

from __future__ import annotations

import pytest

from benchmarks import clusters


def test_one_command_makes_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "run", clusters.stage)  # in this process, which has UMAP compiled
    clusters.main(["--maps", "900", "1200", "--full", "600", "--coreset", "400"])
    head, _, *rows, exponent, full = capsys.readouterr().out.splitlines()
    assert head.startswith("| maps | s | CPU s | peak MB |")
    assert [row.split(" | ")[0] for row in rows] == ["| 900", "| 1200"]
    assert all(row.endswith("of 10 | the same |") for row in rows)
    assert exponent.startswith("exponent of CPU s: ")
    assert full.startswith("600 maps, a coreset of 300 and a fit of all: ARI ")
