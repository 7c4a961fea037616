"""What a job of Dask workers asks for, from the site file; how it is submitted by dask-jobqueue."""

from __future__ import annotations

import asyncio
import itertools
import math
import shlex
import sys
from asyncio.subprocess import PIPE
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from dask_jobqueue.core import Job
from dask_jobqueue.pbs import PBSCluster, PBSJob
from dask_jobqueue.slurm import SLURMCluster, SLURMJob
from distributed.deploy.spec import ProcessInterface

from ainerd_hpc.errors import SubmissionError
from ainerd_hpc.executors.protection import worker_options
from ainerd_hpc.executors.through_dask import worker_environment
from ainerd_hpc.site.allocation import outside_environment
from ainerd_hpc.site.site_file import NodesConfig, SiteConfig, clock, memory_option
from ainerd_hpc.site.workers import Sizing

JOB_NAME = "ainerd-worker"
_PATIENCE = 120.0
"""Seconds that a batch system may take to answer."""
_STAGGER = 0.1
"""Share of the lifetime of a worker, up or down: not all of them leave at once."""


class _Refused(SubmissionError, RuntimeError):
    """dask-jobqueue expects a RuntimeError."""


async def call(*command: str, accept: Collection[int] = (0,)) -> str:
    """What a command of the batch system prints.

    Raises
    ------
    SubmissionError
        With its message, in one line.
    """
    try:
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=outside_environment())
    except FileNotFoundError:
        raise _Refused(f"{command[0]}: no such command here; run this where the batch system can be reached") from None
    try:
        output, errors = await asyncio.wait_for(process.communicate(), _PATIENCE)
    except TimeoutError:
        process.kill()
        raise _Refused(f"{command[0]}: no answer in {_PATIENCE:.0f} s; try again later") from None
    if process.returncode not in accept:
        message = " ".join((errors.decode().strip() or output.decode().strip() or "no message").split())
        raise _Refused(f"{command[0]} refused (exit {process.returncode}): {message}")
    return output.decode()


class _Job(Job):
    """A job that remembers why it was refused: dask-jobqueue would only log it."""

    def __init__(self, *args: Any, asked: str = "", **more: Any) -> None:
        super().__init__(*args, **more)
        self._asked, self.refusal = asked, ""

    async def start(self) -> None:
        try:
            await super().start()
        except (SubmissionError, ValueError) as error:
            self.refusal = f"{error}; the site file asks for {self._asked}"
            await ProcessInterface.start(self)

    @staticmethod
    async def _call(cmd: Sequence[str], *, shell: bool = False, **_: Any) -> str:
        return await call(*cmd)


class _SlurmJob(_Job, SLURMJob):
    config_name = "slurm"


class _PbsJob(_Job, PBSJob):
    config_name = "pbs"
    job_id_regexp = r"(?P<job_id>\d+\S*)"
    """The id of a job with the name of the server."""


class _Ours:
    """A cluster whose jobs are told their keys by us (dask-jobqueue does not quote paths), each with a new name."""

    _numbers = itertools.count()

    def _new_worker_name(self, _: int) -> str:
        """Not that of a job that is lost, which would be taken for it."""
        return f"worker-{next(self._numbers)}"

    def _get_worker_security(self, _: object) -> None:
        return None


class SlurmWorkers(_Ours, SLURMCluster):
    """Jobs of SLURM."""

    job_cls = _SlurmJob


class PbsWorkers(_Ours, PBSCluster):
    """Jobs of PBS."""

    job_cls = _PbsJob


def worker_cluster(site: SiteConfig, sizing: Sizing, threads: int, folder: Path, security: Any, **more: Any) -> Any:
    """A scheduler in this process without workers; each job that it is scaled to has the workers of a sizing."""
    nodes, environment = site.of("array"), site.environment
    kind = SlurmWorkers if site.system == "slurm" else PbsWorkers
    asked = _slurm(nodes, sizing, folder) if site.system == "slurm" else _pbs(nodes, sizing, folder)
    return kind(
        cores=sizing.workers,  # for dask-jobqueue: a thread of Dask each; what the job asks for stands in `asked`
        processes=sizing.workers,
        memory=f"{sizing.workers * sizing.limit} B",
        queue=nodes.queue or None,
        account=nodes.account or None,
        job_name=JOB_NAME,
        shebang="#!/bin/bash",
        python=shlex.join(python_of(environment.command)),
        job_script_prologue=prologue(site, threads),
        worker_extra_args=list(
            map(shlex.quote, [*_lifetime(site, nodes), "--no-dashboard", *worker_options(security)])
        ),
        interface=environment.interface or None,
        asked=site.asked("array"),
        security=security,
        silence_logs=50,
        **asked,
        **more,
    )


def _slurm(nodes: NodesConfig, sizing: Sizing, folder: Path) -> dict[str, Any]:
    asked = {"qos": nodes.qos, "constraint": nodes.constraint, "gpus-per-node": nodes.gpus}
    asked |= memory_option(nodes, _job_bytes(nodes, sizing))
    given = [f"--{name}={value}" for name, value in asked.items() if value]
    log = [f"--output={shlex.quote(str(folder))}/{JOB_NAME}.%j.log", "--open-mode=append", "--no-requeue", "--nodes=1"]
    return {
        "job_cpu": nodes.cores,
        "job_directives_skip": ["--mem="],
        "walltime": clock(60 * math.ceil(nodes.walltime / 60)),  # SLURM counts minutes
        "job_extra_directives": [*log, *given, *_more(nodes)],
    }


def _pbs(nodes: NodesConfig, sizing: Sizing, folder: Path) -> dict[str, Any]:
    memory = f"mem={_job_bytes(nodes, sizing) // 2**20}mb"
    chunk = ["1", f"ncpus={nodes.cores}", memory, f"ngpus={nodes.gpus}" if nodes.gpus else "", nodes.constraint]
    return {
        "resource_spec": f"select={':'.join(word for word in chunk if word)}",
        "walltime": clock(nodes.walltime),
        "job_extra_directives": ["-S /bin/bash", "-j oe", f"-o {folder}/", "-r n", *_more(nodes)],
    }


def _job_bytes(nodes: NodesConfig, sizing: Sizing) -> int:
    return max(nodes.memory or 0, sizing.place_bytes)


def _more(nodes: NodesConfig) -> list[str]:
    return [shlex.join(nodes.options)] if nodes.options else []


def _lifetime(site: SiteConfig, nodes: NodesConfig) -> list[str]:
    """Workers leave before their job is ended, not all at once, the last of them `lead` before."""
    longest = nodes.walltime - site.lead
    lifetime = longest / (1 + _STAGGER)
    return ["--lifetime", f"{lifetime:.0f}s", "--lifetime-stagger", f"{_STAGGER * lifetime:.0f}s"]


def python_of(command: Sequence[str]) -> list[str]:
    """What starts Python on a node: this one, or the one beside the program of the site (`environment.command`)."""
    if not command:
        return [sys.executable]
    if "-m" in command:
        return list(command[: command.index("-m")])
    return [*command[:-1], str(Path(command[-1]).with_name("python"))]


def prologue(site: SiteConfig, threads: int) -> list[str]:
    """What a job does before its workers start: as `prepare` in jobs/env.sh."""
    environment = site.environment
    lines = ['cd "$PBS_O_WORKDIR" || exit 1'] if site.system == "pbs" else []
    if environment.modules:
        lines.append("command -v module >/dev/null || source /etc/profile")
        lines.append(f"module load {shlex.join(environment.modules)} || exit 1")
    if environment.activate:
        lines.append(f"source {shlex.quote(str(environment.activate.absolute()))} || exit 1")
    if environment.scratch:
        lines += [f'export TMPDIR="{environment.scratch}"', 'mkdir -p "$TMPDIR" || exit 1']
    variables = {**worker_environment(threads), **environment.variables}
    lines += [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    return lines
