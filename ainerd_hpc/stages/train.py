"""Train: maps -> weights of the network; or given weights, adopted as they are."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.map_reader import MapReader
from ainerd_hpc.archive.standing import read_standing
from ainerd_hpc.archive.tables import read_table
from ainerd_hpc.config import TRAIN_PLACE
from ainerd_hpc.console import Advance, Pace, every, progress
from ainerd_hpc.correlation.windows import count_maps
from ainerd_hpc.digests import digest, sha256, weights_digest
from ainerd_hpc.errors import AinerdError
from ainerd_hpc.models.registry import network
from ainerd_hpc.publishing import publishing, write_json
from ainerd_hpc.site.allocation import cores_here
from ainerd_hpc.stages.contract import Before, Stage
from ainerd_hpc.types import PROCESS_BYTES, Load, Scan, Shape, Task

_CACHE_BYTES = 4 * 2**30
"""Maps stay in memory during training if all of them fit into this, in each rank."""
_LOOK = 1.0
"""Seconds between looks at how far the training is."""


class Train(Stage):
    """Publishes models/<name>/: weights.safetensors, and model.json with how they came about."""

    name = "train"
    requires = ("maps",)
    memory_knob = "train.batch_size"
    shape = Shape.DDP

    def product(self, key: str) -> Path:
        return self.archive.model_folder(key) / "model.json"

    def beside(self, key: str) -> tuple[Path, ...]:
        return (self.archive.weights_path(key),)

    @property
    def _checkpoints(self) -> Path:
        return self.archive.checkpoints_folder(self.config.model.name)

    def digest(self, scans: Sequence[Scan], before: Before) -> str:
        """Digest of the given weights, or of the training maps and the options; ranks and memory do not count."""
        model = self.config.model
        if model.given_weights:
            return digest(self.name, self.version, weights_digest(model))
        options = self.config.train.model_copy(update=TRAIN_PLACE)
        maps = before.of_each("maps", scans).tolist()
        return digest(self.name, self.version, model.variant, options, maps)

    def tasks(self, scans: Sequence[Scan], before: Before) -> Iterable[Task]:
        config, variant = self.config.train, self.config.model.variant
        num_maps = count_maps(self.config, scans)
        size = num_maps * network(variant).row_bytes
        cache = size if size <= _CACHE_BYTES else 0
        rank = network(variant).training_bytes(config.batch_size, config.precision) + cache
        # Several ranks are processes of their own, beside the one that starts them on the first node.
        peak = rank if config.devices * config.nodes == 1 else config.devices * (rank + PROCESS_BYTES)
        epochs = 0 if self.config.model.given_weights else config.epochs
        load = Load(num_maps=num_maps, num_epochs=epochs, network=variant, precision=config.precision)
        more = {"cache_bytes": cache}, load, config.nodes * (config.threads or cores_here())
        yield Task(self.config.model.name, before.of_all(self.name, scans), peak, size, 2**23, *more)

    def work(self, task: Task) -> Mapping[str, float]:
        if weights := self.config.model.given_weights:
            return self._adopt(task, weights)
        try:
            return self._fit(task)
        except AinerdError:  # ranks in processes of their own tell of a damaged product in words alone
            open_maps(**self._recipe).check()
            raise

    def _adopt(self, task: Task, weights: Path) -> Mapping[str, float]:
        """Publish given weights, after loading them strictly."""
        from ainerd_hpc.models.weights import load_model

        model = load_model(self.config.model.variant, weights)
        self._publish(task, model.state_dict(), {"weights_from": weights.name})
        return {}

    @property
    def _recipe(self) -> dict[str, str]:
        """What `open_maps` needs to open the maps elsewhere."""
        return {"root": str(self.archive.root.resolve()), "array": network(self.config.model.variant).reads}

    def _fit(self, task: Task) -> Mapping[str, float]:
        from ainerd_hpc.training import SourceRecipe, fit

        config = self.config.train
        recipe = SourceRecipe("ainerd_hpc.stages.train:open_maps", self._recipe)
        pace = Pace(config.epochs)

        def tell(epoch: int, _: int, train_l1: float, valid_l1: float) -> None:
            advance(f"L1 {train_l1:.4f}, unseen {valid_l1:.4f}", epoch - pace.done)  # it may have gone on

        with progress("train", pace, is_paced=False) as advance, _told_between_epochs(self._checkpoints, advance):
            result = fit(
                recipe.build(),
                self.config.model.variant,
                config,
                self._checkpoints,
                task.digest,
                progress=tell,
                cache_bytes=task.args["cache_bytes"],
                recipe=recipe,
            )
        facts = {
            "history": [{key: row[key] for key in row if key != "seconds"} for row in result.history],
            "validation_scans": list(result.validation_scans),
            "validated_on_training": result.validated_on_training,
            "train": config.model_dump(mode="json", exclude=set(TRAIN_PLACE)),
        }
        self._publish(task, result.weights, facts)
        best = min(result.history, key=lambda row: row["valid_l1"])
        return {"valid_l1": best["valid_l1"], "epochs": float(len(result.history))}

    def finish(self, scans: Sequence[Scan], before: Before) -> None:
        shutil.rmtree(self._checkpoints, ignore_errors=True)

    def _publish(self, task: Task, weights: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """The weights first, then model.json, which says that they are complete and whose they are."""
        from ainerd_hpc.models.weights import save_weights

        self.product(task.key).unlink(missing_ok=True)
        with publishing(self.archive.weights_path(task.key)) as temporary:
            save_weights(temporary, weights)
        parameters = int(sum(np.prod(value.shape) for value in weights.values()))
        head = {"digest": task.digest, "variant": self.config.model.variant, "parameters": parameters}
        whole = {"weights_sha256": sha256(self.archive.weights_path(task.key))}
        write_json(self.product(task.key), {**head, **whole, **facts})


@contextlib.contextmanager
def _told_between_epochs(folder: Path, advance: Advance) -> Iterator[None]:
    """While the block lasts, hand on what the training tells in its folder; its ranks may be on other nodes."""
    told = read_standing(folder)  # of an earlier process

    def look() -> None:
        nonlocal told
        if (standing := read_standing(folder)) and standing != told:
            told = standing
            advance(str(standing), 0)

    with every(_LOOK, look):
        yield


def open_maps(root: str, array: str) -> MapReader:
    """All maps of an archive, or their cells, for a rank in a process of its own."""
    archive = Archive(Path(root))
    return MapReader(archive, read_table(archive.map_index_path), array)
