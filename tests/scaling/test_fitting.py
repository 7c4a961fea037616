"""Factors fitted to tasks of a known truth: found again, with outliers, and only as sure as the tasks let them be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ainerd_hpc.scaling.cost_model import FORMULAS, predict, task_seconds
from ainerd_hpc.scaling.fitting import Sample, StageFit, fit_stage, keep_fitted, load_fitted
from ainerd_hpc.site.calibration import Machine
from ainerd_hpc.types import Load, Plan, Shape, Task

TRUTH = {"task": 1.4, "frames": 0.6, "read": 2.5, "events": 1.7}
START = 1.5


def ingest(num_frames: int, edge: int, density: float) -> Task:
    area = edge**2
    return Task("a", "digest", 0, 0, 10, load=Load(num_frames, area, num_frames * area, density=density))


def samples(tasks: list[Task], seed: int = 0, processes: int = 2) -> list[Sample]:
    """What tasks take on a machine with these factors, 3 % from task to task; one in ten takes five times as long."""
    chance, found = np.random.default_rng(seed), []
    for number, task in enumerate(tasks):
        terms = FORMULAS["ingest"](task, Machine())
        cpu = sum(TRUTH[name] * value for name, value in terms.items()) * chance.normal(1, 0.03)
        cpu *= 5 if number % 10 == 9 else 1
        cpu += START if number < processes else 0.0
        found.append(Sample(terms, cpu, 1.2 * cpu, 0.02, 0.5, number // processes))
    return found


def varied(num: int, seed: int) -> list[Task]:
    chance = np.random.default_rng(seed)
    densities = chance.choice([0.3, 0.1, 0.02, 0.002], num)
    edges, frames = chance.choice([128, 256, 512], num), chance.choice([100, 300, 1000, 3000], num)
    return [
        ingest(int(t), int(edge), float(density)) for t, edge, density in zip(frames, edges, densities, strict=True)
    ]


def test_other_tasks_are_predicted_although_some_are_stragglers() -> None:
    fit = fit_stage(samples(varied(60, 1)))
    for load in (ingest(5000, 400, 0.2), ingest(700, 1024, 0.01), ingest(200, 64, 0.3)):
        terms = FORMULAS["ingest"](load, Machine())
        truth = sum(TRUTH[name] * value for name, value in terms.items())
        mean, spread = fit.cpu_seconds(terms, 0)
        assert mean == pytest.approx(truth, rel=0.1)
        assert abs(mean - truth) < 4 * spread
    assert fit.start == pytest.approx(START, rel=0.2)
    assert fit.clock == pytest.approx(1.2)
    assert fit.gap == pytest.approx(0.02)
    assert (fit.written, fit.num_tasks) == (0.5, 60)


def test_tasks_that_are_alike_tell_their_sum_but_not_its_parts() -> None:
    """Ten equal scans: such a scan is known well, one of another kind is not, and the fit says so."""
    alike = ingest(1000, 256, 0.2)
    fit = fit_stage(samples([alike] * 9))
    same, other = (FORMULAS["ingest"](task, Machine()) for task in (alike, ingest(1000, 256, 0.002)))
    mean, spread = fit.cpu_seconds(same, 0)
    assert mean == pytest.approx(sum(TRUTH[name] * value for name, value in same.items()), rel=0.05)
    assert spread / mean < 0.05
    unseen = fit_stage(samples([alike] * 9 + [ingest(100, 64, 0.002)]))
    mean, spread = unseen.cpu_seconds(other, 0)
    assert spread / mean > 0.2


def test_one_lone_task_blames_its_start_and_not_its_terms() -> None:
    """A stage of one task that took 3 s where the formula says 0.1 s: a thousand times the work is not 3000 s."""
    fit = fit_stage([Sample({"maps": 0.1}, 3.0, 3.0, float("nan"), 1.0, 0)])
    assert fit.cpu_seconds({"maps": 0.1}, 1)[0] == pytest.approx(3.0, rel=0.1)
    assert fit.cpu_seconds({"maps": 100.0}, 1)[0] < 300


def test_what_is_kept_is_what_predictions_rest_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    task = ingest(1000, 256, 0.2)
    plan = Plan("ingest", Shape.ARRAY, (task,))
    stated = task_seconds("ingest", task, Machine())
    assert load_fitted() == {}
    assert predict(plan).seconds == pytest.approx(stated)
    keep_fitted({"ingest": StageFit({"task": 2.0, "frames": 2.0}, [[0.0] * 3] * 3, 0.1, 5)})
    assert predict(plan).seconds == pytest.approx(2 * stated)
    assert predict(plan, Machine()).seconds == pytest.approx(stated), "another machine"
    path = keep_fitted({}, Path("configs/big.yaml"))
    assert "big" in path.name
    path.write_text("[", encoding="utf-8")
    assert load_fitted(Path("configs/big.yaml")) == {}
