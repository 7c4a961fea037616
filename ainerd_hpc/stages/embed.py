"""Embed: maps -> latents, in groups of scans, then one table."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ainerd_hpc.archive.groups import array, columns_of, reading_group
from ainerd_hpc.archive.journal import note_published
from ainerd_hpc.archive.layout import recorded_digest
from ainerd_hpc.archive.scans import Scans
from ainerd_hpc.archive.tables import read_table, table_digest, write_table
from ainerd_hpc.correlation.windows import maps_of_each
from ainerd_hpc.digests import digest, fingerprint
from ainerd_hpc.errors import ProductError
from ainerd_hpc.models.network import Network
from ainerd_hpc.models.registry import network
from ainerd_hpc.stages.contract import Before, Stage
from ainerd_hpc.types import Load, Plan, Scan, Task


class Embed(Stage):
    """Gives every map its latent vector and its reconstruction error."""

    name = "embed"
    requires = ("maps", "train")
    memory_knob = "embed.maps_per_task"

    def product(self, key: str) -> Path:
        return self.archive.embedding_part_path(self.config.model.name, key)

    @property
    def table_path(self) -> Path:
        return self.archive.embedding_path(self.config.model.name)

    def digest(self, scans: Sequence[Scan], before: Before) -> str:
        """Digest of the model and its maps: those that it was trained on it knows already, given weights do not."""
        maps = [before.of_each("maps", scans).tolist()] if self._is_given else []
        return digest(self.name, self.version, before.of_all("train", scans), *maps)

    @property
    def _is_given(self) -> bool:
        return self.config.model.given_weights is not None

    def plan(self, scans: Sequence[Scan], before: Before) -> Plan:
        if recorded_digest(self.table_path) == before.of_all(self.name, scans):
            return Plan(self.name, self.shape, (), num_done=sum(1 for _ in self._groups(scans)))
        planned, kept = super().plan(scans, before), self._kept()
        todo = tuple(task for task in planned.tasks if task.key not in kept)
        return replace(planned, tasks=todo, num_done=planned.num_done + len(planned.tasks) - len(todo))

    def _kept(self) -> dict[str, slice]:
        """Groups whose rows the table has already, and which these are; the same maps have the same latents."""
        if table_digest(self._note_path) != fingerprint([self.table_path]):
            return {}
        try:
            note = read_table(self._note_path)
        except ProductError:
            return {}
        stops = note["num_rows"].cumsum().tolist()
        return dict(zip(note["key"], map(slice, [0, *stops], stops), strict=False))

    @property
    def _note_path(self) -> Path:
        """The groups of the table, in its order, with the number of their rows."""
        return self.archive.root / "journal" / f"embedding.{self.config.model.name}.parquet"

    def tasks(self, scans: Sequence[Scan], before: Before) -> Iterable[Task]:
        model_digest = before.of_all("train", scans)
        reads = network(self.config.model.variant)
        peak = reads.embedding_bytes()
        for group, num_maps in self._groups(scans):
            key = digest(self.name, self.version, model_digest, before.of_each("maps", group).tolist())
            read = num_maps * reads.row_bytes
            scan_ids = group.column("scan_id").tolist()
            load = Load(num_maps=num_maps, network=self.config.model.variant)
            more = {"scan_ids": scan_ids}, load, self.config.executor.threads
            yield Task(key, key, peak + 2 * read, read, num_maps * 300, *more)

    def _groups(self, scans: Sequence[Scan]) -> Iterable[tuple[Scans, int]]:
        """Neighbouring scans with about `maps_per_task` maps together, and their number of maps."""
        scans, start, num_maps = Scans.of(scans), 0, 0
        for stop, number in enumerate(maps_of_each(self.config, scans).tolist(), 1):
            num_maps += number
            if num_maps >= self.config.embed.maps_per_task or stop == len(scans):
                yield scans[start:stop], num_maps
                start, num_maps = stop, 0

    def work(self, task: Task) -> Mapping[str, float]:
        table = self.embedded(task.args["scan_ids"])
        write_table(self.product(task.key), table, task.digest)
        return {"maps": float(len(table))}

    def embedded(self, scan_ids: Sequence[str]) -> pd.DataFrame:
        """The maps of these scans, a row each, with their latents and what the network says of them."""
        from ainerd_hpc.models.embedding import embed
        from ainerd_hpc.training.trained import trained_model

        model = trained_model(self.archive, self.config)
        network = model.network
        read = [self._read(scan_id, network) for scan_id in scan_ids]
        lengths = [len(arrays[0]) for arrays in read]
        maps, *columns = (np.concatenate(arrays) for arrays in zip(*read, strict=True))
        found = embed(model, maps, columns[: len(network.columns)])
        return pd.DataFrame(
            {
                "scan_id": np.repeat(scan_ids, lengths),
                "row": np.concatenate([np.arange(length) for length in lengths]),
                "latent": list(found.latents),
                "reconstruction_l1": found.errors,
                **_corrected(network.corrects, columns[len(network.columns) :], found.factors),
            }
        )

    def _read(self, scan_id: str, network: Network) -> list[np.ndarray]:
        """What the network reads of a scan, the columns that it takes, and those that it corrects."""
        with reading_group(self.archive.maps_path(scan_id)) as group:
            columns = columns_of(group)
            maps = np.asarray(array(group, network.reads)[...])
        return [maps, *(columns[name].to_numpy() for name in (*network.columns, *network.corrects))]

    def finish(self, scans: Sequence[Scan], before: Before) -> None:
        """Put the parts together, a row a map in the order of the map index."""
        expected = before.of_all(self.name, scans)
        if recorded_digest(self.table_path) != expected:
            keys, kept = [task.key for task in self.tasks(scans, before)], self._kept()
            known = read_table(self.table_path).drop(columns="map_id") if kept else pd.DataFrame()
            parts = [known.iloc[kept[key]] if key in kept else read_table(self.product(key)) for key in keys]
            index = read_table(self.archive.map_index_path, ["map_id", "scan_id", "row"])
            table = index.merge(pd.concat(parts, ignore_index=True), on=["scan_id", "row"], validate="one_to_one")
            write_table(self.table_path, table, expected)
            note = pd.DataFrame({"key": keys, "num_rows": list(map(len, parts))})
            write_table(self._note_path, note, fingerprint([self.table_path]))
            note_published(self.archive.root, self.table_path)
        shutil.rmtree(self.product("any").parent, ignore_errors=True)


def _corrected(
    names: Sequence[str], columns: Sequence[np.ndarray], factors: NDArray[np.float32]
) -> dict[str, np.ndarray]:
    """The columns that the network knows better, with their standard errors."""
    known: dict[str, np.ndarray] = {}
    for name, column, factor, share in zip(names, columns, factors[:, ::2].T, factors[:, 1::2].T, strict=True):
        known |= {f"expected_{name}": column * factor, f"expected_{name}_err": column * factor * share}
    return known
