"""Scans are found by content, with their metadata, partition and sample log; what is broken is told apart."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from ainerd_hpc.config import SourceConfig
from ainerd_hpc.discovery import discover
from ainerd_hpc.errors import ConfigError, ScanError
from ainerd_hpc.formats import reader, sample_log
from ainerd_hpc.types import Content
from tests.conftest import SHARED, SMALL


def test_simulated_folder(simulated_source: Path) -> None:
    found = discover(SourceConfig(path=simulated_source))
    assert not found.problems
    assert [scan.scan_id for scan in found.scans] == [f"sim_{index:04d}" for index in range(6)]
    scan = found.scans[0]
    assert (scan.num_frames, scan.height, scan.width, scan.num_q_bins) == (64, 48, 64, 2)
    assert scan.frame_time == SMALL.frame_time
    assert scan.simulated
    assert 0 < scan.largest_bin < scan.num_pixels < 48 * 64
    assert found.sample_log == simulated_source / "sample_log.csv"


def test_names_do_not_matter_and_folders_become_part_of_the_id(source: Path) -> None:
    (source / "deep" / "er").mkdir(parents=True)
    shutil.move(source / "sim_0000.h5", source / "deep" / "er" / "run one.dat")
    shutil.move(source / "sim_0000_metadata.hdf", source / "deep" / "er" / "run one_metadata.hdf")
    found = discover(SourceConfig(path=source))
    assert found.scans[0].scan_id == "deep--er--run one"
    assert found.scans[0].frame_time == SMALL.frame_time


def test_two_files_of_one_name_stay_two_scans(source: Path) -> None:
    np.save(source / "sim_0000.npy", _c2(40, 9.0))
    found = discover(SourceConfig(path=source, frame_time=0.5))
    assert [scan.scan_id for scan in found.scans][:3] == ["sim_0000.h5", "sim_0000.npy", "sim_0001"]


def test_fingerprint_follows_the_files(source: Path) -> None:
    before = discover(SourceConfig(path=source)).scans
    os.utime(source / "sim_0002.h5", (1, 1))
    os.utime(source / "sim_0003_metadata.hdf", (1, 1))
    after = discover(SourceConfig(path=source)).scans
    changed = [old.scan_id for old, new in zip(before, after, strict=True) if old.digest != new.digest]
    assert changed == ["sim_0002", "sim_0003"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: os.truncate(folder / "sim_0001.h5", 5000), "truncated"),
        (lambda folder: os.truncate(folder / "sim_0001.h5", 0), "sim_0001.h5"),
        (lambda folder: os.truncate(folder / "sim_0001_metadata.hdf", 700), "sim_0001_metadata.hdf"),
    ],
    ids=["truncated", "empty", "metadata"],
)
def test_a_damaged_file_is_one_problem_in_one_line(source: Path, damage: object, reason: str) -> None:
    damage(source)  # type: ignore[operator]
    found = discover(SourceConfig(path=source))
    assert {problem.scan_id.removesuffix("_metadata") for problem in found.problems} == {"sim_0001"}
    assert reason in found.problems[0].reason
    assert "\n" not in found.problems[0].reason
    assert sum(scan.state == "found" for scan in found.scans) >= 5


def test_q_map_of_another_detector(source: Path) -> None:
    from ainerd_hpc.formats.aps import write_raw

    write_raw(source / "sim_0004.h5", np.ones((8, 30, 40), np.uint16), simulated=True)
    problems = discover(SourceConfig(path=source)).problems
    assert [problem.scan_id for problem in problems] == ["sim_0004"]
    assert "expected frames of (48, 64)" in problems[0].reason
    assert "found (30, 40)" in problems[0].reason


def test_a_scan_may_have_its_own_partition(source: Path) -> None:
    shutil.copy(source / "simulated_qmap.hdf", source / "sim_0005_qmap.hdf")
    assert not discover(SourceConfig(path=source)).problems


def test_two_shared_partitions_ask_for_a_choice(source: Path) -> None:
    shutil.copy(source / "simulated_qmap.hdf", source / "other_qmap.hdf")
    problems = discover(SourceConfig(path=source)).problems
    assert len(problems) == 6
    assert "found other_qmap.hdf, simulated_qmap.hdf; set source.partition" in problems[0].reason
    assert not discover(SourceConfig(path=source, partition=source / "other_qmap.hdf")).problems


@pytest.mark.parametrize("content", ["nothing", "no folder"])
def test_no_scans(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "source"
    if content == "nothing":
        folder.mkdir()
        (folder / "notes.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"no such folder|no scan found"):
        discover(SourceConfig(path=folder))


def _c2(length: int, tau: float, q_bins: int = 1) -> np.ndarray:
    t = np.arange(length)
    one = 1 + 0.3 * np.exp(-2 * np.abs(t[:, None] - t) / tau)
    return np.stack([one + 0.01 * q_bin for q_bin in range(q_bins)])


@pytest.mark.parametrize("layout", ["one.npy", "stack.npy", "stack.h5", "triangles.h5"])
def test_folders_of_two_time_maps(tmp_path: Path, layout: str) -> None:
    c2 = _c2(40, 9.0, 1 if layout == "one.npy" else 3)
    path = tmp_path / layout
    if layout == "one.npy":
        np.save(path, c2[0])
    elif layout == "stack.npy":
        np.save(path, c2)
    elif layout == "stack.h5":
        with h5py.File(path, "w") as file:
            file["deep/c2"] = c2
    else:  # as in the facility's result files: one upper triangle for each q-bin
        with h5py.File(path, "w") as file:
            for number, one in enumerate(c2, start=1):
                file[f"xpcs/twotime/correlation_map/c2_{number:05d}"] = np.triu(one)
    found = discover(SourceConfig(path=tmp_path, frame_time=0.5))
    scan = found.scans[0]
    assert not found.problems
    assert (scan.content, scan.num_frames, scan.num_q_bins, scan.frame_time) == (Content.C2, 40, len(c2), 0.5)
    np.testing.assert_allclose(reader(scan.format).read_c2(path), c2, rtol=1e-6)


def test_two_time_maps_without_frame_time_ask_for_it(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", _c2(40, 9.0))
    assert "give source.frame_time" in discover(SourceConfig(path=tmp_path)).problems[0].reason


def test_an_array_that_is_no_two_time_map_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.random.default_rng(0).normal(size=(40, 40)))
    with pytest.raises(ScanError, match="expected a symmetric C2"):
        reader("c2-npy").read_c2(path)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[object()] * 20] * 20), allow_pickle=True)
    with pytest.raises(ConfigError, match="no scan found"):
        discover(SourceConfig(path=tmp_path))


def test_published_latents_are_fifty_scans_of_eighteen_sectors() -> None:
    folder = SHARED / "ainerd-2024"
    if not folder.is_dir():
        pytest.skip("the published AI-NERD data is not here; README.md says where the authors published it")
    found = discover(SourceConfig(path=folder, frame_time=0.2))
    latent_scans = [scan for scan in found.scans if scan.content is Content.LATENTS]
    assert len(latent_scans) == 50
    assert {scan.num_q_bins for scan in latent_scans} == {18}
    starts = np.load(folder / "scan_start_s.npy")
    sectors, latents = np.load(folder / "sector.npy"), np.load(folder / "latents.npy")
    assert [scan.scan_id for scan in latent_scans] == [f"rheo_{number:02d}" for number in range(50)]
    assert [scan.start_time for scan in latent_scans] == sorted(set(starts))
    scan = next(scan for scan in latent_scans if scan.start_time == 169.0)
    read = reader("ainerd2024").read_latents(Path(scan.source), scan.scan_id)
    row = np.flatnonzero((starts == 169.0) & (sectors == 5))[0]
    np.testing.assert_array_equal(read[4], latents[row].astype(np.float32))


def test_sample_log_in_seconds_and_in_dates(tmp_path: Path) -> None:
    numbers, dates = tmp_path / "a.csv", tmp_path / "b.csv"
    numbers.write_text("time,stress,note\n10,1,x\n0,0,y\n20,4,z\n", encoding="utf-8")
    stamps = ("1970-01-01T00:00:10Z,1", "1970-01-01T01:00:00+01:00,0", "1970-01-01T00:00:20,4")
    dates.write_text("\n".join(("time,stress", *stamps)), encoding="utf-8")
    for path in (numbers, dates):
        log = sample_log.read(path)
        assert log["time"].tolist() == [0.0, 10.0, 20.0]
        at = sample_log.at_times(log, np.array([5.0, 15.0, -1.0, 25.0]))
        np.testing.assert_allclose(at["stress"], [0.5, 2.5, np.nan, np.nan])


def test_sample_log_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time,stress\nyesterday,1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"a\.csv: expected a CSV with a column `time`"):
        sample_log.read(path)
