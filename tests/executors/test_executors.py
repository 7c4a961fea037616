"""Tasks on this process and on real Dask processes: results, failures, threads, memory."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from distributed.utils import get_ip

from ainerd_hpc.config import ExecutorConfig
from ainerd_hpc.errors import AinerdError, ConfigError
from ainerd_hpc.executors import Executor, Workers, elastic, open_executor
from ainerd_hpc.executors.protection import security_files
from ainerd_hpc.executors.through_dask import Fixed
from ainerd_hpc.executors.worker_jobs import python_of, worker_cluster
from ainerd_hpc.loading import load
from ainerd_hpc.site.site_file import SiteConfig
from ainerd_hpc.site.workers import Sizing, worker_memory, worker_sizing
from ainerd_hpc.types import Task, TaskResult
from tests.support.pbs_rules import check_script
from tests.support.places import GOLDEN
from tests.support.task_functions import Counter, Lost, work


def _task(number: int, **args: object) -> Task:
    return Task(f"{number:03d}", "digest", 0, 0, 0, args)


@pytest.fixture(scope="module", params=["inline", "local"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    config = ExecutorConfig.model_validate({"kind": request.param, "workers": 2, "memory": "1 GB"})
    with open_executor(config) as opened:
        yield opened


def test_every_task_gives_one_result(executor: Executor) -> None:
    results = list(executor.map(work, [_task(number) for number in range(40)]))
    assert sorted(result.key for result in results) == [f"{number:03d}" for number in range(40)]
    assert [r.reason for r in results if r.reason] == []


def test_nothing_to_do(executor: Executor) -> None:
    assert list(executor.map(work, [])) == []


def test_threads_are_as_configured(executor: Executor) -> None:
    np.ones((8, 8)) @ np.ones((8, 8))
    results = list(executor.map(work, [_task(number) for number in range(4)]))
    assert {result.figures["threads"] for result in results} <= {0, 1}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("scan_error", "file.h5: expected 5, found 4; copy it again"),
        ("bug", "unexpected ValueError: two lines; --retry-failed --debug shows where"),
        ("memory", "out of memory"),
    ],
)
def test_a_failed_task_is_a_result_with_a_reason(executor: Executor, fault: str, reason: str) -> None:
    tasks = [_task(number, **({fault: True} if number == 5 else {})) for number in range(12)]
    results = {result.key: result for result in executor.map(work, tasks)}
    assert len(results) == 12
    assert results["005"].reason.startswith(reason)
    assert ("Traceback" in results["005"].trace) == (fault == "bug")
    assert not any(result.reason for key, result in results.items() if key != "005")


LOCK = "unexpected TypeError: cannot pickle '_thread.lock' object; --retry-failed --debug shows where"
LOST = "unexpected ValueError: could not convert string to float: 'nowhere'; --retry-failed --debug shows where"


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"given": threading.Lock()}, LOCK),
        ({"given": Lost()}, LOST),
        ({"no_way_back": True}, LOCK),
        ({"lost_on_the_way_back": True}, LOST),
    ],
)
def test_a_task_or_a_result_that_cannot_travel_fails_alone(
    executor: Executor, args: dict[str, object], reason: str
) -> None:
    tasks = [_task(number, **(args if number == 5 else {})) for number in range(12)]
    results = {result.key: result for result in executor.map(work, tasks)}
    assert len(results) == 12
    assert {key: result.reason for key, result in results.items() if result.reason} == {"005": reason}
    assert "Traceback" in results["005"].trace


def test_a_function_that_cannot_travel_fails_every_task(executor: Executor) -> None:
    results = list(executor.map(lambda task: TaskResult(task.key, task.digest), [_task(number) for number in range(3)]))
    assert [result.key for result in results] == ["000", "001", "002"]
    for result in results:
        assert re.fullmatch(r"unexpected \w+Error: .*<lambda>.*; --retry-failed --debug shows where", result.reason)


def test_no_task_sees_what_another_did_to_its_function_or_its_arguments(executor: Executor) -> None:
    counter, task = Counter(), _task(0, given=[0])
    results = list(executor.map(counter.count, [task, task]))
    assert [result.figures["calls"] for result in results] == [1, 1]
    assert (counter.calls, task.args["given"]) == (0, [0])


def _config(**keys: object) -> ExecutorConfig:
    return ExecutorConfig.model_validate({"kind": "local", "workers": 2, "memory": "500 MB", **keys})


def test_local_uses_several_processes_and_survives_the_death_of_one() -> None:
    with open_executor(_config()) as opened:
        tasks = [_task(number, seconds=0.1, **({"die": True} if number == 3 else {})) for number in range(16)]
        results = {result.key: result for result in opened.map(work, tasks)}
    assert len(results) == 16
    assert results["003"].worker_died
    good = [result for result in results.values() if not result.worker_died]
    assert len(good) >= 12  # what waited at the dying worker may be lost with it
    assert len({result.figures["process"] for result in good} | {os.getpid()}) >= 3


def test_tasks_whose_worker_died_are_done_by_larger_ones_and_none_is_blamed_for_another(tmp_path: Path) -> None:
    more: dict[int, dict[str, object]] = {4: {"hog": 600e6}, 7: {"die": True}}
    tasks = [_task(number, log=str(tmp_path / f"{number}"), **more.get(number, {})) for number in range(24)]
    with Workers(_config(), tmp_path / "run") as workers:
        results = {result.key: result for result in workers.map(work, tasks)}
        again = list(workers.map(work, [_task(number) for number in range(4)]))
    assert len(results) == 24
    assert {key for key, result in results.items() if result.reason} == {"007"}
    assert re.fullmatch(
        r"007: its worker process was ended again and again, at last with 1\.0 GB of memory for this task alone "
        r"\(projected: 0 B\); give it more .*--retry-failed",
        results["007"].reason,
    )
    starts = {number: (tmp_path / f"{number}").read_text().count("begun") for number in range(24)}
    assert starts[7] in (2, 3)  # with others, where it may have waited at a worker that another one ended; once alone
    assert starts[4] in (2, 3)
    assert not any(result.reason for result in again)
    assert list(tmp_path.glob("*.html")) == []


class Everything(frozenset[str]):
    """Of keys."""

    def __bool__(self) -> bool:
        return True

    def __contains__(self, key: object) -> bool:
        return True


def test_a_task_whose_worker_leaves_again_and_again_is_given_up() -> None:
    leavings = elastic._Leavings()
    for count in range(5):
        assert leavings.worn_out == set(), count
        leavings.transition("a", "processing", "released", stimulus_id="x")
        leavings.transition("b", "processing", "memory", stimulus_id="x")
    assert leavings.worn_out == {"a"}
    with open_executor(_config(workers=1)) as opened:
        opened._backing = Fixed()  # type: ignore[attr-defined]
        opened._backing.worn_out = Everything()  # type: ignore[attr-defined]
        results = list(opened.map(work, [_task(number, seconds=20) for number in range(3)]))
    assert [result.worker_died for result in results] == [True] * 3


def test_who_has_not_the_key_is_refused(tmp_path: Path) -> None:
    with security_files(tmp_path / "other"), open_executor(_config(workers=1)) as opened:
        address, own = opened._client.scheduler.address, opened._client.security  # type: ignore[attr-defined]
        assert address.startswith("tls://127.0.0.1:")
        (tmp_path / "own.pem").write_text(f"{own.tls_client_key}\n{own.tls_client_cert}")
        assert _knock(address, tmp_path / "own.pem") == "welcome"
        assert _knock(address, None) == "refused"
        assert _knock(address, tmp_path / "other") == "refused"
        assert _knock(address.replace("tls", "tcp"), None) == "refused"


def _knock(address: str, key: Path | None) -> str:
    """What becomes of a caller: a Dask scheduler greets whom it lets in."""
    host, _, port = address.partition("://")[2].partition(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if key is not None:
        context.load_cert_chain(*([key / "certificate.pem", key / "key.pem"] if key.is_dir() else [key]))
    try:
        with contextlib.ExitStack() as stack:
            caller = stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
            if address.startswith("tls"):
                caller = stack.enter_context(context.wrap_socket(caller))
            else:
                caller.sendall(b"hello, scheduler")
            return "welcome" if caller.recv(1) else "refused"
    except (ssl.SSLError, ConnectionResetError):
        return "refused"


def test_report_and_dashboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Workers(_config(workers=1, dashboard=True), tmp_path / "run") as workers:
        assert len(list(workers.map(work, [_task(number) for number in range(8)]))) == 8
        assert re.search(
            r"^Dask dashboard: http://127\.0\.0\.1:\d+/[\w-]{32}/status$", capsys.readouterr().out, re.MULTILINE
        )
    html = (tmp_path / "run.dask.html").read_text(encoding="utf-8")
    assert "number of tasks: 8" in html
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=.?(https?:)?//", html)
    assert len(html) < 3e6


_ASK = """
import http.client, sys
for place in sys.argv[1:]:
    for path in "/ /sitemap.json /status /identity.json /info/main/workers.html /json/counts.json /metrics".split():
        connection = http.client.HTTPConnection(place, timeout=5)
        try:
            connection.request("GET", path)
            print(place, path, connection.getresponse().status)
        except (OSError, http.client.HTTPException):
            print(place, path, "-")
"""


def _answers(*, but: set[str]) -> list[str]:
    """What a stranger gets from all ports of this process and its children, on all addresses of this machine."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    ours = {one for process in family for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
    hosts = {"127.0.0.1", get_ip()}
    places = sorted({f"{host}:{one.laddr.port}" for one in ours for host in hosts})
    stranger = {"user": "nobody"} if os.getuid() == 0 else {}
    asked = subprocess.run(
        ["/usr/bin/env", "python3", "-c", _ASK, *places],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        **stranger,
    )
    assert len(places) >= 2 * 3, "expected a scheduler, a nanny and a worker"
    return [line for line in asked.stdout.splitlines() if line.split()[-1] not in but]


@pytest.mark.parametrize("is_shown", [False, True], ids=["no dashboard", "dashboard"])
def test_no_port_of_a_run_tells_a_stranger_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_shown: bool
) -> None:
    with Workers(_config(workers=1, dashboard=is_shown), tmp_path / "run") as workers:
        assert len(list(workers.map(work, [_task(0)]))) == 1
        found = re.search(r"^Dask dashboard: (http://\S+/status)$", capsys.readouterr().out, re.MULTILINE)
        assert bool(found) is is_shown
        assert _answers(but={"-", "404"} if is_shown else {"-"}) == []
        if found:
            with urllib.request.urlopen(found[1], timeout=10) as answer:
                assert answer.status == 200


def test_sizings_grow_to_one_worker_with_all_that_there_is() -> None:
    sizing = worker_sizing(_config(workers=6, memory="1 GB"))
    sizes = [(sizing.workers, sizing.memory)]
    while (larger := sizing.larger()) is not None:
        sizing = larger
        sizes.append((sizing.workers, sizing.memory))
    assert sizes == [(6, 10**9), (3, 2 * 10**9), (1, 6 * 10**9)]


def test_sizings_of_jobs_keep_to_the_site(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("system: slurm\nnodes: {cores: 4, memory: 10 GB}\nsingle: {memory: 30 GB}\n")
    config = _config(kind="elastic", site=site, workers=None, memory=None, threads=2)
    sizing = worker_sizing(config)
    assert (sizing.workers, sizing.memory, sizing.place_bytes) == (2, 4_500_000_000, 10**10)
    sizes = []
    while (larger := sizing.larger()) is not None:
        sizing = larger
        sizes.append((sizing.workers, sizing.memory, sizing.place_bytes))
    assert sizes == [(1, 9 * 10**9, 10**10), (1, 18 * 10**9, 2 * 10**10), (1, 27 * 10**9, 3 * 10**10)]
    assert worker_sizing(config.model_copy(update={"memory": 4 * 10**9})).workers == 2
    assert worker_sizing(config.model_copy(update={"memory": 5 * 10**9})).workers == 1
    with pytest.raises(ConfigError, match=r"executor\.memory: expected less than a job has"):
        worker_sizing(config.model_copy(update={"memory": 10**10}))
    site.write_text("system: slurm\n")
    with pytest.raises(ConfigError, match=r"expected array\.cores and array\.memory for Dask workers"):
        worker_sizing(config)


@pytest.mark.parametrize(("kind", "key"), [("scheduler", "address"), ("scheduler", "memory")])
def test_keys_that_a_kind_needs(kind: str, key: str) -> None:
    given = {"site": "s.yaml", "address": "tls://here:1", "memory": "1 GB"}
    keys = [f"executor.{name}={value}" for name, value in given.items() if name != key]
    with pytest.raises(ConfigError, match=rf"'executor\.{key}': expected executor\.{key} with executor\.kind: {kind}"):
        load(None, ["archive=x", "source.path=y", f"executor.kind={kind}", *keys])


SITE = {
    "lead": "5 min",
    "nodes": {"queue": "short", "account": "beam", "cores": 8, "memory": "16 GB", "walltime": "00:55:00"},
    "environment": {
        "modules": ["python/3.11", "hdf5"],
        "activate": "/opt/my env/bin/activate",
        "variables": {"HDF5_USE_FILE_LOCKING": "FALSE", "GREETING": "it's here"},
        "command": ["/opt/my env/bin/ainerd-hpc"],
        "scratch": "/scratch/$USER",
        "interface": "hsn0",
    },
}
SYSTEMS = {
    "slurm": {"qos": "debug", "constraint": "cpu", "gpus": 1, "options": ["--licenses=scratch,cfs", "--exclusive"]},
    "pbs": {"constraint": "system=polaris", "gpus": 1, "options": ["-l", "place=scatter:excl"]},
}


def _job_script(system: str, folder: Path, **more: object) -> str:
    """Of a job of two workers, four threads each, with the address of its scheduler left out."""
    site = SiteConfig.model_validate({"system": system, **SITE, "array": {**SYSTEMS[system], **more}})
    sizing = Sizing(2, 7 * 10**9, 14 * 10**9)
    options = {"dashboard": False, "dashboard_address": ":0", "interface": None, "host": "127.0.0.1"}
    with (
        security_files(folder / "my keys") as security,
        worker_cluster(site, sizing, 4, folder, security, scheduler_options=options) as cluster,
    ):
        return re.sub(r"tls://127\.0\.0\.1:\d+", "SCHEDULER", cluster.job_script().replace(str(folder), "FOLDER"))


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_job_of_workers(system: str, tmp_path: Path) -> None:
    script = _job_script(system, tmp_path)
    golden = GOLDEN / f"workers.{system}"
    if os.environ.get("GOLDEN") == "write":
        golden.write_text(script, encoding="utf-8")
    assert script == golden.read_text(encoding="utf-8")
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    if system == "pbs":
        assert check_script(script) == []


def test_workers_where_memory_is_asked_for_by_core(tmp_path: Path) -> None:
    script = _job_script("slurm", tmp_path, memory_per_cpu=True)
    assert re.findall(r"^#SBATCH (--mem.*)$", script, re.MULTILINE) == [f"--mem-per-cpu={16 * 10**9 // 8 // 2**20}M"]


def test_the_python_of_a_site() -> None:
    assert python_of([]) == [sys.executable]
    assert python_of(["/x/python", "-m", "ainerd_hpc.cli"]) == ["/x/python"]
    assert python_of(["apptainer", "exec", "x.sif", "ainerd-hpc"]) == ["apptainer", "exec", "x.sif", "python"]


def test_workers_that_all_ended_are_started_again_three_times_at_most(tmp_path: Path) -> None:
    script = tmp_path / "launcher"  # the first time it ends at once
    script.write_text(f'#!/bin/sh\n[ -e {tmp_path}/mark ] && exec "$@"\ntouch {tmp_path}/mark; echo no; exit 7\n')
    script.chmod(0o755)
    config = _config(kind="allocation", workers=1, spread=[str(script)], dashboard=False)
    with Workers(config, tmp_path / "run") as workers:
        assert [result.reason for result in workers.map(work, [_task(number) for number in range(3)])] == [""] * 3
    failing = _config(kind="allocation", workers=1, spread=["sh", "-c", "echo nobody; exit 7"], dashboard=False)
    with (
        pytest.raises(AinerdError, match=r"^sh: the Dask workers ended 3 times \(exit 7\): nobody; see .*workers\.log"),
        Workers(failing, tmp_path / "failing") as workers,
    ):
        list(workers.map(work, [_task(1)]))
    assert not list(tmp_path.glob("*/keys"))


def test_an_allocation_needs_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "PBS_JOBID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="expected to run in a job of SLURM or PBS"):
        open_executor(_config(kind="allocation"), tmp_path / "run").__enter__()


def test_memory_of_a_worker() -> None:
    assert worker_memory(ExecutorConfig.model_validate({"memory": "3 GB"})) == 3 * 10**9
    one, four = (worker_memory(ExecutorConfig.model_validate({"workers": number})) for number in (1, 4))
    assert one == pytest.approx(4 * four, rel=0.2)
    total = 1024 * int(Path("/proc/meminfo").read_text(encoding="utf-8").split()[1])
    assert 0 < one < total
