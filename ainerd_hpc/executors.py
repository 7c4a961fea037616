"""Where tasks run, behind one `map`. Dask is used only here.

`inline` runs them one after the other in this process; `local` on Dask worker processes of this machine. Both give a
task the same number of threads, so that they give the same bytes.
"""

from __future__ import annotations

import contextlib
import errno
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import psutil
from threadpoolctl import threadpool_limits

from ainerd_hpc.config import ExecutorConfig
from ainerd_hpc.errors import AinerdError
from ainerd_hpc.types import Task, TaskResult

TaskFunction = Callable[[Task], TaskResult]

_MACHINE_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE}
"""Errors of the file system that are no scan's fault: disk full, quota, read-only, hardware, lost mount."""
_TERMINATE = 0.95
"""Share of its limit at which Dask ends a worker."""
_TASKS_IN_FLIGHT = 4
"""Tasks handed to Dask at a time, per worker: enough to keep it busy, few enough for a million tasks."""


class Executor(Protocol):
    """Runs independent tasks. A task that fails gives a result with a reason; it never ends the others."""

    def map(self, function: TaskFunction, tasks: Sequence[Task]) -> Iterator[TaskResult]:
        """Results as they are finished, in any order."""


def worker_memory(config: ExecutorConfig) -> int:
    """Bytes that one worker process may use: as configured, else 90 % of the free memory, shared by the workers."""
    if config.memory is not None:
        return int(config.memory)
    return int(0.9 * psutil.virtual_memory().available / config.num_workers)


@contextlib.contextmanager
def open_executor(config: ExecutorConfig) -> Iterator[Executor]:
    """The executor that the config names; its workers live as long as the block."""
    if config.kind == "inline":
        yield Inline(config.threads)
        return
    import dask
    from dask.distributed import Client, LocalCluster

    environment = {f"{library}_NUM_THREADS": str(config.threads) for library in ("OMP", "OPENBLAS", "MKL")}
    settings = {
        "distributed.nanny.pre-spawn-environ": environment,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.pause": False,
        "distributed.scheduler.allowed-failures": 1,
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=config.num_workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=int(worker_memory(config) / _TERMINATE),
            dashboard_address=":0",
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield Dask(client, config.num_workers, config.threads)


def guarded(function: TaskFunction, threads: int, task: Task) -> TaskResult:
    """Run one task with its share of threads; an error becomes a result with a reason."""
    began = time.perf_counter()
    try:
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
            yield guarded(function, self._threads, task)


class Dask:
    """Tasks on the workers of a Dask client, through a bounded window."""

    def __init__(self, client: Any, num_workers: int, threads: int) -> None:
        self._client, self._window, self._threads = client, _TASKS_IN_FLIGHT * num_workers, threads

    def map(self, function: TaskFunction, tasks: Sequence[Task]) -> Iterator[TaskResult]:
        from dask.distributed import as_completed

        waiting = iter(tasks)
        futures = {}
        done = as_completed()

        def submit() -> None:
            task = next(waiting, None)
            if task is not None:
                future = self._client.submit(guarded, function, self._threads, task, pure=False)
                futures[future] = task
                done.add(future)

        for _ in range(self._window):
            submit()
        for future in done:
            submit()
            yield _result(future, futures.pop(future))


def _result(future: Any, task: Task) -> TaskResult:
    """The result of a finished future, also when its worker died."""
    if future.status == "finished":
        result: TaskResult = future.result()
        return result
    ended = type(future.exception()).__name__
    reason = f"its worker process ended ({ended}); give a worker more with executor.memory, then --retry-failed"
    return TaskResult(task.key, task.digest, reason=reason)
