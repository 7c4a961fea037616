"""Training of a network, with Lightning: same seed, maps and number of threads -> same weights, bit for bit.

Whole scans are kept for validation, before the maps are augmented. All random numbers are drawn by a counter from
(seed, epoch, map), none from a running state: they depend neither on the number of ranks nor on a restart in between.
The optimiser is Adam, as published; the first weights, the augmentation and the loss are the network's own
(`models`): the history's train_l1 and valid_l1 are means of its error.

The parts, in the order of their imports:

- `data`: which maps there are, the split by scans, the order of an epoch, the batches
- `job`: what is to be trained, its checkpoint, and what it gives
- `interruption`: when it leaves a checkpoint, and when it stops
- `trainee`: the network with its first weights, learning rate, optimiser steps and validation
- `trainer`: a training in this process
- `ranks`: a training in several processes, on one node or several, as seen from the one that starts them
- `rank`: one of these, which `python -m ainerd_hpc.training` runs
- `trained`: what a training gave, as later stages load it
"""

from __future__ import annotations

from pathlib import Path

from ainerd_hpc import digests
from ainerd_hpc.config import TRAIN_PLACE, TrainConfig
from ainerd_hpc.errors import AinerdError
from ainerd_hpc.training.data import MapSource, SourceRecipe
from ainerd_hpc.training.interruption import Interruption
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
        With `devices` x `nodes` > 1, that many ranks train in processes of their own, which end with this one.
    folder : Path
        For `last.ckpt`. An existing one is continued if it belongs to the same training, at the very step and with the
        same weights in the end; on another number of ranks, too, with other roundings from there on.
    digest : str
        Of the maps. With the variant and the options it decides whether `last.ckpt` belongs to this training.
    progress : callable, optional
        Called after each epoch.
    cache_bytes : int
        Memory in which the maps may be kept, in each rank, if all of them fit.
    recipe : SourceRecipe, optional
        Needed for more than one rank.

    Returns
    -------
    FitResult

    Raises
    ------
    AinerdError
        If there are no maps, a map is not finite, the training diverges or a rank fails.
    KeyboardInterrupt
        After SIGTERM or Ctrl-C, when a checkpoint was written of the step that was at work.
    """
    if not len(source):
        raise AinerdError("train: expected at least one map, found none; check the maps stage")
    folder.mkdir(parents=True, exist_ok=True)
    options = train.model_copy(update=TRAIN_PLACE)
    job = Job(variant, train, folder, digests.digest(digest, variant, options), cache_bytes)
    if not job.is_complete():
        with Interruption(train.checkpoint_every) as interruption:
            if job.ranks == 1:
                train_here(job, source, progress, interruption)
            else:
                train_in_ranks(job, recipe, progress, interruption)
        if interruption.is_asked:
            raise KeyboardInterrupt(f"stopped; {job.checkpoint_path} goes on")
    return job.result(source.scan_ids)
