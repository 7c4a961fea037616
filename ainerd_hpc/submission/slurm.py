"""SLURM: sbatch, squeue, sacct, scancel."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from ainerd_hpc.errors import SubmissionError
from ainerd_hpc.site.site_file import SiteConfig, clock, memory_option
from ainerd_hpc.submission.batch import State, States, call, variables
from ainerd_hpc.submission.steps import Step

SUFFIX = "sbatch"
HOLD = "--hold"
_STATES = {
    "PENDING": State.QUEUED,
    "REQUEUED": State.QUEUED,
    "REQUEUE_FED": State.QUEUED,
    "REQUEUE_HOLD": State.QUEUED,
    "SPECIAL_EXIT": State.QUEUED,
    "RESV_DEL_HOLD": State.QUEUED,
    "CONFIGURING": State.RUNNING,
    "RUNNING": State.RUNNING,
    "COMPLETING": State.RUNNING,
    "SIGNALING": State.RUNNING,
    "STAGE_OUT": State.RUNNING,
    "STOPPED": State.RUNNING,
    "SUSPENDED": State.RUNNING,
    "COMPLETED": State.DONE,
    "CANCELLED": State.CANCELLED,
}
"""All others have failed: FAILED, TIMEOUT, NODE_FAIL, OUT_OF_MEMORY, BOOT_FAIL, DEADLINE, PREEMPTED, REVOKED."""


def command(step: Step, site: SiteConfig) -> list[str]:
    """The command line that submits a step, without its dependency and its script."""
    nodes = site.of(step.kind)
    number = "%A_%a" if step.num_shares else "%j"
    asked = {
        "job-name": step.name,
        "output": f"logs/{step.name}.{number}.log",
        "open-mode": "append",
        "partition": nodes.queue,
        "qos": nodes.qos,
        "account": nodes.account,
        "constraint": nodes.constraint,
        "nodes": nodes.nodes,
        "ntasks": nodes.nodes,
        "cpus-per-task": nodes.cores,
        **memory_option(nodes, nodes.memory or 0),
        "gpus-per-node": nodes.gpus or "",
        "time": clock(60 * math.ceil(nodes.walltime / 60)),  # SLURM counts minutes
        "array": _array(step, site) if step.num_shares else "",
        "signal": f"B:USR1@{site.lead:.0f}",
        "kill-on-invalid-dep": "yes",
        "export": f"ALL,{variables(step)}",
    }
    options = [f"--{name}={value}" for name, value in asked.items() if value]
    return ["sbatch", "--parsable", "--requeue", *options, *nodes.options]


def _array(step: Step, site: SiteConfig) -> str:
    return f"1-{step.num_shares}" + (f"%{site.array.at_once}" if site.array.at_once else "")


def dependency(job: str, needs_success: bool) -> list[str]:
    """Options that let a job begin after another one."""
    return [f"--dependency={'afterok' if needs_success else 'afterany'}:{job}"]


def job_of(output: str) -> str:
    """`--parsable` prints `id` or `id;cluster`."""
    job = output.strip().partition(";")[0]
    return job if job.isdigit() else ""


def largest_array() -> int | None:
    """Elements that an array may have, numbered from 1: MaxArraySize is the first number that none may have."""
    try:
        match = re.search(r"^MaxArraySize\s*=\s*(\d+)$", call(["scontrol", "show", "config"]), re.MULTILINE)
    except SubmissionError:
        return None
    return max(1, int(match[1]) - 1) if match else None


def release(job: str) -> list[str]:
    """The command line that lets a job begin that was held."""
    return ["scontrol", "release", job]


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs by one command, to which one that has ended is no error."""
    call(["scancel", *jobs])


def ask(jobs: Sequence[str]) -> States:
    """States that squeue tells; what it has forgotten, from the accounting, where there is one."""
    known = parse(call(["squeue", "--me", "--states=all", "--array", "--noheader", "--format=%i|%T|%r"]), jobs)
    forgotten = [job for job in jobs if job not in known]
    if not forgotten:
        return known
    query = ["sacct", "--parsable2", "--noheader", "--allocations", "--array", "--format=JobID,State"]
    try:
        return {**parse(call([*query, f"--jobs={','.join(forgotten)}"]), forgotten), **known}
    except SubmissionError:
        return known


def parse(output: str, jobs: Iterable[str]) -> States:
    """States from lines `id|state` or `id|state|reason`, where an element of an array is `id_index`."""
    wanted = set(jobs)
    found: dict[str, Counter[State]] = defaultdict(Counter)
    for line in output.splitlines():
        name, state, reason = (line.split("|") + [""])[:3]
        job = name.partition("_")[0]
        if job in wanted:
            found[job][_state(state, reason)] += 1
    return dict(found)


def _state(text: str, reason: str) -> State:
    word = (text.split() or [""])[0].rstrip("+")  # CANCELLED by 1000; sacct cuts long words
    state = _STATES.get(word, State.FAILED)
    if state is State.QUEUED and reason == "Dependency":
        return State.WAITING
    return State.CANCELLED if reason == "DependencyNeverSatisfied" else state
