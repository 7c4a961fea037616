"""`lag_age`, an autoencoder of cells of (log lag, age): it sorts maps by how a sample moves, not by how fast.

It comes trained, by `pretraining`, on simulated kinds of dynamics: its latents tell the kinds apart, and from them
alone it draws the expected C2, without the noise of the photons. Beside them it tells the half decay, which it has
learned to see through noise and before the first lag. On an archive's own maps only its decoder learns: latents of all
archives stay comparable.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ainerd_hpc.kernels.cells import NUM_AGES, NUM_LAGS, SURENESS_UNIT
from ainerd_hpc.models.model import Model
from ainerd_hpc.models.network import Network

_WIDTHS = (16, 48, 96)
"""Channels at 30 x 16, 15 x 8 and 8 x 4 cells: multiples of 16, in which a processor multiplies."""
FURTHEST_SHIFT = 3
"""Cells of lag by which a map is shifted at most: half decays are uncertain by as much where photons are few."""
_NOISE_FLOOR = 0.05
"""Error of a cell, in contrasts, below which a difference counts no more for it: reconstructions are no better."""


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(4, width), nn.GroupNorm(4, width)])
        self.convs = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)])

    def forward(self, x: Tensor) -> Tensor:
        change = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            change = conv(functional.gelu(norm(change)))
        return x + change


class LagAge(Model):
    """The autoencoder of cells, (n, 3, 60, 16), with latents on the unit sphere."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        fine, middle, coarse = _WIDTHS
        d = network.latent_size
        self.encoder = nn.Sequential(
            nn.Conv2d(3, fine, (5, 3), stride=(2, 1), padding=(2, 1)), _Residual(fine),
            nn.Conv2d(fine, middle, 3, stride=2, padding=1), _Residual(middle),
            nn.Conv2d(middle, coarse, 3, stride=2, padding=1), _Residual(coarse),
        )  # fmt: skip
        self.to_latent = nn.Sequential(
            nn.Linear(10 * coarse, 256), nn.GELU(), nn.Linear(256, 128), nn.GELU(), nn.Linear(128, d)
        )
        self.from_latent = nn.Sequential(nn.Linear(d, coarse * 8 * 4), nn.GELU())
        self.decoder = nn.Sequential(
            nn.Conv2d(coarse, middle, 3, padding=1), nn.GELU(), nn.Upsample((15, 8), mode="bilinear"),
            nn.Conv2d(middle, fine, 3, padding=1), nn.GELU(), nn.Upsample((NUM_LAGS, NUM_AGES), mode="bilinear"),
            nn.Conv2d(fine, 1, 3, padding=1),
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):  # it is trained apart: all else begins as if it were not there
            self.to_half_decay = nn.Sequential(
                nn.LayerNorm(10 * coarse), nn.Linear(10 * coarse, 128), nn.GELU(), nn.Linear(128, 2)
            )

    def initialise(self, sample: Iterable[NDArray[np.float32]]) -> None:
        """The weights that come with it; the encoder keeps them."""
        from ainerd_hpc.models.weights import load_weights

        assert self.network.own_weights
        self.load_state_dict(load_weights(self.network.own_weights))
        for part in (self.encoder, self.to_latent, self.to_half_decay):
            part.requires_grad_(False)

    @staticmethod
    def augment(image: NDArray[np.float32], chance: np.random.Generator) -> NDArray[np.float32]:
        """The cells shifted along the lags; what comes in has no entries."""
        shift = int(chance.integers(-FURTHEST_SHIFT, FURTHEST_SHIFT + 1))
        moved = np.roll(image, shift, axis=1)
        moved[:, slice(shift) if shift >= 0 else slice(shift, None)] = 0
        return moved

    def encode(self, maps: Tensor, *columns: Tensor) -> Tensor:
        """Latents (n, 32) of length 1, of cells (n, 3, 60, 16)."""
        latents: Tensor = functional.normalize(self.to_latent(self.see(maps)), dim=1)
        return latents

    def look(self, maps: Tensor, *columns: Tensor) -> tuple[Tensor, Tensor]:
        """Latents, and ln of the factor by which the half decay of the cells is off, with its error, (n, 2)."""
        seen = self.see(maps)
        return functional.normalize(self.to_latent(seen), dim=1), self.to_half_decay(seen)

    def see(self, maps: Tensor) -> Tensor:
        """What the encoder sees in cells (n, 3, 60, 16), pooled, (n, 960)."""
        x = self.encoder(maps)
        return torch.cat([x.mean((2, 3)), x.amax((2, 3)), x.mean(3).flatten(1)], 1)  # the last: in order of the lags

    def reconstruct(self, latents: Tensor) -> Tensor:
        """Expected cells (n, 60, 16) in units of the contrast, of latents (n, 32)."""
        cells: Tensor = self.decoder(self.from_latent(latents).unflatten(1, (_WIDTHS[2], 8, 4)))[:, 0]
        return cells

    def errors(self, maps: Tensor, latents: Tensor) -> Tensor:
        """Absolute differences (n, 60, 16) between the means and their reconstruction, in errors of each cell.

        Their mean over a map is about 0.8 where it differs by its noise alone, however strong that is.
        """
        sureness = (maps[:, 2] * SURENESS_UNIT).expm1()
        known = (sureness > 0).float()
        noise = (sureness.clamp_min(1e-3) ** -2 + _NOISE_FLOOR**2).sqrt()
        difference = (self.reconstruct(latents).float() - maps[:, 0]).abs()
        return difference / noise * known / known.mean((1, 2), keepdim=True).clamp_min(1e-6)
