"""The verb `relate`, on tables written by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.tables import write_table
from ainerd_hpc.cli import main

Said = pytest.CaptureFixture[str]


def _write(archive: Archive, p_value: float, p_of_step: float) -> None:
    """A relation, a step and a q-bin."""
    relation = {"column": "stress", "cluster": 3, "effect": 0.8, "p_value": p_value, "words": "stress: higher"}
    p = {"p_lag_corrected": 0.5, "p_speed_corrected": p_of_step}
    tables = {
        "relations": relation,
        "events": {"column": "stress", "speed": 2.0, **p, "words": "stress: drop"},
        "transitions": {"q_bin": 0, "words": "q-bin 0"},
    }
    for name, row in tables.items():
        write_table(archive.relations_path(name), pd.DataFrame([row]))


@pytest.mark.parametrize(
    ("p_values", "told"),
    [
        ((0.02, 0.01), ["stress: drop", "stress: higher"]),
        ((0.02, 0.2), ["stress: higher"]),
        ((0.2, 0.2), ["nothing goes with the clusters that chance would not give; --all tells what was compared"]),
    ],
)
def test_findings_are_told_the_surest_first(
    p_values: tuple[float, float], told: list[str], tmp_path: Path, capsys: Said
) -> None:
    _write(Archive(tmp_path), *p_values)
    assert main(["relate", "--archive", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == told


def test_all_that_was_compared_is_told_when_asked_for(tmp_path: Path, capsys: Said) -> None:
    _write(Archive(tmp_path), 0.2, 0.2)
    assert main(["relate", str(tmp_path), "--all"]) == 0
    assert capsys.readouterr().out.splitlines() == ["stress: higher", "stress: drop", "q-bin 0"]


def test_an_archive_without_a_report_says_so(tmp_path: Path, capsys: Said) -> None:
    assert main(["relate", str(tmp_path)]) == 2
    assert "expected relations, found none; run `ainerd-hpc report`" in capsys.readouterr().err
