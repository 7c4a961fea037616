"""Names of scans, from those of their files, whatever these are called."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ainerd_hpc.formats.registry import FoundScan

_LONGEST_ID = 120
"""Bytes of a scan_id, which names files, before it is cut."""


def stem_of(item: FoundScan) -> str:
    """What the names of the files that go with a scan begin with."""
    return (item.description.stem if item.description else "") or item.path.stem


def scan_ids(items: Sequence[FoundScan], folder: Path) -> list[str]:
    """A name for each, usable as a file name: the shortest `_name` that no other scan has."""
    lengths = [0] * len(items)
    while True:
        names = [_name(item, folder, length) for item, length in zip(items, lengths, strict=True)]
        uses = Counter(names)
        if len(uses) == len(items):
            return names
        lengths = [length + (uses[name] > 1) for name, length in zip(names, lengths, strict=True)]


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
