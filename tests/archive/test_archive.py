from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from zarr.storage import ZipStore

from ainerd_hpc.archive.groups import array, check_group, columns_of, reading_group, writing_group
from ainerd_hpc.archive.journal import Journal, pace, record
from ainerd_hpc.archive.layout import Archive, recorded_digest
from ainerd_hpc.archive.tables import read_codes, read_table, write_table
from ainerd_hpc.errors import ArchiveError, ProductError
from ainerd_hpc.publishing import write_json
from ainerd_hpc.sources.catalog import catalog_table
from ainerd_hpc.types import Content, Problem, Scan, Task

FRAMES = np.random.default_rng(1).poisson(0.3, (40, 12, 16)).astype(np.uint16)


_END = """
import sys, time, numpy as np
from pathlib import Path
from ainerd_hpc.archive.groups import writing_group
from zarr.core import sync

with writing_group(Path(sys.argv[1]), {}) as group:
    group.add("q", np.ones(3), ("q_bin",))
sync.loop[0].call_soon_threadsafe(time.sleep, 1.5)
"""


def test_a_process_ends_without_a_word_where_zarr_takes_its_time(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _END, tmp_path / "a.zip"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def _write(path: Path) -> None:
    with writing_group(path, {"digest": "abc", "frame_time": 0.1}) as group:
        frames = group.create("frames", FRAMES.shape, FRAMES.dtype, ("t", "y", "x"), (4, 12, 16), (16, 12, 16))
        for start in range(0, 40, 16):
            frames[start : start + 16] = FRAMES[start : start + 16]
            group.flush()
        group.add("q", np.array([0.1, np.nan]), ("q_bin",), units="1/angstrom")


def test_group_round_trip_by_plain_zarr_and_xarray(tmp_path: Path) -> None:
    path = tmp_path / "product.zarr.zip"
    _write(path)
    group = zarr.open_group(ZipStore(path, mode="r"), mode="r")
    np.testing.assert_array_equal(group["frames"][...], FRAMES)
    assert group["frames"].shards == (16, 12, 16)
    opened = xr.open_zarr(ZipStore(path, mode="r"), consolidated=False)
    assert opened["frames"].dims == ("t", "y", "x")
    assert opened["q"].attrs["units"] == "1/angstrom"
    np.testing.assert_array_equal(opened["frames"].to_numpy(), FRAMES)


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    _write(tmp_path / "a.zip")
    time.sleep(2.1)  # the dates in a zip have a resolution of 2 s
    _write(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_writer_that_fails_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "product.zarr.zip"
    _write(path)
    before = path.read_bytes()
    with pytest.raises(InterruptedError):
        _write_half(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["product.zarr.zip"]


def _write_half(path: Path) -> None:
    with writing_group(path, {}) as group:
        group.add("half", np.arange(3), ("x",))
        raise InterruptedError


def test_what_killed_writers_left_is_swept_up(tmp_path: Path) -> None:
    script = (
        "import os, signal; from pathlib import Path; from ainerd_hpc.archive.groups import publishing\n"
        f"with publishing(Path({str(tmp_path)!r}) / 'maps' / 'x.txt') as path:\n"
        "    path.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    write_json(tmp_path / "maps" / "y.json", {})
    assert len(list(tmp_path.rglob(".*.tmp"))) == 1
    Archive(tmp_path).sweep()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["y.json"]


def test_digests_are_recorded_in_every_kind_of_product(tmp_path: Path) -> None:
    _write(tmp_path / "a.zarr.zip")
    write_table(tmp_path / "b.parquet", pd.DataFrame({"x": [1]}), "def")
    write_json(tmp_path / "c.json", {"digest": "ghi"})
    found = [recorded_digest(tmp_path / name) for name in ("a.zarr.zip", "b.parquet", "c.json", "none.zip")]
    assert found == ["abc", "def", "ghi", ""]


def test_damaged_products_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr.zip"
    _write(path)
    path.write_bytes(path.read_bytes()[:-50])
    assert recorded_digest(path) == ""
    with pytest.raises(ArchiveError, match=r"a\.zarr\.zip: cannot open the product"), reading_group(path):
        pass
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(ArchiveError, match=r"t\.parquet: cannot read the table"):
        read_table(tmp_path / "t.parquet")


def test_missing_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr.zip"
    _write(path)
    with reading_group(path) as group, pytest.raises(ArchiveError, match="'c2' is missing"):
        array(group, "c2")


def test_columns_of_a_product(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr.zip"
    with writing_group(path, {}) as group:
        group.add("maps", np.zeros((2, 4, 4), np.float32), ("map", "y", "x"))
        group.add_columns(pd.DataFrame({"tau": [1.0, np.nan], "age_start": [0, 5]}), "map")
    with reading_group(path) as group:
        table = columns_of(group)
    assert table.dtypes.astype(str).to_dict() == {"tau": "float64", "age_start": "int64"}
    assert table["age_start"].tolist() == [0, 5]
    np.testing.assert_array_equal(table["tau"], [1.0, np.nan])


def test_catalog_round_trip(tmp_path: Path) -> None:
    scans = [
        Scan(
            "a",
            "x/a.h5",
            "aps-hdf5",
            Content.FRAMES,
            num_frames=10,
            height=4,
            width=5,
            itemsize=2,
            num_q_bins=3,
            frame_time=0.01,
            start_time=12.5,
            partition="p",
            num_pixels=20,
            largest_bin=9,
            num_static_bins=6,
            stored_bytes=1000,
            num_events=70,
            simulated=True,
            dark="dark.npy",
            digest="d",
            state="ingested",
        ),
        Scan("b", "x/b.npy", "c2-npy", Content.C2, 10, 0, 0, 4, 3, 0.2),
    ]
    archive = Archive(tmp_path)
    assert archive.read_catalog() == []
    log = pd.DataFrame({"time": [0.0, 25.1], "temperature": [10.0, 30.0]})
    write_table(archive.catalog_path, catalog_table(scans, [Problem("b", "maps", "why", "d")], log))
    read = archive.read_catalog()
    np.testing.assert_equal(asdict(read[0]), asdict(scans[0]))
    assert np.isnan(read[1].start_time)
    assert (read[1].state, list(read_table(archive.catalog_path)["problems"])) == ("quarantined", ["", "why"])
    assert read_table(archive.catalog_path)["temperature"][0] == 20.0


def test_zip_has_no_dates(tmp_path: Path) -> None:
    _write(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        assert {entry.date_time for entry in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def _finish(root: Path, stage: str, key: str, digest: str) -> None:
    record(root, "begun", stage, key, digest)
    record(root, "done", stage, key, digest)


def test_done_needs_product_and_current_digest(tmp_path: Path) -> None:
    product = tmp_path / "correlation" / "a.zarr.zip"
    _finish(tmp_path, "correlate", "a", "abc")
    assert not Journal(tmp_path).is_done("correlate", "a", "abc", product)
    _write(product)
    assert Journal(tmp_path).is_done("correlate", "a", "abc", product)
    assert not Journal(tmp_path).is_done("correlate", "a", "other", product)


def test_a_kill_between_the_product_and_its_line_does_not_deceive(tmp_path: Path) -> None:
    """Config A is done; then B publishes and is killed before its line; then A again: the product is B's."""
    product = tmp_path / "correlation" / "a.zarr.zip"
    _finish(tmp_path, "correlate", "a", "config A")
    record(tmp_path, "begun", "correlate", "a", "abc")
    _write(product)  # records abc
    assert not Journal(tmp_path).is_done("correlate", "a", "config A", product)
    assert Journal(tmp_path).is_done("correlate", "a", "abc", product)


def test_without_a_journal_the_product_speaks_for_itself(tmp_path: Path) -> None:
    product = tmp_path / "a.zarr.zip"
    _write(product)
    assert Journal(tmp_path).is_done("correlate", "a", "abc", product)
    assert not Journal(tmp_path).is_done("correlate", "a", "other", product)


def test_a_torn_line_is_no_line(tmp_path: Path) -> None:
    product = tmp_path / "a.txt"
    product.write_text("x", encoding="utf-8")
    _finish(tmp_path, "maps", "a", "new")
    journal = next((tmp_path / "journal").iterdir())
    with journal.open("a", encoding="utf-8") as file:
        file.write('{"stage": "maps", "key": "a", "digest": "of another version"}\n')
        file.write('{"event": "begun", "stage": "maps", "key": "a", "dig')
    assert Journal(tmp_path).is_done("maps", "a", "new", product)
    assert not Journal(tmp_path).is_done("maps", "a", "old", product)


def test_two_processes_write_two_journals(tmp_path: Path) -> None:
    _finish(tmp_path, "maps", "a", "x")
    script = (
        "from pathlib import Path; from ainerd_hpc.archive.journal import record\n"
        f"record(Path({str(tmp_path)!r}), 'done', 'maps', 'b', 'y')"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    names = {path.name for path in (tmp_path / "journal").iterdir()}
    assert len(names) == 2
    assert f"{socket.gethostname()}-{os.getpid()}.jsonl" in names


def test_a_second_run_on_one_archive_is_told(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "new")
    assert not archive.is_locked()
    script = (
        "from pathlib import Path; from ainerd_hpc.archive.layout import Archive\n"
        f"with Archive(Path({str(tmp_path)!r}) / 'new').locked(): pass"
    )
    with archive.locked():
        assert archive.is_locked()
        second = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert f"process {os.getpid()} on {socket.gethostname()} is at work on it" in second.stderr
    assert not archive.is_locked()
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_quarantine_is_replaced_stage_by_stage(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.quarantine("ingest", [Problem("b", "ingest", "why b", "1"), Problem("a", "ingest", "why a", "2")])
    journal.quarantine("maps", [Problem("c", "maps", "why c", "3")])
    assert [problem.scan_id for problem in Journal(tmp_path).problems] == ["a", "b", "c"]
    again = Journal(tmp_path)
    again.quarantine("ingest", [Problem("b", "ingest", "why b", "1")])
    assert [problem.scan_id for problem in Journal(tmp_path).problems] == ["b", "c"]
    assert again.find_problem("ingest", "b", "1") is not None
    assert again.find_problem("ingest", "b", "new input") is None
    assert again.find_problem("ingest", "a", "2") is None
    again.forget(["maps"])
    assert [problem.scan_id for problem in again.problems] == ["b"]


def test_bytes_that_went_bad_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr.zip"
    _write(path)
    with zipfile.ZipFile(path) as file:
        place = file.getinfo("frames/c/1/0/0").header_offset + 100
    raw = bytearray(path.read_bytes())
    raw[place] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(ArchiveError, match=r"a\.zarr\.zip: the product is damaged"), reading_group(path) as group:
        array(group, "frames")[...]


TASK = Task("a", "d", 0, 0, 0)


def _kill_in_the_middle(root: Path, times: int) -> None:
    for _ in range(times):
        record(root, "begun", "ingest", TASK.key, TASK.digest)


def test_a_task_that_ends_its_process_again_and_again_is_set_aside(tmp_path: Path) -> None:
    _kill_in_the_middle(tmp_path, 2)
    assert Journal(tmp_path).find_killer("ingest", TASK) is None
    _kill_in_the_middle(tmp_path, 1)
    journal = Journal(tmp_path)
    problem = journal.find_killer("ingest", TASK)
    assert problem is not None
    assert problem.reason.startswith("its process was killed 3 times; ")
    assert journal.find_killer("ingest", Task("a", "other input", 0, 0, 0)) is None
    assert journal.find_killer("maps", TASK) is None
    journal.forget(["ingest"])
    assert journal.find_killer("ingest", TASK) is None
    assert Journal(tmp_path).find_killer("ingest", TASK) is not None
    Journal(tmp_path).forgive(["ingest"])
    assert Journal(tmp_path).num_kills("ingest", TASK) == 0


def test_tasks_that_ended_in_any_way_were_not_killed(tmp_path: Path) -> None:
    for event in ("failed", "interrupted", "failed", "interrupted"):
        _kill_in_the_middle(tmp_path, 1)
        record(tmp_path, event, "ingest", TASK.key, TASK.digest)  # type: ignore[arg-type]
    assert Journal(tmp_path).num_kills("ingest", TASK) == 0
    before = Journal(tmp_path)
    _kill_in_the_middle(tmp_path, 1)
    before.note_interrupted("ingest", [TASK])
    before.note_interrupted("ingest", [TASK])
    assert Journal(tmp_path).num_kills("ingest", TASK) == 0
    _kill_in_the_middle(tmp_path, 4)
    record(tmp_path, "done", "ingest", TASK.key, TASK.digest)
    assert Journal(tmp_path).num_kills("ingest", TASK) == 0, "it was done once: it is no killer"


def test_rates_do_not_depend_on_the_clocks_of_hosts(tmp_path: Path) -> None:
    now = time.time()
    for host, skew in (("a", 0.0), ("b", 5 * 3600.0), ("c", -5 * 3600.0)):
        path = tmp_path / "journal" / f"{host}-1.jsonl"
        path.parent.mkdir(exist_ok=True)
        times = [("begun", -100.0), *(("done", float(second)) for second in range(-90, 1, 10))]
        lines = [
            {"event": event, "stage": "maps", "key": "k", "digest": "d", "time": now + skew + t} for event, t in times
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        os.utime(path, (now, now))
    assert pace(tmp_path, "maps", now - 600) == pytest.approx(0.3)


def test_members_that_a_flipped_bit_hides_are_missed(tmp_path: Path) -> None:
    """256 more bytes of comment swallow four entries of 64, whose members nobody would look for."""
    path = tmp_path / "a.zarr.zip"
    with writing_group(path, {"digest": "d"}) as group:
        for number in range(20):
            group.add(f"array_{number:08}", np.arange(3), ("x",))
    whole = path.read_bytes()
    assert check_group(path) == "d"
    entries = [match.start() for match in re.finditer(re.escape(b"PK\x01\x02"), whole)]
    assert np.diff(entries[:20]).tolist() == [64] * 19
    for place in entries[:16]:
        flipped = bytearray(whole)
        flipped[place + 33] ^= 1
        path.write_bytes(flipped)
        with zipfile.ZipFile(path) as file:
            assert len(file.namelist()) == len(entries) - 4
        with pytest.raises(ProductError, match="a member is missing"):
            check_group(path)


def test_texts_of_a_table_as_numbers_and_what_is_cut_off(tmp_path: Path) -> None:
    """Beyond a row group, too; a table that was cut off is damaged, as for every other reader."""
    path, names = tmp_path / "t.parquet", np.array([f"scan{i}" for i in range(90_000)])
    random = np.random.default_rng(0)
    texts = names[random.integers(0, len(names), 150_000)]
    write_table(path, pd.DataFrame({"scan_id": texts}))
    codes = read_codes(path, "scan_id")
    assert codes.dtype == np.int32
    _, first, same = np.unique(codes, return_index=True, return_inverse=True)
    np.testing.assert_array_equal(texts[first][same], texts)
    assert len(first) == len(set(texts.tolist()))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ProductError, match="cannot read the table"):
        read_codes(path, "scan_id")
