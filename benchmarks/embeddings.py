"""Embeddings to compare: the published network, and what one writes in an hour without one.

Each is made from the C2 of an archive, and then embeds any C2.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from ainerd_hpc.config import MapsConfig, TrainConfig
from ainerd_hpc.evaluation.scores import as_features
from ainerd_hpc.kernels.cells import cells as product_cells
from ainerd_hpc.kernels.diagonals import g2_from_c2
from ainerd_hpc.kernels.fitting import kww
from ainerd_hpc.kernels.maps import Scaled, make_map
from ainerd_hpc.models.registry import NETWORKS

Maps = Sequence[NDArray[np.floating[Any]]]
"""C2 (t, t), each of its own size."""
VARIANT = "ainerd2024"
NUM_COMPONENTS = 16


class Embedded(NamedTuple):
    """What an embedding says of n maps."""

    latents: NDArray[np.floating[Any]]
    """(n, d)."""
    numbers: pd.DataFrame | None = None
    """n rows: log_tau, of tau in windows, and what else there is; NaN where it does not know."""
    novelty: NDArray[np.float64] | None = None
    """(n,); None: that of the cluster stage is as good."""
    same_kind: float = 0.0
    """Distance of latents within which clusters are of one kind; 0: nobody knows."""


Embed = Callable[[Maps], Embedded]
Make = Callable[[Maps, Sequence[int], int], Embed]
"""From C2 of an archive, the scan of each, and a seed."""


def embeddings(weights: Path | None = None, epochs: int = 0, others: Sequence[Path] = ()) -> dict[str, Make]:
    """All that are compared, by name: each network that comes with weights, and the baselines.

    Parameters
    ----------
    weights : Path, optional
        The published ones; without them that network is left out.
    epochs : int
        Of the same network trained on the archive; 0 leaves it out.
    others : sequence of Path
        Weights of the networks that come with some, of other trainings: these embed an archive the second time.
    """
    return {
        **{
            name: partial(pretrained, name, [one.own_weights, *others])
            for name, one in NETWORKS.items()
            if one.own_weights
        },
        **({"published weights": partial(pretrained, VARIANT, [weights])} if weights else {}),
        **({f"published network, trained {epochs} epochs": partial(retrained, epochs)} if epochs else {}),
        "PCA of maps": partial(components, small_maps),
        "KWW fits": kww_fits,
        "lag-age cells": partial(components, lag_age_cells),
        "aligned lag-age cells": partial(components, aligned_cells),
        "lag cells": partial(components, lag_cells),
        "scattering energies": partial(components, scattering_energies),
    }


# ---- networks


def pretrained(variant: str, weights: Sequence[Path], c2: Maps, scans: Sequence[int], seed: int) -> Embed:
    """A network with given weights; `seed` counts its trainings in thousands."""
    from ainerd_hpc.models.weights import load_model

    return partial(_through, load_model(variant, weights[seed // 1000 % len(weights)]))


def retrained(epochs: int, c2: Maps, scans: Sequence[int], seed: int) -> Embed:
    """The published network, trained on the archive."""
    from ainerd_hpc.models.weights import build
    from ainerd_hpc.training import fit

    source = _Source(whole_maps(c2)[0], [str(scan) for scan in scans])
    with tempfile.TemporaryDirectory() as folder:
        options = TrainConfig(epochs=epochs, seed=seed, threads=1)
        found = fit(source, VARIANT, options, Path(folder), str(seed), cache_bytes=2**40)
    model = build(VARIANT)
    model.load_state_dict(found.weights)
    return partial(_through, model)


@dataclass(frozen=True)
class _Source:
    maps: NDArray[np.float32]
    scan_ids: list[str]

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        return np.asarray(self.maps[index])

    def column(self, name: str) -> NDArray[np.float32]:
        raise KeyError(name)


def _through(model: Any, c2: Maps) -> Embedded:
    from ainerd_hpc.models.embedding import embed

    rows, numbers = READS[model.network.reads](c2)
    found = embed(model, rows)
    factors = dict(zip(model.network.corrects, found.factors[:, ::2].T, strict=True))
    better = {f"log_{name}": numbers[f"log_{name}"] + np.log(factor) for name, factor in factors.items()}
    return Embedded(found.latents, numbers.assign(**better), same_kind=model.network.same_kind)


def whole_maps(c2: Maps) -> tuple[NDArray[np.float32], pd.DataFrame]:
    """Scaled maps of 256 x 256, and their scales."""
    scaled = _scaled(c2)
    return np.stack([one.map for one in scaled]), _scale_of(scaled)


def network_cells(c2: Maps) -> tuple[NDArray[np.float32], pd.DataFrame]:
    """Cells as the maps stage makes them, and the numbers beside them."""
    found = [product_cells(one) for one in c2]
    numbers = {
        "log_half_decay": np.log([one.half_decay / len(window) for one, window in zip(found, c2, strict=True)]),
        "log_contrast": np.log([one.contrast for one in found]),
    }
    return np.stack([one.values for one in found]), pd.DataFrame(numbers)


def signal_to_noise(c2: Maps) -> NDArray[np.float64]:
    """Of each map, as the maps stage tells it, (n,)."""
    return np.array([product_cells(one).signal_to_noise for one in c2])


READS: Mapping[str, Callable[[Maps], tuple[NDArray[np.float32], pd.DataFrame]]] = {
    "maps": whole_maps,
    "cells": network_cells,
}
"""What networks read of C2, and the numbers beside it."""


def _scaled(c2: Maps, size: int = 256) -> list[Scaled]:
    return [make_map(one, MapsConfig().scaling, size) for one in c2]


def _scale_of(scaled: Sequence[Scaled]) -> pd.DataFrame:
    """What is kept of the scale of a map beside it."""
    return pd.DataFrame({"log_scale": [np.log(one.high - one.low) for one in scaled]})


# ---- principal components of what is computed of each map


def components(
    features: Callable[[Maps], tuple[NDArray[Any], pd.DataFrame]], c2: Maps, scans: Sequence[int], seed: int
) -> Embed:
    """The first 16 principal components of features (n, k)."""
    fitted = PCA(NUM_COMPONENTS, random_state=seed).fit(features(c2)[0])

    def embed(c2: Maps) -> Embedded:
        values, numbers = features(c2)
        return Embedded(fitted.transform(values), numbers)

    return embed


def small_maps(c2: Maps) -> tuple[NDArray[np.float64], pd.DataFrame]:
    """Scaled maps of 64 x 64."""
    scaled = _scaled(c2, 64)
    return np.stack([one.map.ravel() for one in scaled]), _scale_of(scaled)


# ---- fits


def kww_fits(c2: Maps, scans: Sequence[int], seed: int) -> Embed:
    """log tau, log contrast and exponent of fits, each in units of its spread; a failed fit counts as the median."""
    fitted = StandardScaler().fit(as_features(fits(c2)))

    def embed(c2: Maps) -> Embedded:
        numbers = fits(c2)
        return Embedded(fitted.transform(as_features(numbers)), numbers)

    return embed


def fits(c2: Maps) -> pd.DataFrame:
    """log_tau (of tau in windows), log_contrast and kww_exponent of each; NaN where the fit fails."""
    table = pd.DataFrame(index=range(len(c2)), columns=["log_tau", "log_contrast", "kww_exponent"], dtype=float)
    sizes = np.array([len(one) for one in c2])
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        curves, errors = np.stack([g2_from_c2(c2[row]) for row in rows]).swapaxes(0, 1)
        found = kww.fit_many(*kww.log_bin(np.arange(1, size), curves, errors))
        with np.errstate(divide="ignore"):
            table.iloc[rows] = np.stack([np.log(found.tau / size), np.log(found.contrast), found.kww_exponent], axis=1)
    return table.replace([np.inf, -np.inf], np.nan)


# ---- cells


NUM_LAGS, NUM_AGES = 16, 8
IN_WINDOWS = (np.log(1 / 256), 0.0)
"""Range of log lag, in windows."""
IN_DECAYS = (-3.0, 2.5)
"""Range of log lag, in lags of half the decay."""


def lag_age_cells(c2: Maps) -> tuple[NDArray[np.float64], pd.DataFrame]:
    """C2 - 1, averaged in cells of log lag and age, over its largest mean at a lag."""
    grids = np.stack([cells(one, np.log(len(one)), IN_WINDOWS) for one in c2])
    height = _heights(grids)
    return (grids / height[:, None, None]).reshape(len(grids), -1), pd.DataFrame({"log_height": np.log(height)})


def aligned_cells(c2: Maps) -> tuple[NDArray[np.float64], pd.DataFrame]:
    """The same for lags in units of the lag of half the decay."""
    shift = np.array([log_half_decay(one) for one in c2])
    grids = np.stack([cells(one, at, IN_DECAYS) for one, at in zip(c2, shift, strict=True)])
    height = _heights(grids)
    numbers = {"log_half_decay": shift - np.log([len(one) for one in c2]), "log_height": np.log(height)}
    return (grids / height[:, None, None]).reshape(len(grids), -1), pd.DataFrame(numbers)


def lag_cells(c2: Maps) -> tuple[NDArray[np.float64], pd.DataFrame]:
    """C2 - 1, averaged over age in cells of log lag, as it is and over its largest mean, side by side."""
    grids = np.stack([cells(one, np.log(len(one)), IN_WINDOWS) for one in c2])
    means, height = grids.mean(axis=2), _heights(grids)
    return np.hstack([means, means / height[:, None]]), pd.DataFrame({"log_height": np.log(height)})


def _heights(grids: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(grids.mean(axis=2).max(axis=1), 1e-3)


def cells(c2: NDArray[Any], shift: float, limits: tuple[float, float]) -> NDArray[np.float64]:
    """Mean of C2 - 1 in cells (lag, age) of equal width in log lag - shift, between limits, and of age.

    An empty cell has the mean of its lag, all of a lag without pairs that of the nearest one with some.
    """
    log_lag, age, place = _pairs(len(c2))
    row = np.floor((log_lag - shift - limits[0]) / (limits[1] - limits[0]) * NUM_LAGS).astype(int)
    values = c2.ravel()[place].astype(np.float64) - 1
    used = (row >= 0) & (row < NUM_LAGS) & np.isfinite(values)
    cell = row[used] * NUM_AGES + age[used]
    number, total = (
        np.bincount(cell, weights, minlength=NUM_LAGS * NUM_AGES).reshape(NUM_LAGS, NUM_AGES)
        for weights in (None, values[used])
    )
    with np.errstate(invalid="ignore"):
        mean, of_lag = total / number, total.sum(axis=1) / number.sum(axis=1)
    if not number.any():
        return np.zeros((NUM_LAGS, NUM_AGES))
    nearest = distance_transform_edt(number.sum(axis=1) == 0, return_distances=False, return_indices=True)[0]
    return np.where(number > 0, mean, of_lag[nearest][:, None])


@cache
def _pairs(size: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """log lag, cell of age, and place in C2 of all pairs above the diagonal."""
    t1, t2 = np.triu_indices(size, 1)
    age = (t1 + t2 + 1) * NUM_AGES // (2 * size)
    return np.log(t2 - t1), age, t1 * size + t2


def log_half_decay(c2: NDArray[Any]) -> float:
    """Logarithm of the first lag, in frames, at which g2 has lost half of its decay; of the window if it has none."""
    lag, g2, _ = kww.log_bin(np.arange(1, len(c2)), *g2_from_c2(c2))
    low = np.flatnonzero(g2 < (g2[:1] + g2[len(g2) // 2 :].min(initial=np.inf)) / 2)
    return float(np.log(lag[low[0]] if len(low) else len(c2)))


# ---- scattering


SCALES, ANGLES, SCATTERED = 4, 8, 64


def scattering_energies(c2: Maps) -> tuple[NDArray[np.float64], pd.DataFrame]:
    """Logarithms of the mean moduli of wavelets of first and second order (Bruna and Mallat, IEEE TPAMI 35, 1872,
    2013), of scaled maps of 64 x 64."""
    scaled = _scaled(c2, SCATTERED)
    return np.stack([_energies(one.map) for one in scaled]), _scale_of(scaled)


def _energies(image: NDArray[np.float32]) -> NDArray[np.float64]:
    filters = _wavelets()
    first = np.abs(np.fft.ifft2(np.fft.fft2(image) * filters))
    means = [image.mean(), *np.log(first.mean(axis=(1, 2)) + 1e-6)]
    for scale in range(SCALES - 1):
        moduli = first[scale * ANGLES : (scale + 1) * ANGLES]
        coarser = filters[(scale + 1) * ANGLES :]
        second = np.abs(np.fft.ifft2(np.fft.fft2(moduli)[:, None] * coarser)).mean(axis=(2, 3))
        means += np.log(second.ravel() + 1e-6).tolist()
    return np.array(means)


@cache
def _wavelets() -> NDArray[np.float64]:
    """Morlet wavelets in Fourier space, (scale x angle, y, x): Gaussians about 3/4 pi / 2^scale, with mean 0."""
    frequency = 2 * np.pi * np.fft.fftfreq(SCATTERED)
    y, x = frequency[:, None], frequency[None]
    filters = []
    for scale in range(SCALES):
        centre, width = 0.75 * np.pi / 2**scale, 0.5 * np.pi / 2**scale / 1.6
        for angle in np.pi * np.arange(ANGLES) / ANGLES:
            along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
            at = np.exp(-0.5 * ((along - centre) ** 2 + (across * 1.5) ** 2) / width**2)
            without = np.exp(-0.5 * (along**2 + (across * 1.5) ** 2) / width**2)
            filters.append(at - at[0, 0] * without)
    return np.stack(filters)
