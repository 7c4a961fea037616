"""The torch half of the contract: a network with its weights, as training and embedding use it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ainerd_hpc.models.network import Network


class Model(nn.Module, ABC):
    """A network with its weights.

    Parameters
    ----------
    network : Network
        What it states of itself.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    @abstractmethod
    def initialise(self, sample: Iterable[NDArray[np.float32]]) -> None:
        """Take the weights that a training begins with, drawn from torch's random numbers, which are seeded by then.

        Parameters
        ----------
        sample : iterable of ndarray
            Up to 64 of the maps to train on, read as they are taken. A map is here, and below, a row of what the
            network reads: (256, 256), or cells (3, 60, 16).
        """

    @staticmethod
    @abstractmethod
    def augment(image: NDArray[np.float32], chance: np.random.Generator) -> NDArray[np.float32]:
        """A map to train on in place of this one; all that is random in it comes from `chance`."""

    @abstractmethod
    def encode(self, maps: Tensor, *columns: Tensor) -> Tensor:
        """Latents (n, d) of maps (n, channel, y, x), and of the network's columns (n,) of the map index."""

    def look(self, maps: Tensor, *columns: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (n, d); and for k columns that the network corrects, side by side, ln of the factor and ln of its
        standard error as a share, (n, 2 k)."""
        return self.encode(maps, *columns), maps.new_zeros((len(maps), 0))

    @abstractmethod
    def errors(self, maps: Tensor, latents: Tensor) -> Tensor:
        """Errors (n, ...) float32, of which the mean over a map is what training makes small."""

    def decode(self, latents: Tensor) -> Tensor:
        """Maps (n, 1, 256, 256) of latents (n, d), where the network states that it can."""
        raise NotImplementedError

    def reconstruct(self, latents: Tensor) -> Tensor | None:
        """What it makes of latents (n, d): (n, y, x) in units of what it reads; None where it can make nothing."""
        return self.decode(latents)[:, 0] if self.network.can_decode else None

    def loss(self, maps: Tensor, *columns: Tensor) -> Tensor:
        """Error of each map, (n,)."""
        return self.errors(maps, self.encode(maps, *columns)).flatten(1).mean(dim=1)
