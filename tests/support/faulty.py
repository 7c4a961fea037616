"""ainerd-hpc with something that befalls it built in, in the place of the program of a job: see `FAULTS`.

`python faulty.py FOLDER NAME WORDS...` runs `ainerd-hpc WORDS...`; what happened is noted in FOLDER.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCAN = "sim_0003"
"""At which it happens."""
SKEW = 5 * 3600
"""Seconds by which a clock is wrong."""


def pause(folder: Path) -> None:
    """The first process that comes to the scan waits there, until there is a file `go`."""
    try:
        with (folder / "reached").open("x") as file:
            file.write(f"{os.getpid()} {socket.gethostname()} {os.environ.get('SLURM_JOB_ID', '')}")
    except FileExistsError:
        return
    while not (folder / "go").exists():
        time.sleep(0.02)


def hog(folder: Path) -> None:
    """It takes more and more memory, until there is a file `go`."""
    kept = []
    while not (folder / "go").exists():
        kept.append(bytearray(os.urandom(2**20)) * 200)
        time.sleep(0.1)


def fill(folder: Path) -> None:
    """Somebody fills the disk of the archive up to a few kB, once."""
    if (folder / "full").exists():
        return
    (folder / "full").touch()
    with (folder / "archive" / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(file.tell() - 2 * 4096)


def exceed(folder: Path) -> None:
    """The quota of the user is reached, once: products cannot be written any more."""
    if not (folder / "full").exists():
        (folder / "full").touch()
        (folder / "quota").touch()


FAULTS: dict[str, Callable[[Path], None]] = {"pause": pause, "hog": hog, "fill": fill, "exceed": exceed}


def _befalls(name: str, folder: Path) -> None:
    """Let it happen before the work on the scan, in `ingest`; `pauses`: also in `correlate`, in a folder for each."""
    from ainerd_hpc.stages.correlate import Correlate
    from ainerd_hpc.stages.ingest import Ingest

    if name == "pauses":
        for stage in (Ingest, Correlate):
            (folder / stage.name).mkdir(exist_ok=True)
            _with_fault(stage, "pause", folder / stage.name)
    else:
        _with_fault(Ingest, name, folder)


def _with_fault(stage: Any, name: str, folder: Path) -> None:
    work = stage.work

    def with_fault(self: Any, task: Any) -> Any:
        if task.scan_id == SCAN:
            FAULTS[name](folder)
        return work(self, task)

    stage.work = with_fault


if __name__ == "__main__":
    folder, name = Path(sys.argv[1]), sys.argv[2]
    if name == "skew":
        if os.environ.get("SLURM_ARRAY_TASK_ID") == "2":
            os.environ |= {"LD_PRELOAD": str(folder / "shim.so"), "SHIM_SKEW": str(SKEW)}
        os.execv(sys.executable, [sys.executable, "-m", "ainerd_hpc.cli", *sys.argv[3:]])
    from ainerd_hpc.cli import main

    _befalls(name, folder)
    sys.exit(main(sys.argv[3:]))
