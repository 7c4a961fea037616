"""What an archive knows, kept in memory, and what it says of a new scan."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from ainerd_hpc.archive.cluster_fit import read_fit
from ainerd_hpc.archive.groups import columns_of, reading_group
from ainerd_hpc.archive.labelling import Placer, novel_beyond
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.commands.similar import known_maps
from ainerd_hpc.config import RunConfig
from ainerd_hpc.correlation.windows import map_ids
from ainerd_hpc.kernels.nearest import nearest
from ainerd_hpc.report.words import phrase
from ainerd_hpc.stages.embed import Embed
from ainerd_hpc.watching.verdict import Verdict, rules, verdict

_NEAREST = 3
"""Known scans that are named."""


class Placed(NamedTuple):
    """A scan among those that are known."""

    maps: pd.DataFrame
    """A row a map: its numbers, and what the clusters say of it."""
    verdict: Verdict
    words: str
    """How its maps move: the kind of its cluster, or what they have in common."""
    nearest: dict[str, float]
    """Known scans and the distance of the nearest maps, nearest first."""


class Known:
    """The model, the clusters and the latents of an archive; scans that are placed are known from then on.

    Parameters
    ----------
    config : RunConfig
        Of the archive.

    Attributes
    ----------
    table : DataFrame
        The maps of the archive as its last run left them.
    usual : Rules

    Raises
    ------
    ConfigError
        The archive has no clusters yet.
    """

    def __init__(self, config: RunConfig) -> None:
        self._archive, name = Archive(config.archive), config.model.name
        known = known_maps(self._archive, name)
        fit = read_fit(config.cluster.fit or self._archive.cluster_fit_path(name))
        self.table, self._embed, self._placer = known.table, Embed(config), Placer(fit)
        self._kinds = known.table.groupby("label")["kind"].first()
        self.usual = rules(known.table, novel_beyond(fit.main))
        is_finite = np.isfinite(known.latents).all(axis=1)
        self._scans = known.table["scan_id"].to_numpy(object)[is_finite]
        self._latents = known.latents[is_finite]

    def place(self, scan_id: str) -> Placed:
        """Embed the maps of a scan, and say what it is; whatever was known of a scan of this name is not asked."""
        maps, latents = self._maps(scan_id)
        maps = pd.concat([maps, self._placer.said_of(latents, maps)], axis=1)
        is_finite, others = np.isfinite(latents).all(axis=1), self._scans != scan_id
        self._scans, self._latents = self._scans[others], self._latents[others]
        near, found = self._nearest(latents[is_finite]), verdict(maps, self.usual)
        self._scans = np.append(self._scans, [scan_id] * int(is_finite.sum()))
        self._latents = np.concatenate([self._latents, latents[is_finite]])
        words = self._kinds.get(found.label) if found.label >= 0 else None
        return Placed(maps, found, str(words or phrase(maps)), near)

    def _maps(self, scan_id: str) -> tuple[pd.DataFrame, np.ndarray]:
        """The maps of a scan from its product, and their latents."""
        with reading_group(self._archive.maps_path(scan_id)) as group:
            maps = columns_of(group).assign(scan_id=scan_id)
        return maps.assign(map_id=map_ids(maps)), np.stack(self._embed.embedded([scan_id])["latent"].to_list())

    def _nearest(self, latents: np.ndarray) -> dict[str, float]:
        if not len(latents) or not len(self._latents):
            return {}
        distance = pd.Series(nearest(self._latents, latents).distance).groupby(self._scans).min().nsmallest(_NEAREST)
        return {str(name): float(value) for name, value in distance.items()}
