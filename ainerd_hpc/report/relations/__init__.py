"""What goes with what: clusters against the sample log and the metadata of scans, as tables with a sentence a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from ainerd_hpc.report.relations import columns, events, transitions
from ainerd_hpc.report.relations.maps import ALPHA, Maps
from ainerd_hpc.types import Scan


class Tables(NamedTuple):
    """What goes with what; each table has a sentence for each row in `words`."""

    relations: pd.DataFrame
    """A row a column and cluster (none: all clusters together), the surest first."""
    events: pd.DataFrame
    """A row a sudden step of a column of the log."""
    transitions: pd.DataFrame
    """A row a q-bin."""

    @property
    def findings(self) -> pd.DataFrame:
        """What was found: column, cluster, effect, p_value, words; the surest first."""
        steps = self.events.assign(cluster=None, effect=self.events["speed"])
        steps["p_value"] = steps[["p_lag_corrected", "p_speed_corrected"]].min(axis=1)
        names = ["column", "cluster", "effect", "p_value", "words"]
        found = pd.concat([self.relations[names], steps[names]], ignore_index=True)
        return found[found["p_value"] <= ALPHA].sort_values("p_value", kind="stable", ignore_index=True)


def relate(table: pd.DataFrame, scans: Sequence[Scan], log: pd.DataFrame, sample_columns: Sequence[str]) -> Tables:
    """Everything that goes with the clusters of these maps.

    Parameters
    ----------
    table : DataFrame
        A row a map: scan_id, time (s), label (-1: noise, which is a label of its own), q_bin, age_start, age_stop,
        half_decay where it is known, and the columns of the sample log at that time.
    scans : sequence of Scan
        Those of the maps, at least.
    log : DataFrame
        The sample log: time (s), and its columns under their own names.
    sample_columns : sequence of str
        Names of the log's columns in the table.
    """
    maps = Maps(table)
    of_columns = columns.relations(maps, scans, sample_columns)
    aligned = events.events(maps.sequences, log)
    return Tables(
        pd.concat([of_columns, aligned.columns], ignore_index=True),
        aligned.steps,
        transitions.transitions(maps.sequences),
    )
