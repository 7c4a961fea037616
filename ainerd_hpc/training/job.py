"""One training: what it is made from, its checkpoint, and its result."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ainerd_hpc.config import TrainConfig
from ainerd_hpc.errors import ArchiveError
from ainerd_hpc.site.allocation import cores_here
from ainerd_hpc.training.data import SourceRecipe, validation_scans

Record = dict[str, float]
"""What is kept of one epoch: epoch (from 1), train_l1, valid_l1, learning_rate, seconds."""
Progress = Callable[[int, int, float, float], None]
"""Called after an epoch with (epoch from 1, epochs, train_l1, valid_l1)."""


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a training gives."""

    weights: dict[str, Tensor]
    """State dict of the epoch with the least valid_l1."""
    history: list[Record]
    validation_scans: tuple[str, ...]
    validated_on_training: bool
    """True if the maps come from one scan only, so that valid_l1 says nothing about unseen scans."""


@dataclass(frozen=True, slots=True)
class Job:
    """One training, and its checkpoint."""

    variant: str
    train: TrainConfig
    folder: Path
    digest: str
    cache_bytes: int

    @property
    def ranks(self) -> int:
        """Ranks on all nodes."""
        return self.train.nodes * self.train.devices

    @property
    def threads(self) -> int:
        """Threads of one rank."""
        return max(1, (self.train.threads or cores_here()) // self.train.devices)

    @property
    def checkpoint_path(self) -> Path:
        """Written after each epoch, every `train.checkpoint_every`, and before a training stops."""
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
        """Whether the checkpoint is that of the last epoch."""
        checkpoint = self.checkpoint()
        return checkpoint is not None and self.is_over(checkpoint["history"])

    def is_over(self, history: Sequence[Record]) -> bool:
        """Whether these were all epochs, or enough of them have bettered nothing."""
        best = min(history, key=lambda record: record["valid_l1"], default=None)
        in_vain = len(history) - best["epoch"] if best else 0
        return len(history) >= self.train.epochs or in_vain >= (self.train.patience or self.train.epochs)

    def result(self, scan_ids: Sequence[str]) -> FitResult:
        """What the checkpoint of the last epoch says, given the scan of each map."""
        checkpoint = self.checkpoint()
        if checkpoint is None:
            raise ArchiveError(f"{self.checkpoint_path}: expected the checkpoint just written, found none; run again")
        held_out = sorted(validation_scans(scan_ids, self.train.validation_share, self.train.seed))
        return FitResult(checkpoint["best_weights"], checkpoint["history"], tuple(held_out), not held_out)

    def write(self, path: Path, recipe: SourceRecipe) -> None:
        """Write it for the ranks, as JSON. All cores are those of this process: a rank may be given fewer."""
        train = self.train.model_copy(update={"threads": self.train.threads or cores_here()})
        plain = {
            "variant": self.variant,
            "train": train.model_dump(mode="json"),
            "folder": str(self.folder.absolute()),
            "digest": self.digest,
            "cache_bytes": self.cache_bytes,
            "factory": recipe.factory,
            "arguments": dict(recipe.arguments),
        }
        path.write_text(json.dumps(plain))

    @classmethod
    def read(cls, path: Path) -> tuple[Job, SourceRecipe]:
        """What `write` wrote, read in a rank."""
        plain = json.loads(path.read_text())
        recipe = SourceRecipe(plain.pop("factory"), plain.pop("arguments"))
        train = TrainConfig.model_validate(plain.pop("train"))
        return cls(train=train, folder=Path(plain.pop("folder")), **plain), recipe
