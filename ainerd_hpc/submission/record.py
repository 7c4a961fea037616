"""One submission, kept with the archive in `jobs/<date>/`: its jobs, their scripts, configs and logs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ainerd_hpc import __version__
from ainerd_hpc.archive.json_lines import json_lines
from ainerd_hpc.publishing import write_text
from ainerd_hpc.submission.steps import Step

_TAIL = 4096
"""Bytes at the end of a log that are read."""
_END = re.compile(r"^ainerd-hpc job \S+: exit (\d+)", re.MULTILINE)
"""What env.sh prints last."""


@dataclass(frozen=True, slots=True)
class Job:
    """A step that was submitted."""

    id: str
    """Its name in the batch system."""
    step: Step
    command: tuple[str, ...]
    """The command line, without its dependency and its script."""
    time: float
    """s since the epoch."""

    @property
    def number(self) -> str:
        """The digits of the id, which name its logs."""
        return re.sub(r"\D.*", "", self.id)


class Submission:
    """The folder of one submission, and what its `jobs.jsonl` says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries = list(json_lines(folder / "jobs.jsonl"))

    @classmethod
    def create(cls, folder: Path, system: str, restarts: int, texts: Mapping[str, str]) -> Submission:
        """One without jobs yet, with its files by name."""
        (folder / "logs").mkdir(parents=True)
        for file_name, text in texts.items():
            write_text(folder / file_name, text)
        created = cls(folder)
        user = os.environ.get("USER") or str(os.getuid())
        created.note("begun", system=system, restarts=restarts, user=user, version=__version__)
        return created

    @classmethod
    @contextlib.contextmanager
    def locked(cls, folder: Path) -> Iterator[Submission]:
        """The submission as it stands, while no other process changes it: several of its jobs may want to at once."""
        with (folder / "jobs.jsonl").open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield cls(folder)

    def note(self, event: str, **facts: Any) -> None:
        """Append one line."""
        entry = {"event": event, "time": round(time.time(), 3), **facts}
        with (self.folder / "jobs.jsonl").open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(entry)}\n")
            file.flush()
            os.fsync(file.fileno())
        self._entries.append(entry)

    def note_job(self, job: str, step: Step, command: Sequence[str]) -> None:
        """Append the line of a step that was submitted."""
        self.note("submitted", job=job, step=asdict(step), command=list(command))

    @property
    def system(self) -> str:
        """Name of the batch system."""
        return str(self._first("system", "slurm"))

    @property
    def restarts(self) -> int:
        """How often a step may go on in another job."""
        return int(self._first("restarts", 0))

    def _first(self, key: str, default: object) -> Any:
        return next((entry[key] for entry in self._entries if key in entry), default)

    @property
    def all_jobs(self) -> list[Job]:
        """Every job, also those in whose place another one goes on."""
        return [
            Job(entry["job"], Step(**entry["step"]), tuple(entry["command"]), entry["time"])
            for entry in self._entries
            if entry["event"] == "submitted"
        ]

    @property
    def jobs(self) -> list[Job]:
        """The last job of each step, in the order of the line."""
        return list({job.step.name: job for job in self.all_jobs}.values())

    @property
    def cancelled(self) -> frozenset[str]:
        """Ids of the jobs that were cancelled by `cancel`, or because the line was not submitted whole."""
        return frozenset(job for entry in self._entries if entry["event"] == "cancelled" for job in entry["jobs"])

    @property
    def without_taken_back(self) -> list[Job]:
        """Every job, except those that were cancelled because one behind them was refused."""
        taken_back = {job for entry in self._entries if entry.get("is_taken_back") for job in entry["jobs"]}
        return [job for job in self.all_jobs if job.id not in taken_back]

    def logs(self, job: Job) -> list[Path]:
        """Logs of the elements of a job that have begun."""
        index = "_*" if job.step.num_shares else ""
        return sorted((self.folder / "logs").glob(f"{job.step.name}.{job.number}{index}.log"))


def new_folder(root: Path) -> Path:
    """The folder of the next submission of an archive, `jobs/<date>`."""
    name = f"{datetime.now():%Y%m%dT%H%M%S}"
    taken = len(list((root / "jobs").glob(f"{name}*")))
    return root / "jobs" / (f"{name}-{taken + 1}" if taken else name)


def last_submission(root: Path) -> Submission | None:
    """The newest submission of an archive."""
    folders = sorted(path.parent for path in (root / "jobs").glob("*/jobs.jsonl"))
    return Submission(folders[-1]) if folders else None


def exit_code(log: Path) -> int | None:
    """Exit code of the job that wrote this log; None while it is at work, or where it was killed."""
    codes = _END.findall(_tail(log))
    return int(codes[-1]) if codes else None


def last_error(log: Path) -> str:
    """What `ainerd-hpc` said last in a log, else its last line."""
    lines = [line.strip() for line in _tail(log).splitlines() if line.strip() and not _END.match(line)]
    own = [line for line in lines if line.startswith("ainerd-hpc: ")]
    return (own or lines or ["nothing in its log"])[-1].removeprefix("ainerd-hpc: ")


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return file.read().decode(errors="replace")
