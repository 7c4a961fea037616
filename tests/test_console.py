"""Progress: how fast, how long still, what is slow; a line a minute where there is no terminal."""

from __future__ import annotations

import contextlib
import time

import pytest

from ainerd_hpc import console
from ainerd_hpc.console import Pace, Step, progress

Said = pytest.CaptureFixture[str]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_nothing_is_said_of_what_has_not_begun() -> None:
    assert str(Pace(40)) == ""


def test_time_left_counts_long_tasks_as_long(clock: list[float]) -> None:
    """Two of four tasks in 10 s, which are a tenth of all work: 90 s are left, not 10; workers took 30 s to begin."""
    pace = Pace(4, predicted=20.0, workers=2)
    clock[0] += 40
    for key in ("a", "b"):
        pace.add(1, Step(key, 10.0, 1.0))
    assert str(pace) == "12/min, 90 s left, 2 workers"


def test_without_predictions_all_tasks_are_alike(clock: list[float]) -> None:
    pace = Pace(8)
    clock[0] += 4
    pace.add(2, None)
    assert str(pace) == "30/min, 12 s left"
    pace.add(6, None)
    assert str(pace) == "2/s"


def test_a_slow_task_is_named(clock: list[float]) -> None:
    pace = Pace(10)
    clock[0] += 20
    for number, seconds in enumerate((1.0, 1.0, 10.0, 1.0, 1.0)):
        pace.add(1, Step(f"s{number}", seconds, 0.0))
    assert str(pace).endswith(", slowest s2 10 s, mean 2.8 s")


def test_a_log_has_a_line_in_a_while_and_one_at_the_end(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    """Also as long as nothing is finished: who reads it sees that something is at work."""
    monkeypatch.setattr(console, "_EVERY", 0.1)
    with progress("correlate", Pace(2)) as advance:
        time.sleep(0.25)
        advance("s1: broken")
        advance("")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "correlate: 0 of 2"
    assert lines[-1].startswith("correlate: 2 of 2, ")
    assert lines[-1].endswith("/s; s1: broken")
    assert 3 <= len(lines) <= 5


def test_what_ends_early_tells_how_far_it_came(capsys: Said) -> None:
    with contextlib.suppress(RuntimeError), progress("maps", Pace(5)) as advance:
        advance("")
        raise RuntimeError
    assert capsys.readouterr().out.startswith("maps: 1 of 5, ")
