"""The models: built, given their first weights, loaded and saved, alike for every network."""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from ainerd_hpc.errors import ArchiveError
from ainerd_hpc.models.model import Model
from ainerd_hpc.models.registry import network

_LARGEST = 2**31
"""Bytes of the weights of a network, unpacked."""


def build(variant: str) -> Model:
    """A new model of this variant, with the random weights that PyTorch gives it.

    Raises
    ------
    ConfigError
        If there is no such variant.
    """
    record = network(variant)
    module, _, name = record.model.partition(":")
    model: Model = getattr(importlib.import_module(module), name)(record)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 1.5 to 2 times faster on a CPU
    return model


def initial_model(variant: str, seed: int, sample: Iterable[NDArray[np.float32]]) -> Model:
    """A new model with the weights that a training begins with: `seed` and some of its maps (256, 256) decide them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(variant)
        model.initialise(sample)
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
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, safetensors.SafetensorError) as error:
        raise ArchiveError(f"{path}: cannot read the weights: {error}; check model.weights") from None
    for key, value in weights.items():
        _check_values(path, key, value)
    return weights


def _read_npz(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as members:
        size = sum(member.file_size for member in members.infolist())
    if size > _LARGEST:  # no more is unpacked of a member than it states here
        raise ValueError(f"expected at most {_LARGEST} bytes, found {size} when unpacked")
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


def load_model(variant: str, path: Path) -> Model:
    """The model with the weights of a file, in evaluation mode.

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
            found = f"expected {shapes[0]}, found {shapes[1]}"
            raise ArchiveError(f"{path}: '{key}': {found}; are these weights of model.variant: {variant}?")
    model.load_state_dict(weights)
    model.eval()
    return model


def _shape(tensors: Mapping[str, Tensor], key: str) -> str:
    return str(tuple(tensors[key].shape)) if key in tensors else "no such key"


def save_weights(path: Path, state_dict: Mapping[str, Tensor]) -> None:
    """Write weights as .safetensors; the bytes depend on the weights alone."""
    plain = {key: state_dict[key].detach().cpu().contiguous() for key in sorted(state_dict)}
    path.write_bytes(safetensors.torch.save(plain))
