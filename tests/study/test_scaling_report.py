"""Scaling: laws found again in speed-ups that follow them, runs turned into lines, and a page that stands alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from ainerd_hpc.cli import main
from ainerd_hpc.config import RunConfig
from ainerd_hpc.study.laws import LAWS, fit_law
from ainerd_hpc.study.measuring import Measured, _order
from ainerd_hpc.study.scaling_report import series_of, time_shares, write_report

WORKERS = (1, 2, 4, 8, 16, 32)


def runs(name: str, *parameters: float, seed: int = 0) -> list[tuple[int, float]]:
    """Seconds of runs that follow a law, 100 s with one worker, three each, 1 % from run to run."""
    chance = np.random.default_rng(seed)
    times = 100 / LAWS[name](np.array(WORKERS, float), *parameters)
    return [(n, t * chance.normal(1, 0.01)) for n, t in zip(WORKERS, times, strict=True) for _ in range(3)]


@pytest.mark.parametrize(("name", "truth"), [("Amdahl", (0.05,)), ("USL", (0.03, 0.002)), ("USL", (0.0, 0.0))])
def test_a_law_is_found_again_within_its_interval(name: str, truth: tuple[float, ...]) -> None:
    law = fit_law(name, runs(name, *truth))
    assert law is not None
    assert law.parameters == pytest.approx(truth, rel=0.15, abs=1e-3)
    assert all(low - 1e-3 <= true <= high + 1e-3 for true, (low, high) in zip(truth, law.intervals, strict=True))
    assert law.speedup(np.array([1.0])) == pytest.approx(1)


def test_too_few_numbers_of_workers_give_no_law() -> None:
    two = [run for run in runs("USL", 0.03, 0.002) if run[0] <= 2]
    assert fit_law("USL", two) is None
    assert fit_law("Amdahl", two) is not None
    assert fit_law("Amdahl", [run for run in two if run[0] == 2]) is None


def test_every_other_repeat_goes_backwards() -> None:
    there, back = (_order(["strong", "weak"], [1, 2], repeat) for repeat in (0, 1))
    assert there == [("strong", 1), ("strong", 2), ("weak", 1), ("weak", 2)]
    assert back == there[::-1]


def measured(kind: str, workers: int, seconds: float, repeat: int = 0) -> Measured:
    parts = {"waiting": 1.0, "between": 1.0, "idle": 0.0, "work": {"read": 2.0, "kernel": 6.0}}
    sizes = {"bytes_read": 10, "bytes_written": 5, "planned_read": 10, "planned_write": 9, "peak_bytes": 7}
    figures = {"num_tasks": 8, "seconds": seconds, "outside": 0.5, "cpu_seconds": 8.0, "planned_peak": 8, "others": 0.0}
    return Measured(kind, "maps", workers, repeat, **figures, **parts, **sizes)  # type: ignore[arg-type]


def test_the_report_says_speedup_efficiency_and_where_time_goes(tmp_path: Path) -> None:
    strong = [measured("strong", n, t, repeat) for n, t in ((1, 10.0), (2, 6.25), (4, 4.0)) for repeat in range(2)]
    weak = [measured("weak", 1, 10.0), measured("weak", 2, 12.5)]
    by_kind = {one.kind: one for one in series_of(strong + weak)}
    assert [median for median, _, _ in by_kind["strong"].speedups().values()] == pytest.approx([1, 1.6, 2.5])
    assert by_kind["weak"].speedups()[2][0] == pytest.approx(1.6), "twice the work in 1.25 times the time"
    assert time_shares(strong) == pytest.approx({"read": 0.2, "kernel": 0.6, "waiting": 0.1, "between": 0.1, "idle": 0})
    page = write_report(strong + weak, tmp_path, "A <study>").read_text(encoding="utf-8")
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")
    assert "A &lt;study&gt;" in page
    assert not re.search(r"(?:src|href)=\"(?!data:)", page), "it needs no other file"
    cells = re.findall(r"<td>(.*?)</td>", page)
    assert {"1.60 (1.60-1.60)", "0.80 (0.80-0.80)", "2.50 (2.50-2.50)", "80%", "5 B / 9 B", "7 B / 8 B"} <= set(cells)
    assert "Amdahl: s 0.2" in page


def test_a_study_is_measured_and_told(studied: Path) -> None:
    assert sorted(path.name for path in studied.iterdir()) == ["scale.html", "scale.jsonl", "scale.png"]
    head, *lines = map(json.loads, (studied / "scale.jsonl").read_text(encoding="utf-8").splitlines())
    assert {"command", "config", "versions", "host", "cores", "workers", "num_scans"} <= set(head)
    names = [(line["stage"], line["workers"], line["repeat"]) for line in lines]
    assert names == [(stage, 1, repeat) for repeat in (0, 1) for stage in ("ingest", "correlate")]
    for line in lines:
        assert line["num_tasks"] == 6
        assert 0 <= line["others"] < 1000
        assert line["bytes_written"] > 0
        workers_time = line["cpu_seconds"] + line["waiting"] + line["between"] + line["idle"]
        assert workers_time == pytest.approx(line["seconds"], rel=0.3)
        assert sum(line["work"].values()) == pytest.approx(line["cpu_seconds"])


def test_several_workers_have_to_be_workers(other: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    place = ["--source", str(other.source.path), "--archive", str(tmp_path / "none"), "--out", str(tmp_path)]
    assert main(["scale", *place, "--executor", "inline", "--workers", "2"]) == 2
    assert "expected workers, found executor.kind: inline" in capsys.readouterr().err
    assert main(["scale", *place, "--executor", "local", "--workers", "7"]) == 2
    assert "expected 7 scans or more, found 6" in capsys.readouterr().err
