"""One task, as a worker runs it."""

from __future__ import annotations

import errno
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from threadpoolctl import threadpool_limits

from ainerd_hpc.errors import AinerdError
from ainerd_hpc.types import Task, TaskResult

TaskFunction = Callable[[Task], TaskResult]

_MACHINE_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE}
"""Errors of the file system that are no scan's fault: disk full, quota, read-only, hardware, lost mount."""


class Executor(Protocol):
    """Runs independent tasks. A task that fails gives a result with a reason; it never ends the others."""

    def map(self, function: TaskFunction, tasks: Sequence[Task]) -> Iterator[TaskResult]:
        """Results as they are finished, in any order."""


def guarded(function: TaskFunction, threads: int, folder: str, task: Task) -> TaskResult:
    """Run one task in a folder with its share of threads; an error becomes a result with a reason."""
    began = time.perf_counter()
    try:
        if os.getcwd() != folder:  # of workers that were started elsewhere; paths of a config may be relative
            os.chdir(folder)
        with threadpool_limits(threads):
            result = function(task)
    except AinerdError as error:
        return TaskResult(task.key, task.digest, time.perf_counter() - began, reason=str(error))
    except MemoryError as error:
        reason = f"out of memory ({error}); give a worker more with executor.memory or fewer executor.workers"
        return TaskResult(task.key, task.digest, time.perf_counter() - began, reason=reason)
    except OSError as error:
        reason = f"{error}; mend this and run the same command again"
        is_fatal = error.errno in _MACHINE_FAULTS
        return TaskResult(task.key, task.digest, time.perf_counter() - began, reason=reason, is_fatal=is_fatal)
    except Exception as error:
        # A fault of one scan that nobody foresaw must not stop the archive; it is told as what it is.
        text = " ".join(str(error).split())
        reason = f"unexpected {type(error).__name__}: {text}; --retry-failed --debug shows where"
        trace = traceback.format_exc()
        return TaskResult(task.key, task.digest, time.perf_counter() - began, reason=reason, trace=trace)
    return result


class Inline:
    """One task after the other, in this process."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def map(self, function: TaskFunction, tasks: Sequence[Task]) -> Iterator[TaskResult]:
        for task in tasks:
            yield guarded(function, self._threads, os.getcwd(), task)
