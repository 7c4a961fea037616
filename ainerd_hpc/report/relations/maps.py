"""The maps of an archive as scans, as moments, and as sequences of labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ainerd_hpc.kernels.relations.transitions import UNKNOWN

ALPHA = 0.05
"""p-value up to which something is said to go with something."""


@dataclass(frozen=True)
class Sequences:
    """The labels of each q-bin in the order of time, by the shortest windows of each scan."""

    time: NDArray[np.float64]
    """(n,) s."""
    q_bin: NDArray[np.int64]
    labels: NDArray[np.int64]
    """(n, q-bins)."""
    log_decay: NDArray[np.float64]
    """(n, q-bins) ln of half the decay in s; NaN where it is not known."""


@dataclass(frozen=True)
class Maps:
    """The maps of an archive.

    Parameters
    ----------
    table : DataFrame
        A row a map, as for `relate`.
    """

    table: pd.DataFrame

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The label of each map."""
        return self.table["label"].to_numpy(np.int64)

    @cached_property
    def clusters(self) -> list[int]:
        """Labels without noise."""
        return sorted(set(self.labels.tolist()) - {-1})

    @cached_property
    def scan(self) -> NDArray[np.int64]:
        """Number of the scan of each map."""
        return pd.factorize(self.table["scan_id"])[0].astype(np.int64)

    @cached_property
    def moment(self) -> NDArray[np.int64]:
        """Number of the window of each map, in the order of time; -1 where its time is not known."""
        known = np.isfinite(self.table["time"].to_numpy(np.float64))
        found = np.full(len(self.table), -1)
        found[known] = (
            pd.DataFrame({"time": self.table["time"], "scan": self.scan})[known].groupby(["time", "scan"]).ngroup()
        )
        return found

    @cached_property
    def typical(self) -> NDArray[np.int64]:
        """Rows of the table of which each window, and each scan, has one at least, in order."""
        firsts = (np.unique(unit, return_index=True)[1] for unit in (self.scan, self.moment))
        return np.unique(np.concatenate(list(firsts)))

    @cached_property
    def sequences(self) -> Sequences:
        """What follows what: a row a moment, a column a q-bin."""
        length = self.table["age_stop"] - self.table["age_start"]
        is_shortest = (length == length.groupby(self.scan).transform("min")).to_numpy()
        rows = is_shortest & (self.moment >= 0)
        table, (moments, first) = self.table[rows], np.unique(self.moment[rows], return_index=True)
        column, q_bin = pd.factorize(table["q_bin"], sort=True)
        place = np.searchsorted(moments, self.moment[rows]), column
        labels, log_decay = np.full((len(moments), len(q_bin)), UNKNOWN), np.full((len(moments), len(q_bin)), np.nan)
        labels[place] = table["label"]
        if "half_decay" in table:
            with np.errstate(divide="ignore", invalid="ignore"):
                log_decay[place] = np.log(table["half_decay"].to_numpy(np.float64))
        return Sequences(table["time"].to_numpy(np.float64)[first], np.asarray(q_bin), labels, log_decay)
