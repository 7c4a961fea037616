"""Dask workers on nodes of a real SLURM: in jobs of their own, on all nodes of one job, of a scheduler that runs."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from ainerd_hpc.config import ExecutorConfig
from ainerd_hpc.errors import AinerdError, SubmissionError
from ainerd_hpc.executors import Workers, elastic, open_executor, running
from ainerd_hpc.loading import load
from ainerd_hpc.pipeline import Run
from ainerd_hpc.types import Task
from tests.conftest import digests
from tests.support import pbs_front
from tests.support.batch_runs import pbs_sandbox, queued, wait_for, write_site
from tests.support.places import ROOT
from tests.support.slurm_sandbox import Cluster, cluster
from tests.support.task_functions import where, work_in_job

pytestmark = pytest.mark.slurm

LINE = [sys.executable, "-m", "ainerd_hpc.cli", "run"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("slurm")) as found:
        yield found


@pytest.fixture(scope="module")
def expected(simulated_source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of an archive that nothing went wrong with, up to the correlations."""
    folder = tmp_path_factory.mktemp("expected")
    Run(load(write_config(folder, simulated_source, kind="inline")), until="correlate").execute()
    return digests(folder / "archive")


def write_config(folder: Path, source: Path, **executor: object) -> Path:
    path = folder / "nodes.yaml"
    data = {"archive": str(folder / "archive"), "source": {"path": str(source)}, "executor": executor}
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def write_elastic(folder: Path, source: Path, **site: object) -> Path:
    """Of a line on workers in two jobs, one each, on a node each."""
    nodes = {"cores": 1, "memory": "3 GB", "walltime": "00:05:00", "options": ["--exclusive"]}
    sections = {"nodes": nodes, "array": {"jobs": 2}, **site}
    return write_config(folder, source, kind="elastic", site=str(write_site(folder, "slurm", **sections)))


def begin(config: Path, until: str = "correlate", **environment: str) -> subprocess.Popen[str]:
    command = [*LINE, str(config), "--until", until]
    log = (config.parent / "said.txt").open("a")
    return subprocess.Popen(command, stdout=log, stderr=log, text=True, env={**os.environ, **environment})


def said(config: Path) -> str:
    runs = (config.parent / "archive").glob("runs/*/*.log")
    paths = [path for path in (config.parent / "said.txt", *runs) if path.exists()]
    return "\n".join(path.read_text()[-3000:] for path in paths)


def end(process: subprocess.Popen[str], config: Path) -> None:
    assert process.wait(120) == 0, said(config)


def worker_jobs(*options: str) -> list[str]:
    return queued("--name=ainerd-worker", *options)


def workers_of(slurm: Cluster, node: str) -> list[int]:
    """Processes that run tasks: they were spawned by the one that watches them."""
    return [pid for pid in slurm.processes(node) if b"multiprocessing.spawn" in _command(pid)]


def dask_of(slurm: Cluster, node: str) -> list[int]:
    """All processes of Dask on a node, those that watch first."""
    watching = [pid for pid in slurm.processes(node) if b"-m\0distributed.cli.dask_worker" in _command(pid)]
    return [pid for pid in watching if b"srun" not in _command(pid)] + workers_of(slurm, node)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def first_product(config: Path, folder: str = "frames") -> None:
    archive = config.parent / "archive"
    wait_for(lambda: list((archive / folder).glob("*.zip")), f"no product in {folder}")


def test_workers_in_jobs_give_the_same_archive_whatever_befalls_them(
    slurm: Cluster, tmp_path: Path, simulated_source: Path, expected: dict[str, str]
) -> None:
    config = write_elastic(tmp_path, simulated_source)
    process = begin(config)
    archive = tmp_path / "archive"
    first_product(config)
    (keys,) = archive.glob("runs/*/keys")
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {0o600}
    os.kill(next(pid for node in slurm.nodes for pid in workers_of(slurm, node)), signal.SIGKILL)
    first_product(config, "correlation")
    cancelled = worker_jobs("-t", "R")[0]
    subprocess.run(["scancel", cancelled], check=True)
    end(process, config)
    assert digests(archive) == expected
    wait_for(lambda: not worker_jobs(), "jobs are still there")
    assert not keys.exists()
    assert re.search(r"^Dask dashboard: http://127\.0\.0\.1:\d+/[\w-]{32}/status$", said(config), re.MULTILINE)
    assert len(list(archive.glob("runs/*/ainerd-worker.*.log"))) >= 2
    (record,) = archive.glob("runs/*.json")
    html = record.with_suffix(".dask.html").read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=.?(https?:)?//", html)
    assert not [path for path in Path.cwd().iterdir() if "ainerd-worker" in path.name]


@pytest.mark.parametrize("fault", ["crash", "hang"])
def test_a_node_that_fails_changes_nothing(
    fault: str, slurm: Cluster, tmp_path: Path, simulated_source: Path, expected: dict[str, str]
) -> None:
    config = write_elastic(tmp_path, simulated_source)
    process = begin(config, DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="5s")
    try:
        first_product(config)
        wait_for(lambda: all(workers_of(slurm, node) for node in slurm.nodes), "no worker on some node")
        if fault == "crash":
            slurm.crash("n2")
        else:
            slurm.hang("n2")
        end(process, config)
    finally:
        process.kill()
        slurm.unhang("n2")
        if fault == "crash":
            slurm.restart("n2")
        slurm.wait_until_up()
    assert digests(tmp_path / "archive") == expected
    wait_for(lambda: not worker_jobs(), "jobs are still there")


def test_a_killed_client_leaves_no_jobs_and_the_same_command_goes_on(
    slurm: Cluster, tmp_path: Path, simulated_source: Path, expected: dict[str, str]
) -> None:
    config = write_elastic(tmp_path, simulated_source)
    process = begin(config, "ingest")
    first_product(config)
    process.kill()
    process.wait()
    again = begin(config, "ingest")
    orphans = worker_jobs()
    assert orphans
    wait_for(lambda: not set(orphans) & set(worker_jobs()), "orphans are still there")
    end(again, config)
    frames = {path: value for path, value in expected.items() if path.startswith("frames")}
    assert frames
    assert frames.items() <= digests(tmp_path / "archive").items()


def _tasks(number: int, **args: object) -> list[Task]:
    return [Task(f"{one:03d}", "digest", 0, 0, 0, args) for one in range(number)]


def elastic_config(folder: Path, jobs: int = 2, **site: object) -> ExecutorConfig:
    """Of workers without our libraries: small ones."""
    nodes = {"cores": 2, "memory": "1 GB", "walltime": "00:05:00"}
    path = write_site(folder, "slurm", **{"nodes": nodes, "array": {"jobs": jobs}, **site})
    return ExecutorConfig.model_validate({"kind": "elastic", "site": path, "dashboard": False})


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs find this module."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def tasks_for_three_jobs(folder: Path, *cancel: str) -> tuple[list[Task], threading.Thread]:
    """Tasks that end when three jobs were seen, and what cancels the first of two jobs when both are there."""
    seen = folder / "seen"
    seen.mkdir()

    def cancel_the_first() -> None:
        wait_for(lambda: len(os.listdir(seen)) == 2, "no two jobs")
        subprocess.run([*cancel[:-1], f"{min(os.listdir(seen))}{cancel[-1]}"], check=True)

    thread = threading.Thread(target=cancel_the_first)
    thread.start()
    return _tasks(12, jobs=3, folder=str(seen)), thread


@pytest.mark.usefixtures("slurm", "importable")
def test_lost_jobs_are_replaced_and_jobs_without_work_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elastic, "_LOST_AFTER", 2.0)
    monkeypatch.setattr(elastic, "_IDLE", 2.0)
    tasks, cancels = tasks_for_three_jobs(tmp_path, "scancel", "")
    with Workers(elastic_config(tmp_path), tmp_path / "run") as workers:
        results = list(workers.map(work_in_job, tasks))
        assert sorted(result.key for result in results) == [task.key for task in tasks]
        assert [result.reason for result in results] == [""] * len(tasks)
        cancels.join()
        wait_for(lambda: not worker_jobs(), "jobs without work are still there")
        assert [result.reason for result in workers.map(work_in_job, _tasks(2))] == ["", ""]


@pytest.mark.usefixtures("slurm", "importable")
def test_a_task_that_runs_out_of_memory_gets_a_larger_job(tmp_path: Path) -> None:
    sections = {"nodes": {"cores": 1, "memory": "1 GB", "walltime": "00:05:00"}, "single": {"memory": "2 GB"}}
    with Workers(elastic_config(tmp_path, **sections), tmp_path / "run") as workers:
        hog, killer = _tasks(2)
        hog = Task(hog.key, "digest", 0, 0, 0, {"hog": 1e9})
        killer = Task(killer.key, "digest", 0, 0, 0, {"die": True})
        more = [Task(f"good{number}", "digest", 0, 0, 0, {}) for number in range(6)]
        results = {result.key: result for result in workers.map(work_in_job, [hog, killer, *more])}
    assert len(results) == 8
    assert {key for key, result in results.items() if result.reason} == {"001"}
    assert "at last with 1.8 GB of memory for this task alone" in results["001"].reason
    assert results["000"].figures["memory"] == 2 * 10**9 // 2**20
    assert results["good0"].figures["memory"] == 10**9 // 2**20


@pytest.mark.usefixtures("slurm")
def test_a_refusal_is_told_in_one_line(tmp_path: Path, simulated_source: Path) -> None:
    nodes = {"cores": 1, "memory": "3 GB", "walltime": "00:05:00", "queue": "nosuch"}
    config = write_elastic(tmp_path, simulated_source, nodes=nodes)
    result = subprocess.run([*LINE, str(config), "--until", "ingest"], capture_output=True, text=True)
    assert result.returncode == 1
    assert re.fullmatch(
        r"ainerd-hpc: sbatch refused the job of a Dask worker \(exit 1\): .*invalid partition.*\n", result.stderr
    )
    assert not list((tmp_path / "archive").glob("runs/*/keys"))


@pytest.mark.usefixtures("slurm")
def test_jobs_that_end_at_once_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elastic, "_ASK", 0.5)
    config = elastic_config(tmp_path, environment={"command": ["/no/such/bin/ainerd-hpc"]})
    with (
        pytest.raises(
            SubmissionError, match=r"end before they reach this process: .*/no/such/bin/python: No such file"
        ),
        Workers(config, tmp_path / "run") as workers,
    ):
        list(workers.map(work_in_job, _tasks(2)))
    assert not worker_jobs()


def _submit(folder: Path, config: Path, until: str) -> str:
    script = folder / "job.sh"
    script.write_text(f"#!/bin/bash\nexec {' '.join([*LINE, str(config), '--until', until])}\n")
    command = [
        "sbatch",
        "--parsable",
        "--nodes=2",
        "--ntasks-per-node=1",
        "--cpus-per-task=2",
        f"--output={folder}/said.txt",
    ]
    return subprocess.run([*command, script], capture_output=True, text=True, check=True).stdout.strip()


def test_workers_on_all_nodes_of_a_job_go_on_where_those_of_one_are_gone(
    slurm: Cluster, tmp_path: Path, simulated_source: Path, expected: dict[str, str]
) -> None:
    config = write_config(tmp_path, simulated_source, kind="allocation", workers=1, memory="2 GB")
    job = _submit(tmp_path, config, "correlate")
    try:
        first_product(config)
        wait_for(lambda: workers_of(slurm, "n2"), said(config))
        for pid in dask_of(slurm, "n2"):  # the workers and what watches them: nothing brings these back
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: job not in queued(), said(config))
    finally:
        subprocess.run(["scancel", job])
    assert digests(tmp_path / "archive") == expected, said(config)
    (record,) = (tmp_path / "archive").glob("runs/*.json")
    assert json.loads(record.read_text())["state"] == "done"
    assert record.with_suffix(".dask.html").exists()
    assert not list((tmp_path / "archive").glob("runs/*/keys"))


@pytest.mark.usefixtures("slurm")
def test_workers_on_all_nodes_by_mpiexec(tmp_path: Path, simulated_source: Path, expected: dict[str, str]) -> None:
    mpiexec = Path(sys.executable).with_name("mpiexec")
    if not mpiexec.exists():
        pytest.skip("no mpiexec beside Python: pip install mpich")
    spread = [str(mpiexec), "-n", "{ranks}", "-ppn", "{per_node}"]
    config = write_config(tmp_path, simulated_source, kind="allocation", workers=1, memory="2 GB", spread=spread)
    job = _submit(tmp_path, config, "ingest")
    wait_for(lambda: job not in queued(), said(config))
    found = digests(tmp_path / "archive")
    assert {path for path in found if path.startswith("frames")}, said(config)
    assert found.items() <= {**expected, "catalog.parquet": found["catalog.parquet"]}.items()
    hosts = {path.name.partition("-")[0] for path in (tmp_path / "archive" / "journal").glob("n?-*.jsonl")}
    assert hosts == {"n1", "n2"}


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Callable[..., None]]]:
    """A scheduler that somebody started, and what starts a worker of it."""
    folder = tmp_path_factory.mktemp("scheduler")
    file, processes = folder / "scheduler.json", []

    def start(what: str, *options: str) -> None:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--scheduler-file", str(file), *options]
        with (folder / f"{what}.log").open("ab") as log:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd="/"))

    try:
        start("scheduler", "--port", "0", "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
        wait_for(file.exists, "no scheduler")
        yield file, start
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_workers_of_a_running_scheduler(
    scheduler: tuple[Path, Callable[..., None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, start = scheduler
    keys = {"kind": "scheduler", "address": str(file), "memory": "1 GB", "dashboard": False}
    config = ExecutorConfig.model_validate(keys)
    start("worker", "--nthreads", "1", "--memory-limit", "2GB", "--no-dashboard")
    monkeypatch.chdir(tmp_path)
    with open_executor(config) as executor:
        results = list(executor.map(where, _tasks(4)))
    assert [result.reason for result in results] == [""] * 4
    assert (tmp_path / "000").read_text() == str(tmp_path)

    larger = config.model_copy(update={"memory": 3 * 10**9})
    assert re.search(r"expected 3\.0 GB of memory .*found 2\.0 GB", _refusal(larger))
    monkeypatch.setattr(running, "__version__", "0.0.1")
    assert re.match(r"worker tcp://\S+: expected ainerd_hpc 0\.0\.1, found \S+; install", _refusal(config))
    monkeypatch.undo()
    start("worker", "--nthreads", "2", "--no-dashboard")
    wait_for(lambda: _refusal(config), "two threads are not refused")
    missing = config.model_copy(update={"address": str(tmp_path / "none.json")})
    assert _refusal(missing).startswith("executor.address: expected a scheduler file, found no ")


def _refusal(config: ExecutorConfig) -> str:
    try:
        with open_executor(config):
            return ""
    except AinerdError as error:
        return str(error)


@pytest.fixture(scope="module")
def pbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pbs_sandbox(tmp_path_factory):
        yield


def _pbs_site(folder: Path, **sections: object) -> Path:
    nodes = {"cores": 2, "memory": "1 GB", "walltime": "00:05:00"}
    return write_site(folder, "pbs", **{"nodes": nodes, "array": {"jobs": 2}, **sections})


@pytest.mark.pbs
@pytest.mark.usefixtures("pbs")
def test_jobs_of_pbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elastic, "_LOST_AFTER", 2.0)
    monkeypatch.chdir(tmp_path)
    variables = {"PYTHONPATH": str(ROOT)}
    config = {"kind": "elastic", "site": _pbs_site(tmp_path, environment={"variables": variables}), "dashboard": False}
    tasks, cancels = tasks_for_three_jobs(tmp_path, "qdel", f".{pbs_front.SERVER}")
    with Workers(ExecutorConfig.model_validate(config), tmp_path / "run") as workers:
        results = list(workers.map(work_in_job, tasks))
    cancels.join()
    assert sorted(result.key for result in results) == [task.key for task in tasks]
    assert [result.reason for result in results] == [""] * len(tasks)
    wait_for(lambda: not queued(), "jobs are still there")

    refused = {**config, "site": _pbs_site(tmp_path, array={"jobs": 1, "queue": "nosuch"})}
    with (
        pytest.raises(SubmissionError, match=r"^qsub refused \(exit 170\): .*; the site file .*array\.queue nosuch"),
        Workers(ExecutorConfig.model_validate(refused), tmp_path / "refused") as workers,
    ):
        list(workers.map(work_in_job, _tasks(1)))
