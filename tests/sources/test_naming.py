"""The id of a scan stays, whatever other scans come and go, in whatever order."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.cli import main
from ainerd_hpc.config import RunConfig
from ainerd_hpc.errors import QuarantinedError
from ainerd_hpc.formats.description import Description
from ainerd_hpc.formats.registry import FoundScan
from ainerd_hpc.pipeline import Run
from ainerd_hpc.sources.catalog import publish_ids, read_ids
from ainerd_hpc.sources.naming import GivenId, given_ids, scan_ids

ROOT = Path("/data")
PLACES = ("s.h5", "s.npy", "s.h5.npy", "a/s.h5", "a--s.h5", "a/s.npy", "b/s.h5", "b/a/s.h5", "b--a--s.npy", "b/a--s.h5")
SCANS = [(place, "") for place in PLACES] + [(f"{folder}/latents.npy", f"rheo_0{n}") for folder in "ab" for n in (0, 1)]
Scans = set[tuple[str, str]]


def _items(scans: Scans, root: Path = ROOT) -> list[FoundScan]:
    return [FoundScan(root / place, "c2-npy", part, Description(8, 4)) for place, part in sorted(scans)]


def _named(scans: Scans, kept: tuple[GivenId, ...], root: Path = ROOT) -> tuple[dict[Any, str], tuple[GivenId, ...]]:
    """Ids of the scans, and what is kept of them."""
    items = _items(scans, root)
    ids = scan_ids(items, root, kept)
    return dict(zip(sorted(scans), ids, strict=True)), given_ids(items, ids, root, kept)


@settings(max_examples=300)
@given(st.lists(st.sets(st.sampled_from(SCANS), min_size=1), min_size=1, max_size=8))
def test_ids_stay_over_any_history(history: list[Scans]) -> None:
    """Each step is what is in the source folder at that time."""
    kept: tuple[GivenId, ...] = ()
    ever: dict[tuple[str, str], str] = {}
    for number, scans in enumerate(history):
        names, kept = _named(scans, kept, ROOT if number % 3 else Path("/moved"))
        assert len(set(names.values())) == len(scans)
        assert all(names[scan] == ever.setdefault(scan, names[scan]) for scan in scans)
        assert len(set(ever.values())) == len(ever)  # nor is the id of one that has left given to another


@given(st.sets(st.sampled_from(SCANS), min_size=1))
def test_without_a_history_ids_are_what_they_were_always(scans: Scans) -> None:
    """The shortest of path, path with suffix, and these with more and more of a hash."""

    def name(place: str, part: str, length: int) -> str:
        full = part or (place if length else str(Path(place).with_suffix(""))).replace("/", "--")
        return full + (f"~{hashlib.sha256(place.encode()).hexdigest()[: 6 * (length - 1)]}" if length > 1 else "")

    lengths = dict.fromkeys(scans, 0)
    while len(set(names := {scan: name(*scan, length) for scan, length in lengths.items()}.values())) < len(scans):
        lengths = {scan: n + (list(names).count(name(*scan, n)) > 1) for scan, n in lengths.items()}
    assert _named(scans, ())[0] == {scan: name(*scan, length) for scan, length in lengths.items()}


def test_a_folder_beside_does_not_rename_the_first_one() -> None:
    """The paths below the folder of both begin with other names then."""
    names, kept = _named({("s.h5", "")}, (), ROOT / "a")
    both, _ = _named({("a/s.h5", ""), ("b/s.h5", "")}, kept, ROOT)
    assert (names[("s.h5", "")], both[("a/s.h5", "")], both[("b/s.h5", "")]) == ("s", "s", "b--s")


def test_a_scan_that_breaks_keeps_its_id_and_one_that_is_none_gets_none_for_good() -> None:
    kept = _named({("s.h5", "")}, ())[1]
    broken = FoundScan(ROOT / "s.h5", "unknown", reason="cut off")
    other = FoundScan(ROOT / "s.npy", "unknown", reason="cut off")
    assert scan_ids([broken, other], ROOT, kept) == ["s", "s.npy"]
    assert [one.scan_id for one in given_ids([broken, other], ["s", "s.npy"], ROOT, kept)] == ["s"]


def test_ids_survive_the_disk(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    assert read_ids(archive) == []
    kept = [
        GivenId("a_~123456", Path("/d/a\udcff"), "a\udcff", ""),
        GivenId("rheo_00", Path("/d/l.npy"), "l.npy", "rheo_00"),
    ]
    publish_ids(archive, kept)
    assert read_ids(archive) == kept


def _products(archive: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in archive.glob("*/*.zarr.zip")}


def test_products_are_not_made_again_when_namesakes_come_and_go(
    source: Path, make_config: Callable[..., RunConfig]
) -> None:
    config = make_config(source)
    for path in [path for number in range(2, 6) for path in source.glob(f"sim_{number:04d}*")]:
        path.unlink()

    def run() -> dict[str, tuple[int, int]]:
        Run(config, until="correlate").execute()
        return _products(config.archive)

    before = run()
    namesake = source / "sim_0000.hdf"
    shutil.copy(source / "sim_0000.h5", namesake)
    with h5py.File(namesake, "a") as file:
        file["entry/data/data"][0] += 1
    more = run()
    assert before.items() <= more.items()
    assert {Path(path).name for path in more.keys() - before.keys()} == {"sim_0000.hdf.zarr.zip"}
    (source / "sim_0000.h5").rename(source / "away")
    away = (source / "away").read_bytes()
    (source / "away").unlink()
    assert run() == more
    assert _ids(config) == ["sim_0000.hdf", "sim_0001"]
    (source / "sim_0000.h5").write_bytes(away)
    again = run()
    assert {path for path in again if again[path] != more[path]} == {
        str(config.archive / folder / "sim_0000.zarr.zip") for folder in ("frames", "correlation")
    }
    assert _ids(config) == ["sim_0000", "sim_0000.hdf", "sim_0001"]


def _ids(config: RunConfig) -> list[str]:
    return sorted(scan.scan_id for scan in Archive(config.archive).read_catalog())


def test_the_catalog_keeps_them_too(source: Path, tmp_path: Path) -> None:
    words = ["catalog", str(source), "--archive", str(tmp_path / "archive")]
    assert main(words) == 0
    (source / "sim_0000.npy").write_bytes(b"cut off")
    assert main(words) == QuarantinedError.exit_code
    archive = Archive(tmp_path / "archive")
    expected = ["sim_0000", "sim_0000.npy", *(f"sim_{number:04d}" for number in range(1, 6))]
    assert [scan.scan_id for scan in archive.read_catalog()] == expected


@pytest.mark.parametrize("damage", ["missing", "cut off", "flipped"])
def test_without_the_table_of_ids_the_catalog_has_them(source: Path, tmp_path: Path, damage: str) -> None:
    """As in archives of earlier versions; what is known of the files is lost then, but nothing else."""
    words = ["catalog", str(source), "--archive", str(tmp_path / "archive")]
    assert main(words) == 0
    archive = Archive(tmp_path / "archive")
    for path in (archive.scan_ids_path, archive.records_path):
        content = bytearray(path.read_bytes())
        content[8:40] = bytes(32)
        path.write_bytes(content[:-20] if damage == "cut off" else content)
        if damage == "missing":
            path.unlink()
    shutil.copy(source / "sim_0000.h5", source / "sim_0000.hdf")
    with h5py.File(source / "sim_0000.hdf", "a") as file:
        file["entry/data/data"][0] += 1
    assert main(words) == 0
    ids = [scan.scan_id for scan in archive.read_catalog()]
    assert ids == ["sim_0000", "sim_0000.hdf", *(f"sim_{number:04d}" for number in range(1, 6))]
