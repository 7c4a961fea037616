"""The tasks that an archive has done, with what they had to do: its journal beside its plan."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ainerd_hpc.archive.journal import Journal, tasks_done
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.config import RunConfig
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.loading import load
from ainerd_hpc.planning import line_of, stage_names, survey, without
from ainerd_hpc.scaling.cost_model import FORMULAS
from ainerd_hpc.scaling.fitting import Fitted, Sample, fit_stage
from ainerd_hpc.site.calibration import Machine, load_machine
from ainerd_hpc.types import Task

_NEEDED = ("cpu_seconds", "began", "ended")
"""What a line of the journal has to say; those of early versions do not."""


def fit_archives(archives: Iterable[Path]) -> Fitted:
    """Fit the formulas of all stages to the tasks that archives have done, with the configs that they keep.

    Raises
    ------
    ConfigError
        One of them keeps no config, or has done nothing that its config still describes.
    """
    found = defaultdict[str, list[Sample]](list)
    for archive in archives:
        path = Archive(archive).config_path
        if not path.exists():
            raise ConfigError(f"{archive}: expected an archive that keeps its config, found no {path}; give an archive")
        samples = samples_of(load(path, [f"archive={json.dumps(str(archive))}"]))
        if not samples:
            raise ConfigError(
                f"{archive}: expected tasks that were done with the config it keeps, found none in its journal; "
                "run the line first, or a part of it"
            )
        for stage, ones in samples.items():
            found[stage] += ones
    return {stage: fit_stage(samples) for stage, samples in found.items()}


def samples_of(config: RunConfig, machine: Machine | None = None) -> dict[str, list[Sample]]:
    """What each task took that is done and current, by stage, and what the formulas say of it."""
    planned, found = _tasks(config), defaultdict[str, list[Sample]](list)
    known = machine or load_machine()
    for entries in tasks_done(config.archive):
        before = defaultdict[str, list[float]](list)
        for entry in entries:
            task, ends = planned.get((entry["stage"], entry["key"], entry["digest"])), before[entry["stage"]]
            if task is not None and all(isinstance(entry.get(name), float) for name in _NEEDED):
                found[entry["stage"]].append(_sample(entry, task, ends, known))
                ends.append(entry["ended"])
    return dict(found)


def _tasks(config: RunConfig) -> Mapping[tuple[str, str, str], Task]:
    """Every task of the line, done or not, by its stage, key and digest."""
    discovery = survey(config)
    line = line_of(config, Journal(config.archive), discovery)
    scans = without(discovery.scans, [*discovery.problems, *line.journal.problems])
    names = [name for name in stage_names(config) if name in FORMULAS]
    return {(name, task.key, task.digest): task for name in names for task in line.tasks(name, scans)}


def _sample(entry: Mapping[str, Any], task: Task, ends: Sequence[float], machine: Machine) -> Sample:
    """A task beside its line in the journal; its process ended others before."""
    return Sample(
        terms=FORMULAS[entry["stage"]](replace(task, threads=1), machine),
        cpu_seconds=entry["cpu_seconds"],
        thread_seconds=(entry["ended"] - entry["began"]) * task.threads,
        gap=entry["began"] - (ends[-1] if ends else math.nan),
        written=entry.get("bytes_written", 0) / max(1, task.write_bytes),
        place=len(ends),
    )
