"""What a process used, against work whose size is known."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from ainerd_hpc.archive.usage import Usage

BLOCK = bytes(2**20)


def _burn(seconds: float) -> None:
    """So much CPU time of this thread, without holding the others up."""
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        hashlib.sha256(BLOCK)


def test_cpu_seconds_are_those_of_all_threads() -> None:
    usage = Usage()
    threads = [Thread(target=_burn, args=(0.4,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = usage.figures(0)
    assert found["cpu_seconds"] == pytest.approx(0.8, rel=0.2)
    assert 0 < found["ended"] - found["began"] < 60
    assert abs(found["ended"] - time.time()) < 5


def test_cpu_seconds_of_children_that_ended_count() -> None:
    usage = Usage()
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert 0.5 <= usage.figures(0)["cpu_seconds"] < 1.0


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell what is read")
def test_bytes_read_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(10**7))
    usage = Usage()
    (tmp_path / "data").read_bytes()
    assert 10**7 <= usage.figures(planned_bytes=3)["bytes_read"] < 1.1e7


def test_bytes_read_are_as_planned_where_nothing_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ainerd_hpc.archive.usage._IO", tmp_path / "none")
    assert Usage().figures(planned_bytes=3)["bytes_read"] == 3


def test_the_peak_rises_by_what_is_held() -> None:
    before = Usage().figures(0)["peak_bytes"]
    usage = Usage()
    held = np.ones((before + 2**28) // 8)  # more than ever before
    found = usage.figures(0)
    assert found["peak_before_bytes"] <= before + 2**24
    assert found["peak_bytes"] - found["peak_before_bytes"] > 0.5 * 2**28
    assert held.size
