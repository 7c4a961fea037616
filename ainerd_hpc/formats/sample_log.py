"""The sample log: a CSV of what was done to the sample, against time."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from ainerd_hpc.errors import ConfigError

TIME = "time"


def matches(path: Path) -> bool:
    """Whether the file is a CSV whose header has a `time` column."""
    if path.suffix.lower() != ".csv":
        return False
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return TIME in next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
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
        The file cannot be read, or its `time` column is neither numbers nor ISO dates.
    """
    try:
        raw = pd.read_csv(path)
        raw[TIME] = seconds(raw[TIME])
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: expected a CSV with a column `time` (s or ISO dates): {reason}") from None
    log = raw.select_dtypes("number").astype(np.float64)
    return log.dropna(subset=[TIME]).sort_values(TIME, kind="stable").reset_index(drop=True)


def seconds(times: pd.Series) -> pd.Series:
    """Times in s: numbers as they stand, ISO dates as UTC epoch (dates without a zone are taken as UTC)."""
    if pd.api.types.is_numeric_dtype(times):
        return times.astype(np.float64)
    stamps = pd.to_datetime(times, utc=True, format="ISO8601")
    return (stamps - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)


def at_times(log: pd.DataFrame, times: np.ndarray) -> pd.DataFrame:
    """The log's columns interpolated linearly at `times` (n,), s; NaN outside the log."""
    columns = [name for name in log.columns if name != TIME]
    known = {
        name: np.interp(times, log[TIME], log[name], left=np.nan, right=np.nan)
        if len(log)
        else np.full(len(times), np.nan)
        for name in columns
    }
    return pd.DataFrame(known, columns=columns)
