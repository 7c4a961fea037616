"""Files are left alone as long as a program appends to them, whether it says so or not."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ainerd_hpc.config import RunConfig
from ainerd_hpc.watching import finished
from ainerd_hpc.watching.finished import Source


def _finished(source: Source) -> list[str]:
    source.look()
    return [scan.scan_id for scan in source.finished(source.found.scans) if scan.scan_id not in source.faults()]


def _wait(source: Source, scan_id: str) -> None:
    until = time.monotonic() + 20
    while scan_id not in _finished(source):
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("mode", ["plain", "swmr"])
def test_a_scan_is_finished_when_its_writer_is(
    source: Path, make_config: Callable[..., RunConfig], write, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finished, "QUIET", 0.05)  # shorter than the pause between frames: only the writer tells
    watched, target = Source(make_config(source)), source / "late.h5"
    shutil.copy(source / "sim_0001_metadata.hdf", source / "late_metadata.hdf")
    process = write(source / "sim_0001.h5", target, mode, 0.15)
    while process.poll() is None:
        assert "late" not in _finished(watched) or process.wait(1) == 0
    _wait(watched, "late")
    (late,) = (scan for scan in watched.found.scans if scan.scan_id == "late")
    assert late.num_frames == 64
    assert watched.last_write(late) == pytest.approx(target.stat().st_mtime)


def test_a_file_that_a_dead_writer_left_open_says_what_to_do(
    source: Path, make_config: Callable[..., RunConfig], write
) -> None:
    assert write(source / "sim_0001.h5", source / "late.h5", "swmr dies", 0.0).wait(20) == 1
    watched = Source(make_config(source))
    assert "h5clear" in watched.faults()["late"].reason


def test_files_that_change_are_left_for_a_while(
    source: Path, make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Formats that do not say whether they are open: two looks tell."""
    monkeypatch.setattr(finished, "QUIET", 0.3)
    watched = Source(make_config(source))
    assert _finished(watched) == []
    _wait(watched, "sim_0002")
    (source / "sim_0002.h5").touch()
    assert "sim_0002" not in _finished(watched)
    assert "sim_0001" in _finished(watched)
    _wait(watched, "sim_0002")


def test_nothing_is_looked_at_twice(
    source: Path, make_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Source(make_config(source))
    monkeypatch.setattr(finished, "discover", lambda *_: pytest.fail("nothing has changed"))
    assert watched.look() is False
