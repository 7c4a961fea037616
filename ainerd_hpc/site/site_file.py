"""The site file: all that is special about one machine and its batch system, typed and checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, ByteSize, Field, PositiveInt, ValidationInfo, field_validator

from ainerd_hpc.config import Duration, Section, UserPath, parse_duration
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.loading import load_as

Kind = Literal["array", "ddp", "single"]
"""Kind of a job: a stage (or a share of it) on the workers of a node; training; one process on one fat node."""
KINDS: tuple[Kind, ...] = get_args(Kind)


def _parse_walltime(value: object) -> float:
    """Seconds from HH:MM:SS, MM:SS, or what a duration may be."""
    match = re.fullmatch(r"\s*(?:(\d+):)?(\d+):(\d\d)\s*", str(value))
    if not match:
        return parse_duration(value)
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


Walltime = Annotated[float, BeforeValidator(_parse_walltime), Field(ge=60)]
Word = Annotated[str, Field(pattern=r"^[^\s,'\"\\]*$")]
"""Goes on a command line: no spaces, commas, quotes or backslashes."""


class NodesConfig(Section):
    """What a job asks for."""

    queue: Word = ""
    """Partition of SLURM, queue of PBS. Default: that of the batch system."""
    account: Word = ""
    """Project that is charged."""
    qos: Word = ""
    """Quality of service, SLURM only."""
    constraint: Word = ""
    """SLURM: feature of the node (--constraint); PBS: added to the chunk of `select`, e.g. `system=polaris`."""
    nodes: PositiveInt = 1
    """Nodes of a job, each with the cores, memory and GPUs below; above 1 only for ddp, and for array with
    executor.kind: allocation."""
    cores: PositiveInt | None = None
    """Cores of a node. On them run cores / executor.threads worker processes. Default: what the batch system gives."""
    memory: ByteSize | None = None
    """Memory of a node, shared by its workers. Default: what the batch system gives."""
    memory_per_cpu: bool = False
    """Ask for it by core (--mem-per-cpu), where a site refuses --mem; SLURM only."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs of a node."""
    walltime: Walltime = 3600
    """HH:MM:SS, or a duration such as 2 h."""
    options: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """More words for the command line of sbatch or qsub, as they are: [--exclusive], [-l, place=scatter:excl]."""


class ArrayConfig(NodesConfig):
    """Stages of independent tasks: simulate, ingest, correlate, maps, embed."""

    jobs: PositiveInt = 1
    """Most jobs (elements of a job array) that share a stage; 1: no array, one job does the stage."""
    at_once: PositiveInt | None = None
    """Most of them that run at a time, SLURM only. Default: as many as there is room for."""


class DdpConfig(NodesConfig):
    """Training."""

    ranks: PositiveInt | None = None
    """Ranks on each node, usually its GPUs. Default: train.devices of the config."""
    launcher: Literal["torchrun", "srun", "mpiexec"] | None = None
    """What starts them. Default: train.launcher of the config."""


class EnvironmentConfig(Section):
    """What a job finds on its node."""

    modules: tuple[Word, ...] = ()
    """Loaded with `module load`."""
    activate: UserPath | None = None
    """Script that is sourced then, e.g. /path/venv/bin/activate."""
    variables: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], str] = Field(default={})
    """Environment variables, set then."""
    command: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """The program. Default: the ainerd-hpc that submits, by its full path, which the nodes have to see too."""
    launcher: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """What starts the program on the node, e.g. [srun, --ntasks=1]. Default: the script itself."""
    spread: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """What starts {ranks} processes on {nodes} nodes, {per_node} on each, with {cores} cores each. Default: srun or
    mpiexec."""
    scratch: Annotated[str, Field(pattern=r"^[\w./${}-]*$")] = ""
    """Folder on a fast disk of the node, for temporary files; $VARIABLES of the node are filled in."""
    interface: Word = ""
    """Network interface between nodes: ranks of a training, Dask workers, e.g. hsn0."""


class SiteConfig(Section):
    """One machine."""

    system: Literal["slurm", "pbs"]
    """The batch system."""
    ask_above: Annotated[float, Field(ge=0)] = 100.0
    """Node-hours above which `submit` asks first."""
    lead: Duration = 300.0
    """A job is ended in order this long before its walltime, and goes on in another one."""
    restarts: Annotated[int, Field(ge=0)] = 10
    """How often a job may go on in another one before it is given up."""
    most_jobs: PositiveInt | None = None
    """Jobs that a user may have in the queue, elements of arrays each for itself (SLURM: MaxSubmitJobs of a QOS; PBS:
    max_queued). The stages of a line are divided into fewer, larger shares until it fits. Default: no limit."""
    nodes: NodesConfig = NodesConfig()
    """What every job asks for, where its kind below does not say otherwise."""
    array: ArrayConfig = ArrayConfig()
    ddp: DdpConfig = DdpConfig()
    single: NodesConfig = NodesConfig()
    """Clusters, report: one process."""
    environment: EnvironmentConfig = EnvironmentConfig()

    def of(self, kind: Kind) -> NodesConfig:
        """What jobs of a kind ask for, with what `nodes` says filled in."""
        own: NodesConfig = getattr(self, kind)
        return type(own).model_validate({**_given(self.nodes), **_given(own)})

    def asked(self, kind: Kind) -> str:
        """What the file says of jobs of a kind, each with its key: `nodes.queue batch`, or `array.queue batch`."""
        found = dict[str, str]()
        for name in ("nodes", kind):
            section = getattr(self, name)
            found |= {key: f"{name}.{key} {_text(getattr(section, key))}" for key in sorted(section.model_fields_set)}
        return ", ".join(found.values()) or "nothing"

    @field_validator("array", "ddp", "single", "nodes")
    @classmethod
    def _fits_the_system(cls, value: NodesConfig, info: ValidationInfo) -> NodesConfig:
        slurm_only = {name for name in ("qos", "at_once", "memory_per_cpu") if getattr(value, name, None)}
        if slurm_only and info.data.get("system") == "pbs":
            raise ValueError(f"expected no {', '.join(sorted(slurm_only))}: PBS has none")
        return value


def _text(value: object) -> str:
    """A value as in a site file."""
    if isinstance(value, ByteSize):
        return value.human_readable(decimal=True)
    if isinstance(value, float):
        return clock(value)
    return " ".join(value) if isinstance(value, tuple) else str(value)


def _given(section: Section) -> dict[str, object]:
    return section.model_dump(exclude_unset=True)


def load_site(path: Path) -> SiteConfig:
    """Read a site file.

    Raises
    ------
    ConfigError
        Naming the file, line, key and the nearest key that exists.
    """
    site = load_as(SiteConfig, path)
    for kind in KINDS:
        nodes = site.of(kind)
        if nodes.walltime <= site.lead:
            found = f"{nodes.walltime:.0f} s, the lead is {site.lead:.0f} s"
            raise ConfigError(f"{path}: {kind}.walltime: expected more than the lead, found {found}; raise it")
        if nodes.memory and not nodes.cores:
            raise ConfigError(f"{path}: {kind}.memory: expected {kind}.cores with it, found none; give both")
    return site


def memory_option(nodes: NodesConfig, num_bytes: int) -> dict[str, str]:
    """The option of sbatch that asks for the memory of a job on one node, with its value; none for 0 bytes."""
    if not num_bytes:
        return {}
    if nodes.memory_per_cpu:
        return {"mem-per-cpu": f"{num_bytes // (nodes.cores or 1) // 2**20}M"}
    return {"mem": f"{num_bytes // 2**20}M"}


def clock(seconds: float) -> str:
    """HH:MM:SS of a walltime, as batch systems read it."""
    whole = round(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
