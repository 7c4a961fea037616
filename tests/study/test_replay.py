"""The replay of a schedule against what can be worked out, and against runs that were measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from ainerd_hpc.cli import main
from ainerd_hpc.config import RunConfig
from ainerd_hpc.study.replay import Conditions, advice, knee, most_workers, replay

CALM = {"spread": 0.0, "start": 0.0, "operations": 0.0, "stragglers": 0.0, "failures": 0.0, "scheduler": 0.0}


def calm(num_tasks: int, seconds: float, **more: float) -> Conditions:
    return Conditions(num_tasks, seconds, **{**CALM, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 4, 10])
def test_nothing_but_tasks_takes_their_time(workers: int) -> None:
    found = replay(calm(1000, 2.0), workers)
    assert found.seconds == pytest.approx(2000 / workers)
    assert found.efficiency == pytest.approx(1)


@pytest.mark.parametrize(
    ("given", "name", "seconds"),
    [
        ({"scheduler": 0.01}, "scheduler", 100.0),  # 10,000 tasks x 10 ms
        ({"scheduler": 0.01, "schedulers": 4}, "scheduler", 25.0),
        ({"operations": 100.0, "metadata": 1e4}, "metadata", 100.0),
        ({"task_bytes": 1e7, "bandwidth": 1e9, "stream": 1e9}, "bandwidth", 100.0),
    ],
)
def test_what_is_shared_lets_through_what_it_can(given: dict[str, float], name: str, seconds: float) -> None:
    found = replay(calm(10_000, 0.1, **given), 200)
    assert found.seconds == pytest.approx(seconds, rel=0.05)
    assert found.limit == name


def test_the_knee_is_where_it_is_worked_out() -> None:
    """Tasks of 1 s, 10 ms each of the scheduler: it keeps 100 workers busy, and says what to do about more."""
    given = calm(20_000, 1.0, scheduler=0.01)
    found, most = knee(given, 300)
    assert most_workers(given)["scheduler"] == pytest.approx(100)
    assert most == 100
    assert [one.efficiency >= 0.9 for one in found] == [True] * 5 + [False]
    assert advice(given, 30) == ""
    assert "take 4 schedulers" in advice(given, 300)


def test_workers_that_leave_lose_their_time_but_no_task() -> None:
    """Jobs of 1000 s and 100 s in the queue before each: a worker is away for a tenth of its time."""
    found = replay(calm(20_000, 5.0, walltime=1000.0, queue=100.0), 20)
    assert found.efficiency == pytest.approx(1000 / 1100, rel=0.05)
    assert found.limit == "away"
    dying = replay(calm(20_000, 5.0, failures=36.0, start=50.0), 20)
    assert dying.efficiency < 0.7, "every 100 s one dies, and takes 50 s to come again"


def test_batches_change_little() -> None:
    """As many tasks as there are replayed one by one, and ten times as many, which go in batches."""
    one, many = (replay(Conditions(num, 3.0, task_bytes=1e6), 50) for num in (20_000, 200_000))
    assert many.seconds / one.seconds == pytest.approx(10, rel=0.03)
    assert many.efficiency == pytest.approx(one.efficiency, rel=0.03)


def test_a_run_is_replayed_within_15_percent(studied: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["replay", "--check", str(studied / "scale.jsonl")]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if " strong " in line]
    assert [row[0] for row in rows] == ["ingest", "correlate"] * 2
    assert all(abs(float(row[-1].rstrip("%"))) <= 15 for row in rows)


def test_a_stage_is_replayed_under_what_is_assumed(
    other: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    place = ["--source", str(other.source.path), "--archive", str(tmp_path / "none")]
    assumed = ["--most", "30", "--assume", "num_tasks=2000", "--assume", "seconds=1", "--assume", "scheduler=0.05"]
    assert main(["replay", *place, *assumed]) == 0
    said = capsys.readouterr().out
    assert "Replay of 2000 tasks of correlate" in said
    assert "up to 10 workers" in said
    assert "take 2 schedulers" in said
    for wrong in ("num=3", "seconds"):
        assert main(["replay", *place, "--assume", wrong]) == 2
    assert "--assume: expected" in capsys.readouterr().err
