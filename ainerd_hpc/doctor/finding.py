"""What a check says, and how many of them are made at a time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Literal

State = Literal["ok", "warning", "failed", "skipped"]
_HANGS = "something hangs there; try the same by hand, then ask the administrators"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line."""

    check: str
    """What was looked at."""
    state: State
    found: str
    next_step: str = ""
    """What the user can do; empty where all is well."""

    def __str__(self) -> str:
        return f"{self.found}; {self.next_step}" if self.next_step else self.found


@dataclass(frozen=True, slots=True)
class Check:
    """Something to look at."""

    name: str
    examine: Callable[[], Iterable[Finding]]
    seconds: float = 30.0
    """Time after which it is not waited for any longer."""


def examined(checks: Sequence[Check]) -> Iterator[Finding]:
    """The findings of all checks in their order, while they are made at the same time.

    A check that raises an error, or gives no answer in time, has failed; the others go on.
    """
    began = time.monotonic()
    answers = [_begin(check) for check in checks]
    for check, answer in zip(checks, answers, strict=True):
        try:
            yield from answer.get(timeout=max(0.01, began + check.seconds - time.monotonic()))
        except Empty:
            yield Finding(check.name, "failed", f"no answer in {check.seconds:.0f} s", _HANGS)


def _begin(check: Check) -> SimpleQueue[list[Finding]]:
    answer: SimpleQueue[list[Finding]] = SimpleQueue()

    def examine() -> None:
        try:
            answer.put(list(check.examine()))
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            answer.put([Finding(check.name, "failed", text, "mend this, or ask the administrators")])

    threading.Thread(target=examine, daemon=True).start()
    return answer


def role(*words: str) -> list[str]:
    """The command line of a part of a check that has a process of its own."""
    return [sys.executable, "-m", "ainerd_hpc.doctor", *words]


def said_by(command: Sequence[str], seconds: float) -> tuple[int, str]:
    """Exit status of a program, and what it printed; what it said about an error where it failed, in one line.

    A program that cannot be started has status 127, one that takes too long 124.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False
        )
    except FileNotFoundError:
        return 127, f"{command[0]}: no such program"
    except subprocess.TimeoutExpired:
        return 124, f"{command[0]}: no answer in {seconds:.0f} s"
    if done.returncode == 0:
        return 0, done.stdout
    lines = (done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}").splitlines()
    return done.returncode, lines[-1].strip()
