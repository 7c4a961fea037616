"""Which files go with a scan, by the rules of the config: metadata, partition, dark and flat field."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from ainerd_hpc.config import CorrectConfig, SourceConfig, one_form
from ainerd_hpc.errors import ConfigError, ScanError
from ainerd_hpc.formats.beside.images import place_of
from ainerd_hpc.formats.registry import FoundScan
from ainerd_hpc.sources.naming import is_utf8, stem_of
from ainerd_hpc.sources.walk import NEVER, FileRecord, Kind, look_at_each

Rule = Path | Mapping[str, Path] | Mapping[str, Path | None] | None
"""A file for all scans, or by patterns."""
IMAGES = ("dark", "flat")
STEM = "{stem}"
"""Stands for the name of the scan in that of a file that goes with it."""
_NAMED = 5
"""Files that a reason names."""


def given_by(rule: Rule, item: FoundScan, folder: Path) -> list[Path | None]:
    """What a rule gives to a scan of this folder, of which the first counts; empty where no pattern matches."""
    patterns = _patterns(rule)
    inside = item.path.relative_to(folder).as_posix()
    return [to if to is None else _filled(to, item) for pattern, to in patterns.items() if fnmatch(inside, pattern)]


def _patterns(rule: Rule) -> Mapping[str, Path | None]:
    return dict(rule) if isinstance(rule, Mapping) else {"*": rule}


def rule_paths(rule: Rule) -> Iterator[Path]:
    """All files that a rule may give."""
    return filter(None, _patterns(rule).values())


def _filled(path: Path, item: FoundScan) -> Path:
    """The file beside the scan, where it is named after it."""
    if STEM not in str(path):
        return one_form(path)
    return Path(os.path.normpath(item.path.parent / str(path).replace(STEM, stem_of(item))))


def metadata_paths(source: SourceConfig, item: FoundScan) -> Iterator[Path]:
    """Where the metadata of a scan may be."""
    return (_filled(Path(pattern), item) for pattern in source.metadata)


def check_given(source: SourceConfig, correct: CorrectConfig) -> None:
    """Refuse files of the config that do not exist; those that are named after a scan are that scan's matter.

    Raises
    ------
    ConfigError
        Naming the key and the file.
    """
    rules: dict[str, Rule] = {"source.partition": source.partition, "source.sample_log": source.sample_log}
    rules |= {f"correct.{name}": getattr(correct, name) for name in IMAGES}
    for key, rule in rules.items():
        for path in rule_paths(rule):
            file = place_of(path).path if key.startswith("correct.") else path
            if STEM not in str(file) and not file.is_file():
                raise ConfigError(f"{key} {file}: no such file; correct the path or leave the key out")


class Images:
    """The dark and the flat field of each scan."""

    def __init__(self, correct: CorrectConfig, folder: Path) -> None:
        self._rules: dict[str, Rule] = {name: getattr(correct, name) for name in IMAGES}
        self._folder = folder

    def of(self, name: str, item: FoundScan) -> str:
        """The file of `IMAGES` that a scan is corrected with, or `FILE:/dataset`; empty where it needs none.

        Raises
        ------
        ScanError
            No pattern matches the scan, or the file does not exist or cannot be kept in the catalog.
        """
        given = given_by(self._rules[name], item, self._folder)
        if not given:
            problem = f"expected a pattern of correct.{name} that matches it, found none"
            raise ScanError(
                str(item.path), problem, f"add one; `'*': null` at the end leaves the others without {name}"
            )
        if given[0] is None:
            return ""
        if not place_of(given[0]).path.is_file():
            problem = f"expected its {name} {place_of(given[0]).path}, found no such file"
            raise ScanError(str(item.path), problem, f"copy it there, or correct correct.{name}")
        if not is_utf8(str(given[0])):
            problem = f"expected its {name} at a path in UTF-8, found {str(given[0])!r}"
            raise ScanError(str(item.path), problem, "rename the file")
        return str(given[0])

    def files(self, items: Iterable[FoundScan]) -> set[str]:
        """Absolute paths of all that the rules name, which are no scans themselves."""
        plain = [path for rule in self._rules.values() for path in _patterns(rule).values()]
        if not any(plain):
            return set()
        named = [path for item in items for rule in self._rules.values() for path in given_by(rule, item, self._folder)]
        return {os.path.abspath(place_of(path).path) for path in dict.fromkeys([*plain, *named]) if path}


class Partitions:
    """Which partition file a scan uses: the configured one, else its own, else the only one that is no scan's own.

    Copies count as one.
    """

    def __init__(self, source: SourceConfig, items: Sequence[FoundScan], records: Sequence[FileRecord]) -> None:
        self.source = source
        self.records = {record.path: record for record in records}
        self.found = [record.path for record in records if record.kind is Kind.PARTITION]
        scans = {(item.path.parent, f"{stem_of(item)}_qmap") for item in items}
        kinds = (Kind.PARTITION, Kind.BROKEN)
        named = {(one.path.parent, one.path.stem): one.path for one in records if one.kind in kinds}
        self.own: Mapping[tuple[Path, str], Path] = {key: path for key, path in named.items() if key in scans}
        shared = [path for path in self.found if (path.parent, path.stem) not in scans]
        self.shared = only({self._content(path): path for path in sorted(shared, key=_depth)}.values())

    def _content(self, path: Path) -> str:
        """The same for copies."""
        facts = self.records[path].partition
        return facts.digest if facts else str(path)

    def of(self, item: FoundScan) -> FileRecord:
        """The partition file of a scan.

        Raises
        ------
        ScanError
            There is none, or more than one.
        """
        own = self.own.get((item.path.parent, f"{stem_of(item)}_qmap"))
        chosen = next(iter(given_by(self.source.partition, item, self.source.folder)), None) or own or self.shared
        if chosen is None:
            free = [path.name for path in self.found if path not in self.own.values()]
            names = ", ".join(free[:_NAMED]) + (f" and {len(free) - _NAMED} more" if len(free) > _NAMED else "")
            problem = f"expected one partition file (/qmap), found {names or 'none'}"
            raise ScanError(str(item.path), problem, "set source.partition")
        if chosen not in self.records:  # outside of the source folders
            (self.records[chosen],) = look_at_each([(chosen, NEVER)])
        return self.records[chosen]


def _depth(path: Path) -> int:
    return -len(path.parts)


def only(paths: Iterable[Path]) -> Path | None:
    """The only one of these; None where there is none, or more."""
    paths = list(paths)
    return paths[0] if len(paths) == 1 else None
