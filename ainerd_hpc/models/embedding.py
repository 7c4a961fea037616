"""The way from maps to latents and back, alike for every network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ainerd_hpc.models.model import Model
from ainerd_hpc.types import MAP_SIZE


class Embedded(NamedTuple):
    """What a network makes of maps."""

    latents: NDArray[np.float32]
    """(n, d)."""
    errors: NDArray[np.float32]
    """(n,): mean of the network's errors over each map; for an autoencoder the mean absolute difference between a map
    and its reconstruction, in units of the scaled map, or of its noise."""
    factors: NDArray[np.float32]
    """(n, 2 x columns): for each column that the network corrects the factor, and its standard error as a share."""


def embed(
    model: Model, maps: NDArray[np.float32], columns: Sequence[NDArray[np.float32]] = (), batch_size: int = 32
) -> Embedded:
    """Latents of maps, how well the network fits each map, and what it knows better than their numbers.

    Parameters
    ----------
    model : Model
        From `load_model`; it is put into evaluation mode.
    maps : ndarray, (n, ...)
        Rows of the array that the network reads: scaled maps (n, 256, 256), or cells.
    columns : sequence of ndarray, (n,)
        What the network takes beside the maps: its `columns` of the map index.
    batch_size : int
        Maps per forward pass on a GPU. On a CPU as many as the network says is fastest, always as many: the result of
        a map does not depend on the others.

    Returns
    -------
    Embedded

    Raises
    ------
    ValueError
        If a row has another number of values than the network reads.
    """
    shape = model.network.shape
    if math.prod(maps.shape[1:]) != math.prod(shape):
        raise ValueError(f"expected {model.network.reads} of shape {shape}, found {maps.shape[1:]}")
    latents = np.empty((len(maps), model.network.latent_size), np.float32)
    errors = np.empty(len(maps), np.float32)
    factors = np.empty((len(maps), 2 * len(model.network.corrects)), np.float32)
    model.eval()
    with torch.inference_mode():
        for part, (batch, *beside) in _batches(model, batch_size, maps, *columns):
            images = batch.reshape(-1, *shape).contiguous(memory_format=torch.channels_last)
            codes, logs = model.look(images, *beside)
            num = len(latents[part])
            latents[part] = codes.cpu().numpy()[:num]
            factors[part] = np.exp(logs.cpu().numpy()[:num])
            each = model.errors(images, codes).cpu().numpy()[:num]
            errors[part] = each.reshape(len(each), -1).mean(axis=1)  # NumPy's sum does not depend on the threads
    return Embedded(latents, errors, factors)


def decode_latents(model: Model, latents: NDArray[np.floating], batch_size: int = 32) -> NDArray[np.float32]:
    """Maps (n, 256, 256) float32 of latents (n, d), in units of the scaled map; `batch_size` as in `embed`.

    Raises
    ------
    ValueError
        If the latents are not (n, d).
    """
    if latents.ndim != 2 or latents.shape[1] != model.network.latent_size:
        raise ValueError(f"expected latents (n, {model.network.latent_size}), found {latents.shape}")
    maps = np.empty((len(latents), MAP_SIZE, MAP_SIZE), np.float32)
    model.eval()
    with torch.inference_mode():
        for part, (batch,) in _batches(model, batch_size, latents):
            maps[part] = model.decode(batch)[: len(maps[part]), 0].cpu().numpy()
    return maps


def reconstruct(model: Model, latents: NDArray[np.floating], batch_size: int = 32) -> NDArray[np.float32] | None:
    """What the network makes of latents (n, d): (n, y, x) float32 in units of what it reads, or None if nothing.

    `batch_size` as in `embed`.
    """
    model.eval()
    parts = []
    with torch.inference_mode():
        for part, (batch,) in _batches(model, batch_size, latents):
            made = model.reconstruct(batch)
            if made is None:
                return None
            parts.append(made[: len(latents[part])].cpu().numpy())
    return np.concatenate(parts)


def _batches(
    model: Model, batch_size: int, *arrays: NDArray[np.floating]
) -> Iterator[tuple[slice, tuple[Tensor, ...]]]:
    """Slices of the rows, and these rows of each array as float32 on the model's device; on a CPU, zeros after them.

    Another number of rows would give other roundings.
    """
    device = next(model.parameters()).device
    step = model.network.maps_at_a_time if device.type == "cpu" else batch_size
    for start in range(0, len(arrays[0]), step):
        part = slice(start, start + step)
        missing = step - len(arrays[0][part]) if device.type == "cpu" else 0
        rows = [np.pad(array[part], [(0, missing)] + [(0, 0)] * (array.ndim - 1)) for array in arrays]
        yield part, tuple(torch.from_numpy(values.astype(np.float32)).to(device) for values in rows)
