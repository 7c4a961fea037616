"""The file system of the archive: room, and whether it does what the archive relies on."""

from __future__ import annotations

import fcntl
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from ainerd_hpc.console import size_text
from ainerd_hpc.doctor.finding import Finding, role, said_by

_LITTLE_ROOM, _FEW_INODES = 10e9, 100_000
_SLOW_SYNC, _SKEW = 0.5, 5.0
"""Seconds."""
_LOCAL_LOCKS = {"localflock", "nolock", "local_lock=all", "local_lock=flock"}
"""Options of a mount (Lustre, NFS) with which nodes do not see each other's locks."""
_REPLACEMENTS, _SIZE = 300, 2**16


class Mount(NamedTuple):
    """The mount of a file system."""

    device: str
    kind: str
    options: frozenset[str]


def mount_of(folder: Path) -> Mount:
    """The mount in which a folder lies."""
    found = [part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)]
    if not found:
        return Mount("", "unknown", frozenset())
    part = max(reversed(found), key=lambda part: len(part.mountpoint))
    return Mount(part.device, part.fstype, frozenset(part.opts.split(",")))


def room(folder: Path) -> Iterator[Finding]:
    """Bytes and inodes that are free."""
    usage, state = shutil.disk_usage(folder), os.statvfs(folder)
    found = f"{mount_of(folder).kind}, {size_text(usage.free)} free of {size_text(usage.total)}"
    if usage.free < _LITTLE_ROOM:
        yield Finding("room", "warning", found, "free some, or put the archive elsewhere; `plan` says what it needs")
    else:
        yield Finding("room", "ok", found)
    if not state.f_files:
        yield Finding("inodes", "ok", "without a fixed number")
        return
    found, few = f"{state.f_favail:,} free of {state.f_files:,}", state.f_favail < _FEW_INODES
    yield Finding("inodes", "warning" if few else "ok", found, "a scan takes about four files: free some" * few)


def quota(folder: Path) -> Iterator[Finding]:
    """What this user may use, where a program says it."""
    mount = mount_of(folder)
    command = (
        ["quota", "-wp"] if mount.kind != "lustre" else ["lfs", "quota", "-q", "-u", str(os.getuid()), str(folder)]
    )
    if shutil.which(command[0]) is None:
        yield Finding("quota", "skipped", f"no program `{command[0]}` here: what is free above may not be all yours")
        return
    done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    yield judged_quota(done.stdout, mount.device if mount.kind != "lustre" else "")


def judged_quota(text: str, device: str) -> Finding:
    """The finding from lines `FILESYSTEM kB quota limit grace files quota limit grace`; no device: any file system."""
    for line in text.splitlines():
        words = line.split()
        if len(words) < 9 or not words[1].rstrip("*").isdigit() or (device and words[0] != device):
            continue
        parts = [_used("bytes", words[1:4], 1024), _used("files", words[5:8], 1)]
        worst = max(share for share, _ in parts)
        found = ", ".join(told for _, told in parts)
        if worst >= 1:
            return Finding("quota", "failed", found, "free some, or ask for more")
        return Finding("quota", "warning" if worst > 0.9 else "ok", found, "free some soon" if worst > 0.9 else "")
    return Finding("quota", "ok", "none on this file system")


def _used(what: str, words: list[str], unit: int) -> tuple[float, str]:
    """Share of the lower of two limits that is used, and how that is told."""
    used, *limits = (int("".join(filter(str.isdigit, word)) or 0) * unit for word in words)
    lowest = min((limit for limit in limits if limit), default=0)
    numbers = [size_text(number) if what == "bytes" else f"{number:,}" for number in (used, lowest)]
    if not lowest:
        return 0.0, f"{numbers[0]} {'' if what == 'bytes' else what + ' '}used, no limit".replace("  ", " ")
    return used / lowest, f"{numbers[0]} of {numbers[1]}{'' if what == 'bytes' else ' ' + what}"


def rename(folder: Path) -> Iterator[Finding]:
    """Whoever reads a file that another process replaces finds the old one or the new one, whole."""
    path = folder / "replaced"
    path.write_bytes(b"0" * _SIZE)
    num_reads = num_wrong = 0
    with subprocess.Popen(role("replace", str(path)), stdin=subprocess.DEVNULL) as other:
        while other.poll() is None:
            num_reads += 1
            try:
                text = path.read_bytes()
            except FileNotFoundError:
                text = b""
            num_wrong += len(text) != _SIZE or len(set(text)) != 1
    if other.returncode:
        yield Finding("rename", "failed", f"cannot replace {path}", "put the archive elsewhere")
    elif num_wrong:
        found = f"{num_wrong} of {num_reads} reads found no whole file while it was replaced"
        yield Finding("rename", "failed", found, "put the archive on another file system")
    else:
        yield Finding("rename", "ok", f"whole in {num_reads} reads, while it was replaced {_REPLACEMENTS} times")


def replace(path: Path) -> None:
    """Replace a file again and again, in the other process."""
    for number in range(_REPLACEMENTS):
        other = path.with_name("replacing")
        other.write_bytes(b"%d" % (number % 10) * _SIZE)
        other.replace(path)


def lock(folder: Path) -> Iterator[Finding]:
    """What one process holds, another one finds held."""
    path, step = folder / "locked_here", "put the archive on a file system with flock (Lustre: mount with -o flock)"
    if local := _LOCAL_LOCKS & mount_of(folder).options:
        found = f"the file system is mounted with {', '.join(sorted(local))}: nodes do not see each other's locks"
        yield Finding("lock", "failed", found, "start runs from one node only, or have it mounted with flock")
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            yield Finding("lock", "failed", str(error), step)
            return
        held = said_by(role("lock", str(path)), 15)
    free = said_by(role("lock", str(path)), 15)
    if (held, free) == ((0, "held\n"), (0, "free\n")):
        yield Finding("lock", "ok", "another process sees it held, and free again")
    else:
        found = f"another process finds it {held[1].strip()} while held, {free[1].strip()} when let go"
        yield Finding("lock", "failed", found, step)


def look_at_lock(path: Path) -> str:
    """`held` by somebody, or `free`."""
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "held"
    return "free"


def sync(folder: Path) -> Iterator[Finding]:
    """How long it takes until a megabyte is safe."""
    times = []
    for _ in range(5):
        with (folder / "synced").open("wb") as file:
            file.write(os.urandom(2**20))
            began = time.perf_counter()
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    slow = statistics.median(times) > _SLOW_SYNC
    found = f"{1000 * statistics.median(times):.1f} ms for a megabyte, {1000 * max(times):.1f} ms at most"
    step = "every product waits for it: make tasks larger, or put the archive elsewhere"
    yield Finding("fsync", "warning" if slow else "ok", found, step if slow else "")


def clock(folder: Path) -> Iterator[Finding]:
    """This host against the file system, which may be another host."""
    path = folder / f"touched.{os.getpid()}"
    path.write_bytes(b"x")
    yield judged_clock("clock", time.time() - path.stat().st_mtime, "the file system")


def judged_clock(check: str, ahead: float, of_what: str) -> Finding:
    """The finding from the seconds that one clock is ahead of another."""
    far = abs(ahead) > _SKEW
    found = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} {of_what}"
    step = "ask for NTP there: rates and times left are wrong; what is done is decided by digests, not by times"
    return Finding(check, "warning" if far else "ok", found, step if far else "")


_LOCKING = ("TRUE", "1", "BEST_EFFORT")
"""Values of HDF5_USE_FILE_LOCKING that have HDF5 take locks, whatever a program asks for."""


def hdf5_locks(folder: Path) -> Iterator[Finding]:
    """HDF5 locks what it opens, and refuses where the file system cannot; what we read, only where it is told to."""
    status, said = said_by(role("hdf5", str(folder / "tried.h5")), 25)
    given = os.environ.get("HDF5_USE_FILE_LOCKING", "not set")
    told = f"HDF5_USE_FILE_LOCKING is {given}"
    step = "HDF5_USE_FILE_LOCKING: 'FALSE' in environment.variables of the site, and export it here"
    if status:
        yield Finding("HDF5 locks", "failed", f"{said}; {told}", step)
    elif given in _LOCKING:
        held_up = "sources are locked while they are read, which holds up a detector that writes them"
        yield Finding("HDF5 locks", "warning", f"{told}: {held_up}", step)
    else:
        yield Finding("HDF5 locks", "ok", f"a file is written and read; {told}")


def scratch(check: str = "scratch") -> Iterator[Finding]:
    """Look at the folder where temporary files go."""
    folder = Path(tempfile.gettempdir())
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(bytes(2**20))
            file.flush()
    except OSError as error:
        yield Finding(check, "failed", str(error), "free some, or set TMPDIR (environment.scratch of the site)")
        return
    free = shutil.disk_usage(folder).free
    few = free < _LITTLE_ROOM / 10
    found = f"{folder} ({mount_of(folder).kind}), {size_text(free)} free"
    yield Finding(check, "warning" if few else "ok", found, "free some, or set another one" if few else "")
