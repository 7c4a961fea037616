"""What lies below folders: files and stores, links to folders followed within bounds, and what is out of reach.

Links to folders come after everything else. Each is followed unless its folder is reached without it, or it holds a
source folder itself; links in folders that were reached by links are followed as well, so many in a row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.hdf5.reading import NEXT_STEP, REFUSED
from ainerd_hpc.formats.suffixes import RAW_SUFFIXES

STORES = {"zarr.json", ".zarray", ".zgroup"}
"""A folder with one of these is one Zarr array or group."""
_MOST_LINKS = 4
"""Links to folders in a row."""


class Stamp(NamedTuple):
    """What a changed file is known by."""

    size: int
    modified: int
    """ns."""
    folder_modified: int
    """ns; files may come and go beside a file that has others."""


class Entry(NamedTuple):
    """A file, or a folder that is one store."""

    path: Path
    stamp: Stamp
    reason: str = ""
    """Why nobody can look into it."""
    is_problem: bool = True
    """Whether scans may be lost by that."""


class Folders:
    """Some folders with all below them.

    Parameters
    ----------
    roots : sequence of Path
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots
        self._tops = {os.path.realpath(root) for root in roots}
        self._above = {str(folder) for top in self._tops for folder in Path(top).parents}
        self._links: list[Path] = []

    def entries(self) -> Iterator[Entry]:
        """Everything but what is hidden; the order is that of the disk, links to folders last."""
        for root in self._roots:
            yield from self._below(root)
        for _ in range(_MOST_LINKS):
            links, self._links = sorted(self._links), []
            followed = {}
            for link in links:
                target = os.path.realpath(link)
                if target in self._above:
                    problem = f"expected a link to a folder beside the source folder, found one to {target} above it"
                    yield _left_aside(link, problem, "name the folders of scans in source.path")
                elif not self._is_walked(target) and target not in followed:
                    followed[target] = link
            self._tops |= followed.keys()
            for link in followed.values():
                yield from self._below(link)
        for link in self._links:
            problem = f"expected at most {_MOST_LINKS} links to folders in a row, found more"
            yield _left_aside(link, problem, "name the folder that it leads to in source.path")

    def _is_walked(self, folder: str) -> bool:
        """Whether a folder is one of those at the top, or below one of them."""
        return any(str(one) in self._tops for one in (Path(folder), *Path(folder).parents))

    def _below(self, top: Path) -> Iterator[Entry]:
        """What is below a folder, but not what is below another one at the top; links to folders are put by."""
        real = os.path.realpath(top)
        folders = [top]
        while folders:
            folder = folders.pop()
            if folder != top and os.path.join(real, folder.relative_to(top)) in self._tops:
                continue
            try:
                modified = folder.stat().st_mtime_ns
                with os.scandir(folder) as entries:
                    listed = [entry for entry in entries if not entry.name.startswith(".") or entry.name in STORES]
            except OSError as error:
                yield Entry(folder, Stamp(0, 0, 0), _unreadable(folder, error))
                continue
            if STORES & {entry.name for entry in listed}:
                yield Entry(folder, Stamp(0, modified, modified))
                continue
            for entry in listed:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                else:
                    yield from self._file(entry, modified)

    def _file(self, entry: os.DirEntry[str], folder_modified: int) -> Iterator[Entry]:
        """A file, if it is one."""
        path = Path(entry.path)
        try:
            if entry.is_file():
                stat = entry.stat()
                yield Entry(path, Stamp(stat.st_size, stat.st_mtime_ns, folder_modified))
            elif entry.is_symlink():
                if entry.is_dir():
                    self._links.append(path)
                elif not path.exists():
                    yield _dangling(path, folder_modified)
        except OSError as error:
            yield Entry(path, Stamp(0, 0, folder_modified), _unreadable(path, error))


def _dangling(path: Path, folder_modified: int) -> Entry:
    """A link that leads to nothing: a scan is missing, if it is called like one."""
    is_data = path.suffix.lower() in RAW_SUFFIXES
    expected = "expected a file behind the link, found none"
    problem = expected if is_data else "expected a file or folder behind the link, found none"
    return Entry(path, Stamp(0, 0, folder_modified), str(ScanError(str(path), problem, NEXT_STEP)), is_data)


def _left_aside(path: Path, problem: str, next_step: str) -> Entry:
    return Entry(path, Stamp(0, 0, 0), str(ScanError(str(path), problem, next_step)), is_problem=False)


def _unreadable(path: Path, error: OSError) -> str:
    return str(ScanError(str(path), f"cannot look into it: {error.strerror}", REFUSED))
