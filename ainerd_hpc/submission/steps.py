"""Stages -> steps: what each job does, on what, and with which config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from ainerd_hpc.config import RunConfig
from ainerd_hpc.site import DdpConfig, Kind, NodesConfig, SiteConfig
from ainerd_hpc.types import Plan, Shape

RESUME = "resume"
"""Name of the step that finishes what is done already."""
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
    needs_success: bool = True
    """Whether the step before has to end well. What finishes a stage starts in any case: it does what is left."""

    @property
    def num_jobs(self) -> int:
        return max(1, self.num_shares)


def steps(plans: Sequence[Plan], site: SiteConfig) -> list[Step]:
    """The steps of a line of stages, each to begin after the one before; none where there is nothing to do."""
    done = [planned.stage for planned in takewhile(lambda planned: not planned.tasks, plans)]
    if len(done) == len(plans) and done[-1] == "report":
        return []
    line = [Step(RESUME, "single", done[0], done[-1])] if done else []
    for planned in plans[len(done) :]:
        line += _steps_of(planned, site)
    return line


def kind_of(planned: Plan) -> Kind:
    """Of the jobs of a stage."""
    return _KINDS[planned.shape]


def _steps_of(planned: Plan, site: SiteConfig) -> list[Step]:
    stage, kind = planned.stage, kind_of(planned)
    num_shares = min(site.array.jobs, len(planned.tasks)) if kind == "array" else 0
    if num_shares < 2:
        return [Step(stage, kind, stage, stage)]
    shared = Step(stage, kind, stage, stage, num_shares)
    return [shared, Step(f"{stage}-end", kind, stage, stage, needs_success=False)]


def node_hours(line: Sequence[Step], site: SiteConfig) -> float:
    """What the steps take at most, if none goes on in another job."""
    return sum(step.num_jobs * site.of(step.kind).walltime for step in line) / 3600


def config_of(kind: Kind, config: RunConfig, site: SiteConfig) -> RunConfig:
    """The config of jobs of a kind: its paths absolute, workers and memory those of the job."""
    train = config.train.model_copy(update=_training(config, site))
    executor = config.executor.model_copy(update=_executor(kind, config, site.of(kind)))
    absolute = RunConfig.model_validate(_absolute(config.model_dump()))
    return absolute.model_copy(update={"executor": executor, "train": train})


def _training(config: RunConfig, site: SiteConfig) -> dict[str, Any]:
    """Of `train`, where it runs."""
    ddp, train = site.of("ddp"), config.train
    assert isinstance(ddp, DdpConfig)
    ranks, launcher = ddp.ranks or train.devices, ddp.launcher or train.launcher
    return {"devices": ranks, "nodes": ddp.nodes, "launcher": launcher, "spread": site.environment.spread}


def _executor(kind: Kind, config: RunConfig, nodes: NodesConfig) -> dict[str, int]:
    """Of `executor`, what follows from the cores and the memory of a job."""
    if kind == "array" and nodes.cores is None:
        return {}
    is_spread = kind == "array" and config.executor.kind == "local"
    num_workers = max(1, (nodes.cores or 1) // config.executor.threads) if is_spread else 1
    memory = {"memory": int(_OF_MEMORY * nodes.memory / num_workers)} if nodes.memory else {}
    return {"workers": num_workers, **memory}


def _absolute(value: Any) -> Any:
    """The same, with every path made absolute: jobs start in other folders."""
    if isinstance(value, Path):
        return value.absolute()
    if isinstance(value, dict):
        return {key: _absolute(one) for key, one in value.items()}
    return tuple(map(_absolute, value)) if isinstance(value, tuple) else value
