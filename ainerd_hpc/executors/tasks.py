"""One task, as a worker runs it."""

from __future__ import annotations

import errno
import os
import pickle
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

from threadpoolctl import threadpool_limits

from ainerd_hpc.errors import AinerdError, ProductError, UnavailableError, interruption
from ainerd_hpc.types import Task, TaskResult

TaskFunction = Callable[[Task], TaskResult]
Step = TypeVar("Step")

_MACHINE_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE}
"""Errors of the file system that are no scan's fault: disk full, quota, read-only, hardware, lost mount."""


class Executor(Protocol):
    """Runs independent tasks. A task that fails gives a result with a reason; it never ends the others."""

    def map(self, function: TaskFunction, tasks: Sequence[Task]) -> Iterator[TaskResult]:
        """Results as they are finished, in any order."""


class Packed(NamedTuple):
    """A task with its function, or its result, as it travels between processes."""

    key: str
    digest: str
    content: bytes


def pack(function: TaskFunction, task: Task) -> Packed | TaskResult:
    """A task for the way to a worker; where it cannot travel, its failed result."""
    return _attempt(task, lambda: Packed(task.key, task.digest, pickle.dumps((function, task))))


def run_packed(packed: Packed, threads: int, folder: str) -> Packed | TaskResult:
    """Run a task in a folder with its share of threads; its result for the way back, an error as a failed one."""

    def run() -> Packed:
        if os.getcwd() != folder:  # of workers that were started elsewhere; paths of a config may be relative
            os.chdir(folder)
        function, task = pickle.loads(packed.content)  # noqa: S301  by the way on which Dask unpickles code, too
        with threadpool_limits(threads):
            return packed._replace(content=pickle.dumps(function(task)))

    return _attempt(packed, run)


def unpack(result: Packed | TaskResult) -> TaskResult:
    """The result of a task that has come back."""
    if isinstance(result, TaskResult):
        return result
    return _attempt(result, lambda: pickle.loads(result.content))  # noqa: S301  as above


def _attempt(task: Task | Packed, step: Callable[[], Step]) -> Step | TaskResult:
    """What a step of a task gives; an error becomes a failed result with a reason."""
    began = time.perf_counter()
    try:
        return step()
    except ProductError as error:
        seconds = time.perf_counter() - began
        return TaskResult(task.key, task.digest, seconds, reason=str(error), damaged=str(error.path))
    except AinerdError as error:
        digest = "" if isinstance(error, UnavailableError) else task.digest
        return TaskResult(task.key, digest, time.perf_counter() - began, reason=str(error))
    except MemoryError as error:
        reason = f"out of memory ({error}); give a worker more with executor.memory or fewer executor.workers"
        return TaskResult(task.key, task.digest, time.perf_counter() - began, reason=reason)
    except OSError as error:
        reason = f"{error}; mend this and run the same command again"
        is_fatal = error.errno in _MACHINE_FAULTS
        return TaskResult(task.key, task.digest, time.perf_counter() - began, reason=reason, is_fatal=is_fatal)
    except Exception as error:
        if asked := interruption(error):
            raise asked from None
        # A fault of one scan that nobody foresaw must not stop the archive; it is told as what it is.
        text = " ".join(str(error).split())
        reason = f"unexpected {type(error).__name__}: {text}; --retry-failed --debug shows where"
        trace = traceback.format_exc()
        return TaskResult(task.key, task.digest, time.perf_counter() - began, reason=reason, trace=trace)


class Inline:
    """One task after the other, in this process; each travels as to a worker, so that what cannot fails here, too."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def map(self, function: TaskFunction, tasks: Sequence[Task]) -> Iterator[TaskResult]:
        for task in tasks:
            packed = pack(function, task.as_queued())
            if isinstance(packed, Packed):
                yield unpack(run_packed(packed, self._threads, os.getcwd()))
            else:
                yield packed
