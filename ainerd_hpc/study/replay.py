"""A replay of the schedule of a stage: workers that ask for tasks, read, compute and leave, event by event (SimPy).

It has nothing to do with simulated speckle. Each of the scheduler, the metadata server and the bandwidth of the file
system serves one request after the other, so that each lets through what it can, whatever the number of workers. Tasks
go in batches where there are millions of them.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np

from ainerd_hpc.errors import ConfigError
from ainerd_hpc.scaling.fitting import StageFit
from ainerd_hpc.study.estimate import StageEstimate
from ainerd_hpc.study.measuring import Measured
from ainerd_hpc.types import Plan

EFFICIENT = 0.9
"""Share of the time of workers that is of use, up to the knee."""
_MOST_BATCHES = 20_000
_BATCHES_A_WORKER = 20
"""Fewer would make the end of a stage too rough."""
_NEVER = math.inf


@dataclass(frozen=True)
class Conditions:
    """A stage and the machine on which it runs. What is not measured is stated here, and may be given otherwise."""

    num_tasks: int
    seconds: float
    """Mean time of a task, s, without what it waits for the file system when others use it too."""
    spread: float = 0.1
    """Relative standard deviation of that."""
    task_bytes: float = 0.0
    """Bytes that a task reads and writes."""
    gap: float = 0.0
    """s between two tasks of a worker that nobody else could use."""
    start: float = 5.0
    """s that a worker takes to load its libraries."""
    scheduler: float = 1e-3
    """s of a scheduler for a task (Dask, by its documentation; HyperQueue: 1e-4)."""
    schedulers: int = 1
    """Schedulers side by side: elements of a job array each have their own."""
    bandwidth: float = 5e10
    """Bytes a second that the file system lets through in all."""
    stream: float = 1e9
    """Bytes a second of one worker."""
    metadata: float = 2e4
    """Operations a second of the metadata server in all."""
    operations: float = 30.0
    """Metadata operations of a task: opens, renames, stats."""
    stragglers: float = 1e-3
    """Share of tasks that take longer ..."""
    straggling: float = 5.0
    """... so many times."""
    failures: float = 1e-3
    """Times an hour that a worker dies; the task at work is lost."""
    preemptions: float = 0.0
    """Times an hour that a worker is put back into the queue."""
    walltime: float = _NEVER
    """s after which a worker goes back into the queue."""
    queue: float = 0.0
    """Mean wait in the queue, s."""


class Replayed(NamedTuple):
    """What came of one replay."""

    workers: int
    seconds: float
    """Time from when the first worker asks for its job to the end of the last task."""
    efficiency: float
    """Share of the time of all workers in which they did tasks."""
    limit: str
    """What they lost most of their time to: waiting for the scheduler, for metadata or bandwidth; away (in the queue,
    loading); between tasks; the end, where the last tasks are done."""
    lost: float
    """Share of the time of all workers that this took."""


class _Replay:
    """One replay; its processes share the tasks that are left."""

    def __init__(self, conditions: Conditions, workers: int, seed: int) -> None:
        try:
            import simpy
        except ImportError:
            raise ConfigError("replay: expected the extra `replay`, found none; install ainerd-hpc[replay]") from None
        self.given, self.workers = conditions, workers
        self.left, self.useful, self.ended = conditions.num_tasks, 0.0, 0.0
        self.chance = np.random.default_rng(seed)
        self.at = simpy.Environment()
        self.servers = {
            "scheduler": simpy.Resource(self.at, conditions.schedulers),
            "metadata": simpy.Resource(self.at),
            "bandwidth": simpy.Resource(self.at),
        }
        self.lost = dict.fromkeys((*self.servers, "away", "between"), 0.0)
        coarsest = conditions.num_tasks // (workers * _BATCHES_A_WORKER)
        self.batch = max(1, min(coarsest, conditions.num_tasks // _MOST_BATCHES))

    def run(self) -> Replayed:
        """Replay to the end of the last task."""
        ends = [self.at.process(self._worker()) for _ in range(self.workers)]
        self.at.run(self.at.all_of(ends))
        given = self.workers * self.ended
        lost = {**self.lost, "the end": given - self.useful - sum(self.lost.values())}
        limit = max(lost, key=lambda name: lost[name])
        return Replayed(self.workers, self.ended, self.useful / given, limit, lost[limit] / given)

    def _worker(self) -> Generator[Any, Any, None]:
        given = self.given
        while self.left > 0:
            yield from self._arrive()
            ends = self.at.now + given.walltime
            fails = self.at.now + self._after(given.failures)
            leaves = self.at.now + self._after(given.preemptions)
            while self.left > 0 and self.at.now < min(ends, fails, leaves):
                number = min(self.batch, self.left)
                self.left -= number
                yield from self._serve("scheduler", number * given.scheduler)
                yield from self._serve("metadata", number * given.operations / given.metadata)
                yield from self._serve("bandwidth", number * given.task_bytes / given.bandwidth)
                yield from self._compute(number, min(ends, fails, leaves))

    def _arrive(self) -> Generator[Any, Any, None]:
        """Wait in the queue, and load."""
        wait = self.chance.exponential(self.given.queue) if self.given.queue else 0.0
        yield self.at.timeout(wait + self.given.start)
        if self.left > 0:  # else it comes too late, and that is the end
            self.lost["away"] += wait + self.given.start

    def _after(self, an_hour: float) -> float:
        return self.chance.exponential(3600 / an_hour) if an_hour else _NEVER

    def _serve(self, name: str, seconds: float) -> Generator[Any, Any, None]:
        if not seconds:
            return
        asked = self.at.now
        with self.servers[name].request() as turn:
            yield turn
            yield self.at.timeout(seconds)
        self.lost[name] += self.at.now - asked

    def _compute(self, number: int, stop: float) -> Generator[Any, Any, None]:
        """Do a batch, or what there is time for; the rest goes back."""
        given = self.given
        mean = given.seconds + given.task_bytes * max(0.0, 1 / given.stream - 1 / given.bandwidth)
        late = self.chance.binomial(number, given.stragglers)
        in_time = max(0.0, self.chance.normal(number, given.spread * math.sqrt(number)))
        seconds = mean * (in_time + late * (given.straggling - 1))
        lasts = seconds + number * given.gap
        share = min(1.0, max(0.0, stop - self.at.now) / lasts) if lasts else 1.0
        done = number if share == 1.0 else int(share * number)
        self.left += number - done
        self.useful += seconds * done / number
        self.lost["between"] += share * number * given.gap
        yield self.at.timeout(lasts * share)
        self.ended = self.at.now


def replay(conditions: Conditions, workers: int, seed: int = 0) -> Replayed:
    """Replay a stage on so many workers.

    Raises
    ------
    ConfigError
        The extra for it is not installed.
    """
    return _Replay(conditions, workers, seed).run()


def knee(conditions: Conditions, most: int) -> tuple[list[Replayed], int]:
    """Replays with ever more workers, and the most of them that are of use for nine tenths of their time; 0: none."""
    steps = [number for power in range(8) for number in (10**power, 3 * 10**power) if number < most]
    found = [replay(conditions, number) for number in (*steps, most)]
    return found, max((one.workers for one in found if one.efficiency >= EFFICIENT), default=0)


def most_workers(conditions: Conditions) -> dict[str, float]:
    """How many workers each of what they share can keep busy, worked out: its rate times the time of a task."""
    each = conditions.seconds + conditions.gap + conditions.task_bytes / conditions.stream
    demands = {
        "scheduler": conditions.scheduler / conditions.schedulers,
        "metadata": conditions.operations / conditions.metadata,
        "bandwidth": conditions.task_bytes / conditions.bandwidth,
    }
    return {name: each / demand if demand else _NEVER for name, demand in demands.items()}


def advice(conditions: Conditions, workers: int) -> str:
    """What to change so that so many workers are of use; empty where nothing has to be."""
    limits = most_workers(conditions)
    name = min(limits, key=lambda one: limits[one])
    if workers <= EFFICIENT * limits[name]:
        return ""
    times = math.ceil(workers / (EFFICIENT * limits[name]))
    if name == "scheduler":
        return (
            f"one scheduler keeps {limits[name]:.0f} workers busy with tasks of {conditions.seconds:.2g} s: "
            f"take {times} schedulers (array.jobs), or {times} times as many scans a task"
        )
    return f"the {name} of the file system keeps {limits[name]:.0f} workers busy: more are of no use"


def of_stage(one: StageEstimate, fit: StageFit | None, plan: Plan, **assumed: float) -> Conditions:
    """The conditions of a stage that was estimated; what is assumed otherwise than stated, by name.

    Raises
    ------
    ConfigError
        Nothing of that name can be assumed.
    """
    given = Conditions(
        num_tasks=one.num_tasks,
        seconds=one.task_seconds,
        spread=fit.noise if fit else Conditions.spread,
        task_bytes=(plan.read_bytes + one.written.middle) / one.num_tasks,
        gap=fit.gap if fit else 0.0,
        start=max(Conditions.start, fit.start if fit else 0.0),
    )
    names = {field.name for field in fields(Conditions)}
    if unknown := set(assumed) - names:
        expected = ", ".join(sorted(names))
        raise ConfigError(f"--assume: expected one of {expected}, found {min(unknown)}; correct it")
    return replace(given, **assumed)  # type: ignore[arg-type]


def of_run(run: Measured) -> Conditions:
    """The conditions of a stage that was measured: its own times, and nothing that is shared with others."""
    within = run.cpu_seconds + run.waiting
    return Conditions(
        num_tasks=run.num_tasks,
        seconds=within / run.num_tasks,
        gap=run.between / run.num_tasks,
        start=run.idle / run.workers,  # most of it is loading, before the first task
        operations=0.0,
        stragglers=0.0,
        failures=0.0,
    )
