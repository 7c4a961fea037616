"""Many scans as one table, from which each is made when it is asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any, overload

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ainerd_hpc.types import Content, Scan

_NAMES = [field.name for field in fields(Scan)]
_KINDS = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "Content": pa.string()}
SCHEMA = pa.schema([(field.name, _KINDS[str(field.type)]) for field in fields(Scan)])
"""A column for each field of a scan."""
_AT_ONCE = 2**14


class Scans(Sequence[Scan]):
    """Some rows of a table of scans: a million take 0.3 GB, as objects of their own they would take 1.5.

    Parameters
    ----------
    table : pyarrow.Table
        With the columns of `SCHEMA`.
    rows : (n,) int64, optional
        Those that are meant, ascending. Default: all.
    """

    def __init__(self, table: pa.Table, rows: NDArray[np.int64] | None = None) -> None:
        self.table = table
        self.rows = np.arange(table.num_rows) if rows is None else rows

    @classmethod
    def of(cls, scans: Iterable[Scan]) -> Scans:
        """These scans, as they are if they come from a table already."""
        if isinstance(scans, Scans):
            return scans
        scans = list(scans)
        columns = [[getattr(scan, name) for scan in scans] for name in _NAMES]
        columns[_NAMES.index("content")] = [scan.content.value for scan in scans]
        arrays = [pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)]
        return cls(pa.table(arrays, SCHEMA))

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Scan: ...
    @overload
    def __getitem__(self, place: slice) -> Scans: ...
    def __getitem__(self, place: int | slice) -> Scan | Scans:
        if isinstance(place, slice):
            return Scans(self.table, self.rows[place])
        return next(iter(Scans(self.table, self.rows[[place]])))

    def __iter__(self) -> Iterator[Scan]:
        for start in range(0, len(self.rows), _AT_ONCE):
            part = self.table.take(pa.array(self.rows[start : start + _AT_ONCE]))
            columns = [column.to_pylist() for column in part.select(_NAMES).columns]
            columns[_NAMES.index("content")] = list(map(Content, columns[_NAMES.index("content")]))
            yield from map(Scan, *columns)

    def column(self, name: str) -> NDArray[Any]:
        """A field of all of them, (n,); that of the content by its value."""
        whole = self.table[name]
        is_part = len(self.rows) < self.table.num_rows
        found: NDArray[Any] = (whole.take(pa.array(self.rows)) if is_part else whole).to_numpy()
        return found

    def among(self, scan_ids: Collection[str]) -> NDArray[np.bool_]:
        """Whether each has one of these ids, (n,)."""
        found: NDArray[np.bool_] = pc.is_in(self.table["scan_id"], pa.array(list(scan_ids), pa.string())).to_numpy()
        return found[self.rows]

    def frame(self) -> pd.DataFrame:
        """A data frame of all fields."""
        part = self.table if len(self.rows) == self.table.num_rows else self.table.take(pa.array(self.rows))
        found: pd.DataFrame = part.to_pandas()
        return found

    def alone(self) -> Scans:
        """The same scans as a table without others."""
        return Scans(self.table.take(pa.array(self.rows)))

    def where(self, mask: NDArray[np.bool_]) -> Scans:
        """Those for which a mask, (n,), holds."""
        return self if mask.all() else Scans(self.table, self.rows[mask])
