"""What the contract of the stages promises, stage by stage."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from ainerd_hpc.archive.journal import Journal
from ainerd_hpc.archive.tables import read_table, table_bytes, write_table
from ainerd_hpc.config import RunConfig
from ainerd_hpc.formats.beside import sample_log
from ainerd_hpc.loading import load
from ainerd_hpc.planning import find_scans, line_of, nothing_found, stage_names
from ainerd_hpc.sources.discovery import Discovery
from ainerd_hpc.stages.line import Line
from ainerd_hpc.stages.registry import STAGES, create
from ainerd_hpc.types import Content, Scan
from tests.conftest import SMALL

LARGE = Scan("large", "large.h5", "aps-hdf5", Content.FRAMES, 4000, 512, 512, 2, 10, 0.01, digest="d")
LARGE_BINS = {"num_pixels": 200_000, "largest_bin": 20_000, "num_static_bins": 100, "stored_bytes": 2 * 10**9}
TURNED = {
    "simulate": ["simulate.num_frames=64"],
    "ingest": ["ingest.frames_per_shard=16"],
    "correlate": ["maps.windows=[256]"],
    "maps": ["maps.windows=[256]"],
    "train": ["train.batch_size=1"],
    "embed": ["embed.maps_per_task=100"],
    "cluster": ["maps.windows=[1024]"],
    "report": ["report.max_maps=10"],
}
"""The knob that each stage names, turned down from what `_config` has."""


def _config(*options: str) -> RunConfig:
    large = [
        "simulate.num_frames=512",
        "maps.windows=[4000, 256]",
        "embed.maps_per_task=1000",
        "executor.memory=100 GB",
        "ingest.form=frames",
    ]
    return load(None, ["archive=nowhere", "source.path=nowhere", *large, *options])


def _peak(stage: str, *options: str) -> int:
    config = _config(*options)
    line = Line(config, Journal(config.archive), sample_log.empty())
    scans = [replace(LARGE, scan_id=f"large_{number}", **LARGE_BINS) for number in range(20)]
    return max(task.peak_bytes for task in line.tasks(stage, scans))


@pytest.mark.parametrize("stage", STAGES)
def test_turning_the_named_knob_lowers_the_projection(stage: str) -> None:
    knob = create(stage, _config()).memory_knob
    turned = [option for option in TURNED[stage] if option.partition("=")[0] in knob]
    assert turned, f"{stage} names {knob}"
    assert _peak(stage, *turned) < _peak(stage)


def test_a_stage_requires_what_comes_before_it_and_asks_for_nothing_else() -> None:
    config = _config()
    for place, name in enumerate(stage_names(config)):
        assert set(create(name, config).requires) <= set(stage_names(config)[:place])
    line = line_of(config, Journal(config.archive), nothing_found())
    with pytest.raises(LookupError, match="stage maps: asks for train, which is not among those it requires"):
        line.before("maps").of_all("train", ())
    with pytest.raises(NotImplementedError, match="stage cluster: its products are not of one scan each"):
        line.of_scan("cluster", LARGE)


def test_every_digest_is_computed_once(simulated_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(None, [f"archive={tmp_path}", f"source.path={simulated_source}"])
    line, scans = _line(config)
    asked: list[str] = []
    correlate = line.stage("correlate")
    original = type(correlate).scan_digest
    monkeypatch.setattr(
        type(correlate), "scan_digest", lambda *args: (asked.append(args[1].scan_id), original(*args))[1]
    )
    for name in stage_names(config):
        line.plan(name, scans.scans)
    assert sorted(asked) == [f"sim_{number:04d}" for number in range(SMALL.num_scans)]


def _line(config: RunConfig) -> tuple[Line, Discovery]:
    found = find_scans(config)
    return line_of(config, Journal(config.archive), found), found


def test_the_digest_of_a_sample_log_is_that_of_its_file(simulated_source: Path, tmp_path: Path) -> None:
    config = load(None, [f"archive={tmp_path}", f"source.path={simulated_source}"])
    table = find_scans(config).sample_log_table
    write_table(tmp_path / "log.parquet", table)
    pd.testing.assert_frame_equal(read_table(tmp_path / "log.parquet"), table)
    digest = hashlib.sha256(table_bytes(table)).hexdigest()
    assert line_of(config, Journal(tmp_path), find_scans(config)).sample_log_digest == digest


def test_another_array_of_the_same_file_is_another_scan(tmp_path: Path) -> None:
    """Both arrays are of one shape: before, the scan was taken for unchanged and kept the C2 of the first."""
    (tmp_path / "source").mkdir()
    with h5py.File(tmp_path / "source" / "scan.h5", "w") as file:
        for number, name in enumerate(("first", "second")):
            file[f"group/{name}"] = np.full((8, 3, 4), number, np.uint16)
    base = [f"archive={tmp_path / 'archive'}", f"source.path={tmp_path / 'source'}", "source.frame_time=0.1"]
    digests = []
    for name in ("first", "second", "first"):
        line, found = _line(load(None, [*base, f"source.dataset=group/{name}"]))
        digests.append(line.of_scan("correlate", found.scans[0]))
    assert digests[0] == digests[2] != digests[1]
