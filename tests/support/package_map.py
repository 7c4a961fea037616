"""The map of the package in docs/architecture.md, made from the layers of the layering test and from docstrings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.test_layering import LAYERS, PACKAGE


def package_map() -> str:
    """A Markdown table, a row a module at the top of the package, a room, or a room within one."""
    rows = ["| layer | room | what it is |", "|---|---|---|"]
    rows += [
        f"| {number} | `{name}` | {_first_line(path)} |"
        for number, names in enumerate(LAYERS, start=1)
        for top in sorted(names)
        for name, path in _rooms(top)
    ]
    return "\n".join(rows)


def _rooms(top: str) -> Iterator[tuple[str, Path]]:
    if (module := PACKAGE / f"{top}.py").is_file():
        yield module.name, module
    for path in sorted((PACKAGE / top).rglob("__init__.py")):
        yield f"{path.parent.relative_to(PACKAGE).as_posix()}/", path


def _first_line(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]
