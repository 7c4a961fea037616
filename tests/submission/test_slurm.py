"""The line on a real SLURM, which the tests bring up for themselves."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ainerd_hpc.submission.record import last_submission
from tests.conftest import digests
from tests.support.batch_runs import (
    begin_local_run,
    local_digests,
    logs,
    queued,
    states,
    verb,
    wait_for,
    write_config,
    write_site,
)
from tests.support.places import ROOT
from tests.support.slurm_sandbox import cluster

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module", autouse=True)
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with cluster(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture
def config(tmp_path: Path, simulated_source: Path) -> Path:
    return write_config(tmp_path, simulated_source)


def _control(action: str, job: str) -> None:
    subprocess.run(["scontrol", action, job], check=True)


def _same_as_a_local_run(config: Path, factory: pytest.TempPathFactory, *folders: str) -> None:
    archive = config.parent / "archive"
    expected = local_digests(config, factory)
    if folders:
        expected = {path: value for path, value in expected.items() if path.startswith(folders)}
    found = digests(archive)
    assert {path: found.get(path) for path in expected} == expected, logs(archive)


def test_the_whole_line_ends_as_a_local_run(config: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    site = write_site(config.parent, "slurm", array={"jobs": 2, "queue": "all", "at_once": 2})
    result = verb("submit", config, "--site", site)
    assert result.returncode == 0, result.stderr
    begin_local_run(config, tmp_path_factory)
    jobs = re.findall(r"^([\w-]+): job (\d+)$", result.stdout, flags=re.MULTILINE)
    assert [name for name, _ in jobs] == [
        "ingest", "ingest-end", "correlate", "correlate-end", "maps", "maps-end", "train", "embed", "cluster",
        "report",
    ]  # fmt: skip
    held = dict(jobs)["correlate"]
    _control("hold", held)  # so that the line stands still while it is looked at
    assert states(config)["report"] == "waiting 1 waiting"
    again = verb("submit", config, "--site", site)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "expected no jobs of it, found" in again.stderr
    archive = config.parent / "archive"
    wait_for(lambda: not queued("-n", "ingest-end"), logs(archive))
    during = states(config)
    assert (during["ingest"], during["correlate"], during["maps"]) == ("done", "queued 2 queued", "waiting 2 waiting")
    _control("release", held)
    wait_for(lambda: queued("-n", "train", "-t", "R"), logs(archive))
    _control("suspend", dict(jobs)["train"])
    during = states(config)
    assert (during["maps"], during["train"]) == ("done", "running 1 running")
    _control("resume", dict(jobs)["train"])
    wait_for(lambda: not queued(), logs(archive))
    assert set(states(config).values()) == {"done"}
    _same_as_a_local_run(config, tmp_path_factory)
    assert digests(archive).keys() == local_digests(config, tmp_path_factory).keys()
    nothing = verb("submit", config, "--site", site)
    assert (nothing.returncode, nothing.stdout) == (0, "everything is done: nothing is submitted\n")


@pytest.mark.parametrize(("kind", "nodes"), [("elastic", 1), ("allocation", 2)])
def test_with_dask_workers_elsewhere(
    kind: str, nodes: int, config: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = yaml.safe_load(config.read_text())
    site = write_site(config.parent, "slurm", array={"nodes": nodes, "jobs": 2})
    config.write_text(yaml.safe_dump({**data, "executor": {"kind": kind, "site": str(site)}}))
    result = verb("submit", config, "--site", site, "--until", "ingest")
    assert result.returncode == 0, result.stderr
    archive = config.parent / "archive"
    wait_for(lambda: not queued(), logs(archive))
    assert states(config)["ingest"] == "done", logs(archive)
    write_config(config.parent, yaml.safe_load(config.read_text())["source"]["path"])
    _same_as_a_local_run(config, tmp_path_factory, "frames")


def test_shares_beyond_the_largest_array(config: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An array of this SLURM has 4 elements at most (MaxArraySize=5)."""
    site = write_site(config.parent, "slurm", array={"jobs": 6})
    result = verb("submit", config, "--site", site, "--until", "ingest")
    assert result.returncode == 0, result.stderr
    jobs = re.findall(r"^([\w-]+): job \d+$", result.stdout, flags=re.MULTILINE)
    assert jobs == ["ingest", "ingest-2", "ingest-end"]
    archive = config.parent / "archive"
    wait_for(lambda: not queued(), logs(archive))
    assert states(config)["ingest"] == "done", logs(archive)
    said = "".join(path.read_text() for path in (last_submission(archive).folder / "logs").glob("ingest*.log"))
    assert sorted(re.findall(r"share (\d) of 6", said)) == list("123456")
    _same_as_a_local_run(config, tmp_path_factory, "frames")


def test_put_back_before_its_walltime_then_cancelled_then_submitted_again(
    config: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, archive = config.parent, config.parent / "archive"
    pausing = [sys.executable, str(ROOT / "tests" / "support" / "faulty.py"), str(folder), "pauses"]
    site = write_site(folder, "slurm", environment={"command": pausing})
    assert verb("submit", config, "--site", site, "--until", "correlate").returncode == 0
    wait_for(lambda: (folder / "ingest" / "reached").exists(), "no scan was ingested so far")
    assert list(archive.glob("frames/*.zip"))
    (first,) = queued("-n", "ingest")
    subprocess.run(["scancel", "--batch", "--signal=USR1", first], check=True)  # as SLURM does, `lead` before the end
    wait_for(lambda: queued("-n", "ingest", "-t", "PD"), logs(archive))
    _control("hold", first)
    assert states(config)["ingest"].startswith("queued 1 queued")
    _control("release", first)
    wait_for(lambda: (folder / "correlate" / "reached").exists(), logs(archive))
    log = next(archive.glob("jobs/*/logs/ingest.*.log")).read_text()
    assert re.findall(r"exit (\d+)", log) == ["130", "0"]
    assert "goes on in another job" in log

    (running,) = queued("-n", "correlate", "-t", "R")
    subprocess.run(["scancel", running], check=True)
    wait_for(lambda: not queued(), logs(archive))
    found = states(config)
    assert found["correlate"] == "cancelled 1 cancelled"
    assert len(list(archive.glob("correlation/*.zip"))) < 6

    result = verb("submit", config, "--site", site, "--until", "correlate")
    assert [line.split(":")[0] for line in result.stdout.splitlines() if ": job " in line] == [
        "resume", "correlate",
    ]  # fmt: skip
    wait_for(lambda: not queued(), logs(archive))
    _same_as_a_local_run(config, tmp_path_factory, "frames", "correlation", "catalog", "quarantine")


def test_cancel_ends_what_was_submitted(config: Path) -> None:
    site = write_site(config.parent, "slurm", array={"jobs": 2})
    assert verb("submit", config, "--site", site).returncode == 0
    result = verb("cancel", config)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(",") >= 7
    wait_for(lambda: not queued(), "cancelled jobs are still there")
    assert states(config)["report"].startswith("cancelled")
    assert verb("cancel", config).stdout == "no job of this archive is in the queue\n"


def test_a_failed_job_stops_the_line_and_says_why(config: Path) -> None:
    failing = ["/bin/sh", "-c", "echo 'ainerd-hpc: the disk is full' >&2; exit 1"]
    site = write_site(config.parent, "slurm", environment={"command": failing})
    assert verb("submit", config, "--site", site).returncode == 0
    wait_for(lambda: not queued(), "jobs whose dependency failed are still there")
    found = states(config)
    assert found.pop("ingest") == "failed 1 failed"
    assert set(found.values()) == {"not run: ingest failed 1 cancelled"}
    told = verb("status", config).stdout
    assert re.search(r"^ingest, job \d+: the disk is full \(ingest\.\d+\.log\)$", told, re.MULTILINE)


def test_a_refused_job_takes_back_those_before_it(config: Path) -> None:
    site = write_site(config.parent, "slurm", single={"cores": 64, "memory": "4 GB"})
    result = verb("submit", config, "--site", site)
    assert result.returncode == 1
    assert re.fullmatch(
        r"ainerd-hpc: cluster: sbatch refused \(exit 1\): sbatch: error: .*; "
        r"jobs \d+(, \d+){4}, submitted before it, are cancelled\n",
        result.stderr,
    )
    wait_for(lambda: not queued(), "jobs are still there")
    submission = last_submission(config.parent / "archive")
    assert submission.cancelled == {job.id for job in submission.jobs}
    events = [json.loads(line)["event"] for line in (submission.folder / "jobs.jsonl").read_text().splitlines()]
    assert events == ["begun", *["submitted"] * 5, "cancelled"]


def test_a_script_by_hand(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "jobs", tmp_path / "jobs")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if shutil.which("ainerd-hpc") is None:
        pytest.skip("ainerd-hpc is not installed")
    told = f"--export=ALL,AINERD_STAGE=ingest,AINERD_CONFIG={config},AINERD_SHARES=2"
    command = ["sbatch", "--array=2-2", "--mem=4G", told, "jobs/array.sbatch"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    wait_for(lambda: not queued(), "the job is still there")
    said = "".join(path.read_text() for path in tmp_path.glob("*.out"))
    assert len(list((tmp_path / "archive").glob("frames/*.zip"))) == 3, said
    assert re.search(r"^ainerd-hpc job \d+_2: exit 0", said, re.MULTILINE)
