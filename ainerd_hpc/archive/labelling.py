"""The way from embedded maps to their labels: a fit on a coreset, then every map, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ainerd_hpc.archive.cluster_fit import TRUST, Fit
from ainerd_hpc.archive.embedded_maps import EmbeddedMaps, leaning
from ainerd_hpc.archive.tables import within_blocks
from ainerd_hpc.kernels.clustering.coreset import coreset
from ainerd_hpc.kernels.clustering.drift import NOVEL, drifted
from ainerd_hpc.kernels.clustering.fitting import Partition, Settings, clustered, partition, within_edges
from ainerd_hpc.kernels.clustering.novelty import against
from ainerd_hpc.kernels.clustering.overlap import identify
from ainerd_hpc.kernels.clustering.placing import Belonging, Clustered, Placing, is_sparse, renumbered
from ainerd_hpc.kernels.clustering.rare import MOST, rare, smallest
from ainerd_hpc.kernels.clustering.reduction import can_be_placed
from ainerd_hpc.kernels.clustering.separation import UNKNOWN, separation

Rows = NDArray[np.int64]

_FIELDS = {"x": "f8", "y": "f8", "label": "i8", "probability": "f8", "novelty": "f8"}
_FIELDS |= {"next_label": "i8", "next_probability": "f8", "is_sparse": "?"}
COLUMNS = tuple(_FIELDS)[:-1]
"""What is said of each map in the table of maps."""


class Fitted(NamedTuple):
    """A fit, and where the maps that it is made of stand in the archive."""

    fit: Fit
    partition: Partition | None
    """None for a given fit."""
    rows: Rows
    """Places of the maps of `fit.main` in the archive; none for a given fit."""
    rare_rows: Rows
    """Places of those of `fit.rare`."""
    number: Rows | None = None
    """Numbers of the clusters by those that they were found with, (k,), where these are others."""


class Labelling:
    """Labels of all maps of an archive.

    Parameters
    ----------
    maps : EmbeddedMaps
    settings : Settings
    spool : file
        A temporary one that holds what was found of each map until it is wanted, 57 bytes a map.

    Attributes
    ----------
    maps : EmbeddedMaps
        As they are clustered: faint ones lean on their siblings.
    """

    def __init__(self, maps: EmbeddedMaps, settings: Settings, spool: IO[bytes]) -> None:
        self.maps, self._settings, self._spool = maps, settings, spool
        self.scans = maps.scans()
        placed = [can_be_placed(latents) for latents in maps.latents()]
        self.is_placed, self._num_blocks = np.concatenate(placed), len(placed)

    def anew(self, size: int) -> Fitted:
        """Cluster a coreset of at most `size` maps, place all others, and look for rare kinds among them."""
        parity = self.maps.find_parity(self.scans, self._settings.seed)
        self.maps = self.maps.leaning(parity)
        candidates = np.flatnonzero(self.is_placed)
        rows = candidates[coreset(self.scans[candidates], size, self._settings.seed)]
        latents, scans = self.maps.latents_of(rows), self.scans[rows]
        found = partition(latents, scans, self._settings, len(rows) / max(len(candidates), 1))
        main = clustered(latents, self._settings, found)
        words = separation(latents, found.groups.label, scans)
        trust = pd.DataFrame(dict(zip(TRUST, (found.stability, found.groups.persistence, words), strict=True)))
        whole = Fitted(Fit(main, None, self.maps.ids_of(rows), trust, parity), found, rows, rows[:0])
        if len(rows) == len(candidates):
            self._place(whole)
            return whole
        return self._with_rare(whole._replace(fit=whole.fit._replace(main=within_edges(main))))

    def with_fit(self, fit: Fit) -> Fitted:
        """Place all maps among those of a given fit."""
        self.maps = self.maps.leaning(fit.parity)
        nothing = np.zeros(0, dtype=np.int64)
        given = Fitted(fit, None, nothing, nothing)
        self._place(given)
        return given

    def _with_rare(self, found: Fitted) -> Fitted:
        sparse, placing = self._place(found)
        chance = np.random.default_rng(self._settings.seed).permutation(sparse)
        seen = np.sort(chance[:MOST])
        latents = self.maps.latents_of(seen)
        least = smallest(int(self.is_placed.sum()), len(seen) / max(len(sparse), 1))
        more = rare(latents, least, placing) if placing else None
        if more is None:
            return found
        first, persistence, members = len(found.fit.main.reach), more.persistence, more.members
        added = pd.DataFrame({"stability": np.nan, "persistence": persistence, "separation": UNKNOWN})
        trust = pd.concat([found.fit.trust, added.set_index(first + np.arange(len(persistence)))])
        kinds = renumbered(more.clustered, first + np.arange(len(persistence)))
        return found._replace(fit=found.fit._replace(rare=kinds, trust=trust), rare_rows=seen[members])

    def _place(self, found: Fitted) -> tuple[Rows, Placing | None]:
        """Write down what is found of each map; rows of those in sparse places, and what placed them."""
        main, rows = found.fit.main, found.rows
        placing = Placing(main) if len(rows) < self.is_placed.sum() else None
        known = _of_fitted(main) if len(rows) else _nothing(0)
        sparse, start = [rows[:0]], 0
        for latents in self.maps.latents():
            block, stop = _nothing(len(latents)), start + len(latents)
            inside = slice(*np.searchsorted(rows, (start, stop)))
            block[rows[inside] - start] = known[inside]
            left = np.setdiff1d(np.flatnonzero(self.is_placed[start:stop]), rows[inside] - start)
            if placing and len(left):
                block[left] = _of_placed(placing, latents[left])
            np.save(self._spool, block)
            sparse.append(start + np.flatnonzero(block["is_sparse"]))
            start = stop
        return np.concatenate(sparse), placing

    def settle(self, found: Fitted) -> None:
        """Give clusters their numbers, and let maps in sparse places be of rare kinds, where there are such."""
        kinds, name = found.fit.rare, None if found.number is None else np.append(found.number, -1)
        if kinds is None and name is None:
            return
        placing = Placing(kinds) if kinds is not None else None
        self._spool.seek(0)
        for latents in self.maps.latents():
            place = self._spool.tell()
            said = np.load(self._spool)
            if name is not None:
                said["label"], said["next_label"] = name[said["label"]], name[said["next_label"]]
            if placing:
                _claim(placing, said, latents)
            self._spool.seek(place)
            np.save(self._spool, said)

    def speakers(self, found: Fitted, size: int) -> Rows:
        """Rows of the maps whose physics are told of the clusters: of those that were clustered, or of as many."""
        if found.partition:
            return np.union1d(found.rows, found.rare_rows)
        return coreset(self.scans, size, self._settings.seed)

    def drift(self, fit: Fit) -> str:
        """A line where more of the new maps than chance explains are in no cluster, or novel; else nothing."""
        known, labels, novelty = set(fit.map_ids.tolist()), [], []
        for block, said in zip(self.maps.ids(), self.said(), strict=True):
            is_new = ~block.isin(known).to_numpy() & np.isfinite(said["x"])
            labels.append(said["label"][is_new])
            novelty.append(said["novelty"][is_new])
        return drifted(
            np.concatenate(labels) < 0,
            np.concatenate(novelty) > novel_beyond(fit.main),
            float(np.mean(fit.main.belonging.label < 0)),
            len(np.unique(self.scans)),
        )

    def said(self) -> Iterator[NDArray[Any]]:
        """What was found of each map, a block at a time: `COLUMNS`."""
        self._spool.seek(0)
        for _ in range(self._num_blocks):
            yield np.load(self._spool)

    def said_of(self, rows: Rows) -> pd.DataFrame:
        """What was found of some maps, given in order."""
        found = [block[inside] for block, inside in within_blocks(self.said(), rows)]
        return pd.DataFrame(np.concatenate(found))[list(COLUMNS)]

    def sizes(self) -> pd.DataFrame:
        """How many maps and scans each cluster has, by label."""
        pairs, counts, start = [], pd.Series(dtype=np.int64), 0
        for block in self.said():
            table = pd.DataFrame({"label": block["label"], "scan": self.scans[start : start + len(block)]})
            pairs.append(table.drop_duplicates())
            counts = counts.add(table["label"].value_counts(), fill_value=0)
            start += len(block)
        scans = pd.concat(pairs).drop_duplicates()["label"].value_counts()
        return pd.DataFrame({"maps": counts, "scans": scans}).astype(np.int64)


class Placer:
    """What is said of maps that come one scan after the other, by a fit that stays in memory: as `Labelling` says it.

    Parameters
    ----------
    fit : Fit
    """

    def __init__(self, fit: Fit) -> None:
        self._parity, self._main = fit.parity, Placing(fit.main)
        self._rare = None if fit.rare is None else Placing(fit.rare)

    def said_of(self, latents: NDArray[np.float32], told: pd.DataFrame | None = None) -> pd.DataFrame:
        """`COLUMNS` of each of these maps, (n, d); those whose latents are not finite have no place.

        Maps of which rows of the index of maps are told lean on their siblings among them.
        """
        if told is not None:
            latents = leaning(latents, told, self._parity)
        said, rows = _nothing(len(latents)), np.flatnonzero(can_be_placed(latents))
        if len(rows):
            placed = _of_placed(self._main, latents[rows])
            if self._rare:
                _claim(self._rare, placed, latents[rows])
            said[rows] = placed
        return pd.DataFrame(said)[list(COLUMNS)]


def novel_beyond(main: Clustered) -> float:
    """The novelty that 95 % of the maps of a fit do not exceed."""
    return float(np.quantile(against(main.radius, float(np.median(main.radius))), NOVEL))


def _claim(placing: Placing, said: NDArray[Any], latents: NDArray[np.float32]) -> None:
    """Write into what is said of maps which of them are of rare kinds."""
    sparse = np.flatnonzero(said["is_sparse"])
    belonging = placing.place(latents[sparse]).belonging
    is_rare = belonging.label >= 0
    for field, values in belonging._asdict().items():
        said[field][sparse[is_rare]] = values[is_rare]


def _nothing(number: int) -> NDArray[Any]:
    nothing = np.zeros(number, dtype=list(_FIELDS.items()))
    for name, value in {"x": np.nan, "y": np.nan, "novelty": np.nan, "label": -1, "next_label": -1}.items():
        nothing[name] = value
    return nothing


def _said(picture: NDArray[np.float64], belonging: Belonging, novelty: NDArray[np.float64]) -> NDArray[Any]:
    said = _nothing(len(picture))
    said["x"], said["y"], said["novelty"] = picture[:, 0], picture[:, 1], novelty
    for name, values in belonging._asdict().items():
        said[name] = values
    return said


def _of_fitted(main: Clustered) -> NDArray[Any]:
    said = _said(main.picture, main.belonging, against(main.radius, float(np.median(main.radius))))
    said["is_sparse"] = is_sparse(main, main.belonging.label, main.spacing)
    return said


def _of_placed(placing: Placing, latents: NDArray[np.float32]) -> NDArray[Any]:
    placed = placing.place(latents)
    said = _said(placed.picture, placed.belonging, placing.novelty(latents))
    said["is_sparse"] = is_sparse(placing.fit, placed.belonging.label, placed.spacing)
    return said


def continued(found: Fitted, map_ids: NDArray[Any], old: Mapping[str, int]) -> tuple[Fitted, tuple[str, ...]]:
    """The same clusters with the numbers of the old ones that they continue, and what has split and merged.

    Parameters
    ----------
    found : Fitted
    map_ids : (m,)
        Of the maps of the fit, those of rare kinds last.
    old : dict of str to int
        Earlier labels, by map_id.
    """
    main, kinds = found.fit.main, found.fit.rare
    labels = [fit.belonging.label for fit in (main, kinds) if fit is not None]
    before = np.array([old.get(name, -2) for name in map_ids], dtype=np.int64)
    new, is_old = np.concatenate(labels), before > -2
    identity = identify(before[is_old], new[is_old], max(old.values(), default=-1) + 1, len(found.fit.trust))
    number = identity.number
    trust = found.fit.trust.set_axis(number[found.fit.trust.index])
    fit = found.fit._replace(main=renumbered(main, number), trust=trust)
    if kinds is not None:
        fit = fit._replace(rare=renumbered(kinds, number))
    return found._replace(fit=fit, number=number), identity.changes
