"""Simulate: detector files with known truth, for a first look and for tests. Nothing here is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ainerd_hpc import simulate
from ainerd_hpc.config import RunConfig, SimulateConfig, digest
from ainerd_hpc.errors import PlanError
from ainerd_hpc.stages import Stage
from ainerd_hpc.types import Content, Scan, Task


class Simulate(Stage):
    """Writes the simulated source folder that the config asks for."""

    name = "simulate"

    @property
    def _simulated(self) -> SimulateConfig:
        return self.config.simulate or SimulateConfig()

    def product(self, key: str) -> Path:
        return self.config.source.path / f"{key}.h5"

    def tasks(self, scans: Sequence[Scan]) -> Iterable[Task]:
        self._refuse_real_data()
        config = self._simulated
        size = 2 * config.num_frames * config.height * config.width
        for index, scan_id in enumerate(simulate.scan_ids(config)):
            task_digest = digest(self.name, self.version, config, index)
            yield Task(scan_id, task_digest, simulate.scan_bytes(config), 0, size, {"index": index})

    def work(self, task: Task) -> Mapping[str, float]:
        simulate.write_scan(self.config.source.path, self._simulated, task.args["index"])
        return {}

    def finish(self, scans: Sequence[Scan]) -> None:
        simulate.write_shared_files(self.config.source.path, self._simulated)

    def _refuse_real_data(self) -> None:
        """Simulated scans never go into a folder that holds anything else."""
        folder = self.config.source.path
        others = [path for path in folder.glob("*.h5") if not path.name.startswith(simulate.PREFIX)]
        if others:
            raise PlanError(
                f"source.path {folder}: expected an empty folder for simulated scans, found {others[0].name}; "
                "give another source.path, or take `simulate` out of the config"
            )


def projected_scans(config: RunConfig) -> list[Scan]:
    """The scans that the simulation will give, for a plan before it has run."""
    settings = config.simulate or SimulateConfig()
    partition = simulate.instrument(settings).rings.partition
    sizes = np.bincount(partition.dynamic_roi_map.ravel())[1:]
    return [
        Scan(
            scan_id=scan_id,
            source=str(config.source.path / f"{scan_id}.h5"),
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
            simulated=True,
        )
        for index, scan_id in enumerate(simulate.scan_ids(settings))
    ]
