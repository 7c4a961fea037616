"""What an archive, a scan and a cluster show of themselves in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ainerd_hpc.api.tables import Tables
from ainerd_hpc.archive.map_reader import MapReader
from ainerd_hpc.report.columns import heading
from ainerd_hpc.report.pictures import image, picture

_EDGE = 64
"""Edge of a picture, pixels."""
_MOST_CLUSTERS = 30
_QUARTILES = ("low", "median", "high")
_SIDE = 'style="text-align:left;padding-right:1em"'


def archive_page(archive: Tables) -> str:
    """How many scans and maps there are, and a row a cluster."""
    scans, maps = archive.scans, archive.maps
    aside = int((scans["state"] == "quarantined").sum())
    facts = [f"{len(scans)} scans" + (f" ({aside} in quarantine)" if aside else ""), f"{len(maps)} maps"]
    if "label" not in maps:
        facts.append("not clustered yet")
        return _page(f"Archive {archive.path}", facts)
    clusters = archive.clusters
    facts += [f"{len(clusters)} clusters", f"{(maps['label'] < 0).mean():.0%} of the maps in none"]
    facts += [f"model {archive.model}"]
    largest = clusters.sort_values("maps", ascending=False, kind="stable")
    head = ("cluster", "kind", "maps", "scans", "stability", heading("half_decay"), "stands for it")
    rows = [
        (label, row["kind"], row["maps"], row["scans"], row["stability"], row["half_decay_median"], row["medoid"])
        for label, row in largest.head(_MOST_CLUSTERS).iterrows()
    ]
    left = len(clusters) - len(rows)
    more = f"<p>and {left} more: see <code>.clusters</code></p>" if left else ""
    return _page(f"Archive {archive.path}", facts, _table(head, rows) + more)


def scan_page(archive: Tables, scan_id: str, maps: pd.DataFrame) -> str:
    """Where a scan comes from, and a row a q-bin with its longest map."""
    record = archive.scans.loc[scan_id]
    facts = [f"{record['num_frames']} frames of {record['frame_time']:.4g} s", f"{record['num_q_bins']} q-bins"]
    facts += [str(record["state"]), f"from {Path(str(record['source'])).name}"]
    if maps.empty:
        return _page(f"Scan {scan_id}", [*facts, "no maps"])
    length = maps["age_stop"] - maps["age_start"]
    longest = maps.loc[length.groupby(maps["q_bin"]).idxmax()]
    names = [name for name in ("tau", "contrast", "kww_exponent", "label", "kind", "novelty") if name in maps]
    head = (heading("q_bin"), heading("q"), "C2", *map(heading, names))
    rows = [
        (row["q_bin"], row["q"], _Picture(one), *(row[name] for name in names))
        for (_, row), one in zip(longest.iterrows(), _pictures(archive, longest), strict=True)
    ]
    return _page(f"Scan {scan_id}", facts, _table(head, rows))


def cluster_page(archive: Tables, row: pd.Series) -> str:
    """What kind a cluster is, what stands for it, and the quartiles of its physics; `row` is its summary."""
    facts = [f"{row['kind']}", f"{row['maps']} maps of {row['scans']} scans", f"stability {_text(row['stability'])}"]
    facts += [str(row["separation"])]
    maps = archive.maps.set_index("map_id").loc[list(row["exemplars"])].reset_index()
    shown = "".join(
        f'<figure style="display:inline-block;margin:0 8px 8px 0">{_Picture(one)}'
        f"<figcaption><small>{escape(name)}</small></figcaption></figure>"
        for name, one in zip(maps["map_id"], _pictures(archive, maps), strict=True)
    )
    names = [str(name).removesuffix("_median") for name in row.index if str(name).endswith("_median")]
    rows = [(heading(name), *(row[f"{name}_{part}"] for part in _QUARTILES)) for name in names]
    return _page(f"Cluster {row.name}", facts, f"<div>{shown}</div>" + _table(("", *_QUARTILES), rows))


class _Picture:
    """A map as a picture in a page, time rising upwards."""

    def __init__(self, map_: np.ndarray) -> None:
        self._data = image(picture(map_, _EDGE))

    def __str__(self) -> str:
        size = f'width="{_EDGE}" height="{_EDGE}"'
        return f'<img {size} alt="C2" src="data:image/webp;base64,{self._data}">'


def _pictures(archive: Tables, maps: pd.DataFrame) -> Iterable[np.ndarray]:
    reader = MapReader(archive.layout, maps)
    return (reader[place] for place in range(len(maps)))


def _page(title: str, facts: Sequence[str], rest: str = "") -> str:
    told = " · ".join(escape(fact) for fact in facts if fact)
    return f"<div><p><b>{escape(title)}</b><br>{told}</p>{rest}</div>"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    names = "".join(f"<th {_SIDE}>{escape(name)}</th>" for name in head)
    lines = ("".join(f"<td {_SIDE}>{_cell(value)}</td>" for value in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    return str(value) if isinstance(value, _Picture) else escape(_text(value))


def _text(value: Any) -> str:
    """A value in few words; a dash where it is not known."""
    if pd.isna(value):
        return "–"
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)
