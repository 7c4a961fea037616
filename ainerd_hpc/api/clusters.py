"""One cluster of an archive: its maps, what stands for it, and how it shows itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from ainerd_hpc.api.pages import cluster_page
from ainerd_hpc.api.tables import Tables
from ainerd_hpc.archive.map_reader import MapReader
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.types import MAP_SIZE


class Cluster:
    """What an archive knows of one cluster.

    Parameters
    ----------
    archive : Tables
    label : int
    """

    def __init__(self, archive: Tables, label: int) -> None:
        self.archive = archive
        self.label = label

    @property
    def summary(self) -> pd.Series:
        """Its row of `Archive.clusters`.

        Raises
        ------
        ConfigError
            There is no such cluster.
        """
        clusters = self.archive.clusters
        if self.label not in clusters.index:
            raise ConfigError(f"cluster {self.label}: expected one of {list(clusters.index)}")
        return pd.Series(clusters.loc[self.label])

    @property
    def maps(self) -> pd.DataFrame:
        """The rows of `Archive.maps` with its label."""
        maps = self.archive.maps
        return maps[maps["label"] == self.label]

    @property
    def exemplars(self) -> xr.DataArray:
        """The maps that stand for it, (map_id, y, x) float32, as the network of the paper sees C2: 0..1 from 1 on."""
        chosen = self.archive.maps.set_index("map_id").loc[list(self.summary["exemplars"])].reset_index()
        reader = MapReader(self.archive.layout, chosen)
        pictures = np.array([reader[i] for i in range(len(chosen))], np.float32).reshape(-1, MAP_SIZE, MAP_SIZE)
        coordinates = {"map_id": chosen["map_id"].to_numpy()}
        return xr.DataArray(pictures, coordinates, ("map_id", "y", "x"), "exemplars")

    def __repr__(self) -> str:
        return f"<cluster {self.label} of {self.archive.path}>"

    def _repr_html_(self) -> str:
        return cluster_page(self.archive, self.summary)
