"""Tasks on this process and on real Dask processes: results, failures, threads, memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from ainerd_hpc.config import ExecutorConfig
from ainerd_hpc.errors import ScanError
from ainerd_hpc.executors import Executor, open_executor, worker_memory
from ainerd_hpc.types import Task, TaskResult


def _task(number: int, **args: object) -> Task:
    return Task(f"{number:03d}", "digest", 0, 0, 0, args)


def work(task: Task) -> TaskResult:
    """Whatever the task's arguments ask for."""
    if "scan_error" in task.args:
        raise ScanError("file.h5", "expected 5, found 4", "copy it again")
    if "bug" in task.args:
        raise ValueError("two\nlines")
    if "memory" in task.args:
        np.empty(2**60, dtype=np.uint8)
    if "die" in task.args:
        os._exit(1)
    threads = max((pool["num_threads"] for pool in threadpool_info()), default=0)
    return TaskResult(task.key, task.digest, figures={"process": os.getpid(), "threads": threads})


@pytest.fixture(scope="module", params=["inline", "local"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    config = ExecutorConfig.model_validate({"kind": request.param, "workers": 2, "memory": "1 GB"})
    with open_executor(config) as opened:
        yield opened


def test_every_task_gives_one_result(executor: Executor) -> None:
    results = list(executor.map(work, [_task(number) for number in range(40)]))
    assert sorted(result.key for result in results) == [f"{number:03d}" for number in range(40)]
    assert not any(result.reason for result in results)


def test_nothing_to_do(executor: Executor) -> None:
    assert list(executor.map(work, [])) == []


def test_threads_are_as_configured(executor: Executor) -> None:
    np.ones((8, 8)) @ np.ones((8, 8))
    results = list(executor.map(work, [_task(number) for number in range(4)]))
    assert {result.figures["threads"] for result in results} <= {0, 1}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("scan_error", "file.h5: expected 5, found 4; copy it again"),
        ("bug", "unexpected ValueError: two lines; --retry-failed --debug shows where"),
        ("memory", "out of memory"),
    ],
)
def test_a_failed_task_is_a_result_with_a_reason(executor: Executor, fault: str, reason: str) -> None:
    tasks = [_task(number, **({fault: True} if number == 5 else {})) for number in range(12)]
    results = {result.key: result for result in executor.map(work, tasks)}
    assert len(results) == 12
    assert results["005"].reason.startswith(reason)
    assert ("Traceback" in results["005"].trace) == (fault == "bug")
    assert not any(result.reason for key, result in results.items() if key != "005")


def test_local_uses_several_processes_and_survives_the_death_of_one() -> None:
    config = ExecutorConfig.model_validate({"kind": "local", "workers": 2, "memory": "1 GB"})
    with open_executor(config) as opened:
        tasks = [_task(number, **({"die": True} if number == 3 else {})) for number in range(16)]
        results = {result.key: result for result in opened.map(work, tasks)}
    assert len(results) == 16
    assert "its worker process ended" in results["003"].reason
    good = [result for result in results.values() if not result.reason]
    assert len(good) >= 12  # what shared the dying worker's queue may be blamed with it; most are not
    assert len({result.figures["process"] for result in good} | {os.getpid()}) >= 3


def test_memory_of_a_worker() -> None:
    assert worker_memory(ExecutorConfig.model_validate({"memory": "3 GB"})) == 3 * 10**9
    one, four = (worker_memory(ExecutorConfig.model_validate({"workers": number})) for number in (1, 4))
    assert one == pytest.approx(4 * four, rel=0.2)
    total = 1024 * int(Path("/proc/meminfo").read_text(encoding="utf-8").split()[1])
    assert 0 < one < total
