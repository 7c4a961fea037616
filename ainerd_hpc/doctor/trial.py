"""A job through the queue: what it finds on its node."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shlex
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ainerd_hpc import __version__
from ainerd_hpc.doctor.finding import Finding
from ainerd_hpc.doctor.node import ANSWER, ASKED, LOCK
from ainerd_hpc.errors import SubmissionError
from ainerd_hpc.publishing import write_json
from ainerd_hpc.site.site_file import Kind, NodesConfig, SiteConfig
from ainerd_hpc.submission.batch import ACTIVE, State, batch_system, call
from ainerd_hpc.submission.files import OWN_COMMAND, scripts, site_text
from ainerd_hpc.submission.record import last_error
from ainerd_hpc.submission.steps import Step

_WALLTIME, _LEAD = 180.0, 10.0
_MEMORY = 4 * 10**9
_PAUSES = (0.2, 2.0)
"""Seconds between looks for the answer, growing."""
_BETWEEN_QUESTIONS = 5.0
"""Seconds between questions to the batch system."""
_TO_END = 8.0
"""Seconds that a job which has answered, or is cancelled, may take to leave."""


class Jobs:
    """Those that were submitted, so that none is left behind."""

    def __init__(self, site: SiteConfig) -> None:
        self._system = batch_system(site.system)
        self._active, self._guard, self._is_closed = set[str](), threading.Lock(), False

    def submit(self, command: list[str], folder: Path) -> str:
        """The id of a new job.

        Raises
        ------
        SubmissionError
            The batch system refuses.
        """
        with self._guard:
            if self._is_closed:
                raise SubmissionError("nothing is submitted any more")
            output = call(command, folder)
            job = self._system.job_of(output)
            if not job:
                raise SubmissionError(f"{command[0]}: expected the id of a job, found {output.strip()!r}")
            self._active.add(job)
            return job

    def state(self, job: str) -> State:
        """DONE also where the batch system knows it no more; QUEUED where it does not answer."""
        try:
            states = self._system.ask([job])
        except SubmissionError:
            return State.QUEUED
        return next(iter(states.get(job, ())), State.DONE)

    def end(self, job: str) -> None:
        """Wait a little until it has left; cancel it where it does not."""
        deadline, pause = time.monotonic() + _TO_END, _PAUSES[0]
        while self.state(job) in ACTIVE:
            if time.monotonic() > deadline:
                self.cancel(job)
                break
            time.sleep(pause)
            pause = min(2 * pause, _PAUSES[1])
        self._active.discard(job)

    def cancel(self, job: str) -> None:
        """Whether it has ended or not."""
        with contextlib.suppress(SubmissionError):
            self._system.cancel([job])

    def close(self) -> None:
        """Cancel what is left, and submit nothing any more."""
        with self._guard:
            self._is_closed = True
            for job in list(self._active):
                self.cancel(job)


@dataclass(frozen=True, slots=True)
class Trial:
    """One job of a kind, with what it is asked to look at."""

    kind: Kind
    nodes: int
    is_first: bool
    """Whether it looks at what is the same for all kinds, too."""
    launcher: str
    """What starts the ranks of a training: torchrun, srun or mpiexec."""


def trials(site: SiteConfig, launcher: str, two_nodes: bool) -> list[Trial]:
    """One job on one node; one on two where the site runs over several, or on GPUs where it has them."""
    found = [Trial("single", 1, True, launcher)]
    kinds: tuple[Kind, ...] = ("ddp", "array")
    spread = [kind for kind in kinds if site.of(kind).nodes > 1]
    if two_nodes or spread:
        found.append(Trial(spread[0] if spread else "ddp", 2, False, launcher))
    elif site.of("ddp").gpus:
        found.append(Trial("ddp", 1, False, launcher))
    return found


def tried(trial: Trial, site: SiteConfig, folder: Path, jobs: Jobs, patience: float) -> Iterator[Finding]:
    """Submit the job, wait for its answer, and tell it.

    Parameters
    ----------
    folder : Path
        For its files; nodes have to see it.
    patience : float
        Seconds that it may take.
    """
    _prepare(trial, site, folder)
    name = f"{trial.kind} job"
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            job = jobs.submit(_command(trial, site), folder)
        except SubmissionError as error:
            yield Finding(name, "failed", str(error), f"correct {trial.kind} (or nodes) in the site file")
            return
        began, state = time.monotonic(), _answered(job, jobs, folder, patience)
        if state is None:
            seconds = f"{time.monotonic() - began:.1f} s after it was submitted"
            yield Finding(name, "ok", f"{job} ran on {_answer(folder)['host']}, and answered {seconds}")
        elif state in ACTIVE:
            yield _late(name, job, state, patience)
            jobs.cancel(job)
        else:
            yield _ended(name, job, folder)
        for one in _answer(folder)["findings"]:
            yield replace(Finding(**one), check=f"{one['check']}, {name}")
        jobs.end(job)


def _asking(trial: Trial, site: SiteConfig) -> NodesConfig:
    """What the job asks for: little, so that it begins soon."""
    given = site.of(trial.kind)
    cores = 2 if trial.nodes == 1 and not given.gpus else given.cores
    memory = min(given.memory, _MEMORY) if given.memory else None
    return given.model_copy(update={"nodes": trial.nodes, "cores": cores, "memory": memory, "walltime": _WALLTIME})


def _small(trial: Trial, site: SiteConfig) -> SiteConfig:
    """The site, with a small job of this kind that runs our part of the node."""
    node = shlex.join([*(site.environment.command or OWN_COMMAND), "doctor", "--node", "."])
    words = ("bash", "-c", f"exec {node}", "doctor")  # what the script adds for a run is left out
    environment = site.environment.model_copy(update={"command": words})
    own = {trial.kind: _asking(trial, site), "environment": environment, "lead": _LEAD, "restarts": 0}
    return site.model_copy(update=own)


def _prepare(trial: Trial, site: SiteConfig, folder: Path) -> None:
    """The files that a submission has: the scripts as they are, and what is special about the site."""
    (folder / "logs").mkdir(parents=True)
    for name, text in scripts(batch_system(site.system).SUFFIX).items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "site.sh").write_text(site_text(_small(trial, site)), encoding="utf-8")
    asked = {
        "version": __version__,
        "is_first": trial.is_first,
        "nodes": trial.nodes,
        "gpus": site.of(trial.kind).gpus,
        "launcher": trial.launcher,
        "interface": site.environment.interface,
        "spread": site.environment.spread,
    }
    write_json(folder / ASKED, asked)


def _command(trial: Trial, site: SiteConfig) -> list[str]:
    system = batch_system(site.system)
    step = Step("doctor", trial.kind, "report", "report")
    return [*system.command(step, _small(trial, site)), f"single.{system.SUFFIX}"]


def _answered(job: str, jobs: Jobs, folder: Path, patience: float) -> State | None:
    """None as soon as the answer is complete; else how the job stands when it has ended, or patience has."""
    began = asked = time.monotonic()
    pause, last, state = _PAUSES[0], False, State.QUEUED
    while time.monotonic() - began < patience:
        if _answer(folder)["is_complete"]:
            return None
        if last:
            return state
        if time.monotonic() - asked > _BETWEEN_QUESTIONS:
            asked, state = time.monotonic(), jobs.state(job)
            last = state not in ACTIVE
        time.sleep(pause)
        pause = min(1.5 * pause, _PAUSES[1])
    return jobs.state(job)


def _answer(folder: Path) -> dict[str, Any]:
    """What the job has told so far."""
    with contextlib.suppress(OSError):
        if any(path.name == ANSWER for path in folder.iterdir()):  # a listing is fresh where a file may be cached
            told: dict[str, Any] = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
            return told
    return {"host": "", "findings": [], "is_complete": False}


def _late(name: str, job: str, state: State, patience: float) -> Finding:
    step = "run doctor again when less is queued, or with a larger --wait"
    if state is State.RUNNING:
        return Finding(name, "warning", f"{job} began, and was not ready after {patience:.0f} s; cancelled", step)
    return Finding(name, "warning", f"{job} is still queued after {patience:.0f} s; cancelled", step)


def _ended(name: str, job: str, folder: Path) -> Finding:
    logs = sorted((folder / "logs").glob("doctor.*.log"))
    if not logs:
        found = f"{job} ended and left no log in {folder}"
        return Finding(name, "failed", found, "put the archive where the nodes see it, by the same path")
    step = "correct environment in the site file: modules, activate, command, launcher, scratch"
    return Finding(name, "failed", f"{job} ended without an answer: {last_error(logs[-1])}", step)
