"""Data-parallel training, as the process sees it that starts the ranks, waits for them and takes what they give.

It keeps a store (torch's, on a free port) at which the ranks meet: in it they find that they shall stop, and by it they
see that this process has ended, and end too, on any node. Rank 0 prints a line after each epoch, which is handed on.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from ainerd_hpc.config import TrainConfig
from ainerd_hpc.errors import AinerdError, ConfigError
from ainerd_hpc.site.allocation import SPREAD, cores_here, find_allocation, spread_command
from ainerd_hpc.training.data import SourceRecipe
from ainerd_hpc.training.interruption import Interruption
from ainerd_hpc.training.job import Job, Progress

STOP, END = "stop", "end"
"""Keys of the store: stop after the step at work, with a checkpoint; end at once."""
RANKS, ALL = "ranks", "all {}"
"""Keys of the store: how many have come; that all have."""
EPOCH, STOPPED = "epoch", "stopped"
"""First words of what rank 0 prints."""
SAID = "ainerd-hpc: "
"""Before an error of ours, in the log of the ranks."""
_ERROR = r"[Ee]rror: |\b[Kk]illed\b|SIGKILL|KILLED BY SIGNAL"
_CONSEQUENCE = r"closed by peer|reset by peer|ChildFailedError|SignalException"
_SECONDS_TO_END = 20.0
_STARTS = 3


def train_in_ranks(
    job: Job, recipe: SourceRecipe | None, progress: Progress | None, interruption: Interruption
) -> None:
    """Start the ranks and wait for them. Success is a complete checkpoint, whatever the exit status.

    A launcher that ends before all ranks have met has met with what passes, on a busy network or node: it is started
    again, unless a rank has said what is wrong.
    """
    if recipe is None:
        raise AinerdError(f"train: {job.ranks} ranks need a recipe for the maps; set train.devices to 1")
    log_path = job.folder / "ranks.log"
    job.write(_job_path(job), recipe)
    log_path.write_bytes(b"")
    for _ in range(_STARTS):
        have_met = _start(job, log_path, progress, interruption)
        if have_met or interruption.is_asked or _said(_lines(log_path)):
            break
    if not (interruption.is_asked or job.is_complete()):
        raise AinerdError(f"{_why(log_path)}; see {log_path}")


def _start(job: Job, log_path: Path, progress: Progress | None, interruption: Interruption) -> bool:
    """Whether all ranks have met, after the launcher has ended."""
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    role = "agent" if job.train.launcher == "torchrun" else "rank"
    words = ["-m", "ainerd_hpc.training", role, str(_job_path(job)), f"{_this_host(job.train)}:{store.port}"]
    with (
        log_path.open("ab") as log,
        subprocess.Popen(
            [*_spread(job.train), sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(job.threads)},
            start_new_session=True,  # Ctrl-C is for this process, which asks the ranks to stop
        ) as launcher,
    ):
        interruption.on_ask(lambda: store.set(STOP, ""))
        try:
            _follow(launcher, progress, interruption)
        finally:
            for key in (STOP, END):
                store.set(key, "")
            _end(launcher)
    return store.check([ALL.format(RANKS)])


def _job_path(job: Job) -> Path:
    return job.folder.absolute() / "job.json"


def _spread(train: TrainConfig) -> list[str]:
    """The words that start an agent on each node, or all ranks; none for torchrun on this node."""
    found = find_allocation()
    if found and 0 < len(found.nodes) < train.nodes:
        raise ConfigError(
            f"train.nodes: expected {len(found.nodes)} at most, as job {found.job} has, found {train.nodes}"
        )
    if train.launcher == "torchrun" and train.nodes == 1:
        return []
    per_node = 1 if train.launcher == "torchrun" else train.devices
    cores = max(1, cores_here() // per_node)
    template = train.spread or (SPREAD["pbs"] if train.launcher == "mpiexec" else ())
    words = spread_command(template, nodes=train.nodes, per_node=per_node, cores=cores)
    own = Path(sys.executable).parent / "mpiexec"  # belongs to the MPI beside it, which mpi4py prefers
    return [str(own), *words[1:]] if words[0] == own.name and own.exists() else words


def _this_host(train: TrainConfig) -> str:
    """The address by which the ranks reach this process."""
    if train.nodes == 1:
        return "localhost"
    name = os.environ.get("GLOO_SOCKET_IFNAME", "").partition(",")[0]
    addresses = psutil.net_if_addrs().get(name, [])
    found = [address.address for address in addresses if address.family == socket.AF_INET]
    return found[0] if found else socket.gethostname()


def _follow(launcher: subprocess.Popen[str], progress: Progress | None, interruption: Interruption) -> None:
    """Hand on what rank 0 prints, until the ranks have ended."""
    for line in launcher.stdout or ():
        if progress and line.startswith(f'["{EPOCH}"'):
            progress(*json.loads(line)[1:])
        if line.startswith(f'["{STOPPED}"'):
            interruption.ask()
    launcher.wait()


def _end(launcher: subprocess.Popen[str]) -> None:
    """Wait for a launcher whose ranks end by themselves."""
    try:
        launcher.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        launcher.kill()


def _why(log_path: Path) -> str:
    """What the ranks said themselves; else the first error of a library that is not a mere consequence of another."""
    lines = _lines(log_path)
    if said := _said(lines):
        return said[0]
    errors = [line for line in lines if re.search(_ERROR, line) and not re.search(_CONSEQUENCE, line)]
    reason = (errors or lines[-1:] or ["no message"])[0]
    return f"train: the ranks ended before the training did: {reason}; the same command goes on"


def _lines(log_path: Path) -> list[str]:
    return [line.strip() for line in log_path.read_text(errors="replace").splitlines() if line.strip()]


def _said(lines: Sequence[str]) -> list[str]:
    return [line.removeprefix(SAID) for line in lines if line.startswith(SAID)]
