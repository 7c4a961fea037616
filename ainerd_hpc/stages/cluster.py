"""Cluster: latents -> a picture, groups with probabilities, and novelty, tied to the sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from ainerd_hpc.archive.tables import read_table, write_table
from ainerd_hpc.console import tell
from ainerd_hpc.correlation.windows import count_maps
from ainerd_hpc.digests import digest
from ainerd_hpc.kernels import clusters
from ainerd_hpc.report.words import kinds_in_words
from ainerd_hpc.sources.catalog import sample_columns
from ainerd_hpc.stages.contract import Before, Stage
from ainerd_hpc.types import Load, Scan, Shape, Task


class Cluster(Stage):
    """One table, a row a map: where it lies, what it belongs to, how it relaxes, what was done to the sample then."""

    name = "cluster"
    requires = ("maps", "embed")
    memory_knob = "source.select, or maps.windows and maps.overlap: fewer maps"
    shape = Shape.SINGLE
    version = 2  # 2: novelty by the share of maps that are near; kinds in words
    remarks: ClassVar = {"maps without a place": "their latents are not finite, so they belong to no cluster"}

    def product(self, key: str) -> Path:
        return self.archive.clusters_path(key)

    def digest(self, scans: Sequence[Scan], before: Before) -> str:
        embedding = before.of_all("embed", scans)
        return digest(self.name, self.version, self.config.cluster, embedding, before.sample_log_digest)

    def tasks(self, scans: Sequence[Scan], before: Before) -> Iterable[Task]:
        num_maps = count_maps(self.config, scans)
        peak = clusters.peak_bytes(num_maps, clusters.neighbours(num_maps, self.config.cluster.num_neighbours))
        task_digest, load = before.of_all(self.name, scans), Load(num_maps=num_maps)
        yield Task(self.config.model.name, task_digest, peak, num_maps * 500, num_maps * 300, load=load)

    def work(self, task: Task) -> Mapping[str, float]:
        index = read_table(self.archive.map_index_path)
        embedding = read_table(self.archive.embedding_path(self.config.model.name))
        latents = np.stack(embedding["latent"].to_list())
        table = index.merge(embedding[["map_id", "reconstruction_l1"]], on="map_id", validate="one_to_one")
        is_placed = clusters.can_be_placed(latents)
        placed = self._placed(latents[is_placed]).set_axis(table.index[is_placed])
        table = table.join(placed).fillna({"label": -1, "probability": 0.0}).astype({"label": np.int64})
        table["kind"] = table["label"].map(kinds_in_words(table)).astype("string")
        log = read_table(self.archive.sample_log_path)
        table = pd.concat([table, sample_columns(log, table["time"].to_numpy(), table.columns)], axis=1)
        write_table(self.product(task.key), table, task.digest)
        figures = {"maps": len(table), "clusters": table["label"].max() + 1, "noise_share": np.mean(table["label"] < 0)}
        lost = {"maps without a place": np.sum(~is_placed)} if not is_placed.all() else {}
        return {name: float(value) for name, value in (figures | lost).items()}

    def _placed(self, latents: np.ndarray) -> pd.DataFrame:
        """Where each of these lies, and what it belongs to."""
        config = self.config.cluster
        near = clusters.neighbours(len(latents), config.num_neighbours)
        picture = clusters.reduce(latents, 2, near, config.min_dist, config.seed)
        points = latents
        if config.space == "umap":
            points = clusters.reduce(latents, config.dimensions, near, 0.0, config.seed)
        smallest = clusters.smallest(len(points), config.min_cluster_size)
        samples = clusters.samples(smallest, config.min_samples)
        groups = clusters.group(points, smallest, samples, config.selection)
        if len(points) < clusters.fewest(smallest, samples):
            tell(f"{len(points)} maps are fewer than cluster.min_cluster_size or min_samples ask for: no cluster")
        places = {"x": picture[:, 0], "y": picture[:, 1]}
        return pd.DataFrame({**places, **groups._asdict(), "novelty": clusters.novelty(latents)})
