"""Which tiles of C2 are made: all, or along the diagonal as far as the windows of the maps reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ainerd_hpc.config import MapsConfig
from ainerd_hpc.kernels.windows import window_starts

SHORTEST_WINDOW = 8
"""Frames in the shortest window that makes a map."""
_UNIT, _LARGEST = 256, 1024


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """Square tiles of C2, a Zarr chunk each."""

    num_frames: int
    edge: int
    """Frames in a tile."""
    ends: np.ndarray
    """(row of tiles,) frame at which each row of tiles ends, counted from the diagonal to the right."""

    def reach(self, start: int) -> int:
        """Frame at which the row of tiles that begins with frame `start` ends."""
        return int(self.ends[start // self.edge])

    @property
    def is_full(self) -> bool:
        """Whether all of C2 is made."""
        return bool((self.ends == self.num_frames).all())

    @property
    def _heights(self) -> np.ndarray:
        return np.minimum(self.edge, self.num_frames - np.arange(len(self.ends)) * self.edge)

    @property
    def _widths(self) -> np.ndarray:
        return self.ends - np.arange(len(self.ends)) * self.edge

    @property
    def num_entries(self) -> int:
        """Entries of C2 on and right of the diagonal tiles."""
        return int((self._heights * self._widths).sum())

    @property
    def num_written(self) -> int:
        """Entries of C2 that are stored: these and their mirror images."""
        return int((self._heights * (2 * self._widths - self._heights)).sum())

    @property
    def num_products(self) -> int:
        """Entries of C2 that are computed, on the diagonal and above, by strips of 256 frames."""
        rows = np.arange(0, self.num_frames, _UNIT)
        return int((np.minimum(_UNIT, self.num_frames - rows) * (self.ends[rows // self.edge] - rows)).sum())

    @property
    def largest_row(self) -> int:
        """Entries of the largest row of tiles."""
        return int(self.edge * self._widths.max(initial=0))


def window_lengths(config: MapsConfig, num_frames: int) -> list[int]:
    """The configured lengths that fit into a scan, frames."""
    lengths = [num_frames if window == "full" else window for window in config.windows]
    return [length for length in dict.fromkeys(lengths) if SHORTEST_WINDOW <= length <= num_frames]


def tiles_for(config: MapsConfig, num_frames: int) -> Tiles:
    """The tiles that the windows of a scan lie on; all of them where a window is the full scan, or none fits."""
    lengths = window_lengths(config, num_frames) or [num_frames]
    edge = max(1, min(num_frames, -(-min(max(lengths), _LARGEST) // _UNIT) * _UNIT))
    ends = np.minimum(np.arange(1, -(-num_frames // edge) + 1) * edge, num_frames)
    for length in lengths:
        for start in window_starts(num_frames, length, config.overlap):
            rows = slice(int(start) // edge, (int(start) + length - 1) // edge + 1)
            ends[rows] = np.maximum(ends[rows], min(num_frames, -(-(int(start) + length) // edge) * edge))
    return Tiles(num_frames, edge, ends)
