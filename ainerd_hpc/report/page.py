"""The report as one HTML file that needs no network: numbers in, page out. Knows nothing of archives or stages."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from ainerd_hpc.report.content import REQUIRED, ReportData
from ainerd_hpc.report.packing import base64_of
from ainerd_hpc.report.payload import payload

SCRIPTS = (
    "data", "format", "colours", "state", "view", "splat", "first", "rest", "scales", "curves", "pictures", "filter",
    "overlay", "pointer", "hover", "detail", "panels", "clusters", "history", "export", "link", "main",
)  # fmt: skip
"""The files of the page's one script, in the order in which their constants need each other."""
_MODULES = ("columns", "content", "packing", "page", "payload", "pictures", "summary")
"""The modules that shape the page."""


def render(data: ReportData) -> str:
    """The whole page. The same data gives the same text.

    Raises
    ------
    ValueError
        A needed column is missing, or thumbnails and table differ in length.
    """
    _check(data)
    script, style = _script(), _asset("report.css")
    parts = {
        "title": html.escape(data.title),
        "script": script,
        "script_hash": _csp_hash(script),
        "style": style,
        "style_hash": _csp_hash(style),
        "data": _script_safe(payload(data)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("report.html"))


def _check(data: ReportData) -> None:
    missing = [name for name in REQUIRED if name not in data.table]
    if missing:
        raise ValueError(f"report table: columns {missing} are missing; it has {list(data.table.columns)}")
    if len(data.thumbnails) != len(data.table):
        raise ValueError(f"report: expected {len(data.table)} thumbnails, one a map, found {len(data.thumbnails)}")


def _script_safe(content: Mapping[str, Any]) -> str:
    """JSON without any character that could end the script element or start a tag."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def version() -> str:
    """Digest of all that shapes the page but the data."""
    sources = [_text(f"{name}.py") for name in _MODULES]
    assets = (_script(), _asset("report.css"), _asset("report.html"), *sources)
    return hashlib.sha256("".join(assets).encode()).hexdigest()[:16]


def _csp_hash(text: str) -> str:
    """The content-security policy lets exactly this inline text run, and nothing that data could bring along."""
    return "sha256-" + base64_of(hashlib.sha256(text.encode()).digest())


def _script() -> str:
    """The files of the script as one, in one scope: nothing of it becomes a name of the window but `ainerd`."""
    return "\n".join(['"use strict";', "(async () => {", *(_asset(f"{name}.js") for name in SCRIPTS), "})();"])


def _asset(name: str) -> str:
    return _text(f"assets/{name}")


def _text(path: str) -> str:
    return resources.files("ainerd_hpc.report").joinpath(path).read_text(encoding="utf-8")
