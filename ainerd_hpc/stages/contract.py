"""The contract that all stages share: what a stage states, what it is given, and how its tasks are planned and run."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.archive.journal import Journal, note_published, record, start
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.usage import Usage
from ainerd_hpc.config import RunConfig
from ainerd_hpc.digests import digest
from ainerd_hpc.errors import AinerdError
from ainerd_hpc.types import Plan, Problem, Scan, Shape, Task, TaskResult

if TYPE_CHECKING:
    from ainerd_hpc.archive.scans import Scans


class Before(Protocol):
    """What a stage may know of the archive and of the stages that it requires; computed once a plan."""

    @property
    def journal(self) -> Journal:
        """What is done, and what is in quarantine."""

    @property
    def sample_log_digest(self) -> str:
        """Digest of the sample log that goes with the scans."""

    def of_scan(self, stage: str, scan: Scan) -> str:
        """Digest of what a stage makes of one scan."""

    def of_each(self, stage: str, scans: Sequence[Scan]) -> NDArray[Any]:
        """Digests of what a stage makes of each of these scans, (n,) texts."""

    def of_all(self, stage: str, scans: Sequence[Scan]) -> str:
        """Digest of what a stage makes of all of these scans."""


class Stage(ABC):
    """One step of the line. It reads products of earlier stages and writes only its own; it knows no other stage.

    It is small and picklable (config only), so that its `run_task` travels to workers. To add a stage, write its class,
    a line in `stages.registry` and its section of the config.
    """

    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()
    """The stages whose products it reads; those before them are not its concern."""
    memory_knob: ClassVar[str]
    """The key of the config that lowers what its largest task needs, with a word on why where that is not plain."""
    shape: ClassVar[Shape] = Shape.ARRAY
    version: ClassVar[int] = 1
    """Raised whenever the same input would give another product."""
    quarantines: ClassVar[bool] = False
    """Whether a task is one scan, which may fail without stopping the others."""
    remarks: ClassVar[Mapping[str, str]] = {}
    """Figures of its tasks that a person should know of -> what they mean; told at the end of a run."""
    run_id: str = ""
    """The id of the run that it is a part of, for the journal."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.archive = Archive(config.archive)

    @abstractmethod
    def product(self, key: str) -> Path:
        """The file that the task with this key publishes."""

    def beside(self, key: str) -> tuple[Path, ...]:
        """Other files that this task publishes, before its product."""
        return ()

    def scan_digest(self, scan: Scan, before: Before) -> str:
        """Digest of all that goes into what it makes of one scan; for stages whose products are of one scan each."""
        raise NotImplementedError(f"stage {self.name}: its products are not of one scan each")

    def digest(self, scans: Sequence[Scan], before: Before) -> str:
        """Digest of all that goes into what it makes of these scans together."""
        return digest(self.name, self.version, before.of_each(self.name, scans).tolist())

    @abstractmethod
    def tasks(self, scans: Sequence[Scan], before: Before) -> Iterable[Task]:
        """Every task of the stage for these scans, done or not, from metadata alone."""

    @abstractmethod
    def work(self, task: Task) -> Mapping[str, float]:
        """Do one task: read, compute, publish its product. Runs on a worker; returns figures, never arrays."""

    def prepare(self, tasks: Sequence[Task]) -> None:  # noqa: B027  most stages need none
        """Make ready for the tasks, once, before the first of them. Does nothing unless a stage says otherwise."""

    def finish(self, scans: Sequence[Scan], before: Before) -> None:  # noqa: B027  most stages have nothing to gather
        """Gather what the tasks left, once, after all of them. Does nothing unless a stage says otherwise."""

    def plan(self, scans: Sequence[Scan], before: Before) -> Plan:
        """What is missing or stale."""
        from ainerd_hpc.archive.scans import Scans  # which workers do not need

        todo: list[Task] = []
        quarantined: dict[str, Problem] = {}
        is_done = self._are_done(scans := Scans.of(scans), before)
        num_done = int(is_done.sum())
        for task in self.tasks(scans.where(~is_done), before):
            problem = before.journal.find_problem(self.name, task.scan_id, task.digest)
            if self.quarantines:
                problem = problem or before.journal.find_killer(self.name, task)
            if problem:
                quarantined[task.scan_id] = problem  # of all its tasks
            elif before.journal.is_done(self.name, task.key, task.digest, self.product(task.key)) and all(
                path.exists() for path in self.beside(task.key)
            ):
                num_done += 1
            else:
                todo.append(task)
        todo.sort(key=lambda task: before.journal.num_kills(self.name, task))  # what may end the process comes last
        return Plan(self.name, self.shape, tuple(todo), num_done, tuple(quarantined.values()))

    def takes(self, scans: Scans) -> NDArray[np.bool_]:
        """Whether there is a task for each of these scans, (n,)."""
        return np.ones(len(scans), bool)

    def most_tasks(self, scans: Scans) -> NDArray[np.int64]:
        """How many tasks each of these scans may have, (n,), at most; from little more than their sizes."""
        return np.ones(len(scans), np.int64)

    def _are_done(self, scans: Scans, before: Before) -> NDArray[np.bool_]:
        """Which scans are done for sure, (n,), by the journal and the size of their products: of these no task is
        made."""
        if not self.quarantines:
            return np.zeros(len(scans), bool)
        keys = scans.column("scan_id")
        is_candidate = self.takes(scans) & ~scans.among(before.journal.problem_scans(self.name))
        head, _, tail = str(self.product("\0")).partition("\0")
        is_done = before.journal.are_done(self.name, keys, before.of_each(self.name, scans), (head, tail))
        return is_candidate & is_done

    def run_task(self, task: Task) -> TaskResult:
        """Do one task and note it in the journal."""
        began, usage = time.perf_counter(), Usage()
        root, entry = self.archive.root, (self.name, task.key, task.digest)
        start(root, self.run_id, "worker", self.config.executor.threads)
        record(root, "begun", *entry, queued=task.queued)
        try:
            figures = self.work(task)
        except BaseException as error:
            with contextlib.suppress(OSError):  # the disk may be full
                if isinstance(error, Exception):
                    record(root, "failed", *entry, reason=_reason(error), **usage.figures(task.read_bytes))
                else:
                    record(root, "interrupted", *entry)
            raise
        seconds, size = round(time.perf_counter() - began, 3), self.product(task.key).stat().st_size
        used = {"seconds": seconds, "bytes_written": size, **usage.figures(task.read_bytes)}
        for path in (*self.beside(task.key), self.product(task.key)):
            note_published(root, path)
        record(root, "done", *entry, queued=task.queued, predicted_seconds=round(task.seconds, 3), **used)
        return TaskResult(task.key, task.digest, seconds, size, figures)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, AinerdError) else f"{type(error).__name__}: {text}"
