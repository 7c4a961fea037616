"""Simulate: detector files with known truth, for a first look and for tests. Nothing here is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ainerd_hpc import simulate
from ainerd_hpc.archive.layout import recorded_digest
from ainerd_hpc.config import RunConfig, SimulateConfig
from ainerd_hpc.digests import digest
from ainerd_hpc.errors import PlanError
from ainerd_hpc.formats.registry import FoundScan
from ainerd_hpc.publishing import write_json
from ainerd_hpc.sources.pairing import Images
from ainerd_hpc.stages.contract import Before, Stage
from ainerd_hpc.types import Content, Load, Plan, Scan, Task


class Simulate(Stage):
    """Writes the simulated source folder that the config asks for."""

    name = "simulate"
    memory_knob = "simulate.num_frames"

    @property
    def _simulated(self) -> SimulateConfig:
        return self.config.simulate or SimulateConfig()

    def product(self, key: str) -> Path:
        return self.config.source.folder / f"{key}.h5"

    def plan(self, scans: Sequence[Scan], before: Before) -> Plan:
        """What is missing; whatever lies in a folder of ours was published whole, by any archive's run."""
        self._refuse_other_data()
        tasks = list(self._tasks())
        todo = tuple(task for task in tasks if not self.product(task.key).exists())
        return Plan(self.name, self.shape, todo, num_done=len(tasks) - len(todo))

    def is_complete(self) -> bool:
        """Whether the whole source is there, with the files that its scans share (the log is the last)."""
        there = all(self.product(task.key).exists() for task in self._tasks())
        return there and (self.config.source.folder / simulate.LAST_FILE).exists()

    def tasks(self, scans: Sequence[Scan], before: Before) -> Iterable[Task]:
        return self._tasks()

    def _tasks(self) -> Iterable[Task]:
        config = self._simulated
        load = Load(config.num_frames, config.height * config.width)
        size = 2 * config.num_frames * config.height * config.width
        for index, scan_id in enumerate(simulate.scan_ids(config)):
            task_digest = digest(self.name, self.version, config, index)
            yield Task(scan_id, task_digest, simulate.scan_bytes(config), 0, size, {"index": index}, load)

    def work(self, task: Task) -> Mapping[str, float]:
        if not self._marker.exists():
            settings = self._simulated.model_dump(mode="json")
            write_json(self._marker, {"simulated": True, "digest": self._digest, **settings})
        simulate.write_scan(self.config.source.folder, self._simulated, task.args["index"])
        return {}

    def finish(self, scans: Sequence[Scan], before: Before) -> None:
        simulate.write_shared_files(self.config.source.folder, self._simulated)

    @property
    def _marker(self) -> Path:
        """Says that a folder is ours, and with which settings it was made."""
        return self.config.source.folder / "simulated.json"

    @property
    def _digest(self) -> str:
        return digest(self.name, self.version, self._simulated)

    def _refuse_other_data(self) -> None:
        """Simulated scans go into an empty folder, or into the one that the same settings made."""
        folder = self.config.source.folder
        others = [path for path in folder.glob("[!.]*") if path.name != self._marker.name]
        if not self._marker.exists() and others:
            found = f"expected an empty folder for simulated scans, found {others[0].name}"
        elif self._marker.exists() and recorded_digest(self._marker) != self._digest:
            found = "expected scans simulated with these settings, found others"
        else:
            return
        raise PlanError(
            f"source.path {folder}: {found}; give another source.path, or take `simulate` out of the config"
        )


def projected_scans(config: RunConfig) -> list[Scan]:
    """The scans that the simulation will give, for a plan before it has run."""
    settings = config.simulate or SimulateConfig()
    partition = simulate.instrument(settings).rings.partition
    sizes = np.bincount(partition.dynamic_roi_map.ravel())[1:]
    folder = config.source.folder
    images = Images(config.correct, folder)
    return [
        Scan(
            scan_id=scan_id,
            source=str(folder / f"{scan_id}.h5"),
            format="aps-hdf5",
            content=Content.FRAMES,
            num_frames=settings.num_frames,
            height=settings.height,
            width=settings.width,
            itemsize=2,
            num_q_bins=settings.num_q_bins,
            frame_time=settings.frame_time,
            start_time=simulate.start_time(settings, index),
            partition=partition.digest,
            num_pixels=int(sizes.sum()),
            largest_bin=int(sizes.max()),
            num_static_bins=len(partition.static_q_list),
            stored_bytes=2 * settings.num_frames * settings.height * settings.width,
            simulated=True,
            dark=images.of("dark", FoundScan(folder / f"{scan_id}.h5", "aps-hdf5")),
            flat=images.of("flat", FoundScan(folder / f"{scan_id}.h5", "aps-hdf5")),
        )
        for index, scan_id in enumerate(simulate.scan_ids(settings))
    ]
