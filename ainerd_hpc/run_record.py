"""Who ran what, when, with which versions and config, and what came of it: `runs/<run_id>.json`."""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata

from ainerd_hpc import __version__
from ainerd_hpc.archive import Archive
from ainerd_hpc.config import RunConfig, digest
from ainerd_hpc.publishing import write_json
from ainerd_hpc.types import StageReport

_LIBRARIES = ("numpy", "scipy", "zarr", "torch", "lightning", "umap-learn", "hdbscan", "dask", "h5py")


def write_record(config: RunConfig, started: datetime, state: str, reports: Sequence[StageReport], **more: str) -> None:
    """Publish the record of a run of this process, as it stands now."""
    run_id = f"{started:%Y%m%dT%H%M%S}-{socket.gethostname()}-{os.getpid()}"
    facts = {
        "run_id": run_id,
        "state": state,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round((datetime.now(UTC) - started).total_seconds(), 1),
        "user": os.environ.get("USER") or str(os.getuid()),
        "host": socket.gethostname(),
        "command": sys.argv,
        "versions": versions(),
        "config": config.model_dump(mode="json"),
        "config_digest": digest(config),
        "stages": [asdict(report) for report in reports],
        "bytes_written": sum(report.bytes_written for report in reports),
    }
    write_json(config.archive / "runs" / f"{run_id}.json", {**facts, **more})


def versions() -> dict[str, str]:
    """Of this package, of Python, and of the libraries that the products depend on."""
    ours = {"ainerd_hpc": __version__, "python": platform.python_version()}
    return ours | {name: metadata.version(name) for name in _LIBRARIES}


def last_run(archive: Archive) -> str:
    """One line about the newest run."""
    records = sorted((archive.root / "runs").glob("*.json"))
    if not records:
        return "none"
    data = json.loads(records[-1].read_text(encoding="utf-8"))
    killed = data["state"] == "running" and not archive.is_locked()
    return f"{data['run_id']}: {'killed' if killed else data['state']}, started {data['started']}"
