"""What was found is taken again while nothing has changed, and found anew as soon as anything has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.scans import Scans
from ainerd_hpc.config import RunConfig
from ainerd_hpc.planning import find_scans, share_of
from ainerd_hpc.sources.discovery import Discovery, discover
from ainerd_hpc.sources.recall import find_again
from ainerd_hpc.sources.shared_products import publish_found
from ainerd_hpc.stages.correlate import Correlate

MakeConfig = Callable[..., RunConfig]


@pytest.fixture
def config(source: Path, make_config: MakeConfig) -> RunConfig:
    """A source whose scans were found and kept; one of them has a problem."""
    (source / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n broken")
    config = make_config(source)
    publish_found(config, find_scans(config))
    return config


def assert_same(found: Discovery, other: Discovery) -> None:
    assert repr(list(found.scans)) == repr(list(other.scans))  # NaN is like NaN there
    for name in ("problems", "partitions", "sample_log", "notes", "ignored", "folder", "dataset", "num_files"):
        assert getattr(found, name) == getattr(other, name), name
    pd.testing.assert_frame_equal(found.sample_log_table, other.sample_log_table)


def test_nothing_has_changed(config: RunConfig) -> None:
    found = find_scans(config)
    assert found.is_recalled
    assert (found.num_opened, len(found.problems)) == (0, 1)
    assert_same(found, discover(config.source, correct=config.correct))


def replace_bytes(path: Path) -> None:
    """Other bytes, of the same size."""
    path.write_bytes(bytes(len(path.read_bytes())))


CHANGES: dict[str, Callable[[Path], object]] = {
    "another date": lambda source: os.utime(source / "sim_0002.h5"),
    "other metadata": lambda source: replace_bytes(source / "sim_0002_metadata.hdf"),
    "a scan comes": lambda source: shutil.copytree(source, source / "more"),
    "a scan leaves": lambda source: (source / "sim_0003.h5").unlink(),
    "another name": lambda source: (source / "sim_0003.h5").rename(source / "sim_0009.h5"),
    "another log": lambda source: (source / "sample_log.csv").write_text("time,stress\n0,5.0\n"),
    "no partition": lambda source: (source / "simulated_qmap.hdf").unlink(),
    "a damaged list": lambda source: replace_bytes(source.parent / "archive/journal/found.parquet"),
    "no list": lambda source: (source.parent / "archive/journal/found.json").unlink(),
    "no records": lambda source: (source.parent / "archive/journal/files.parquet").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_something_has_changed(change: str, config: RunConfig) -> None:
    CHANGES[change](config.source.folder)
    found = find_scans(config)
    assert not found.is_recalled
    assert_same(found, discover(config.source, correct=config.correct))


def test_a_file_elsewhere_has_changed(config: RunConfig, tmp_path: Path, source: Path, make_config: MakeConfig) -> None:
    shutil.move(source / "simulated_qmap.hdf", tmp_path / "qmap.hdf")
    named = make_config(source, source={"path": source, "partition": tmp_path / "qmap.hdf"})
    publish_found(named, find_scans(named))
    assert find_scans(named).is_recalled
    assert not find_scans(config).is_recalled, "of another config"
    replace_bytes(tmp_path / "qmap.hdf")
    assert not find_scans(named).is_recalled


@pytest.mark.parametrize("more", [{"settle": "1 h"}, {"metadata": ["../elsewhere/{stem}.hdf", "{stem}_metadata.hdf"]}])
def test_what_may_change_unseen_is_looked_at_each_time(
    more: dict[str, object], source: Path, make_config: MakeConfig
) -> None:
    os.utime(source / "sim_0001.h5")
    config = make_config(source, source={"path": source, **more})
    publish_found(config, find_scans(config))
    assert not find_scans(config).is_recalled
    assert find_again(Archive(config.archive), config.source, config.correct) is not None


def test_shares_take_the_list_without_a_look_at_the_folder(config: RunConfig) -> None:
    source, expected = config.source.folder, [scan.scan_id for scan in find_scans(config).scans]
    (source / "sim_0004.h5").unlink()  # of the second share
    shutil.copytree(source, source / "more")
    found, places = share_of(config, Correlate(config), 1, 2)
    assert places == {scan_id: place for place, scan_id in enumerate(expected) if place % 2 == 0}
    assert [scan.scan_id for scan in found.scans] == list(places)
    second, places = share_of(config, Correlate(config), 2, 2)
    assert places is not None
    assert "sim_0004" not in places, "one of its own files has changed"
    assert any(scan.scan_id.startswith("more") for scan in second.scans)


def test_a_scan_that_may_be_split_is_of_several_shares(source: Path, make_config: MakeConfig) -> None:
    config = make_config(source, executor={"kind": "inline", "memory": "4 GB"})
    scans, stage = Scans.of(find_scans(config).scans), Correlate(config)
    assert stage.most_tasks(scans).tolist() == [1] * len(scans)
    small = Correlate(make_config(source, executor={"kind": "inline", "memory": "750 MB"}))
    before = type("Before", (), {"of_scan": lambda self, stage, scan: scan.digest})()
    tasks = [task.scan_id for task in small.tasks(scans, before)]
    numbers = np.array([tasks.count(scan.scan_id) for scan in scans])
    assert (numbers <= small.most_tasks(scans)).all()
