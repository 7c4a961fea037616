"""Tasks on the workers of a Dask client, through a bounded window."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from multiprocessing import resource_tracker
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from ainerd_hpc.console import tell
from ainerd_hpc.executors.pages import MODULES, Pages
from ainerd_hpc.executors.tasks import TaskFunction, pack, run_packed, unpack
from ainerd_hpc.publishing import write_text
from ainerd_hpc.site.waiting import wait_briefly
from ainerd_hpc.types import Task, TaskResult

_TASKS_IN_FLIGHT = 4
"""Tasks handed to Dask at a time, per worker: enough to keep it busy, few enough for a million tasks."""
_TICK = 0.5
"""Seconds without a result after which the workers are looked at."""
_PATIENCE = 30.0
"""Seconds in which a result that is there has to arrive."""

WORKER_SETTINGS: Mapping[str, object] = {
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.preload": MODULES,
}
"""Nothing of a worker's memory is Dask's to move: results are figures, data belong to the task that runs. No worker
answers by HTTP."""


class Backing(Protocol):
    """Where workers come from."""

    @property
    def worn_out(self) -> Collection[str]:
        """Keys of futures whose workers left too often."""

    def want(self, num_tasks: int) -> None:
        """So many tasks are left to do."""

    def check(self) -> None:
        """Look at the workers.

        Raises
        ------
        AinerdError
            There are none, and there will be none.
        """


class Fixed:
    """Workers that look after themselves."""

    worn_out: frozenset[str] = frozenset()

    def want(self, num_tasks: int) -> None:
        pass

    def check(self) -> None:
        pass


def settings(alone: bool, pages: Pages) -> dict[str, object]:
    """The configuration of Dask. A task whose worker died is tried once more elsewhere; not where it is alone."""
    return {**WORKER_SETTINGS, **pages.settings, "distributed.scheduler.allowed-failures": 0 if alone else 1}


def worker_environment(threads: int) -> dict[str, str]:
    """What the environment of a worker says, which Dask hands to no worker that it does not start itself."""
    environment = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL")}
    names = {key: f"DASK_{key.upper().replace('.', '__')}" for key in WORKER_SETTINGS}
    wait_briefly(environment)
    return environment | {names[key]: str(value) for key, value in WORKER_SETTINGS.items()}


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Let threads that begin in the block, and the processes that they start, never see Ctrl-C: this one ends them.

    An interrupt in the block is taken up at its end.
    """
    if threading.current_thread() is not threading.main_thread():  # which never sees it
        yield
        return
    resource_tracker.ensure_running()  # which would let a thread hear them again
    asked = list[int]()
    handler = signal.signal(signal.SIGINT, lambda number, _: asked.append(number))  # other threads may hear it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
    if asked:
        raise KeyboardInterrupt


@contextlib.contextmanager
def connected(report: Path | None, **target: Any) -> Iterator[Any]:
    """A client; its dashboard is told, and a report of what Dask did is written at the end, where a path is given."""
    from dask.distributed import Client, performance_report

    with Client(**target) as client:
        if report is None:
            yield client
            return
        tell(f"Dask dashboard: {client.dashboard_link}")
        with TemporaryDirectory() as folder:
            path = Path(folder) / "report.html"
            measured = performance_report(str(path), mode="inline")
            measured.__enter__()
            yield client
            measured.__exit__(None, None, None)  # not after an error: there may be nobody to ask
            html = re.sub(r"<link[^>]*favicon[^>]*>", "", path.read_text(encoding="utf-8"))  # it is from a web site
        write_text(report, html)


class Dask:
    """Tasks on the workers of a client.

    Parameters
    ----------
    client : dask.distributed.Client
    backing : Backing
    num_workers : int
        Most workers there will be.
    threads : int
        Of one task.
    alone : bool
        Have no task wait at a worker, so that a worker that dies is the fault of the task that it ran.
    """

    def __init__(self, client: Any, backing: Backing, num_workers: int, threads: int, alone: bool) -> None:
        self._client, self._backing, self._threads, self._alone = client, backing, threads, alone
        self._window = _TASKS_IN_FLIGHT * num_workers

    def map(self, function: TaskFunction, tasks: Sequence[Task]) -> Iterator[TaskResult]:
        """Results as they are finished, in any order; `worker_died` is set where there is none."""
        folder = os.getcwd()
        done: SimpleQueue[Any] = SimpleQueue()
        waiting, futures = deque(tasks), dict[Any, Task]()
        try:
            while waiting or futures:
                self._backing.want(len(waiting) + len(futures))
                while waiting and len(futures) < self._room():
                    packed = pack(function, task := waiting.popleft().as_queued())
                    if isinstance(packed, TaskResult):
                        yield packed
                        continue
                    future = self._client.submit(run_packed, packed, self._threads, folder, pure=False)
                    futures[future] = task
                    future.add_done_callback(done.put)
                self._give_up(futures)
                try:
                    future = done.get(timeout=_TICK)
                except Empty:
                    self._backing.check()
                    continue
                result = self._result(future, futures[future])
                if result is None:
                    future.add_done_callback(done.put)
                    continue
                del futures[future]
                yield result
        finally:
            self._backing.want(0)

    def _room(self) -> int:
        return len(self._client.nthreads()) if self._alone else self._window

    def _give_up(self, futures: Mapping[Any, Task]) -> None:
        """End tasks whose workers left again and again before they were done."""
        if self._backing.worn_out:
            for future in futures:
                if future.key in self._backing.worn_out and not future.done():
                    future.cancel()

    def _result(self, future: Any, task: Task) -> TaskResult | None:
        """The result of a future; None where its worker died after it was done, and another one does it again."""
        from dask.distributed import KilledWorker, TimeoutError

        try:
            if not future.cancelled():
                return unpack(future.result(timeout=_PATIENCE))
        except TimeoutError:
            self._backing.check()
            return None
        except KilledWorker:
            pass
        except Exception as error:
            if not future.cancelled():
                text = " ".join(f"{type(error).__name__}: {error}".split())
                reason = f"its worker could not run it ({text}); see the log of the worker, then --retry-failed"
                return TaskResult(task.key, task.digest, reason=reason)
        self._backing.check()
        return TaskResult(task.key, task.digest, worker_died=True)
