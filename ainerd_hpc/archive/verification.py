"""Products as they lie on the disk, read through and compared with what is written about them.

A product in Zarr has a checksum for each of its members, and records its scan and the digest of what it was made from,
which the journal tells, too. Of all other products the journal has the checksum. What was found whole is noted in
`journal/verified/<host>-<pid>.jsonl`, with size and date, so that it is not read again.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

from ainerd_hpc.archive import contents
from ainerd_hpc.archive.groups import check_group
from ainerd_hpc.archive.journal import Journal, published
from ainerd_hpc.archive.json_lines import json_lines
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.config import RunConfig
from ainerd_hpc.digests import sha256
from ainerd_hpc.errors import ProductError
from ainerd_hpc.site.allocation import cores_here

_AT_ONCE = 1024
_NOTED = {"path", "size", "modified", "mark"}


class Fault(NamedTuple):
    """What is wrong with a product."""

    path: Path
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class Verification:
    """The check of an archive.

    Parameters
    ----------
    archive : Archive
    again : bool
        Read what was found whole before and has not changed since, too.
    """

    def __init__(self, archive: Archive, again: bool = False) -> None:
        self.archive, self._folder = archive, archive.root / "journal" / "verified"
        if again:
            shutil.rmtree(self._folder, ignore_errors=True)
        notes = (entry for path in self._folder.glob("*.jsonl") for entry in json_lines(path))
        self._known = {entry["path"]: entry for entry in notes if entry.keys() == _NOTED}
        self._published, self.journal = published(archive.root), Journal(archive.root)

    def faults(self, paths: Sequence[Path], advance: Callable[[str], None] = lambda note: None) -> list[Fault]:
        """The faults of these products, read on all cores; `advance` is called for each."""
        found = list[Fault]()
        with ThreadPoolExecutor(cores_here()) as pool, self._notes() as notes:
            for first in range(0, len(paths), _AT_ONCE):
                some = paths[first : first + _AT_ONCE]
                for path, (problem, entry) in zip(some, pool.map(self._look, some), strict=True):
                    advance("")
                    found += [Fault(path, problem)] if problem else []
                    notes.write(f"{json.dumps(entry)}\n" if entry else "")
                notes.flush()
        return found

    def _notes(self) -> IO[str]:
        """The file of this process for what is whole; an archive of somebody else may be for reading only."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return (self._folder / f"{socket.gethostname()}-{os.getpid()}.jsonl").open("a", encoding="utf-8")
        except OSError:
            return Path(os.devnull).open("w", encoding="utf-8")

    def missing(self, config: RunConfig) -> Iterator[Fault]:
        """Products that are written about, that this config asks for, and that are not there."""
        of_all = (name for name in self._published if _is_wanted(name, config.model.name))
        folders = [name for name in contents.OF_SCANS if name != "frames" or config.ingest.form != "none"]
        wanted = [*self._of_scans(folders), *(self.archive.root / name for name in of_all)]
        for path in dict.fromkeys(wanted):
            if not path.exists():
                yield Fault(path, "expected a product, as the journal tells, found none")

    def _of_scans(self, folders: Sequence[str]) -> Iterator[Path]:
        try:
            scans = [scan for scan in self.archive.read_catalog() if scan.state == "ingested"]
        except ProductError:
            return  # told as a fault of the catalog
        yield from {self.archive.partition_path(scan.partition) for scan in scans if scan.partition}
        for folder, scan in itertools.product(folders, scans):
            if self.journal.was_done(contents.STAGES[folder], scan.scan_id):
                yield self.archive.root / folder / f"{scan.scan_id}.zarr.zip"

    def _look(self, path: Path) -> tuple[str, dict[str, Any] | None]:
        """What is wrong with a product (empty where nothing is, or where it is gone by now), and what to note of it."""
        name = str(path.relative_to(self.archive.root))
        try:
            found = path.stat()
            stamp = {"path": name, "size": found.st_size, "modified": found.st_mtime_ns}
            known = self._known.get(name, {})
            if stamp.items() <= known.items():
                return self._difference(path, name, known["mark"]), None
            mark = _CHECKS[path.suffix](path)
        except FileNotFoundError:
            return "", None
        except ProductError as error:
            return error.problem, None
        except OSError as error:
            return f"cannot read it: {error.strerror}", None
        problem = self._difference(path, name, mark)
        return problem, None if problem else {**stamp, "mark": mark}

    def _difference(self, path: Path, name: str, mark: str) -> str:
        """How the mark of a whole file differs from what is written about it."""
        if path.suffix != ".zip":
            is_known = mark in self._published.get(name, {mark})
            return "" if is_known else "expected the bytes that were published, found others"
        if path.parent.suffix == ".parts":
            return ""
        is_partition, key = name.startswith("partitions"), contents.key_of(self.archive.root, path)
        stage = contents.stage_of(self.archive.root, path)
        expected = key if is_partition else self.journal.digest_of(stage, key)
        return "" if expected in ("", mark) else f"expected the digest {expected}, as the journal tells, found {mark}"


def _is_wanted(name: str, model: str) -> bool:
    """Whether a product of this name is one of the whole archive, or of the model."""
    parts = Path(name).parts
    of_clusters = {("clusters", f"{model}{kind}.parquet") for kind in ("", ".summary", ".fit")}
    of_model = {("models", model), ("embedding", f"{model}.parquet")} | of_clusters
    return len(parts) == 1 or parts[0] in ("report", "journal", "maps") or parts[:2] in of_model


def _check_table(path: Path) -> str:
    from ainerd_hpc.archive.tables import check_table

    check_table(path)
    return sha256(path)


def _check_json(path: Path) -> str:
    try:
        json.loads(path.read_bytes())
    except ValueError as error:
        raise ProductError(path, f"cannot read it: {error}") from None
    return sha256(path)


def _check_weights(path: Path) -> str:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            file.keys()
    except SafetensorError as error:
        raise ProductError(path, f"cannot read the weights: {error}") from None
    return sha256(path)


def _check_page(path: Path) -> str:
    if not path.read_bytes().rstrip().endswith(b"</html>"):
        raise ProductError(path, "expected a whole page, found one that is cut off")
    return sha256(path)


_CHECKS: Mapping[str, Callable[[Path], str]] = {
    ".zip": check_group,
    ".parquet": _check_table,
    ".json": _check_json,
    ".safetensors": _check_weights,
    ".html": _check_page,
}
"""What reads a product through, and gives its mark: the digest that it records, or the checksum of the file."""
