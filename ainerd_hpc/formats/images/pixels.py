"""What the header of an image says of its pixels: EDF of the SAXS programs, Pilatus in CBF and TIFF, GDAL in TIFF."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import inf, isnan, nan
from typing import Any

import numpy as np

from ainerd_hpc.formats.detector_pixels import PixelFacts
from ainerd_hpc.kernels.no_counts import Span, first_dead

_NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")


def facts_of(header: Mapping[str, str], dtype: np.dtype[Any]) -> PixelFacts:
    """What a header says, by its keys in small letters.

    A pixel of EDF has no count where it is within `DDummy` of `Dummy`; a `Dummy` of 0 says that there is none.
    """
    limits, dummy = dict(_limits(header)), number_in(header, "dummy")
    no_counts = tuple(span for span in limits.values() if span[1] >= 0 and span[0] < first_dead(dtype))
    unused = ["Dummy 0: zeros are taken for counts"] if dummy == 0 else []
    if header.get("flat_field", "").startswith("(nil"):
        unused.append("Flat_field (nil): counts are not corrected for the flat field")
    return PixelFacts(no_counts, False, tuple(limits), tuple(unused))


def _limits(header: Mapping[str, str]) -> Iterator[tuple[str, Span]]:
    """(what the header says, values that are no counts)."""
    dummy, around = number_in(header, "dummy"), number_in(header, "ddummy")
    if dummy and not isnan(dummy):
        around = 0.0 if isnan(around) else abs(around)
        yield f"Dummy {dummy:.10g} (DDummy {around:.10g})", (dummy - around, dummy + around)
    if not isnan(nodata := number_in(header, "gdal_nodata")):
        yield f"GDAL_NODATA {nodata:.10g}", (nodata, nodata)
    if (cutoff := number_in(header, "count_cutoff")) > 0:
        yield f"Count_cutoff {cutoff:.10g}", (cutoff, inf)


def numbers_in(header: Mapping[str, str], key: str) -> list[float]:
    """All numbers of a key."""
    return [float(number) for number in _NUMBER.findall(header.get(key, ""))]


def number_in(header: Mapping[str, str], *keys: str) -> float:
    """The first number of the first key that has one; NaN without."""
    return next((number for key in keys for number in numbers_in(header, key)[:1]), nan)
