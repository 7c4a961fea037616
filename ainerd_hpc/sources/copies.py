"""Files of the same content: one is the original, and none of its copies does it any harm.

The original of scans is one with metadata. Then it is, of any files, the one that the fewest links lead to, the oldest,
the one in the fewest folders, the first by its path.
"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Collection, Iterable, Mapping
from itertools import accumulate
from pathlib import Path

from ainerd_hpc.config import SourceConfig
from ainerd_hpc.formats.registry import FoundScan
from ainerd_hpc.sources.pairing import metadata_paths
from ainerd_hpc.sources.walk import FileRecord, Kind


def copies_of_scans(
    source: SourceConfig, items: Iterable[FoundScan], files: Mapping[Path, FileRecord]
) -> dict[Path, Path]:
    """Files with the data of another one -> that other one, their original."""
    alike: dict[str, list[FoundScan]] = {}
    for item in items:
        if content := files[item.path].content:
            alike.setdefault(content, []).append(item)
    found: dict[Path, Path] = {}
    for group in (group for group in alike.values() if len(group) > 1):
        first, *others = sorted(group, key=lambda item: (not _has_metadata(source, item, files), _rank(item.path)))
        found |= {item.path: first.path for item in others if _have_same_bytes(first, item)}
    return found


def _has_metadata(source: SourceConfig, item: FoundScan, files: Mapping[Path, FileRecord]) -> bool:
    beside = (files.get(path) for path in metadata_paths(source, item))
    is_told = item.description is not None and item.description.metadata.has_frame_time
    return is_told or any(record is not None and record.kind is Kind.METADATA for record in beside)


def _have_same_bytes(one: FoundScan, other: FoundScan) -> bool:
    """Whether two scans are the same, file by file; samples of sparse frames may be nothing but zeros."""
    return all(map(_are_same, (one.path, *one.companions), (other.path, *other.companions)))


def _are_same(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:  # out of reach since it was looked at
        return False


def originals(paths: Collection[Path]) -> list[Path]:
    """Those of some files that are no copy of another one, in the order of their paths."""
    kept: list[Path] = []
    for path in sorted(paths, key=_rank):
        if not any(_are_same(path, one) for one in kept):
            kept.append(path)
    return sorted(kept)


def _rank(path: Path) -> tuple[int, int, int, Path]:
    """What the original has the least of."""
    num_links = sum(map(os.path.islink, accumulate(path.parts, os.path.join)))
    return num_links, _modified(path), len(path.parts), path


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
