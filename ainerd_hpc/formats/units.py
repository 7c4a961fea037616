"""Units as files write them, in ours; and values that no beamline has."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import isnan, pi

import numpy as np

UNITS: Mapping[str, Mapping[str, float]] = {
    "s": {
        "s": 1.0, "sec": 1.0, "second": 1.0, "ms": 1e-3, "msec": 1e-3, "millisecond": 1e-3, "us": 1e-6, "μs": 1e-6,
        "usec": 1e-6, "microsecond": 1e-6, "ns": 1e-9, "nsec": 1e-9, "nanosecond": 1e-9, "ps": 1e-12, "min": 60.0,
        "minute": 60.0, "h": 3600.0, "hour": 3600.0,
    },
    "m": {
        "m": 1.0, "metre": 1.0, "meter": 1.0, "cm": 1e-2, "centimetre": 1e-2, "centimeter": 1e-2, "mm": 1e-3,
        "millimetre": 1e-3, "millimeter": 1e-3, "um": 1e-6, "μm": 1e-6, "micron": 1e-6, "micrometre": 1e-6,
        "micrometer": 1e-6, "nm": 1e-9, "nanometre": 1e-9, "nanometer": 1e-9, "pm": 1e-12, "picometre": 1e-12,
        "picometer": 1e-12, "Å": 1e-10, "A": 1e-10, "ang": 1e-10, "angstrom": 1e-10, "ångström": 1e-10, "km": 1e3,
    },
    "keV": {"keV": 1.0, "KeV": 1.0, "kev": 1.0, "KEV": 1.0, "eV": 1e-3, "ev": 1e-3, "EV": 1e-3, "MeV": 1e3},
    "degree": {"degree": 1.0, "deg": 1.0, "°": 1.0, "rad": 180 / pi, "radian": 180 / pi, "mrad": 0.18 / pi},
    "pixel": {"pixel": 1.0, "px": 1.0, "pix": 1.0},
    "Pa": {"Pa": 1.0, "hPa": 1e2, "kPa": 1e3, "MPa": 1e6, "GPa": 1e9, "mbar": 1e2, "bar": 1e5},
}  # fmt: skip
"""Our units, and how many of them one of each other spelling is; longer words in small letters, singular.

Reciprocal lengths (1/angstrom) are those of the lengths: `1/nm`, `nm^-1`, `nm⁻¹`.
"""
_ZERO = {"degC": 0.0, "C": 0.0, "°C": 0.0, "celsius": 0.0, "K": -273.15, "kelvin": -273.15}
"""degC at 0 of each unit of temperature."""
_RECIPROCAL = re.compile(r"1 ?/ ?(.+)|(.+?)\^?[({]?-1[)}]?")
PER_ANGSTROM = "1/angstrom"
_LIKELY: Mapping[str, tuple[float, float, str]] = {
    "energy": (0.05, 500.0, "keV"),
    "distance": (1e-3, 200.0, "m"),
    "pixel_size": (1e-7, 0.02, "m"),
    "frame_time": (1e-10, 1e5, "s"),
    "q": (1e-6, 50.0, PER_ANGSTROM),
}
"""The smallest and the largest that any beamline has."""


def factor(given: str, unit: str) -> float:
    """How many of our units one of a given unit is.

    Parameters
    ----------
    given : str
        As a file writes it; empty, as dimensionless: ours.
    unit : str
        A key of `UNITS`, or `PER_ANGSTROM`.

    Raises
    ------
    ValueError
        It is no unit of this kind that is known.
    """
    spelling = _spelling(given)
    if unit == PER_ANGSTROM:
        match = _RECIPROCAL.fullmatch(spelling)
        length = UNITS["m"].get(_spelling(match[1] or match[2]), 0.0) if match else 0.0
        found = 1.0 / (length * 1e10) if length else None
    else:
        found = UNITS[unit].get(spelling)
    if spelling and found is None:
        short = [name for name in UNITS.get(unit, ()) if len(name) <= 3]
        known = "1/angstrom, 1/nm" if unit == PER_ANGSTROM else ", ".join(dict.fromkeys([unit, *short]))
        raise ValueError(f"expected a unit such as {known}, found '{given}'")
    return 1.0 if found is None else found


def is_known(given: str, unit: str) -> bool:
    """Whether a given unit is one of this kind, or none."""
    spelling = _spelling(given)
    return not spelling or spelling in UNITS[unit]


def in_common_unit(value: float, given: str) -> float:
    """A value of a sample in degC, Pa, s, m or degree; as it is where its unit is none of these quantities."""
    spelling = _spelling(given)
    if spelling in _ZERO:
        return value + _ZERO[spelling]
    return value * next((UNITS[unit][spelling] for unit in ("Pa", "s", "m", "degree") if spelling in UNITS[unit]), 1.0)


@lru_cache(maxsize=256)
def _spelling(text: str) -> str:
    """One of the many ways to write a unit: signs in their common form, words in small letters and singular."""
    text = unicodedata.normalize("NFKC", text).replace("\u2212", "-").strip(" []()" if "-1" not in text else " []")
    return text.lower().removesuffix("s") if len(text) > 4 and text.isalpha() else text


def unlikely(values: Mapping[str, float]) -> list[str]:
    """A line for each value, by its name, that no beamline has; NaN is not known."""
    lines = []
    for name, (least, most, unit) in _LIKELY.items():
        value = values.get(name, float("nan"))
        if not isnan(value) and not least <= value <= most:
            expected = f"expected {least:g} to {most:g} {unit}, check its unit"
            lines.append(f"{name.replace('_', ' ')} {value:.6g} {unit} is none that a beamline has: {expected}")
    return lines


def unlikely_q(q_list: Iterable[float]) -> list[str]:
    """The same of the q of bins; q of 0 is that of the direct beam."""
    q = np.abs(np.asarray(list(q_list), dtype=np.float64))
    ends = [q[q > 0].min(initial=np.inf), q.max(initial=0.0, where=~np.isnan(q))]
    return [line for end in ends if np.isfinite(end) and end > 0 for line in unlikely({"q": float(end)})][:1]
