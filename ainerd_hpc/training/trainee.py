"""What is trained: the network with its first weights, its learning rate, its optimiser steps and its validation."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ainerd_hpc.errors import AinerdError
from ainerd_hpc.model import Ainerd2024, build, embed
from ainerd_hpc.model_cost import MAPS_PER_PASS
from ainerd_hpc.training.data import Maps, MapSource, TrainBatches, validation_scans
from ainerd_hpc.training.job import Job, Progress, Record

_WARM_UP = 0.2
"""Share of the steps in which the learning rate rises."""
_DARKEST_START = 0.05
"""Least initial bias of the head, in units of the scaled map."""


class Trainee(lightning.LightningModule):
    """The network with its optimiser, its validation and its checkpoints."""

    def __init__(self, job: Job, source: MapSource, progress: Progress | None) -> None:
        super().__init__()
        self.automatic_optimization = False  # a batch goes through the network in parts that fit the cache
        self.job, self.train_config, self.progress = job, job.train, progress
        self.maps = Maps(source, job.cache_bytes)
        held_out = validation_scans(source.scan_ids, job.train.validation_share, job.train.seed)
        self.train_indices = [i for i, scan_id in enumerate(source.scan_ids) if scan_id not in held_out]
        self.valid_indices = [i for i, scan_id in enumerate(source.scan_ids) if scan_id in held_out]
        self.valid_indices = self.valid_indices or self.train_indices
        self.network = _initial_network(job, self.maps, self.train_indices)
        self.best_weights: dict[str, Tensor] = {}
        self.history: list[Record] = []

    def train_dataloader(self) -> TrainBatches:
        return TrainBatches(self.maps, self.train_indices, self.train_config, self)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.train_config.learning_rate)
        steps = len(self.train_dataloader()) * self.train_config.epochs
        schedule = LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        self.started = time.monotonic()
        self.train_sum = torch.zeros((), dtype=torch.float64, device=self.device)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """One optimiser step: the gradient is that of the mean L1 over the maps of all ranks."""
        (maps, weight), optimizer, schedule = batch, self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer)
        assert isinstance(schedule, LRScheduler)
        optimizer.zero_grad()
        parts = torch.split(maps, MAPS_PER_PASS if self.device.type == "cpu" else len(maps))
        for number, part in enumerate(parts):
            part = part.contiguous(memory_format=torch.channels_last)
            error = (self.network(part).float() - part).abs().mean(dim=(1, 2, 3)).sum()
            with self._synchronised(number == len(parts) - 1):
                self.manual_backward(error * weight * self.trainer.world_size)  # DDP divides by the world size
            self.train_sum += error.detach() * (weight > 0)
        optimizer.step()
        schedule.step()

    def _synchronised(self, is_last: bool) -> contextlib.AbstractContextManager[None]:
        strategy = self.trainer.strategy
        if is_last or not isinstance(strategy, ParallelStrategy):
            return contextlib.nullcontext()
        return strategy.block_backward_sync()

    def on_train_epoch_end(self) -> None:
        valid_l1 = self._validate()
        train_l1 = float(self.trainer.strategy.reduce(self.train_sum, reduce_op="sum")) / len(self.train_indices)
        epoch, epochs = self.current_epoch + 1, self.train_config.epochs
        if not math.isfinite(train_l1 + valid_l1):
            raise AinerdError(f"train: epoch {epoch}: the loss is not finite; lower train.learning_rate")
        if not self.history or valid_l1 < min(record["valid_l1"] for record in self.history):
            weights = self.network.state_dict()
            self.best_weights = {key: value.detach().cpu().contiguous().clone() for key, value in weights.items()}
        rate, seconds = float(self.trainer.optimizers[0].param_groups[0]["lr"]), time.monotonic() - self.started
        self.history.append(
            {"epoch": epoch, "train_l1": train_l1, "valid_l1": valid_l1, "learning_rate": rate, "seconds": seconds}
        )
        self._save()
        if self.progress and self.trainer.is_global_zero:
            self.progress(epoch, epochs, train_l1, valid_l1)

    def _validate(self) -> float:
        """Mean L1 over the validation maps of all ranks: as they are, in evaluation mode and float32."""
        mine = self.valid_indices[self.trainer.global_rank :: self.trainer.world_size]
        step = max(1, self.train_config.batch_size)
        total = 0.0
        for start in range(0, len(mine), step):
            maps = np.stack([self.maps[index] for index in mine[start : start + step]])
            total += float(embed(self.network, maps, step)[1].sum(dtype=np.float64))
        self.network.train()
        summed = torch.tensor(total, dtype=torch.float64, device=self.device)
        return float(self.trainer.strategy.reduce(summed, reduce_op="sum")) / len(self.valid_indices)

    def _save(self) -> None:
        path = self.job.checkpoint_path
        partial = path.with_suffix(".part")
        self.trainer.save_checkpoint(partial)
        if self.trainer.is_global_zero:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            partial.replace(path)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["ainerd_digest"] = self.job.digest
        checkpoint["best_weights"] = self.best_weights
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.best_weights, self.history = checkpoint["best_weights"], checkpoint["history"]


def learning_rate_factor(step: int, steps: int) -> float:
    """Share of the full learning rate at a step (from 0) of `steps`: linear rise, then a cosine down to 0."""
    rise = max(1.0, _WARM_UP * steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise)))


def _initial_network(job: Job, maps: Maps, indices: Sequence[int]) -> Ainerd2024:
    """He's initial weights (He et al., ICCV 2015, eq. 10), and a head that starts at the mean of the maps.

    PyTorch's own initial weights let the signal fade over the 15 layers, and a ReLU head that starts below zero
    everywhere has no gradient: it stays black for ever.
    """
    sample = np.unique(np.linspace(0, len(indices) - 1, 64).astype(int))
    level = float(np.mean([maps[indices[i]].mean(dtype=np.float64) for i in sample]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.train.seed)
        network = build(job.variant)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.get_parameter("bias"))
            elif isinstance(module, nn.Dropout):
                module.p = 0.0
        head = network.decoder1.get_submodule("21")
        nn.init.normal_(head.get_parameter("weight"), std=0.1 * math.sqrt(1 / 288))
        nn.init.constant_(head.get_parameter("bias"), max(level, _DARKEST_START))
    return network
