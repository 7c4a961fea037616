"""How far a training is: told in a file beside its checkpoint, for whoever asks while it is at work."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

from ainerd_hpc.console import time_text
from ainerd_hpc.publishing import write_json

_NAME = "standing.json"


class Standing(NamedTuple):
    """How far a training is."""

    epoch: int
    """The one at work, from 1; after the last step the last one."""
    epochs: int
    step: int
    """Steps of this epoch that are done, in training and in validation."""
    steps: int
    """Steps of an epoch."""
    train_l1: float
    """Mean error of the maps of this epoch so far, as the first rank had them."""
    valid_l1: float | None
    """Mean error of unseen maps after the epoch before."""
    seconds_left: float
    maps_per_second: float = 0.0
    """Maps that go through the network, in training and in validation, by all ranks together."""

    def __str__(self) -> str:
        unseen = f", unseen {self.valid_l1:.4f}" if self.valid_l1 is not None else ""
        place = f"epoch {self.epoch}, step {self.step} of {self.steps}"
        rate = f", {self.maps_per_second:.3g} maps/s" if self.maps_per_second else ""
        return f"{place}, L1 {self.train_l1:.4f}{unseen}{rate}, {time_text(self.seconds_left)} left"


def write_standing(folder: Path, standing: Standing) -> None:
    """Publish it in the folder of the checkpoint."""
    write_json(folder / _NAME, standing._asdict())


def read_standing(folder: Path) -> Standing | None:
    """What was told last; None where no training is under way."""
    try:
        return Standing(**json.loads((folder / _NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def standing_text(folder: Path) -> str:
    """One line about a training that is under way, and when that was told; empty where none is."""
    standing = read_standing(folder)
    if standing is None:
        return ""
    age = max(0.0, time.time() - (folder / _NAME).stat().st_mtime)
    return f"train: {standing.epoch - 1} of {standing.epochs} epochs; {standing} (told {time_text(age)} ago)"
