"""What cannot be opened is told, and is taken up again as soon as it can be, though no date has changed."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.cli import main
from ainerd_hpc.config import SourceConfig
from ainerd_hpc.formats.opening import keeping_open
from ainerd_hpc.formats.registry import reader
from ainerd_hpc.sources.catalog import read_records
from ainerd_hpc.sources.discovery import Discovery, discover
from ainerd_hpc.sources.walk import FileRecord, from_row
from tests.sources.test_catalog_tree import WITHOUT_CAPABILITIES, small
from tests.support.archive_tree import KINDS, Tree

SHUT_EACH = """
import base64, json, os, sys
import h5py
import numpy as np

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.cli import main
from ainerd_hpc.config import SourceConfig
from ainerd_hpc.formats.opening import keeping_open
from ainerd_hpc.formats.registry import reader
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.sources.discovery import discover
from ainerd_hpc.sources.walk import looking, to_row, walk
tries = []
with looking():
    for given, path in json.loads(sys.argv[1]):
        source = SourceConfig(**given)
        mode = os.stat(path).st_mode
        os.chmod(path, 0)
        try:
            found = discover(source)
            records, reasons = found.records, [problem.reason for problem in found.problems]
        except ConfigError as error:
            records, reasons = walk(source.roots, {}, source.dataset), [str(error)]
        os.chmod(path, mode)
        rows = [to_row(record) for record in records]
        tries.append([reasons, [[base64.b64encode(row["path"]).decode(), row["record"]] for row in rows]])
print(json.dumps(tries))
"""
"""Looks at folders of scans while one path below each has mode 0."""


def _scans(found: Discovery) -> list[str]:
    return [repr(scan) for scan in found.scans]


def _records(rows: list[list[str]]) -> Mapping[Path, FileRecord]:
    records = [from_row(base64.b64decode(path), record) for path, record in rows]
    return {record.path: record for record in records}


def test_whatever_cannot_be_opened_is_told_and_then_taken_up(tmp_path: Path) -> None:
    """Each file and each folder of a scan of each format in turn."""
    letters = {kind.format: letter for letter, kind in KINDS.items()}.values()
    tree = small(tmp_path, *((letter, letter, f"{letter}0001") for letter in letters))
    sources = {letter: _source_of(tree, letter) for letter in letters}
    places = [(one, path) for one in sources.values() for path in sorted(Path(one["path"]).rglob("*"))]
    needed = ("*.zarr/counts", "counts/.zarray", "counts/zarr.json")  # nobody looks at chunks before they are read
    places = [one for one in places if ".zarr/" not in str(one[1]) or any(map(one[1].match, needed))]
    words = [(source, str(path)) for source, path in places]
    command = [*WITHOUT_CAPABILITIES, sys.executable, "-c", SHUT_EACH, json.dumps(words)]
    tries = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    wholes = {source["path"]: _scans(discover(SourceConfig(**source))) for source in sources.values()}
    for (source, path), (reasons, rows) in zip(places, tries, strict=True):
        assert "Permission denied" in " ".join(reasons), (path, reasons)
        assert _scans(discover(SourceConfig(**source), _records(rows))) == wholes[source["path"]], path


def _source_of(tree: Tree, letter: str) -> dict[str, Any]:
    qmap = tree.qmap_path(letter)
    return tree.source | {"path": str(tree.root / letter), "partition": {"*": str(qmap)} if qmap else {}}


def test_links_lead_somewhere_later(tmp_path: Path) -> None:
    """A file behind a link, a folder behind one, a circle of links, and data behind a link inside of HDF5."""
    tree = small(tmp_path, ("L", "a", "L0001"), ("L", "a", "L0002"), ("L", "away", "L0003"), ("E", "a", "E0001"))
    away = tmp_path / "away"
    away.mkdir()
    for path in (tree.root / "a/L0002.h5", tree.root / "a/E0001_data_000001.h5", tree.root / "away"):
        path.rename(away / path.name)
    (tree.root / "a/L0002.h5").symlink_to(away / "later.h5")
    (tree.root / "a/circle.h5").symlink_to("circle.h5")
    (tree.root / "away").symlink_to(away / "later")
    first = discover(SourceConfig(**tree.source))
    reasons = {problem.scan_id.removeprefix("a--"): problem.reason for problem in first.problems}
    assert reasons.keys() == {"L0002", "circle", "E0001"}
    assert "expected a file behind the link, found none" in reasons["L0002"]
    assert "Too many levels of symbolic links; mend this" in reasons["circle"]
    assert "data_000001.h5, found none" in reasons["E0001"]
    assert "expected a file or folder behind the link, found none" in dict(first.ignored)[tree.root / "away"]
    (away / "L0002.h5").rename(away / "later.h5")
    (away / "away").rename(away / "later")
    (away / "E0001_data_000001.h5").rename(tree.root / "a/E0001_data_000001.h5")
    (tree.root / "a/circle.h5").unlink()
    again = discover(SourceConfig(**tree.source), {record.path: record for record in first.records})
    assert not again.problems
    assert {scan.scan_id for scan in again.scans} == tree.scans.keys()


WRITE = """
import sys, h5py, numpy as np
way, path = sys.argv[1:]
with h5py.File(path, "r+" if way == "lock" else "w", libver="latest" if way == "swmr" else None) as file:
    if way != "lock":
        file.create_dataset("entry/data/data", (12, 12, 16), "u2", chunks=(1, 12, 16), maxshape=(None, 12, 16))
    if way == "swmr":
        file.swmr_mode = True
    print("open", flush=True)
    sys.stdin.read()
    if way != "lock":
        file["entry/data/data"][...] = np.arange(16)
"""
"""Holds a file open for writing until its input ends."""


@contextmanager
def writing(way: str, path: Path) -> Iterator[None]:
    command = [sys.executable, "-c", WRITE, way, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        yield
    assert writer.returncode == 0


def test_a_scan_that_somebody_has_open_is_read_and_one_that_is_not_finished_waits(tmp_path: Path) -> None:
    tree = small(tmp_path, *(("L", "a", f"L{number:04d}") for number in range(1, 5)))
    (tree.root / "a/L0004.h5").write_bytes((tree.root / "a/L0004.h5").read_bytes()[:3000])
    ways = {"L0001": "lock", "L0002": "swmr", "L0003": "plain"}
    with ExitStack() as writers:
        for name, way in ways.items():
            writers.enter_context(writing(way, tree.root / f"a/{name}.h5"))
        first = discover(SourceConfig(**tree.source))
    reasons = {problem.scan_id: problem.reason for problem in first.problems}
    assert reasons.keys() == {"a--L0002", "a--L0003", "a--L0004"}
    for scan_id in ("a--L0002", "a--L0003"):
        assert "expected a file that is finished, found one that a program is writing" in reasons[scan_id]
    assert "truncated file" in reasons["a--L0004"]
    again = discover(SourceConfig(**tree.source), {record.path: record for record in first.records})
    assert [problem.scan_id for problem in again.problems] == ["a--L0004"]


def test_a_file_that_its_writer_never_closed_waits_until_it_is_mended(tmp_path: Path) -> None:
    """The flag alone is changed, the dates are not: as `h5clear` may be followed by `touch -r`."""
    tree = small(tmp_path, ("L", "a", "L0001"), ("L", "a", "L0002"))
    path = tree.root / "a/L0001.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["entry/data/data"] = np.ones((12, 12, 16), "u2")
        file.swmr_mode = True
        whole = bytearray(path.read_bytes())
    closed = path.read_bytes()
    path.write_bytes(whole[:12] + closed[12:])
    stat = path.stat()
    first = discover(SourceConfig(**tree.source))
    assert "or has left without closing it; run again" in first.problems[0].reason
    path.write_bytes(closed)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not discover(SourceConfig(**tree.source), {record.path: record for record in first.records}).problems


def test_no_writer_is_refused_while_scans_are_read(source: Path) -> None:
    """Whatever reads them: the look, or the frames."""
    with keeping_open(), reader("aps-hdf5").open(source / "sim_0000.h5") as frames:
        assert frames.read(0, 1).shape == (1, 48, 64)
        with writing("lock", source / "sim_0000.h5"):
            assert frames.read(0, 2).shape == (2, 48, 64)
            assert not discover(SourceConfig(path=source)).problems


def test_a_task_that_cannot_open_its_scan_is_tried_again(source: Path, tmp_path: Path) -> None:
    """By the same command: the file was readable when its folder was looked at, and its date is the same again."""
    words = ["run", "--source", str(source), "--archive", str(tmp_path / "archive"), "--executor", "inline"]
    words += ["--until", "ingest"]
    command = [*WITHOUT_CAPABILITIES, sys.executable, "-m", "ainerd_hpc.cli", *words]
    assert main(["catalog", str(source), "--archive", str(tmp_path / "archive")]) == 0
    (source / "sim_0002.h5").chmod(0)
    shut = subprocess.run(command, check=False, capture_output=True, text=True)
    assert shut.returncode == 3
    assert "Permission denied" in shut.stdout
    (source / "sim_0002.h5").chmod(0o600)
    assert main(words) == 0
    assert len(list((tmp_path / "archive/frames").iterdir())) == 6


def test_a_table_that_cannot_be_read_is_told_and_is_the_sample_log_later(source: Path, tmp_path: Path) -> None:
    words = ["catalog", str(source), "--archive", str(tmp_path / "archive")]
    command = [*WITHOUT_CAPABILITIES, sys.executable, "-m", "ainerd_hpc.cli", *words]
    (source / "sample_log.csv").chmod(0)
    shut = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"COLUMNS": "500"})
    assert f"no sample log: cannot read {source / 'sample_log.csv'}: [Errno 13] Permission denied" in shut.stdout
    (source / "sample_log.csv").chmod(0o600)
    archive = Archive(tmp_path / "archive")
    found = discover(SourceConfig(path=source), read_records(archive, source))
    assert found.sample_log == source / "sample_log.csv"
