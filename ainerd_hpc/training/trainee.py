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
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ainerd_hpc.errors import AinerdError
from ainerd_hpc.models.ainerd2024 import Ainerd2024, build, embed
from ainerd_hpc.models.memory import MAPS_PER_PASS
from ainerd_hpc.training.data import Maps, MapSource, Steps, training_steps, validation_scans
from ainerd_hpc.training.interruption import Interruption, Wish
from ainerd_hpc.training.job import Job, Progress, Record

_WARM_UP = 0.2
"""Share of the steps in which the learning rate rises."""
_DARKEST_START = 0.05
"""Least initial bias of the head, in units of the scaled map."""


class Trainee(lightning.LightningModule):
    """The network with its optimiser, its validation and its checkpoints."""

    def __init__(self, job: Job, source: MapSource, progress: Progress | None, interruption: Interruption) -> None:
        super().__init__()
        self.automatic_optimization = False  # a batch goes through the network in parts that fit the cache
        self.job, self.train_config, self.progress, self.interruption = job, job.train, progress, interruption
        self.maps = Maps(source, job.cache_bytes)
        held_out = validation_scans(source.scan_ids, job.train.validation_share, job.train.seed)
        self.train_indices = [i for i, scan_id in enumerate(source.scan_ids) if scan_id not in held_out]
        self.valid_indices = [i for i, scan_id in enumerate(source.scan_ids) if scan_id in held_out]
        self.valid_indices = self.valid_indices or self.train_indices
        self.network = _initial_network(job, self.maps, self.train_indices)
        self.best_weights: dict[str, Tensor] = {}
        self.history: list[Record] = []
        self.step = 0
        """Steps of this epoch that are done."""
        self.seconds = 0.0
        """Time that these took before this process began."""
        self.rank_sums = torch.zeros(1, 2, dtype=torch.float64)
        """Of each rank, as loaded: sums of L1 over the maps of this epoch so far, in training and in validation."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.train_config.learning_rate)
        steps = training_steps(len(self.train_indices), self.train_config) * self.train_config.epochs
        schedule = LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        """Another number of ranks than before takes over the training part of an epoch, and validates anew."""
        world = self.trainer.world_size
        if len(self.rank_sums) != world:
            self.step = min(self.step, training_steps(len(self.train_indices), self.train_config))
            total = self.rank_sums[:, 0].sum()
            self.rank_sums = torch.zeros(world, 2, dtype=torch.float64)
            self.rank_sums[0, 0] = total

    def train_dataloader(self) -> Steps:
        self.steps = Steps(
            self.maps,
            self.train_indices,
            self.valid_indices,
            self.train_config,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
            epoch=len(self.history),
            step=self.step,
        )
        return self.steps

    def on_train_start(self) -> None:
        self.interruption.listen()  # Lightning has taken SIGTERM
        if self.trainer.world_size > 1:
            self.interruption.join_ranks()
        self.started = time.monotonic() - self.seconds
        self.sums = self.rank_sums[self.trainer.global_rank].to(self.device)

    def training_step(self, batch: tuple[Tensor, Tensor] | NDArray[np.float32], _: int) -> None:
        if isinstance(batch, np.ndarray):
            self._validate(batch)
        else:
            self._optimise(*batch)

    def _optimise(self, maps: Tensor, weight: Tensor) -> None:
        """One optimiser step: the gradient is that of the mean L1 over the maps of all ranks."""
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer)
        assert isinstance(schedule, LRScheduler)
        optimizer.zero_grad()
        parts = torch.split(maps, MAPS_PER_PASS if self.device.type == "cpu" else len(maps))
        for number, part in enumerate(parts):
            part = part.contiguous(memory_format=torch.channels_last)
            error = (self.network(part).float() - part).abs().mean(dim=(1, 2, 3)).sum()
            with self._synchronised(number == len(parts) - 1):
                self.manual_backward(error * weight * self.trainer.world_size)  # DDP divides by the world size
            self.sums[0] += error.detach() * (weight > 0)
        optimizer.step()
        schedule.step()

    def _validate(self, maps: NDArray[np.float32]) -> None:
        """L1 of maps as they are, in evaluation mode and float32."""
        with torch.autocast(self.device.type, enabled=False):
            errors = embed(self.network, maps, max(1, len(maps)))[1]
        self.sums[1] += float(errors.sum(dtype=np.float64))
        self.network.train()

    def _synchronised(self, is_last: bool) -> contextlib.AbstractContextManager[None]:
        strategy = self.trainer.strategy
        if is_last or not isinstance(strategy, ParallelStrategy):
            return contextlib.nullcontext()
        return strategy.block_backward_sync()

    def on_train_batch_end(self, *_: Any) -> None:
        self.step += 1
        if self.step == self.steps.in_epoch:
            self._end_epoch()
        wish = self.interruption.agreed()
        if wish and self.step:
            self._save()
        self.trainer.should_stop = wish is Wish.STOP

    def _end_epoch(self) -> None:
        train_sum, valid_sum = self.trainer.strategy.reduce(self.sums.clone(), reduce_op="sum").tolist()
        train_l1, valid_l1 = train_sum / len(self.train_indices), valid_sum / len(self.valid_indices)
        epoch, epochs = len(self.history) + 1, self.train_config.epochs
        if not math.isfinite(train_l1 + valid_l1):
            raise AinerdError(f"train: epoch {epoch}: the loss is not finite; lower train.learning_rate")
        if not self.history or valid_l1 < min(record["valid_l1"] for record in self.history):
            weights = self.network.state_dict()
            self.best_weights = {key: value.detach().cpu().contiguous().clone() for key, value in weights.items()}
        rate, seconds = float(self.trainer.optimizers[0].param_groups[0]["lr"]), time.monotonic() - self.started
        self.history.append(
            {"epoch": epoch, "train_l1": train_l1, "valid_l1": valid_l1, "learning_rate": rate, "seconds": seconds}
        )
        self.step, self.started = 0, time.monotonic()
        self.sums.zero_()
        self._save()
        if self.progress and self.trainer.is_global_zero:
            self.progress(epoch, epochs, train_l1, valid_l1)

    def _save(self) -> None:
        self.rank_sums = self.trainer.strategy.all_gather(self.sums).reshape(-1, 2)
        path = self.job.checkpoint_path
        partial = path.with_suffix(".part")
        self.trainer.save_checkpoint(partial)
        if self.trainer.is_global_zero:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            partial.replace(path)
        self.interruption.saved()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Where the training stands is kept here: to Lightning it is one epoch, of the steps that are left."""
        del checkpoint["loops"]
        checkpoint["ainerd_digest"] = self.job.digest
        checkpoint["best_weights"] = self.best_weights
        checkpoint["history"] = self.history
        checkpoint["step"], checkpoint["seconds"] = self.step, time.monotonic() - self.started
        checkpoint["rank_sums"] = self.rank_sums.cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.best_weights, self.history = checkpoint["best_weights"], checkpoint["history"]
        self.step, self.seconds = checkpoint["step"], checkpoint["seconds"]
        self.rank_sums = checkpoint["rank_sums"]


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
