"""What the rest of a campaign costs: fitted on one archive, held against another, and worked out by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.cli import main
from ainerd_hpc.config import RunConfig
from ainerd_hpc.pipeline import Run
from ainerd_hpc.scaling.fitting import StageFit, load_fitted
from ainerd_hpc.site.calibration import Machine
from ainerd_hpc.site.site_file import load_site
from ainerd_hpc.study.estimate import comparison, estimate
from ainerd_hpc.study.samples import fit_archives, samples_of
from ainerd_hpc.types import Load, Plan, Shape, Task

STAGES = ("ingest", "correlate", "maps")
KNOWN = StageFit({"task": 1.0, "maps": 1.0, "entries": 1.0}, [[0.0] * 4] * 4, 0.0, 100, written=0.5)
"""Maps take what the formula says: 15 ms a task and 3.5 ms a map; they write half of what was planned."""


def maps(num_tasks: int, num_maps: int = 2430) -> Plan:
    """Tasks of maps that take 8.52 s each, write 1 MB, by the stated constants."""
    task = Task("a", "digest", 0, 0, 10**6, load=Load(num_maps=num_maps))
    return Plan("maps", Shape.ARRAY, tuple(replace(task, key=str(number)) for number in range(num_tasks)))


@pytest.fixture
def site(tmp_path: Path):
    path = tmp_path / "big.yaml"
    path.write_text("system: slurm\nnodes: {cores: 8, memory: 16 GB}\narray: {jobs: 64}\n", encoding="utf-8")
    return path


def test_an_estimate_is_what_is_worked_out_by_hand(varied: RunConfig, site: Path) -> None:
    """1000 tasks of 8.52 s on 8 cores a node: 11 jobs are worth it, since a last task waits for nobody."""
    (found,) = estimate([maps(1000)], varied, {"maps": KNOWN}, Machine(), load_site(site))
    each = 0.015 + 2430 * 3.5e-3
    assert found.cpu_seconds.middle == pytest.approx(1000 * each)
    assert (found.cpu_seconds.low, found.cpu_seconds.high) == pytest.approx((1000 * each / 1.2, 1200 * each))
    assert found.workers == found.jobs * 8
    seconds = each + 999 * each / found.workers
    assert found.seconds.middle == pytest.approx(seconds)
    assert found.node_hours.middle == pytest.approx(found.jobs * seconds / 3600)
    assert (found.written.middle, found.num_files) == (pytest.approx(5e8), 1000)
    alone = each + 999 * each / 8
    assert (
        alone / (found.jobs * seconds) >= 0.9 > alone / ((found.jobs + 1) * (each + 999 * each / (8 * found.jobs + 8)))
    )


def test_tiny_tasks_wait_for_the_scheduler_and_should_go_together(varied: RunConfig, site: Path) -> None:
    (tiny,) = estimate([maps(10_000, 0)], varied, {"maps": KNOWN}, Machine(), load_site(site))
    assert tiny.seconds.middle >= 10
    assert tiny.workers < 20, "15 ms a task: a scheduler that takes 1 ms keeps 15 busy"
    assert tiny.scans_a_task == 2


def test_what_was_never_seen_has_a_wide_interval(varied: RunConfig) -> None:
    seen, unseen = (estimate([maps(10)], varied, fit, Machine())[0] for fit in ({"maps": KNOWN}, {}))
    widths = [one.cpu_seconds.high / one.cpu_seconds.low for one in (seen, unseen)]
    assert widths[1] > 1.5 * widths[0]


def test_fitted_on_one_archive_it_predicts_another(
    varied: RunConfig, other: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Other frames, pixels and densities. CPU seconds of tasks of 30 ms differ by a third between runs on a busy
    machine; `benchmarks/predictions.py` has larger ones."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["calibrate", str(varied.archive)]) == 0
    arguments = ["--source", str(other.source.path), "--archive", str(other.archive), "--executor", "inline"]
    assert main(["plan", *arguments, "--estimate", "--set", 'maps.windows=["full", 32]']) == 0
    assert "in all" in capsys.readouterr().out
    Run(other, until="maps").execute()
    found, fitted = samples_of(other), load_fitted()
    measured = sum(sample.cpu_seconds for samples in found.values() for sample in samples)
    expected = 0.0
    for stage, samples in found.items():
        terms = Counter[str]()
        for sample in samples:
            terms.update(sample.terms)
        expected += fitted[stage].cpu_seconds(terms, 0)[0]  # this process has loaded all it needs
    assert measured / 1.6 < expected < 1.6 * measured
    archive = Archive(other.archive)
    lines = comparison(archive)
    assert [line.partition(" ")[0] for line in lines] == list(STAGES)
    assert all("CPU" in line and "written" in line for line in lines)
    assert main(["status", str(other.archive)]) == 0
    assert "took, of what was estimated" in " ".join(capsys.readouterr().out.split())


def test_an_archive_without_tasks_has_nothing_to_learn_from(
    varied: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["calibrate", str(tmp_path)]) == 2
    assert "expected an archive that keeps its config" in capsys.readouterr().err
    fitted = fit_archives([varied.archive])
    assert set(fitted) == set(STAGES)
    assert all(fit.num_tasks == 6 for fit in fitted.values())
