"""Links to folders are followed, each folder once, and what is not followed is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.config import SourceConfig
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.sources.discovery import discover
from ainerd_hpc.sources.folders import Folders


def _files(*roots: Path) -> list[str]:
    """Files below, as paths from the folder of the first root on."""
    return sorted(str(one.path.relative_to(roots[0].parent)) for one in Folders(roots).entries() if not one.reason)


def _reasons(root: Path) -> dict[str, str]:
    return {one.path.name: one.reason for one in Folders([root]).entries() if one.reason}


def _make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_folder_of_links_to_the_folders_of_a_beamtime(source: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/linked").symlink_to(source)
    found = discover(SourceConfig(path=tmp_path / "raw"))
    assert not found.problems
    assert [scan.scan_id for scan in found.scans] == [f"linked--sim_{number:04d}" for number in range(6)]
    assert found.scans[0].source == str(tmp_path / "raw/linked/sim_0000.h5")


def test_every_folder_is_looked_through_once(tmp_path: Path) -> None:
    """By its own path where it has one below the source folder, whatever links there are."""
    raw = _make(tmp_path / "raw", "a/1", "b/c/2", "z/3")
    _make(tmp_path / "out", "4", "deep/5")
    links = {"raw/a/up": "raw", "raw/a/self": "raw/a", "raw/0": "raw/b", "raw/out": "out", "raw/z/again": "out"}
    links |= {"raw/y": "out/deep", "out/back": "raw/a", "out/deep/round": "out", "raw/file": "raw/a/1"}
    for link, target in links.items():
        (tmp_path / link).symlink_to(tmp_path / target)
    assert _files(raw) == ["raw/a/1", "raw/b/c/2", "raw/file", "raw/out/4", "raw/y/5", "raw/z/3"]
    assert _files(raw, raw / "a", tmp_path / "out/deep")[:2] == ["out/deep/5", "raw/a/1"]
    assert not _reasons(raw)


def test_links_above_the_source_folder_are_left_aside(source: Path, tmp_path: Path) -> None:
    for name, target in {"up": source.parent, "root": Path("/"), "nowhere": tmp_path / "gone"}.items():
        (source / name).symlink_to(target)
    found = discover(SourceConfig(path=source))
    assert len(found.scans) == 6
    assert not found.problems
    ignored = {path.name: reason for path, reason in found.ignored}
    assert (
        f"expected a link to a folder beside the source folder, found one to {source.parent} above it" in ignored["up"]
    )
    assert ignored.keys() == {"up", "root", "nowhere"}


def test_links_in_a_row_end_somewhere(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    before = tmp_path / "raw"
    for number in range(7):
        folder = _make(tmp_path / f"far{number}", f"{number}.h5")
        (before / "next").symlink_to(folder)
        before = folder
    assert [path.rpartition("/")[2] for path in _files(tmp_path / "raw")] == ["0.h5", "1.h5", "2.h5", "3.h5"]
    assert "expected at most 4 links to folders in a row, found more; name" in _reasons(tmp_path / "raw")["next"]


def test_nothing_but_what_was_left_aside_is_no_riddle(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/up").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match=r"no scan found; .*left aside 1, the first: \S+up: expected a link to a"):
        discover(SourceConfig(path=tmp_path / "raw"))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), max_size=12))
def test_no_file_is_found_twice_and_none_is_lost(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[int, int]]
) -> None:
    """Whatever folders link to whatever folders: what is reachable is found, over real folders first."""
    base = tmp_path_factory.mktemp("links")
    names = ["raw", "raw/a", "raw/a/b", "out", "out/c", "far", ""]  # the last one is above the source folder
    for number, name in enumerate(names):
        _make(base / name, f"{number}.h5")
    for number, (start, stop) in enumerate(links):
        (base / names[start] / f"link{number}").symlink_to(base / names[stop])
    found = [str(one.path) for one in Folders([base / "raw"]).entries() if not one.reason]
    numbers = sorted(Path(path).name for path in found)
    reached, last = {"raw", "raw/a", "raw/a/b"}, set[str]()
    while reached != last:
        last = set(reached)
        targets = {names[stop] for start, stop in links if names[start] in reached} - {""}
        reached |= {name for name in names for target in targets if name == target or name.startswith(f"{target}/")}
    assert numbers == sorted(f"{names.index(name)}.h5" for name in reached)
    assert {f"{base}/{name}/{names.index(name)}.h5" for name in names[:3]} <= set(found)
    shutil.rmtree(base)


def test_a_store_behind_a_link_is_one(tmp_path: Path) -> None:
    _make(tmp_path, "raw/x", "stores/one.zarr/.zarray", "stores/one.zarr/0.0.0")
    (tmp_path / "raw/one.zarr").symlink_to(tmp_path / "stores/one.zarr")
    assert _files(tmp_path / "raw") == ["raw/one.zarr", "raw/x"]
