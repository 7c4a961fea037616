"""Values that are no counts, by the type in which they are stored; to be had without the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

NO_COUNT = 2**53
"""The first integer that is no count, but a mark as the largest value of its type is: no detector counts so far, and
float64, in which products of large counts are added up, does not hold all that follow."""
Span = tuple[float, float]
"""First and last of values side by side."""


def first_dead(dtype: np.dtype[Any]) -> float:
    """The smallest value that is no count: infinity for floats, the largest for integers.

    Unsigned ones of two bytes or more have one below it, which DECTRIS detectors give pixels that are defective: no
    count comes as near to the largest but one that is saturated. A byte may count so far.
    """
    if dtype.kind == "f":
        return np.inf
    return min(int(np.iinfo(dtype).max) - int(dtype.kind == "u" and dtype.itemsize > 1), NO_COUNT)
