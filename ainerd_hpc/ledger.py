"""What is done and what is in quarantine: append-only files, no server, no database.

Every process appends to a journal of its own (`journal/<host>-<pid>.jsonl`): a line when it begins a task, one when
the product is published. Reading folds all of them. A task is done when its product exists and the digest recorded for
it is the one that inputs, config and kernel version give today. The journal saves opening a million products: where all
its lines on a product agree, it is believed; else the product's own record counts. What fails where several processes
share a stage waits in `journal/failed/` for the run that finishes the stage.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from ainerd_hpc.archive import recorded_digest
from ainerd_hpc.publishing import write_text
from ainerd_hpc.types import Problem


class Ledger:
    """The journal and the quarantine of one archive, as they were when it was opened.

    Parameters
    ----------
    root : Path
        Folder of the archive.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._journal = _fold(root / "journal")
        paths = [self.quarantine_path, *self._failures("*")]
        self._problems = {(p.stage, p.scan_id): p for path in paths for p in _read_problems(path)}

    @property
    def quarantine_path(self) -> Path:
        return self._root / "quarantine.jsonl"

    @property
    def problems(self) -> list[Problem]:
        """Everything in quarantine, ordered by scan and stage."""
        return sorted(self._problems.values(), key=lambda p: (p.scan_id, p.stage))

    def is_done(self, stage: str, key: str, digest: str, product: Path) -> bool:
        """Whether the product exists and is current."""
        if not product.exists():
            return False
        return (self._journal.get((stage, key)) or recorded_digest(product)) == digest

    def find_problem(self, stage: str, scan_id: str, digest: str) -> Problem | None:
        """Why the task failed before, on the same input with the same config; None when it did not."""
        problem = self._problems.get((stage, scan_id))
        return problem if problem is not None and problem.digest == digest else None

    def quarantine(self, stage: str, problems: Iterable[Problem]) -> None:
        """Replace the problems of one stage, and publish quarantine.jsonl; only for a run that holds the lock."""
        kept = {key: problem for key, problem in self._problems.items() if key[0] != stage}
        self._problems = kept | {(problem.stage, problem.scan_id): problem for problem in problems}
        write_text(self.quarantine_path, _as_lines(self.problems))
        for path in self._failures(stage):
            path.unlink(missing_ok=True)

    def note_failures(self, stage: str, problems: Sequence[Problem]) -> None:
        """Note what failed in a share of a stage, in a file of this process, until a run puts it into quarantine."""
        folder = self._root / "journal" / "failed"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{stage}.{socket.gethostname()}-{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
            file.write(_as_lines(problems))

    def _failures(self, stage: str) -> list[Path]:
        return sorted((self._root / "journal" / "failed").glob(f"{stage}.*.jsonl"))

    def forget(self, stages: Collection[str]) -> None:
        """Take what these stages put in quarantine up again."""
        self._problems = {key: problem for key, problem in self._problems.items() if key[0] not in stages}


def record(root: Path, event: Literal["begun", "done"], stage: str, key: str, digest: str, **figures: Any) -> None:
    """Append one line to this process's journal: a task has begun, or its product is published."""
    folder = root / "journal"
    folder.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"event": event, "stage": stage, "key": key, "digest": digest, "time": time.time(), **figures})
    with (folder / f"{socket.gethostname()}-{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def pace(root: Path, stage: str, since: float) -> float:
    """Tasks of a stage that were finished per second, by all processes together; 0 where none was.

    Parameters
    ----------
    since : float
        Seconds since the epoch; what was finished before does not count, nor does the time before the first task.
    """
    files = [path for path in (root / "journal").glob("*.jsonl") if path.stat().st_mtime >= since]
    entries = (entry for path in files for entry in json_lines(path) if entry.get("stage") == stage)
    times = [(entry["time"], entry["event"]) for entry in entries if entry.get("time", 0) >= since]
    done = [when for when, event in times if event == "done"]
    return len(done) / max(1e-3, max(done) - min(times)[0]) if done else 0.0


def _fold(folder: Path) -> dict[tuple[str, str], str]:
    """The digest of each product on which all lines agree, by (stage, key).

    Where a task was begun for another digest too, the lines do not tell which product was published last: clocks of
    hosts differ, and a kill may have come between the product and its line.
    """
    begun: dict[tuple[str, str], set[str]] = {}
    done: dict[tuple[str, str], str] = {}
    for path in folder.glob("*.jsonl"):
        for entry in json_lines(path):
            if not entry.keys() >= {"event", "stage", "key", "digest"}:
                continue  # of another version
            key = (entry["stage"], entry["key"])
            begun.setdefault(key, set()).add(entry["digest"])
            if entry["event"] == "done":
                done[key] = entry["digest"]
    return {key: digest for key, digest in done.items() if len(begun[key]) == 1}


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a JSON-lines file; a last line torn by a kill is left out."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def _as_lines(problems: Iterable[Problem]) -> str:
    return "".join(f"{json.dumps(asdict(problem), sort_keys=True)}\n" for problem in problems)


def _read_problems(path: Path) -> list[Problem]:
    return [Problem(**entry) for entry in json_lines(path)]
