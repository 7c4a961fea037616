"""The config reference of docs/config.md, made from the models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ainerd_hpc.config import RunConfig


def reference() -> str:
    """A Markdown table, a row a key."""
    schema = RunConfig.model_json_schema()
    rows = ["| key | values | default | meaning |", "|---|---|---|---|"]
    rows += [f"| {' | '.join(cells)} |" for cells in _rows(schema, schema["$defs"], "")]
    return "\n".join(rows)


def _rows(section: dict[str, Any], definitions: dict[str, Any], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for name, entry in section["properties"].items():
        nested = _nested(entry)
        if nested:
            yield from _rows(definitions[nested], definitions, f"{prefix}{name}.")
            continue
        needed = name in section.get("required", [])
        default = "(needed)" if needed else f"`{json.dumps(entry.get('default'))}`"
        meaning = " ".join(entry.get("description", "").split())
        yield f"`{prefix}{name}`", _values(entry), default.replace("`null`", "-"), meaning


def _nested(entry: dict[str, Any]) -> str:
    """Name of the section that an entry refers to."""
    refs = [part["$ref"] for part in (entry, *entry.get("anyOf", ())) if "$ref" in part]
    return refs[0].rsplit("/", 1)[-1] if refs else ""


def _values(entry: dict[str, Any]) -> str:
    parts = [part for part in entry.get("anyOf", [entry]) if part.get("type") != "null"]
    return " or ".join(dict.fromkeys(_one(part) for part in parts))


def _one(part: dict[str, Any]) -> str:
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if "const" in part:
        return f"`{part['const']}`"
    if part.get("type") == "array":
        return f"list of {_values(part['items'])}"
    return str(part.get("format", part.get("type"))).replace("integer", "int").replace("string", "text")
