"""Standard output and errors that never stop the work, whatever becomes of who reads them."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO


def keep_output_going() -> None:
    """Let what is printed be lost where nobody can read it: a closed pipe or stream, a full disk, an ASCII terminal."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: a file that is opened later would get its number, and what is printed
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = _steady(sys.stdout, 1), _steady(sys.stderr, 2)


def _steady(stream: TextIO | None, number: int) -> Any:
    found: Any = stream or os.fdopen(number, "w", closefd=False)
    found.reconfigure(errors="backslashreplace")
    return _Steady(found)


class _Steady:
    """A stream that goes on as /dev/null when it cannot be written to."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or lose the text."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Flush, or lose what was written."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self._stream.fileno())
        os.close(nothing)
        if self._stream is not sys.__stderr__:
            print(f"ainerd-hpc: what is printed is lost ({error.strerror}); the work goes on", file=sys.stderr)
