"""PBS (OpenPBS, PBS Professional): qsub, qrls, qstat, qdel."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from ainerd_hpc.errors import SubmissionError
from ainerd_hpc.site.allocation import PBS_ENDED
from ainerd_hpc.site.site_file import NodesConfig, SiteConfig, clock
from ainerd_hpc.submission.batch import State, States, call, variables
from ainerd_hpc.submission.steps import Step

SUFFIX = "pbs"
HOLD = "-h"
_ANSWERS = (0, *PBS_ENDED)
"""Exit codes of qstat and qdel: all known, some have finished, some are unknown."""
_STATES = {
    "Q": State.QUEUED,
    "T": State.QUEUED,
    "W": State.QUEUED,
    "H": State.WAITING,
    "R": State.RUNNING,
    "B": State.RUNNING,
    "E": State.RUNNING,
    "S": State.RUNNING,
    "U": State.RUNNING,
}
"""F, X, M (and C of look-alikes) have ended: how, PBS does not say for long; their logs do."""


def command(step: Step, site: SiteConfig) -> list[str]:
    """The command line that submits a step, without its dependency and its script."""
    nodes = site.of(step.kind)
    told = variables(step, SECONDS=f"{nodes.walltime - site.lead:.0f}")
    array = ["-J", f"1-{step.num_shares}"] if step.num_shares else []
    index = ".^array_index^" if step.num_shares else ""
    return [
        *("qsub", "-N", step.name),
        *(["-q", nodes.queue] if nodes.queue else []),
        *(["-A", nodes.account] if nodes.account else []),
        *("-l", f"select={_chunk(nodes)},walltime={clock(nodes.walltime)}{_place(nodes)}"),
        *array,
        *("-j", "oe", "-o", f"logs/{step.name}{index}.out"),  # what the script prints goes into a log of its own
        *("-v", told),
        *nodes.options,
    ]


def _place(nodes: NodesConfig) -> str:
    """Chunks are nodes, where the site does not say otherwise."""
    is_given = any("place=" in word for word in nodes.options)
    return ",place=scatter" if nodes.nodes > 1 and not is_given else ""


def _chunk(nodes: NodesConfig) -> str:
    asked = [
        str(nodes.nodes),
        f"ncpus={nodes.cores}" if nodes.cores else "",
        f"mem={int(nodes.memory) // 2**20}mb" if nodes.memory else "",
        f"ngpus={nodes.gpus}" if nodes.gpus else "",
        nodes.constraint,
    ]
    return ":".join(word for word in asked if word)


def dependency(job: str, needs_success: bool) -> list[str]:
    """Options that let a job begin after another one."""
    return ["-W", f"depend={'afterok' if needs_success else 'afterany'}:{job}"]


def job_of(output: str) -> str:
    """qsub prints the id, `7.server` or `7[].server`."""
    job = output.strip()
    return job if re.fullmatch(r"\d+(\[\])?(\.[\w.-]+)?", job) else ""


def largest_array() -> int | None:
    """Elements that an array may have: max_array_size of the server, where it says so."""
    try:
        match = re.search(r"^\s*max_array_size = (\d+)$", call(["qstat", "-B", "-f"]), re.MULTILINE)
    except SubmissionError:
        return None
    return int(match[1]) if match else None


def release(job: str) -> list[str]:
    """The command line that lets a job begin that was held."""
    return ["qrls", job]


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs by a command each: one for all would change their order, and exit with the error of any of them."""
    errors = []
    for job in jobs:
        try:
            call(["qdel", job], accept=_ANSWERS)
        except SubmissionError as error:
            errors.append(str(error))
    if errors:
        raise SubmissionError("; ".join(errors))


def ask(jobs: Sequence[str]) -> States:
    """States that qstat tells, which knows the jobs that have not ended."""
    return parse(call(["qstat", "-f", *jobs], accept=_ANSWERS)) if jobs else {}


def parse(output: str) -> States:
    """States from `qstat -f`: of an array, how many of its elements are in each; jobs that have ended are left out."""
    found: dict[str, Counter[State]] = {}
    for block in re.split(r"^Job Id:\s*", output, flags=re.MULTILINE)[1:]:
        job, _, rest = block.partition("\n")
        facts = dict(re.findall(r"^\s+(\S+) = (.*)$", rest, flags=re.MULTILINE))
        state = _STATES.get(facts.get("job_state", ""))
        if state:
            found[job.strip()] = _elements(facts.get("array_state_count", ""), state)
    return found


def _elements(text: str, state: State) -> Counter[State]:
    """States of the elements of an array, as in `Queued:5 Running:3 Exiting:0 Expired:1`, or the state of the job."""
    counts = {name: int(number) for name, number in re.findall(r"(\w+):(\d+)", text)}
    queued, running = counts.get("Queued", 0), counts.get("Running", 0) + counts.get("Exiting", 0)
    before = State.WAITING if state is State.WAITING else State.QUEUED
    return +Counter({before: queued, State.RUNNING: running}) or Counter({state: 1})
