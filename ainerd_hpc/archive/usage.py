"""What a process used of its machine while it did a task, for the journal."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

_IO = Path("/proc/self/io")


class Usage:
    """The meters of this process, read when a task begins and again when it ends.

    A process does one task at a time; its own housekeeping meanwhile, such as talking to a scheduler, counts too.
    """

    def __init__(self) -> None:
        self._began, self._cpu_seconds, self._bytes_read = time.time(), _cpu_seconds(), _bytes_read()
        self._peak_bytes = _peak_bytes()

    def figures(self, planned_bytes: int) -> dict[str, Any]:
        """The figures of a task that ends now, for its line in the journal.

        Parameters
        ----------
        planned_bytes : int
            Bytes that the task was expected to read, which count where the system does not tell what it read.

        Returns
        -------
        dict
            began, ended (s since the epoch), cpu_seconds, bytes_read, peak_before_bytes, peak_bytes.
        """
        before, after = self._bytes_read, _bytes_read()
        return {
            "began": self._began,
            "ended": time.time(),
            "cpu_seconds": round(_cpu_seconds() - self._cpu_seconds, 3),
            "bytes_read": planned_bytes if before is None or after is None else after - before,
            "peak_before_bytes": self._peak_bytes,
            "peak_bytes": _peak_bytes(),
        }


def _cpu_seconds() -> float:
    """The CPU time of all threads, and of the children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _bytes_read() -> int | None:
    """Bytes that were asked of the system, whether from a disk or from its cache; None where it does not tell."""
    try:
        return int(_IO.read_text(encoding="ascii").partition("rchar:")[2].split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
