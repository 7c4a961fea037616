"""Whatever becomes of who reads what is printed, the work is done and the exit code says how."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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


def test_a_terminal_that_knows_ascii_alone(source: Path, tmp_path: Path) -> None:
    """A scan with other letters that is set aside: exit code 3, and its name in other words."""
    (source / "sim_0001.h5").rename(source / "µ–1.h5")
    (source / "µ–1.h5").write_bytes(b"no HDF5")
    words = f"run --source {source} --archive {tmp_path}/archive --executor inline --until ingest"
    script = f"PYTHONIOENCODING=ascii {PROGRAM} {words}"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)
    assert result.returncode == 3, result.stderr
    assert "\\xb5\\u20131.h5" in result.stdout
