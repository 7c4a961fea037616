"""One run at a time on an archive, also where a node hangs and its job goes on elsewhere.

The kernel lets go of a lock when its process ends, however it ends. A node that hangs does not end: the batch system
gives it up and starts its job on another one, while the lock stays. There the lock is taken over, by putting another
file in its place; the old process finds that out before it changes anything that is not the same whoever makes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from ainerd_hpc.errors import ArchiveError
from ainerd_hpc.site.allocation import Allocation, find_allocation, has_ended

_ATTEMPTS, _PAUSE = 5, 0.1
"""Seconds between attempts."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that took the lock, as it wrote itself down."""

    process: int
    host: str
    user: int
    system: str = ""
    cluster: str = ""
    job: str = ""
    restarts: int = 0

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}{f', job {self.job},' if self.job else ''}"

    @classmethod
    def of_this_process(cls) -> Holder:
        own = (os.getpid(), socket.gethostname(), os.getuid())
        found = find_allocation()
        return cls(*own, found.system, found.cluster, found.job, found.restarts) if found else cls(*own)

    def is_given_up(self, mine: Allocation | None) -> bool:
        """Whether the batch system says that this process cannot be at work any more."""
        if mine is None or not self.job or self.user != os.getuid():
            return False  # jobs of others may be hidden from us
        if (self.system, self.cluster) != (mine.system, mine.cluster):
            return False
        if self.job == mine.job:
            return self.restarts < mine.restarts or self.host not in mine.nodes
        return has_ended(mine.system, self.job)


class Lock:
    """A lock that is held."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file = path, file

    def check(self) -> None:
        """Refuse to go on where another run has taken over.

        Raises
        ------
        ArchiveError
            It has, since the batch system gave this process up.
        """
        if not _is_in_place(self._path, self._file):
            raise ArchiveError(
                f"archive {self._path.parent}: expected to hold its lock, found that another run has taken over; "
                "nothing is to be done here"
            )


@contextlib.contextmanager
def locked(path: Path, shared: bool = False) -> Iterator[Lock]:
    """Hold a lock file.

    Parameters
    ----------
    shared : bool
        Keep off those only that do not share it.

    Raises
    ------
    ArchiveError
        Another run is at work.
    """
    with _take(path, shared) or _take_over(path, shared) as file:
        if not shared:
            file.truncate(0)
        file.write(json.dumps(asdict(Holder.of_this_process())) + "\n")
        file.flush()
        yield Lock(path, file)
        if not shared:
            file.truncate(0)


def is_locked(path: Path) -> bool:
    """Whether anyone holds a lock file now."""
    mode, operation = ("r+", fcntl.LOCK_EX) if os.access(path, os.W_OK) else ("r", fcntl.LOCK_SH)
    try:
        with path.open(mode, encoding="utf-8") as file:
            fcntl.flock(file, operation | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _take(path: Path, shared: bool) -> TextIO | None:
    """Try for a moment: who asks whether a run is at work holds the lock for an instant too."""
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    for attempt in range(_ATTEMPTS):
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, operation | fcntl.LOCK_NB)
            if _is_in_place(path, file):
                return file
        except BlockingIOError:
            time.sleep(_PAUSE * (attempt + 1 < _ATTEMPTS))
        except BaseException:
            file.close()
            raise
        file.close()
    return None


def _take_over(path: Path, shared: bool) -> TextIO:
    """Put a lock of our own in the place of one whose holders are all given up."""
    mine, holders = find_allocation(), _holders(path)
    if not holders or not all(holder.is_given_up(mine) for holder in holders):
        last = holders[-1] if holders else "another run"
        raise ArchiveError(f"archive {path.parent}: {last} is at work on it; wait until it has ended")
    own = path.with_name(f".{path.name}@{socket.gethostname()}.{os.getpid()}.tmp")
    file = own.open("a+", encoding="utf-8")
    fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    own.replace(path)
    return file


def _holders(path: Path) -> list[Holder]:
    """All since the last who did not share the lock."""
    try:
        return [Holder(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, TypeError):
        return []  # of another version


def _is_in_place(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
