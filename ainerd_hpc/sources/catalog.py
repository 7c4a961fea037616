"""The catalog of an archive as a table: made from what was found, asked by conditions."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ainerd_hpc import __version__
from ainerd_hpc.archive.journal import note_published
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.scans import Scans
from ainerd_hpc.archive.tables import read_table, table_digest, write_table
from ainerd_hpc.config import one_form
from ainerd_hpc.errors import ProductError
from ainerd_hpc.formats.registry import registered
from ainerd_hpc.sources.conditions import matching
from ainerd_hpc.sources.naming import GivenId
from ainerd_hpc.types import Content, Problem, Scan

if TYPE_CHECKING:
    from ainerd_hpc.sources.walk import FileRecord

_VERSION = 4
"""What of a file is kept; files are looked at anew where this is another one."""
SAMPLE_PREFIX = "sample_"
"""Before a column of the sample log that has the name of another column."""
_MOST_NAMED = 3
"""Scans that are named where several have the same to be said of them."""


def catalog_table(
    scans: Sequence[Scan], problems: Iterable[Problem], log: pd.DataFrame, state: NDArray[Any] | str | None = None
) -> pd.DataFrame:
    """A row a scan: its fields, its problems, and the sample log at its middle.

    Parameters
    ----------
    state : (n,) texts or str, optional
        Of scans without a problem. Default: their own.
    """
    table = Scans.of(scans).frame()
    reasons = {problem.scan_id: problem.reason for problem in problems}
    table["problems"] = table["scan_id"].map(reasons).fillna("").astype("str")
    good = table["state"] if state is None else state
    table["state"] = np.where(table["scan_id"].isin(reasons), "quarantined", good)
    table = table.astype({"state": "str"})
    middles = (table["start_time"] + table["num_frames"] * table["frame_time"] / 2).to_numpy()
    return pd.concat([table, sample_columns(log, middles, table.columns)], axis=1)


def sample_columns(log: pd.DataFrame, times: np.ndarray, taken: Collection[str]) -> pd.DataFrame:
    """The sample log at `times` (n,), s; a column whose name is `taken` gets `SAMPLE_PREFIX` before it."""
    from ainerd_hpc.formats.beside import sample_log

    columns = sample_log.at_times(log, times)
    return columns.rename(columns={name: f"{SAMPLE_PREFIX}{name}" for name in columns if name in taken})


def noted(scans: Iterable[Scan], most: int) -> Iterator[tuple[str, str]]:
    """Which scans, and what is to be known of them: a line a note, up to so many, and one on all others."""
    named: dict[str, list[str]] = {}
    for scan in scans:
        if scan.notes:
            named.setdefault(scan.notes, []).append(scan.scan_id)
    for note, names in islice(named.items(), most):
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        yield f"{', '.join(names[:_MOST_NAMED])}{more}", note
    if others := list(named.values())[most:]:
        yield f"{sum(map(len, others))} more scans", "something to know, see the column `notes` of the catalog"


def chosen_scans(table: pd.DataFrame, condition: str) -> pd.DataFrame:
    """The rows of a catalog for which a condition holds, in the language of `sources.conditions`.

    Beside the columns there are `start` and `stop`, which can be compared with ISO dates.

    Raises
    ------
    ConfigError
        The condition cannot be understood.
    """
    seconds = {"start": table["start_time"], "stop": table["start_time"] + table["num_frames"] * table["frame_time"]}
    dates = {name: pd.to_datetime(values, unit="s", errors="coerce") for name, values in seconds.items()}
    return table.loc[matching(table.assign(**dates), condition).index]


def publish_records(archive: Archive, records: Sequence[FileRecord], folder: Path, dataset: str = "") -> None:
    """Keep what is known of the files below a source folder, so that the next walk opens only those that changed."""
    from ainerd_hpc.sources.walk import to_row

    table = pd.DataFrame([to_row(record) for record in records]).assign(folder=os.fsencode(folder))
    write_table(archive.records_path, table, seen_by(dataset))
    note_published(archive.root, archive.records_path)


def read_records(archive: Archive, folder: Path, dataset: str = "") -> dict[Path, FileRecord]:
    """What an earlier walk kept, by path; empty where there was none, where it is damaged, or where it was of another
    version, of other readers or of another dataset.

    If the source folder was another one then, it may have been moved, or be mounted elsewhere: what was read there is
    known under the same path below this one, too, as long as size and date are the same.
    """
    from ainerd_hpc.sources.walk import from_row, moved

    if table_digest(archive.records_path) != seen_by(dataset):
        return {}
    try:
        table = read_table(archive.records_path)
    except ProductError:
        return {}
    records = [from_row(*row) for row in zip(table["path"], table["record"], strict=True)]
    known = {record.path: record for record in records}
    before = Path(os.fsdecode(table["folder"][0])) if len(table) else folder
    if before == folder:
        return known
    there = [moved(record, before, folder) for record in records if not record.reason]  # reasons name their paths
    return {record.path: record for record in there} | known


def publish_ids(archive: Archive, given: Sequence[GivenId]) -> None:
    """Keep the ids that scans have or had."""
    rows = [(name, os.fsencode(path), os.fsencode(inside), part) for name, path, inside, part in given]  # not all UTF-8
    write_table(archive.scan_ids_path, pd.DataFrame(rows, columns=GivenId._fields))
    note_published(archive.root, archive.scan_ids_path)


def read_ids(archive: Archive) -> list[GivenId]:
    """The ids that scans have or had; where nobody kept them, or they are damaged, those of the catalog."""
    with suppress(ProductError):
        if archive.scan_ids_path.exists():
            rows = read_table(archive.scan_ids_path).itertuples(index=False)
            return [GivenId(row[0], Path(os.fsdecode(row[1])), os.fsdecode(row[2]), row[3]) for row in rows]
    with suppress(ProductError):
        return [_as_given(scan) for scan in archive.read_catalog() if scan.state != "quarantined"]
    return []


def _as_given(scan: Scan) -> GivenId:
    part = scan.scan_id.partition("~")[0] if scan.content is Content.LATENTS else ""
    return GivenId(scan.scan_id, one_form(Path(scan.source)), "", part)


def seen_by(dataset: str) -> str:
    """Who looked at the files: other versions and other readers may see other things in them."""
    return f"records {_VERSION} {__version__} {dataset}{registered() and f'; {registered()}'}"
