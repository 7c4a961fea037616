"""The same files are known by whatever way one comes to them: a relative path, a moved folder, another mount."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.cli import main
from ainerd_hpc.config import SourceConfig
from ainerd_hpc.sources.catalog import publish_records, read_records
from ainerd_hpc.sources.discovery import discover
from tests.sources.test_catalog_tree import small
from tests.sources.test_catalog_tree import walk as counted_walk
from tests.support.archive_tree import KINDS


def _opened(out: str) -> int:
    found = re.search(r" (\d+) of them opened", out.replace("\n", " "))
    assert found is not None
    return int(found[1])


def test_one_form_of_paths_everywhere(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "beside")
    monkeypatch.chdir(tmp_path)
    for given in ("source", "./source", "beside/../source", "linked/../source", str(source)):
        config = SourceConfig(path=Path(given), partition=Path(given) / "simulated_qmap.hdf")
        assert config.roots == (source,), given
        assert config.folder == source
        scan = discover(config).scans[0]
        assert scan.source == str(source / "sim_0000.h5")
        assert scan.partition_file == str(source / "simulated_qmap.hdf")
    assert SourceConfig(path=("source", "./beside")).folder == tmp_path
    assert SourceConfig(path=("../source", "../beside")).roots[0].name == "source"


def test_the_same_source_by_other_paths_is_not_opened_again(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(source)
    assert main(["catalog", "source", "--archive", "archive"]) == 0
    assert _opened(capsys.readouterr().out) == 16
    for given in (str(source), "link", "./archive/../source", "source"):
        assert main(["catalog", given, "--archive", "archive"]) == 0
        assert _opened(capsys.readouterr().out) == 0, given


def test_a_moved_tree_is_known_by_sizes_and_dates(tmp_path: Path) -> None:
    """All formats; what was rewritten since is looked at again, and nothing else."""
    tree = small(tmp_path, *((letter, "a", f"{letter}0001") for letter in KINDS))
    archive, (old, new) = Archive(tmp_path / "archive"), (tree.root, tmp_path / "other/place")
    given = tree.source
    found = discover(SourceConfig(**given))
    publish_records(archive, found.records, found.folder, found.dataset)
    shutil.copytree(old, new, symlinks=True)
    shutil.rmtree(old)
    path = new / "a/L0001.h5"
    path.write_bytes(path.read_bytes())
    rules = {pattern: str(new / Path(to).relative_to(old)) for pattern, to in given["partition"].items()}
    source = given | {"path": str(new), "partition": rules}
    known = read_records(archive, new, found.dataset)
    again, looks, _ = counted_walk(source, known.values())
    unread = {record.path for record in found.records if record.reason}
    assert set(looks) == {path, *(new / one.relative_to(old) for one in unread)}
    assert [scan.digest for scan in again.scans if scan.source != str(path)] == [
        scan.digest for scan in found.scans if not scan.source.endswith("a/L0001.h5")
    ]
    assert not again.problems
    assert [scan.scan_id for scan in again.scans] == [scan.scan_id for scan in found.scans]
    assert all(record.path.is_relative_to(new) for record in again.records)


def test_another_folder_beside_leaves_the_first_one_known(source: Path, tmp_path: Path) -> None:
    found = discover(SourceConfig(path=source))
    archive = Archive(tmp_path / "archive")
    publish_records(archive, found.records, found.folder)
    shutil.copytree(source, tmp_path / "more")
    both = SourceConfig(path=(source, tmp_path / "more"))
    known = read_records(archive, both.folder)
    again = discover(both, known)
    assert sum(known.get(record.path) is record for record in again.records) == len(found.records)
