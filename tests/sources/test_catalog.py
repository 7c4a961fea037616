"""The catalog: what changed is looked at again, all that is wrong is said at once, and it answers questions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.tables import read_table
from ainerd_hpc.cli import main
from ainerd_hpc.config import SourceConfig
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.sources import walk as walking
from ainerd_hpc.sources.catalog import publish_records, read_records
from ainerd_hpc.sources.discovery import discover


def copy_of(source: Path, name: str, to: str) -> None:
    """Another scan of the same form: its frames are others, or it would be a copy."""
    for suffix in (".h5", "_metadata.hdf"):
        target = source / f"{to}{suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / f"{name}{suffix}", target)
    with h5py.File(source / f"{to}.h5", "a") as file:
        file["entry/data/data"][0] = file["entry/data/data"][1]


def test_only_what_changed_is_opened_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = discover(SourceConfig(path=source))
    known = {record.path: record for record in first.records}
    opened: list[str] = []
    look_at_each = walking.look_at_each

    def look(files: Sequence[tuple[Path, Any]], dataset: str = "") -> Iterator[walking.FileRecord]:
        opened.extend(path.name for path, _ in files)
        return look_at_each(files, dataset)

    monkeypatch.setattr(walking, "look_at_each", look)
    assert discover(SourceConfig(path=source), known).scans == first.scans
    assert opened == []
    copy_of(source, "sim_0001", "sim_0009")
    os.utime(source / "sim_0002.h5", (1e9, 1e9))
    again = discover(SourceConfig(path=source), known)
    new = {"sim_0002.h5", "sim_0009.h5", "sim_0009_metadata.hdf"}
    others = {record.path.name for record in first.records if record.kind is walking.Kind.OTHER}
    assert set(opened) == new | others  # what is no scan may be part of one that came later
    assert [scan.scan_id for scan in again.scans] == [f"sim_{n:04d}" for n in (0, 1, 2, 3, 4, 5, 9)]
    assert again.scans == discover(SourceConfig(path=source)).scans


def test_records_survive_the_disk(source: Path, tmp_path: Path) -> None:
    (source / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\nno more")
    os.mkdir(os.fsencode(source) + b"/\xff")
    shutil.move(os.fsencode(source / "sim_0001.h5"), os.fsencode(source) + b"/\xff/sim.h5")
    archive = Archive(tmp_path / "archive")
    found = discover(SourceConfig(path=source))
    publish_records(archive, found.records, source)
    known = read_records(archive, source)
    assert set(known) == {record.path for record in found.records}
    np.testing.assert_equal([repr(known[record.path]) for record in found.records], list(map(repr, found.records)))


def test_all_problems_of_a_scan_are_told_at_once(source: Path) -> None:
    (source / "sim_0001_metadata.hdf").unlink()
    with h5py.File(source / "sim_0001_qmap.hdf", "w") as file:
        file["qmap/dynamic_roi_map"] = np.zeros((3, 3), int)
    shutil.copy(source / "sim_0001.h5", source / "again.h5")
    os.utime(source / "again.h5", (1, 1))  # older, which the original is
    found = discover(SourceConfig(path=source))
    reasons = {problem.scan_id: problem.reason for problem in found.problems}
    assert set(reasons) == {"sim_0001", "again"} - {"again"} | {"sim_0001"} | {"again"}
    assert "expected a frame period" in reasons["sim_0001"]
    assert "/qmap" in reasons["sim_0001"]
    assert f"found the data of {source / 'again.h5'} again" in reasons["sim_0001"]
    assert reasons["sim_0001"].count("; also ") == 2
    assert "\n" not in reasons["sim_0001"]


def test_a_copy_and_a_link_are_one_scan(source: Path) -> None:
    shutil.copy(source / "sim_0003.h5", source / "sim_0003b.h5")
    shutil.copy(source / "sim_0003_metadata.hdf", source / "sim_0003b_metadata.hdf")
    (source / "sim_0004b.h5").symlink_to(source / "sim_0004.h5")
    shutil.copy(source / "sim_0004_metadata.hdf", source / "sim_0004b_metadata.hdf")
    found = discover(SourceConfig(path=source))
    assert [problem.scan_id for problem in found.problems] == ["sim_0003b", "sim_0004b"]
    assert all("expected every scan once" in problem.reason for problem in found.problems)


def test_a_frame_count_that_disagrees_with_the_metadata(source: Path) -> None:
    with h5py.File(source / "sim_0002_metadata.hdf", "a") as file:
        file["entry/instrument/bluesky/metadata/num_capture"] = 100
    (problem,) = discover(SourceConfig(path=source)).problems
    assert "expected 100 frames as in its metadata, found 64" in problem.reason


def test_a_transposed_q_map_is_called_that(source: Path) -> None:
    with h5py.File(source / "simulated_qmap.hdf", "a") as file:
        for name in ("mask", "blemish", "dynamic_roi_map", "static_roi_map"):
            turned = file[f"qmap/{name}"][()].T
            del file[f"qmap/{name}"]
            file[f"qmap/{name}"] = turned
    found = discover(SourceConfig(path=source))
    assert len(found.problems) == 6
    assert all("found (48, 64), which is transposed" in problem.reason for problem in found.problems), found.problems


def test_a_file_that_was_just_written_is_left_for_later(source: Path) -> None:
    (source / "sim_0005.h5").touch()
    (problem,) = discover(SourceConfig(path=source, settle="10 min")).problems
    assert problem.scan_id == "sim_0005"
    assert "expected a file that is finished" in problem.reason
    assert not discover(SourceConfig(path=source)).problems


def test_metadata_in_another_folder(source: Path) -> None:
    (source / "meta").mkdir()
    shutil.move(source / "sim_0003_metadata.hdf", source / "meta" / "m_sim_0003.hdf")
    patterns = ("{stem}_metadata.hdf", "meta/m_{stem}.hdf")
    assert not discover(SourceConfig(path=source, metadata=patterns)).problems
    (problem,) = discover(SourceConfig(path=source)).problems
    assert problem.scan_id == "sim_0003"


def test_partitions_by_patterns(source: Path) -> None:
    copy_of(source, "sim_0001", "eiger/sim_0001")
    shutil.copy(source / "simulated_qmap.hdf", source / "eiger" / "other.hdf")
    with h5py.File(source / "eiger" / "other.hdf", "a") as file:
        file["qmap/dynamic_v_list_dim0"][...] *= 2
    config = SourceConfig(path=source, partition={"eiger/*": source / "eiger" / "other.hdf"})
    found = discover(config)  # two shared ones: those without a pattern have no choice
    assert len(found.problems) == 6
    assert all("found other.hdf, simulated_qmap.hdf" in problem.reason for problem in found.problems)
    everywhere = {"eiger/*": source / "eiger" / "other.hdf", "*": source / "simulated_qmap.hdf"}
    found = discover(SourceConfig(path=source, partition=everywhere))
    assert not found.problems
    assert set(found.partitions) == set(everywhere.values())
    with pytest.raises(ConfigError, match=r"partition .*nowhere\.hdf: no such file"):
        discover(SourceConfig(path=source, partition={"*": source / "nowhere.hdf"}))


def test_several_folders_of_scans(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "2024"
    shutil.copytree(source, other)
    for path in other.glob("sim_000[0-4]*"):
        path.unlink()
    (other / "simulated_qmap.hdf").unlink()
    (other / "sample_log.csv").unlink()
    found = discover(SourceConfig(path=(source, other)))
    relative = source.relative_to(tmp_path)
    ids = ["--".join([*relative.parts, f"sim_{n:04d}"]) for n in range(6)] + ["other--2024--sim_0005"]
    assert [scan.scan_id for scan in found.scans] == sorted(ids)
    assert len(found.problems) == 1  # the copied scan
    with pytest.raises(ConfigError, match="no such folder"):
        discover(SourceConfig(path=(source, tmp_path / "nowhere")))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("start_time >= 1705305720 and start_time < 1705305900", [2, 3, 4]),
        ('start >= "2024-01-15 08:04"', [4, 5]),
        ("temperature > 50 or scan_id == 'sim_0000'", None),
        ("state == 'quarantined'", []),
    ],
)
def test_scans_can_be_selected_for_a_run(source: Path, condition: str, expected: list[int] | None) -> None:
    config = SourceConfig(path=source, select=condition)
    if expected == []:
        with pytest.raises(ConfigError, match="holds for none of 6 scans"):
            discover(config)
        return
    found = [int(scan.scan_id[-1]) for scan in discover(config).scans]
    if expected is None:
        log = pd.read_csv(source / "sample_log.csv")
        log["time"] = (pd.to_datetime(log["time"], utc=True) - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
        starts = [scan.start_time + scan.duration / 2 for scan in discover(SourceConfig(path=source)).scans]
        warm = np.interp(starts, log["time"], log["temperature"]) > 50
        expected = sorted({0} | set(np.flatnonzero(warm).tolist()))
    assert found == expected


@pytest.mark.parametrize("condition", ["nothing_like_it > 3", "q >", "@os.system('true')", "import os"])
def test_a_condition_that_cannot_be_understood_is_one_line(source: Path, condition: str) -> None:
    with pytest.raises(ConfigError, match="the columns are scan_id, ") as error:
        discover(SourceConfig(path=source, select=condition))
    assert "\n" not in str(error.value)


def test_the_verb_makes_shows_and_asks(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "zero.h5").touch()
    archive = ["--archive", str(tmp_path / "archive")]
    assert main(["catalog", str(source), *archive]) == 3
    out = capsys.readouterr().out
    assert "17 files in" in out
    assert "17 of them opened" in out
    assert "zero.h5: cannot read it: it is empty" in out
    assert main(["catalog", str(source), *archive]) == 3
    assert "0 of them opened" in capsys.readouterr().out
    assert main(["catalog", "query", "frame_time", ">", "0", *archive, "--output", str(tmp_path / "good.csv")]) == 0
    assert "6 of 7 scans" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "good.csv")["scan_id"].tolist() == [f"sim_{n:04d}" for n in range(6)]
    assert main(["catalog", "show", *archive, "--limit", "2"]) == 0
    assert "... and 5 more" in capsys.readouterr().out
    table = read_table(tmp_path / "archive" / "catalog.parquet")
    assert table["problems"].str.len().gt(0).tolist() == (table["state"] == "quarantined").tolist()
    for wrong in (["query"], ["show", "me"]):
        assert main(["catalog", *wrong, *archive]) == 2


def test_show_loads_nothing_heavy(source: Path, tmp_path: Path) -> None:
    archive = str(tmp_path / "archive")
    assert main(["catalog", str(source), "--archive", archive]) == 0
    heavy = "{'torch', 'dask', 'lightning', 'numba', 'h5py'}"
    program = (
        f"import sys; from ainerd_hpc.cli import main; code = main(['catalog', 'show', '--archive', {archive!r}]); "
        f"sys.exit(code or len({heavy} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 0


def test_a_result_beside_its_frames_is_left_aside(source: Path) -> None:
    for name in ("sim_0002_results.hdf", "elsewhere_results.hdf"):
        with h5py.File(source / name, "w") as file:
            file["maps/c2"] = np.ones((2, 40, 40)) + np.eye(40) * 0.2
    found = discover(SourceConfig(path=source, frame_time=0.1))
    assert [scan.scan_id for scan in found.scans] == ["elsewhere_results", *(f"sim_{n:04d}" for n in range(6))]
    assert [path.name for path, _ in found.ignored] == ["sim_0002_results.hdf"]
