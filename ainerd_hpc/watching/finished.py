"""Which scans a source holds, and which of them are finished: found by looking, which works on every mount."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.config import RunConfig
from ainerd_hpc.formats.hdf5.writers import is_being_written
from ainerd_hpc.sources.catalog import read_ids, read_records
from ainerd_hpc.sources.discovery import Discovery, discover
from ainerd_hpc.sources.folders import Folders, Stamp
from ainerd_hpc.sources.naming import GivenId
from ainerd_hpc.types import Problem, Scan

QUIET = 1.0
"""Seconds for which the files of a scan have to stay as they are. Two looks of ours: the clock of a file server may be
off."""

AGAIN = 5.0
"""Seconds after which what could not be read is tried again, although no file has changed."""


class Source:
    """The source folders of an archive, looked at again and again; files that have not changed are not opened.

    Parameters
    ----------
    config : RunConfig

    Attributes
    ----------
    found : Discovery
        As it was at the last look that found something else.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config, archive = config, Archive(config.archive)
        self._known = read_records(archive, config.source.folder, config.source.dataset)
        self._given: Sequence[GivenId] = read_ids(archive)
        self._stamps: Mapping[Path, Stamp] = {}
        self._looked = 0.0
        self._since: dict[str, tuple[str, float]] = {}
        self.look()

    def look(self) -> bool:
        """Look at what is there now.

        Returns
        -------
        bool
            Whether any file has changed since the last look.

        Raises
        ------
        ConfigError
            As `discover`.
        """
        stamps = {path: stamp for path, stamp, *_ in Folders(self._config.source.roots).entries()}
        has_changed = stamps != self._stamps
        is_due = time.monotonic() - self._looked >= AGAIN
        if not has_changed and not (self.found.problems and is_due):
            return False
        self._looked = time.monotonic()
        self.found: Discovery = discover(self._config.source, self._known, self._config.correct, self._given)
        self._stamps, self._given = stamps, self.found.given_ids
        self._known = {record.path: record for record in self.found.records}
        now, before = time.monotonic(), self._since
        self._since = {
            scan.scan_id: before[scan.scan_id] if before.get(scan.scan_id, ("",))[0] == state else (state, now)
            for scan in self.found.scans
            for state in (version(scan),)
        }
        return has_changed

    def finished(self, scans: Sequence[Scan]) -> Iterator[Scan]:
        """Those of some scans whose files have been as they are for some time, the one that was written first first."""
        for scan in sorted(scans, key=self.last_write):
            quiet = time.monotonic() - self._since[scan.scan_id][1]
            if quiet >= QUIET and not any(map(is_being_written, self._files(scan))):
                yield scan

    def last_write(self, scan: Scan) -> float:
        """When the last of its files was written, s since the epoch, by the clock of the file system."""
        known = (self._stamps.get(path) for path in self._files(scan))
        return max((stamp.modified / 1e9 for stamp in known if stamp), default=0.0)

    def faults(self) -> dict[str, Problem]:
        """What is wrong with scans that cannot be taken up as they are: they may be unfinished."""
        return {problem.scan_id: problem for problem in self.found.problems}

    def _files(self, scan: Scan) -> tuple[Path, ...]:
        record = self._known.get(Path(scan.source))
        return (Path(scan.source), *(path for one in record.scans for path in one.companions)) if record else ()


def version(scan: Scan) -> str:
    """What tells a scan from what it was before its files changed."""
    return f"{scan.digest} {scan.partition} {scan.dark} {scan.flat}"
