"""What the networks cost in memory, without importing torch: plans are made from it.

Upper bounds of the resident memory beyond that of a process with torch and Lightning loaded, on a CPU; measured by the
tests.
"""

from __future__ import annotations

from typing import Literal

MAPS_PER_PASS = 4
"""Maps that go through the network at a time in training on a CPU: so few stay in the cache, which is faster."""

_PARAMETERS = {"ainerd2024": 379_665}
_MIB = 2**20
_MAP_BYTES = 256 * 256 * 4
_WEIGHT_COPIES = 10
"""Weights, gradient, two moments of Adam, best weights, and the checkpoint while it is written or read."""
_LIBRARY_BYTES = 144 * _MIB
"""Buffers and compiled kernels of the libraries, on several threads (measured: 40 MiB apart from run to run)."""
_PASS_BYTES = {"32-true": 32 * _MIB, "bf16-mixed": 20 * _MIB}
"""What one map leaves in memory between the forward and the backward pass."""
_MAP_COPIES = 3
"""A batch is read, shifted and stacked."""


def training_bytes(variant: str, batch_size: int, precision: Literal["32-true", "bf16-mixed"]) -> int:
    """Upper bound of the memory that one rank needs to train, bytes.

    Parameters
    ----------
    variant : str
        Name of the network.
    batch_size : int
        Maps per optimiser step, over all ranks.
    precision : str
        "32-true" or "bf16-mixed".

    Notes
    -----
    The cache of maps (`fit`'s `cache_bytes`) comes on top.
    """
    weights = _WEIGHT_COPIES * 4 * _PARAMETERS[variant]
    passes = min(batch_size, MAPS_PER_PASS) * _PASS_BYTES[precision]
    return _LIBRARY_BYTES + weights + passes + _MAP_COPIES * batch_size * _MAP_BYTES


def embedding_bytes(variant: str) -> int:
    """Upper bound of the memory that embedding on a CPU needs beside the caller's maps, bytes."""
    weights = 2 * 4 * _PARAMETERS[variant]
    return _LIBRARY_BYTES + weights + _PASS_BYTES["32-true"] + _MAP_COPIES * _MAP_BYTES
