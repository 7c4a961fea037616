"""How fast a tree of scans is looked at: the first time, and again when nothing has changed, against the bare disk.

    python -m benchmarks.catalog [--files 20000]

The tree is SIMULATED: small scans of all formats in 48 folders, in the page cache; what is measured is not the disk but
what is done with each file. The floors do on it the least that finds a file, and that tells what it is: its name, size
and date from `os.scandir`, and its first 4 kB. `opens` counts each time that Python or HDF5 opens a file, the first
bytes included; `files` are those that were opened at all. `records` is what the second walk needs of the first, written
and read again. It needs what the tests need: their writers make the tree.
"""

from __future__ import annotations

import argparse
import builtins
import io
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import pytest

from ainerd_hpc.archive import Archive
from ainerd_hpc.catalog import publish_records, read_records
from ainerd_hpc.config import SourceConfig
from ainerd_hpc.discovery import Discovery, discover
from tests.archive_tree import KINDS, make_tree, template


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

    def row(way: str, seconds: float, opened: Opened | None = None) -> None:
        files, opens = (len(opened.opens), opened.opens.total()) if opened else ("-", "-")
        ratios = f"{seconds / scanning:.1f} | {seconds / reading:.1f}"
        print(f"| {way} | {seconds:.2f} | {len(paths) / seconds:.0f} | {files} | {opens} | {ratios} |")

    row("scandir + stat", scanning)
    row("open + read 4 kB", reading)
    seconds, first, opened = _walk(source, {})
    row("first walk", seconds, opened)
    row("records", _timed(lambda: publish_records(archive, first.records, first.dataset))[0])
    seconds, known = _timed(lambda: read_records(archive, first.dataset))
    row("records, read", seconds)
    seconds, second, opened = _walk(source, known)
    row("second walk", seconds, opened)
    assert repr(second.scans) == repr(first.scans)  # NaN is like NaN there
    assert not first.problems


def files_per_scan() -> float:
    """Of a tree, without what it holds besides scans."""
    return sum(kind.share * len(template(letter)) for letter, kind in KINDS.items()) / 100


def _walk(source: SourceConfig, known: Any) -> tuple[float, Discovery, Opened]:
    opened = Opened()
    with pytest.MonkeyPatch.context() as patch:
        opened.watch(patch)
        seconds, found = _timed(lambda: discover(source, known))
    return seconds, found, opened


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


@dataclass
class Opened:
    """How often each file is opened, by Python and by HDF5; folders that Python tries to open count, too."""

    plain: Counter[Path] = field(default_factory=Counter)
    hdf5: Counter[Path] = field(default_factory=Counter)

    @property
    def opens(self) -> Counter[Path]:
        return self.plain + self.hdf5

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Count from now on, until the patch is undone."""
        create = h5py.File.__init__

        def open_hdf5(file: Any, name: Any, *more: Any, **options: Any) -> None:
            _count(self.hdf5, name)
            create(file, name, *more, **options)

        patch.setattr(h5py.File, "__init__", open_hdf5)
        patch.setattr(io, "open", self._watched(io.open))
        patch.setattr(builtins, "open", self._watched(builtins.open))

    def _watched(self, call: Any) -> Any:
        def open_plain(name: Any, *more: Any, **options: Any) -> Any:
            _count(self.plain, name)
            return call(name, *more, **options)

        return open_plain


def _count(opens: Counter[Path], name: object) -> None:
    """Not of a file that is open already."""
    if isinstance(name, str | bytes | Path):
        opens[Path(os.fsdecode(name))] += 1


if __name__ == "__main__":
    main()
