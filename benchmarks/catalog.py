"""How fast a tree of scans is looked at: the first time, and again when nothing has changed, against the bare disk.

    python -m benchmarks.catalog [--files 20000]

The tree is SIMULATED: small scans of all formats in 48 folders, in the page cache; what is measured is not the disk but
what is done with each file. The floors do on it the least that finds a file, and that tells what it is: its name, size
and date from `os.scandir`, and its first 4 kB. `opens` counts each time that a file is opened by any process, as the
kernel tells it; `files` are those that were opened at all. `records` is what the second walk needs of the first,
written and read again. It needs what the tests need: their writers make the tree.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.config import SourceConfig
from ainerd_hpc.sources.catalog import publish_records, read_records
from ainerd_hpc.sources.discovery import Discovery, discover
from tests.support.archive_tree import KINDS, make_tree, template

_IN_OPEN, _IN_Q_OVERFLOW, _IN_ISDIR = 0x20, 0x4000, 0x40000000
_EVENT = struct.Struct("iIII")
"""Of inotify: number of the folder, what happened, cookie, length of the name that follows."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20000)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        warm = make_tree(Path(folder) / "warm", 100)
        discover(SourceConfig(**warm.source))  # loads the libraries, and compiles
        tree = make_tree(Path(folder) / "tree", max(100, round(options.files / files_per_scan())))
        print(f"{len(tree.scans)} scans, simulated; each way once, floors the best of three")
        print("| way | s | files/s | files | opens | times scandir + stat | times open + read |")
        print("|---|---|---|---|---|---|---|")
        compare(SourceConfig(**tree.source), Archive(Path(folder) / "archive"))


def compare(source: SourceConfig, archive: Archive) -> None:
    """Print a row for each way through one tree."""
    paths = [entry.path for entry in _entries(source.folder)]
    scanning = min(_timed(lambda: sum(entry.stat().st_size for entry in _entries(source.folder))) for _ in range(3))[0]
    reading = min(_timed(lambda: [_head(path) for path in paths]) for _ in range(3))[0]

    def row(way: str, seconds: float, opened: Counter[Path] | None = None) -> None:
        files, opens = (len(opened), opened.total()) if opened is not None else ("-", "-")
        ratios = f"{seconds / scanning:.1f} | {seconds / reading:.1f}"
        print(f"| {way} | {seconds:.2f} | {len(paths) / seconds:.0f} | {files} | {opens} | {ratios} |")

    row("scandir + stat", scanning)
    row("open + read 4 kB", reading)
    seconds, first, opened = _walk(source, {})
    row("first walk", seconds, opened)
    row("records", _timed(lambda: publish_records(archive, first.records, first.folder, first.dataset))[0])
    seconds, known = _timed(lambda: read_records(archive, first.folder, first.dataset))
    row("records, read", seconds)
    seconds, second, opened = _walk(source, known)
    row("second walk", seconds, opened)
    assert repr(second.scans) == repr(first.scans)  # NaN is like NaN there
    assert not first.problems


def files_per_scan() -> float:
    """Of a tree, without what it holds besides scans."""
    return sum(kind.share * len(template(letter)) for letter, kind in KINDS.items()) / 100


def _walk(source: SourceConfig, known: Any) -> tuple[float, Discovery, Counter[Path]]:
    with counted_opens(source.folder) as opens:
        seconds, found = _timed(lambda: discover(source, known))
    return seconds, found, opens


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = call()
    return time.perf_counter() - began, found


def _entries(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """All files below, hidden ones left out."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path)
            else:
                yield entry


def _head(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read(4096)


@contextmanager
def counted_opens(root: Path) -> Iterator[Counter[Path]]:
    """How often each file below a folder is opened, by whatever process: as the kernel tells it (inotify)."""
    opens: Counter[Path] = Counter()
    with tempfile.TemporaryDirectory() as last, ThreadPoolExecutor(1) as pool:
        (end := Path(last) / "end").touch()
        descriptor, folders = _watched([Path(name) for name, _, _ in os.walk(root)] + [Path(last)])
        counting = pool.submit(_count, descriptor, folders, end, opens)
        try:
            yield opens
        finally:
            end.open("rb").close()
            counting.result()
            os.close(descriptor)


def _watched(folders: Sequence[Path]) -> tuple[int, dict[int, Path]]:
    """Where the kernel tells who opens something in these folders, and its numbers for them."""
    libc = ctypes.CDLL(None)
    descriptor = libc.inotify_init1(os.O_CLOEXEC)
    return descriptor, {libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_OPEN): path for path in folders}


def _count(descriptor: int, folders: dict[int, Path], end: Path, opens: Counter[Path]) -> None:
    """Count the files that are opened, until the last one is."""
    while not opens.pop(end, 0):
        events = os.read(descriptor, 2**16)
        while events:
            folder, mask, _, length = _EVENT.unpack_from(events)
            name, events = events[_EVENT.size :][:length].rstrip(b"\0"), events[_EVENT.size + length :]
            assert not mask & _IN_Q_OVERFLOW, "expected to count as fast as files are opened"
            if not mask & _IN_ISDIR:
                opens[folders[folder] / os.fsdecode(name)] += 1


if __name__ == "__main__":
    main()
