"""The data of the page, as the JSON that its script reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ainerd_hpc.report.columns import columns, is_numeric
from ainerd_hpc.report.content import Curve, Detail, ReportData
from ainerd_hpc.report.packing import packed, packed_texts
from ainerd_hpc.report.pictures import image, sprites
from ainerd_hpc.report.summary import summarise


def payload(data: ReportData) -> dict[str, Any]:
    """Everything the page shows, rows of the table first, then the other points."""
    table, whole, count = data.table, data.all_maps, len(data.table) + len(data.others)
    samples = [name for name in data.sample_columns if name in table and is_numeric(table, name)]
    rows = {str(map_id): row for row, map_id in enumerate(table["map_id"])}
    return {
        "title": data.title,
        "subtitle": data.subtitle,
        "simulated": data.simulated,
        "count": count,
        "pictured": len(table),
        "total": len(whole),
        "numScans": int(whole["scan_id"].nunique()),
        "thinned": data.thinned,
        "standsFor": packed(_stands_for(data, count)),
        "mapIds": packed_texts(list(rows)),
        **_scans(data),
        "columns": columns(data, samples),
        "sampleColumns": samples,
        "neighbours": None if data.neighbours is None else packed(data.neighbours.astype("<i4").ravel()),
        "thumbnails": sprites(data.thumbnails),
        "clusters": summarise(whole, samples, data.clusters),
        "details": [_detail(one) for one in data.details],
        "curves": _curves([one.curve for one in data.details]),
        "exemplars": {str(label): ids for label, ids in data.exemplars.items()},
        "relations": _relations(data.relations),
        "quarantine": [_texts(entry) for entry in data.quarantine],
        "doubts": [_texts(entry) for entry in data.doubts],
        "notes": [_texts(entry) for entry in data.notes],
        "facts": [[str(key), str(value)] for key, value in data.facts.items()],
    }


def _stands_for(data: ReportData, count: int) -> np.ndarray:
    return np.ones(count, "<i4") if data.stands_for is None else data.stands_for.astype("<i4")


def _scans(data: ReportData) -> dict[str, Any]:
    """The scan of every point, as its number among the scan_ids."""
    others = data.all_maps["scan_id"].iloc[data.others]
    codes, scan_ids = pd.factorize(pd.concat([data.table["scan_id"], others]).astype(str))
    return {"scanIds": packed_texts([str(name) for name in scan_ids]), "scan": packed(codes.astype("<i4"))}


def _detail(detail: Detail) -> dict[str, str]:
    pictures = {"image": detail.picture, "cells": detail.cells, "reconstruction": detail.reconstruction}
    return {"map": str(detail.map_id)} | {key: image(one) for key, one in pictures.items() if one is not None}


def _curves(curves: Sequence[Curve | None]) -> dict[str, Any]:
    """All curves end to end, and how many lags each has."""
    known = [curve for curve in curves if curve is not None]
    lengths = [0 if curve is None else len(curve.delay) for curve in curves]
    parts = {
        "delay": [curve.delay for curve in known],
        "g2": [curve.g2 for curve in known],
        "error": [curve.g2_err for curve in known],
        "fit": [np.full(len(curve.delay), np.nan) if curve.fit is None else curve.fit for curve in known],
    }
    values = {key: packed(np.concatenate([np.zeros(0), *part]).astype("<f4")) for key, part in parts.items()}
    return {"lengths": lengths, **values}


def _relations(table: pd.DataFrame | None) -> list[dict[str, Any]]:
    if table is None:
        return []
    names = [name for name in ("column", "cluster", "effect", "p_value", "words") if name in table]
    return [{name: _plain(row[name]) for name in names if pd.notna(row[name])} for _, row in table.iterrows()]


def _plain(value: Any) -> str | float:
    return float(value) if isinstance(value, int | float | np.number) else str(value)


def _texts(entry: Mapping[str, str]) -> dict[str, str]:
    return {str(key): str(value) for key, value in entry.items()}
