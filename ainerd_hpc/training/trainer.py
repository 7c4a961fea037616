"""A training in this process, with Lightning's trainer."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import warnings
from collections.abc import Iterator

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy

from ainerd_hpc.errors import AinerdError
from ainerd_hpc.training.data import MapSource
from ainerd_hpc.training.interruption import Interruption
from ainerd_hpc.training.job import Job, Progress
from ainerd_hpc.training.trainee import Trainee


def train_here(
    job: Job, source: MapSource, progress: Progress | None, interruption: Interruption, in_ranks: bool = False
) -> None:
    """Train in this process, as the only rank or as one of several, to the end or until it is interrupted."""
    _keep_freed_memory()
    torch.set_num_threads(job.threads)
    module = Trainee(job, source, progress, interruption)
    checkpoint = job.checkpoint_path if job.checkpoint() else None
    with _quiet():
        trainer = _trainer(job, in_ranks)
        if trainer.world_size != job.ranks:
            raise AinerdError(f"train: expected {job.ranks} ranks, found {trainer.world_size}; run again")
        trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    if in_ranks:
        trainer.strategy.barrier()
        torch.distributed.destroy_process_group()


def _keep_freed_memory() -> None:
    """Have glibc keep freed blocks for the next step: mapping and clearing large ones anew is 1.5 times slower."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            mallopt(option, 2**30)


def _trainer(job: Job, in_ranks: bool) -> lightning.Trainer:
    on_gpu = torch.cuda.is_available() and torch.cuda.device_count() >= job.train.devices
    backend = "nccl" if on_gpu else "gloo"
    return lightning.Trainer(
        accelerator="cuda" if on_gpu else "cpu",
        devices=job.train.devices,
        num_nodes=job.train.nodes,
        strategy=DDPStrategy(process_group_backend=backend) if in_ranks else "auto",
        plugins=[TorchElasticEnvironment() if in_ranks else LightningEnvironment()],
        precision=job.train.precision,
        max_epochs=1,
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
    """Silence Lightning's tips and remarks; errors still come through."""
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
