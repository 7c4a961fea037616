"""`ainerd2024`, the convolutional autoencoder of AI-NERD (Horwath et al., Nat. Commun. 15, 5945, 2024).

Its state-dict keys are the published ones, and so are its loss (L1) and augmentation. Its head is a ReLU: the authors'
training script shows a Sigmoid, but their published weights were made with a ReLU. Dropout is off in training: it costs
half of the time and leaves a bias between training and evaluation (`docs/decisions.md`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ainerd_hpc.models.model import Model
from ainerd_hpc.models.network import Network

_DARKEST_START = 0.05
"""Least initial bias of the head, in units of the scaled map."""


def _conv(channels_in: int, channels_out: int) -> list[nn.Module]:
    """3x3 convolution, dropout, ReLU: three modules, so that the published state-dict keys fit."""
    return [nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.Dropout(0.05), nn.ReLU()]


def _upsample() -> nn.Module:
    return nn.Upsample(scale_factor=4, mode="bilinear")


class Ainerd2024(Model):
    """The published autoencoder, with non-negative latents (units: those of the scaled map)."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        d = network.latent_size
        self.encoder = nn.Sequential(
            *_conv(1, 16), *_conv(16, 16), nn.MaxPool2d(4),
            *_conv(16, 32), *_conv(32, 32), nn.MaxPool2d(4),
            *_conv(32, 64), *_conv(64, 64), nn.MaxPool2d(4),
        )  # fmt: skip
        self.bottleneck = nn.Sequential(nn.Flatten(), nn.Linear(1024, d), nn.ReLU(), nn.Linear(d, 1024), nn.ReLU())
        self.decoder1 = nn.Sequential(
            *_conv(64, 64), *_conv(64, 64), _upsample(),
            *_conv(64, 64), *_conv(64, 64), _upsample(),
            *_conv(64, 32), *_conv(32, 32), _upsample(),
            nn.Conv2d(32, 1, 3, padding=1), nn.ReLU(),
        )  # fmt: skip

    def initialise(self, sample: Iterable[NDArray[np.float32]]) -> None:
        """He's initial weights (He et al., ICCV 2015, eq. 10), and a head that starts at the mean of the maps.

        PyTorch's own initial weights let the signal fade over the 15 layers, and a ReLU head that starts below zero
        everywhere has no gradient: it stays black for ever.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.get_parameter("bias"))
            elif isinstance(module, nn.Dropout):
                module.p = 0.0
        level = float(np.mean([image.mean(dtype=np.float64) for image in sample]))
        head = self.decoder1[-2]
        nn.init.normal_(head.get_parameter("weight"), std=0.1 * math.sqrt(1 / 288))
        nn.init.constant_(head.get_parameter("bias"), max(level, _DARKEST_START))

    @staticmethod
    def augment(image: NDArray[np.float32], chance: np.random.Generator) -> NDArray[np.float32]:
        """The map slid along its diagonal by a random shift, periodic."""
        shift = int(chance.integers(len(image)))
        return np.roll(image, (shift, shift), axis=(0, 1))

    def encode(self, maps: Tensor, *columns: Tensor) -> Tensor:
        """Latents (n, 64) of maps (n, 1, 256, 256)."""
        latents: Tensor = self.bottleneck[:3](self.encoder(maps))
        return latents

    def errors(self, maps: Tensor, latents: Tensor) -> Tensor:
        """Absolute differences (n, 1, 256, 256) between maps and their reconstructions: their mean is the L1."""
        return (self.decode(latents).float() - maps).abs()

    def decode(self, latents: Tensor) -> Tensor:
        """Maps (n, 1, 256, 256) of latents (n, 64)."""
        maps: Tensor = self.decoder1(self.bottleneck[3:](latents).unflatten(1, (64, 4, 4)))
        return maps
