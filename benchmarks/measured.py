"""Scores of embeddings on measured maps, of which no one knows the truth, but which of them belong together.

The folder of the data holds those of Horwath et al., Nat. Commun. 15, 5945 (2024) in `ainerd-2024`, of Konstantinova et
al., Sci. Rep. 11, 14756 (2021) in `bnl-c2-2021` and of Konstantinova et al. (2022) in `bnl-c2-2022`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.evaluation.scores import nearest_neighbours, retrieval
from ainerd_hpc.kernels.nearest import Scales
from benchmarks.embeddings import VARIANT, Embedded, Make

UNDER_SHEAR = 200.0
"""s on the clock of the rheometer at which the sample was left to rest."""
_SCALES = ["log_half_decay", "log_contrast"]
_AGE, _STEP = 100, 50
"""Frames of a window, and from one to the next, in which tau is compared with published fits."""


def scores(make: Make, folder: Path) -> dict[str, float]:
    """All scores for which the data is in the folder."""
    found: dict[str, float] = {}
    for name, measure in MEASURES.items():
        if (folder / name).is_dir():
            found |= measure(make, folder / name)
    return found


def absent(folder: Path | None) -> list[str]:
    """Names of the data that is not there."""
    return [name for name in MEASURES if folder is None or not (folder / name).is_dir()]


def groups(make: Make, folder: Path) -> dict[str, float]:
    """Whether the nearest other window is of the same sample and region, in a fifth of the measurements, from which the
    embedding was not made."""
    with np.load(folder / "maps.npz") as file:
        single = ~file["is_target"]
        c2, group, measurement = (file[name][single] for name in ("c2", "group", "measurement"))
    c2 = c2.astype(np.float32)
    names = np.random.default_rng(0).permutation(np.unique(measurement))
    is_known = np.isin(measurement, names[len(names) // 5 :])
    embed = make(list(c2[is_known]), measurement[is_known].tolist(), 0)
    found = embed(list(c2[~is_known]))
    return {"retrieval": retrieval(found.latents, group[~is_known]), **_with_scales(found, group[~is_known])}


def _with_scales(found: Embedded, group: NDArray[Any]) -> dict[str, float]:
    """The same where half decay and contrast count, too, as for `ainerd-hpc similar --scales`."""
    if found.numbers is None or not set(_SCALES) <= set(found.numbers):
        return {}
    numbers = found.numbers[_SCALES].to_numpy(np.float64)
    latents = Scales.of(found.latents, numbers).coordinates(found.latents, numbers)
    return {"retrieval_scales": retrieval(latents, group)}


def published_maps(make: Make, folder: Path) -> dict[str, float]:
    """Symmetry of the sectors of a scan, and shear against rest, of the maps that the published latents decode to.

    Returns
    -------
    dict
        friedel_offset: sectors between which the maps of a scan are nearest, on average: q and -q are 9 apart.
        friedel_ratio: that distance at 9 over the one at 4 and 5, where q is turned by 90 degrees. shear_purity: share
        of the maps under shear whose nearest neighbour of another scan is, too.
    """
    from ainerd_hpc.models.embedding import decode_latents
    from ainerd_hpc.models.weights import load_model

    model = load_model(VARIANT, folder / "autoencoder_weights.npz")
    c2 = 1 + decode_latents(model, np.load(folder / "latents.npy"))
    start, sector = np.load(folder / "scan_start_s.npy"), np.load(folder / "sector.npy")
    latents = make(list(c2), start.tolist(), 0)(list(c2)).latents
    in_order = latents[np.lexsort((sector, start))].reshape(50, 18, -1)
    apart = [np.linalg.norm(in_order - np.roll(in_order, by, axis=1), axis=2).mean() for by in range(1, 10)]
    nearest, sheared = nearest_neighbours(latents, start).place, start < UNDER_SHEAR
    return {
        "friedel_offset": float(np.argmin(apart) + 1),
        "friedel_ratio": float(apart[8] / np.mean(apart[3:5])),
        "shear_purity": float(np.mean(sheared[nearest][sheared])),
    }


def published_fits(make: Make, folder: Path) -> dict[str, float]:
    """Median factor between tau in windows of age and the median of the published fits in them that are trusted."""
    c2 = np.load(folder / "c2.npy")
    fits = json.loads((folder / "final_fit_results_model.json").read_text(encoding="utf-8"))["1"]
    tau = 1 / np.array(fits["parameters"]["gamma"])
    tau[~np.array(fits["trust_regions"]["gamma"], dtype=bool)] = np.nan
    windows = [slice(start, start + _AGE) for start in range(0, len(c2) - _AGE + 1, _STEP)]
    parts = [c2[window, window] for window in windows]
    numbers = make(parts * 4, [0] * 4 * len(parts), 0)(parts).numbers
    if numbers is None or "log_tau" not in numbers:
        return {}
    far = numbers["log_tau"] + np.log(_AGE) - np.log([np.nanmedian(tau[window]) for window in windows])
    return {"tau_factor": float(np.exp(np.nanmedian(np.abs(far))))}


MEASURES: Mapping[str, Callable[[Make, Path], dict[str, float]]] = {
    "bnl-c2-2021": groups,
    "ainerd-2024": published_maps,
    "bnl-c2-2022": published_fits,
}
"""What is measured on each folder of data."""
