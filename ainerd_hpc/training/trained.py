"""The model of an archive, as later stages use it."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.config import RunConfig
from ainerd_hpc.digests import sha256
from ainerd_hpc.errors import ArchiveError, ProductError

if TYPE_CHECKING:
    from ainerd_hpc.models.model import Model


def trained_model(archive: Archive, config: RunConfig) -> Model:
    """The trained model, whose weights have to be those that its own record tells.

    Raises
    ------
    ProductError
        The weights or their record are missing, damaged or of something else.
    """
    weights = archive.weights_path(config.model.name)
    record = archive.model_folder(config.model.name) / "model.json"
    try:
        expected = json.loads(record.read_bytes()).get("weights_sha256")
        modified = weights.stat().st_mtime_ns
        return _model(config.model.variant, weights, modified, expected, config.executor.threads)
    except FileNotFoundError as error:
        raise ProductError(weights, f"cannot read the weights: {error}") from None
    except ValueError:
        raise ProductError(record, "cannot read what is written about the model") from None


@lru_cache(maxsize=1)
def _model(variant: str, weights: Path, _modified: int, expected: str | None, threads: int) -> Model:
    """The model of this process, loaded once; archives of earlier versions do not tell its checksum."""
    if expected not in (None, sha256(weights)):
        raise ProductError(weights, "expected the weights that model.json tells of, found others")
    import torch

    from ainerd_hpc.models.weights import load_model

    torch.set_num_threads(threads)
    try:
        return load_model(variant, weights)
    except ArchiveError as error:
        raise ProductError(weights, f"cannot read the weights: {error}") from None
