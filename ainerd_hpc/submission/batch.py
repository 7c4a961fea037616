"""What is asked of a batch system, and how it is called."""

from __future__ import annotations

import importlib
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Protocol, cast

from ainerd_hpc.errors import SubmissionError
from ainerd_hpc.site.allocation import outside_environment
from ainerd_hpc.site.site_file import SiteConfig
from ainerd_hpc.submission.steps import Step

_PATIENCE = 120.0
"""Seconds that a batch system may take to answer."""


class State(Enum):
    """State of a job, or of one element of a job array."""

    WAITING = "waiting"
    """It waits for a job before it."""
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = frozenset({State.WAITING, State.QUEUED, State.RUNNING})
States = Mapping[str, Counter[State]]
"""How many elements of each job (by its id) are in each state; jobs that are not known any more are left out."""


class BatchSystem(Protocol):
    """One kind of batch system: a module."""

    SUFFIX: str
    """Suffix of its scripts."""
    HOLD: str
    """Option that keeps a job from beginning until it is released."""

    def command(self, step: Step, site: SiteConfig) -> list[str]:
        """The command line that submits a step, without its dependency and its script."""

    def dependency(self, job: str, needs_success: bool) -> list[str]:
        """Options that let a job begin after another one."""

    def job_of(self, output: str) -> str:
        """The id of the job, from what the command printed; empty where there is none."""

    def ask(self, jobs: Sequence[str]) -> States:
        """How these jobs stand, by one question.

        Raises
        ------
        SubmissionError
            The batch system cannot be reached.
        """

    def largest_array(self) -> int | None:
        """Elements that an array may have, as the batch system says; None where it does not."""

    def release(self, job: str) -> list[str]:
        """The command line that lets a job begin that was held."""

    def cancel(self, jobs: Sequence[str]) -> None:
        """Cancel jobs in this order; one that has ended meanwhile is no error.

        Raises
        ------
        SubmissionError
            One of them cannot be cancelled; the others are.
        """


def batch_system(name: str) -> BatchSystem:
    """`slurm` or `pbs`."""
    return cast(BatchSystem, importlib.import_module(f"ainerd_hpc.submission.{name}"))


def call(command: Sequence[str], folder: Path | None = None, accept: Sequence[int] = (0,)) -> str:
    """What a command of the batch system prints.

    It does not see the variables of a job from inside which it may be called: those would change what it asks for.

    Raises
    ------
    SubmissionError
        With its message, in one line.
    """
    environment = outside_environment()
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, cwd=folder, env=environment, check=False
        )
    except FileNotFoundError:
        found = f"{command[0]}: no such command here; run this where the batch system can be reached"
        raise SubmissionError(found) from None
    except subprocess.TimeoutExpired:
        raise SubmissionError(f"{command[0]}: no answer in {_PATIENCE:.0f} s; try again later") from None
    if result.returncode not in accept:
        message = " ".join((result.stderr.strip() or result.stdout.strip() or "no message").split())
        raise SubmissionError(f"{command[0]} refused (exit {result.returncode}): {message}")
    return result.stdout


def variables(step: Step, **more: str) -> str:
    """What a job is told, for --export and -v: words without spaces, commas or quotes."""
    told = {
        "JOBS": ".",
        "STEP": step.name,
        "STAGE": step.first,
        "UNTIL": step.until,
        "CONFIG": f"{step.config or step.kind}.yaml",
    }
    told |= {"SHARES": str(step.all_shares or step.num_shares)} if step.num_shares else {}
    told |= {"SHARES_BEFORE": str(step.shares_before)} if step.shares_before else {}
    return ",".join(f"AINERD_{key}={value}" for key, value in {**told, **more}.items())
