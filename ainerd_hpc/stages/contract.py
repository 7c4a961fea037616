"""The stages, in the order of the data, and the contract that they share."""

from __future__ import annotations

import contextlib
import resource
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from ainerd_hpc.archive.journal import Journal, record, start
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.config import ModelConfig, RunConfig
from ainerd_hpc.digests import digest, fingerprint
from ainerd_hpc.errors import AinerdError, ConfigError
from ainerd_hpc.types import Plan, Problem, Scan, Shape, Task, TaskResult


class Stage(ABC):
    """One step of the line. It reads products of earlier stages and writes only its own.

    It is small and picklable (config only), so that its `run_task` travels to workers.
    """

    name: ClassVar[str]
    shape: ClassVar[Shape] = Shape.ARRAY
    version: ClassVar[int] = 1
    """Raised whenever the same input would give another product."""
    quarantines: ClassVar[bool] = False
    """Whether a task is one scan, which may fail without stopping the others."""
    run_id: str = ""
    """Of the run that it is a part of, for the journal."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.archive = Archive(config.archive)

    @abstractmethod
    def product(self, key: str) -> Path:
        """The file that the task with this key publishes."""

    @abstractmethod
    def tasks(self, scans: Sequence[Scan]) -> Iterable[Task]:
        """Every task of the stage for these scans, done or not, from metadata alone."""

    @abstractmethod
    def work(self, task: Task) -> Mapping[str, float]:
        """Do one task: read, compute, publish its product. Runs on a worker; returns figures, never arrays."""

    def prepare(self, tasks: Sequence[Task]) -> None:  # noqa: B027  most stages need none
        """Make ready for the tasks, once, before the first of them. Does nothing unless a stage says otherwise."""

    def finish(self, scans: Sequence[Scan]) -> None:  # noqa: B027  most stages have nothing to gather
        """Gather what the tasks left, once, after all of them. Does nothing unless a stage says otherwise."""

    def plan(self, scans: Sequence[Scan], journal: Journal) -> Plan:
        """What is missing or stale."""
        todo: list[Task] = []
        quarantined: dict[str, Problem] = {}
        num_done = 0
        for task in self.tasks(scans):
            problem = journal.find_problem(self.name, task.scan_id, task.digest)
            if self.quarantines:
                problem = problem or journal.find_killer(self.name, task)
            if problem:
                quarantined[task.scan_id] = problem  # of all its tasks
            elif journal.is_done(self.name, task.key, task.digest, self.product(task.key)):
                num_done += 1
            else:
                todo.append(task)
        todo.sort(key=lambda task: journal.num_kills(self.name, task))  # what may end the process comes last
        return Plan(self.name, self.shape, tuple(todo), num_done, tuple(quarantined.values()))

    def run_task(self, task: Task) -> TaskResult:
        """Do one task and note it in the journal."""
        began = time.perf_counter()
        root, entry = self.archive.root, (self.name, task.key, task.digest)
        start(root, self.run_id, "worker", self.config.executor.threads)
        record(root, "begun", *entry)
        try:
            figures = self.work(task)
        except BaseException as error:
            with contextlib.suppress(OSError):  # the disk may be full
                if isinstance(error, Exception):
                    record(root, "failed", *entry, reason=_reason(error))
                else:
                    record(root, "interrupted", *entry)
            raise
        seconds, size = round(time.perf_counter() - began, 3), self.product(task.key).stat().st_size
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        record(root, "done", *entry, seconds=seconds, bytes_read=task.read_bytes, bytes_written=size, peak_bytes=peak)
        return TaskResult(task.key, task.digest, seconds, size, figures)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, AinerdError) else f"{type(error).__name__}: {text}"


def weights_digest(model: ModelConfig) -> str:
    """Of given weights and the network they are for; empty where the model is to be trained.

    Raises
    ------
    ConfigError
        The file does not exist.
    """
    if model.weights is None:
        return ""
    if not model.weights.is_file():
        raise ConfigError(f"model.weights {model.weights}: no such file; correct the path, or leave it out to train")
    return digest(model.variant, fingerprint((model.weights,)))
