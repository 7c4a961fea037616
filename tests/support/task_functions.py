"""Functions of tasks, for executors: workers load this module, and nothing of what tests need."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from ainerd_hpc.errors import ScanError
from ainerd_hpc.types import Task, TaskResult


class Lost:
    """Sets out, and never arrives."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return float, ("nowhere",)


def work(task: Task) -> TaskResult:
    """Whatever the task's arguments ask for."""
    if "scan_error" in task.args:
        raise ScanError("file.h5", "expected 5, found 4", "copy it again")
    if "bug" in task.args:
        raise ValueError("two\nlines")
    if "memory" in task.args:
        np.empty(2**60, dtype=np.uint8)
    time.sleep(float(task.args.get("seconds", 0)))
    if "log" in task.args:
        with open(task.args["log"], "a", encoding="utf-8") as log:
            log.write("begun\n")
    if "no_way_back" in task.args:
        return TaskResult(task.key, task.digest, figures={"lock": threading.Lock()})  # type: ignore[dict-item]
    if "lost_on_the_way_back" in task.args:
        return TaskResult(task.key, task.digest, figures={"lost": Lost()})  # type: ignore[dict-item]
    if "die" in task.args:
        os._exit(1)
    if task.args.get("hog"):
        held = np.ones(int(task.args["hog"]), dtype=np.uint8)
        time.sleep(0.5)
        del held
    threads = max((pool["num_threads"] for pool in threadpool_info()), default=0)
    return TaskResult(task.key, task.digest, figures={"process": os.getpid(), "threads": threads})


class Counter:
    """Work with a state, which stays where the work was done."""

    calls = 0

    def count(self, task: Task) -> TaskResult:
        self.calls += 1
        task.args["given"].append(self.calls)
        return TaskResult(task.key, task.digest, figures={"calls": self.calls})


def work_in_job(task: Task) -> TaskResult:
    """Take memory, die, or wait until so many jobs were seen; tell in which job."""
    job = os.environ.get("SLURM_JOB_ID") or os.environ.get("PBS_JOBID", "0").partition(".")[0]
    if "jobs" in task.args:
        (Path(task.args["folder"]) / job).touch()
        while len(os.listdir(task.args["folder"])) < task.args["jobs"]:
            time.sleep(0.1)
    if task.args.get("die"):
        os._exit(1)
    held = np.ones(int(task.args.get("hog", 0)), dtype=np.uint8)
    time.sleep(0.5 if held.size else 0)
    figures = {"job": job, "memory": os.environ.get("SLURM_MEM_PER_NODE", 0)}
    return TaskResult(task.key, task.digest, figures={name: float(value) for name, value in figures.items()})


def where(task: Task) -> TaskResult:
    """Write into the folder of the one who asked."""
    Path(task.key).write_text(os.getcwd())
    return TaskResult(task.key, task.digest)
