"""Tables as people and programs write them: which separator, which encoding, which decimal sign, which cells are none.

- Encoding: UTF-16 and UTF-8 by their marks, else UTF-8, else Windows' western one (cp1252).
- Lines that begin with `#`, `%`, `//` or `;` before the header are comments.
- The separator is that of `,`, `;` and tab which cuts the header into the most cells.
- A decimal comma is one where the separator is another, or where what follows it are not three digits; commas before
  three digits, spaces and apostrophes between digits are those of thousands.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

_SEPARATORS = (",", ";", "\t")
_COMMENT = re.compile(r"\s*(#|%|//|;|$)")
_MISSING = {"", "nan", "na", "n/a", "n.a.", "n.a", "none", "null", "nil", "-", "--", "#n/a", "inf", "-inf", "?"}
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"([+-]?\d*),(\d+)([eE][+-]?\d+)?")
_THOUSANDS = {
    ",": re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?"),
    ".": re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?"),
    " ": re.compile(r"[+-]?\d{1,3}([ \u00a0\u202f']\d{3})+([.,]\d+)?"),
}


class Table(NamedTuple):
    """A table of texts."""

    header: list[str]
    rows: list[list[str]]
    """The rows, with as many cells in each as the header has."""
    lines: list[int]
    """Line of the file, from 1, in which each row ends."""
    separator: str
    surplus: list[int]
    """Lines with more cells than the header has."""


class Numbers(NamedTuple):
    """A column as numbers."""

    texts: list[str]
    """Each cell as a plain number, empty where there is none."""
    wrong: list[int]
    """Rows whose cell is neither a number nor empty."""


def decode(content: bytes) -> str:
    """The text of a file, whatever wrote it."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def header_of(text: str) -> list[str]:
    """The cells of the header; empty where there is none."""
    line = next((line for line in islice(io.StringIO(text), 100) if not _COMMENT.match(line)), "")
    return _cells(line, _separator(line))


def parse(text: str) -> Table:
    """The table of a text.

    Raises
    ------
    ValueError
        There is no header.
    """
    lines = list(io.StringIO(text))
    first = next((number for number, line in enumerate(lines) if not _COMMENT.match(line)), None)
    if first is None:
        raise ValueError("found no header")
    separator = _separator(lines[first])
    header = _cells(lines[first], separator)
    rows, numbers, surplus = [], [], []
    for row, number in _records(lines[first + 1 :], separator):
        surplus += [first + 1 + number] if any(map(str.strip, row[len(header) :])) else []
        rows.append([cell.strip() for cell in row[: len(header)]] + [""] * (len(header) - len(row)))
        numbers.append(first + 1 + number)
    return Table(header, rows, numbers, separator, surplus)


def _records(lines: Sequence[str], separator: str) -> Iterator[tuple[list[str], int]]:
    reader = csv.reader(lines, delimiter=separator)
    for row in reader:
        if any(cell.strip() for cell in row) and not row[0].lstrip().startswith("#"):
            yield row, reader.line_num


def _separator(line: str) -> str:
    return max(_SEPARATORS, key=lambda one: len(_cells(line, one)))


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line.rstrip("\r\n")], delimiter=separator), [])]


def numbers(cells: Sequence[str], separator: str) -> Numbers:
    """The cells of a column as numbers, by one rule for all of them."""
    comma = _comma_is_decimal(cells, separator)
    texts, wrong = [], []
    for row, cell in enumerate(cells):
        text = _number(cell, comma)
        texts.append(text)
        if not text and cell.lower() not in _MISSING:
            wrong.append(row)
    return Numbers(texts, wrong)


def _comma_is_decimal(cells: Sequence[str], separator: str) -> bool:
    """Whether commas in a column are decimal: not where every one of them parts thousands."""
    with_comma = [cell for cell in cells if "," in cell]
    thousands = all(_THOUSANDS[","].fullmatch(cell) for cell in with_comma)
    has_point = any("." in cell for cell in with_comma)
    return bool(with_comma) and not (thousands and (has_point or separator == ","))


def _number(cell: str, comma_is_decimal: bool) -> str:
    """A plain number; empty where the cell is none."""
    if _PLAIN.fullmatch(cell):
        return cell
    if _THOUSANDS[" "].fullmatch(cell):
        cell = re.sub(r"[ \u00a0\u202f']", "", cell)
    if comma_is_decimal:
        cell = cell.replace(".", "") if _THOUSANDS["."].fullmatch(cell) else cell
        cell = cell.replace(",", ".", 1) if _DECIMAL_COMMA.fullmatch(cell) else cell
    elif _THOUSANDS[","].fullmatch(cell):
        cell = cell.replace(",", "")
    return cell if _PLAIN.fullmatch(cell) else ""
