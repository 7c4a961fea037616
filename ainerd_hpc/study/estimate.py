"""What the rest of a campaign costs on a machine: node-hours, time, storage and files, each with an interval."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.run_record import used_since
from ainerd_hpc.config import RunConfig
from ainerd_hpc.console import console, print_rows, size_text, time_text
from ainerd_hpc.publishing import write_json
from ainerd_hpc.scaling.cost_model import FORMULAS
from ainerd_hpc.scaling.fitting import Fitted, StageFit
from ainerd_hpc.site.calibration import Machine
from ainerd_hpc.site.site_file import SiteConfig
from ainerd_hpc.stages.registry import STAGES, create
from ainerd_hpc.submission.steps import kind_of
from ainerd_hpc.types import Plan, Shape

_SIGMAS = 2.0
"""Half widths of an interval, in standard deviations."""
_DRIFT = 0.1
"""Relative standard deviation of the CPU seconds of the same work from one run to another."""
_UNSEEN = StageFit({}, [[0.25]], 0.1, 0, written_spread=0.5)
"""A stage that nothing was fitted for: the constants are as stated."""
_UNSEEN_SPREAD = 0.3
"""Relative standard deviation of those: tasks took 0.8 to 1.6 times as long on a like machine."""
_SCHEDULER = 1e-3
"""s of Dask's scheduler for a task, by its documentation."""
_EFFICIENT = 0.9
"""Share of the time of workers that has to be of use for another job to be worth its nodes."""
_BETWEEN = 0.05
"""Share of the time of a worker that may go by between tasks."""


class Interval(NamedTuple):
    """A figure, and between what it lies."""

    low: float
    middle: float
    high: float

    def __add__(self, other: Interval) -> Interval:  # type: ignore[override]
        """The sum of figures that are off together: their ends add up."""
        return Interval(*(one + another for one, another in zip(self, other, strict=True)))

    def times(self, factor: float) -> Interval:
        """The same in another unit."""
        return Interval(*(factor * one for one in self))


NOTHING = Interval(0.0, 0.0, 0.0)


class StageEstimate(NamedTuple):
    """What the rest of one stage costs."""

    stage: str
    num_tasks: int
    cpu_seconds: Interval
    task_seconds: float
    """Time of one task, by the clock."""
    jobs: int
    """Jobs, or machines, that it is worth having at a time."""
    workers: int
    """Worker processes of all of them."""
    seconds: Interval
    """Time from its first task to its last."""
    node_hours: Interval
    written: Interval
    """Bytes."""
    num_files: int
    scans_a_task: int
    """Small tasks that would have to go together for no more than a twentieth of the time to go by between tasks."""


def estimate(
    plans: Sequence[Plan], config: RunConfig, fitted: Fitted, machine: Machine, site: SiteConfig | None = None
) -> list[StageEstimate]:
    """Estimate the stages that have something to do.

    Parameters
    ----------
    plans : sequence of Plan
    config : RunConfig
        With the executor as in a job of that machine.
    fitted : Fitted
        What runs there have shown of the formulas.
    machine : Machine
        Costs and rates of its processors.
    site : SiteConfig, optional
        Default: this machine.
    """
    return [_of_stage(plan, config, fitted.get(plan.stage, _UNSEEN), machine, site) for plan in plans if plan.tasks]


def _of_stage(plan: Plan, config: RunConfig, fit: StageFit, machine: Machine, site: SiteConfig | None) -> StageEstimate:
    terms, longest = _terms(plan, fit, machine)
    processes, most, nodes = _places(plan, config, site)

    def seconds_of(jobs: int) -> Interval:
        workers = jobs * processes
        cpu_seconds = _cpu_seconds(fit, terms, min(workers, len(plan.tasks)))
        return _time(cpu_seconds, fit, plan, workers, longest)

    jobs = _worthwhile(most, lambda number: seconds_of(number).middle)
    seconds, cpu_seconds = seconds_of(jobs), _cpu_seconds(fit, terms, min(jobs * processes, len(plan.tasks)))
    each = fit.clock * cpu_seconds.middle / len(plan.tasks) / _threads(plan)
    stage = create(plan.stage, config)
    return StageEstimate(
        stage=plan.stage,
        num_tasks=len(plan.tasks),
        cpu_seconds=cpu_seconds,
        task_seconds=each,
        jobs=jobs,
        workers=min(jobs * processes, len(plan.tasks)),
        seconds=seconds,
        node_hours=seconds.times(jobs * nodes / 3600),
        written=_around(fit.written * plan.write_bytes, math.hypot(fit.written_spread, _DRIFT) * plan.write_bytes),
        num_files=sum(1 + len(stage.beside(task.key)) for task in plan.tasks),
        scans_a_task=max(1, math.ceil((fit.gap + _SCHEDULER) / (_BETWEEN * max(each, 1e-6)))),
    )


def _terms(plan: Plan, fit: StageFit, machine: Machine) -> tuple[Counter[str], float]:
    """Thread seconds of all tasks, term by term as stated, and those of the longest task as fitted."""
    total, longest = Counter[str](), 0.0
    for task in plan.tasks if plan.stage in FORMULAS else ():
        terms = FORMULAS[plan.stage](replace(task, threads=1), machine)
        total.update(terms)
        longest = max(longest, sum(fit.factors.get(name, 1.0) * value for name, value in terms.items()))
    return total, longest


def _cpu_seconds(fit: StageFit, terms: Counter[str], processes: int) -> Interval:
    """CPU seconds of these terms; of those that the fit has not seen, as stated."""
    mean, spread = fit.cpu_seconds(terms, processes)
    unseen = sum(value for name, value in terms.items() if name not in fit.factors)
    mean += unseen
    return _around(mean, math.hypot(spread, _DRIFT * mean, _UNSEEN_SPREAD * unseen))


def _around(mean: float, spread: float) -> Interval:
    """An interval that ends above nothing: on the way down the spread divides."""
    return Interval(mean**2 / (mean + _SIGMAS * spread) if mean else 0.0, mean, mean + _SIGMAS * spread)


def _time(cpu_seconds: Interval, fit: StageFit, plan: Plan, workers: int, longest: float) -> Interval:
    """Time of all tasks on workers that take one after the other (Graham's bound), or of who hands them out; at the
    least nothing waits."""
    threads, num = _threads(plan), len(plan.tasks)

    def time(total: float, clock: float) -> float:
        last = min(longest, total)
        busy = clock * ((total - last) / workers + last) / threads + fit.gap * num / workers
        return max(busy, num * _SCHEDULER if plan.shape is Shape.ARRAY else 0.0)

    low, middle, high = cpu_seconds
    return Interval(time(low, min(1.0, fit.clock)), time(middle, fit.clock), time(high, fit.clock))


def _threads(plan: Plan) -> int:
    return max(task.threads for task in plan.tasks)


def _places(plan: Plan, config: RunConfig, site: SiteConfig | None) -> tuple[int, int, int]:
    """Worker processes of a job, the most jobs there may be, and the nodes of a job."""
    if site is None:
        return (config.executor.num_workers if plan.shape is Shape.ARRAY else 1), 1, 1
    kind = kind_of(plan)
    nodes = site.of(kind)
    if plan.shape is not Shape.ARRAY:
        return 1, 1, nodes.nodes
    processes = nodes.nodes * (config.executor.workers or max(1, (nodes.cores or 1) // config.executor.threads))
    return processes, min(site.array.jobs, -(-len(plan.tasks) // processes)), nodes.nodes


def _worthwhile(most: int, seconds_of: Callable[[int], float]) -> int:
    """The most jobs that are of use for nine tenths of their time, found by halving: it falls with their number."""
    alone, low, high = seconds_of(1), 1, most
    while low < high:
        middle = (low + high + 1) // 2
        is_worth = alone >= _EFFICIENT * middle * seconds_of(middle)
        low, high = (middle, high) if is_worth else (low, middle - 1)
    return low


def total(estimates: Sequence[StageEstimate], name: str) -> Interval:
    """The sum of a figure over stages, which run one after the other."""
    return sum((getattr(one, name) for one in estimates), start=NOTHING)


_INTERVALS = ("cpu_seconds", "seconds", "node_hours", "written")


def keep_estimate(archive: Archive, estimates: Sequence[StageEstimate]) -> None:
    """Keep what was estimated with the archive, to be held against what comes."""
    write_json(archive.estimate_path, {one.stage: one._asdict() for one in estimates})


def _kept(archive: Archive) -> list[StageEstimate]:
    """What was estimated last; empty where nothing sound is kept."""
    try:
        stored = json.loads(archive.estimate_path.read_text(encoding="utf-8"))
        return [StageEstimate(**one | {name: Interval(*one[name]) for name in _INTERVALS}) for one in stored.values()]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []


def comparison(archive: Archive) -> list[str]:
    """A line for each stage that has done what was estimated: what it took, against that."""
    estimates = sorted(_kept(archive), key=lambda one: list(STAGES).index(one.stage))
    if not estimates:
        return []
    used = used_since(archive, archive.estimate_path.stat().st_mtime)
    return [_compared(one, used[one.stage]) for one in estimates if used[one.stage]["done"] >= one.num_tasks]


def _compared(one: StageEstimate, used: Mapping[str, float]) -> str:
    pairs = (("CPU", one.cpu_seconds, used["cpu_seconds"]), ("time", one.seconds, used["seconds"]))
    texts = [
        f"{what} {time_text(found)} of {_text(wanted, time_text)}{_off(wanted, found)}" for what, wanted, found in pairs
    ]
    size = used["bytes_written"]
    texts.append(f"{size_text(size)} written of {_text(one.written, size_text)}{_off(one.written, size)}")
    return f"{one.stage} took, of what was estimated: {', '.join(texts)}"


def _text(interval: Interval, text: Callable[[float], str]) -> str:
    return f"{text(interval.middle)} ({text(interval.low)} to {text(interval.high)})"


def _off(wanted: Interval, found: float) -> str:
    outside = "" if wanted.low <= found <= wanted.high else ", outside"
    return f", {found / wanted.middle - 1:+.0%}{outside}" if wanted.middle else ""


def print_estimate(estimates: Sequence[StageEstimate], where: str) -> None:
    """A table of the stages, and a line for all of them."""
    titles = (
        "stage",
        "tasks",
        "of each",
        "CPU",
        "jobs",
        "workers",
        "time",
        "between",
        "node-hours",
        "written",
        "files",
    )
    title = f"Estimate for {where}; waiting in a queue is not counted"
    print_rows(title, titles, [_row(one) for one in estimates])
    hours, seconds, written = (total(estimates, name) for name in ("node_hours", "seconds", "written"))
    files = sum(one.num_files for one in estimates)
    console.print(
        f"in all {_text(hours, _hours)} node-hours in {_text(seconds, time_text)}, "
        f"{_text(written, size_text)} in {files} files"
    )
    for one in estimates:
        if one.scans_a_task > 1 and one.num_tasks > one.workers:
            console.print(
                f"{one.stage}: a task takes {time_text(one.task_seconds)}; {one.scans_a_task} scans a task would leave "
                "a twentieth of the time between tasks"
            )


def _row(one: StageEstimate) -> tuple[str, ...]:
    low, middle, high = map(time_text, one.seconds)
    times = time_text(one.task_seconds), time_text(one.cpu_seconds.middle)
    places, sizes = (str(one.jobs), str(one.workers)), (size_text(one.written.middle), str(one.num_files))
    return (
        one.stage,
        str(one.num_tasks),
        *times,
        *places,
        middle,
        f"{low} - {high}",
        _hours(one.node_hours.middle),
        *sizes,
    )


def _hours(hours: float) -> str:
    return f"{hours:.2g}"
