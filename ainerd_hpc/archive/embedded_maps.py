"""The maps of an archive with their latents, a block at a time: the index of maps and the embedding go side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ainerd_hpc.archive.tables import read_blocks, read_codes, read_rows
from ainerd_hpc.errors import ProductError


class Block(NamedTuple):
    """Neighbouring maps."""

    rows: slice
    """Their places among all maps."""
    table: pd.DataFrame
    """Their rows of the index of maps, with what the network says of each."""
    latents: NDArray[np.float32]
    """(rows, d)"""


class EmbeddedMaps:
    """All maps of an archive."""

    def __init__(self, index: Path, embedding: Path) -> None:
        self._index, self._embedding = index, embedding

    def blocks(self) -> Iterator[Block]:
        """Every map once, in the order of the index.

        Raises
        ------
        ProductError
            A table is missing or damaged, or the embedding is of other maps.
        """
        start = 0
        for index, embedding in zip(read_blocks(self._index), read_blocks(self._embedding), strict=False):
            if not index["map_id"].equals(embedding["map_id"]):
                raise ProductError(self._embedding, "expected the maps of the index of maps, found others")
            rows = slice(start, start + len(index))
            start += len(index)
            yield Block(rows, _joined(index, embedding), _stacked(embedding))

    def latents(self) -> Iterator[NDArray[np.float32]]:
        """The latents alone, a block at a time."""
        return (_stacked(block) for block in read_blocks(self._embedding, ["latent"]))

    def ids(self) -> Iterator[pd.Series]:
        """The ids of the maps alone, a block at a time."""
        return (block["map_id"] for block in read_blocks(self._embedding, ["map_id"]))

    def latents_of(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Latents of some maps, given in order."""
        return _stacked(read_rows(self._embedding, rows, ["latent"]))

    def ids_of(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Ids of some maps, given in order."""
        return read_rows(self._index, rows, ["map_id"])["map_id"].to_numpy()

    def rows(self, rows: NDArray[np.int64]) -> pd.DataFrame:
        """Rows of the index of some maps, given in order, with what the network says of each."""
        return _joined(read_rows(self._index, rows), read_rows(self._embedding, rows))

    def scans(self) -> NDArray[np.int32]:
        """Number of the scan of each map, 4 bytes a map."""
        return read_codes(self._index, "scan_id")


def _joined(index: pd.DataFrame, embedding: pd.DataFrame) -> pd.DataFrame:
    """Maps with all that is told of them but their latents."""
    return pd.concat([index, embedding.drop(columns=["latent", *index.columns], errors="ignore")], axis=1)


def _stacked(table: pd.DataFrame) -> NDArray[Any]:
    latents = table["latent"].to_list()
    return np.stack(latents) if latents else np.zeros((0, 1), np.float32)
