"""Training of the autoencoder, with Lightning: same seed, maps and number of threads -> same weights, bit for bit.

Whole scans are kept for validation, before the maps are augmented. All random numbers are drawn by a counter from
(seed, epoch, map), none from a running state: they depend neither on the number of ranks nor on a restart in between.
The loss (L1) and Adam are the published ones. Dropout is off: it costs half of the time and leaves a bias between
training and evaluation (`README.md`, Decisions).
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import lightning
import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy, ParallelStrategy
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ainerd_hpc import config
from ainerd_hpc.config import TrainConfig
from ainerd_hpc.errors import AinerdError, ArchiveError
from ainerd_hpc.model import MAP_SIZE, Ainerd2024, build, embed
from ainerd_hpc.model_cost import MAPS_PER_PASS

Record = dict[str, float]
"""Of one epoch: epoch (from 1), train_l1, valid_l1, learning_rate, seconds."""
Progress = Callable[[int, int, float, float], None]
"""Called after an epoch with (epoch from 1, epochs, train_l1, valid_l1)."""

_WARM_UP = 0.2
"""Share of the steps in which the learning rate rises."""
_DARKEST_START = 0.05
"""Least initial bias of the head, in units of the scaled map."""


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


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a training gives."""

    weights: dict[str, Tensor]
    """State dict of the epoch with the least valid_l1."""
    history: list[Record]
    validation_scans: tuple[str, ...]
    validated_on_training: bool
    """True if the maps come from one scan only, so that valid_l1 says nothing about unseen scans."""


def fit(
    source: MapSource,
    variant: str,
    train: TrainConfig,
    folder: Path,
    digest: str,
    *,
    progress: Progress | None = None,
    cache_bytes: int = 0,
    recipe: SourceRecipe | None = None,
) -> FitResult:
    """Train a network, or go on with a training that was interrupted.

    Parameters
    ----------
    source : MapSource
        Scaled maps.
    variant : str
        Name of the network.
    train : TrainConfig
        With `devices` > 1, that many ranks train in processes of their own, which end with this one.
    folder : Path
        For `last.ckpt`, written after each epoch. An existing one is continued if it belongs to the same training.
    digest : str
        Of the maps. With the variant and `train` it decides whether `last.ckpt` belongs to this training.
    progress : callable, optional
        Called after each epoch.
    cache_bytes : int
        Memory in which the maps may be kept, in each rank, if all of them fit.
    recipe : SourceRecipe, optional
        Needed for `devices` > 1.

    Returns
    -------
    FitResult

    Raises
    ------
    AinerdError
        If there are no maps, a map is not finite, the training diverges or a rank fails.
    """
    if not len(source):
        raise AinerdError("train: expected at least one map, found none; check the maps stage")
    folder.mkdir(parents=True, exist_ok=True)
    job = _Job(variant, train, folder, config.digest(digest, variant, train), cache_bytes)
    if not job.is_complete():
        if train.devices == 1:
            _train(job, source, progress)
        else:
            _train_in_ranks(job, recipe, progress)
    return job.result(source.scan_ids)


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


@dataclass(frozen=True, slots=True)
class _Job:
    """One training, and its checkpoint."""

    variant: str
    train: TrainConfig
    folder: Path
    digest: str
    cache_bytes: int

    @property
    def checkpoint_path(self) -> Path:
        return self.folder / "last.ckpt"

    def checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint of this training, if there is one; nothing but tensors and plain values is unpickled."""
        try:
            found = torch.load(self.checkpoint_path, map_location="cpu", weights_only=True)
        except Exception:  # the unpickler meets damage with errors of many kinds; none of them is a checkpoint
            return None
        is_ours = isinstance(found, dict) and found.get("ainerd_digest") == self.digest
        return found if is_ours else None

    def is_complete(self) -> bool:
        checkpoint = self.checkpoint()
        return checkpoint is not None and len(checkpoint["history"]) == self.train.epochs

    def result(self, scan_ids: Sequence[str]) -> FitResult:
        checkpoint = self.checkpoint()
        if checkpoint is None:
            raise ArchiveError(f"{self.checkpoint_path}: expected the checkpoint just written, found none; run again")
        held_out = sorted(validation_scans(scan_ids, self.train.validation_share, self.train.seed))
        return FitResult(checkpoint["best_weights"], checkpoint["history"], tuple(held_out), not held_out)

    def write(self, path: Path, recipe: SourceRecipe) -> None:
        """For the ranks, as JSON."""
        plain = {
            "variant": self.variant,
            "train": self.train.model_dump(mode="json"),
            "folder": str(self.folder),
            "digest": self.digest,
            "cache_bytes": self.cache_bytes,
            "factory": recipe.factory,
            "arguments": dict(recipe.arguments),
        }
        path.write_text(json.dumps(plain))

    @classmethod
    def read(cls, path: Path) -> tuple[_Job, SourceRecipe]:
        plain = json.loads(path.read_text())
        recipe = SourceRecipe(plain.pop("factory"), plain.pop("arguments"))
        train = TrainConfig.model_validate(plain.pop("train"))
        return cls(train=train, folder=Path(plain.pop("folder")), **plain), recipe


class _Maps:
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
            raise ArchiveError(
                f"{where}: expected {MAP_SIZE} x {MAP_SIZE} finite values, found {image.shape}; make the maps again"
            )
        if self._keep:
            self._kept[index] = image
        return image


class _TrainBatches:
    """The optimiser steps of an epoch, as one rank sees them: every `world`-th map of the global batch."""

    def __init__(self, maps: _Maps, indices: Sequence[int], train: TrainConfig, module: _Trainee) -> None:
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


class _Trainee(lightning.LightningModule):
    """The network with its optimiser, its validation and its checkpoints."""

    def __init__(self, job: _Job, source: MapSource, progress: Progress | None) -> None:
        super().__init__()
        self.automatic_optimization = False  # a batch goes through the network in parts that fit the cache
        self.job, self.train_config, self.progress = job, job.train, progress
        self.maps = _Maps(source, job.cache_bytes)
        held_out = validation_scans(source.scan_ids, job.train.validation_share, job.train.seed)
        self.train_indices = [i for i, scan_id in enumerate(source.scan_ids) if scan_id not in held_out]
        self.valid_indices = [i for i, scan_id in enumerate(source.scan_ids) if scan_id in held_out]
        self.valid_indices = self.valid_indices or self.train_indices
        self.network = _initial_network(job, self.maps, self.train_indices)
        self.best_weights: dict[str, Tensor] = {}
        self.history: list[Record] = []

    def train_dataloader(self) -> _TrainBatches:
        return _TrainBatches(self.maps, self.train_indices, self.train_config, self)

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


def _initial_network(job: _Job, maps: _Maps, indices: Sequence[int]) -> Ainerd2024:
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


def _train(job: _Job, source: MapSource, progress: Progress | None, in_ranks: bool = False) -> None:
    """Train in this process, as the only rank or as one of several."""
    module = _Trainee(job, source, progress)
    checkpoint = job.checkpoint_path if job.checkpoint() else None
    with _quiet():
        trainer = _trainer(job, in_ranks)
        if trainer.world_size != job.train.devices:
            raise AinerdError(f"train: expected {job.train.devices} ranks, found {trainer.world_size}; run again")
        trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    if in_ranks:
        trainer.strategy.barrier()
        torch.distributed.destroy_process_group()


def _trainer(job: _Job, in_ranks: bool) -> lightning.Trainer:
    on_gpu = torch.cuda.is_available() and torch.cuda.device_count() >= job.train.devices
    backend = "nccl" if on_gpu else "gloo"
    return lightning.Trainer(
        accelerator="cuda" if on_gpu else "cpu",
        devices=job.train.devices,
        strategy=DDPStrategy(process_group_backend=backend) if in_ranks else "auto",
        plugins=[TorchElasticEnvironment() if in_ranks else LightningEnvironment()],
        precision=job.train.precision,
        max_epochs=job.train.epochs,
        deterministic="warn" if on_gpu else None,  # a CPU is, with the operations of these networks
        default_root_dir=job.folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's tips and remarks; errors still come through."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _train_in_ranks(job: _Job, recipe: SourceRecipe | None, progress: Progress | None) -> None:
    """Start the ranks and wait for them. Success is a complete checkpoint, whatever the exit status."""
    if recipe is None:
        raise AinerdError(f"train: {job.train.devices} ranks need a recipe for the maps; set train.devices to 1")
    job_path, log_path = job.folder / "job.json", job.folder / "ranks.log"
    job.write(job_path, recipe)
    command = [sys.executable, "-m", "ainerd_hpc.training", str(job_path), str(os.getpid())]
    threads = str(max(1, torch.get_num_threads() // job.train.devices))
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    with (
        log_path.open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as launcher,
    ):
        try:
            _follow(launcher, progress)
        finally:
            launcher.kill()
    if not job.is_complete():
        raise AinerdError(f"train: the ranks ended before the training did: {_last_error(log_path)}; see {log_path}")


def _follow(launcher: subprocess.Popen[str], progress: Progress | None) -> None:
    """Hand on the figures that rank 0 prints, until the ranks have ended."""
    for line in launcher.stdout or ():
        if progress and line.startswith('["epoch"'):
            progress(*json.loads(line)[1:])
    launcher.wait()


def _last_error(log_path: Path) -> str:
    lines = log_path.read_text(errors="replace").splitlines()
    errors = [line for line in lines if "Error: " in line and "ChildFailedError" not in line]
    return (errors or lines or ["no message"])[-1].strip()


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends (Linux)."""
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def _print_progress(epoch: int, epochs: int, train_l1: float, valid_l1: float) -> None:
    print(json.dumps(["epoch", epoch, epochs, train_l1, valid_l1]), flush=True)


def _launch(job_path: Path, parent: int) -> None:
    """Become torchrun, which starts the ranks."""
    from torch.distributed.run import main as torchrun

    _end_with(parent)
    job, _ = _Job.read(job_path)
    ranks = ["--standalone", "--nproc-per-node", str(job.train.devices)]
    torchrun([*ranks, "-m", "ainerd_hpc.training", str(job_path), str(os.getpid()), "rank"])


def _rank(job_path: Path, parent: int) -> None:
    """Train as one of the ranks."""
    _end_with(parent)
    job, recipe = _Job.read(job_path)
    _train(job, recipe.build(), _print_progress, in_ranks=True)


if __name__ == "__main__":
    (_rank if sys.argv[3:] == ["rank"] else _launch)(Path(sys.argv[1]), int(sys.argv[2]))
