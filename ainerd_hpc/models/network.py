"""What a network states of itself, without importing torch: configs are checked and plans are made from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ainerd_hpc.types import MAP_SIZE, READ_AHEAD

Precision = Literal["32-true", "bf16-mixed"]

MAPS_PER_PASS = 4
"""Maps that go through a network at a time in training on a CPU: so few stay in the cache, which is faster."""

_WEIGHT_COPIES = 10
"""Weights, gradient, two moments of Adam, best weights, and the checkpoint while it is written or read."""
_LIBRARY_BYTES = 144 * 2**20
"""Buffers and compiled kernels of the libraries, on several threads (measured: 40 MiB apart from run to run)."""
_MAP_COPIES = 3
"""A batch is read, shifted and stacked."""


@dataclass(frozen=True, slots=True)
class Network:
    """One network.

    Its memory is an upper bound, on a CPU, beyond that of a process with torch and Lightning loaded; measured by the
    tests. Its seconds are those of one thread of an AMD EPYC core with AVX-512 and bfloat16 (2026-11-30).
    """

    model: str
    """ "module:class" of its `models.model.Model`, which is imported when it is built."""
    num_parameters: int
    latent_size: int
    """Length d of a latent vector."""
    pass_bytes: Mapping[Precision, int]
    """What one map leaves in memory between the forward and the backward pass."""
    seconds_to_train: Mapping[Precision, float]
    """Thread-seconds for a map and epoch."""
    seconds_to_embed: float
    """Thread-seconds for a map."""
    reads: str = "maps"
    """Name of the array in the product of the maps stage that it takes: a row is what it calls a map."""
    shape: tuple[int, int, int] = (1, MAP_SIZE, MAP_SIZE)
    """Shape of such a row: channels, rows, columns."""
    maps_at_a_time: int = 1
    """Maps that are embedded at a time on a CPU: as many as are fastest."""
    columns: tuple[str, ...] = ()
    """Columns of the map index that it takes beside a map; NaN where a map has no such value."""
    corrects: tuple[str, ...] = ()
    """Columns of the map index that it knows better: of each it tells a factor and its error."""
    can_decode: bool = False
    """Whether it makes maps from latents."""
    comes_with: str = ""
    """File of weights beside this module that it comes with; empty where it has to be trained."""

    same_kind: float = 0.0
    """Distance of latents within which clusters are of one kind; 0 where nobody can know."""
    known_error: float | None = None
    """Error of a map that 99 % of maps like those of its training stay below; None where nobody can know."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of what it reads, in float32."""
        return 4 * math.prod(self.shape)

    @property
    def own_weights(self) -> Path | None:
        """The weights that it comes with, if any."""
        return Path(__file__).parent / self.comes_with if self.comes_with else None

    def training_bytes(self, batch_size: int, precision: Precision) -> int:
        """Memory that one rank needs to train with batches of `batch_size` maps over all ranks, bytes.

        The cache of maps (`fit`'s `cache_bytes`) comes on top.
        """
        weights = _WEIGHT_COPIES * 4 * self.num_parameters
        passes = min(batch_size, MAPS_PER_PASS) * self.pass_bytes[precision]
        return _LIBRARY_BYTES + READ_AHEAD + weights + passes + _MAP_COPIES * batch_size * self.row_bytes

    def embedding_bytes(self) -> int:
        """Memory that embedding on a CPU needs beside the caller's maps, bytes."""
        weights = 2 * 4 * self.num_parameters
        each = self.pass_bytes["32-true"] + _MAP_COPIES * self.row_bytes
        return _LIBRARY_BYTES + weights + self.maps_at_a_time * each

    def training_seconds(self, num_maps: int, epochs: int, precision: Precision, threads: int) -> float:
        """Time to train, s; `threads` of all ranks together, taken as a gain without loss."""
        return num_maps * epochs * self.seconds_to_train[precision] / threads

    def embedding_seconds(self, num_maps: int) -> float:
        """Time to embed, s, on one thread."""
        return num_maps * self.seconds_to_embed
