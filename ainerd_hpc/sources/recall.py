"""What a source folder held when it was looked at last: taken again as it is, while nothing in it has changed.

To look at a million scans anew takes a quarter of an hour, though no file is opened: each is paired, named and checked.
To see that no name, size or date has changed takes some seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from ainerd_hpc.archive.layout import CATALOG_COLUMNS, Archive
from ainerd_hpc.archive.scans import SCHEMA, Scans
from ainerd_hpc.archive.tables import read_arrow, read_table, table_digest, write_arrow, write_table
from ainerd_hpc.config import CorrectConfig, SourceConfig
from ainerd_hpc.digests import digest, fingerprint, stamps, stats
from ainerd_hpc.errors import ProductError
from ainerd_hpc.formats.beside.images import place_of
from ainerd_hpc.publishing import write_json
from ainerd_hpc.sources.catalog import read_ids, read_records, seen_by
from ainerd_hpc.sources.discovery import Discovery, discover
from ainerd_hpc.sources.folders import Folders
from ainerd_hpc.sources.pairing import IMAGES, STEM, rule_paths
from ainerd_hpc.sources.walk import NEVER, FileRecord, Kind, from_row, look_at_each, to_row
from ainerd_hpc.types import Problem

_FILES = ["files", "stamps"]
"""Columns beside those of the scans: the files of each, and their sizes and dates."""


def find(archive: Archive, source: SourceConfig, correct: CorrectConfig) -> Discovery:
    """What the source holds: as it was found before where nothing has changed, else what is found now.

    Files that have not changed since the last run or catalog are not opened.
    """
    key = _key(source, correct)
    if known := _recalled(archive, lambda told: told["key"] == key and _is_current(archive, told)):
        return known
    records = read_records(archive, source.folder, source.dataset)
    found = discover(source, records, correct, read_ids(archive))
    lasts = _will_last(found, source, correct)
    return replace(found, scans=Scans.of(found.scans), key=key if lasts else "")


def find_again(archive: Archive, source: SourceConfig, correct: CorrectConfig) -> Discovery | None:
    """What was kept last by this config, whether it has changed since or not; None where nothing was.

    The shares of a stage all take this list, and need not look at the folder themselves.
    """
    return _recalled(archive, lambda told: bool(told["config"] == _config_key(source, correct)))


def have_changed(archive: Archive, scans: Scans) -> bool:
    """Whether files of some of the scans that were kept are not as they were."""
    table = read_arrow(_paths(archive)[1], _FILES).take(pa.array(scans.rows))
    return not all(map(_are_as_they_were, *(column.to_pylist() for column in table.columns)))


def keep(archive: Archive, found: Discovery, source: SourceConfig, correct: CorrectConfig) -> None:
    """Keep what was found; only for a run that holds the lock."""
    head, scans, log = _paths(archive)
    head.unlink(missing_ok=True)
    version = str(time.time_ns())
    write_arrow(scans, _with_files(found), version)
    write_table(log, found.sample_log_table, version)
    of_whom = {"key": found.key, "config": _config_key(source, correct), "version": version}
    write_json(head, {**of_whom, "tables": _tables(archive), **_plain(found)})


def _tables(archive: Archive) -> str:
    """Fingerprint of the tables that are published with it."""
    return fingerprint([archive.records_path, archive.scan_ids_path])


def _with_files(found: Discovery) -> pa.Table:
    """The table of the scans with the files of each and how they were."""
    files = {str(one.path): one for one in found.records}
    rows = [files.get(source) for source in Scans.of(found.scans).column("source")]
    paths = [[str(path) for path in (one.path, *_companions(one))] if one else [] for one in rows]
    then = [stamps(map(Path, one)) for one in paths]
    kind = pa.list_(pa.string())
    table = Scans.of(found.scans).table
    for name, column in zip(_FILES, (paths, then), strict=True):
        table = table.append_column(name, pa.array(column, kind))
    return table


def _companions(record: FileRecord) -> list[Path]:
    return [path for scan in record.scans for path in scan.companions]


def _paths(archive: Archive) -> tuple[Path, Path, Path]:
    """What was found: all but the scans and the sample log; the scans; the sample log."""
    folder = archive.root / "journal"
    return folder / "found.json", folder / "found.parquet", folder / "found.log.parquet"


def _key(source: SourceConfig, correct: CorrectConfig) -> str:
    """Digest of names, sizes and dates of all that lies below the source folders and of what else the config names."""
    total = 0
    for path, stamp, reason, _ in Folders(source.roots).entries():
        one = f"{path}\0{stamp.size} {stamp.modified} {stamp.folder_modified}\0{reason}"
        total += int.from_bytes(hashlib.blake2b(os.fsencode(one), digest_size=16).digest())
    named = [f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats(_named(source, correct))]
    return digest(_config_key(source, correct), f"{total:x}", named)


def _config_key(source: SourceConfig, correct: CorrectConfig) -> str:
    """Digest of what the config says of the source, and of who looks at it."""
    place = "" if all(root.is_absolute() for root in source.roots) else os.getcwd()
    return digest(seen_by(source.dataset), CATALOG_COLUMNS, source, correct, place)


def _named(source: SourceConfig, correct: CorrectConfig) -> Iterator[Path]:
    """Files that the config names, wherever they are."""
    for rule in (source.partition, source.sample_log):
        yield from rule_paths(rule)
    for name in IMAGES:
        yield from (place_of(path).path for path in rule_paths(getattr(correct, name)))


def _will_last(found: Discovery, source: SourceConfig, correct: CorrectConfig) -> bool:
    """Whether the same names, sizes and dates mean the same scans: not where some were still settling, or where files
    beside a scan may come from elsewhere."""
    newest = max((record.stamp.modified for record in found.records), default=0) / 1e9
    is_settled = source.settle is None or newest + source.settle < time.time()
    patterns = [*source.metadata, *map(str, _named(source, correct))]
    return is_settled and all(map(_is_seen, patterns))


def _is_seen(pattern: str) -> bool:
    """Whether a file of the config is known by its own name, or lies beside or below a scan, where the walk sees it."""
    parts = Path(pattern).parts
    return STEM not in pattern or not (os.path.isabs(pattern) or any(part.startswith(".") for part in parts))


def _plain(found: Discovery) -> dict[str, Any]:
    """All but the scans, as JSON."""
    companions = {str(path) for record in found.records for path in _companions(record)}
    outside = sorted(companions - {str(record.path) for record in found.records})
    return {
        "outside": [outside, stamps(map(Path, outside))],
        "uncertain": _as_rows(record for record in found.records if _is_uncertain(record)),
        "partition_records": _as_rows(record for record in found.records if record.kind is Kind.PARTITION),
        "problems": [asdict(problem) for problem in found.problems],
        "partitions": list(map(str, found.partitions)),
        "sample_log": str(found.sample_log or ""),
        "notes": found.notes,
        "ignored": [(str(path), reason) for path, reason in found.ignored],
        "num_files": found.num_files,
        "folder": str(found.folder),
        "dataset": found.dataset,
    }


def _as_rows(records: Iterable[FileRecord]) -> list[list[Any]]:
    return [[os.fsdecode(row["path"]), row["record"]] for row in map(to_row, records)]


def _from_rows(rows: list[list[Any]]) -> tuple[FileRecord, ...]:
    return tuple(from_row(os.fsencode(path), record) for path, record in rows)


def _is_uncertain(record: FileRecord) -> bool:
    """Whether a file may be another one though its size and date are the same: each walk looks at it again."""
    return record.stamp == NEVER or any(scan.may_change for scan in record.scans)


def _is_current(archive: Archive, told: dict[str, Any]) -> bool:
    """Whether all is as it was that names, sizes and dates below the source folder do not tell: the tables that go with
    what was kept, files elsewhere, and what is looked at again in any case."""
    if told["tables"] != _tables(archive) or not _are_as_they_were(*told["outside"]):
        return False
    files = [(record.path, record.stamp) for record in _from_rows(told["uncertain"])]
    return not files or _as_rows(look_at_each(files, told["dataset"])) == told["uncertain"]


def _are_as_they_were(paths: list[str], then: list[str]) -> bool:
    return stamps(map(Path, paths)) == then


def _recalled(archive: Archive, is_meant: Callable[[dict[str, Any]], bool]) -> Discovery | None:
    """What was kept, if it is what is meant; None where nothing was, or it is damaged."""
    head, scans, log = _paths(archive)
    try:
        told = json.loads(head.read_text(encoding="utf-8"))
        is_whole = told["version"] == table_digest(scans) == table_digest(log)
        return (
            _as_found(told, read_arrow(scans, SCHEMA.names), read_table(log)) if is_whole and is_meant(told) else None
        )
    except (OSError, ValueError, KeyError, TypeError, ProductError):
        return None


def _as_found(told: dict[str, Any], table: pa.Table, log: Any) -> Discovery:
    return Discovery(
        scans=Scans(table),
        problems=tuple(Problem(**problem) for problem in told["problems"]),
        partitions=tuple(map(Path, told["partitions"])),
        sample_log=Path(told["sample_log"]) if told["sample_log"] else None,
        sample_log_table=log,
        notes=tuple(told["notes"]),
        ignored=tuple((Path(path), reason) for path, reason in told["ignored"]),
        records=_from_rows(told["partition_records"]),
        folder=Path(told["folder"]),
        dataset=told["dataset"],
        num_files=told["num_files"],
        key=told["key"],
        is_recalled=True,
    )
