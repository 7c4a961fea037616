"""How many worker processes a place has, and how much memory each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import psutil

from ainerd_hpc.config import ExecutorConfig
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.site.allocation import cores_here
from ainerd_hpc.site.site_file import KINDS, NodesConfig, SiteConfig, load_site

_OF_PLACE = 0.9
"""Share of the memory of a place that its workers may use: the rest is for what starts and watches them."""
TERMINATE = 0.95
"""Share of its limit at which Dask ends a worker."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """The worker processes of one place: this machine, a node, or a job."""

    workers: int
    memory: int
    """Bytes that one worker may use."""
    most: int
    """Bytes that one worker may use where it is the only one of the largest place there is."""

    def larger(self) -> Sizing | None:
        """Half as many workers with twice the memory, or one with more of it; None where there is no larger one."""
        if self.workers > 1:
            workers = self.workers // 2
            return replace(self, workers=workers, memory=self.memory * self.workers // workers)
        if self.memory < self.most:
            return replace(self, memory=min(2 * self.memory, self.most))
        return None

    @property
    def limit(self) -> int:
        """What Dask is told as the memory of a worker, so that it ends one that uses more than `memory`."""
        return int(self.memory / TERMINATE)

    @property
    def place_bytes(self) -> int:
        """Memory that a place needs for its workers."""
        return int(self.workers * self.memory / _OF_PLACE)


def worker_sizing(config: ExecutorConfig) -> Sizing:
    """The workers of one place, as configured.

    Raises
    ------
    ConfigError
        The site file does not say what a job of `elastic` has, or has not enough for one worker.
    """
    if config.kind == "elastic":
        return _sizing_of_jobs(config, site_of(config))
    workers = 1 if config.kind == "scheduler" else config.num_workers
    if config.kind == "allocation" and not config.workers:
        workers = max(1, cores_here() // config.threads)
    memory = int(config.memory or _OF_PLACE * psutil.virtual_memory().available / workers)
    return Sizing(workers, memory, workers * memory)


def worker_memory(config: ExecutorConfig) -> int:
    """Bytes that one worker process may use: as configured, else its share of the memory of its machine or job."""
    return worker_sizing(config).memory


def site_of(config: ExecutorConfig) -> SiteConfig:
    """What is special about the machine.

    Raises
    ------
    ConfigError
        There is no site file, or it does not say what a job has.
    """
    if config.site is None:
        raise ConfigError(f"executor.kind: {config.kind}: expected executor.site, found none; give a site file")
    site = load_site(config.site)
    nodes = site.of("array")
    if config.kind == "elastic" and not (nodes.cores and nodes.memory):
        raise ConfigError(f"{config.site}: expected array.cores and array.memory for Dask workers; give both")
    return site


def _sizing_of_jobs(config: ExecutorConfig, site: SiteConfig) -> Sizing:
    nodes = site.of("array")
    workers = max(1, (nodes.cores or 1) // config.threads)
    if config.memory:
        workers = min(workers, int(_bytes(nodes) // config.memory))
    if workers == 0:
        found = f"array.memory of {config.site} leaves {_bytes(nodes)} bytes"
        raise ConfigError(f"executor.memory: expected less than a job has, found {config.memory}, {found}; lower it")
    workers = min(workers, config.workers or workers)
    largest = max(_bytes(site.of(kind)) for kind in KINDS)
    return Sizing(workers, int(config.memory or _bytes(nodes) // workers), largest)


def _bytes(nodes: NodesConfig) -> int:
    return int(_OF_PLACE * (nodes.memory or 0))
