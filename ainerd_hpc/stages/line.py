"""The stages of one config, and what each of them knows of those before it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.archive.journal import Journal
from ainerd_hpc.archive.scans import Scans
from ainerd_hpc.config import RunConfig
from ainerd_hpc.digests import digest
from ainerd_hpc.scaling.cost_model import predict
from ainerd_hpc.stages.contract import Before, Stage
from ainerd_hpc.stages.registry import create
from ainerd_hpc.types import Plan, Scan, Task

if TYPE_CHECKING:
    import pandas as pd


class Line:
    """The stages of one config over scans that were found; every digest is computed once.

    Parameters
    ----------
    config : RunConfig
    journal : Journal
    sample_log : DataFrame
        That goes with the scans.
    scans : sequence of Scan
    """

    def __init__(
        self, config: RunConfig, journal: Journal, sample_log: pd.DataFrame, scans: Sequence[Scan] = ()
    ) -> None:
        self.config, self.journal, self._sample_log = config, journal, sample_log
        self._scans = Scans.of(scans)
        self._stages: dict[str, Stage] = {}
        self._of_each: dict[str, NDArray[Any]] = {}
        self._of_all: dict[tuple[str, str], str] = {}

    def stage(self, name: str) -> Stage:
        """The stage of this name, made once."""
        if name not in self._stages:
            self._stages[name] = create(name, self.config)
        return self._stages[name]

    def before(self, name: str) -> Before:
        """What a stage may know: of itself and of the stages that it requires."""
        return _Before(self, name, self.stage(name).requires)

    def plan(self, name: str, scans: Sequence[Scan]) -> Plan:
        """What a stage has left to do for these scans, with the predicted seconds."""
        return predict(self.stage(name).plan(scans, self.before(name)))

    def tasks(self, name: str, scans: Sequence[Scan]) -> list[Task]:
        """Every task of a stage for these scans, done or not."""
        return list(self.stage(name).tasks(scans, self.before(name)))

    def of_scan(self, name: str, scan: Scan) -> str:
        """Digest of what a stage makes of one scan."""
        row = self._rows.get(scan.scan_id)
        if row is None:  # nobody found it
            return self.stage(name).scan_digest(scan, self.before(name))
        known = self._digests(name)
        if not known[row]:
            known[row] = self.stage(name).scan_digest(scan, self.before(name))
        return str(known[row])

    def of_each(self, name: str, scans: Sequence[Scan]) -> NDArray[Any]:
        """Digests of what a stage makes of each of these scans, (n,) texts."""
        if not isinstance(scans, Scans) or scans.table is not self._scans.table:
            return np.array([self.of_scan(name, scan) for scan in scans], object)
        known = self._digests(name)
        for scan in scans.where(known[scans.rows] == ""):
            self.of_scan(name, scan)
        return known[scans.rows]

    def _digests(self, name: str) -> NDArray[Any]:
        """The digests of a stage that are computed already, by the row of the scan; empty where they are not."""
        if name not in self._of_each:
            self._of_each[name] = np.full(self._scans.table.num_rows, "", object)
        return self._of_each[name]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {scan_id: row for row, scan_id in enumerate(self._scans.table["scan_id"].to_pylist())}

    def of_all(self, name: str, scans: Sequence[Scan]) -> str:
        """Digest of what a stage makes of all of these scans."""
        key = name, digest(Scans.of(scans).column("scan_id").tolist())
        if key not in self._of_all:
            self._of_all[key] = self.stage(name).digest(scans, self.before(name))
        return self._of_all[key]

    @cached_property
    def sample_log_digest(self) -> str:
        """Digest of this sample log, as the bytes of a table."""
        from ainerd_hpc.archive.tables import table_bytes

        return hashlib.sha256(table_bytes(self._sample_log)).hexdigest()


@dataclass(frozen=True, slots=True)
class _Before:
    """The line as one stage sees it."""

    line: Line
    name: str
    requires: tuple[str, ...]

    @property
    def journal(self) -> Journal:
        return self.line.journal

    @property
    def sample_log_digest(self) -> str:
        return self.line.sample_log_digest

    def of_scan(self, stage: str, scan: Scan) -> str:
        return self.line.of_scan(self._known(stage), scan)

    def of_each(self, stage: str, scans: Sequence[Scan]) -> NDArray[Any]:
        return self.line.of_each(self._known(stage), scans)

    def of_all(self, stage: str, scans: Sequence[Scan]) -> str:
        return self.line.of_all(self._known(stage), scans)

    def _known(self, stage: str) -> str:
        if stage not in (self.name, *self.requires):
            raise LookupError(f"stage {self.name}: asks for {stage}, which is not among those it requires")
        return stage
