"""An archive as an analysis uses it: its scans, maps and clusters as tables, its correlations as labelled arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from ainerd_hpc.api.clusters import Cluster
from ainerd_hpc.api.pages import archive_page
from ainerd_hpc.api.scans import ScanResult
from ainerd_hpc.api.tables import Tables
from ainerd_hpc.archive import layout
from ainerd_hpc.errors import ConfigError


def open(path: str | os.PathLike[str], model: str | None = None) -> Archive:
    """Open an archive. Nothing is read before it is asked for, and what was read is kept: open again to see news.

    Parameters
    ----------
    path : str or path
        Folder of the archive.
    model : str, optional
        Name of the model whose clusters are meant, where there are several; default: that of the archive's config.

    Returns
    -------
    Archive

    Raises
    ------
    ConfigError
        There is no archive.

    Examples
    --------
    >>> archive = ainerd_hpc.open(DIR)
    >>> archive
    <archive of 6 scans, 36 maps>
    >>> archive.g2("sim_0001").g2.dims
    ('q_bin', 'delay')
    """
    folder = Path(path).expanduser()
    if not layout.Archive(folder).catalog_path.exists():
        raise ConfigError(f"{folder}: expected an archive, found no catalog.parquet; give the folder that a run made")
    return Archive(folder, model)


class Archive(Tables):
    """An archive that `ainerd-hpc run` made. Use `open`.

    Parameters
    ----------
    path : Path
    model : str, optional
        Name of the model whose clusters are meant.
    """

    def scan(self, scan_id: str) -> ScanResult:
        """One scan, which shows itself in a notebook.

        Examples
        --------
        >>> archive.scan("sim_0001").maps.shape[0]
        6
        """
        return ScanResult(self, scan_id)

    def cluster(self, label: int) -> Cluster:
        """One cluster, which shows itself in a notebook."""
        return Cluster(self, label)

    def c2(self, scan_id: str, q_bin: int, frames: slice = slice(None)) -> xr.DataArray:
        """Two-time correlation of one q-bin of a scan, as `ScanResult.c2` gives it.

        Examples
        --------
        >>> c2 = archive.c2("sim_0001", q_bin=0)
        >>> c2.dims, c2.t1.attrs["units"]
        (('t1', 't2'), 's')
        """
        return self.scan(scan_id).c2(q_bin, frames)

    def g2(self, scan_id: str) -> xr.Dataset:
        """g2 of every q-bin of a scan with its standard error, as `ScanResult.g2` gives it."""
        return self.scan(scan_id).g2

    def fits(self, scan_id: str) -> xr.Dataset:
        """KWW fits of every q-bin of a scan, as `ScanResult.fits` gives them.

        Examples
        --------
        >>> archive.fits("sim_0001").tau.attrs["units"]
        's'
        """
        return self.scan(scan_id).fits

    def embed(self, maps: Sequence[np.ndarray] | Sequence[xr.DataArray]) -> xr.DataArray:
        """Latents of windows of C2 that need not be of this archive, by its model.

        Parameters
        ----------
        maps : sequence of (t, t) arrays
            Windows of C2 along its diagonal, baseline 1, such as `c2` gives; each of any length from 8 frames on.

        Returns
        -------
        DataArray, (map, latent) float32
            NaN where no two frames of a window have counts.

        Examples
        --------
        >>> archive.embed([archive.c2("sim_0001", 0)]).sizes["latent"]
        32
        """
        from ainerd_hpc.models.embedding import embed
        from ainerd_hpc.stages.maps import cut_map
        from ainerd_hpc.training.trained import trained_model

        cut = [cut_map(_square(one), self.config.maps.scaling, 1.0) for one in maps]
        known, model = [one for one in cut if one is not None], trained_model(self.layout, self.config)
        network = model.network
        latents = np.full((len(cut), network.latent_size), np.nan, np.float32)
        if known:
            read = [one.cells.astype(np.float16) if network.reads == "cells" else one.map for one in known]
            columns = [np.array([one.row[name] for one in known], np.float32) for name in network.columns]
            latents[[one is not None for one in cut]] = embed(model, np.stack(read).astype(np.float32), columns).latents
        return xr.DataArray(latents, dims=("map", "latent"), name="latents")

    def assign(self, maps: Sequence[np.ndarray] | Sequence[xr.DataArray]) -> pd.DataFrame:
        """The clusters that windows of C2 belong to, which need not be of this archive; none leans on another.

        Parameters
        ----------
        maps : sequence of (t, t) arrays
            As in `embed`.

        Returns
        -------
        DataFrame
            A row a window: label (-1: none), kind, probability, novelty (0..1), next_label, next_probability, x, y.
        """
        from ainerd_hpc.archive.cluster_fit import read_fit
        from ainerd_hpc.archive.labelling import Placer

        fit = read_fit(self.config.cluster.fit or self.layout.cluster_fit_path(self.model))
        table = Placer(fit).said_of(self.embed(maps).to_numpy())
        table.insert(1, "kind", table["label"].map(self.clusters["kind"]).astype("string"))
        return table

    def similar(self, scan: str | os.PathLike[str], num: int = 10, scales: bool = False) -> pd.DataFrame:
        """The maps of this archive that are nearest to a scan or a map of it, or to a file, nearest first.

        Parameters
        ----------
        scan : str or path
            scan_id, map_id, or a file that need not be in the archive.
        num : int
            Rows, at most.
        scales : bool
            Whether half decay and contrast count, too, each as much as how it moves.

        Returns
        -------
        DataFrame
            distance, map_id, q (1/angstrom), half_decay (s), tau (s), contrast, label, nearest_to, kind.

        Examples
        --------
        >>> len(archive.similar("sim_0001", num=3))
        3
        """
        from ainerd_hpc.commands.similar import look_for

        return look_for(os.fspath(scan), self.config, num, scales)

    def __repr__(self) -> str:
        return f"<archive of {len(self.scans)} scans, {len(self.maps)} maps>"

    def _repr_html_(self) -> str:
        return archive_page(self)


def _square(c2: np.ndarray | xr.DataArray) -> np.ndarray:
    """A window of C2 as float32.

    Raises
    ------
    ValueError
        It is none.
    """
    values = np.asarray(c2, dtype=np.float32)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or len(values) < 8:
        raise ValueError(f"expected windows of C2, (t, t) with t of 8 or more, found {values.shape}")
    return values
