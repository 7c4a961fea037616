"""What the line has left to do, and whether it fits: from metadata alone, before anything runs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from ainerd_hpc.archive.journal import Journal
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.scans import Scans
from ainerd_hpc.config import RunConfig
from ainerd_hpc.console import size_text
from ainerd_hpc.errors import ConfigError, PlanError
from ainerd_hpc.formats.beside import sample_log
from ainerd_hpc.site.workers import worker_memory
from ainerd_hpc.sources.discovery import Discovery
from ainerd_hpc.sources.recall import find, find_again, have_changed
from ainerd_hpc.stages.contract import Stage
from ainerd_hpc.stages.line import Line
from ainerd_hpc.stages.registry import STAGES, create
from ainerd_hpc.types import Plan, Problem, Scan, Shape

SIMULATE, INGEST = "simulate", "ingest"


def stage_names(config: RunConfig, first: str | None = None, until: str | None = None) -> list[str]:
    """The stages of a run, in order; `simulate` only where the config asks for it.

    Raises
    ------
    ConfigError
        A stage is not part of this line, or the last comes before the first.
    """
    names = [name for name in STAGES if name != SIMULATE or config.simulate]
    for name in (first, until):
        if name and name not in names:
            raise ConfigError(f"stage {name}: the config has no such section; the stages here are {', '.join(names)}")
    start = names.index(first) if first else 0
    stop = names.index(until) + 1 if until else len(names)
    if start >= stop:
        raise ConfigError(f"--from {first} --until {until}: nothing lies between; the order is {', '.join(names)}")
    return names[start:stop]


def place_of(stage: str) -> int:
    """Number of a stage in the order of the data."""
    return list(STAGES).index(stage)


def survey(config: RunConfig) -> Discovery:
    """The scans that a run would take: those of the source, or those that it would simulate first.

    Raises
    ------
    ConfigError
        There is no source and nothing to simulate.
    """
    if config.simulate:
        from ainerd_hpc.stages.simulate import Simulate, projected_scans

        if not Simulate(config).is_complete():
            return replace(nothing_found(), scans=tuple(projected_scans(config)))
    return find_scans(config)


def nothing_found() -> Discovery:
    """What is known before the source is there."""
    return Discovery((), (), (), None, sample_log.empty())


def find_scans(config: RunConfig) -> Discovery:
    """The scans of the source; files that have not changed since the last run or catalog are not opened."""
    return find(Archive(config.archive), config.source, config.correct)


def share_of(config: RunConfig, stage: Stage, number: int, num_shares: int) -> tuple[Discovery, dict[str, int] | None]:
    """The scans of which a share of a stage may have tasks, and the places of these among all scans.

    They are those that were found last, by the run or the submission before: a share looks at the files of its own
    scans only, and at the whole source where one of these has changed. Where tasks are not of one scan each, it is all
    scans, and places are None.
    """
    archive = Archive(config.archive)
    if not stage.quarantines:
        return survey(config), None
    found = find_again(archive, config.source, config.correct)
    if found is None or have_changed(archive, _own(stage, found, number, num_shares)):
        found = survey(config)
    own = _own(stage, found, number, num_shares)
    places = dict(zip(own.column("scan_id").tolist(), own.rows.tolist(), strict=True))
    return replace(found, scans=own.alone()), places


def _own(stage: Stage, found: Discovery, number: int, num_shares: int) -> Scans:
    """The scans with a task in a share, as far as can be told without making the tasks."""
    scans = Scans.of(found.scans)
    offset = (number - 1 - scans.rows) % num_shares
    return Scans(scans.table, scans.rows[offset < stage.most_tasks(scans)])


def plan(
    config: RunConfig,
    first: str | None = None,
    until: str | None = None,
    journal: Journal | None = None,
    found: Discovery | None = None,
) -> list[Plan]:
    """What every stage has left to do, from metadata alone; nothing is written. `found`: by `survey`, if known."""
    wanted, upto = stage_names(config, first, until), stage_names(config, until=until)
    found = found or survey(config)
    plans = plan_line(line_of(config, journal or Journal(config.archive), found), found, upto)
    return [planned for planned in plans if planned.stage in wanted]


def line_of(config: RunConfig, journal: Journal, found: Discovery) -> Line:
    """The stages of a config over what was found."""
    return Line(config, journal, found.sample_log_table, found.scans)


def plan_line(line: Line, found: Discovery, names: Sequence[str]) -> list[Plan]:
    """Plans of stages of a line, from the first on, for the scans that were found."""
    scans = without(found.scans, found.problems)
    plans = []
    for name in names:
        planned = line.plan(name, scans)
        if name == INGEST:
            planned = replace(planned, quarantined=planned.quarantined + found.problems)
        plans.append(planned)
        scans = without(scans, planned.quarantined)
    return plans


def check(plans: Sequence[Plan], config: RunConfig) -> None:
    """Refuse what cannot fit.

    Raises
    ------
    PlanError
        A task needs more memory than a worker has, or the products more disk than is free; with the knob to turn.
    """
    for planned in plans:
        allowed = allowed_memory(config, planned.shape)
        if planned.tasks and planned.peak_bytes > allowed:
            worst = max(planned.tasks, key=lambda task: task.peak_bytes)
            raise PlanError(
                f"{planned.stage}: task {worst.key} is projected to need {size_text(planned.peak_bytes)} of memory, "
                f"a worker has {size_text(allowed)}; raise executor.memory, lower executor.workers, "
                f"or lower {create(planned.stage, config).memory_knob}"
            )
    needed = sum(planned.write_bytes for planned in plans)
    free = shutil.disk_usage(_existing(config.archive)).free
    if needed > free:
        raise PlanError(
            f"archive {config.archive}: the products need up to {size_text(needed)}, {size_text(free)} is free; "
            "free some space or put the archive elsewhere with --archive"
        )


def check_before(stage: str, plans: Sequence[Plan]) -> None:
    """Refuse a stage whose stages before it, with these plans, are not finished.

    Raises
    ------
    PlanError
        Naming the first of them.
    """
    for planned in plans:
        if planned.tasks:
            raise PlanError(
                f"{stage}: expected `{planned.stage}` to be finished, found {len(planned.tasks)} tasks to do; "
                f"run `ainerd-hpc {planned.stage}` first, or `ainerd-hpc run --until {stage}`"
            )


def allowed_memory(config: RunConfig, shape: Shape) -> int:
    """Bytes that one process of a stage may use: a worker's share, or the whole machine for one fat process."""
    if shape is Shape.ARRAY:
        return worker_memory(config.executor)
    given = config.executor.memory if config.executor.is_here else None
    return int(given or 0.9 * psutil.virtual_memory().available)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def without(scans: Sequence[Scan], problems: Sequence[Problem]) -> Scans:
    """The scans that have none of these problems."""
    scans = Scans.of(scans)
    return scans.where(~scans.among({problem.scan_id for problem in problems}))
