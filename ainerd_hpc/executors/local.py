"""Dask workers on this machine, as children of this process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ainerd_hpc.config import ExecutorConfig
from ainerd_hpc.errors import AinerdError
from ainerd_hpc.executors.pages import Pages
from ainerd_hpc.executors.protection import temporary_security
from ainerd_hpc.executors.through_dask import Dask, Fixed, connected, deaf_to_interrupts, settings, worker_environment
from ainerd_hpc.site.workers import Sizing

_PATIENCE = 180.0
"""Seconds without any worker."""


class _Here(Fixed):
    """A worker that dies is started anew by the process that watches it; not where it dies as soon as it is there."""

    def __init__(self, cluster: Any, client: Any, num_workers: int) -> None:
        self._cluster, self._client, self._num_workers = cluster, client, num_workers
        self._alone_since: float | None = None

    def check(self) -> None:
        if len(self._cluster.workers) < self._num_workers:
            self._cluster.scale(self._num_workers)
        if self._client.nthreads():
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > _PATIENCE:
            raise AinerdError("executor: Dask workers end as soon as they start, for minutes; try --executor inline")


@contextlib.contextmanager
def open_local(config: ExecutorConfig, sizing: Sizing, alone: bool, report: Path | None) -> Iterator[Dask]:
    """Workers that live as long as the block; only this machine can reach them, and only this user may."""
    import dask
    from dask.distributed import LocalCluster

    pages = Pages(report is not None)
    environment = {"distributed.nanny.pre-spawn-environ": worker_environment(config.threads)}
    with dask.config.set(settings(alone, pages) | environment), contextlib.ExitStack() as stack:
        with deaf_to_interrupts():
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=sizing.workers,
                    threads_per_worker=1,
                    processes=True,
                    memory_limit=sizing.limit,
                    host="127.0.0.1",
                    protocol="tls://",
                    security=temporary_security(),
                    scheduler_kwargs=pages.scheduler_options,
                    silence_logs=50,
                )
            )
        client = stack.enter_context(connected(report, address=cluster))
        yield Dask(client, _Here(cluster, client, sizing.workers), sizing.workers, config.threads, alone)
