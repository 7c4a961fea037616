"""Files of JSON lines, one object each, to which processes append and in the middle of which they may be killed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_LINES_AT_ONCE = 1000


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a JSON-lines file; lines that are damaged, or torn by a kill, are left out."""
    return filter(None, with_damaged(path.read_bytes() if path.exists() else b""))


def with_damaged(content: bytes) -> Iterator[dict[str, Any] | None]:
    """The entries of JSON lines, None for each that is damaged; a last line that was torn by a kill is none."""
    *lines, torn = content.split(b"\n")
    for first in range(0, len(lines), _LINES_AT_ONCE):
        yield from _parsed(lines[first : first + _LINES_AT_ONCE])
    yield from filter(None, _parsed([torn]))


def _parsed(lines: Sequence[bytes]) -> list[dict[str, Any] | None]:
    """Many lines as one text are read in half the time; where that has no sense, each for itself."""
    found = _loaded(b"[" + b",".join(lines) + b"]")
    entries = found if isinstance(found, list) and len(found) == len(lines) else map(_loaded, lines)
    return [entry if isinstance(entry, dict) else None for entry in entries]


def _loaded(text: bytes) -> Any:
    """What a text in JSON holds; None where it is damaged."""
    try:
        return json.loads(text.decode())
    except (ValueError, RecursionError):
        return None
