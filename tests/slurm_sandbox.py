"""A private SLURM on this machine for tests: real daemons, no systemd, nothing outside one folder, gone with the tests.

Several slurmd stand for several nodes, each on a port of its own (Debian's build allows it). Two settings are not as a
site has them: a job that was put back into the queue may start after 5 s, and jobs of root are welcome.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CPUS, MEMORY_MB = 2, 16000
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
_PATIENCE = 40.0

_CONF = """
ClusterName=sandbox
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.sock,cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=5
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=100000,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
EnforcePartLimits=ALL
JobRequeue=1
MailProg=/bin/true
PartitionName=all Nodes=ALL Default=YES MaxTime=02:00:00 DefaultTime=00:05:00 State=UP
"""


def missing() -> str:
    """Why SLURM cannot be brought up here; empty where it can."""
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} missing: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "SLURM daemons need root here"


@contextlib.contextmanager
def cluster(root: Path, nodes: int = 2, task_prolog: Path | None = None) -> Iterator[None]:
    """A running SLURM; commands find it through SLURM_CONF. Skips the test where it cannot be."""
    if reason := missing():
        pytest.skip(reason)
    ports = _free_ports(nodes + 1)
    host = socket.gethostname().partition(".")[0]
    conf = _CONF.format(host=host, port=ports[0], root=root)
    for number, port in enumerate(ports[1:], 1):
        address = f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
        conf += f"{address} CPUs={CPUS} CoresPerSocket={CPUS} RealMemory={MEMORY_MB} State=UNKNOWN\n"
    if task_prolog:
        conf += f"TaskProlog={task_prolog}\n"
    (root / "slurm.conf").write_text(conf)
    (root / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # slurmd looks for one even where none is used
    for folder in ("state", *(f"spool-n{number}" for number in range(1, nodes + 1))):
        (root / folder).mkdir()
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setenv("SLURM_CONF", str(root / "slurm.conf"))
        stack.enter_context(_munge(root))
        stack.enter_context(_daemon(root, "slurmctld", "-D"))
        for number in range(1, nodes + 1):
            stack.enter_context(_daemon(root, "slurmd", "-D", "-N", f"n{number}"))
        _wait_for(lambda: _output("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * nodes, root)
        try:
            yield
        finally:
            subprocess.run(["scancel", "--user=root"], capture_output=True)
            _wait_for(lambda: not _output("squeue", "-h"), root)


@contextlib.contextmanager
def _munge(root: Path) -> Iterator[None]:
    key = root / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    names = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munge.pid", "seed-file": "munge.seed"}
    options = [f"--{option}={root / name}" for option, name in names.items()]
    with _daemon(root, "munged", "--foreground", "--force", "--num-threads=2", *options):
        _wait_for((root / "munge.sock").exists, root)
        yield


@contextlib.contextmanager
def _daemon(root: Path, *command: str) -> Iterator[None]:
    with (root / f"{'-'.join((command[0], command[-1].strip('-')[:2]))}.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_end_with_us, start_new_session=True
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_us() -> None:
    """Have the kernel end a daemon with the tests, however they end."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def _wait_for(is_so: object, root: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not is_so():  # type: ignore[operator]
        if time.monotonic() > deadline:
            logs = "\n".join(f"{path.name}: {path.read_text(errors='replace')[-600:]}" for path in root.glob("*.log"))
            pytest.skip(f"SLURM did not come up in {_PATIENCE:.0f} s:\n{logs}")
        time.sleep(0.1)
