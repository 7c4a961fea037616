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

PBS_ENDED = (35, 153)
"""What qstat gives for a job that has finished, or that it does not know any more."""

_OF_JOBS = ("SLURM_", "SBATCH_", "SRUN_", "PBS_", "AINERD_")
_OF_SYSTEMS = ("SLURM_CONF", "SLURM_CLUSTERS", "PBS_SERVER", "PBS_CONF_FILE", "PBS_EXEC")


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
    cluster: str = ""
    """Its name, where SLURM has one."""


def outside_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment, without what the job of this process says: a command that submits would ask for it again."""
    given = {key: value for key, value in environment.items() if not key.startswith(_OF_JOBS)}
    return given | system_environment(environment)


def system_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the environment says of where the batch system is; not all of them hand it on to their jobs."""
    return {key: environment[key] for key in _OF_SYSTEMS if key in environment}


def in_step(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is of a job that `submit` submitted, with a config made for it."""
    return "AINERD_STEP" in environment


def find_allocation(environment: Mapping[str, str] = os.environ) -> Allocation | None:
    """The job of this process; None outside of any."""
    if job := environment.get("SLURM_JOB_ID"):
        if "SLURM_ARRAY_TASK_ID" in environment:
            job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
        nodes = _slurm_hosts(environment.get("SLURM_JOB_NODELIST", ""))
        cluster = environment.get("SLURM_CLUSTER_NAME", "")
        return Allocation("slurm", job, nodes, int(environment.get("SLURM_RESTART_COUNT", 0)), cluster)
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


def has_ended(system: System, job: str) -> bool:
    """Whether the batch system says that a job is not at work; False also where it does not answer."""
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={job}"] if system == "slurm" else ["qstat", "-f", job]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    if system == "pbs":
        return answer.returncode in PBS_ENDED
    if answer.returncode:
        return "Invalid job id" in answer.stderr
    return not {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING"} & set(answer.stdout.split())


def cores_here(environment: Mapping[str, str] = os.environ) -> int:
    """Cores of this machine that this process may use: those of its job, even where nothing binds it to them."""
    given = [environment.get(name, "") for name in ("SLURM_CPUS_ON_NODE", "NCPUS")]
    return min([len(os.sched_getaffinity(0)), *(int(number) for number in given if number.isdigit() and int(number))])


def place_by_srun(environment: Mapping[str, str] = os.environ) -> tuple[int, int, int] | None:
    """Number of a process that srun started, how many there are, its number on its node; None for other processes."""
    names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
    if "SLURM_STEP_NUM_TASKS" not in environment:
        return None
    number, size, local = (int(environment[name]) for name in names)
    return number, size, local


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
