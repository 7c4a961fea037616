"""Dask workers in jobs of their own, as many as there is work for; dask-jobqueue submits them.

`_Refill` takes the place of Dask's way to adapt, which looks at the tasks that it was handed (we hand it few at a
time), never replaces a lost job that had several workers, and waits for ever where jobs are refused or end at once.
"""

from __future__ import annotations

import contextlib
import math
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import psutil
from distributed.deploy.adaptive import Adaptive
from distributed.diagnostics.plugin import SchedulerPlugin

from ainerd_hpc.config import ExecutorConfig
from ainerd_hpc.console import tell
from ainerd_hpc.errors import SubmissionError
from ainerd_hpc.executors.pages import Pages
from ainerd_hpc.executors.protection import security_files
from ainerd_hpc.executors.through_dask import Dask, connected, settings
from ainerd_hpc.executors.worker_jobs import JOB_NAME, call, worker_cluster
from ainerd_hpc.site.allocation import PBS_ENDED, outside_environment
from ainerd_hpc.site.workers import Sizing, site_of

_INTERVAL = 1.0
"""Seconds between looks at the workers; they cost the batch system nothing."""
_LOST_AFTER = 15.0
"""Seconds without any of its workers after which a job is taken for lost: a worker that died comes back sooner."""
_IDLE = 60.0
"""Seconds that jobs are kept for which there is no work: the next stage may need them."""
_ASK, _ASK_AT_MOST = 2.0, 60.0
"""Seconds until the batch system is asked about jobs that have not come yet; twice as long each time."""
_FAILED_STARTS = 3
"""Jobs that may end, one after the other, before any worker came."""
_LEFT_OFTEN = 5
"""Times that the worker of a task may leave before it is done, however it left."""


@contextlib.contextmanager
def open_elastic(
    config: ExecutorConfig, sizing: Sizing, alone: bool, report: Path | None, folder: Path
) -> Iterator[Dask]:
    """Workers in jobs that live as long as the block, or shorter: none while there is nothing to do.

    Raises
    ------
    ConfigError
        There is no site file, or it does not say what a job has.
    SubmissionError
        The batch system refuses the jobs of the workers, or they end before they reach this process.
    """
    site = site_of(config)
    most = site.array.jobs
    if config.workers:
        most = min(most, math.ceil(config.workers / sizing.workers))
    pages = Pages(report is not None)
    options = pages.scheduler_options
    interface = site.environment.interface
    if interface not in psutil.net_if_addrs():  # a login node may have other networks than the nodes
        options["interface"] = None
    with (
        security_files(folder / "keys") as security,
        dask.config.set(settings(alone, pages)),
        worker_cluster(site, sizing, config.threads, folder, security, scheduler_options=options) as cluster,
    ):
        if site.system == "slurm":
            _test_script(cluster.job_script())
        more = {"system": site.system, "workers": sizing.workers, "folder": folder}
        refill = cluster.adapt(Adaptive=_Refill, interval=_INTERVAL, maximum=most, **more)
        with connected(report, address=cluster) as client:
            yield Dask(client, refill, most * sizing.workers, config.threads, alone)


def _test_script(script: str) -> None:
    """Have SLURM look at the script of a job before any is submitted."""
    if shutil.which("sbatch") is None:
        raise SubmissionError("sbatch: no such command here; run this where the batch system can be reached")
    result = subprocess.run(
        ["sbatch", "--test-only"], input=script, capture_output=True, text=True, env=outside_environment(), check=False
    )
    if result.returncode:
        message = " ".join(result.stderr.split())
        raise SubmissionError(f"sbatch refused the job of a Dask worker (exit {result.returncode}): {message}")


class _Leavings(SchedulerPlugin):
    """Counts how often the workers of tasks left, also in order: a task may take longer than a worker lives."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.worn_out: set[str] = set()

    def transition(self, key: Any, start: str, finish: str, *_: Any, stimulus_id: str, **__: Any) -> None:
        if start == "processing" and finish not in ("memory", "erred"):
            self.counts[key] += 1
            if self.counts[key] >= _LEFT_OFTEN:
                self.worn_out.add(key)


class _Refill(Adaptive):
    """Keeps as many jobs as there is work for, and replaces those that are lost. Runs beside the scheduler."""

    cluster: Any

    def __init__(self, cluster: Any, *, system: str, workers: int, folder: Path, **dask: Any) -> None:
        self._system, self._workers, self._folder = system, workers, folder
        self._left = 0
        self._failure = ""
        self._seen = dict[str, float]()
        self._spare_since, self._pause_until, self._ask_at = time.monotonic(), 0.0, 0.0
        self._pause, self._ask_every, self._failed_starts = _ASK, _ASK, 0
        self._leavings = _Leavings()
        cluster.scheduler.add_plugin(self._leavings)
        super().__init__(cluster, **dask)  # looks at the workers from now on

    @property
    def worn_out(self) -> set[str]:
        return self._leavings.worn_out

    def want(self, num_tasks: int) -> None:
        self._left = num_tasks

    def check(self) -> None:
        if self._failure:
            raise SubmissionError(self._failure)

    async def adapt(self) -> None:
        now = time.monotonic()
        await self._remove_hung()
        present = self._present()
        self._seen.update(dict.fromkeys(present, now))
        lost = await self._lost(present, now)
        if lost:
            await self.cluster.scale_down(lost)
        if present:
            self._failed_starts, self._pause, self._failure = 0, _ASK, ""
        wanted, found = min(int(self.maximum), math.ceil(self._left / self._workers)), len(self.cluster.worker_spec)
        if wanted >= found:
            self._spare_since = now
        if wanted > found and now >= self._pause_until:
            self._ask_every, self._ask_at = _ASK, now + _ASK
            self.cluster.scale(jobs=wanted)
        elif wanted < found and now - self._spare_since > _IDLE:
            await self.cluster.scale_down(self._idle(present)[: found - wanted])

    async def _remove_hung(self) -> None:
        """Take its tasks from a worker that is silent; Dask would try to restart it first, for half a minute."""
        scheduler = self.cluster.scheduler
        for worker in list(scheduler.workers.values()):
            if scheduler.worker_ttl and time.time() - worker.last_seen > scheduler.worker_ttl:
                tell(f"worker {worker.address} is silent for {scheduler.worker_ttl:.0f} s; others take its place")
                await scheduler.remove_worker(worker.address, stimulus_id="silent")

    def _job(self, worker: Any) -> str:
        """The name of the job of a worker: dask-jobqueue numbers the workers of a job."""
        name = str(worker.name)
        return name if name in self.cluster.worker_spec else name.rpartition("-")[0]

    def _present(self) -> set[str]:
        return {self._job(worker) for worker in self.cluster.scheduler.workers.values()}

    def _idle(self, present: set[str]) -> list[str]:
        """Jobs that can go, those that have not come yet before the others."""
        workers = self.cluster.scheduler.workers.values()
        busy = {self._job(worker) for worker in workers if worker.processing}
        return sorted(set(self.cluster.worker_spec) - busy, key=lambda name: name in present)

    async def _lost(self, present: set[str], now: float) -> set[str]:
        """Jobs that were refused, whose workers are gone, or that ended before any worker came."""
        jobs = {name: job for name, job in self.cluster.workers.items() if name not in present}
        refused = {name for name, job in jobs.items() if job.refusal}
        gone = {name for name in jobs if name in self._seen and now - self._seen[name] > _LOST_AFTER}
        early = await self._early(jobs.keys() - refused - self._seen.keys(), now)
        if refused:
            self._pause_until, self._pause = now + self._pause, min(2 * self._pause, _ASK_AT_MOST)
        self._failed_starts += len(early)
        if refused and len(refused) == len(self.cluster.workers):
            self._failure = next(jobs[name].refusal for name in refused)
        elif self._failed_starts >= _FAILED_STARTS and not present:
            self._failure = f"jobs of Dask workers end before they reach this process: {self._last_words()}"
        if gone:
            tell(f"the workers of {len(gone)} jobs are lost; others take their place")
        return refused | gone | early

    async def _early(self, names: set[str], now: float) -> set[str]:
        """The jobs, of those that have not come yet, that the batch system does not know any more."""
        if not names or now < self._ask_at:
            return set()
        self._ask_every = min(2 * self._ask_every, _ASK_AT_MOST)
        self._ask_at = now + self._ask_every
        ids = {name: str(self.cluster.workers[name].job_id) for name in names}
        try:
            known = await _known(self._system, list(ids.values()))
        except SubmissionError:
            return set()
        return {name for name, job in ids.items() if job.partition(".")[0] not in known}

    def _last_words(self) -> str:
        logs = sorted(self._folder.glob("*"), key=lambda path: path.stat().st_mtime)
        logs = [path for path in logs if path.is_file() and path.stat().st_size]
        if not logs:
            return f"they left no log in {self._folder}"
        return f"{logs[-1].read_text(errors='replace').splitlines()[-1].strip()}; see {logs[-1]}"


async def _known(system: str, jobs: list[str]) -> set[str]:
    """Numbers of the jobs that have not ended, by one question."""
    if system == "slurm":
        return set((await call("squeue", "--me", "--noheader", f"--name={JOB_NAME}", "--format=%i")).split())
    return set(re.findall(r"^Job Id:\s*(\d+)", await call("qstat", "-f", *jobs, accept=(0, *PBS_ENDED)), re.MULTILINE))
