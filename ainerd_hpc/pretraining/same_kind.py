"""python -m ainerd_hpc.pretraining.same_kind [--weights FILE] [--archives 5] [--maps 1000] [--seed 101]

How far apart the halves of one kind lie in the latents of `lag_age`: of each kind that it was trained on, in archives
that are drawn anew (SIMULATED), the scans are cut in two by k-means. Nine of ten halves are nearer than `same_kind` in
`models/registry.py`: rather may one kind in ten stay in two clusters than two kinds become one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.evaluation.archives import KnownArchive, draw_archive
from ainerd_hpc.evaluation.scores import leaning
from ainerd_hpc.kernels.cells import cells
from ainerd_hpc.models.embedding import embed
from ainerd_hpc.models.model import Model
from ainerd_hpc.models.registry import network
from ainerd_hpc.models.weights import load_model

_SHARES = (50, 75, 90, 95)


def main() -> None:
    """Draw archives, and print distances below which so many per cent of the halves are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=network("lag_age").own_weights)
    for name, value in {"archives": 5, "maps": 1000, "seed": 101}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    model, found = load_model("lag_age", options.weights), []
    for seed in range(options.seed, options.seed + options.archives):
        archive = draw_archive(seed, options.maps, num_viewed=0, rare=())
        found += halves(*scans_of(model, archive))
        told = ", ".join(f"{share} %: {np.percentile(found, share):.2f}" for share in _SHARES)
        print(f"archive {seed}: {len(found)} kinds so far, {told}", flush=True)


def scans_of(model: Model, archive: KnownArchive) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Mean latent (scans, d) and kind of each scan of an archive."""
    made = [cells(one) for one in archive.c2]
    latents = embed(model, np.stack([one.values for one in made])).latents
    scans = archive.truth["scan"].to_numpy()
    seen = leaning(latents, scans, np.array([one.signal_to_noise for one in made]))
    _, first, place = np.unique(scans, return_index=True, return_inverse=True)
    sums = np.zeros((len(first), seen.shape[1]))
    np.add.at(sums, place, seen)
    return sums / np.bincount(place)[:, None], archive.truth["kind"].to_numpy(dtype=str)[first]


def halves(latents: NDArray[np.float64], kinds: NDArray[np.str_]) -> list[float]:
    """Distance between the two halves of each kind."""
    from sklearn.cluster import KMeans

    found = []
    for kind in np.unique(kinds):
        centres = KMeans(2, n_init=5, random_state=0).fit(latents[kinds == kind]).cluster_centers_
        found.append(float(np.linalg.norm(centres[0] - centres[1])))
    return found


if __name__ == "__main__":
    main()
