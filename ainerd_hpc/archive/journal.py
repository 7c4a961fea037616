"""What is done and what is in quarantine: append-only files, no server, no database.

Every process appends to a journal of its own, `journal/<host>-<pid>.jsonl`, which is also its log. A line is a JSON
object with an `event` and the `time` (s since the epoch, by the clock of that host):

- `started`: the process works for a run from here on: run, role (client or worker), host, pid, job, nodes, versions...
- `begun`: it begins a task (stage, key, digest), queued then
- `done`: the product of the task is published: queued, predicted_seconds, seconds, bytes_written, and what the process
  used
- `failed`: the task ended with an error: its reason, and what the process used
- `interrupted`: the task was ended in order, in the middle; or a run forgives what is open
- `published`: a file without a checksum of its own (a table, weights, the page) has this one (path, sha256)
- `lost`: the client gave up waiting for the task, since processes that ran it ended again and again

What the process used: began, ended (s since the epoch by the clock of the worker's host; queued is by that of the
client's), cpu_seconds (of all its threads and ended children), bytes_read (truly, from the disk or its cache; where the
system does not tell, as planned), peak_before_bytes and peak_bytes (of the process since it started, before the task
and after). Lines of earlier versions lack some of these.

`done`, `failed` and `interrupted` each end one `begun` of the same task; a `begun` that nothing ends is of a process
that was killed (or is at work), and `lost` does not change that. A task to which it happens again and again is set
aside.

Reading folds all journals. A task is done when its product exists and the digest recorded for it is the one that
inputs, config and kernel version give today. The journal saves opening a million products: where all its lines on a
product agree, it is believed, as long as the product has the size that it tells; else the product's own record counts.
A line that is damaged is passed over, and counted. What fails where several processes share a stage
waits in `journal/failed/` for the run that finishes the stage.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.archive.json_lines import json_lines, with_damaged
from ainerd_hpc.archive.layout import recorded_digest
from ainerd_hpc.digests import sha256
from ainerd_hpc.publishing import write_text
from ainerd_hpc.site.allocation import find_allocation
from ainerd_hpc.types import Problem, Task
from ainerd_hpc.versions import versions

if TYPE_CHECKING:
    from ainerd_hpc.archive.folding import Fold

_MOST_KILLS = 3
"""How often the process of a task may be killed until the task is taken for the cause."""
DAMAGED_LINES = "{} lines of the journal are damaged and passed over; the products themselves tell what these said"
_SAID = {
    **dict.fromkeys(("begun", "failed", "interrupted", "done", "lost"), ("stage", "key", "digest")),
    "started": ("host",),
    "published": ("path", "sha256"),
}
"""What entries have to say, by their event."""
_at_work: dict[Path, tuple[int, str]] = {}
"""This process and the run that it works for, for each archive."""


class Journal:
    """The journal and the quarantine of one archive, as they were when it was opened.

    Parameters
    ----------
    root : Path
        Folder of the archive.
    scan_ids : collection of str, optional
        Scans whose tasks are asked for. Default: all.

    Attributes
    ----------
    num_damaged : int
        Lines that say nothing any more, and are passed over.
    """

    def __init__(self, root: Path, scan_ids: Collection[str] | None = None) -> None:
        self._root = root
        self._fold, self._forgotten = _fold(root, scan_ids), frozenset[str]()
        paths = [path for path in (self.quarantine_path, *self._failures("*")) if path.exists()]
        damaged = (entry is None for path in paths for entry in with_damaged(path.read_bytes()))
        self.num_damaged = self._fold.num_damaged + sum(damaged)
        self._problems = {(p.stage, p.scan_id): p for path in paths for p in _read_problems(path)}

    @property
    def quarantine_path(self) -> Path:
        return self._root / "quarantine.jsonl"

    @property
    def problems(self) -> list[Problem]:
        """Everything in quarantine, ordered by scan and stage."""
        return sorted(self._problems.values(), key=lambda p: (p.scan_id, p.stage))

    def is_done(self, stage: str, key: str, digest: str, product: Path) -> bool:
        """Whether the product exists, is as large as when it was published, and is current."""
        if not (size := _size(str(product))):
            return False
        if self.digest_of(stage, key):
            told = int(self._fold.of(stage).sizes_of(np.array([key]), np.array([digest]))[0])
            return told in (-1, size)
        return recorded_digest(product) == digest

    def are_done(
        self, stage: str, keys: NDArray[Any], digests: NDArray[Any], paths: tuple[str, str]
    ) -> NDArray[np.bool_]:
        """Whether all lines agree on products with these digests, and each is as large as they say, (n,).

        Parameters
        ----------
        keys : (n,) texts
        digests : (n,) texts
        paths : (str, str)
            What stands before and after the key of a product in its path.
        """
        told = self._fold.of(stage).sizes_of(keys, digests)
        is_done = np.asarray(told != 0)
        for place in np.flatnonzero(is_done):
            size = _size(f"{paths[0]}{keys[place]}{paths[1]}")
            is_done[place] = size == (told[place] if told[place] > 0 else size) > 0
        return is_done

    def digest_of(self, stage: str, key: str) -> str:
        """The digest of a product on which all lines agree; empty where there is none."""
        told = self._fold.of(stage)
        place = told.place(key)
        return str(told.digests[place]) if place >= 0 else ""

    def was_done(self, stage: str, key: str) -> bool:
        """Whether the task was ever done, whatever it was made from."""
        return self._fold.of(stage).place(key) >= 0

    def find_problem(self, stage: str, scan_id: str, digest: str) -> Problem | None:
        """Why the task failed before, on the same input with the same config; None when it did not."""
        problem = self._problems.get((stage, scan_id))
        return problem if problem is not None and problem.digest == digest else None

    def num_kills(self, stage: str, task: Task) -> int:
        """How often a process ended in the middle of this task, on the same input with the same config."""
        return 0 if stage in self._forgotten else self._fold.of(stage).kills[task.key, task.digest]

    def find_killer(self, stage: str, task: Task) -> Problem | None:
        """Why the task is not tried again, where its process was killed too often; None where it was not."""
        if (number := self.num_kills(stage, task)) < _MOST_KILLS:
            return None
        reason = f"its process was killed {number} times; give it more memory, then --retry-failed takes it up again"
        return Problem(task.scan_id, stage, reason, task.digest)

    def forgive(self, stages: Collection[str]) -> None:
        """Note that nothing which these stages have begun counts as killed; only for a run that holds the lock."""
        fold = _fold(self._root)
        for stage in stages:
            for (key, digest), number in fold.of(stage).kills.items():
                for _ in range(number):
                    record(self._root, "interrupted", stage, key, digest)

    def note_interrupted(self, stage: str, tasks: Iterable[Task]) -> None:
        """Note which of these tasks were ended in order, in the middle, since the journal was opened."""
        kills = _fold(self._root).of(stage).kills
        for task in tasks:
            for _ in range(kills[task.key, task.digest] - self.num_kills(stage, task)):
                record(self._root, "interrupted", stage, task.key, task.digest)

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
        self._forgotten = self._forgotten.union(stages)

    def problem_scans(self, stage: str) -> set[str]:
        """Scans that this stage put in quarantine, whatever they were made from."""
        return {scan_id for of_stage, scan_id in self._problems if of_stage == stage}

    def compact(self) -> None:
        """Keep what the journals say together, for the next reader; only for a run that holds the lock."""
        _fold(self._root).keep()


def _size(path: str) -> int:
    """Bytes of a product; 0 where there is none."""
    try:
        return os.stat(path).st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _fold(root: Path, keys: Collection[str] | None = None) -> Fold:
    """What the journals say now; workers, which only write, need none of the libraries that this takes."""
    from ainerd_hpc.archive.folding import Fold

    return Fold(root / "journal", keys)


def start(root: Path, run: str, role: Literal["client", "worker"], threads: int) -> None:
    """Append a line that says who this process is, and for which run it works from here on; once a run."""
    if _at_work.get(root) == (os.getpid(), run):
        return
    _end_torn_line(_own_journal(root))
    found = find_allocation()
    own = {"run": run, "role": role, "host": socket.gethostname(), "pid": os.getpid(), "threads": threads}
    job = {"system": found.system, "job": found.job, "nodes": found.nodes} if found else {}
    _append(root, {"event": "started", **own, **job, "versions": versions()})
    _at_work[root] = (os.getpid(), run)


def record(
    root: Path,
    event: Literal["begun", "done", "failed", "interrupted", "lost"],
    stage: str,
    key: str,
    digest: str,
    **figures: Any,
) -> None:
    """Append one line about a task to this process's journal."""
    _append(root, {"event": event, "stage": stage, "key": key, "digest": digest, **figures})


def note_published(root: Path, path: Path) -> None:
    """Append the checksum of a product that is published now, if it is one of the archive and has none of its own."""
    if path.suffix == ".zip" or not path.is_relative_to(root):
        return
    _append(root, {"event": "published", "path": str(path.relative_to(root)), "sha256": sha256(path)})


def published(root: Path) -> dict[str, set[str]]:
    """The checksums that products ever had that have none of their own, by their path in the archive."""
    found = dict[str, set[str]]()
    for path in (root / "journal").glob("*.jsonl"):
        for entry in _entries(path):
            if entry["event"] == "published":
                found.setdefault(entry["path"], set()).add(entry["sha256"])
    return found


def _append(root: Path, entry: Mapping[str, Any]) -> None:
    path = _own_journal(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps({**entry, 'time': time.time()})}\n")


def _own_journal(root: Path) -> Path:
    return root / "journal" / f"{socket.gethostname()}-{os.getpid()}.jsonl"


def _end_torn_line(path: Path) -> None:
    """End the torn line of an earlier process that had the same number, which in containers is likely."""
    with contextlib.suppress(FileNotFoundError), path.open("rb+") as file:
        if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) >= 0 and file.read() != b"\n":
            file.write(b"\n")


def entries_of(root: Path, run: str, since: float) -> Iterator[dict[str, Any]]:
    """What the processes of a run have noted, with the lines about themselves.

    Parameters
    ----------
    since : float
        When it began, by the clock of the file system; journals that did not grow since are not read.
    """
    for path in (root / "journal").glob("*.jsonl"):
        is_of_run = False
        for entry in _entries(path) if path.stat().st_mtime >= since else ():
            if entry["event"] == "started":
                is_of_run = entry.get("run") == run
            if is_of_run:
                yield entry


def tasks_done(root: Path) -> Iterator[list[dict[str, Any]]]:
    """The tasks that each process has done, in its order."""
    for path in sorted((root / "journal").glob("*.jsonl")):
        yield [entry for entry in _entries(path) if entry["event"] == "done"]


def pace(root: Path, stage: str, since: float) -> float:
    """Tasks of a stage that were finished per second, by all processes together; 0 where none was.

    Parameters
    ----------
    since : float
        Seconds since the epoch; what was finished before does not count, nor does the time before the first task.
    """
    times = [
        (when, entry["event"])
        for path in (root / "journal").glob("*.jsonl")
        if path.stat().st_mtime >= since
        for when, entry in _times(path)
        if when >= since and entry.get("stage") == stage
    ]
    done = [when for when, event in times if event == "done"]
    return len(done) / max(1e-3, max(done) - min(times)[0]) if done else 0.0


def _times(path: Path) -> list[tuple[float, dict[str, Any]]]:
    """Entries with their times by the clock of the file system: that of their host may be hours off."""
    entries = [entry for entry in _entries(path) if isinstance(entry.get("time"), float)]
    behind = path.stat().st_mtime - entries[-1]["time"] if entries else 0.0
    return [(entry["time"] + behind, entry) for entry in entries]


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a journal that say what entries of their kind do; those of other versions may not."""
    return filter(_is_whole, json_lines(path))


def _is_whole(entry: Mapping[str, Any]) -> bool:
    names = _SAID.get(str(entry.get("event")), ())
    return bool(names) and all(isinstance(entry.get(name), str) for name in names)


def _as_lines(problems: Iterable[Problem]) -> str:
    return "".join(f"{json.dumps(asdict(problem), sort_keys=True)}\n" for problem in problems)


def _read_problems(path: Path) -> list[Problem]:
    names = {field.name for field in fields(Problem)}
    return [Problem(**entry) for entry in json_lines(path) if entry.keys() == names]
