"""When a training leaves a checkpoint, and when it stops: at the same step on all ranks."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import torch
from torch import distributed

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Wish(IntEnum):
    """What is to happen after a step; of several, the greatest counts."""

    GO_ON = 0
    SAVE = 1
    STOP = 2


class Interruption:
    """Asked by SIGTERM or Ctrl-C, a training stops after the step at work; a second Ctrl-C interrupts it at once.

    A context, within which the signals do that; it has to be the main thread's for them to be seen.

    Parameters
    ----------
    every : float
        A checkpoint is due so long after the last one, s.
    """

    def __init__(self, every: float) -> None:
        self.is_asked = False
        self._every, self._saved_at = every, time.monotonic()
        self._tell: Callable[[], None] = lambda: None
        self._before: dict[signal.Signals, Any] = {}
        self._group: Any = None

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in _SIGNALS}
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def listen(self) -> None:
        """Take the signals, also from a library that took them since."""
        for number in self._before:
            signal.signal(number, self._handle)

    def _handle(self, number: int, _: object) -> None:
        if number == signal.SIGINT and self.is_asked:
            raise KeyboardInterrupt
        self.ask()

    def ask(self) -> None:
        """Have the training stop."""
        self.is_asked = True
        self._tell()

    def on_ask(self, tell: Callable[[], None]) -> None:
        """Call `tell` when it is asked, and now, if it was."""
        self._tell = tell
        if self.is_asked:
            tell()

    def join_ranks(self) -> None:
        """Agree with the other ranks from now on; all have to call this. On the CPU: a GPU need not wait for it."""
        self._group = distributed.new_group(backend="gloo")

    def saved(self) -> None:
        """A checkpoint was written."""
        self._saved_at = time.monotonic()

    def agreed(self) -> Wish:
        """The greatest wish of all ranks, which all have to call this."""
        is_due = time.monotonic() - self._saved_at > self._every
        wish = Wish.STOP if self.is_asked else Wish.SAVE if is_due else Wish.GO_ON
        if self._group is not None:
            shared = torch.tensor(wish)
            distributed.all_reduce(shared, distributed.ReduceOp.MAX, self._group)
            wish = Wish(int(shared))
        self.is_asked |= wish is Wish.STOP
        return wish
