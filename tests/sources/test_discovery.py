"""Scans are found by content, with their metadata, partition and sample log; what is broken is told apart."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.config import SourceConfig
from ainerd_hpc.errors import ConfigError, ScanError
from ainerd_hpc.formats.beside import sample_log
from ainerd_hpc.formats.partitions.partition import read_partition
from ainerd_hpc.formats.registry import reader
from ainerd_hpc.sources.discovery import discover
from ainerd_hpc.types import Content
from tests.conftest import SMALL
from tests.support.places import SHARED


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


def _published(folder: Path, starts: tuple[float, ...] = (0.0, 7.0)) -> Path:
    """Two sectors a start time; the latents tell their row."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "scan_start_s.npy", np.repeat(starts, 2))
    np.save(folder / "sector.npy", np.tile([1, 2], len(starts)))
    np.save(folder / "latents.npy", np.arange(2 * len(starts))[:, None] + np.zeros(64))
    return folder / "latents.npy"


def _ids(folder: Path) -> list[str]:
    found = discover(SourceConfig(path=folder, frame_time=0.5))
    assert len({scan.scan_id for scan in found.scans}) == len(found.scans)
    return [scan.scan_id for scan in found.scans]


def _tag(relative: str) -> str:
    return hashlib.sha256(os.fsencode(relative)).hexdigest()[:6]


def test_a_folder_and_a_name_with_the_joint_stay_two_scans(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for relative in ("a/b.npy", "a--b.npy"):
        np.save(tmp_path / relative, _c2(40, 9.0))
    assert _ids(tmp_path) == sorted(f"a--b.npy~{_tag(relative)}" for relative in ("a/b.npy", "a--b.npy"))


def test_a_suffix_that_makes_another_name_stays_another_scan(tmp_path: Path) -> None:
    for name in ("x.npy", "x.h5", "x.h5.npy"):
        with h5py.File(tmp_path / name, "w") if name == "x.h5" else (tmp_path / name).open("wb") as file:
            file.create_dataset("c2", data=_c2(40, 9.0)) if name == "x.h5" else np.save(file, _c2(40, 9.0))
    assert _ids(tmp_path) == ["x.h5.npy", f"x.h5~{_tag('x.h5')}", "x.npy"]


def test_published_scans_share_their_names_with_nobody(tmp_path: Path) -> None:
    _published(tmp_path)
    np.save(tmp_path / "rheo_01.npy", _c2(40, 9.0))
    assert _ids(tmp_path) == ["rheo_00", "rheo_01", "rheo_01.npy"]


def test_two_published_folders(tmp_path: Path) -> None:
    paths = [_published(tmp_path / name) for name in ("a", "b")]
    tags = {name: _tag(f"{name}/latents.npy") for name in ("a", "b")}
    assert set(_ids(tmp_path)) == {f"rheo_{number:02d}~{tag}" for number in range(2) for tag in tags.values()}
    read = reader("ainerd2024").read_latents(paths[1], f"rheo_01~{tags['b']}")
    np.testing.assert_array_equal(read[:, 0], [2, 3])


def test_ids_are_names_of_files(tmp_path: Path) -> None:
    long = "é" * 100
    for name in ("two\nlines", "bell\a", "two_lines", long):
        np.save(tmp_path / f"{name}.npy", _c2(40, 9.0))
    cut = f"{'é' * 60}~{_tag(f'{long}.npy')}"
    twins = [f"two_lines.npy~{_tag(f'{name}.npy')}" for name in ("two\nlines", "two_lines")]
    assert _ids(tmp_path) == sorted(["bell_", cut, *twins])


def test_names_that_are_not_utf8_are_problems_and_the_others_go_on(tmp_path: Path) -> None:
    _published(tmp_path)
    names = [os.fsdecode(b"caf\xe9.npy"), os.fsdecode(b"caf\xe8.npy"), os.fsdecode(b"bad\xff.h5")]
    try:
        for name in names[:2]:
            np.save(tmp_path / name, _c2(40, 9.0))
        (tmp_path / names[2]).write_bytes(b"no HDF5")
    except OSError:
        pytest.skip("this file system takes no names outside UTF-8")
    found = discover(SourceConfig(path=tmp_path, frame_time=0.5))
    reasons = {problem.scan_id: problem.reason for problem in found.problems}
    assert set(reasons) == {*(f"caf_~{_tag(name)}" for name in names[:2]), f"bad_~{_tag(names[2])}"}
    expected = "expected a path in UTF-8, which the catalog can hold, found 'caf\\udce9.npy'; rename the file"
    assert reasons[f"caf_~{_tag(names[0])}"].endswith(expected)
    for text in (*reasons.values(), *(scan.source for scan in found.scans)):
        assert text.encode()
        assert text.isprintable()
    assert [scan.scan_id for scan in found.scans if scan.state == "found"] == ["rheo_00", "rheo_01"]


def test_fingerprint_follows_the_start_time_and_every_file(tmp_path: Path) -> None:
    def fingerprints() -> dict[str, str]:
        for name in ("latents", "sector", "scan_start_s"):
            os.utime(tmp_path / f"{name}.npy", (1, 1))
        return {scan.scan_id: scan.digest for scan in discover(SourceConfig(path=tmp_path, frame_time=0.5)).scans}

    _published(tmp_path, (0.0, 7.0))
    before = fingerprints()
    _published(tmp_path, (0.0, 9.0))
    after = fingerprints()
    assert [name for name in before if before[name] != after[name]] == ["rheo_01"]
    for name in ("sector", "scan_start_s"):
        os.utime(tmp_path / f"{name}.npy", (2, 2))
        touched = {scan.digest for scan in discover(SourceConfig(path=tmp_path, frame_time=0.5)).scans}
        assert not touched & set(after.values())
        os.utime(tmp_path / f"{name}.npy", (1, 1))


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
    from ainerd_hpc.formats.frames.aps import write_raw

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
    assert not discover(SourceConfig(path=source)).problems  # a copy is no other one
    with h5py.File(source / "other_qmap.hdf", "a") as file:
        file["qmap/dynamic_v_list_dim0"][...] *= 2
    problems = discover(SourceConfig(path=source)).problems
    assert len(problems) == 6
    assert "found other_qmap.hdf, simulated_qmap.hdf; set source.partition" in problems[0].reason
    assert not discover(SourceConfig(path=source, partition=source / "other_qmap.hdf")).problems


@pytest.mark.parametrize("suffix", [".h5", ".hdf", ".dat"])
def test_the_partition_of_another_scan_is_nobody_elses(source: Path, suffix: str) -> None:
    (source / "sim_0003.h5").rename(source / f"sim_0003{suffix}")
    (source / "simulated_qmap.hdf").rename(source / "sim_0003_qmap.hdf")
    problems = discover(SourceConfig(path=source)).problems
    assert [problem.scan_id for problem in problems] == [f"sim_{index:04d}" for index in (0, 1, 2, 4, 5)]
    assert problems[0].reason.endswith("expected one partition file (/qmap), found none; set source.partition")


def test_the_partition_of_a_broken_scan_is_nobody_elses(source: Path) -> None:
    os.truncate(source / "sim_0003.h5", 5000)
    (source / "simulated_qmap.hdf").rename(source / "sim_0003_qmap.hdf")
    assert len(discover(SourceConfig(path=source)).problems) == 6


def test_the_configured_partition_wins(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.hdf"
    shutil.copy(source / "simulated_qmap.hdf", source / "sim_0005_qmap.hdf")
    shutil.copy(source / "simulated_qmap.hdf", other)
    with h5py.File(other, "a") as file:
        file["qmap/dynamic_v_list_dim0"][...] *= 2
    own = discover(SourceConfig(path=source)).scans
    found = discover(SourceConfig(path=source, partition=other))
    assert {scan.partition for scan in found.scans} == {read_partition(other).digest}
    assert {scan.partition for scan in own} == {read_partition(source / "simulated_qmap.hdf").digest}
    assert found.partitions == (other,)


def test_a_partition_that_changes_is_read_again(source: Path) -> None:
    before = discover(SourceConfig(path=source)).scans[0].partition
    with h5py.File(source / "simulated_qmap.hdf", "a") as file:
        file["qmap/dynamic_v_list_dim0"][...] *= 2
    assert discover(SourceConfig(path=source)).scans[0].partition != before


def test_a_partition_with_square_floats_is_a_partition(source: Path) -> None:
    with h5py.File(source / "simulated_qmap.hdf", "a") as file:
        file["qmap/phi"] = np.zeros((48, 48))
    found = discover(SourceConfig(path=source))
    assert [scan.scan_id for scan in found.scans] == [f"sim_{index:04d}" for index in range(6)]
    assert not found.problems


def test_metadata_with_square_floats_is_metadata(source: Path) -> None:
    with h5py.File(source / "sim_0000_metadata.hdf", "a") as file:
        file["entry/instrument/flatfield"] = np.zeros((48, 48))
    assert len(discover(SourceConfig(path=source)).scans) == 6


def test_hdf5_of_another_layout_is_ignored_in_one_line(source: Path) -> None:
    results = source / "gone_results.hdf"
    shutil.copy(source / "sim_0000_metadata.hdf", results)
    with h5py.File(results, "a") as file:
        file["xpcs/multitau/normalized_g2"] = np.ones((20, 3))
        file["xpcs/nothing"] = h5py.Empty("f8")
        file["xpcs/odd"] = np.zeros((20, 20), np.dtype("V16"))
    found = discover(SourceConfig(path=source))
    reason = f"{results}: neither frames (/entry/data/data) nor two-time maps (square arrays)"
    assert found.ignored == ((results, reason),)
    assert not found.problems
    assert len(found.scans) == 6


def test_two_time_maps_of_a_result_file_with_its_metadata_are_a_scan(source: Path) -> None:
    results = source / "gone_results.hdf"
    shutil.copy(source / "sim_0000_metadata.hdf", results)
    with h5py.File(results, "a") as file:
        file["xpcs/twotime/correlation_map/c2_00001"] = np.triu(_c2(40, 9.0)[0])
    scans = {scan.scan_id: scan for scan in discover(SourceConfig(path=source, frame_time=0.5)).scans}
    assert scans["gone_results"].content is Content.C2


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


def _npy_reason(folder: Path) -> str:
    np.save(folder / "good.npy", _c2(40, 9.0))
    np.save(folder / "list.npy", np.arange(5))
    np.save(folder / "none.npy", np.zeros((0, 3)))
    found = discover(SourceConfig(path=folder, frame_time=0.5))
    assert [scan.scan_id for scan in found.scans if scan.state == "found"] == ["good"]
    assert [problem.scan_id for problem in found.problems] == ["a"]
    assert "\n" not in found.problems[0].reason
    return found.problems[0].reason


class _Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    bomb = np.array([[_Bomb(tmp_path / "exploded")] * 20] * 20)
    np.save(tmp_path / "a.npy", bomb, allow_pickle=True)
    assert "a.npy: cannot read it: it holds Python objects, and unpickling these" in _npy_reason(tmp_path)
    (tmp_path / "a.npy").write_bytes(pickle.dumps(bomb))
    assert "a.npy: cannot read it: expected a .npy file, found one that starts with" in _npy_reason(tmp_path)
    assert not (tmp_path / "exploded").exists()


@settings(deadline=None, max_examples=40)
@given(share=st.floats(0.0, 0.999))
def test_a_truncated_npy_is_a_problem(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    path = tmp_path_factory.mktemp("maps") / "a.npy"
    np.save(path, _c2(40, 9.0))
    os.truncate(path, int(share * path.stat().st_size))
    assert "a.npy: cannot read it: " in _npy_reason(path.parent)


@settings(deadline=None, max_examples=60)
@given(damage=st.binary(min_size=1, max_size=60), where=st.integers(6, 127))
def test_no_damaged_npy_stops_the_others(tmp_path_factory: pytest.TempPathFactory, damage: bytes, where: int) -> None:
    path = tmp_path_factory.mktemp("maps") / "a.npy"
    np.save(path, _c2(40, 9.0))
    content = path.read_bytes()
    path.write_bytes(content[:where] + damage + content[where + len(damage) :])
    np.save(path.with_name("good.npy"), _c2(40, 9.0))
    assert "good" in [scan.scan_id for scan in discover(SourceConfig(path=path.parent, frame_time=0.5)).scans]


def test_published_latents_are_fifty_scans_of_eighteen_sectors() -> None:
    folder = SHARED / "ainerd-2024"
    if not folder.is_dir():
        pytest.skip("the published AI-NERD data is not here; docs/published.md says where the authors published it")
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
        log = sample_log.read(path).table
        assert log["time"].tolist() == [0.0, 10.0, 20.0]
        at = sample_log.at_times(log, np.array([5.0, 15.0, -1.0, 25.0]))
        np.testing.assert_allclose(at["stress"], [0.5, 2.5, np.nan, np.nan])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"time,stress\nyesterday,1\n", "Time data yesterday is not ISO8601 format"),
        (b"when,stress\n0,1\n", "found the columns when, stress"),
        (b"time,Time\n0,1\n", "found the columns time, time"),
        (b"time,stress, stress\n0,1,2\n", "found the columns time, stress, stress"),
        (b"", "found no header"),
        (b"# a comment\n\n", "found no header"),
    ],
)
def test_a_configured_sample_log_that_is_none_stops_the_plan(source: Path, content: bytes, reason: str) -> None:
    path = source / "a.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        discover(SourceConfig(path=source, sample_log=path))
    what = f"{path}: expected a table with distinct columns, one of them `time` (s or ISO dates): {reason}"
    assert str(error.value).startswith(what)
    assert "\n" not in str(error.value)


def test_a_sample_log_that_was_found_is_read_at_once(source: Path) -> None:
    (source / "sample_log.csv").write_bytes(b"time,x,x\n0,1,2\n")
    with pytest.raises(ConfigError, match=r"sample_log\.csv: expected a table with distinct columns"):
        discover(SourceConfig(path=source))


def test_two_sample_logs_ask_for_a_choice(source: Path) -> None:
    (source / "b.csv").write_text("time,x\n0,1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"found b\.csv, sample_log\.csv; name the sample log in source\.sample_log"):
        discover(SourceConfig(path=source))
    found = discover(SourceConfig(path=source, sample_log=source / "b.csv"))
    assert found.sample_log == source / "b.csv"
    assert found.sample_log_table.to_dict("list") == {"time": [0.0], "x": [1.0]}


def test_without_a_sample_log_the_metadata_of_the_scans_are_one(source: Path) -> None:
    (source / "sample_log.csv").unlink()
    found = discover(SourceConfig(path=source))
    assert found.sample_log is None
    table = found.sample_log_table
    assert table["time"].tolist() == sorted(scan.start_time for scan in found.scans)
    with h5py.File(source / "sim_0003_metadata.hdf") as file:
        known = {name: item[()] for name, item in file["entry/sample"].items()}
    row = table[table["time"] == found.scans[3].start_time].iloc[0]
    assert {name: row[name] for name in table.columns if name != "time"} == known


def test_without_anything_about_samples_the_table_is_empty(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", _c2(40, 9.0))
    table = discover(SourceConfig(path=tmp_path, frame_time=1.0)).sample_log_table
    assert list(table.columns) == ["time"]
    assert table.shape == (0, 1)


def test_a_sample_log_from_a_spreadsheet(source: Path) -> None:
    """Byte order mark, capitals, blanks, and a comma at the end of each row."""
    (source / "sample_log.csv").write_bytes(b"\xef\xbb\xbf Time , Stress\r\n3,1,\r\n2,4,\r\n")
    found = discover(SourceConfig(path=source))
    assert found.sample_log == source / "sample_log.csv"
    assert found.sample_log_table.to_dict("list") == {"time": [2.0, 3.0], "Stress": [4.0, 1.0]}
