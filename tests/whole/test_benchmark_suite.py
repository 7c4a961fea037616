"""The benchmarks as one: figures found in what they print, kept by date, and held against those of the last time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import suite

TEXT = """200 scans
| way | s | scans/s | against bare |
|---|---|---|---|
| bare | 12.5 | 16 | |
| **2 workers** | 7.5 | 26.7 | +12% |
| 2 workers | 8.5 | | |
similar: distances to one map: 0.026 s
"""


def test_figures_are_the_numbers_of_tables_and_of_lines() -> None:
    assert suite.figures_in(TEXT) == {
        "bare / s": 12.5,
        "bare / scans/s": 16.0,
        "2 workers / s": 7.5,
        "2 workers / s (2)": 8.5,
        "2 workers / scans/s": 26.7,
        "2 workers / against bare": 12.0,
        "similar: distances to one map": 0.026,
    }


def test_only_what_changed_beyond_the_noise_is_told() -> None:
    before = {"steady": [1.0, 1.02], "noisy": [1.0, 1.6], "slower": [1.0, 1.02], "slightly": [1.0, 1.0], "gone": [1.0]}
    now = {"steady": [1.03, 1.0], "noisy": [1.9, 1.7], "slower": [1.5, 1.53], "slightly": [1.08, 1.08], "new": [9.0]}
    (line,) = suite.changes(before, now)
    assert line.startswith("CHANGED slower: 1.01 -> 1.515, +50%")


def test_a_suite_runs_is_kept_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(suite.BENCHMARKS, "decoding", ("--frames 2", ""))  # type: ignore[arg-type]
    suite.main(["--only", "decoding", "correlation", "--results", str(tmp_path)])
    (path,) = tmp_path.rglob("*.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["suite"] == "quick"
    assert content["arguments"] == {"decoding": ["--frames", "2"]}, "correlation is a full one"
    assert content["figures"]
    assert all(name.startswith("decoding: ") and len(values) == 2 for name, values in content["figures"].items())
    assert "kept in" in capsys.readouterr().out
    content["figures"] = {name: [100 * value for value in values] for name, values in content["figures"].items()}
    path.write_text(json.dumps(content), encoding="utf-8")
    told = list(
        suite.changes(
            suite.last_figures(path.parent, "quick"), {n: [v[0] / 100] * 2 for n, v in content["figures"].items()}
        )
    )
    assert told
    assert suite.last_figures(path.parent, "full") == {}
