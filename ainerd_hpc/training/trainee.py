"""What is trained: the network with its first weights, its learning rate, its optimiser steps and its validation."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ainerd_hpc.archive.standing import Standing, write_standing
from ainerd_hpc.errors import AinerdError
from ainerd_hpc.models.embedding import embed
from ainerd_hpc.models.network import MAPS_PER_PASS
from ainerd_hpc.models.registry import network
from ainerd_hpc.models.weights import initial_model
from ainerd_hpc.training.data import Maps, MapSource, Steps, ToTrain, ToValidate, training_steps, validation_scans
from ainerd_hpc.training.interruption import Interruption, Wish
from ainerd_hpc.training.job import Job, Progress, Record

_WARM_UP = 0.2
"""Share of the steps in which the learning rate rises."""
_TELL_EVERY = 5.0
"""Seconds between words about how far it is."""


class Trainee(lightning.LightningModule):
    """The network with its optimiser, its validation and its checkpoints."""

    def __init__(self, job: Job, source: MapSource, progress: Progress | None, interruption: Interruption) -> None:
        super().__init__()
        self.automatic_optimization = False  # a batch goes through the network in parts that fit the cache
        self.job, self.train_config, self.progress, self.interruption = job, job.train, progress, interruption
        self.maps = Maps(source, network(job.variant), job.cache_bytes)
        held_out = validation_scans(source.scan_ids, job.train.validation_share, job.train.seed)
        self.train_indices = [i for i, scan_id in enumerate(source.scan_ids) if scan_id not in held_out]
        self.valid_indices = [i for i, scan_id in enumerate(source.scan_ids) if scan_id in held_out]
        self.valid_indices = self.valid_indices or self.train_indices
        sample = np.unique(np.linspace(0, len(self.train_indices) - 1, 64).astype(int))
        self.network = initial_model(job.variant, job.train.seed, (self.maps[self.train_indices[i]] for i in sample))
        self.best_weights: dict[str, Tensor] = {}
        self.history: list[Record] = []
        self.step = 0
        """Steps of this epoch that are done."""
        self.seconds = 0.0
        """Time that these took before this process began."""
        self.num_maps = 0
        """That went into the sums of this rank in this epoch, since this process began; true of the first rank."""
        self.rank_sums = torch.zeros(1, 2, dtype=torch.float64)
        """Sums of the error of each rank, as loaded, over maps of this epoch so far, in training and validation."""

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
            self.network,
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
        self.sum_before = self.sums[0].clone()
        self.teller = Teller(self.job.folder, len(self.steps))

    def training_step(self, batch: ToTrain | ToValidate, _: int) -> None:
        if isinstance(batch, ToValidate):
            self._validate(batch)
        else:
            self._optimise(batch)

    def _optimise(self, batch: ToTrain) -> None:
        """One optimiser step: the gradient is that of the mean error over the maps of all ranks."""
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer)
        assert isinstance(schedule, LRScheduler)
        optimizer.zero_grad()
        size = MAPS_PER_PASS if self.device.type == "cpu" else len(batch.maps)
        parts = list(zip(*(torch.split(rows, size) for rows in (batch.maps, *batch.columns)), strict=True))
        for number, (part, *columns) in enumerate(parts):
            error = self.network.loss(part.contiguous(memory_format=torch.channels_last), *columns).sum()
            with self._synchronised(number == len(parts) - 1):
                self.manual_backward(error * batch.weight * self.trainer.world_size)  # DDP divides by the world size
            self.sums[0] += error.detach() * (batch.weight > 0)
        self.num_maps += len(batch.maps)
        optimizer.step()
        schedule.step()

    def _validate(self, batch: ToValidate) -> None:
        """The error of maps as they are, in evaluation mode and float32."""
        with torch.autocast(self.device.type, enabled=False):
            errors = embed(self.network, *batch, max(1, len(batch.maps)))[1]
        self.sums[1] += float(errors.sum(dtype=np.float64))
        self.network.train()

    def _synchronised(self, is_last: bool) -> contextlib.AbstractContextManager[None]:
        strategy = self.trainer.strategy
        if is_last or not isinstance(strategy, ParallelStrategy):
            return contextlib.nullcontext()
        return strategy.block_backward_sync()

    def on_train_batch_end(self, *_: Any) -> None:
        self.step += 1
        if self.trainer.is_global_zero:
            self.teller.tell(self._standing)
        if self.step == self.steps.in_epoch:
            self._end_epoch()
        wish = self.interruption.agreed()
        if wish and self.step:
            self._save()
        self.trainer.should_stop = wish is Wish.STOP or self.job.is_over(self.history)

    def _standing(self, seconds_left: float, steps_per_second: float) -> Standing:
        train_l1 = float(self.sums[0] - self.sum_before) / max(1, self.num_maps)
        valid_l1 = self.history[-1]["valid_l1"] if self.history else None
        epoch, epochs = len(self.history) + 1, self.train_config.epochs
        steps = self.steps.in_epoch
        rate = steps_per_second * (len(self.train_indices) + len(self.valid_indices)) / steps
        return Standing(epoch, epochs, self.step, steps, train_l1, valid_l1, seconds_left, rate)

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
        self.sum_before.zero_()
        self.num_maps = 0
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


class Teller:
    """Tells how far a training is: after the first step, then every few seconds.

    Parameters
    ----------
    folder : Path
    num_steps : int
        Steps that are left when it begins.
    """

    def __init__(self, folder: Path, num_steps: int) -> None:
        self._folder, self._left = folder, num_steps
        self._began = self._told = time.monotonic()
        self._done = 0

    def tell(self, standing: Callable[[float, float], Standing]) -> None:
        """Note that a step is done; where it is time, tell what `standing` gives, from the seconds left and steps/s."""
        self._done += 1
        now = time.monotonic()
        if self._done > 1 and now - self._told < _TELL_EVERY:
            return
        self._told = now
        rate = self._done / max(now - self._began, 1e-9)
        write_standing(self._folder, standing((self._left - self._done) / rate, rate))


def learning_rate_factor(step: int, steps: int) -> float:
    """Share of the full learning rate at a step (from 0) of `steps`: linear rise, then a cosine down to 0."""
    rise = max(1.0, _WARM_UP * steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise)))
