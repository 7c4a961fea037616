"""What an archive of many scans costs where nothing, or one scan, is to be done: seconds, memory, and how both grow.

    python -m benchmarks.archive_scale [--scans 1000 10000] [--folder FOLDER]

One scan is SIMULATED and goes through the line. The archive of many is faked from it: its files are linked under other
names, and its records, its journal and its tables are written as the line would have left them. What is timed is what
is done for each scan, not the science, and its inputs are in the page cache. Every verb is a process of its own, as a
user starts it, with its imports; seconds are those of its processors, its children included, and the exponents are
those between the first and the last size. `share` is one of 500 of a job array, with nothing to do.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ainerd_hpc.archive import map_index
from ainerd_hpc.archive.groups import writing_group
from ainerd_hpc.archive.journal import Journal
from ainerd_hpc.archive.layout import Archive, with_digest
from ainerd_hpc.archive.scans import Scans
from ainerd_hpc.archive.tables import read_table, write_table
from ainerd_hpc.config import RunConfig, SimulateConfig
from ainerd_hpc.correlation.windows import map_ids
from ainerd_hpc.digests import stamps
from ainerd_hpc.loading import load, to_yaml
from ainerd_hpc.pipeline import Run
from ainerd_hpc.planning import find_scans, line_of, survey
from ainerd_hpc.publishing import write_text
from ainerd_hpc.simulate import write_scan, write_shared_files
from ainerd_hpc.sources.catalog import publish_records
from ainerd_hpc.sources.discovery import discover
from ainerd_hpc.sources.folders import Stamp
from ainerd_hpc.sources.walk import FileRecord, Kind
from ainerd_hpc.stages.line import Line
from ainerd_hpc.types import Scan

_TINY = SimulateConfig(num_scans=1, num_frames=64, height=48, width=64, num_q_bins=1, seed=7)
_PER_FOLDER = 1000
_SHARES = 500
_OF_SCANS = ("ingest", "correlate", "maps")
_JOURNALS = 4
_VERBS: Mapping[str, Sequence[str]] = {
    "first `run`": ("run",),
    "`catalog`": ("catalog", "--config"),
    "`plan`": ("plan",),
    "`status`": ("status",),
    "no-op `run`": ("run",),
    "share": ("maps", "--share", f"7/{_SHARES}"),
}
_PROGRAM = """
import sys
from pathlib import Path
from ainerd_hpc.cli import main
code = main(sys.argv[1:])
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
sys.exit(code)
"""
"""A verb, which says at the end how much memory it had, kB: what the system tells of children counts this process."""


class Cost(NamedTuple):
    """What a process took."""

    seconds: float
    """Of processors."""
    peak_bytes: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--folder", type=Path, help="where archives are made; default: a temporary folder")
    parser.add_argument("--inside", choices=_INSIDE, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.inside:
        print(_INSIDE[options.inside](load(options.folder / "config.yaml")))
        print(_peak_kilobytes())
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = [measure(make(Path(folder) / str(num), num)) for num in options.scans]
    print_table(options.scans, found)


def print_table(sizes: Sequence[int], found: Sequence[Mapping[str, Cost]]) -> None:
    """A row for each step: seconds and memory at each size, and the exponents of both."""
    print("| scans, simulated | " + " | ".join(f"{num:,}: s | GB" for num in sizes) + " | exponent, s | GB |")
    print("|---|" + "---|---|" * (len(sizes) + 1))
    for name in found[0]:
        costs = [one[name] for one in found]
        cells = [f"{cost.seconds:.1f} | {cost.peak_bytes / 1e9:.2f}" for cost in costs]
        grown = [_exponent(sizes, values) for values in zip(*costs, strict=True)]
        print(f"| {name} | {' | '.join(cells)} | {grown[0]:.2f} | {grown[1]:.2f} |")


def _exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    if len(sizes) < 2:
        return math.nan
    return math.log(values[-1] / values[0]) / math.log(sizes[-1] / sizes[0])


def measure(config: Path) -> dict[str, Cost]:
    """The cost of each verb, and of steps inside of them, on one archive."""
    costs = {name: _cost([sys.executable, "-c", _PROGRAM, *words, str(config)]) for name, words in _VERBS.items()}
    inside = [sys.executable, "-m", "benchmarks.archive_scale", "--folder", str(config.parent), "--inside"]
    return costs | {text: _cost([*inside, name]) for name, text in _STEPS.items()}


def _cost(command: Sequence[str]) -> Cost:
    """What a command takes, with the children that it waits for; a step tells its seconds itself."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(command, stdout=told, stderr=told, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        *lines, last = told.read().decode().splitlines()
    assert not process.returncode, [*lines, last]
    seconds = float(lines[-1]) if "--inside" in command else used.ru_utime + used.ru_stime
    return Cost(seconds, 1024 * int(last))


def _peak_kilobytes() -> str:
    return Path("/proc/self/status").read_text(encoding="ascii").split("VmHWM:")[1].split()[0]


def _fold(config: RunConfig) -> float:
    """Open the journal, and ask it for what each stage did; seconds of that."""
    began = time.process_time()
    journal = Journal(config.archive)
    for name in _OF_SCANS:
        assert not journal.digest_of(name, "another")
    return time.process_time() - began


def _finish(config: RunConfig) -> float:
    """Gather the maps after one scan has changed, as the run does that made its product; seconds of that."""
    found = survey(config)
    scans = Scans.of([replace(found.scans[0], digest="changed"), *found.scans[1:]])
    line = line_of(config, Journal(config.archive), replace(found, scans=scans))
    stage, before = line.stage("maps"), line.before("maps")
    scan_id, index = scans[0].scan_id, read_table(line.stage("maps").archive.map_index_path)
    rows = index[index["scan_id"] == scan_id].drop(columns=["map_id", "scan_id"])
    attributes = {"digest": before.of_scan("maps", scans[0]), "scan_id": scan_id}
    with writing_group(stage.product(scan_id), attributes) as group:
        group.add_columns(rows.assign(tau=1.0), "map")
    began = time.process_time()
    stage.finish(scans, before)
    return time.process_time() - began


_INSIDE: Mapping[str, Callable[[RunConfig], float]] = {"fold": _fold, "finish": _finish}
_STEPS = {"fold": "the journal, folded", "finish": "`maps.finish` after one scan"}


def make(folder: Path, num: int) -> Path:
    """An archive of many scans in which everything up to the embedding is done; the path of its config."""
    seed, config = _run_one(folder / "one"), _config(folder, folder / "raw")
    path = folder / "config.yaml"
    write_text(path, to_yaml(config.model_dump(mode="json")))
    known = discover(seed.source).records
    publish_records(Archive(config.archive), list(_records(known, folder / "raw", num)), folder / "raw")
    found = find_scans(config)
    assert len(found.scans) == num
    assert not found.problems
    line = line_of(config, Journal(config.archive), found)
    _publish(line, found.scans, Archive(seed.archive))
    return path


def _config(archive: Path, source: Path) -> RunConfig:
    return RunConfig.model_validate(
        {
            "archive": archive / "archive",
            "source": {"path": source},
            "maps": {"windows": ["full"]},
            "cluster": {"min_cluster_size": 3, "min_samples": 2},
            "executor": {"kind": "inline", "memory": "4 GB"},
        }
    )


def _run_one(folder: Path) -> RunConfig:
    """One scan that went through the line."""
    write_shared_files(folder / "raw", _TINY)
    write_scan(folder / "raw", _TINY, 0)
    config = _config(folder, folder / "raw")
    Run(config, until="embed").execute()
    return config


def _records(known: Sequence[FileRecord], source: Path, num: int) -> Iterator[FileRecord]:
    """Records of many files like those of one scan, which are linked in folders of a thousand."""
    (frames,) = (one for one in known if one.scans)
    (metadata,) = (one.metadata for one in known if one.metadata)
    folders = [source / f"{number:04d}" for number in range(-(-num // _PER_FOLDER))]
    names = [folders[n // _PER_FOLDER] / f"scan_{n:07d}.h5" for n in range(num)]
    for number, path in enumerate(names):
        _link(frames.path, path, path.parent / f"scan_{number // _PER_FOLDER * _PER_FOLDER:07d}.h5")
    stamps = {folder: folder.stat().st_mtime_ns for folder in folders}
    described = frames.scans[0].description
    assert described
    for number, path in enumerate(names):
        start = metadata.start_time + 60.0 * number
        scan = replace(described, metadata=replace(metadata, start_time=start))
        stat = path.stat()
        stamp = Stamp(stat.st_size, stat.st_mtime_ns, stamps[path.parent])
        one = replace(frames.scans[0], path=path, description=scan)
        yield FileRecord(path, stamp, Kind.SCAN, scans=(one,), content=f"{number:032d}")
    for record in known:
        if record.kind in (Kind.PARTITION, Kind.SAMPLE_LOG):
            shutil.copy2(record.path, source / record.path.name)


def _link(origin: Path, path: Path, first: Path) -> None:
    """The same file under another name: a copy in each folder, and links to it."""
    if path == first:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(origin, path)
    else:
        path.hardlink_to(first)


def _publish(line: Line, scans: Sequence[Scan], seed: Archive) -> None:
    """All products of these scans, as the line leaves them."""
    archive = Archive(line.config.archive)
    (one,) = seed.read_catalog()
    for name in _OF_SCANS:
        stage = line.stage(name)
        origin = seed.root / stage.product(one.scan_id).relative_to(archive.root)
        first = stage.product(scans[0].scan_id)
        for number, scan in enumerate(scans):
            path = stage.product(scan.scan_id)
            if number % _PER_FOLDER == 0:
                first = path
            _link(origin, path, first)
    _write_journal(line, scans)
    _write_tables(line, scans, seed)


def _write_journal(line: Line, scans: Sequence[Scan]) -> None:
    folder = line.config.archive / "journal"
    used = {"began": 1.7e9, "ended": 1.7e9, "cpu_seconds": 0.1, "bytes_read": 10**6, "peak_bytes": 10**9}
    for journal in range(_JOURNALS):
        with (folder / f"node-{journal}.jsonl").open("w", encoding="utf-8") as file:
            for name in _OF_SCANS:
                for scan in scans[journal::_JOURNALS]:
                    digest = line.of_scan(name, scan)
                    entry = {"stage": name, "key": scan.scan_id, "digest": digest, "time": 1.7e9, "queued": 1.7e9}
                    size = line.stage(name).product(scan.scan_id).stat().st_size
                    done = {**entry, **used, "seconds": 0.1, "bytes_written": size, "predicted_seconds": 0.1}
                    file.write(json.dumps({"event": "begun", **entry}) + "\n")
                    file.write(json.dumps({"event": "done", **done}) + "\n")


def _write_tables(line: Line, scans: Sequence[Scan], seed: Archive) -> None:
    """The index of maps, the model, the embedding and, with nothing in them, the clusters and the page."""
    archive, name = Archive(line.config.archive), line.config.model.name
    index = _repeated(read_table(seed.map_index_path).drop(columns="map_id"), scans)
    index.insert(0, "map_id", map_ids(index))
    write_table(archive.map_index_path, index, line.of_all("maps", scans))
    scan_ids = [scan.scan_id for scan in scans]
    made_of = {"digest": line.of_each("maps", scans), "stamp": stamps(map(archive.maps_path, scan_ids))}
    columns = map_index.described(index.drop(columns="map_id"))
    map_index.note(archive, pd.DataFrame({"scan_id": scan_ids, **made_of, "columns": columns}))
    shutil.copytree(seed.model_folder(name), archive.model_folder(name))
    embedding = _repeated(read_table(seed.embedding_path(name)).drop(columns="map_id"), scans)
    embedding.insert(0, "map_id", index["map_id"])
    write_table(archive.embedding_path(name), embedding, line.of_all("embed", scans))
    cluster, page = line.stage("cluster"), line.stage("report")
    for path in (*cluster.beside(name), cluster.product(name)):
        write_table(path, pd.DataFrame(), line.of_all("cluster", scans))
    for path in page.beside("index"):
        write_table(path, pd.DataFrame())
    write_text(page.product("index"), with_digest("</html>", line.of_all("report", scans)))


def _repeated(rows: pd.DataFrame, scans: Sequence[Scan]) -> pd.DataFrame:
    """The rows of one scan for each of many."""
    table = pd.concat([rows] * len(scans), ignore_index=True)
    return table.assign(scan_id=[scan.scan_id for scan in scans for _ in range(len(rows))])


if __name__ == "__main__":
    main()
