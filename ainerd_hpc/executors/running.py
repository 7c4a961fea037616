"""The Dask workers of a scheduler that runs already."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ainerd_hpc import __version__
from ainerd_hpc.config import ExecutorConfig
from ainerd_hpc.console import size_text
from ainerd_hpc.errors import AinerdError
from ainerd_hpc.executors.through_dask import Dask, Fixed, connected
from ainerd_hpc.site.workers import Sizing

_PATIENCE = 30.0
"""Seconds in which a scheduler has to answer, and a first worker to be there."""


class _Running(Fixed):
    """A scheduler that somebody else looks after."""

    def __init__(self, client: Any, address: str) -> None:
        self._client, self._address = client, address
        self._alone_since: float | None = None

    def check(self) -> None:
        if self._client.status != "running":
            raise AinerdError(f"executor.address: the scheduler at {self._address} is gone; what is done is kept")
        if self._client.nthreads():
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > _PATIENCE:
            raise AinerdError(f"executor.address: the scheduler at {self._address} has no workers; start some")


@contextlib.contextmanager
def open_running(config: ExecutorConfig, sizing: Sizing, alone: bool, report: Path | None) -> Iterator[Dask]:
    """Workers that were there before, and will be after. Keys for TLS are those that Dask's own configuration names.

    Raises
    ------
    AinerdError
        The scheduler does not answer, has no workers, or they are not as tasks need them.
    """
    address = config.address
    target = {"scheduler_file": address} if address.endswith(".json") else {"address": address}
    if address.endswith(".json") and not Path(address).exists():
        raise AinerdError(f"executor.address: expected a scheduler file, found no {address}; start the scheduler first")
    with contextlib.ExitStack() as stack:
        try:
            client = stack.enter_context(connected(report, **target, timeout=_PATIENCE))
            client.wait_for_workers(1, timeout=_PATIENCE)
        except (OSError, TimeoutError) as error:
            text = " ".join(str(error).split())
            raise AinerdError(f"executor.address: no workers at {address}: {text}; are they running?") from None
        _check_workers(client, sizing)
        num_workers = len(client.nthreads())
        yield Dask(client, _Running(client, address), num_workers, config.threads, alone)


def _facts() -> dict[str, str]:
    """What has to be the same here and there."""
    names = ("dask", "distributed", "numpy", "zarr")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), "ainerd_hpc": __version__, **found}


def _check_workers(client: Any, sizing: Sizing) -> None:
    """Refuse workers that would give other bytes, or none."""
    ours = _facts()
    for worker, found in client.run(_facts, on_error="return").items():
        if not isinstance(found, Mapping):
            raise AinerdError(f"worker {worker}: cannot run ainerd-hpc {__version__} ({found}); install it there")
        for name, version in ours.items():
            if found[name] != version:
                raise AinerdError(
                    f"worker {worker}: expected {name} {version}, found {found[name]}; install the same version there"
                )
    for worker, facts in client.scheduler_info(n_workers=-1)["workers"].items():
        if facts["nthreads"] != 1:
            raise AinerdError(
                f"worker {worker}: expected 1 thread, found {facts['nthreads']}; "
                "start workers with --nthreads 1: tasks share threads by executor.threads"
            )
        if 0 < facts["memory_limit"] < sizing.memory:
            found, wanted = size_text(facts["memory_limit"]), size_text(sizing.memory)
            raise AinerdError(
                f"worker {worker}: expected {wanted} of memory (executor.memory), found {found}; lower executor.memory"
            )
