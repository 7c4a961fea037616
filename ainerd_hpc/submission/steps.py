"""Stages -> steps: what each job does, on what, and with which config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

from ainerd_hpc.config import ExecutorConfig, RunConfig
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.loading import absolute
from ainerd_hpc.site.site_file import KINDS, DdpConfig, Kind, SiteConfig
from ainerd_hpc.types import Plan, Shape

RESUME = "resume"
"""Name of the step that finishes what is done already."""
SITE_FILE = "site.yaml"
"""Name of the site file in the folder of a submission, for jobs that start others."""
_KINDS: dict[Shape, Kind] = {Shape.ARRAY: "array", Shape.DDP: "ddp", Shape.SINGLE: "single"}
_OF_MEMORY = 0.9
"""Share of a job's memory that its tasks may use: the rest is for the process that hands them out."""


@dataclass(frozen=True, slots=True)
class Step:
    """One job, or one job array."""

    name: str
    """Unique in a submission, 15 characters at most (older PBS)."""
    kind: Kind
    first: str
    """Its first stage."""
    until: str
    """Its last stage."""
    num_shares: int = 0
    """Elements of the job array, each a share of the stage's tasks; 0: one job, which also finishes the stage."""
    shares_before: int = 0
    """Shares in arrays before this one, where the batch system has none that is long enough."""
    all_shares: int = 0
    """Shares of the stage, in all of its arrays; 0: those of this one."""
    needs_success: bool = True
    """Whether the step before has to end well. What finishes a stage starts in any case: it does what is left."""
    config: Kind | None = None
    """Kind of jobs whose config it takes; None: its own."""
    worker_jobs: int = 0
    """Jobs of the kind `array` that it submits itself at a time, at most: those of its Dask workers."""

    @property
    def num_jobs(self) -> int:
        return max(1, self.num_shares)


def check_nodes(config: RunConfig, site: SiteConfig) -> None:
    """Refuse jobs of several nodes for what runs on one.

    Raises
    ------
    ConfigError
        Naming the key of the site file.
    """
    for kind in KINDS:
        is_spread = kind == "ddp" or (kind == "array" and config.executor.kind == "allocation")
        if (found := site.of(kind).nodes) > 1 and not is_spread:
            with_it = " without executor.kind: allocation" if kind == "array" else ""
            raise ConfigError(f"site file: {kind}.nodes: expected 1{with_it}, found {found}; give {kind}.nodes: 1")


def steps(
    plans: Sequence[Plan], site: SiteConfig, executor: ExecutorConfig, largest_array: int | None = None
) -> list[Step]:
    """The steps of a line of stages, each to begin after the one before; none where there is nothing to do.

    Parameters
    ----------
    largest_array : int or None
        Elements that the batch system lets an array have; None: any number. A stage with more shares has several
        arrays, one after the other.

    Raises
    ------
    ConfigError
        The line has more jobs than the site takes, however few shares its stages have.
    """
    for num_jobs in range(site.array.jobs, 0, -1):
        line = _line(plans, executor, num_jobs, largest_array or num_jobs)
        if site.most_jobs is None or _jobs_queued(line, site) <= site.most_jobs:
            return line
    expected = f"{_jobs_queued(line, site)} or more for these stages"
    raise ConfigError(f"site file: most_jobs: expected {expected}, found {site.most_jobs}; submit fewer with --until")


def _jobs_queued(line: Sequence[Step], site: SiteConfig) -> int:
    """Jobs that are in the queue at a time, at most: in PBS an array goes on in a new one before it has left."""
    again = max((step.num_shares for step in line), default=0) if site.system == "pbs" else 0
    return sum(step.num_jobs for step in line) + again


def _line(plans: Sequence[Plan], executor: ExecutorConfig, num_jobs: int, largest_array: int) -> list[Step]:
    done = [planned.stage for planned in takewhile(lambda planned: not planned.tasks, plans)]
    if len(done) == len(plans) and done[-1] == "report":
        return []
    line = [Step(RESUME, "single", done[0], done[-1])] if done else []
    for planned in plans[len(done) :]:
        line += _steps_of(planned, executor, num_jobs, largest_array)
    return line


def kind_of(planned: Plan) -> Kind:
    """Kind of the jobs of a stage."""
    return _KINDS[planned.shape]


def _steps_of(planned: Plan, executor: ExecutorConfig, num_jobs: int, largest_array: int) -> list[Step]:
    stage, kind = planned.stage, kind_of(planned)
    if kind == "array" and executor.kind in ("elastic", "scheduler"):  # its workers are elsewhere
        worker_jobs = num_jobs if executor.kind == "elastic" else 0
        return [Step(stage, "single", stage, stage, config="array", worker_jobs=worker_jobs)]
    num_shares = min(num_jobs, len(planned.tasks)) if kind == "array" else 0
    if min(num_shares, largest_array) < 2 or executor.kind == "allocation":
        return [Step(stage, kind, stage, stage)]
    return [
        *_arrays(stage, kind, num_shares, largest_array),
        Step(f"{stage}-end", kind, stage, stage, needs_success=False),
    ]


def _arrays(stage: str, kind: Kind, num_shares: int, largest: int) -> Iterator[Step]:
    """The arrays of a stage, of nearly equal lengths; each begins whatever became of the shares before."""
    num_arrays = -(-num_shares // largest)
    bounds = [number * num_shares // num_arrays for number in range(num_arrays + 1)]
    for number, (start, stop) in enumerate(pairwise(bounds), start=1):
        name = stage if number == 1 else f"{stage}-{number}"
        yield Step(name, kind, stage, stage, stop - start, start, num_shares, needs_success=number == 1)


def node_hours(line: Sequence[Step], site: SiteConfig) -> float:
    """What the steps take at most, if none goes on in another job."""
    return sum(hours_of(step, site) for step in line)


def hours_of(step: Step, site: SiteConfig) -> float:
    """Node-hours of one step, with those of the jobs that it submits itself."""
    nodes = step.num_jobs * site.of(step.kind).nodes + step.worker_jobs
    return nodes * site.of(step.kind).walltime / 3600


def config_of(kind: Kind, config: RunConfig, site: SiteConfig, folder: Path | None = None) -> RunConfig:
    """The config of jobs of a kind: its paths absolute, workers and memory those of the job.

    Parameters
    ----------
    folder : Path, optional
        Of the submission, where the site file will lie, for jobs that start others.
    """
    train = config.train.model_copy(update=_training(config, site))
    executor = config.executor.model_copy(update=_executor(kind, config.executor, site))
    if folder and executor.kind in ("elastic", "allocation"):
        executor = executor.model_copy(update={"site": folder.absolute() / SITE_FILE})
    resolved = RunConfig.model_validate(absolute(config.model_dump()))
    return resolved.model_copy(update={"executor": executor, "train": train})


def _training(config: RunConfig, site: SiteConfig) -> dict[str, Any]:
    """Keys of `train` that say where it runs."""
    ddp, train = site.of("ddp"), config.train
    assert isinstance(ddp, DdpConfig)
    ranks, launcher = ddp.ranks or train.devices, ddp.launcher or train.launcher
    return {"devices": ranks, "nodes": ddp.nodes, "launcher": launcher, "spread": site.environment.spread}


def _executor(kind: Kind, executor: ExecutorConfig, site: SiteConfig) -> dict[str, Any]:
    """Keys of `executor` that follow from the cores and the memory of a job."""
    nodes = site.of(kind)
    if kind != "array":  # one process
        return {"kind": "inline", "workers": 1, **_memory(nodes.memory, 1)}
    if executor.kind in ("elastic", "scheduler"):
        return {}
    spread = {"spread": site.environment.spread} if executor.kind == "allocation" else {}
    if nodes.cores is None:
        return spread
    num_workers = 1 if executor.kind == "inline" else max(1, nodes.cores // executor.threads)
    return {"workers": num_workers, **_memory(nodes.memory, num_workers), **spread}


def _memory(of_node: int | None, num_workers: int) -> dict[str, int]:
    return {"memory": int(_OF_MEMORY * of_node / num_workers)} if of_node else {}
