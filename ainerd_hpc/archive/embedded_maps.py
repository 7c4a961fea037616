"""The maps of an archive with their latents, a block at a time: the index of maps and the embedding go side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ainerd_hpc.archive import tables
from ainerd_hpc.archive.tables import read_blocks, read_codes, read_rows, within_blocks
from ainerd_hpc.errors import ProductError
from ainerd_hpc.kernels.clustering import siblings

_MOMENT = ["scan_id", "age_start", "age_stop"]
"""What maps of one moment have in common."""
_NOISE = "signal_to_noise"
_ASKED = 50_000
"""Maps, of whole scans, that are asked how far siblings are apart."""


class Block(NamedTuple):
    """Neighbouring maps."""

    rows: slice
    """Their places among all maps."""
    table: pd.DataFrame
    """Their rows of the index of maps, with what the network says of each."""
    latents: NDArray[np.float32]
    """(rows, d)"""


class EmbeddedMaps:
    """All maps of an archive.

    Parameters
    ----------
    index, embedding : Path
        Their tables.
    parity : float
        Signal to noise of maps whose latents lean on those of their siblings by half; 0: none does.
    """

    def __init__(self, index: Path, embedding: Path, parity: float = 0.0) -> None:
        self._index, self._embedding, self._parity = index, embedding, parity

    def leaning(self, parity: float) -> EmbeddedMaps:
        """The same maps, of which the faint ones lean on their siblings."""
        return EmbeddedMaps(self._index, self._embedding, parity)

    def find_parity(self, scans: NDArray[np.int32], seed: int) -> float:
        """Signal to noise at which noise moves a latent as far as siblings are apart, told from some of the scans (n,)
        of the maps."""
        names, sizes = np.unique(scans, return_counts=True)
        order = np.random.default_rng(seed).permutation(len(names))
        rows = np.flatnonzero(np.isin(scans, names[order][np.cumsum(sizes[order]) <= _ASKED]))
        told = read_rows(self._index, rows, [*_MOMENT, _NOISE])
        return siblings.find_parity(self.latents_of(rows), _moments(told), told[_NOISE].to_numpy(), seed)

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
        blocks = (_stacked(block) for block in read_blocks(self._embedding, ["latent"]))
        return self._lean(blocks) if self._parity else blocks

    def ids(self) -> Iterator[pd.Series]:
        """The ids of the maps alone, a block at a time."""
        return (block["map_id"] for block in read_blocks(self._embedding, ["map_id"]))

    def latents_of(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Latents of some maps, given in order."""
        return np.concatenate([block[inside] for block, inside in within_blocks(self.latents(), rows)])

    def ids_of(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Ids of some maps, given in order."""
        return read_rows(self._index, rows, ["map_id"])["map_id"].to_numpy()

    def rows(self, rows: NDArray[np.int64]) -> pd.DataFrame:
        """Rows of the index of some maps, given in order, with what the network says of each."""
        return _joined(read_rows(self._index, rows), read_rows(self._embedding, rows))

    def scans(self) -> NDArray[np.int32]:
        """Number of the scan of each map, 4 bytes a map."""
        return read_codes(self._index, "scan_id")

    def _lean(self, blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Latents that lean on their siblings; these may stand in the next block."""
        told = read_blocks(self._index, [*_MOMENT, _NOISE])
        return _in_blocks(
            leaning(latents, of_maps, self._parity) for of_maps, latents in _whole_scans(zip(told, blocks, strict=True))
        )


def leaning(latents: NDArray[np.float32], told: pd.DataFrame, parity: float) -> NDArray[np.float32]:
    """Latents (n, d) that lean on their siblings, by their rows of the index of maps."""
    return siblings.lean(latents, _moments(told), told[_NOISE].to_numpy(), parity)


def _moments(told: pd.DataFrame) -> NDArray[np.int64]:
    """Number of the moment of each map."""
    return np.asarray(told.groupby(_MOMENT, sort=False).ngroup(), dtype=np.int64)


def _whole_scans(
    blocks: Iterable[tuple[pd.DataFrame, NDArray[np.float32]]],
) -> Iterator[tuple[pd.DataFrame, NDArray[np.float32]]]:
    """Blocks of maps, of which none ends within a scan."""
    held: list[tuple[pd.DataFrame, NDArray[np.float32]]] = []
    for block in blocks:
        tables, latents = zip(*held, block, strict=True)
        table, stacked = pd.concat(tables, ignore_index=True), np.concatenate(latents)
        last = int((table["scan_id"] != table["scan_id"].iloc[-1]).sum()) if len(table) else 0
        held = [(table.iloc[last:], stacked[last:])]
        yield table.iloc[:last], stacked[:last]
    yield from held


def _in_blocks(parts: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """The same rows in blocks of `ROWS` each but the last."""
    left: list[NDArray[np.float32]] = []
    for part in parts:
        whole = np.concatenate([*left, part])
        full = len(whole) // tables.ROWS * tables.ROWS
        yield from np.split(whole[:full], range(tables.ROWS, full, tables.ROWS)) if full else ()
        left = [whole[full:]]
    yield from (part for part in left if len(part) or not full)


def _joined(index: pd.DataFrame, embedding: pd.DataFrame) -> pd.DataFrame:
    """Maps with all that is told of them but their latents."""
    return pd.concat([index, embedding.drop(columns=["latent", *index.columns], errors="ignore")], axis=1)


def _stacked(table: pd.DataFrame) -> NDArray[Any]:
    latents = table["latent"].to_list()
    return np.stack(latents) if latents else np.zeros((0, 1), np.float32)
