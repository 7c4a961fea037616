"""The verb `status`, once and again and again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ainerd_hpc.archive.journal import record, start
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.cli import main

Said = pytest.CaptureFixture[str]


@pytest.fixture
def words(simulated_source: Path, tmp_path: Path) -> list[str]:
    return ["status", "--source", str(simulated_source), "--archive", str(tmp_path / "archive")]


def test_it_is_looked_again_until_ctrl_c(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    slept = list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    assert main([*words, "--watch", "3"]) == 0
    assert slept == [3, 3]
    assert capsys.readouterr().out.count("again every 3 s") == 2


def test_a_run_at_work_has_a_rate(words: list[str], tmp_path: Path, capsys: Said) -> None:
    """Three of six scans in two seconds or so: those that are left take as long."""
    archive = Archive(tmp_path / "archive")
    with archive.locked():
        start(archive.root, "run", "worker", 1)
        for key in ("sim_0000", "sim_0001", "sim_0002"):
            record(archive.root, "begun", "ingest", key, "digest")
            time.sleep(0.2)
            record(archive.root, "done", "ingest", key, "digest")
        assert main(words) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("ingest"))
    assert "running" in line
    assert "/s" in line
    assert main(words) == 0
    assert "running" not in capsys.readouterr().out
