"""What all journals of an archive say together: folded once, kept as a table, and added to what they say since."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ainerd_hpc.archive.json_lines import with_damaged
from ainerd_hpc.archive.tables import DIGEST_KEY, write_arrow

OPENS = {"begun": 1, "failed": -1, "interrupted": -1, "done": -(10**9)}
"""What an event adds to the open ends of a task; what was done ever has none."""
_UNKNOWN = -1
"""Size of a product whose line does not tell it."""
_TASK = ("stage", "key", "digest")
_SUMS = [("opens", "sum"), ("least", "min"), ("most", "max")]
"""Open ends of a task, and the sizes of what it published; none where it never did."""
_SCHEMA = pa.schema([*((name, pa.string()) for name in _TASK), *((name, pa.int64()) for name, _ in _SUMS)])
_WORTH_KEEPING = 2**20
"""Bytes of lines since the last fold that make a new one."""


class Mark(NamedTuple):
    """How far a journal was read."""

    offset: int
    """Bytes of whole lines."""
    size: int
    modified: int
    """ns."""


class OfStage:
    """What the journals say of the tasks of one stage.

    Parameters
    ----------
    table : DataFrame
        key, digest, opens, least, most: a row for each task and what it was made from.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table

    @cached_property
    def kills(self) -> Counter[tuple[str, str]]:
        """How often a task (key, digest) has begun and not ended; what was done ever is not in it."""
        left = self._table[self._table["opens"] > 0]
        return Counter(dict(zip(zip(left["key"], left["digest"], strict=True), left["opens"].tolist(), strict=True)))

    @cached_property
    def done(self) -> pd.Index[Any]:
        """Keys of the tasks that were done ever."""
        keys: pd.Index[Any] = pd.Index(self._done["key"])
        return keys

    @cached_property
    def digests(self) -> NDArray[Any]:
        """Digest of each of these on which all lines agree, (n,) texts; empty where they do not."""
        return np.where(self._done["agree"], self._done["digest"].to_numpy(object), "")

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Bytes that each of these published, (n,); -1 where lines do not say it, or differ."""
        same = self._done["least"] == self._done["most"]
        return np.where(same, self._done["most"], _UNKNOWN).astype(np.int64)

    @cached_property
    def _done(self) -> pd.DataFrame:
        """A row a key: where it was begun for another digest, too, lines do not tell which was published last: clocks
        of hosts differ, and a kill may have come between the product and its line."""
        found = self._table.assign(agree=~self._table["key"].duplicated(keep=False))
        found = found[found["least"].notna()]
        return found[~found["key"].duplicated()]

    def place(self, key: str) -> int:
        """Place of a task in these arrays; -1 where it was never done."""
        return int(self.done.get_indexer(pd.Index([key]))[0])

    def sizes_of(self, keys: NDArray[Any], digests: NDArray[Any]) -> NDArray[np.int64]:
        """Bytes that products with these digests have, (n,); -1 where nobody knows, 0 where lines say otherwise."""
        if not len(self.done):
            return np.zeros(len(keys), np.int64)
        place = self.done.get_indexer(pd.Index(keys))
        return np.where((place >= 0) & (self.digests[place] == digests), self.sizes[place], 0)


class Fold:
    """All journals of a folder, as they are now.

    Parameters
    ----------
    folder : Path
    keys : collection of str, optional
        Tasks that are asked for, with all that are parts of a scan. Default: all.

    Attributes
    ----------
    num_damaged : int
        Lines that say nothing any more.
    """

    def __init__(self, folder: Path, keys: Collection[str] | None = None) -> None:
        self._folder, self._path = folder, folder / "folded.parquet"
        self._keys = None if keys is None else pa.array(keys, pa.string())
        self._file, self._marks, self.num_damaged = _kept(self._path, folder)
        self._last: tuple[str, OfStage] | None = None
        self._add_journals()

    def of(self, stage: str) -> OfStage:
        """What is said of one stage; that of the last one is at hand."""
        if self._last is None or self._last[0] != stage:
            kept = self._kept_rows(stage)
            mine = self._fresh.filter(pc.equal(self._fresh["stage"], stage))
            asked = [self._asked(table) for table in (*kept, mine)]
            self._last = stage, OfStage(_summed(asked).drop_columns("stage").to_pandas())
        return self._last[1]

    def keep(self) -> None:
        """Keep what is folded, where that saves something; only for a run that holds the lock."""
        if self._num_bytes < _WORTH_KEEPING:
            return
        kept = self._kept_rows()
        table = _summed([*kept, self._fresh]).sort_by([("stage", "ascending"), ("key", "ascending")])
        head = {"marks": self._marks, "num_damaged": self.num_damaged}
        write_arrow(self._path, table, json.dumps(head))

    def _asked(self, table: pa.Table) -> pa.Table:
        """The rows of the tasks that are asked for."""
        if self._keys is None:
            return table
        is_part = pc.match_substring(table["key"], "/")
        return table.filter(pc.or_(pc.is_in(table["key"], self._keys), is_part))

    def _add_journals(self) -> None:
        """Add the lines of all journals since their marks."""
        tasks, self._num_bytes = dict[tuple[str, str, str], list[Any]](), 0
        for path in self._folder.glob("*.jsonl"):
            self._add(path, tasks)
        rows = zip(*((*name, *numbers) for name, numbers in tasks.items()), strict=True) if tasks else [[]] * 6
        self._fresh = pa.table(list(map(pa.array, rows)), names=_SCHEMA.names).cast(_SCHEMA)
        self._last = None

    def _kept_rows(self, stage: str = "") -> list[pa.Table]:
        """What was kept, of one stage or of all; where it is damaged, all journals are read again."""
        try:
            return [_rows(self._file, stage)] if self._file else []
        except (OSError, ValueError, pa.ArrowException):
            self._file, self._marks, self.num_damaged = None, {}, 0
            self._add_journals()
            return []

    def _add(self, path: Path, tasks: dict[tuple[str, str, str], list[Any]]) -> None:
        """Add the lines of one journal since its mark."""
        begin = self._marks[path.name].offset if path.name in self._marks else 0
        stat = path.stat()
        with path.open("rb") as file:
            file.seek(begin)
            content = file.read()
        whole = content.rfind(b"\n") + 1
        self._marks[path.name] = Mark(begin + whole, stat.st_size, stat.st_mtime_ns)
        self._num_bytes += whole
        for entry in with_damaged(content):
            if entry is None:
                self.num_damaged += 1
            elif _is_of_task(entry):
                _count(entry, tasks)


def _count(entry: Mapping[str, Any], tasks: dict[tuple[str, str, str], list[Any]]) -> None:
    """Add one line to what is known of its task: open ends, smallest and largest size."""
    numbers = tasks.setdefault((entry["stage"], entry["key"], entry["digest"]), [0, None, None])
    numbers[0] += OPENS[entry["event"]]
    if entry["event"] == "done":
        told = entry.get("bytes_written")
        size = told if isinstance(told, int) else _UNKNOWN
        numbers[1:] = (size, size) if numbers[1] is None else (min(size, numbers[1]), max(size, numbers[2]))


def _is_of_task(entry: Mapping[str, Any]) -> bool:
    return entry.get("event") in OPENS and all(isinstance(entry.get(name), str) for name in _TASK)


def _summed(tables: Sequence[pa.Table]) -> pa.Table:
    """A row a task, of tables that may each have one."""
    found = pa.concat_tables(tables).group_by(list(_TASK)).aggregate(_SUMS)
    return found.rename_columns(_SCHEMA.names)


def _kept(path: Path, folder: Path) -> tuple[pq.ParquetFile | None, dict[str, Mark], int]:
    """An earlier fold, open, with its marks and its damaged lines; nothing where journals are not as they were."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        head = json.loads(file.schema_arrow.metadata[DIGEST_KEY])
        marks = {name: Mark(*mark) for name, mark in head["marks"].items()}
        if all(_has_grown(folder / name, mark) for name, mark in marks.items()):
            return file, marks, int(head["num_damaged"])
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException):
        pass
    return None, {}, 0


def _rows(file: pq.ParquetFile, stage: str) -> pa.Table:
    """Rows of an earlier fold: of one stage, or all where it is empty."""
    groups = [file.metadata.row_group(number).column(0).statistics for number in range(file.num_row_groups)]
    chosen = [number for number, one in enumerate(groups) if not stage or one.min <= stage <= one.max]
    table = file.read_row_groups(chosen).cast(_SCHEMA)
    return table.filter(pc.equal(table["stage"], stage)) if stage else table


def _has_grown(path: Path, mark: Mark) -> bool:
    """Whether a journal is as it was, with more after it or not."""
    stat = path.stat()
    return stat.st_size > mark.size or (stat.st_size, stat.st_mtime_ns) == (mark.size, mark.modified)
