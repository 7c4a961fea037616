"""A copy never harms its original, whatever it is called and wherever it lies."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ainerd_hpc.config import SourceConfig
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.sources.discovery import discover

LATER = 10**9
"""ns."""


def _link(old: Path, new: Path) -> None:
    new.symlink_to(old)


WAYS: dict[str, Callable[[Path, Path], object]] = {"copy": shutil.copy, "dated": shutil.copy2, "link": _link}


@pytest.mark.parametrize(("way", "folder"), itertools.product(WAYS, ["backup", "zz", "sim_0000_old"]))
@pytest.mark.parametrize("suffixes", [(".h5",), (".h5", "_metadata.hdf")], ids=["raw", "with metadata"])
def test_originals_stay(source: Path, way: str, folder: str, suffixes: tuple[str, ...]) -> None:
    """With the q map and the sample log, of which there are two then."""
    before = discover(SourceConfig(path=source)).scans
    (source / folder).mkdir()
    names = [f"sim_{number:04d}{suffix}" for number in range(2) for suffix in suffixes]
    for name in (*names, "simulated_qmap.hdf", "sample_log.csv"):
        WAYS[way](source / name, source / folder / name)
    found = discover(SourceConfig(path=source))
    assert [scan for scan in found.scans if scan.state == "found"] == list(before)
    assert [problem.scan_id for problem in found.problems] == [f"{folder}--sim_{number:04d}" for number in range(2)]
    assert all("found the data of" in problem.reason for problem in found.problems)
    assert found.sample_log == source / "sample_log.csv"


def test_what_has_metadata_is_the_original(source: Path) -> None:
    """Though it is a link, younger, and deeper."""
    (source / "a/b").mkdir(parents=True)
    shutil.move(source / "sim_0000_metadata.hdf", source / "a/b/sim_0000_metadata.hdf")
    (source / "a/b/sim_0000.h5").symlink_to(source / "sim_0000.h5")
    found = discover(SourceConfig(path=source))
    assert [problem.scan_id for problem in found.problems] == ["sim_0000"]


def test_the_older_one_is_the_original(source: Path) -> None:
    """A copy beside it that has its own metadata, and sorts first."""
    for suffix in (".h5", "_metadata.hdf"):
        shutil.copy2(source / f"sim_0000{suffix}", source / f"aaa{suffix}")
    modified = (source / "sim_0000.h5").stat().st_mtime_ns
    os.utime(source / "aaa.h5", ns=(modified, modified + LATER))
    assert [problem.scan_id for problem in discover(SourceConfig(path=source)).problems] == ["aaa"]


def test_two_logs_of_other_content_are_no_copies(source: Path) -> None:
    (source / "backup").mkdir()
    (source / "backup/sample_log.csv").write_text((source / "sample_log.csv").read_text() + "\n")
    with pytest.raises(ConfigError, match="name the sample log"):
        discover(SourceConfig(path=source))
