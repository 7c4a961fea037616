"""The maps to train on: where they come from, which are held out, in which order, shifted how far."""

from __future__ import annotations

import hashlib
import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ainerd_hpc.config import TrainConfig
from ainerd_hpc.errors import ArchiveError
from ainerd_hpc.models.model import Model
from ainerd_hpc.models.network import Network
from ainerd_hpc.types import READ_AHEAD


class MapSource(Protocol):
    """The maps to train on."""

    scan_ids: Sequence[str]
    """The scan of each map."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """One map: what the network reads of it, (256, 256) or cells."""

    def column(self, name: str) -> NDArray[np.float32]:
        """A column of the map index, (n,), for networks that take it beside the maps."""


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


def epoch_order(seed: int, epoch: int, scan: NDArray[np.int64], together: int) -> NDArray[np.int64]:
    """The order in which an epoch (from 0) takes the maps, a permutation (n,).

    The scans come in an order by chance, each read once; the maps of neighbouring scans, about `together` of them, are
    shuffled among each other. Where there are no more, all orders are alike.

    Parameters
    ----------
    seed, epoch : int
    scan : (n,) int
        The scan of each map, numbered from 0.
    together : int
    """
    random = generator(seed, epoch, 0)
    sizes = np.bincount(scan)
    places = random.permutation(len(sizes))
    before = np.cumsum(sizes[places]) - sizes[places]
    block = np.empty(len(sizes), np.int64)
    block[places] = before // together
    return np.lexsort((random.random(len(scan)), block[scan]))


def generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    """Random numbers of an epoch (from 0), drawn by a counter: stream 0 is for its order, 1 + i to augment map i."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, stream, epoch]))


class Maps:
    """Reads, checks and, if they all fit, keeps the maps; and the columns that the network takes beside them."""

    def __init__(self, source: MapSource, network: Network, cache_bytes: int) -> None:
        self.source, self._network = source, network
        self._columns = [np.asarray(source.column(name), np.float32) for name in network.columns]
        self._keep = len(source) * network.row_bytes <= cache_bytes
        self._kept: dict[int, NDArray[np.float32]] = {}

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        if index in self._kept:
            return self._kept[index]
        image = np.asarray(self.source[index], np.float32)
        channels, *area = self._network.shape
        if image.shape not in ((channels, *area), tuple(area)) or not np.isfinite(image).all():
            where = f"map {index} of scan {self.source.scan_ids[index]}"
            found = f"{int(np.isfinite(image).sum())} in {image.shape}"
            size = " x ".join(map(str, area if channels == 1 else (channels, *area)))
            raise ArchiveError(f"{where}: expected {size} finite values, found {found}; make the maps again")
        if self._keep:
            self._kept[index] = image
        return image

    def columns(self, indices: Sequence[int]) -> list[NDArray[np.float32]]:
        """Each column at these maps, (n,)."""
        return [column[indices] for column in self._columns]


class ToTrain(NamedTuple):
    """An optimiser step: augmented maps (n, channel, y, x), columns (n,) each, weight of each map in the gradient."""

    maps: Tensor
    columns: list[Tensor]
    weight: Tensor


class ToValidate(NamedTuple):
    """A step of validation: maps (n, ...), columns (n,) each."""

    maps: NDArray[np.float32]
    columns: list[NDArray[np.float32]]


class Steps:
    """What is left of a training, as one rank sees it: of each epoch the optimiser steps, then those of its validation.

    Parameters
    ----------
    maps : Maps
    model : Model
        Whose augmentation it is.
    train_indices, valid_indices : sequence of int
        Of the maps to train on, and to validate on.
    train : TrainConfig
    rank, world : int
        Number of this rank, and of all ranks. A rank takes every `world`-th map of each global batch.
    epoch, step : int
        Where to begin: how many epochs are done, and how many steps of the next one.
    """

    def __init__(
        self,
        maps: Maps,
        model: Model,
        train_indices: Sequence[int],
        valid_indices: Sequence[int],
        train: TrainConfig,
        rank: int,
        world: int,
        epoch: int,
        step: int,
    ) -> None:
        self._maps, self._augment, self._config, self._rank, self._world = maps, model.augment, train, rank, world
        self._shape = model.network.shape
        ids = [maps.source.scan_ids[index] for index in train_indices]
        self._scan = np.unique(ids, return_inverse=True)[1]
        self._together = max(1, READ_AHEAD // model.network.row_bytes // 2)
        self._train_indices, self._valid_indices = train_indices, valid_indices[rank::world]
        self._epoch, self._step = epoch, step
        self.in_training = training_steps(len(train_indices), train)
        longest = math.ceil(len(valid_indices) / world)  # every rank has to take part in every step
        self.in_epoch = self.in_training + math.ceil(longest / train.batch_size)

    def __len__(self) -> int:
        return (self._config.epochs - self._epoch) * self.in_epoch - self._step

    def __iter__(self) -> Iterator[ToTrain | ToValidate]:
        """Yields what is left, step by step."""
        first = self._step
        for epoch in range(self._epoch, self._config.epochs):
            order = epoch_order(self._config.seed, epoch, self._scan, self._together)
            for step in range(first, self.in_epoch):
                if step < self.in_training:
                    yield self._to_train(epoch, order, step)
                else:
                    yield self._to_validate(step - self.in_training)
            first = 0

    def _to_train(self, epoch: int, order: NDArray[np.int64], step: int) -> ToTrain:
        size = self._config.batch_size
        batch = order[step * size : (step + 1) * size]
        mine, weight = batch[self._rank :: self._world], 1.0 / len(batch)
        if not len(mine):
            mine, weight = batch[:1], 0.0
        indices = [self._train_indices[i] for i in mine]
        maps = torch.stack([self._augmented(epoch, index) for index in indices])
        columns = [torch.from_numpy(column) for column in self._maps.columns(indices)]
        return ToTrain(maps, columns, torch.tensor(weight))

    def _augmented(self, epoch: int, index: int) -> Tensor:
        chance = generator(self._config.seed, epoch, 1 + index)
        return torch.from_numpy(self._augment(self._maps[index], chance)).reshape(self._shape)

    def _to_validate(self, step: int) -> ToValidate:
        size = self._config.batch_size
        mine = self._valid_indices[step * size : (step + 1) * size]
        maps = np.array([self._maps[index] for index in mine], np.float32).reshape(-1, *self._shape)
        return ToValidate(maps, self._maps.columns(mine))


def training_steps(num_maps: int, train: TrainConfig) -> int:
    """Optimiser steps in an epoch."""
    return math.ceil(num_maps / train.batch_size)
