"""The page of a watch: one small file without script, which a browser loads again and again, from any mount."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import numpy as np
import pandas as pd

from ainerd_hpc.archive.groups import array, reading_group
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.console import time_text
from ainerd_hpc.errors import AinerdError
from ainerd_hpc.publishing import write_text
from ainerd_hpc.report.pictures import image
from ainerd_hpc.watching.told import Line

REFRESH = 5
"""Seconds after which a browser loads the page again."""
_SHOWN, _POINTS, _EDGE, _SIDE = 40, 3000, 64, 420
"""Scans in the table, maps of the archive in the picture, pixels of a thumbnail and of the picture."""
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6d31", "#5254a3")
_NOISE = "#b0b0b0"
_STYLE = """
body{font:15px/1.4 system-ui,sans-serif;margin:1.5em;color:#1a1a1a;background:#fff}
table{border-collapse:collapse}td,th{padding:.3em .8em;text-align:left;vertical-align:top;border-bottom:1px solid #ddd}
.new td{background:#fde0dc}.rare td{background:#fff1cf}.change td{background:#e4eefb}svg{border:1px solid #ddd}
small{color:#666}@media(prefers-color-scheme:dark){body{background:#1c1c1c;color:#e8e8e8}td,th,svg{border-color:#444}
.new td{background:#5a2620}.rare td{background:#54451c}.change td{background:#243a56}small{color:#aaa}}
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{}">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>watch</title><style>{}</style></head>
<body><h1>Scans as they appear</h1><p>{} <small>({})</small></p>
{}</body></html>
"""


class Page:
    """Writes the page of an archive.

    Parameters
    ----------
    archive : Archive
    places : DataFrame
        x, y and label of the maps of the archive.
    """

    def __init__(self, archive: Archive, places: pd.DataFrame) -> None:
        self._archive, self.path = archive, archive.root / "report" / "watch.html"
        placed = places[np.isfinite(places["x"])]
        few = placed.iloc[:: -(-len(placed) // _POINTS) or 1]
        self._low, self._span = few[["x", "y"]].min(), (few[["x", "y"]].max() - few[["x", "y"]].min()).clip(lower=1e-9)
        rows = zip(few["x"], few["y"], few["label"], strict=True)
        self._known = "".join(self._circle(x, y, label, 1.5, "") for x, y, label in rows)
        self._pictures: dict[str, str] = {}

    def write(self, state: str, lines: Sequence[Line], faults: Mapping[str, str]) -> None:
        """Publish it: how far the watch is, its last scans, and those that cannot be taken up."""
        last = list(lines)[-_SHOWN:][::-1]
        self._pictures = {line["version"]: self._picture(line) for line in last}
        rest = self._map(last) + _table(last, self._pictures) + _faults(faults)
        page = _PAGE.format(REFRESH, _STYLE, html.escape(state), f"{datetime.now():%Y-%m-%d %H:%M:%S}", rest)
        write_text(self.path, page)

    def _circle(self, x: float, y: float, label: int, radius: float, more: str) -> str:
        colour = _COLOURS[label % len(_COLOURS)] if label >= 0 else _NOISE
        across = 10 + (_SIDE - 20) * np.clip((x - self._low["x"]) / self._span["x"], -0.02, 1.02)
        down = 10 + (_SIDE - 20) * np.clip(1 - (y - self._low["y"]) / self._span["y"], -0.02, 1.02)
        return f'<circle cx="{across:.1f}" cy="{down:.1f}" r="{radius}" fill="{colour}" {more}></circle>'

    def _map(self, lines: Iterable[Line]) -> str:
        """The archive in small points, the last scans in large ones, the newest largest."""
        rings = 'stroke="currentColor" stroke-width="1.5"'
        large = [
            self._circle(x, y, line["label"], max(4, 8 - number), rings)
            for number, line in enumerate(lines)
            for x, y in [line["place"]]
            if x is not None
        ]
        return f'<svg width="{_SIDE}" height="{_SIDE}">{self._known}{"".join(reversed(large))}</svg>'

    def _picture(self, line: Line) -> str:
        """The most novel map of a scan; nothing where its product is gone."""
        if line["version"] in self._pictures:
            return self._pictures[line["version"]]
        try:
            with reading_group(self._archive.maps_path(line["scan_id"])) as group:
                map_ = np.asarray(array(group, "maps")[int(line["shown"])])
        except (AinerdError, OSError, IndexError):
            return ""
        block = len(map_) // _EDGE
        small = map_.reshape(_EDGE, block, _EDGE, block).mean(axis=(1, 3))
        return image(np.round(255 * np.clip(np.nan_to_num(small), 0, 1)).astype(np.uint8))


def _table(lines: Iterable[Line], pictures: Mapping[str, str]) -> str:
    names = ("time", "scan", "most novel map", "verdict", "kind", "novelty", "nearest known scans (distance)", "after")
    rows = "".join(_row(line, pictures[line["version"]]) for line in lines)
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>{rows}</table>"


def _row(line: Line, picture: str) -> str:
    near = ", ".join(f"{name} ({distance:.3g})" for name, distance in line["nearest"].items())
    cluster = f"cluster {line['label']}: " if line["label"] >= 0 else ""
    shown = f'<img width="{_EDGE}" height="{_EDGE}" alt="" src="data:image/webp;base64,{picture}">' if picture else ""
    novelty = "-" if line["novelty"] is None else f"{line['novelty']:.2f}"
    texts = [f"{datetime.fromtimestamp(line['time']):%H:%M:%S}", line["scan_id"], None, line["verdict"]]
    texts += [cluster + line["kind"], novelty, near, time_text(line["seconds"]["total"])]
    cells = "".join(f"<td>{shown if text is None else html.escape(str(text))}</td>" for text in texts)
    return f'<tr class="{html.escape(line["verdict"])}">{cells}</tr>'


def _faults(faults: Mapping[str, str]) -> str:
    if not faults:
        return ""
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(text)}</td></tr>"
        for name, text in list(faults.items())[:_SHOWN]
    )
    return f"<h2>Not taken up: unfinished, or faulty ({len(faults)})</h2><table>{rows}</table>"
