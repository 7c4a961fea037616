"""Data-parallel training: a launcher and the ranks, in processes of their own that end with the one that started them.

The launcher becomes torchrun. Rank 0 prints a line after each epoch, which the starting process hands on.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from ainerd_hpc.errors import AinerdError
from ainerd_hpc.training.data import SourceRecipe
from ainerd_hpc.training.job import Job, Progress
from ainerd_hpc.training.trainer import train_here


def train_in_ranks(job: Job, recipe: SourceRecipe | None, progress: Progress | None) -> None:
    """Start the ranks and wait for them. Success is a complete checkpoint, whatever the exit status."""
    if recipe is None:
        raise AinerdError(f"train: {job.train.devices} ranks need a recipe for the maps; set train.devices to 1")
    job_path, log_path = job.folder / "job.json", job.folder / "ranks.log"
    job.write(job_path, recipe)
    command = [sys.executable, "-m", "ainerd_hpc.training", str(job_path), str(os.getpid())]
    environment = {**os.environ, "OMP_NUM_THREADS": str(job.threads)}
    with (
        log_path.open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as launcher,
    ):
        try:
            _follow(launcher, progress)
        finally:
            launcher.kill()
    if not job.is_complete():
        raise AinerdError(f"train: the ranks ended before the training did: {_last_error(log_path)}; see {log_path}")


def _follow(launcher: subprocess.Popen[str], progress: Progress | None) -> None:
    """Hand on the figures that rank 0 prints, until the ranks have ended."""
    for line in launcher.stdout or ():
        if progress and line.startswith('["epoch"'):
            progress(*json.loads(line)[1:])
    launcher.wait()


def _last_error(log_path: Path) -> str:
    lines = log_path.read_text(errors="replace").splitlines()
    errors = [line for line in lines if "Error: " in line and "ChildFailedError" not in line]
    return (errors or lines or ["no message"])[-1].strip()


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends (Linux)."""
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def _print_progress(epoch: int, epochs: int, train_l1: float, valid_l1: float) -> None:
    print(json.dumps(["epoch", epoch, epochs, train_l1, valid_l1]), flush=True)


def launch(job_path: Path, parent: int) -> None:
    """Become torchrun, which starts the ranks."""
    from torch.distributed.run import main as torchrun

    _end_with(parent)
    job, _ = Job.read(job_path)
    ranks = ["--standalone", "--nproc-per-node", str(job.train.devices)]
    torchrun([*ranks, "-m", "ainerd_hpc.training", str(job_path), str(os.getpid()), "rank"])


def rank(job_path: Path, parent: int) -> None:
    """Train as one of the ranks."""
    _end_with(parent)
    job, recipe = Job.read(job_path)
    train_here(job, recipe.build(), _print_progress, in_ranks=True)
