"""Damaged products of an archive: a run that meets one makes it anew, and ends with the same archive."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ainerd_hpc.archive.groups import check_group
from ainerd_hpc.archive.journal import Journal
from ainerd_hpc.archive.tables import read_table
from ainerd_hpc.cli import main
from ainerd_hpc.commands.verify import verify
from ainerd_hpc.config import RunConfig
from ainerd_hpc.errors import ConfigError, ProductError, QuarantinedError
from ainerd_hpc.executors import Workers
from ainerd_hpc.loading import load
from ainerd_hpc.pipeline import Run
from ainerd_hpc.publishing import write_json
from ainerd_hpc.report.relations import Tables
from tests.conftest import digests
from tests.support.golden_archive import write_golden

OPTIONS = (
    "model.variant=ainerd2024",
    *("executor.kind=inline", "executor.memory=4 GB", "source.frame_time=0.01", "train.epochs=1", "train.threads=1"),
    *("cluster.min_cluster_size=2", "cluster.min_samples=2", "cluster.num_neighbours=2", "train.batch_size=4"),
)
SCAN = "frames_1"


def configure(source: Path, archive: Path, *options: str) -> RunConfig:
    return load(None, [f"archive={archive}", f"source.path={source}", *OPTIONS, *options])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """The config of a small source, with an archive that nothing went wrong with. Read-only."""
    folder = tmp_path_factory.mktemp("finished")
    write_golden(folder)
    config = configure(folder / "source", folder / "archive")
    Run(config).execute()
    return config


@pytest.fixture
def config(finished: RunConfig, tmp_path: Path) -> RunConfig:
    """The same source, with a copy of the archive that a test may damage."""
    return configure(finished.source.folder, shutil.copytree(finished.archive, tmp_path / "archive"))


def flip(path: Path) -> None:
    """Change one bit of the data, in their largest piece."""
    raw = bytearray(path.read_bytes())
    raw[_place(path)] ^= 0x10
    path.write_bytes(raw)


def _place(path: Path) -> int:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as file:
            entry = max(file.infolist(), key=lambda one: ("c2_unnormalized/c" in one.filename, one.file_size))
            return entry.header_offset + 30 + len(entry.filename) + entry.file_size // 2
    if path.suffix == ".parquet":
        group = pq.ParquetFile(path).metadata.row_group(0)
        columns = [group.column(number) for number in range(group.num_columns)]
        largest = max(columns, key=lambda one: one.total_compressed_size)
        return int(largest.dictionary_page_offset or largest.data_page_offset) + largest.total_compressed_size - 3
    return path.stat().st_size // 2


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


WAYS: Mapping[str, Callable[[Path], None]] = {"flip": flip, "halve": halve, "empty": empty, "delete": Path.unlink}
READ_BY = {
    f"frames/{SCAN}.zarr.zip": f"correlation/{SCAN}.zarr.zip",
    "partitions/*.zarr.zip": f"correlation/{SCAN}.zarr.zip",
    f"correlation/{SCAN}.zarr.zip": f"maps/{SCAN}.zarr.zip",
    f"maps/{SCAN}.zarr.zip": "embedding/default.parquet",
    "maps/index.parquet": "clusters/default.parquet",
    "models/default/weights.safetensors": "embedding/default.parquet",
    "models/default/model.json": "embedding/default.parquet",
    "embedding/default.parquet": "clusters/default.parquet",
    "clusters/default.parquet": "report/index.html",
    "catalog.parquet": "report/index.html",
    "sample_log.parquet": "clusters/default.parquet",
    "journal/files.parquet": "report/index.html",
}
"""A product, and one that is made from it, and is deleted so that a run reads the first."""
UNSEEN = ("models/default/model.json", "flip")
"""Only people read what a bit more or less changes there; `verify` finds it."""


def only(root: Path, pattern: str) -> Path:
    (path,) = root.glob(pattern)
    return path


@pytest.mark.parametrize(("product", "way"), [case for case in itertools.product(READ_BY, WAYS) if case != UNSEEN])
def test_a_run_makes_damaged_products_anew(product: str, way: str, config: RunConfig) -> None:
    expected = digests(config.archive)
    path = only(config.archive, product)
    WAYS[way](path)
    (config.archive / READ_BY[product]).unlink()
    Run(config).execute()
    assert digests(config.archive) == expected
    assert {report.num_done for report in Run(config).execute()} == {0}


FILES = [*READ_BY, "report/index.html", *(f"report/{name}.parquet" for name in Tables._fields)]


def swap(path: Path) -> None:
    """Put the like of it in its place: another scan's, another table, another page."""
    siblings = [one for one in path.parent.glob(f"*{path.suffix}") if one != path]
    if siblings:
        shutil.copy(siblings[0], path)
    else:
        path.write_bytes(path.read_bytes().replace(b"a", b"b", 1))


@pytest.mark.parametrize("way", [*WAYS, "swap"])
def test_verify_names_every_damaged_product(way: str, config: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(config) == []
    for product in FILES:
        path = only(config.archive, product)
        copy = Path(shutil.copy2(path, config.archive / "copy"))
        (swap if way == "swap" else WAYS[way])(path)
        assert [fault.path for fault in verify(config)] == [path], product
        copy.rename(path)
    assert verify(config) == []
    assert "\n23 products, 0 of them damaged" in capsys.readouterr().out


@pytest.mark.parametrize("way", [*WAYS, "swap"])
def test_repair_makes_all_kinds_anew_at_once(way: str, config: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    expected, damaged = digests(config.archive), [only(config.archive, product) for product in FILES]
    for path in damaged:
        (swap if way == "swap" else WAYS[way])(path)
    options = [f"--set={option}" for option in OPTIONS]
    command = ["verify", "--source", str(config.source.folder), "--archive", str(config.archive), *options]
    assert main(command) == 3
    said = capsys.readouterr()
    named = {line.partition(": ")[0] for line in said.out.splitlines() if line.startswith(str(config.archive))}
    assert named <= {str(path) for path in damaged}
    assert len(named) >= len(FILES) - 4, "without its catalog nobody knows which scans an archive has"
    assert said.err.startswith(f"ainerd-hpc: {len(named)} products are damaged or missing; --repair makes")
    assert main([*command, "--repair"]) == 0
    assert digests(config.archive) == expected


def test_what_was_found_whole_is_not_read_again_unless_asked(config: RunConfig) -> None:
    path = config.archive / "correlation" / f"{SCAN}.zarr.zip"
    assert verify(config, number=1, num_shares=2) == verify(config, number=2, num_shares=2) == []
    date = path.stat().st_mtime_ns
    flip(path)
    os.utime(path, ns=(date, date))  # as where the disk forgets a bit
    assert verify(config) == []
    assert [fault.path for fault in verify(config, again=True)] == [path]
    assert [fault.path for fault in verify(config)] == [path], "what is damaged is looked at every time"


def test_what_is_no_archive_is_told(finished: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected products, found none; check the path"):
        verify(configure(finished.source.folder, tmp_path / "no" / "archive"))
    assert not (tmp_path / "no").exists()


def test_an_archive_of_an_earlier_version_is_whole(config: RunConfig) -> None:
    """It has no checksums of files, none of the weights, and its journal may be lost."""
    path = config.archive / "models" / "default" / "model.json"
    record = json.loads(path.read_text())
    del record["weights_sha256"]
    write_json(path, record)
    shutil.rmtree(config.archive / "journal")
    assert verify(config) == []
    (config.archive / "embedding" / "default.parquet").unlink()
    reports = Run(config).execute()
    assert {report.stage for report in reports if report.num_done} == {"embed"}
    assert verify(config) == []
    halve(config.archive / "models" / "default" / "weights.safetensors")
    assert len(verify(config)) == 1


def _members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


@given(data=st.data())
@settings(max_examples=200, suppress_health_check=list(HealthCheck))
def test_any_flipped_bit_is_found_or_changes_nothing(data: st.DataObject, finished: RunConfig, tmp_path: Path) -> None:
    """A zip has some bits that no reader looks at, such as permissions of its members."""
    original = finished.archive / "maps" / f"{SCAN}.zarr.zip"
    raw = bytearray(original.read_bytes())
    near_the_end = st.integers(len(raw) - 3000, len(raw) - 1)
    place = data.draw(st.one_of(st.integers(0, len(raw) - 1), near_the_end))
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / original.name
    path.write_bytes(raw)
    try:
        check_group(path)
    except ProductError:
        return
    assert _members(path) == _members(original)


def _fail(config: RunConfig, *options: bool) -> None:
    with pytest.raises(QuarantinedError):
        Run(config, *options).execute()


def _scans_of_tables(root: Path) -> list[set[str]]:
    tables = ("maps/index.parquet", "embedding/default.parquet", "clusters/default.parquet")
    return [set(read_table(root / name)["scan_id"]) for name in tables]


@pytest.fixture
def damaged_source(config: RunConfig, tmp_path: Path) -> RunConfig:
    """A scan whose counts cannot be read any more, while its name, size and date are as before."""
    source = Path(shutil.copytree(config.source.folder, tmp_path / "source"))
    config = configure(source, config.archive)
    path = source / f"{SCAN}.imm"
    date = path.stat().st_mtime_ns
    raw = bytearray(path.read_bytes())
    raw[1024 + 2 * 48 * 64 + 152] ^= 0xFF
    path.write_bytes(raw)
    os.utime(path, ns=(date, date))
    return config


LOST = ["maps/{}.zarr.zip", "correlation/{}.zarr.zip", "frames/{}.zarr.zip"]
"""Products of a scan, from the last to the first."""


@pytest.mark.parametrize("scaling", ["", "maps.scaling=minmax"])
@pytest.mark.parametrize("num_lost", [1, 2, 3])
def test_a_scan_that_is_lost_late_leaves_every_later_product(
    num_lost: int, scaling: str, damaged_source: RunConfig
) -> None:
    """Its maps are gone, its correlation is damaged, and its source cannot be read any more."""
    root = damaged_source.archive
    config = configure(damaged_source.source.folder, root, *filter(None, [scaling]))
    others = {"frames_2", "maps_3"}
    lost = [root / name.format(SCAN) for name in LOST[:num_lost]]
    lost[0].unlink()
    for path in lost[1:]:
        flip(path)
    if num_lost < 3:
        Run(config).execute()
        assert _scans_of_tables(root) == [{SCAN, *others}] * 3
        return
    _fail(config)
    assert _scans_of_tables(root) == [others] * 3
    _fail(config)


def test_products_of_gone_scans_are_told_and_pruned(
    config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, root = Path(shutil.copytree(config.source.folder, tmp_path / "source")), config.archive
    (source / f"{SCAN}.imm").unlink()
    config = configure(source, root)
    Run(config, until="maps").execute()
    assert (
        f"scans that are not in the source any more, or not selected, are kept (`run --prune` removes them): {SCAN}\n"
        in (capsys.readouterr().out)
    )
    assert len(list(root.glob(f"*/{SCAN}.zarr.zip"))) == 3
    others = {name: found for name, found in digests(root).items() if SCAN not in name}
    Run(config, until="maps", prune=True).execute()
    assert "not selected, are removed: frames_1\n" in capsys.readouterr().out
    assert digests(root) == others
    assert verify(config) == []
    Run(config).execute()
    assert "not selected" not in capsys.readouterr().out
    assert _scans_of_tables(root) == [{"frames_2", "maps_3"}] * 3


@given(data=st.data())
@settings(max_examples=15, suppress_health_check=list(HealthCheck), deadline=None)
def test_damaged_lines_of_the_journal_are_passed_over(data: st.DataObject, finished: RunConfig) -> None:
    """Bytes that are no UTF-8, zeros as some file systems leave them, brackets without end: anywhere, any number."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(finished.archive, Path(folder) / "archive"))
        (root / "quarantine.jsonl").write_text('{"scan_id": "x", "stage": "maps", "reason": "r", "digest": "d"}\n')
        for path in (*root.glob("journal/*.jsonl"), root / "quarantine.jsonl"):
            raw = path.read_bytes()
            place = data.draw(st.integers(0, len(raw)))
            junk = data.draw(
                st.sampled_from([b"\xff", b"\0" * 4096, b"[" * 10_000, b"null\n", b'{"event": []}\n'])
                | st.binary(max_size=40)
            )
            if path.name == "quarantine.jsonl":  # within a name, it would only make another one of it
                junk = b"\n" + junk
            path.write_bytes(raw[:place] + junk + raw[place:])
        before = {name: found for name, found in digests(root).items() if name != "quarantine.jsonl"}
        run = Run(configure(finished.source.folder, root))
        run.execute()
        after = {name: found for name, found in digests(root).items() if name != "quarantine.jsonl"}
    assert after == before
    assert {report.num_done for report in run.reports} == {0}


def test_damaged_lines_are_counted(config: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    (journal,) = config.archive.glob("journal/*.jsonl")
    journal.write_bytes(b"\xff\n[1]\n" + journal.read_bytes() + b'{"event": "torn by a k')
    (config.archive / "quarantine.jsonl").write_bytes(b"\xfe\n")
    assert Journal(config.archive).num_damaged == 3
    assert verify(config) == []
    Run(config).execute()
    assert capsys.readouterr().out.count("3 lines of the journal are damaged and passed over") == 2


def test_what_workers_leave_when_they_end_is_swept(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    left, leave = config.archive / "frames" / ".x.zarr.zip@elsewhere.1.tmp", Workers.__exit__

    def end(workers: Workers, *error: object) -> None:
        leave(workers, *error)
        left.write_bytes(b"half")

    monkeypatch.setattr(Workers, "__exit__", end)
    Run(config).execute()
    assert not left.exists()


def test_a_share_leaves_damage_to_the_run_that_finishes_the_stage(config: RunConfig) -> None:
    expected = digests(config.archive)
    flip(config.archive / "correlation" / f"{SCAN}.zarr.zip")
    for path in config.archive.glob("maps/*.zarr.zip"):
        path.unlink()
    failures = 0
    for number in (1, 2):
        try:
            Run(config, "maps").execute_share(number, 2)
        except QuarantinedError:
            failures += 1
    assert failures == 1
    Run(config, "maps", "maps").execute()
    assert digests(config.archive) == expected


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_training_that_meets_damaged_maps_goes_on_when_they_are_mended(devices: int, config: RunConfig) -> None:
    """Ranks in processes of their own tell of the damage in words alone."""
    path = config.archive / "maps" / f"{SCAN}.zarr.zip"
    original = path.read_bytes()
    flip(path)
    (config.archive / "models" / "default" / "model.json").unlink()
    reports = Run(configure(config.source.folder, config.archive, f"train.devices={devices}")).execute()
    assert {"maps", "train"} <= {report.stage for report in reports if report.num_done}
    assert path.read_bytes() == original
    assert verify(config) == []
