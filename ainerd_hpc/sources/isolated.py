"""Processes that look at files, and may die of it: over a damaged file libhdf5 can crash, or never come to an end.

One that dies, takes too long or too much memory is replaced; what it had in hand is named. The others go on.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Any

from ainerd_hpc.errors import AinerdError

SECONDS = 60.0
"""Longest time for one file."""
_MOST = 8
_BATCH = 16
"""Files that are handed over together."""
_MEMORY = 2**32
"""Bytes of data of a process."""
_PROGRAM = "import sys; from ainerd_hpc.sources.isolated import serve; serve(int(sys.argv[1]))"


@dataclass(frozen=True, slots=True)
class Death:
    """What stands in place of a result: of what a process died over it."""

    reason: str


class Lookers:
    """Processes that call one function with whatever is given; they start when they are needed, and stay.

    Parameters
    ----------
    function : str
        "module:name" of a function of one argument; that and what it gives are pickled.
    seconds : float
        For one call.
    """

    def __init__(self, function: str, seconds: float = SECONDS) -> None:
        self._function, self._seconds = function, seconds
        self._idle: SimpleQueue[_Looker] = SimpleQueue()

    def map(self, given: Sequence[Any]) -> Iterator[Any]:
        """What the function gives for each, or a `Death`, in their order."""
        batches = [given[start : start + _BATCH] for start in range(0, len(given), _BATCH)]
        num = min(_MOST, len(os.sched_getaffinity(0)), len(batches))
        if num:
            with ThreadPoolExecutor(num) as pool:
                for results in pool.map(self._batch, batches):
                    yield from results

    def close(self) -> None:
        """End the processes."""
        while (looker := self._take()) is not None:
            looker.kill()

    def _take(self) -> _Looker | None:
        try:
            return self._idle.get_nowait()
        except Empty:
            return None

    def _batch(self, given: Sequence[Any]) -> list[Any]:
        results: list[Any] = []
        while len(results) < len(given):
            looker = self._take() or _Looker(self._function, self._seconds)
            try:
                looker.connection.send(given[len(results) :])
                while len(results) < len(given):
                    results.append(looker.connection.recv())
            except (EOFError, OSError):
                results.append(Death(looker.end()))
            except BaseException:  # it goes on with what nobody waits for any more
                looker.kill()
                raise
            else:
                self._idle.put(looker)
        return results


class _Looker:
    """One process."""

    def __init__(self, function: str, seconds: float) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self.connection = Connection(ours.detach())
        self._seconds = seconds
        try:
            self.connection.send((function, seconds))
            self.connection.recv()
        except (EOFError, OSError):
            raise AinerdError(f"expected a process that looks at files, found that starting it {self.end()}") from None

    def kill(self) -> None:
        self.connection.close()
        self._process.kill()
        self._process.wait()

    def end(self) -> str:
        """How it ended."""
        self.connection.close()
        code = self._process.wait()
        if code == -signal.SIGALRM:
            return f"takes more than {self._seconds:.0f} s"
        return f"ends the process ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"


def serve(descriptor: int) -> None:
    """The program of such a process: answer until the other side hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit(resource.RLIMIT_DATA, _MEMORY)
    connection = Connection(descriptor)
    text, seconds = connection.recv()
    module, _, name = text.partition(":")
    function = getattr(importlib.import_module(module), name)
    connection.send("ready")
    try:
        while True:
            for one in connection.recv():
                signal.setitimer(signal.ITIMER_REAL, seconds)  # ends the process, wherever it is
                result = function(one)
                signal.setitimer(signal.ITIMER_REAL, 0)
                connection.send(result)
    except (EOFError, OSError):
        return


def _limit(kind: int, size: int) -> None:
    soft, hard = resource.getrlimit(kind)
    least = min(one for one in (soft, hard, size) if one != resource.RLIM_INFINITY)
    resource.setrlimit(kind, (least, hard))


@contextmanager
def lookers(function: str) -> Iterator[Lookers]:
    """Processes for one function, which end with the outermost of these blocks."""
    if function in _at_work:
        yield _at_work[function]
        return
    mine = _at_work[function] = Lookers(function)
    try:
        yield mine
    finally:
        del _at_work[function]
        mine.close()


_at_work: dict[str, Lookers] = {}
