"""The fit of clusters as a table: a row for each map that speaks for others."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ainerd_hpc.archive.tables import read_table, write_table
from ainerd_hpc.errors import ProductError
from ainerd_hpc.kernels.clustering.placing import Belonging, Clustered

_OF_CLUSTERS = ("reach", "densest", "edge")
TRUST = ("stability", "persistence", "separation")
"""What is said of a cluster: how it comes back, how long it lasts, and whether it is a class."""


class Fit(NamedTuple):
    """Clusters, and what it takes to tell which other maps are theirs."""

    main: Clustered
    rare: Clustered | None
    """Kinds that were found in sparse places, by latents alone; their labels follow those of `main`."""
    map_ids: NDArray[Any]
    """Ids of the maps of `main`."""
    trust: pd.DataFrame
    """`TRUST` by label."""
    parity: float
    """Signal to noise of maps that lean on their siblings by half."""


def write_fit(path: Path, fit: Fit, digest: str) -> None:
    """Publish a fit."""
    parts = [_rows(fit.main, fit.trust).assign(map_id=fit.map_ids, is_rare=False)]
    if fit.rare is not None:
        parts.append(_rows(fit.rare, fit.trust).assign(map_id="", is_rare=True))
    write_table(path, pd.concat(parts, ignore_index=True).assign(parity=fit.parity), digest)


def _rows(fit: Clustered, trust: pd.DataFrame) -> pd.DataFrame:
    label, points = fit.belonging.label, np.asarray(fit.points, dtype=np.float64)
    of_cluster = {name: np.append(getattr(fit, name), np.nan)[label] for name in _OF_CLUSTERS}
    places = {"x": fit.picture[:, 0], "y": fit.picture[:, 1], "latent": list(fit.latents), "point": list(points)}
    of_point = {"radius": fit.radius, "core": fit.core, "spacing": fit.spacing, "min_samples": fit.min_samples}
    table = pd.DataFrame({**fit.belonging._asdict(), **places, **of_point, **of_cluster})
    return table.join(trust, on="label")


def read_fit(path: Path) -> Fit:
    """Read a fit.

    Raises
    ------
    ProductError
        It is missing or damaged, or no fit.
    """
    table = read_table(path)
    try:
        is_rare = table["is_rare"].to_numpy(dtype=bool)
        rare = _clustered(table[is_rare]) if is_rare.any() else None
        trust = table[table["label"] >= 0].groupby("label")[list(TRUST)].first()
        return Fit(
            _clustered(table[~is_rare]),
            rare,
            table.loc[~is_rare, "map_id"].to_numpy(),
            trust,
            float(table["parity"].iloc[0]),
        )
    except (KeyError, ValueError):
        raise ProductError(path, f"expected a fit of clusters, found a table of {list(table)[:3]}") from None


def _clustered(table: pd.DataFrame) -> Clustered:
    latents = np.stack(table["latent"].to_list())
    points = np.stack(table["point"].to_list())
    label = table["label"].to_numpy()
    of_cluster = {name: np.zeros(label.max(initial=-1) + 1) for name in _OF_CLUSTERS}
    for name, values in of_cluster.items():
        values[label[label >= 0]] = table[name].to_numpy()[label >= 0]
    return Clustered(
        latents=latents,
        points=latents if np.array_equal(points, latents) else points,
        picture=table[["x", "y"]].to_numpy(),
        belonging=Belonging(*(table[name].to_numpy() for name in Belonging._fields)),
        radius=table["radius"].to_numpy(),
        core=table["core"].to_numpy(),
        spacing=table["spacing"].to_numpy(),
        reach=of_cluster["reach"],
        densest=of_cluster["densest"],
        edge=of_cluster["edge"],
        min_samples=int(table["min_samples"].iloc[0]),
    )
