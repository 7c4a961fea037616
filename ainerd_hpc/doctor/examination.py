"""All checks of a site, and how they are told."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ainerd_hpc.config import RunConfig
from ainerd_hpc.console import console
from ainerd_hpc.doctor import batch, files, libraries, machine
from ainerd_hpc.doctor.finding import Check, Finding, State, examined
from ainerd_hpc.doctor.trial import Jobs, trials, tried
from ainerd_hpc.errors import AinerdError
from ainerd_hpc.site.site_file import SiteConfig

_STYLES: Mapping[State, str] = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}
_MORE_THAN_WAITING = 25.0
"""Seconds beyond the wait for a job in which it is submitted, cancelled, and has left."""


def examine(
    config: RunConfig | None,
    site: SiteConfig | None,
    archive: Path,
    *,
    wait: float = 30.0,
    two_nodes: bool = False,
    as_json: bool = False,
) -> None:
    """Make all checks and tell each in a line; nothing is left behind.

    Parameters
    ----------
    archive : Path
        Its folder, or where it will be.
    wait : float
        Seconds for a job.
    two_nodes : bool
        Try the network between two nodes also where the site file runs everything on one.

    Raises
    ------
    AinerdError
        Something has failed.
    """
    jobs = Jobs(site) if site else None
    with _folder_at(archive) as folder:
        checks = [*_of_machine(config), *_of_files(archive, folder), *_of_programs(_launcher(config, site))]
        if site and jobs:
            checks += _of_batch(config, site, folder, jobs, wait, two_nodes)
        try:
            findings = _tell(examined(checks), as_json)
        finally:
            if jobs:
                jobs.close()
    if failed := [finding.check for finding in findings if finding.state == "failed"]:
        raise AinerdError(f"doctor: {len(failed)} of {len(findings)} checks failed: {', '.join(failed)}")


def _of_machine(config: RunConfig | None) -> list[Check]:
    here = config.executor if config and config.executor.kind == "local" else None
    asked = (here.workers or 0) * here.threads if here else 0
    return [
        Check("libraries", libraries.python_and_libraries),
        Check("threads", partial(machine.threads, asked)),
        Check("limits", machine.limits),
        Check("locale", machine.words),
        Check("scratch", files.scratch),
    ]


def _of_programs(launcher: str) -> list[Check]:
    """Those that take longest."""
    return [
        Check("MPI", partial(libraries.mpi, launcher == "mpiexec"), 40),
        Check("torch", libraries.torch_and_gpus, 50),
    ]


def _of_files(archive: Path, folder: Path | OSError) -> list[Check]:
    if isinstance(folder, OSError):
        step = "give a folder that you may write to, with --archive DIR or in the config"
        finding = Finding("archive", "failed", f"cannot write there: {folder}", step)
        return [Check("archive", lambda: [finding])]
    found = Finding("archive", "ok", f"{archive} {'is there' if archive.exists() else 'can be made'}")
    own = {
        "room": files.room,
        "quota": files.quota,
        "rename": files.rename,
        "lock": files.lock,
        "fsync": files.sync,
        "HDF5 locks": files.hdf5_locks,
        "clock": files.clock,
    }
    return [
        Check("archive", lambda: [found]),
        *(Check(name, partial(examine, folder)) for name, examine in own.items()),
    ]


def _of_batch(
    config: RunConfig | None,
    site: SiteConfig,
    folder: Path | OSError,
    jobs: Jobs,
    wait: float,
    two_nodes: bool,
) -> list[Check]:
    found = [Check("commands", partial(batch.commands, site), 30)]
    if isinstance(folder, OSError):
        return found
    found.append(Check("jobs", partial(batch.queues, site, folder / "queues"), 40))
    for trial in trials(site, _launcher(config, site), two_nodes):
        examine = partial(tried, trial, site, folder / trial.kind, jobs, wait)
        found.append(Check(f"{trial.kind} job", examine, wait + _MORE_THAN_WAITING))
    return found


def _launcher(config: RunConfig | None, site: SiteConfig | None) -> str:
    """The launcher of the ranks of a training."""
    own = site.ddp.launcher if site else None
    return own or (config.train.launcher if config else "torchrun")


@contextmanager
def _folder_at(archive: Path) -> Iterator[Path | OSError]:
    """A folder in the archive, or where it will be, for as long as the block; the error where there can be none."""
    place = next(folder for folder in (archive.absolute(), *archive.absolute().parents) if folder.is_dir())
    try:
        folder = Path(tempfile.mkdtemp(prefix=".ainerd-doctor-", dir=place))
    except OSError as error:
        yield error
        return
    try:
        yield folder
    finally:
        for _ in range(5):  # NFS keeps what is open yet; jobs that were cancelled write a last line
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(0.5)


def _tell(findings: Iterator[Finding], as_json: bool) -> Sequence[Finding]:
    """A line for each as soon as it is known, or all of them as JSON."""
    told = []
    for finding in findings:
        told.append(finding)
        if not as_json:
            console.print(f"{finding.state:8}", style=_STYLES[finding.state], end=" ")
            console.print(f"{finding.check:22} {finding}", markup=False)
    if as_json:
        print(json.dumps([asdict(finding) for finding in told], indent=2))
    else:
        numbers = Counter(finding.state for finding in told)
        console.print(", ".join(f"{numbers[state]} {state}" for state in _STYLES if numbers[state]))
    return told
