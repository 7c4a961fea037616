"""Names of scans, from those of their files, whatever these are called."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ainerd_hpc.formats.registry import FoundScan

_LONGEST_ID = 120
"""Bytes of a scan_id, which names files, before it is cut."""


def stem_of(item: FoundScan) -> str:
    """What the names of the files that go with a scan begin with."""
    return (item.description.stem if item.description else "") or item.path.stem


class GivenId(NamedTuple):
    """The id that a scan was given when it was found first; it is its own for good, also when it has left."""

    scan_id: str
    path: Path
    inside: str
    """The path below the source folder."""
    part: str
    """Name of the scan in a file of several."""


def scan_ids(items: Sequence[FoundScan], folder: Path, given: Iterable[GivenId] = ()) -> list[str]:
    """A name for each, usable as a file name: the one that it was given, or the shortest that no other has or had.

    A scan is known again by its path, or by its path below the source folder where nothing is left at the former one.
    """
    taken = {one.scan_id: one for one in given}
    by_path = {(one.path, one.part): one.scan_id for one in taken.values()}
    here = {(item.path, item.part) for item in items}
    gone = (one for one in taken.values() if (one.path, one.part) not in here)
    by_place = {(one.inside, one.part): one.scan_id for one in gone}
    names = [by_path.get((item.path, item.part)) or by_place.get((_inside(item, folder), item.part)) for item in items]
    return _filled_up(names, items, folder, taken)


def _filled_up(
    names: Sequence[str | None], items: Sequence[FoundScan], folder: Path, taken: Collection[str]
) -> list[str]:
    """Names with new ones where there are none."""
    lengths = dict.fromkeys((number for number, name in enumerate(names) if name is None), 0)
    while True:
        new = {number: _name(items[number], folder, length) for number, length in lengths.items()}
        uses = Counter(new.values())
        again = [number for number, name in new.items() if uses[name] > 1 or name in taken]
        if not again:
            return [name or new[number] for number, name in enumerate(names)]
        for number in again:
            lengths[number] += 1


def given_ids(
    items: Sequence[FoundScan], ids: Sequence[str], folder: Path, before: Iterable[GivenId]
) -> tuple[GivenId, ...]:
    """What is to be kept of the ids: those of scans, and of scans that were here before."""
    pairs = zip(items, ids, strict=True)
    now = {name: GivenId(name, item.path, _inside(item, folder), item.part) for item, name in pairs if item.description}
    return tuple(({one.scan_id: one for one in before} | now).values())


def _inside(item: FoundScan, folder: Path) -> str:
    return str(item.path.relative_to(folder))


def _name(item: FoundScan, folder: Path, length: int) -> str:
    """0: the path below the source folder, folders joined by `--`, no suffix; 1: with suffix; 2...: with a hash."""
    relative = item.path.relative_to(folder)
    full = item.part or "--".join((relative if length else relative.with_name(stem_of(item))).parts)
    name = "".join(letter if letter.isprintable() else "_" for letter in full)
    digits = 6 * (length - 1)
    if len(name.encode()) > _LONGEST_ID or not is_utf8(full):
        name, digits = name.encode()[:_LONGEST_ID].decode(errors="ignore"), max(6, digits)
    return f"{name}~{hashlib.sha256(os.fsencode(relative)).hexdigest()[:digits]}" if digits > 0 else name


def is_utf8(text: str) -> bool:
    """False for names of files that were written in another encoding: Python gives these lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def one_line(text: str) -> str:
    """One line of UTF-8 whatever a file is called."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
