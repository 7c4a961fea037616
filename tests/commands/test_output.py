"""Whatever becomes of who reads what is printed, the work is done and the exit code says how."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from ainerd_hpc import console

PROGRAM = f"{sys.executable} -m ainerd_hpc.cli"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "told"),
    [
        (">&-", ""),
        ("<&- >&- 2>&-", ""),
        ("> /dev/full", "ainerd-hpc: what is printed is lost (No space left on device); the work goes on\n"),
        ("| head -1 > /dev/null", "ainerd-hpc: what is printed is lost (Broken pipe); the work goes on\n"),
        ("2>&1 | true", ""),
    ],
)
def test_the_work_is_done(end: str, told: str, simulated_source: Path, tmp_path: Path) -> None:
    words = f"run --source {simulated_source} --archive {tmp_path}/archive --executor inline --until ingest"
    script = f"set -o pipefail; {PROGRAM} {words} {end}"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stderr == told
    assert len(list((tmp_path / "archive" / "frames").iterdir())) == 6


def test_a_long_step_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten hours, a word every 5 s: lines soon, then ever fewer; each tenth part of the steps as before."""
    now, times = 0.0, []
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    with console.progress("train", 20) as advance:
        for second in range(0, 36_000, 5):
            now = float(second)
            advance(f"at {second}", 0)
            if capsys.readouterr().out:
                times.append(second)
        for _ in range(20):
            advance("done")
    assert capsys.readouterr().out.splitlines() == [f"train: {done} of 20 done" for done in range(2, 21, 2)]
    assert times[:3] == [0, 30, 60]
    assert all(later - before <= max(30, 0.05 * later) + 5 for before, later in itertools.pairwise(times))
    assert len(times) < 110


def test_a_terminal_that_knows_ascii_alone(source: Path, tmp_path: Path) -> None:
    """A scan with other letters that is set aside: exit code 3, and its name in other words."""
    (source / "sim_0001.h5").rename(source / "µ–1.h5")
    (source / "µ–1.h5").write_bytes(b"no HDF5")
    words = f"run --source {source} --archive {tmp_path}/archive --executor inline --until ingest"
    script = f"PYTHONIOENCODING=ascii {PROGRAM} {words}"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)
    assert result.returncode == 3, result.stderr
    assert "\\xb5\\u20131.h5" in result.stdout
