"""The maps of an archive, by their row in the map index."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.archive.groups import array, check_group, reading_group
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.types import READ_AHEAD

if TYPE_CHECKING:
    import pandas as pd

_AT_A_TIME = 64
"""Maps that are read at a time: cells of a scan lie in one chunk, which is decoded once for so many."""


class MapReader:
    """Maps of the archive by their row in the map index; those of the scans read last are kept, up to READ_AHEAD bytes.

    Parameters
    ----------
    archive : Archive
    index : DataFrame
        Rows of maps/index.parquet with `scan_id` and `row`.
    array : {"maps", "cells"}
        What is read of a map: the image (256, 256), or the cells (3, 60, 16).
    """

    def __init__(self, archive: Archive, index: pd.DataFrame, array: str = "maps") -> None:
        self._archive, self._array = archive, array
        self.scan_ids: list[str] = index["scan_id"].tolist()
        self._index, self._rows = index, index["row"].to_numpy()
        self._kept: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.scan_ids)

    def __getitem__(self, i: int) -> np.ndarray:
        """Map i, float32."""
        scan_id, row = self.scan_ids[i], int(self._rows[i])
        if scan_id not in self._kept:
            with reading_group(self._archive.maps_path(scan_id)) as group:
                stored = array(group, self._array)
                if stored.nbytes > READ_AHEAD:
                    return np.asarray(stored[row], dtype=np.float32)
                self._keep(scan_id, np.asarray(stored[...]))
        return np.asarray(self._kept[scan_id][row], dtype=np.float32)

    def _keep(self, scan_id: str, maps: np.ndarray) -> None:
        """Keep the maps of a scan in the place of those that were read first."""
        while self._kept and sum(one.nbytes for one in self._kept.values()) + maps.nbytes > READ_AHEAD:
            del self._kept[next(iter(self._kept))]
        self._kept[scan_id] = maps

    def each(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, np.ndarray]]:
        """Rows and their maps, float32; a product is opened once for rows of its scan that follow each other."""
        for scan_id, some in itertools.groupby(rows, key=lambda i: self.scan_ids[i]):
            with reading_group(self._archive.maps_path(scan_id)) as group:
                maps = array(group, self._array)
                while part := list(itertools.islice(some, _AT_A_TIME)):
                    yield from zip(part, maps.oindex[self._rows[part]].astype(np.float32), strict=True)

    def check(self) -> None:
        """Read all products of these maps through.

        Raises
        ------
        ProductError
            One of them is missing or damaged.
        """
        for scan_id in dict.fromkeys(self.scan_ids):
            check_group(self._archive.maps_path(scan_id))

    def column(self, name: str) -> np.ndarray:
        """A column of the index, (n,) float32."""
        return self._index[name].to_numpy(np.float32)
