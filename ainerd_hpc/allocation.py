"""The job of a batch system in which this process runs, and how processes are started on its nodes.

The only reader of SLURM_* and PBS_*.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ainerd_hpc.errors import ConfigError

System = Literal["slurm", "pbs"]
SPREAD: Mapping[System, tuple[str, ...]] = {
    "slurm": (
        *("srun", "--overlap", "--kill-on-bad-exit=1", "--nodes={nodes}", "--ntasks={ranks}"),
        *("--ntasks-per-node={per_node}", "--cpus-per-task={cores}"),
    ),
    "pbs": ("mpiexec", "-n", "{ranks}", "-ppn", "{per_node}"),
}
"""What starts processes over the nodes of a job, where a site does not say otherwise."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """A job, as it finds itself."""

    system: System
    job: str
    """Its id; of an element of a job array, `id_index` (SLURM) or `id[index].server` (PBS)."""
    nodes: tuple[str, ...]
    """Names of its hosts, each once."""
    restarts: int
    """How often it was put back into the queue; PBS does not say."""


def find_allocation(environment: Mapping[str, str] = os.environ) -> Allocation | None:
    """The job of this process; None outside of any."""
    if job := environment.get("SLURM_JOB_ID"):
        if "SLURM_ARRAY_TASK_ID" in environment:
            job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
        nodes = _slurm_hosts(environment.get("SLURM_JOB_NODELIST", ""))
        return Allocation("slurm", job, nodes, int(environment.get("SLURM_RESTART_COUNT", 0)))
    if job := environment.get("PBS_JOBID"):
        return Allocation("pbs", job, _pbs_hosts(environment.get("PBS_NODEFILE", "")), 0)
    return None


def _slurm_hosts(nodelist: str) -> tuple[str, ...]:
    """`n[1-3]` -> n1, n2, n3; as it is where scontrol is not at hand."""
    if "[" not in nodelist and "," not in nodelist:
        return (nodelist,) if nodelist else ()
    try:
        answer = subprocess.run(
            ["scontrol", "show", "hostnames", nodelist], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return (nodelist,)
    return tuple(answer.stdout.split())


def _pbs_hosts(path: str) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(Path(path).read_text(encoding="utf-8").split()))
    except OSError:
        return ()


def spread_command(template: Sequence[str], *, nodes: int, per_node: int, cores: int) -> list[str]:
    """The words that start a program over nodes, to be put before it.

    Parameters
    ----------
    template : sequence of str
        With {nodes}, {ranks}, {per_node}, {cores}; empty: `SPREAD` of the batch system of this process.
    nodes, per_node, cores : int
        Nodes, processes on each of them, cores of each process.

    Raises
    ------
    ConfigError
        There is no template, and this process is in no job.
    """
    if not template:
        found = find_allocation()
        if found is None:
            raise ConfigError(
                "expected to run in a job of SLURM or PBS, found neither SLURM_JOB_ID nor PBS_JOBID; "
                "use `ainerd-hpc submit`, or set environment.spread in the site file"
            )
        template = SPREAD[found.system]
    facts = {"nodes": nodes, "ranks": nodes * per_node, "per_node": per_node, "cores": cores}
    return [word.format(**facts) for word in template]
