"""Training of the autoencoder, with Lightning: same seed, maps and number of threads -> same weights, bit for bit.

Whole scans are kept for validation, before the maps are augmented. All random numbers are drawn by a counter from
(seed, epoch, map), none from a running state: they depend neither on the number of ranks nor on a restart in between.
The loss (L1) and Adam are the published ones. Dropout is off: it costs half of the time and leaves a bias between
training and evaluation (`README.md`, Decisions).

The parts, in the order of their imports:

- `data`: which maps there are, the split by scans, the order of an epoch, the shifts, the batches
- `job`: what is to be trained, its checkpoint, and what it gives
- `trainee`: the network with its first weights, learning rate, optimiser steps and validation
- `trainer`: a training in this process
- `ranks`: a training in several processes, which `python -m ainerd_hpc.training` starts
"""

from __future__ import annotations

from pathlib import Path

from ainerd_hpc import config
from ainerd_hpc.config import TrainConfig
from ainerd_hpc.errors import AinerdError
from ainerd_hpc.training.data import MapSource, SourceRecipe
from ainerd_hpc.training.job import FitResult, Job, Progress, Record
from ainerd_hpc.training.ranks import train_in_ranks
from ainerd_hpc.training.trainer import train_here

__all__ = ["FitResult", "MapSource", "Progress", "Record", "SourceRecipe", "fit"]


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
    job = Job(variant, train, folder, config.digest(digest, variant, train), cache_bytes)
    if not job.is_complete():
        if train.devices == 1:
            train_here(job, source, progress)
        else:
            train_in_ranks(job, recipe, progress)
    return job.result(source.scan_ids)
