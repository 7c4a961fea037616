"""What was said of each scan: a line of `watch.jsonl` each, and a command for those that are unusual."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ainerd_hpc.archive.json_lines import json_lines
from ainerd_hpc.console import console

_LONGEST = 60.0
"""Seconds that a command may take."""

Line = dict[str, Any]


class Told:
    """The lines of a file that is only appended to: a line that is there says that its scan was told.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    lines : dict of str to dict
        The last line of each scan.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines: dict[str, Line] = {str(line.get("scan_id")): line for line in json_lines(path)}
        _end_torn_line(path)

    def tell(self, line: Line) -> None:
        """Append a line; it is on the disk when this returns."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines.pop(line["scan_id"], None)  # the last line is of the last scan
        self.lines[line["scan_id"]] = line


def _end_torn_line(path: Path) -> None:
    """End a line that a kill has cut off: what follows would be lost with it."""
    if path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size:
        with path.open("ab") as file:
            file.write(b"\n")


class Command:
    """A command that is run for each unusual scan, with its line as standard input; nobody waits for it.

    Parameters
    ----------
    words : sequence of str
        The program and its arguments, as they are: no shell sees them, and nothing of a scan is among them.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)
        self._running: list[tuple[subprocess.Popen[bytes], float]] = []

    def run(self, line: Line) -> None:
        """Start it."""
        if not self._words:
            return
        try:
            process = subprocess.Popen(self._words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        except OSError as error:
            self._tell(f"cannot be started: {error}")
            return
        self._running.append((process, time.monotonic()))
        assert process.stdin
        try:
            with process.stdin as pipe:
                pipe.write(json.dumps(line).encode() + b"\n")
        except OSError:  # it does not read it
            pass

    def look(self) -> None:
        """Tell of those that failed, and end those that take too long."""
        for entry in list(self._running):
            process, began = entry
            if process.poll() is None and time.monotonic() - began > _LONGEST:
                process.kill()
                process.wait()
            if process.returncode is not None:
                self._running.remove(entry)
                if process.returncode:
                    self._tell(f"ended with exit code {process.returncode}")

    def _tell(self, text: str) -> None:
        console.print(f"--on-new {self._words[0]}: {text}", style="yellow", markup=False)
