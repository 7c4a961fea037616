"""Arrays and texts in few characters: deflated, in base64, for the page to unfold."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

_NAMES = {"u1": "uint8", "u2": "uint16", "i4": "int32", "f4": "float32", "f8": "float64"}
MOST_LEVELS = 4096
"""Different values up to which a column is kept exactly, by their numbers."""
COARSE, FINE = 1022, 65534
"""Steps of a value that is shown to three digits, and of a place."""


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def packed(values: np.ndarray) -> dict[str, Any]:
    """An array of one of the types that the page knows.

    The first byte of each value comes first, then the second of each, and so on: those that are alike then lie
    together, which deflate gains by.
    """
    planes = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).view(np.uint8)
    planes = planes.reshape(len(values), values.dtype.itemsize).T
    return {"dtype": _NAMES[values.dtype.str[1:]], "data": base64_of(zlib.compress(planes.tobytes(), 6))}


def packed_texts(texts: Sequence[str]) -> str:
    return base64_of(zlib.compress(json.dumps(list(texts), separators=(",", ":")).encode("ascii"), 6))


def exact(values: np.ndarray) -> dict[str, Any]:
    """Float64 as the smallest type in which nothing moves that a reader could see."""
    return packed(_compact(values))


def _compact(values: np.ndarray) -> np.ndarray:
    """int32 where exact; float32 where nothing moves by more than 1e-5 of the span (epoch seconds do); else float64."""
    finite = values[np.isfinite(values)]
    if finite.size == values.size and np.all(np.abs(values) < 2**31) and np.all(values == np.rint(values)):
        return values.astype("<i4")
    with np.errstate(over="ignore"):
        small = values.astype("<f4")
    fits = not finite.size or np.max(np.abs(small[np.isfinite(values)] - finite)) <= 1e-5 * np.ptp(finite)
    return small if fits else values.astype("<f8")


def coded(values: np.ndarray, log: bool, steps: int = COARSE) -> dict[str, Any]:
    """Float64 as one or two bytes each; the highest code is a value that is missing.

    Few different values stay exact. Others become the nearest of `steps` equal steps from the least to the greatest,
    of their logarithm where `log` is asked for and all are positive; whole numbers stay exact where two bytes can.
    """
    finite = np.isfinite(values)
    levels = np.unique(values[finite])
    if len(levels) <= MOST_LEVELS:
        codes = np.where(finite, np.searchsorted(levels, values), len(levels))
        return {"levels": levels.tolist(), "codes": _codes(codes, len(levels))}
    low, high = levels[0], levels[-1]
    log = log and bool(low > 0)
    if np.all(levels == np.rint(levels)) and high - low <= FINE:
        log, steps = False, int(high - low)
    low, high = (np.log(low), np.log(high)) if log else (low, high)
    known = np.where(finite, values, levels[0])
    place = (np.log(known) if log else known) - low
    codes = np.where(finite, np.rint(place * (steps / (high - low))), steps + 1)
    return {"low": float(low), "high": float(high), "steps": steps, "log": log, "codes": _codes(codes, steps + 1)}


def _codes(codes: np.ndarray, missing: int) -> dict[str, Any]:
    return packed(codes.astype("<u1" if missing < 2**8 else "<u2"))
