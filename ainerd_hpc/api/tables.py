"""What an archive is read from: its config and its tables, each read when it is first asked for."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import xarray as xr

from ainerd_hpc.archive import layout
from ainerd_hpc.archive.tables import read_table, read_vectors
from ainerd_hpc.errors import ConfigError

if TYPE_CHECKING:
    from ainerd_hpc.config import RunConfig


class Tables:
    """The tables of an archive.

    Parameters
    ----------
    path : Path
    model : str, optional
        Name of the model whose clusters are meant.
    """

    def __init__(self, path: Path, model: str | None = None) -> None:
        self.path = path
        self.layout = layout.Archive(path)
        self._model = model

    @cached_property
    def config(self) -> RunConfig:
        """The config that the archive was made with, which it keeps.

        Raises
        ------
        ConfigError
            It keeps none.
        """
        from ainerd_hpc.loading import load

        kept = self.layout.config_path
        if not kept.exists():
            raise ConfigError(f"{self.path}: expected an archive that keeps its config, found no {kept}; run it once")
        given = {"archive": str(self.path)} | ({"model.name": self._model} if self._model else {})
        return load(kept, [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items()])

    @property
    def model(self) -> str:
        """Name of the model whose clusters are meant."""
        return self._model or self.config.model.name

    @cached_property
    def scans(self) -> pd.DataFrame:
        """The catalog, a row for every scan, by scan_id: source, num_frames, frame_time (s), state and more."""
        return read_table(self.layout.catalog_path).set_index("scan_id")

    @cached_property
    def maps(self) -> pd.DataFrame:
        """A row for every map: where it was cut, how it moves, and, once the archive is clustered, what it is alike.

        There is no row before there are maps.
        """
        for path in (self.layout.clusters_path(self.model), self.layout.map_index_path):
            if path.exists():
                return read_table(path)
        return pd.DataFrame({"map_id": [], "scan_id": []}, dtype=str)

    @cached_property
    def clusters(self) -> pd.DataFrame:
        """A row for every cluster, by label: kind, maps, scans, stability, exemplars, quartiles of its physics.

        Raises
        ------
        ProductError
            The archive is not clustered yet.
        """
        return read_table(self.layout.cluster_summary_path(self.model)).set_index("label")

    @cached_property
    def sample_log(self) -> pd.DataFrame:
        """The sample log, with `time` in s; no row where there is none."""
        return read_table(self.layout.sample_log_path)

    @cached_property
    def latents(self) -> xr.DataArray:
        """What the network makes of every map, (map_id, latent) float32, in the order of its embedding."""
        path = self.layout.embedding_path(self.model)
        ids = read_table(path, ["map_id"])["map_id"].to_numpy()
        return xr.DataArray(read_vectors(path, "latent"), {"map_id": ids}, ("map_id", "latent"), "latents")
