"""Which pixel belongs to which q-bin and static bin."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from ainerd_hpc.archive.groups import array, reading_group
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.types import Scan


@dataclass(frozen=True, slots=True)
class Layout:
    """The valid pixels of a partition, sorted by q-bin, then static bin, then place."""

    order: np.ndarray
    """(p,) int32 number of each pixel in the frame, row by row."""
    bounds: np.ndarray
    """(q_bin + 1,) int64 first pixel of each q-bin, and the end of the last."""
    static_labels: np.ndarray
    """(p,) int32."""
    dynamic_q_list: np.ndarray
    """(q_bin,) 1/angstrom."""
    static_q_list: np.ndarray
    """(static_bin,) 1/angstrom."""

    def position(self, shape: tuple[int, ...]) -> np.ndarray:
        """(y x,) int32 place in this layout of each pixel of frames (t, y, x); -1: not in it."""
        position = np.full(int(np.prod(shape[1:])), -1, dtype=np.int32)
        position[self.order] = np.arange(len(self.order))
        return position

    def part(self, start: int, stop: int) -> Layout:
        """The q-bins [start, stop) alone."""
        inside = slice(self.bounds[start], self.bounds[stop])
        bounds = self.bounds[start : stop + 1] - self.bounds[start]
        q_list = self.dynamic_q_list[start:stop]
        return Layout(self.order[inside], bounds, self.static_labels[inside], q_list, self.static_q_list)

    def without(self, is_dead: np.ndarray) -> Layout:
        """The same without the dead pixels (p,)."""
        sizes = np.add.reduceat(np.append(~is_dead, False), self.bounds[:-1]) * (np.diff(self.bounds) > 0)
        bounds = np.append(0, np.cumsum(sizes))
        return Layout(
            self.order[~is_dead], bounds, self.static_labels[~is_dead], self.dynamic_q_list, self.static_q_list
        )

    def blocks(self, num_blocks: int, whole_static_bins: bool) -> list[Layout]:
        """One q-bin in so many blocks of pixels, or fewer."""
        labels, num_pixels = self.static_labels, len(self.order)
        starts = np.flatnonzero(np.diff(labels, prepend=-1)) if whole_static_bins else np.arange(num_pixels)
        firsts = [int(part[0]) for part in np.array_split(starts, num_blocks) if len(part)] or [0]
        q_lists = self.dynamic_q_list, self.static_q_list
        return [
            Layout(self.order[start:stop], np.array([0, stop - start]), labels[start:stop], *q_lists)
            for start, stop in itertools.pairwise([*firsts, num_pixels])
        ]


def read_layout(archive: Archive, scan: Scan) -> Layout:
    """The layout of a scan's partition."""
    with reading_group(archive.partition_path(scan.partition)) as group:
        names = ("dynamic_roi_map", "static_roi_map", "dynamic_q_list", "static_q_list")
        return layout_of(*(array(group, name)[...] for name in names))


def layout_of(dynamic: np.ndarray, static: np.ndarray, dynamic_q_list: np.ndarray, static_q_list: np.ndarray) -> Layout:
    """The layout of labels (y, x) from 1, 0 unused; of each static bin all pixels lie in one dynamic bin."""
    dynamic, static = dynamic.ravel(), static.ravel()
    valid = np.flatnonzero(dynamic)
    order = valid[np.argsort(dynamic[valid] * (static.max(initial=0) + 1) + static[valid], kind="stable")]
    bounds = np.searchsorted(dynamic[order], np.arange(1, len(dynamic_q_list) + 2))
    return Layout(order.astype(np.int32), bounds.astype(np.int64), static[order], dynamic_q_list, static_q_list)


def spans(layout: Layout) -> list[tuple[int, int]]:
    """First pixel of each q-bin, and the one after its last."""
    return list(zip(layout.bounds[:-1].tolist(), layout.bounds[1:].tolist(), strict=True))
