"""Files over which libhdf5 crashes, or never comes to an end, end no walk: other processes look, and are replaced."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from ainerd_hpc.config import SourceConfig
from ainerd_hpc.errors import AinerdError
from ainerd_hpc.sources import isolated as looking
from ainerd_hpc.sources import walk
from ainerd_hpc.sources.discovery import Discovery, discover
from ainerd_hpc.sources.isolated import Death, Lookers
from ainerd_hpc.sources.walk import Kind

LOOK = "ainerd_hpc.sources.walk:look_at"
SABOTAGE = """
import os, signal, h5py
create = h5py.File.__init__
def damaged(file, name, *more, **options):
    kind = os.path.basename(str(name)).partition("_")[0]
    if kind == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "hang":
        while True:
            pass
    if kind == "greedy":
        everything = bytearray(2**33)
    create(file, name, *more, **options)
h5py.File.__init__ = damaged
"""
"""What libhdf5 does with some damaged files, done to files of these names in every process that starts."""


@pytest.fixture
def sabotaged(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Scans over which processes die, among good ones; they have 2 s for each."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SABOTAGE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "site")
    lookers = Lookers(LOOK, 2.0)
    monkeypatch.setitem(looking._at_work, LOOK, lookers)
    for name in ("crash_1", "crash_2", "hang_1", "greedy_1"):
        (source / f"{name}.h5").write_bytes((source / "sim_0003.h5").read_bytes())
    yield source
    lookers.close()


def reasons(found: Discovery) -> dict[str, str]:
    return {problem.scan_id: problem.reason for problem in found.problems}


def test_what_ends_the_process_that_reads_it_is_named_and_the_others_go_on(sabotaged: Path) -> None:
    began = time.perf_counter()
    found = discover(SourceConfig(path=sabotaged))
    assert time.perf_counter() - began < 30
    told = reasons(found)
    assert told.keys() == {"crash_1", "crash_2", "hang_1", "greedy_1"}
    for name in ("crash_1", "crash_2"):
        assert told[name] == (
            f"{sabotaged}/{name}.h5: expected a file that can be read, found that this ends the process (SIGSEGV); "
            "copy the file again from where it was measured, or take it out of the source folder"
        )
    assert (
        f"{sabotaged}/hang_1.h5: expected a file that can be read, found that this takes more than 2 s; "
        in told["hang_1"]
    )
    assert "unexpected MemoryError" in told["greedy_1"]
    assert [scan.scan_id for scan in found.scans if scan.state == "found"] == [f"sim_{n:04d}" for n in range(6)]

    again = discover(SourceConfig(path=sabotaged), {record.path: record for record in found.records})
    assert reasons(again) == told  # they are tried again: the fault may have been the machine's


def test_a_process_that_does_not_start_is_an_error_of_one_line() -> None:
    lookers = Lookers("ainerd_hpc.formats.nowhere:look_at")
    with pytest.raises(AinerdError, match=r"looks at files, found that starting it ends the process \(exit code 1\)"):
        list(lookers.map([1]))


def test_results_come_in_order_and_many_deaths_leave_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    lookers = Lookers("os:_exit")
    assert list(lookers.map(range(3, 40))) == [Death(f"ends the process (exit code {n})") for n in range(3, 40)]
    lookers.close()
    lookers = Lookers("operator:neg")
    assert list(lookers.map(list(range(100)))) == [-n for n in range(100)]
    lookers.close()


def test_they_end_with_who_started_them(source: Path) -> None:
    program = (
        "import os, psutil\nfrom pathlib import Path\n"
        "from ainerd_hpc.sources.walk import look_at_each, looking, Stamp\n"
        "with looking():\n"
        f"    list(look_at_each([(Path({str(source / 'sim_0001.h5')!r}), Stamp(0, 0, 0))]))\n"
        "    print(*(child.pid for child in psutil.Process().children()), flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    (child,) = map(int, result.stdout.split())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_belongs_to_nobody_any_more_is_looked_at(tmp_path: Path) -> None:
    """A data file of a master that was taken away, or written anew without it."""
    for number in (1, 2):
        with h5py.File(tmp_path / f"scan_data_{number:06d}.h5", "w") as file:
            file["entry/data/data"] = np.full((3, 4, 5), number, np.uint16)
    master = tmp_path / "scan_master.h5"

    def write_master(numbers: tuple[int, ...]) -> None:
        with h5py.File(master, "w") as file:
            for number in numbers:
                name = f"scan_data_{number:06d}.h5"
                file[f"entry/data/data_{number:06d}"] = h5py.ExternalLink(name, "entry/data/data")

    def scans(known: dict[Path, walk.FileRecord]) -> tuple[set[str], dict[Path, walk.FileRecord]]:
        records = walk.walk([tmp_path], known)
        return {one.path.stem for one in records if one.kind is Kind.SCAN}, {one.path: one for one in records}

    write_master((1, 2))
    found, known = scans({})
    assert found == {"scan_master"}
    parts = {one.path.stem for one in known.values() if one.kind is Kind.COMPANION}
    assert parts == {"scan_data_000001", "scan_data_000002"}
    assert scans(known) == ({"scan_master"}, known)
    write_master((1,))
    found, known = scans(known)
    assert found == {"scan_master", "scan_data_000002"}
    master.unlink()
    assert scans(known)[0] == {"scan_data_000001", "scan_data_000002"}
    os.truncate(tmp_path / "scan_data_000002.h5", 500)
    assert scans(known)[0] == {"scan_data_000001"}
