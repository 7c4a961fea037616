"""The nearest of many points to a few: all of them are looked at, which takes milliseconds for a million."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating[Any]]
_ROWS = 65_536
"""Points that are compared at a time, which bounds the memory."""


class Nearest(NamedTuple):
    """The nearest of the asked points, for each point, (n,)."""

    distance: NDArray[np.float32]
    place: NDArray[np.int64]


class Scales(NamedTuple):
    """What latents and numbers beside them are counted in, so that each of them is worth as much."""

    spread: float
    """Root of the sum of the variances of the latents."""
    centre: NDArray[np.float64]
    deviation: NDArray[np.float64]
    """(k,) mean and standard deviation of each number; infinite where it does not differ."""

    @classmethod
    def of(cls, latents: Points, numbers: Points) -> Scales:
        """The scales of an archive: latents (n, d) and numbers (n, k), NaN where they are not known."""
        known = np.isfinite(numbers)
        count = np.maximum(known.sum(axis=0), 1)
        centre = np.where(known, numbers, 0.0).sum(axis=0) / count
        deviation = np.sqrt(np.where(known, (numbers - centre) ** 2, 0.0).sum(axis=0) / count)
        spread = float(np.sqrt(np.var(latents, axis=0, dtype=np.float64).sum()))
        return cls(spread or np.inf, centre, np.where(deviation > 0, deviation, np.inf))

    def coordinates(self, latents: Points, numbers: Points) -> NDArray[np.float32]:
        """Latents (n, d) and numbers (n, k) side by side, (n, d + k).

        Two maps drawn at random are as far apart, in the mean of squares, by their latents as by each number. A number
        that is not known counts as the mean.
        """
        scaled = np.nan_to_num((numbers - self.centre) / self.deviation, nan=0.0, posinf=0.0, neginf=0.0)
        return np.hstack([latents / self.spread, scaled]).astype(np.float32)


def nearest(points: Points, asked: Points) -> Nearest:
    """Distance (Euclidean) of each point (n, d) to the nearest of those asked for (m, d).

    Found in float32 by |x|^2 - 2 x y + |y|^2, about the centre of what is asked for; the distance is then computed anew
    from the difference, so that equal points are 0 apart.
    """
    points, asked = np.asarray(points, np.float32), np.asarray(asked, np.float32)
    centre = asked.mean(axis=0)
    centred, squares = asked - centre, ((asked - centre) ** 2).sum(axis=1) / 2
    distance, place = np.empty(len(points), np.float32), np.empty(len(points), np.int64)
    for start in range(0, len(points), _ROWS):
        part = points[start : start + _ROWS]
        chosen = (
            ((part - centre) @ centred.T - squares).argmax(axis=1) if len(asked) > 1 else np.zeros(len(part), np.int64)
        )
        place[start : start + _ROWS] = chosen
        distance[start : start + _ROWS] = np.sqrt(np.einsum("ij,ij->i", *[part - asked[chosen]] * 2))
    return Nearest(distance, place)
