"""The workers of a run, and what becomes of tasks whose workers died."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ainerd_hpc.config import ExecutorConfig
from ainerd_hpc.console import size_text, tell
from ainerd_hpc.executors.tasks import Executor, Inline, TaskFunction
from ainerd_hpc.site.workers import Sizing, worker_sizing
from ainerd_hpc.types import Task, TaskResult

_OPENERS: Mapping[str, tuple[str, str]] = {
    "local": ("local", "open_local"),
    "elastic": ("elastic", "open_elastic"),
    "allocation": ("nodes", "open_nodes"),
    "scheduler": ("running", "open_running"),
}
"""Modules that load Dask when they are called for."""


@contextlib.contextmanager
def open_executor(
    config: ExecutorConfig, folder: Path | None = None, sizing: Sizing | None = None, alone: bool = False
) -> Iterator[Executor]:
    """The executor that the config names; its workers live as long as the block.

    Parameters
    ----------
    folder : Path, optional
        Where logs and keys of workers on other machines go, and Dask's report; needed by `elastic` and `allocation`.
        All machines must see it.
    sizing : Sizing, optional
        Other workers than those of the config.
    alone : bool
        Hand a worker no more than one task at a time.
    """
    if config.kind == "inline":
        yield Inline(config.threads)
        return
    module, name = _OPENERS[config.kind]
    opener = getattr(importlib.import_module(f"ainerd_hpc.executors.{module}"), name)
    where: dict[str, Any] = {"report": _report_path(folder) if folder and config.has_dashboard else None}
    if config.kind in ("elastic", "allocation"):
        where["folder"] = folder
    with opener(config, sizing or worker_sizing(config), alone, **where) as executor:
        yield executor


def _report_path(folder: Path) -> Path:
    """`<folder>.dask.html`; of workers that are started anew in the same run, `<folder>.dask-2.html` and so on."""
    names = (f"{folder.name}.dask{f'-{number}' * (number > 1)}.html" for number in range(1, 1000))
    return next(path for path in (folder.with_name(name) for name in names) if not path.exists())


class Workers:
    """The executor of a run, started when the first task needs it.

    A task whose worker died twice (its memory ran out, its job was cancelled, its node is gone) is done once more with
    more memory, by fewer workers that run one task each, so that it is clear whose fault it is. Where the largest
    worker dies too, the task has failed.

    Parameters
    ----------
    config : ExecutorConfig
    folder : Path
        As in `open_executor`.
    """

    def __init__(self, config: ExecutorConfig, folder: Path) -> None:
        self._config, self._folder = config, folder
        self._stack = contextlib.ExitStack()
        self._executor: Executor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: Any) -> None:
        self._executor = None
        self._stack.__exit__(*error)

    def map(self, function: TaskFunction, tasks: Sequence[Task]) -> Iterator[TaskResult]:
        """Results as they are finished, in any order."""
        by_key = {task.key: task for task in tasks}
        if self._executor is None:
            self._executor = self._stack.enter_context(open_executor(self._config, self._folder))
        died = list[TaskResult]()
        yield from _alive(self._executor.map(function, tasks), died)
        if died:
            self.__exit__(None, None, None)  # larger workers take their place
            yield from self._again(function, [by_key[result.key] for result in died])

    def _again(self, function: TaskFunction, tasks: Sequence[Task]) -> Iterator[TaskResult]:
        """Tasks whose workers died: with larger and larger workers, each the only task of its worker."""
        sizing = worker_sizing(self._config)
        while tasks:
            sizing = sizing.larger() or sizing
            tell(
                f"{len(tasks)} tasks lost their worker; again, with {size_text(sizing.memory)} for each: {tasks[0].key}"
            )
            died = list[TaskResult]()
            with open_executor(self._config, self._folder, sizing, alone=True) as executor:
                yield from _alive(executor.map(function, tasks), died)
            tasks = [task for task in tasks if task.key in {result.key for result in died}]
            if sizing.larger() is None:
                yield from (_failed(task, sizing) for task in tasks)
                return


def _alive(results: Iterator[TaskResult], died: list[TaskResult]) -> Iterator[TaskResult]:
    for result in results:
        if result.worker_died:
            died.append(result)
        else:
            yield result


def _failed(task: Task, sizing: Sizing) -> TaskResult:
    projected, given = size_text(task.peak_bytes), size_text(sizing.memory)
    reason = (
        f"{task.key}: its worker process was ended again and again, at last with {given} of memory for this task alone "
        f"(projected: {projected}); give it more (executor.memory, the site file), then --retry-failed"
    )
    return TaskResult(task.key, task.digest, reason=reason, worker_died=True)
