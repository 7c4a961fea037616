"""The networks, plain torch: build, load, save, embed, decode.

`ainerd2024` is the convolutional autoencoder of AI-NERD (Horwath et al., Nat. Commun. 15, 5945, 2024) with its
published state-dict keys. Its head is a ReLU: the authors' training script shows a Sigmoid, but their published weights
were made with a ReLU.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ainerd_hpc.errors import ArchiveError, ConfigError

MAP_SIZE = 256
"""Rows and columns of a map."""


def _conv(channels_in: int, channels_out: int) -> list[nn.Module]:
    """3x3 convolution, dropout, ReLU: three modules, so that the published state-dict keys fit."""
    return [nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.Dropout(0.05), nn.ReLU()]


def _upsample() -> nn.Module:
    return nn.Upsample(scale_factor=4, mode="bilinear")


class Ainerd2024(nn.Module):
    """The published autoencoder: 379,665 parameters, 64 non-negative latents (units: those of the scaled map)."""

    latent_size = 64

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *_conv(1, 16), *_conv(16, 16), nn.MaxPool2d(4),
            *_conv(16, 32), *_conv(32, 32), nn.MaxPool2d(4),
            *_conv(32, 64), *_conv(64, 64), nn.MaxPool2d(4),
        )  # fmt: skip
        self.bottleneck = nn.Sequential(
            nn.Flatten(), nn.Linear(1024, self.latent_size), nn.ReLU(), nn.Linear(self.latent_size, 1024), nn.ReLU()
        )
        self.decoder1 = nn.Sequential(
            *_conv(64, 64), *_conv(64, 64), _upsample(),
            *_conv(64, 64), *_conv(64, 64), _upsample(),
            *_conv(64, 32), *_conv(32, 32), _upsample(),
            nn.Conv2d(32, 1, 3, padding=1), nn.ReLU(),
        )  # fmt: skip

    def encode(self, maps: Tensor) -> Tensor:
        """Latents (n, 64) of maps (n, 1, 256, 256)."""
        latents: Tensor = self.bottleneck[:3](self.encoder(maps))
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Maps (n, 1, 256, 256) of latents (n, 64)."""
        maps: Tensor = self.decoder1(self.bottleneck[3:](latents).unflatten(1, (64, 4, 4)))
        return maps

    def forward(self, maps: Tensor) -> Tensor:
        """Reconstructed maps (n, 1, 256, 256)."""
        return self.decode(self.encode(maps))


VARIANTS: Mapping[str, type[Ainerd2024]] = {"ainerd2024": Ainerd2024}
"""The networks by name."""


def build(variant: str) -> Ainerd2024:
    """A new network of this variant, with the random weights that PyTorch gives it.

    Raises
    ------
    ConfigError
        If there is no such variant.
    """
    if variant not in VARIANTS:
        raise ConfigError(f"model variant '{variant}': expected one of {', '.join(VARIANTS)}; correct model.variant")
    model = VARIANTS[variant]()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 1.5 to 2 times faster on a CPU
    return model


def load_weights(path: Path) -> dict[str, Tensor]:
    """Weights from a .npz or .safetensors file; nothing in it is ever unpickled.

    Parameters
    ----------
    path : Path
        File of float32 arrays, named by state-dict keys.

    Returns
    -------
    dict of str to Tensor
        In the order of the file.

    Raises
    ------
    ArchiveError
        If the file is missing, damaged or of another kind, or holds anything but finite float32 arrays.
    """
    readers: dict[str, Callable[[Path], dict[str, Tensor]]] = {
        ".npz": _read_npz,
        ".safetensors": safetensors.torch.load_file,
    }
    if path.suffix not in readers:
        raise ArchiveError(f"{path}: expected weights as .npz or .safetensors, found '{path.suffix}'; convert the file")
    try:
        weights = readers[path.suffix](path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, safetensors.SafetensorError) as error:
        raise ArchiveError(f"{path}: cannot read the weights: {error}; check model.weights") from None
    for key, value in weights.items():
        _check_values(path, key, value)
    return weights


def _read_npz(path: Path) -> dict[str, Tensor]:
    with np.load(path, allow_pickle=False) as file:
        return {key: torch.from_numpy(_plain(file[key])) for key in file}


def _plain(array: NDArray[np.generic]) -> NDArray[np.generic]:
    if array.dtype.kind != "f":
        raise ValueError(f"expected arrays of numbers, found {array.dtype}")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _check_values(path: Path, key: str, value: Tensor) -> None:
    if value.dtype != torch.float32:
        raise ArchiveError(f"{path}: '{key}': expected float32, found {value.dtype}; save the weights as float32")
    if not bool(value.isfinite().all()):
        raise ArchiveError(f"{path}: '{key}': expected finite weights, found NaN or infinity; train the model again")


def load_model(variant: str, path: Path) -> Ainerd2024:
    """The network with the weights of a file, in evaluation mode.

    Raises
    ------
    ArchiveError
        As `load_weights`, and if a key is missing, too many or of another shape than the variant's.
    """
    model, weights = build(variant), load_weights(path)
    expected = model.state_dict()
    for key in [*expected, *weights]:
        shapes = [_shape(tensors, key) for tensors in (expected, weights)]
        if shapes[0] != shapes[1]:
            raise ArchiveError(
                f"{path}: '{key}': expected {shapes[0]}, found {shapes[1]}; give weights of the variant '{variant}'"
            )
    model.load_state_dict(weights)
    model.eval()
    return model


def _shape(tensors: Mapping[str, Tensor], key: str) -> str:
    return str(tuple(tensors[key].shape)) if key in tensors else "no such key"


def save_weights(path: Path, state_dict: Mapping[str, Tensor]) -> None:
    """Write weights as .safetensors; the bytes depend on the weights alone."""
    plain = {key: state_dict[key].detach().cpu().contiguous() for key in sorted(state_dict)}
    path.write_bytes(safetensors.torch.save(plain))


def embed(
    model: Ainerd2024, maps: NDArray[np.float32], batch_size: int = 32
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Latents of maps, and how well each map is reconstructed.

    Parameters
    ----------
    model : nn.Module
        From `load_model`; it is put into evaluation mode.
    maps : ndarray, (n, 256, 256)
        Scaled maps.
    batch_size : int
        Maps per forward pass on a GPU. On a CPU they go one at a time: that is faster (the maps stay in the cache), and
        the result of a map does not depend on the others.

    Returns
    -------
    latents : ndarray, (n, 64) float32
    reconstruction_l1 : ndarray, (n,) float32
        Mean absolute difference between a map and its reconstruction, in units of the scaled map.

    Raises
    ------
    ValueError
        If the maps are not (n, 256, 256).
    """
    if maps.ndim != 3 or maps.shape[1:] != (MAP_SIZE, MAP_SIZE):
        raise ValueError(f"expected maps (n, {MAP_SIZE}, {MAP_SIZE}), found {maps.shape}")
    latents = np.empty((len(maps), model.latent_size), np.float32)
    reconstruction_l1 = np.empty(len(maps), np.float32)
    model.eval()
    with torch.inference_mode():
        for part, batch in _batches(model, maps, batch_size):
            codes = model.encode(batch[:, None].contiguous(memory_format=torch.channels_last))
            difference = (model.decode(codes)[:, 0] - batch).abs().cpu().numpy()
            latents[part] = codes.cpu().numpy()
            reconstruction_l1[part] = difference.mean(axis=(1, 2))  # NumPy's sum does not depend on the threads
    return latents, reconstruction_l1


def decode_latents(model: Ainerd2024, latents: NDArray[np.floating], batch_size: int = 32) -> NDArray[np.float32]:
    """Maps (n, 256, 256) float32 of latents (n, 64), in units of the scaled map; `batch_size` as in `embed`.

    Raises
    ------
    ValueError
        If the latents are not (n, 64).
    """
    if latents.ndim != 2 or latents.shape[1] != model.latent_size:
        raise ValueError(f"expected latents (n, {model.latent_size}), found {latents.shape}")
    maps = np.empty((len(latents), MAP_SIZE, MAP_SIZE), np.float32)
    model.eval()
    with torch.inference_mode():
        for part, batch in _batches(model, latents, batch_size):
            maps[part] = model.decode(batch)[:, 0].cpu().numpy()
    return maps


def _batches(model: Ainerd2024, rows: NDArray[np.floating], batch_size: int) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the rows, and the rows as float32 on the model's device."""
    device = next(model.parameters()).device
    step = 1 if device.type == "cpu" else batch_size
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        yield part, torch.from_numpy(np.array(rows[part], np.float32)).to(device)
