"""What maps of one moment say of each other: q-bins of the same frames see the same sample, with photons of their own.

A bright map is believed as it is; a faint one leans on its siblings, by as much as noise moves it further than they are
apart. That is the estimate of Efron and Morris (J. Am. Stat. Assoc. 68, 117, 1973), with the spread of the siblings and
the noise told from the archive itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.kernels.clustering.reduction import Points

_STEPS = 10
"""Parts of the pairs, by their noise, each with a median of its own."""
_FEWEST = 50
"""Pairs with which noise and spread are told apart."""
_CONTRAST = np.log(4.0)
"""Faintest pairs over clearest ones in squared noise, a logarithm: with less, noise and spread look alike."""
_FAINTEST = 1e-3


def find_parity(
    latents: Points, siblings: NDArray[np.integer[Any]], signal_to_noise: NDArray[np.floating[Any]], seed: int
) -> float:
    """Signal to noise at which noise moves a latent as far as siblings are apart without it.

    The squared distance of two siblings is 2 spread^2 + noise^2 (1 / s1^2 + 1 / s2^2), of which medians are fitted, so
    that scans whose q-bins move in ways of their own do not decide.

    Parameters
    ----------
    latents : (n, d)
    siblings : (n,)
        Number of the moment of each: equal for maps that are siblings.
    signal_to_noise : (n,)
    seed : int
        Pairs are drawn by chance.

    Returns
    -------
    float
        0 where there are too few pairs to tell: nobody leans on others. At most that of the clearest pairs, which can
        show no smaller spread.
    """
    order = np.random.default_rng(seed).permutation(len(latents))
    order = order[np.argsort(siblings[order], kind="stable")]
    first, second = order[:-1], order[1:]
    noise = 1 / np.maximum(signal_to_noise, _FAINTEST) ** 2
    unsure = noise[first] + noise[second]
    is_pair = (siblings[first] == siblings[second]) & np.isfinite(unsure)
    with np.errstate(over="ignore", invalid="ignore"):
        far = ((latents[first] - latents[second]) ** 2).sum(axis=1, dtype=np.float64)
    is_pair &= np.isfinite(far) & (far > 0)
    return _parity(unsure[is_pair], far[is_pair]) if is_pair.sum() >= _FEWEST else 0.0


def _parity(unsure: NDArray[np.float64], far: NDArray[np.float64]) -> float:
    from scipy.optimize import least_squares

    steps = np.array_split(np.argsort(unsure), _STEPS)
    at, found = (np.log([np.median(values[step]) for step in steps]) for values in (unsure, far))
    if at[-1] - at[0] < _CONTRAST:
        return 0.0

    def misses(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.logaddexp(logs[0], logs[1] + at) - found)

    spread, noise = least_squares(misses, [found[0], found[-1] - at[-1]], loss="soft_l1").x
    return float(np.exp(min(np.log(2) + noise - spread, np.log(2) - at[0]) / 2))


def lean(
    latents: Points,
    siblings: NDArray[np.integer[Any]],
    signal_to_noise: NDArray[np.floating[Any]],
    parity: float,
) -> NDArray[np.float32]:
    """Latents of maps that lean on their siblings, (n, d).

    Parameters
    ----------
    latents : (n, d)
    siblings, signal_to_noise : (n,)
        As for `find_parity`.
    parity : float
        Signal to noise of maps that lean by half; 0: none does.
    """
    own = np.asarray(latents, dtype=np.float32)
    if not parity:
        return own
    known = np.maximum(np.nan_to_num(signal_to_noise), _FAINTEST) ** 2
    share = parity**2 / (parity**2 + known)
    weight = np.where(np.isfinite(own).all(axis=1), known / (parity**2 + known), 0.0)
    moments, place = np.unique(siblings, return_inverse=True)
    total = np.bincount(place, weight, minlength=len(moments))
    sums = np.zeros((len(moments), own.shape[1]))
    np.add.at(sums, place, weight[:, None] * np.nan_to_num(own))
    leans = (total[place] > 0) & (weight > 0)
    mean = sums[place[leans]] / total[place[leans], None]
    found = own.copy()
    found[leans] += (share[leans, None] * (mean - own[leans])).astype(np.float32)
    return found
