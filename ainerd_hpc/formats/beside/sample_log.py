"""The sample log: a table of what was done to the sample, against time.

Read as people write it (`formats.beside.delimited`); whatever of it is not taken is told, cell by cell. A column may be
filled now and then only, as in a log merged from several devices: each is interpolated between its own values.
"""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from ainerd_hpc.errors import ConfigError
from ainerd_hpc.formats.beside.delimited import Table, decode, header_of, numbers, parse
from ainerd_hpc.formats.source_file import SourceFile

if TYPE_CHECKING:
    import pandas as pd

TIME = "time"
SUFFIXES = (".csv", ".tsv", ".txt")
_HEAD = 2**16
"""Bytes in which the header has to come."""
_EXCEL_EPOCH = -25569 * 86400.0
"""Day 0 of a spreadsheet, 1899-12-30, in s of the UTC epoch."""
UNITS: Mapping[str, tuple[float, float]] = {
    "s": (1.0, 0.0),
    "ms": (1e-3, 0.0),
    "us": (1e-6, 0.0),
    "ns": (1e-9, 0.0),
    "spreadsheet days": (86400.0, _EXCEL_EPOCH),
}
"""What numbers in the column `time` may mean: their factor and offset to s."""


class SampleLog(NamedTuple):
    """A sample log that was read."""

    table: pd.DataFrame
    """Ordered by time: `time` in s (UTC epoch for dates, else the numbers as they stand), then every column of numbers
    as float64, NaN where it says nothing."""
    notes: tuple[str, ...] = ()
    """A line for everything in the file that was not taken."""


def matches(source: SourceFile) -> bool:
    """Whether the file is a table whose header has a `time` column, in any case, beside another one."""
    if source.path.suffix.lower() not in SUFFIXES:
        return False
    try:
        header = header_of(decode(source.buffered().read(_HEAD)))
    except (OSError, csv.Error):
        return False
    return TIME in map(_plain, header) and (len(header) > 1 or source.path.suffix.lower() == ".csv")


def read(path: Path) -> SampleLog:
    """The log in a file.

    Raises
    ------
    ConfigError
        The file cannot be read, two columns have one name, or there is no `time` column of numbers or dates.
    """
    try:
        text = decode(path.read_bytes())
        header = [_plain(name) for name in header_of(text)]
        named = [name for name in header if name]
        if header and (header.count(TIME) != 1 or len(set(named)) < len(named)):
            raise ValueError(f"found the columns {', '.join(header)}")
        log, notes = _of_numbers(text, header) or _of_texts(parse(text))
    except (OSError, ValueError, csv.Error) as error:
        reason = " ".join(str(error).split()).split(". ")[0]  # pandas goes on with advice to programmers
        problem = f"expected a table with distinct columns, one of them `time` (s or ISO dates): {reason}"
        raise ConfigError(f"{path}: {problem}; correct it, or name another one in source.sample_log") from None
    log = log.dropna(subset=[TIME]).sort_values(TIME, kind="stable").reset_index(drop=True)
    return SampleLog(log, tuple(f"sample log {path.name}: {note}" for note in notes))


def _of_numbers(text: str, header: Sequence[str]) -> tuple[pd.DataFrame, list[str]] | None:
    """The table of a CSV that holds nothing but numbers, 5 times as fast; None where it holds anything else."""
    import pandas as pd

    try:
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):  # rows that are too long
            raw = pd.read_csv(io.StringIO(text), index_col=False).rename(columns=_plain)
    except (ValueError, pd.errors.ParserWarning):
        return None
    is_number = [pd.api.types.is_numeric_dtype(one) and not pd.api.types.is_bool_dtype(one) for one in raw.dtypes]
    if TIME not in raw or not all(is_number) or raw[TIME].isna().any():
        return None
    return raw[[name for name in raw if name in header]].astype(np.float64), []


def _of_texts(table: Table) -> tuple[pd.DataFrame, list[str]]:
    """The table of texts as numbers, and a note for everything that is none."""
    import pandas as pd

    columns = {_plain(name): [row[place] for row in table.rows] for place, name in enumerate(table.header)}
    time, notes = _times(columns.pop(TIME), table.separator)
    if table.surplus:
        more = f" (and {len(table.surplus) - 1} more)" if len(table.surplus) > 1 else ""
        notes.append(f"line {table.surplus[0]}{more} has more cells than the header, which are not taken")
    taken = {TIME: time}
    for name, cells in columns.items():
        values, note = _values(name, cells, table)
        taken |= {} if values is None else {name: values}
        notes += [note] if note else []
    return pd.DataFrame(taken), notes


def _values(name: str, cells: Sequence[str], table: Table) -> tuple[np.ndarray | None, str]:
    """A column as float64, None where it holds texts, and a note about what of it was not taken."""
    found = numbers(cells, table.separator)
    if not name or (found.wrong and not any(found.texts)):
        return None, f"column {name!r} holds no number and is not taken" if found.wrong else ""
    note = ""
    if found.wrong:
        first, more = found.wrong[0], f" (and {len(found.wrong) - 1} more)" if len(found.wrong) > 1 else ""
        where = f"column {name!r}, line {table.lines[first]}"
        note = f"{where}: expected a number, found {cells[first]!r}{more}; taken as not known"
    return _parsed(found.texts), note


def _parsed(texts: Sequence[str]) -> np.ndarray:
    """Numbers by pandas, which rounds its own way: archives hold what it made of them."""
    import pandas as pd

    text = "\n".join(["value", *(one or "NaN" for one in texts)])
    return pd.read_csv(io.StringIO(text))["value"].to_numpy(np.float64)


def _times(cells: Sequence[str], separator: str) -> tuple[np.ndarray, list[str]]:
    """Times in s, NaN where a row has none, and a note where rows are left out for that.

    Raises
    ------
    ValueError
        One is neither a number nor a date.
    """
    import pandas as pd

    found = numbers(cells, separator)
    if found.wrong:
        times = seconds(pd.Series([cell or None for cell in cells], dtype=object)).to_numpy(np.float64)
    else:
        times = _parsed(found.texts)
    missing = int(np.isnan(times).sum())
    return times, [f"{missing} rows without a time are left out"] if missing else []


def empty() -> pd.DataFrame:
    """The table of scans without a log."""
    import pandas as pd

    return pd.DataFrame({TIME: np.empty(0)})


def of_scans(samples: Iterable[tuple[float, Mapping[str, float]]]) -> pd.DataFrame:
    """The log that the metadata of scans make: a row at the start (s) of each that says something of its sample."""
    import pandas as pd

    rows = [{TIME: start, **sample} for start, sample in samples if sample and np.isfinite(start)]
    if not rows:
        return empty()
    return pd.DataFrame(rows).astype(np.float64).sort_values(TIME, kind="stable").reset_index(drop=True)


def _plain(column: str) -> str:
    name = str(column).strip()
    return TIME if name.lower() == TIME else name


def seconds(times: pd.Series) -> pd.Series:
    """Times in s: numbers as they stand, ISO dates as UTC epoch (dates without a zone are taken as UTC).

    Raises
    ------
    ValueError
        One is neither.
    """
    import pandas as pd

    if pd.api.types.is_numeric_dtype(times):
        return times.astype(np.float64)
    stamps = pd.to_datetime(times, utc=True, format="ISO8601")
    return (stamps - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)


def at_scans(log: SampleLog, middles: np.ndarray, unit: Literal["auto"] | str = "auto") -> SampleLog:
    """The log in the unit of time in which it meets the scans, and a note where it does not meet them all.

    Parameters
    ----------
    middles : ndarray, (n,)
        Middle of each scan, s; NaN where it is not known.
    unit : str
        Of numbers in the column `time`, one of `UNITS`; auto: the first of them in which the log covers a scan.
    """
    known = middles[np.isfinite(middles)]
    units = list(UNITS) if unit == "auto" else [unit]
    chosen = next(
        (one for one in units if _may_be(log.table, one) and _covered(_in_seconds(log.table, one), known)), "s"
    )
    chosen = chosen if unit == "auto" else unit
    table = _in_seconds(log.table, chosen)
    notes = [f"its times are taken as {chosen}"] if unit == "auto" and chosen != "s" else []
    covered = _covered(table, known)
    if len(table) and len(known) and covered < len(known):
        span = f"{table[TIME].iloc[0]:.10g} to {table[TIME].iloc[-1]:.10g} s"
        scans = f"{known.min():.10g} to {known.max():.10g} s"
        notes.append(f"covers {covered} of {len(known)} scans: it goes from {span}, they from {scans}")
    return SampleLog(table, (*log.notes, *(f"sample log: {note}" for note in notes)))


def _in_seconds(table: pd.DataFrame, unit: str) -> pd.DataFrame:
    factor, offset = UNITS[unit]
    return table if unit == "s" else table.assign(**{TIME: table[TIME] * factor + offset})


def _may_be(table: pd.DataFrame, unit: str) -> bool:
    """Whether times make sense in a unit: days of a spreadsheet are those of 1954 to 2119."""
    return unit != "spreadsheet days" or bool(table[TIME].between(20_000, 80_000).all())


def _covered(table: pd.DataFrame, middles: np.ndarray) -> int:
    """Scans whose middle lies within the log."""
    if not len(table):
        return 0
    return int(((middles >= table[TIME].iloc[0]) & (middles <= table[TIME].iloc[-1])).sum())


def at_times(log: pd.DataFrame, times: np.ndarray) -> pd.DataFrame:
    """The log's columns at `times` (n,), s, each interpolated linearly between its own values; NaN outside of them."""
    import pandas as pd

    columns = [name for name in log.columns if name != TIME]
    known = {name: _interpolated(log[[TIME, name]].dropna(), name, times) for name in columns}
    return pd.DataFrame(known, columns=columns)


def _interpolated(column: pd.DataFrame, name: str, times: np.ndarray) -> np.ndarray:
    if not len(column):
        return np.full(len(times), np.nan)
    values: np.ndarray = np.interp(times, column[TIME], column[name], left=np.nan, right=np.nan)
    return values
