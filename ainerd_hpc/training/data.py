"""The maps to train on: where they come from, which are held out, in which order, shifted how far."""

from __future__ import annotations

import hashlib
import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ainerd_hpc.config import TrainConfig
from ainerd_hpc.errors import ArchiveError
from ainerd_hpc.model import MAP_SIZE


class MapSource(Protocol):
    """The maps to train on."""

    scan_ids: Sequence[str]
    """The scan of each map."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """One scaled map, (256, 256)."""


@dataclass(frozen=True, slots=True)
class SourceRecipe:
    """How another process builds the same MapSource."""

    factory: str
    """ "module:function"."""
    arguments: Mapping[str, Any]
    """Its keyword arguments: JSON values."""

    def build(self) -> MapSource:
        """The source."""
        module, _, function = self.factory.partition(":")
        source: MapSource = getattr(importlib.import_module(module), function)(**self.arguments)
        return source


def validation_scans(scan_ids: Sequence[str], share: float, seed: int) -> frozenset[str]:
    """The scans that are never trained on.

    Whether a scan is one of them depends on (seed, scan_id) alone, with one exception: where that leaves either side
    empty, the scan nearest to the boundary changes sides. One scan alone is trained on.

    Parameters
    ----------
    scan_ids : sequence of str
        In any order, any number of times.
    share : float
        Wanted share of the scans.
    seed : int
    """
    ranks = {scan_id: _uniform(seed, scan_id) for scan_id in scan_ids}
    chosen = {scan_id for scan_id, rank in ranks.items() if rank < share}
    if len(ranks) < 2:
        return frozenset()
    if not chosen:
        chosen = {min(ranks, key=ranks.__getitem__)}
    elif len(chosen) == len(ranks):
        chosen.remove(max(ranks, key=ranks.__getitem__))
    return frozenset(chosen)


def _uniform(seed: int, scan_id: str) -> float:
    """A number in [0, 1) from a hash; the same everywhere."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{scan_id}".encode()).digest()[:6], "big") / 2**48


def epoch_order(seed: int, epoch: int, num_maps: int) -> NDArray[np.int64]:
    """The order in which an epoch (from 0) takes the maps: a permutation (num_maps,)."""
    return _generator(seed, epoch, 0).permutation(num_maps)


def augment(image: NDArray[np.float32], seed: int, epoch: int, index: int) -> NDArray[np.float32]:
    """The map (256, 256) slid along its diagonal by a random shift, periodic; drawn from (seed, epoch, index) alone."""
    shift = int(_generator(seed, epoch, 1 + index).integers(len(image)))
    return np.roll(image, (shift, shift), axis=(0, 1))


def _generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, stream, epoch]))


class Maps:
    """Reads, checks and, if they all fit, keeps the maps."""

    def __init__(self, source: MapSource, cache_bytes: int) -> None:
        self.source = source
        self._keep = len(source) * MAP_SIZE**2 * 4 <= cache_bytes
        self._kept: dict[int, NDArray[np.float32]] = {}

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        if index in self._kept:
            return self._kept[index]
        image = np.asarray(self.source[index], np.float32)
        if image.shape != (MAP_SIZE, MAP_SIZE) or not np.isfinite(image).all():
            where = f"map {index} of scan {self.source.scan_ids[index]}"
            found = f"{int(np.isfinite(image).sum())} in {image.shape}"
            size = f"{MAP_SIZE} x {MAP_SIZE}"
            raise ArchiveError(f"{where}: expected {size} finite values, found {found}; make the maps again")
        if self._keep:
            self._kept[index] = image
        return image


class TrainBatches:
    """The optimiser steps of an epoch, as one rank sees them: every `world`-th map of the global batch."""

    def __init__(
        self, maps: Maps, indices: Sequence[int], train: TrainConfig, module: lightning.LightningModule
    ) -> None:
        self.maps, self.indices, self.train, self.module = maps, indices, train, module

    def __len__(self) -> int:
        return math.ceil(len(self.indices) / self.train.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (maps (n, 1, 256, 256), weight of each map in the gradient)."""
        epoch, trainer = self.module.current_epoch, self.module.trainer
        order = epoch_order(self.train.seed, epoch, len(self.indices))
        for start in range(0, len(order), self.train.batch_size):
            batch = order[start : start + self.train.batch_size]
            mine, weight = batch[trainer.global_rank :: trainer.world_size], 1.0 / len(batch)
            if not len(mine):  # every rank has to take part in every step
                mine, weight = batch[:1], 0.0
            yield torch.stack([self._map(epoch, self.indices[i]) for i in mine]), torch.tensor(weight)

    def _map(self, epoch: int, index: int) -> Tensor:
        return torch.from_numpy(augment(self.maps[index], self.train.seed, epoch, index))[None]
