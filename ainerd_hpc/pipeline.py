"""The line as a whole: run, share, go on, mend."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ainerd_hpc import __version__
from ainerd_hpc.archive.journal import DAMAGED_LINES, Journal, record
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.lock import Lock
from ainerd_hpc.archive.run_record import RunRecord
from ainerd_hpc.archive.scans import Scans
from ainerd_hpc.config import RunConfig
from ainerd_hpc.console import Pace, Step, console, print_summary, progress
from ainerd_hpc.errors import AinerdError, ConfigError, PlanError, ProductError, QuarantinedError
from ainerd_hpc.executors import Workers
from ainerd_hpc.planning import (
    INGEST,
    SIMULATE,
    check,
    check_before,
    find_scans,
    line_of,
    nothing_found,
    plan_line,
    share_of,
    stage_names,
    survey,
    without,
)
from ainerd_hpc.sources.discovery import Discovery
from ainerd_hpc.sources.shared_products import leave_behind, publish_catalog, publish_shared
from ainerd_hpc.stages.contract import Stage
from ainerd_hpc.stages.line import Line
from ainerd_hpc.stages.registry import STAGES, create
from ainerd_hpc.types import Plan, Problem, Shape, StageReport, Task, TaskResult


class _TakenAway(Exception):
    """Products that were damaged are gone: the line has to be gone through again."""


class _Work(NamedTuple):
    """What stages run with, from the moment when the archive is locked."""

    lock: Lock
    journal: Journal
    workers: Workers


@dataclass
class Run:
    """One execution of the line (or a part of it) over an archive."""

    config: RunConfig
    first: str | None = None
    until: str | None = None
    retry_failed: bool = False
    debug: bool = False
    """Print the traceback of a task that failed for a reason that nobody foresaw."""
    prune: bool = False
    """Remove the products of scans that are not in the source any more."""

    def __post_init__(self) -> None:
        self.archive = Archive(self.config.archive)
        self._taken_away = set[Path]()
        self.reports: list[StageReport] = []
        self.record = RunRecord(self.config, self.reports)

    def execute(self) -> list[StageReport]:
        """Plan, check, run; what is done already is kept.

        Raises
        ------
        QuarantinedError
            Everything else is finished, but some scans are in quarantine.
        AinerdError
            The run cannot begin or go on.
        """
        names = stage_names(self.config, self.first, self.until)
        self._announce(names)
        journal = self._journal(names)
        if journal.num_damaged:
            console.print(DAMAGED_LINES.format(journal.num_damaged), style="yellow")
        found = survey(self.config)
        line = line_of(self.config, journal, found)
        self._check(names, line, found)
        with self._at_work(journal) as work:
            if self.retry_failed:
                journal.forgive(names)
            self.archive.sweep()
            problems = self._stages(names, work, None if SIMULATE in names else (found, line))
            work.lock.check()
            self.record.write("quarantined" if problems else "done")
        self._conclude(names, problems, journal)
        return self.reports

    def execute_share(self, number: int, num_shares: int) -> None:
        """Do one share of the tasks of a stage (`first`), while other processes do theirs.

        `execute` of that stage afterwards does what is left, puts what failed into quarantine and finishes the stage.

        Parameters
        ----------
        number : int
            Of this share, from 1.
        num_shares : int

        Raises
        ------
        QuarantinedError
            Some tasks failed.
        AinerdError
            The work cannot begin or go on.
        """
        (name,) = names = stage_names(self.config, self.first, self.first)
        if create(name, self.config).shape is not Shape.ARRAY:
            raise ConfigError(f"{name}: has one task, which cannot be shared; run `ainerd-hpc {name}`")
        self._announce([f"{name}, share {number} of {num_shares}"])
        stage = create(name, self.config)
        found, places = share_of(self.config, stage, number, num_shares)
        journal = Journal(self.config.archive, places)
        with self._at_work(journal, shared=True) as work:
            began = time.perf_counter()
            line = line_of(self.config, journal, found)
            *before, planned = self._check(names, line, found)
            scans = without(found.scans, [*found.problems, *(p for plan in before for p in plan.quarantined)])
            mine = _share(line.tasks(name, scans), number, num_shares, places)
            tasks = tuple(task for task in planned.tasks if task.key in mine)
            planned = replace(planned, tasks=tasks, num_done=len(mine) - len(tasks))
            results = list(self._results(stage, planned, work))
            failed = _failed(stage, results)
            work.lock.check()
            journal.note_failures(name, failed)
            self.reports.append(_report(stage, planned, results, len(failed), time.perf_counter() - began))
            self.record.write("quarantined" if failed else "done")
        print_summary(self.reports, failed)
        if failed:
            raise QuarantinedError(f"{name}: {len(failed)} scans failed; the run that finishes it sets them aside")

    @contextlib.contextmanager
    def _at_work(self, journal: Journal, shared: bool = False) -> Iterator[_Work]:
        """Hold the lock, give the workers, and leave a record however the work ends.

        What is half written is removed once more when the workers have gone: some may have been ended in the middle.
        """
        with self.archive.locked(shared) as lock, self.record.kept():
            with Workers(self.config.executor, self.record.folder) as workers:
                yield _Work(lock, journal, workers)
            if not shared:
                lock.check()
                self.archive.sweep()
                journal.compact()

    def _journal(self, names: Sequence[str]) -> Journal:
        """The journal as it is now, without what these stages set aside if that is to be tried again."""
        journal = Journal(self.config.archive)
        if self.retry_failed:
            journal.forget(names)
        return journal

    def _announce(self, names: Sequence[str]) -> None:
        console.print(f"ainerd-hpc {__version__}: {' -> '.join(names)}", style="bold")
        console.print(f"source {self.config.source.folder}, archive {self.config.archive}", markup=False)

    def _check(self, names: Sequence[str], line: Line, found: Discovery) -> list[Plan]:
        """Refuse what cannot fit, and a stage that is run alone before those that it needs; give the plans so far."""
        plans = plan_line(line, found, stage_names(self.config, until=names[-1]))
        check_before(names[0], [planned for planned in plans if planned.stage not in names])
        check([planned for planned in plans if planned.stage in names], self.config)
        return plans

    def _stages(self, names: Sequence[str], work: _Work, known: tuple[Discovery, Line] | None) -> list[Problem]:
        """Run the stages, and give the problems of the whole line up to the last of them.

        Where products turn out damaged they are taken away, and the line is gone through again from its first stage,
        whichever part was asked for: what is missing then is made anew. A product is taken away once in a run.
        """
        while True:
            try:
                return self._pass(names, work, known)
            except _TakenAway:
                pass
            except ProductError as error:
                work.lock.check()
                if not self._take_away(error.path, str(error)):
                    raise
            names = stage_names(self.config, until=names[-1])
            work, known = work._replace(journal=self._journal(names)), None
            self.reports[:] = [report for report in self.reports if report.num_done]

    def _take_away(self, path: Path, reason: str) -> bool:
        """Remove a damaged product of this archive; False where that was done before in this run."""
        if path in self._taken_away or not path.absolute().is_relative_to(self.archive.root.absolute()):
            return False
        self._taken_away.add(path)
        path.unlink(missing_ok=True)
        console.print(f"{reason.rpartition(';')[0]}; it is made anew", style="yellow", markup=False)
        return True

    def _pass(self, names: Sequence[str], work: _Work, known: tuple[Discovery, Line] | None) -> list[Problem]:
        """Run the stages in order, once; `known`: the scans and the line, where they have just been looked at."""
        if SIMULATE in names:
            self._stage(SIMULATE, line_of(self.config, work.journal, nothing_found()), Scans.of([]), work)
        if names[-1] == SIMULATE:
            return []
        if known is None:
            found = find_scans(self.config)
            known = found, line_of(self.config, work.journal, found)
        found, line = known
        self._tell(found)
        publish_shared(self.config, found)
        leave_behind(self.archive, found, self.prune)
        scans, problems = without(found.scans, found.problems), list(found.problems)
        stages = [name for name in stage_names(self.config, until=names[-1]) if name != SIMULATE]
        last = [name for name in stages if line.stage(name).quarantines][-1]
        for name in stages:
            if name in names:
                of_source = found.problems if name == INGEST else ()
                problems += _new(self._stage(name, line, scans, work, of_source), problems)
            else:
                problems += line.plan(name, scans).quarantined
            scans = without(scans, problems)
            if line.stage(name).quarantines and (name == last or any(report.num_done for report in self.reports)):
                publish_catalog(self.archive, found, problems)
        return problems

    def _tell(self, found: Discovery) -> None:
        """One line about what goes with the scans, and one for each file that is left aside."""
        shared = [*found.partitions, *([found.sample_log] if found.sample_log else [])]
        with_them = ", ".join(path.name for path in shared) or "no partition file and no sample log"
        console.print(f"found {len(found.scans)} scans, with {with_them}", markup=False)
        for note in found.notes:
            console.print(note, style="yellow", markup=False)
        for _, reason in found.ignored:
            console.print(f"left aside: {reason}", style="yellow", markup=False)

    def _stage(self, name: str, line: Line, scans: Scans, work: _Work, known: Sequence[Problem] = ()) -> list[Problem]:
        """Run one stage and give its problems, old and new."""
        began, stage = time.perf_counter(), line.stage(name)
        console.print(f"[bold]{name}[/]: {STAGES[name].purpose}")
        planned = line.plan(name, scans)
        check([planned], self.config)
        results = list(self._results(stage, planned, work))
        work.lock.check()
        if [result for result in results if result.damaged and self._take_away(Path(result.damaged), result.reason)]:
            raise _TakenAway
        problems = [*planned.quarantined, *known, *_failed(stage, results)]
        if stage.quarantines:
            work.journal.quarantine(stage.name, problems)
        left = without(scans, problems)
        if problems and not left:
            first = problems[0].reason
            raise PlanError(f"{stage.name}: no scan is left, the first of {len(problems)} problems: {first}")
        stage.finish(left, line.before(name))
        self.reports.append(_report(stage, planned, results, len(problems), time.perf_counter() - began))
        self.record.write("running")
        return problems

    def _conclude(self, names: Sequence[str], problems: Sequence[Problem], journal: Journal) -> None:
        print_summary(self.reports, problems)
        if names[-1] == "report":
            console.print(f"The map: {self.archive.report_path.resolve()}", style="bold green", markup=False)
        if problems:
            raise QuarantinedError(
                f"{len({p.scan_id for p in problems})} scans are in quarantine, all others are done; "
                f"see {journal.quarantine_path}, mend the scans and run again"
            )

    def _results(self, stage: Stage, planned: Plan, work: _Work) -> Iterator[TaskResult]:
        if not planned.tasks:
            return
        stage.run_id = self.record.run_id
        stage.prepare(planned.tasks)
        if planned.shape is not Shape.ARRAY:
            yield stage.run_task(planned.tasks[0].as_queued())
            return
        predicted, executor = {task.key: task.seconds for task in planned.tasks}, self.config.executor
        pace = Pace(len(predicted), planned.seconds, executor.num_workers if executor.is_here else 0)
        with progress(stage.name, pace) as advance, _ended_in_order(work.journal, planned):
            for result in work.workers.map(stage.run_task, planned.tasks):
                work.lock.check()
                step = Step(result.key, result.seconds, predicted[result.key])
                advance(f"{result.key}: {result.reason}" if result.reason else "", step=step)
                if result.trace and self.debug:
                    console.print(result.trace, markup=False)
                if result.worker_died:
                    record(self.archive.root, "lost", stage.name, result.key, result.digest, reason=result.reason)
                if result.is_fatal:
                    raise AinerdError(f"{stage.name}: {result.key}: {result.reason}")
                yield result


@contextlib.contextmanager
def _ended_in_order(journal: Journal, planned: Plan) -> Iterator[None]:
    """Tasks of workers that end with this run, because it is asked to, do not count as killed."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception):
            journal.note_interrupted(planned.stage, planned.tasks)
        raise


def _new(problems: Sequence[Problem], known: Sequence[Problem]) -> list[Problem]:
    before = set(known)
    return [problem for problem in problems if problem not in before]


def _failed(stage: Stage, results: Sequence[TaskResult]) -> list[Problem]:
    """A problem for each scan with a task that failed.

    Raises
    ------
    AinerdError
        The stage cannot do without any task.
    """
    reasons = {result.scan_id: result for result in results if result.reason}
    failed = [
        # what is damaged is no fault of the scan, which is tried again by itself
        Problem(scan_id, stage.name, result.reason, "" if result.damaged else result.digest)
        for scan_id, result in reasons.items()
    ]
    if failed and not stage.quarantines:
        raise AinerdError(f"{stage.name}: {failed[0].scan_id}: {failed[0].reason}")
    return failed


def _share(tasks: Iterable[Task], number: int, num_shares: int, places: Mapping[str, int] | None = None) -> set[str]:
    """Keys of every `num_shares`-th task, done or not; the place of a scan does not depend on its number of parts.

    `places`: those of the scans among all, where these are the tasks of some.
    """
    scans: dict[str, list[str]] = {}
    for task in tasks:
        scans.setdefault(task.scan_id, []).append(task.key)
    known = places or {scan_id: place for place, scan_id in enumerate(scans)}
    parts = ((known[scan_id] + part, key) for scan_id, keys in scans.items() for part, key in enumerate(keys))
    return {key for place, key in parts if place % num_shares == number - 1}


def _report(stage: Stage, planned: Plan, results: Sequence[TaskResult], num_bad: int, seconds: float) -> StageReport:
    made = [result for result in results if not result.reason]
    figures: dict[str, float] = {}
    for result in made:
        for name, value in result.figures.items():
            figures[name] = figures.get(name, 0.0) + value
    written, keys = sum(result.bytes_written for result in made), {result.key for result in made}
    times = sum(result.seconds for result in made), sum(task.seconds for task in planned.tasks if task.key in keys)
    remarks = tuple(f"{name}: {figures[name]:.0f}; {text}" for name, text in stage.remarks.items() if name in figures)
    return StageReport(stage.name, len(made), planned.num_done, num_bad, seconds, written, figures, *times, remarks)
