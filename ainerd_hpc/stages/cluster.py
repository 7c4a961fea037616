"""Cluster: latents -> a picture, groups with what they are worth, and novelty, tied to the sample."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from ainerd_hpc.archive.cluster_fit import Fit, read_fit, write_fit
from ainerd_hpc.archive.cluster_summary import summarise
from ainerd_hpc.archive.embedded_maps import EmbeddedMaps
from ainerd_hpc.archive.labelling import COLUMNS, Fitted, Labelling, continued
from ainerd_hpc.archive.tables import read_blocks, read_table, write_table, writing_table
from ainerd_hpc.console import tell
from ainerd_hpc.correlation.windows import count_maps
from ainerd_hpc.digests import digest, sha256
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.kernels.clustering import density
from ainerd_hpc.kernels.clustering.fitting import Settings, peak_bytes
from ainerd_hpc.kernels.clustering.reduction import neighbours
from ainerd_hpc.models.registry import network
from ainerd_hpc.report.words import kinds_in_words
from ainerd_hpc.sources.catalog import sample_columns
from ainerd_hpc.stages.contract import Before, Stage
from ainerd_hpc.types import Load, Scan, Shape, Task


class Cluster(Stage):
    """One table, a row a map: where it lies, what it belongs to, how it relaxes, what was done to the sample then.

    Beside it a row for each cluster, and the fit, with which other maps can be told.
    """

    name = "cluster"
    requires = ("maps", "embed")
    memory_knob = "cluster.coreset, or source.select, maps.windows and maps.overlap: fewer maps"
    shape = Shape.SINGLE
    version = 4  # 2: novelty by nearness; kinds in words. 3: size by stability; coreset. 4: siblings; halves of a kind
    remarks: ClassVar = {"maps without a place": "their latents are not finite, so they belong to no cluster"}

    def product(self, key: str) -> Path:
        return self.archive.clusters_path(key)

    def beside(self, key: str) -> tuple[Path, ...]:
        own = () if self.config.cluster.fit else (self.archive.cluster_fit_path(key),)
        return (*own, self.archive.cluster_summary_path(key))

    def digest(self, scans: Sequence[Scan], before: Before) -> str:
        """Digest of the options, the embedding and the sample log, and of a given fit by its content."""
        options = self.config.cluster.model_copy(update={"fit": self._fit_digest()})
        embedding = before.of_all("embed", scans)
        return digest(self.name, self.version, options, embedding, before.sample_log_digest)

    def _fit_digest(self) -> str | None:
        path = self.config.cluster.fit
        if path and not path.is_file():
            raise ConfigError(f"cluster.fit {path}: no such file; correct the path, or leave it out to cluster anew")
        return sha256(path) if path else None

    def tasks(self, scans: Sequence[Scan], before: Before) -> Iterable[Task]:
        num_maps, config = count_maps(self.config, scans), self.config.cluster
        num_fitted = 0 if config.fit else min(num_maps, config.coreset)
        peak = peak_bytes(num_maps, num_fitted, neighbours(num_fitted, config.num_neighbours))
        task_digest = before.of_all(self.name, scans)
        load = Load(num_maps=num_fitted, num_placed=num_maps - num_fitted)
        yield Task(self.config.model.name, task_digest, peak, num_maps * 500, num_maps * 300, load=load)

    def work(self, task: Task) -> Mapping[str, float]:
        config, path = self.config.cluster, self.product(task.key)
        maps = EmbeddedMaps(self.archive.map_index_path, self.archive.embedding_path(task.key))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent) as spool:
            labelling = Labelling(maps, self._settings(), spool)
            if config.fit:
                found = labelling.with_fit(_fitting(read_fit(config.fit), maps, config.fit))
            else:
                found = _as_before(labelling.anew(config.coreset), maps, path)
                self._tell_of(found)
                write_fit(self.archive.cluster_fit_path(task.key), found.fit, task.digest)
            return self._write(task, labelling, found)

    def _settings(self) -> Settings:
        return self.config.cluster.settings(network(self.config.model.variant).same_kind)

    def _tell_of(self, found: Fitted) -> None:
        partition = found.partition
        if partition and len(found.rows) < density.fewest(partition.min_cluster_size, partition.min_samples):
            few = f"{len(found.rows)} maps are fewer than cluster.min_cluster_size or min_samples ask for: no cluster"
            tell(few)

    def _write(self, task: Task, labelling: Labelling, found: Fitted) -> Mapping[str, float]:
        """Publish the table of clusters, then that of maps."""
        fit, maps, log = found.fit, labelling.maps, read_table(self.archive.sample_log_path)
        labelling.settle(found)
        if not found.partition and (line := labelling.drift(fit)):
            tell(line)
        rows = labelling.speakers(found, self.config.cluster.coreset)
        speakers = pd.concat([maps.rows(rows), labelling.said_of(rows)], axis=1)
        kinds, sizes = kinds_in_words(speakers), labelling.sizes()
        summary = summarise(speakers, maps.latents_of(rows), fit.trust, sizes, kinds)
        write_table(self.archive.cluster_summary_path(task.key), summary, task.digest)
        with writing_table(self.product(task.key), task.digest) as append:
            for block, said in zip(maps.blocks(), labelling.said(), strict=True):
                table = pd.concat([block.table, pd.DataFrame(said)[list(COLUMNS)]], axis=1)
                table["stability"] = table["label"].map(fit.trust["stability"]).astype(np.float64)
                table["kind"] = table["label"].map(kinds).astype("string")
                sample = sample_columns(log, table["time"].to_numpy(), table.columns)
                append(pd.concat([table, sample], axis=1))
        noise, total = sizes["maps"].get(-1, 0), sizes["maps"].sum()
        figures = {"maps": total, "clusters": len(summary), "noise_share": noise / total}
        if found.partition and np.isfinite(found.partition.agreement):
            figures["agreement"] = found.partition.agreement
        lost = np.sum(~labelling.is_placed)
        figures |= {"maps without a place": lost} if lost else {}
        return {name: float(value) for name, value in figures.items()}


def _fitting(fit: Fit, maps: EmbeddedMaps, path: Path) -> Fit:
    """A given fit, which has to be of latents such as these."""
    own, given = next(maps.latents()).shape[1], fit.main.latents.shape[1]
    if own != given:
        raise ConfigError(
            f"cluster.fit {path}: expected latents of {own} numbers, found {given}; give one of this model"
        )
    return fit


def _as_before(found: Fitted, maps: EmbeddedMaps, path: Path) -> Fitted:
    """The same clusters with the numbers that they had in the table of maps that is there, if any."""
    if not path.exists():
        return found
    ids = np.concatenate([found.fit.map_ids, maps.ids_of(np.sort(found.rare_rows))])
    known, old = set(ids.tolist()), dict[str, int]()
    for block in read_blocks(path, ["map_id", "label"]):
        some = block[block["map_id"].isin(known)]
        old.update(zip(some["map_id"], some["label"].tolist(), strict=True))
    same, changes = continued(found, ids, old)
    for change in changes:
        tell(change)
    return same
