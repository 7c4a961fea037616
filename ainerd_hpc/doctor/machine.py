"""Cores, limits and words of the machine on which this runs."""

from __future__ import annotations

import locale
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from ainerd_hpc.console import size_text
from ainerd_hpc.doctor.finding import Finding
from ainerd_hpc.site.allocation import cores_here

_CGROUPS = Path("/sys/fs/cgroup")
_UNLIMITED = 2**60
"""Bytes above which a limit of memory is none."""
_FEW_FILES = 4096


def threads(asked: int = 0) -> Iterator[Finding]:
    """Cores and memory against what the environment and `asked` (threads of all workers, if known) take for granted."""
    cores, own = cores_here(), os.environ.get("OMP_NUM_THREADS", "")
    share = min(cpu_limit(), cores)
    limit = memory_limit()
    told = f", at most {size_text(limit)} of memory" if limit < _UNLIMITED else ""
    found = f"{cores} of {os.cpu_count()} cores are ours{told}; OMP_NUM_THREADS is {own or 'not set'}"
    if share < cores:
        step = f"start no more than {max(1, int(share))} workers here (executor.workers), or ask for more cores"
        yield Finding("threads", "warning", f"{found}; a cgroup gives the time of {share:g} cores", step)
    elif own.isdigit() and int(own) > cores:
        yield Finding("threads", "warning", found, "unset OMP_NUM_THREADS, or set it to the threads of one task")
    elif asked > cores:
        step = "lower executor.workers or executor.threads"
        yield Finding("threads", "warning", f"{found}; the workers of the config have {asked} threads", step)
    else:
        yield Finding("threads", "ok", found)


def cpu_limit() -> float:
    """Cores whose time a cgroup gives this process; infinite where none limits it."""
    found = [float("inf")]
    for folder in _own_cgroups("cpu"):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        quota, period = quota or _read(folder / "cpu.cfs_quota_us"), period or _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():
            found.append(int(quota) / int(period))
    return min(found)


def memory_limit() -> int:
    """Bytes that a cgroup gives this process; 2**60 or more where none limits it."""
    names = ("memory.max", "memory.limit_in_bytes")
    texts = [_read(folder / name) for folder in _own_cgroups("memory") for name in names]
    return min([_UNLIMITED, *(int(text) for text in texts if text.isdigit())])


def _own_cgroups(controller: str) -> Iterator[Path]:
    """Folders of the cgroup of this process and of those above it, of either version."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or controller in controllers.split(","):
            root = _CGROUPS if number == "0" else _CGROUPS / controllers
            own = Path(path.lstrip("/"))
            yield from (root / folder for folder in (own, *own.parents))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def limits() -> Iterator[Finding]:
    """Open files: a client of many workers has some for each of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{soft} open files, {hard} at most"
    step = f"ulimit -n {hard}, in ~/.bashrc" if hard > soft else "ask the administrators for more"
    few = soft < _FEW_FILES
    yield Finding("limits", "warning" if few else "ok", found, step if few else "")


def words() -> Iterator[Finding]:
    """Names of files and texts are UTF-8; what is written can be read again."""
    encodings = {sys.getfilesystemencoding().lower(), locale.getpreferredencoding(False).lower()}
    status = dict(line.partition(":")[::2] for line in _read(Path("/proc/self/status")).splitlines())
    umask = int(status.get("Umask", "22"), 8)
    found = f"{', '.join(sorted(encodings))}; umask {umask:03o}"
    if encodings != {"utf-8"}:
        yield Finding("locale", "warning", found, "export LC_ALL=C.UTF-8")
    elif umask & 0o700:
        yield Finding("locale", "failed", f"{found}: we could not read our own files", "umask 022")
    else:
        yield Finding("locale", "ok", found)
