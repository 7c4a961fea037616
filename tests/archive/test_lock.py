"""One run at a time, also where the batch system has given the one up that holds the lock."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ainerd_hpc.archive.lock import is_locked, locked
from ainerd_hpc.errors import ArchiveError
from ainerd_hpc.site.allocation import has_ended

HOLD = """
import sys, time, pathlib
from ainerd_hpc.errors import ArchiveError
from ainerd_hpc.archive.lock import locked
with locked(pathlib.Path(sys.argv[1]), shared=sys.argv[2] == "shared") as lock:
    lock.check()
    print("held", flush=True)
    sys.stdin.readline()
    try:
        lock.check()
        print("still", flush=True)
    except ArchiveError as error:
        print(error, flush=True)
"""
Hold = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / ".lock"


@pytest.fixture
def in_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Be a job of SLURM, as its variables say it; squeue tells of other jobs what is given."""

    def set_up(job: str, restarts: int = 0, squeue: str = "exit 1") -> None:
        variables = {"JOB_ID": job, "RESTART_COUNT": str(restarts), "JOB_NODELIST": socket.gethostname()}
        for name, value in {**variables, "CLUSTER_NAME": "here"}.items():
            monkeypatch.setenv(f"SLURM_{name}", value)
        program = tmp_path / "bin" / "squeue"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{squeue}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return set_up


def _hold(path: Path, how: str = "alone") -> subprocess.Popen[str]:
    """A process of this job that holds the lock, and hangs."""
    command = [sys.executable, "-c", HOLD, str(path), how]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGSTOP)
    return process


def _wake(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGCONT)
    return process.communicate("\n", timeout=30)[0]


def test_a_job_takes_over_from_what_is_left_of_itself(lock: Path, in_job: Callable[..., None]) -> None:
    in_job("7")
    old = _hold(lock)
    with pytest.raises(ArchiveError, match=rf"process {old.pid} on .*, job 7, is at work on it"), locked(lock):
        pass
    in_job("7", restarts=1)
    with locked(lock) as held:
        assert _wake(old).startswith(f"archive {lock.parent}: expected to hold its lock, found that another run has")
        held.check()
        assert is_locked(lock)
        with pytest.raises(ArchiveError, match=f"process {os.getpid()} on"), locked(lock):
            pass
    assert not is_locked(lock)
    assert not list(lock.parent.glob("*.tmp"))


def test_what_finishes_a_stage_takes_over_from_shares_that_have_ended(lock: Path, in_job: Callable[..., None]) -> None:
    in_job("8")
    old = _hold(lock, "shared")
    in_job("9", squeue="echo RUNNING")
    with pytest.raises(ArchiveError, match="job 8, is at work on it"), locked(lock):
        pass
    in_job("9", squeue="echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    with locked(lock):
        assert "another run has taken over" in _wake(old)


def test_others_are_left_alone(lock: Path, in_job: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    gone = "echo 'Invalid job id specified' >&2; exit 1"
    in_job("8")
    old = _hold(lock)
    holder = json.loads(lock.read_text())
    for changed in ({"user": os.getuid() + 1}, {"cluster": "there"}, {"system": "pbs"}, {"job": ""}):
        lock.write_text(json.dumps({**holder, **changed}) + "\n")
        in_job("9", squeue=gone)
        with pytest.raises(ArchiveError, match="is at work on it"), locked(lock):
            pass
    lock.write_text(json.dumps(holder) + "\n")
    monkeypatch.delenv("SLURM_JOB_ID")  # on a login node
    with pytest.raises(ArchiveError, match="job 8, is at work on it"), locked(lock):
        pass
    assert _wake(old) == "still\n"


@pytest.mark.parametrize(
    ("squeue", "ended"),
    [
        ("echo RUNNING", False),
        ("echo COMPLETING", False),
        ("echo PENDING", True),
        ("exit 0", True),
        ("echo 'Invalid job id specified' >&2; exit 1", True),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", False),
    ],
)
def test_whether_a_job_has_ended(squeue: str, ended: bool, in_job: Callable[..., None]) -> None:
    in_job("9", squeue=squeue)
    assert has_ended("slurm", "8") is ended
