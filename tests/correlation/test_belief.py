"""Which q-bins are told to be beyond what speckle can give: those with hot pixels, not those with few counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ainerd_hpc.archive.groups import array, reading_group
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.tables import read_table
from ainerd_hpc.correlation.memory import Split
from ainerd_hpc.pipeline import Run
from ainerd_hpc.stages import correlate as correlate_stage
from tests.support.correlation_truth import SHAPE, configure, correlated, read_arrays, write_source

NUM_FRAMES = 60
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ratio": {"g2_rule": "ratio"},
    "static": {"normalisation": "static"},
    "averaged": {"average_frames": 2},
}


def speckle(mean: float, seed: int = 0, num_frames: int = NUM_FRAMES) -> np.ndarray:
    """Counts (t, y, x) of fully coherent speckle that stands still: nothing has a larger contrast."""
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.exponential(mean, SHAPE), (num_frames, *SHAPE)).astype(np.uint16)


@pytest.fixture(scope="module")
def few_counts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans of speckle of contrast 1, from 0.003 to 10 counts a pixel and frame, which are in their names."""
    folder = tmp_path_factory.mktemp("few") / "source"
    for mean in ("0.003", "0.03", "0.3", "10"):
        for number in range(3):
            write_source(folder, speckle(float(mean), number), scan_id=f"scan_{mean}_{number}")
    return folder


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_few_counts_are_believed(few_counts: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    found = correlated(few_counts, tmp_path, "scan_0.003_0", correlate=options)
    assert np.nanmax(found["c2"]) > 20  # what a threshold on C2 would take for a fault
    scan_ids = [scan.scan_id for scan in Archive(tmp_path).read_catalog()]
    assert len(scan_ids) == 12
    assert not [scan_id for scan_id in scan_ids if "beyond_speckle" in read_arrays(tmp_path, scan_id)]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_a_hot_pixel_is_not(tmp_path: Path, options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    frames = speckle(3.0)
    partition = write_source(tmp_path / "source", frames)
    y, x = np.argwhere(partition.dynamic_roi_map == 2)[7]
    frames[:, y, x] = 900
    write_source(tmp_path / "source", frames)
    config = configure(tmp_path / "source", tmp_path / "archive", correlate=options)
    Run(config, until="maps").execute()
    beyond = read_arrays(tmp_path / "archive")["beyond_speckle"]
    assert (beyond > 1).tolist() == [False, True, False]
    said = capsys.readouterr().out
    assert f"scan: contrast beyond what speckle can give in q-bin 1 ({beyond[1]:.3g} times)" in said
    assert (
        "correlate: q-bins beyond speckle: 1; C2 larger than speckle can make it: hot pixels, or a wrong mask?" in said
    )
    index = read_table(Archive(tmp_path / "archive").map_index_path)
    np.testing.assert_array_equal(index["beyond_speckle"].astype(np.float32), beyond[index["q_bin"]])


def test_a_flash_in_one_window_of_age_is_not(tmp_path: Path) -> None:
    """In the mean over the scan it drowns."""
    frames = speckle(3.0, num_frames=400)
    frames[200:204, 20, 24] = 500
    partition = write_source(tmp_path / "source", frames)
    label = partition.dynamic_roi_map[20, 24]
    found = correlated(tmp_path / "source", tmp_path / "archive", correlate={"age_windows": 100})
    assert found["g2_c2"][label - 1, 0] < 2.5
    assert np.flatnonzero(found["beyond_speckle"] > 1).tolist() == [label - 1]


def test_parts_of_a_scan_are_judged_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = speckle(3.0)
    frames[:, 20, 24] = 900
    write_source(tmp_path / "source", frames)
    whole = correlated(tmp_path / "source", tmp_path / "whole")
    monkeypatch.setattr(correlate_stage, "fewest_parts", lambda *sizes: Split(3, 1, 2**20))
    parts = correlated(tmp_path / "source", tmp_path / "parts")
    np.testing.assert_array_equal(parts["beyond_speckle"], whole["beyond_speckle"])


def test_two_time_maps_of_others(tmp_path: Path) -> None:
    """Their pixels and counts are not known: a contrast far above 1 is told, noise around it is not."""
    lag = np.abs(np.subtract.outer(np.arange(80), np.arange(80)))
    noise = np.random.default_rng(0).normal(0, 0.5, lag.shape)
    good = 2 + noise + noise.T
    np.save(tmp_path / "maps.npy", np.stack([good, good + 2, 1 + 0.3 * np.exp(-lag / 9)]).astype(np.float32))
    config = configure(tmp_path, tmp_path / "archive")
    source = config.source.model_copy(update={"frame_time": 0.01})
    Run(config.model_copy(update={"source": source}), until="correlate").execute()
    with reading_group(tmp_path / "archive" / "correlation" / "maps.zarr.zip") as group:
        assert (array(group, "beyond_speckle")[...] > 1).tolist() == [False, True, False]
