"""An archive made by an earlier version is taken as current, product for product."""

from __future__ import annotations

from pathlib import Path

import pytest

import ainerd_hpc.archive.tables as tables
from ainerd_hpc.archive.journal import Journal
from ainerd_hpc.loading import load
from ainerd_hpc.planning import find_scans, line_of, nothing_found, stage_names
from ainerd_hpc.stages.line import Line
from tests.support.golden_archive import CASES, DIGESTS, golden_config, write_golden
from tests.support.places import GOLDEN


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("golden")
    write_golden(path)
    return path


@pytest.fixture
def line(folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Line:
    """The line of a case; its sample log in the bytes of then, which another pyarrow might not write."""
    case = request.param
    log = GOLDEN / ("sample_log_latents.parquet" if case == "latents" else "sample_log.parquet")
    monkeypatch.setattr(tables, "table_bytes", lambda table: log.read_bytes())
    config = golden_config(folder, case)
    return line_of(config, Journal(config.archive), find_scans(config))


@pytest.mark.parametrize(("line", "case"), [(case, case) for case in CASES], indirect=["line"])
def test_products_of_an_earlier_version_are_current(line: Line, case: str) -> None:
    scans = find_scans(line.config).scans
    found = {name: {task.key: task.digest for task in line.tasks(name, scans)} for name in stage_names(line.config)}
    found["tables"] = {
        "maps/index": line.of_all("maps", scans),
        "embedding": line.of_all("embed", scans),
        "clusters": line.of_all("cluster", scans),
    }
    del found["report"]  # its digest holds the version of the page itself, which comes with every version of ours
    assert {name: digests for name, digests in found.items() if digests} == DIGESTS[case]


def test_simulated_sources_of_an_earlier_version_are_current() -> None:
    config = load(None, ["archive=a", "source.path=s", "simulate.num_scans=2", "simulate.seed=7"])
    line = line_of(config, Journal(config.archive), nothing_found())
    tasks = line.tasks("simulate", ())
    assert {task.key: task.digest for task in tasks} == DIGESTS["simulated"]["simulate"]
