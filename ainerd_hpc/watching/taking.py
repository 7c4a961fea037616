"""The way of a few scans through the stages that make a product of each, on workers that stay from scan to scan."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ainerd_hpc.archive.journal import Journal, record
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.config import RunConfig
from ainerd_hpc.errors import PlanError
from ainerd_hpc.executors import Workers
from ainerd_hpc.planning import check, line_of
from ainerd_hpc.sources.discovery import Discovery
from ainerd_hpc.stages.contract import Stage
from ainerd_hpc.stages.line import Line
from ainerd_hpc.types import Problem, Scan, Task, TaskResult
from ainerd_hpc.watching.warming import warm

STAGES = ("ingest", "correlate", "maps")


@dataclass
class Taken:
    """A scan that went through the stages, or did not."""

    scan: Scan
    seconds: dict[str, float] = field(default_factory=dict)
    """What each stage took."""
    reason: str = ""
    """Why it did not get through, in one line."""
    is_final: bool = True
    """Whether it is its own fault: it is not tried again."""


class Taking:
    """Takes scans up to their maps; everything that a later run would do is done as that would.

    Parameters
    ----------
    config : RunConfig
    workers : Workers
    run_id : str
        Of the run that the journal tells.
    """

    def __init__(self, config: RunConfig, workers: Workers, run_id: str) -> None:
        self._config, self._workers, self._run_id = config, workers, run_id
        self._archive, self._journal = Archive(config.archive), Journal(config.archive)
        warm(workers, config.executor.num_workers)

    def left(self, found: Discovery, scans: Sequence[Scan]) -> set[str]:
        """Those whose maps are missing, or of what they were before."""
        planned = line_of(self._config, self._journal, found).plan(STAGES[-1], scans)
        return {task.scan_id for task in planned.tasks} | {problem.scan_id for problem in planned.quarantined}

    def take(self, found: Discovery, scans: Sequence[Scan]) -> Iterator[Taken]:
        """Take scans through all stages; each as soon as it is through, or is not."""
        line, left = line_of(self._config, self._journal, found), [Taken(scan) for scan in scans]
        for name in STAGES:
            through = self._stage(line, name, left)
            left = []
            for one in through:
                if one.reason or name == STAGES[-1]:
                    yield one
                else:
                    left.append(one)

    def _stage(self, line: Line, name: str, scans: Sequence[Taken]) -> Iterator[Taken]:
        """Those that are through a stage, or are not, as they come."""
        stage, open_tasks, tasks = line.stage(name), dict[str, int](), list[Task]()
        stage.run_id, by_id = self._run_id, {one.scan.scan_id: one for one in scans}
        for one in scans:
            planned = self._planned(line, name, one)
            open_tasks[one.scan.scan_id] = len(planned)
            tasks += planned
            if not planned:
                yield one
        if tasks:
            stage.prepare(tasks)
        for result in self._workers.map(stage.run_task, tasks):
            one = by_id[result.scan_id]
            one.seconds[name] = one.seconds.get(name, 0.0) + result.seconds
            open_tasks[result.scan_id] -= 1
            if result.reason and not one.reason:
                self._note(stage, one, result)
            if not open_tasks[result.scan_id]:
                if name == "correlate" and not one.reason:
                    stage.finish([one.scan], line.before(name))  # of a scan in parts
                yield one

    def _planned(self, line: Line, name: str, one: Taken) -> tuple[Task, ...]:
        """What is left to do of a scan in a stage; nothing where it was set aside, or does not fit, which is noted."""
        began, planned = time.perf_counter(), line.plan(name, [one.scan])
        one.seconds["plan"] = one.seconds.get("plan", 0.0) + time.perf_counter() - began
        if planned.quarantined:
            one.reason = planned.quarantined[0].reason
            return ()
        try:
            check([planned], self._config)
        except PlanError as error:
            one.reason, one.is_final = str(error), False
            return ()
        return planned.tasks

    def _note(self, stage: Stage, one: Taken, result: TaskResult) -> None:
        """Why a scan is not through: a later run sets it aside; what is no fault of its own is tried again."""
        one.reason, one.is_final = result.reason, not (result.is_fatal or result.damaged)
        if result.worker_died:
            record(self._archive.root, "lost", stage.name, result.key, result.digest, reason=result.reason)
        if result.damaged and Path(result.damaged).absolute().is_relative_to(self._archive.root.absolute()):
            Path(result.damaged).unlink(missing_ok=True)
        if one.is_final:
            self._journal.note_failures(stage.name, [Problem(result.scan_id, stage.name, result.reason, result.digest)])
