"""The sample log: a CSV of what was done to the sample, against time."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ainerd_hpc.errors import ConfigError
from ainerd_hpc.formats.source_file import SourceFile

if TYPE_CHECKING:
    import pandas as pd

TIME = "time"


def matches(source: SourceFile) -> bool:
    """Whether the file is a CSV whose header has a `time` column, in any case."""
    if source.path.suffix.lower() != ".csv":
        return False
    try:
        with io.TextIOWrapper(source.buffered(), encoding="utf-8-sig", errors="replace", newline="") as file:
            return TIME in map(_plain, next(csv.reader(file), []))
    except (OSError, csv.Error):
        return False


def read(path: Path) -> pd.DataFrame:
    """The log, ordered by time.

    Returns
    -------
    DataFrame
        `time` in s (UTC epoch for ISO dates, else the numbers as they stand), then every numeric column as float64.

    Raises
    ------
    ConfigError
        The file cannot be read, two columns have one name, or there is no `time` column of numbers or ISO dates.
    """
    import pandas as pd

    try:
        raw = pd.read_csv(path, encoding="utf-8-sig", index_col=False).rename(columns=_plain)
        if list(raw.columns).count(TIME) != 1 or not raw.columns.is_unique:
            raise ValueError(f"found the columns {', '.join(raw.columns)}")
        raw[TIME] = seconds(raw[TIME])
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split()).split(". ")[0]  # pandas goes on with advice to programmers
        problem = f"expected a CSV in UTF-8 with distinct columns, one of them `time` (s or ISO dates): {reason}"
        raise ConfigError(f"{path}: {problem}; correct it, or name another one in source.sample_log") from None
    log = raw.select_dtypes("number").astype(np.float64)
    return log.dropna(subset=[TIME]).sort_values(TIME, kind="stable").reset_index(drop=True)


def empty() -> pd.DataFrame:
    """The log of scans without one."""
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


def at_times(log: pd.DataFrame, times: np.ndarray) -> pd.DataFrame:
    """The log's columns interpolated linearly at `times` (n,), s; NaN outside the log."""
    import pandas as pd

    columns = [name for name in log.columns if name != TIME]
    known = {
        name: np.interp(times, log[TIME], log[name], left=np.nan, right=np.nan)
        if len(log)
        else np.full(len(times), np.nan)
        for name in columns
    }
    return pd.DataFrame(known, columns=columns)
