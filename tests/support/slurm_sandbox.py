"""A private SLURM on this machine for tests: real daemons, no systemd, nothing outside one folder, gone with the tests.

Several slurmd stand for several nodes (Debian's build allows it), each with a host name, a hosts file and a scratch
folder of its own where the kernel lends namespaces. Some settings are not as a site has them: what was put back into
the queue may start after 5 s, a silent node is down after some 20 s, and jobs of root are welcome.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CPUS, MEMORY_MB = 2, 16000
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
_PATIENCE = 60.0
_PORTS, _PORTS_EACH = range(25_000, 32_000), 20
"""Below those that the kernel gives away, above those that Lightning makes of a job id."""
_UNSHARE = ("unshare", "--uts", "--mount", "--propagation", "private")

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
MpiDefault=pmi2
ReturnToService=2
SlurmdTimeout=8
KillWait=5
FirstJobId={first_job}
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=100000,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU={memory_per_cpu}
EnforcePartLimits=ALL
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
PropagateResourceLimitsExcept=MEMLOCK
JobRequeue=1
RequeueExit=75
MailProg=/bin/true
MaxArraySize=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=all Nodes=ALL Default=YES MaxTime=02:00:00 DefaultTime=00:05:00 PriorityTier=5 PreemptMode=OFF
PartitionName=low Nodes=ALL MaxTime=02:00:00 DefaultTime=00:05:00 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes=ALL MaxTime=02:00:00 DefaultTime=00:05:00 PriorityTier=10 PreemptMode=OFF
"""
"""Jobs of the partition `low` make room for those of `high`; those of `all` do not."""

_NODE = """
set -e
if [ -n "$3" ]; then
    hostname "$1"
    mount --bind "$2/hosts" /etc/hosts
    mount --bind "$2/scratch-$1" "$2/scratch"
fi
exec slurmd -D -N "$1" -f "$2/slurm.conf"
"""

_SWEEP = """
import os, sys
sys.stdin.read()  # until the tests have ended
here, mark = os.readlink("/proc/self/ns/uts"), b"SLURM_CONF=" + sys.argv[1].encode()
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            if os.readlink(f"/proc/{pid}/ns/uts") != here and mark in file.read().split(bytes(1)):
                os.kill(int(pid), 9)
    except OSError:
        pass
"""


def missing() -> str:
    """Why SLURM cannot be brought up here; empty where it can."""
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} missing: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "SLURM daemons need root here"


class Cluster:
    """The nodes n1, n2, ... of a running SLURM, and what may befall them.

    Attributes
    ----------
    root : Path
        Its folder. `scratch` in it is another folder on each node.
    nodes : tuple of str
    is_isolated : bool
        Whether nodes have host names of their own; else they share everything, and faults hit slurmd alone.
    """

    def __init__(self, root: Path, num_nodes: int) -> None:
        self.root = root
        self.nodes = tuple(f"n{number}" for number in range(1, num_nodes + 1))
        self.is_isolated = subprocess.run([*_UNSHARE, "true"], capture_output=True).returncode == 0
        if not self.is_isolated:
            warnings.warn("no namespaces here: the nodes of the sandbox share one host name", stacklevel=2)
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._spaces: dict[str, str] = {}

    def start(self, node: str) -> None:
        """Power on."""
        wrap = _UNSHARE if self.is_isolated else ()
        script = [_NODE, "bash", node, str(self.root), "yes" if self.is_isolated else ""]
        self._daemons[node] = _start(self.root, f"slurmd-{node}", [*wrap, "bash", "-c", *script])

    def processes(self, node: str) -> list[int]:
        """Everything that runs on a node: its slurmd and all of its jobs."""
        daemon = self._daemons[node].pid
        if not self.is_isolated:
            return [daemon]
        with contextlib.suppress(OSError):
            self._spaces[node] = os.readlink(f"/proc/{daemon}/ns/uts")
        return [pid for pid in _pids() if _space(pid) == self._spaces.get(node, _space(daemon))]

    def crash(self, node: str) -> None:
        """Power loss: everything on it is gone at once."""
        for _ in range(3):  # what was begun meanwhile, too
            self._signal(node, signal.SIGKILL)
        self._daemons[node].wait()

    def hang(self, node: str) -> None:
        """Nothing on it moves or answers."""
        self._signal(node, signal.SIGSTOP)

    def unhang(self, node: str) -> None:
        """It goes on as if nothing had been."""
        self._signal(node, signal.SIGCONT)

    def restart(self, node: str) -> None:
        """Power on after a crash, and wait until it takes jobs."""
        self.start(node)
        self.wait_until_up(node)

    def wait_until_up(self, *nodes: str) -> None:
        """Until nodes (all of them, where none is named) take jobs."""
        wanted = nodes or self.nodes
        command = ("sinfo", "-h", "-p", "all", "-n", ",".join(wanted), "-N", "-o", "%T")
        up = {"idle", "mixed", "allocated", "completing"}

        def are_up() -> bool:
            found = _output(*command).split()
            return len(found) == len(wanted) and set(found) <= up

        _wait_for(are_up, self.root)

    def stop(self) -> None:
        """End all daemons."""
        for daemon in self._daemons.values():
            daemon.terminate()
        for daemon in self._daemons.values():
            _reap(daemon)

    def _signal(self, node: str, number: signal.Signals) -> None:
        for pid in self.processes(node):
            _send(pid, number)


@contextlib.contextmanager
def cluster(root: Path, nodes: int = 2, task_prolog: Path | None = None) -> Iterator[Cluster]:
    """A running SLURM; commands find it through SLURM_CONF. Skips the test where it cannot be."""
    if reason := missing():
        pytest.skip(reason)
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        found = Cluster(root, nodes)
        _configure(found, stack.enter_context(_ports(nodes + 1)), task_prolog)
        patch.setenv("SLURM_CONF", str(root / "slurm.conf"))
        stack.enter_context(_swept(root))
        stack.enter_context(_munge(root))
        stack.enter_context(_daemon(root, "slurmctld", ["slurmctld", "-D"]))
        stack.callback(found.stop)
        for node in found.nodes:
            found.start(node)
        found.wait_until_up()
        try:
            yield found
        finally:
            for node in found.nodes:
                found.unhang(node)
            subprocess.run(["scancel", "--user=root"], capture_output=True)
            _wait_for(lambda: not _output("squeue", "-h", "-t", "PD,R"), root)


def _configure(found: Cluster, ports: range, task_prolog: Path | None) -> None:
    root, host = found.root, socket.gethostname().partition(".")[0]
    facts = {"host": host, "port": ports[0], "root": root, "first_job": (ports[0] - _PORTS[0]) * 5 + 1}
    conf = _CONF.format(**facts, memory_per_cpu=MEMORY_MB // CPUS)
    for node, port in zip(found.nodes, ports[1:], strict=True):
        address = f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
        conf += f"{address} CPUs={CPUS} CoresPerSocket={CPUS} RealMemory={MEMORY_MB} State=UNKNOWN\n"
    conf += f"TaskProlog={task_prolog}\n" if task_prolog else ""
    (root / "slurm.conf").write_text(conf)
    (root / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # slurmd looks for one even where none is used
    known = "".join(f"127.0.0.1 {node}\n" for node in found.nodes)
    (root / "hosts").write_text(f"{Path('/etc/hosts').read_text()}\n{known}")
    for folder in ("state", "scratch", *(f"{kind}-{node}" for kind in ("spool", "scratch") for node in found.nodes)):
        (root / folder).mkdir()


@contextlib.contextmanager
def _swept(root: Path) -> Iterator[None]:
    """End what is left on the nodes afterwards, by a process that outlives us: also where the tests are killed."""
    command = [sys.executable, "-c", _SWEEP, str(root / "slurm.conf")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True):
        yield


@contextlib.contextmanager
def _munge(root: Path) -> Iterator[None]:
    key = root / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    names = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munge.pid", "seed-file": "munge.seed"}
    options = [f"--{option}={root / name}" for option, name in names.items()]
    with _daemon(root, "munged", ["munged", "--foreground", "--force", "--num-threads=2", *options]):
        _wait_for((root / "munge.sock").exists, root)
        yield


@contextlib.contextmanager
def _daemon(root: Path, name: str, command: list[str]) -> Iterator[None]:
    process = _start(root, name, command)
    try:
        yield
    finally:
        process.terminate()
        _reap(process)


def _start(root: Path, name: str, command: list[str]) -> subprocess.Popen[bytes]:
    with (root / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_end_with_us, start_new_session=True
        )


def _reap(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_with_us() -> None:
    """Have the kernel end a daemon with the tests, however they end."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


@contextlib.contextmanager
def _ports(number: int) -> Iterator[range]:
    """Ports that no other sandbox of this machine takes: a socket with the name of the block is held meanwhile."""
    starts = list(_PORTS[::_PORTS_EACH])
    first = os.getpid() % len(starts)
    for start in starts[first:] + starts[:first]:
        with socket.socket(socket.AF_UNIX) as lock:
            try:
                lock.bind(f"\0slurm-sandbox-{start}")
            except OSError:
                continue
            ports = range(start, start + number)
            if all(_is_free(port) for port in ports):
                yield ports
                return
    pytest.skip("no free ports for a SLURM")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _space(pid: int) -> str:
    """The UTS namespace of a process; empty where there is no such process."""
    try:
        return os.readlink(f"/proc/{pid}/ns/uts")
    except OSError:
        return ""


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def _wait_for(is_so: Callable[[], bool], root: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            logs = "\n".join(f"{path.name}: {path.read_text(errors='replace')[-600:]}" for path in root.glob("*.log"))
            pytest.fail(f"SLURM did not do as expected in {_PATIENCE:.0f} s:\n{logs}")
        time.sleep(0.1)
