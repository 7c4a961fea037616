"""Dask workers on every node of the job in which this process runs, which is their client and their scheduler."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ainerd_hpc.config import ExecutorConfig
from ainerd_hpc.console import tell
from ainerd_hpc.errors import AinerdError
from ainerd_hpc.executors.pages import Pages
from ainerd_hpc.executors.protection import security_files, worker_options
from ainerd_hpc.executors.through_dask import Dask, Fixed, connected, settings, worker_environment
from ainerd_hpc.site.allocation import System, find_allocation, spread_command
from ainerd_hpc.site.workers import Sizing, site_of

_SPREAD: Mapping[System, tuple[str, ...]] = {
    "slurm": (
        *("srun", "--overlap", "--no-kill", "--kill-on-bad-exit=0", "--nodes={nodes}", "--ntasks={ranks}"),
        *("--ntasks-per-node={per_node}", "--cpus-per-task={cores}"),
    ),
    "pbs": ("mpiexec", "-n", "{ranks}", "-ppn", "{per_node}"),
}
"""Other than for ranks, which need each other: where one node is lost, workers of the others go on."""
_STARTS = 3
"""Times that the workers are started, where all of them have ended."""
_GRACE = 15.0
"""Seconds that workers have to end in order."""


@contextlib.contextmanager
def open_nodes(
    config: ExecutorConfig, sizing: Sizing, alone: bool, report: Path | None, folder: Path
) -> Iterator[Dask]:
    """Workers on all nodes that live as long as the block: `executor.workers` of them on each.

    Raises
    ------
    ConfigError
        This process is in no job, and nothing says how to start processes.
    AinerdError
        All workers have ended, and end again when they are started anew.
    """
    import dask
    from dask.distributed import LocalCluster

    found = find_allocation()
    template = config.spread or (_SPREAD[found.system] if found else ())
    num_nodes = max(1, len(found.nodes)) if found else 1
    spread = spread_command(template, nodes=num_nodes, per_node=1, cores=sizing.workers * config.threads)
    interface = site_of(config).environment.interface if config.site else ""
    options = ("--interface", interface) if interface else ()
    pages = Pages(report is not None)
    with (
        security_files(folder / "keys") as security,
        dask.config.set(settings(alone, pages)),
        LocalCluster(
            n_workers=0,
            threads_per_worker=1,
            protocol="tls://",
            security=security,
            scheduler_kwargs=pages.scheduler_options,
            silence_logs=50,
            **_place(interface),
        ) as cluster,
        _Group([*spread, *_command(config, sizing, cluster.scheduler_address, security), *options], folder) as group,
        connected(report, address=cluster) as client,
    ):
        yield Dask(client, group, num_nodes * sizing.workers, config.threads, alone)


def _place(interface: str) -> dict[str, str]:
    """Where the scheduler listens: on the network between the nodes."""
    from distributed.utils import get_ip

    return {"interface": interface} if interface else {"host": get_ip()}


def _command(config: ExecutorConfig, sizing: Sizing, address: str, security: object) -> list[str]:
    """One process a node, which starts and watches its workers."""
    environment = [f"{name}={value}" for name, value in worker_environment(config.threads).items()]
    return [
        *("env", *environment, sys.executable, "-m", "distributed.cli.dask_worker", address),
        *("--nworkers", str(sizing.workers), "--nthreads", "1", "--memory-limit", str(sizing.limit)),
        *("--death-timeout", "60", "--no-dashboard", *worker_options(security)),
    ]


class _Group(Fixed):
    """The workers, started by one command, as one group of processes that ends with this one."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._command, self._log_path, self._num_starts = command, folder / "workers.log", 0

    def __enter__(self) -> _Group:
        self._start()
        return self

    def _start(self) -> None:
        self._num_starts += 1
        try:
            with self._log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=_end_with_parent,
                )
        except OSError as error:
            raise AinerdError(f"{self._command[0]}: cannot start Dask workers: {error}; see executor.spread") from None

    def check(self) -> None:
        status = self._process.poll()
        if status is None:
            return
        lines = self._log_path.read_text(errors="replace").splitlines() or ["no message"]
        if self._num_starts == _STARTS:
            raise AinerdError(
                f"{self._command[0]}: the Dask workers ended {_STARTS} times (exit {status}): {lines[-1]}; "
                f"see {self._log_path}"
            )
        tell(f"all Dask workers have ended (exit {status}): {lines[-1]}; they are started again")
        self._start()

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)
                return


def _end_with_parent() -> None:
    """Have the kernel end the command when this process ends, however it does (Linux)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1: PR_SET_PDEATHSIG
