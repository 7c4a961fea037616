"""Nobody watches: the log of each process, the record of a run, its exit code, and a summary of one screen."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ainerd_hpc.archive.journal import Journal, json_lines, record, start
from ainerd_hpc.archive.lock import locked
from ainerd_hpc.console import print_summary
from ainerd_hpc.stages.registry import STAGES
from ainerd_hpc.types import Problem, StageReport
from tests.support.batch_runs import verb, wait_for, write_config, write_site

KILLER = "sim_0003"
FAULT = f"""
import os, multiprocessing
from ainerd_hpc.stages.ingest import Ingest

def work(stage, task, work=Ingest.work):
    if task.key == {KILLER!r} and multiprocessing.parent_process():
        os._exit(1)
    return work(stage, task)

Ingest.work = work
"""
"""Every worker that takes this scan dies."""


@pytest.fixture(scope="module")
def archive(simulated_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run on a worker, in what looks like a job, where one scan kills whatever worker takes it."""
    folder = tmp_path_factory.mktemp("unattended")
    config = write_config(folder, simulated_source)
    (folder / "sitecustomize.py").write_text(FAULT)
    job = {"SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": "n7", "SLURM_RESTART_COUNT": "1"}
    words = ["--until", "ingest", "--executor", "local", "--set", "executor.workers=1", "--set", "executor.memory=1 GB"]
    result = subprocess.run(
        [sys.executable, "-m", "ainerd_hpc.cli", "run", str(config), *words],
        env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", **job},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 3, result.stdout + result.stderr
    return folder / "archive"


def journals(archive: Path) -> list[list[dict[str, Any]]]:
    return [list(json_lines(path)) for path in sorted((archive / "journal").glob("*.jsonl"))]


def test_every_process_says_who_it_is_and_what_it_did(archive: Path) -> None:
    logs = journals(archive)
    first = [entries[0] for entries in logs]
    assert {entry["event"] for entry in first} == {"started"}
    assert Counter(entry["role"] for entry in first)["client"] == 1
    assert len(first) >= 4, "the client, a worker, and those in its place"
    names = {f"{entry['host']}-{entry['pid']}.jsonl" for entry in first}
    assert names == {path.name for path in (archive / "journal").glob("*.jsonl")}
    for entry in first:
        assert (entry["job"], entry["nodes"], entry["threads"]) == ("17", ["n7"], 1)
        assert {"ainerd_hpc", "python", "numpy", "zarr"} <= entry["versions"].keys()
    entries = [entry for log in logs for entry in log]
    assert all(abs(entry["time"] - time.time()) < 3600 for entry in entries), "s since the epoch"
    good = [
        Counter(entry["event"] for entry in entries if entry.get("key") == f"sim_000{one}") for one in (0, 1, 2, 4, 5)
    ]
    assert all(ends["begun"] >= ends["done"] >= 1 for ends in good), (
        "some again: their worker died after they were done"
    )
    ends = Counter(entry["event"] for entry in entries if entry.get("key") == KILLER)
    assert (ends["begun"] >= 2, ends["done"], ends["lost"]) == (True, 0, 1)


def test_an_end_tells_seconds_bytes_and_memory(archive: Path, simulated_source: Path) -> None:
    done = [entry for log in journals(archive) for entry in log if entry["event"] == "done"]
    for entry in done:
        product = archive / "frames" / f"{entry['key']}.zarr.zip"
        assert entry["bytes_written"] == product.stat().st_size
        source = (simulated_source / f"{entry['key']}.h5").stat().st_size
        assert source <= entry["bytes_read"] < source + 300e6, "with the libraries that the first task loads"
        assert entry["bytes_read"] != 64 * 48 * 64 * 2, "not as planned"
        assert 0 < entry["seconds"] < 120
        assert entry["queued"] <= entry["began"] < entry["ended"] <= entry["time"]
        assert entry["ended"] - entry["began"] == pytest.approx(entry["seconds"], abs=1.0)
        assert 0 < entry["cpu_seconds"] < 120
        assert 0.001 < entry["predicted_seconds"] < 1
        assert 30e6 < entry["peak_before_bytes"] <= entry["peak_bytes"] < 4e9


def test_the_client_notes_what_its_workers_cannot(archive: Path) -> None:
    (lost,) = [entry for log in journals(archive) for entry in log if entry["event"] == "lost"]
    assert lost["reason"].startswith(f"{KILLER}: its worker process was ended again and again, at last with ")
    journal = Journal(archive)
    (problem,) = journal.problems
    assert (problem.scan_id, problem.reason) == (KILLER, lost["reason"])


def test_the_record_of_a_run(archive: Path) -> None:
    (path,) = (archive / "runs").glob("*.json")
    found = json.loads(path.read_text())
    facts = (found["state"], found["exit_code"], found["system"], found["jobs"])
    assert facts == ("quarantined", 3, "slurm", ["17"])
    hosts = {log[0]["host"] for log in journals(archive)}
    assert set(found["nodes"]) == {"n7"} | hosts
    assert found["processes"] == len(journals(archive))
    tasks = found["tasks"]["ingest"]
    assert (tasks["done"], tasks["lost"], tasks.get("failed", 0)) == (5, 1, 0)
    entries = [entry for log in journals(archive) for entry in log]
    assert tasks["retried"] == sum(entry["event"] == "begun" for entry in entries) - 6 >= 1
    sizes = [(archive / "frames" / f"{e['key']}.zarr.zip").stat().st_size for e in entries if e["event"] == "done"]
    done = [entry for entry in entries if entry["event"] == "done"]
    for name in ("bytes_read", "bytes_written", "cpu_seconds"):
        assert found[name] == tasks[name] == pytest.approx(sum(entry[name] for entry in done), rel=1e-9)
    assert found["bytes_written"] == sum(sizes)
    (report,) = found["stages"]
    last = {entry["key"]: entry for entry in done}.values()
    assert report["predicted_seconds"] == pytest.approx(sum(entry["predicted_seconds"] for entry in last), abs=0.01)
    assert 0 < report["task_seconds"] <= sum(entry["seconds"] for entry in done) + 0.01
    assert found["command"][1:2] == ["run"]
    assert found["seconds"] > 0
    assert {"user", "versions", "config", "stages"} <= found.keys()
    status = verb("status", archive.parent / "small.yaml").stdout
    assert f"last run: {found['run_id']}: quarantined, started {found['started']}, job 17" in status


def _ingest(config: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return verb("run", config, "--until", "ingest", *more)


def _record(config: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(max((config.parent / "archive" / "runs").glob("*.json")).read_text())
    return found


def test_exit_codes(tmp_path: Path, source: Path) -> None:
    """Of real processes, as `--help` states them."""
    config = write_config(tmp_path, source)
    assert _ingest(config, "--set", "ingest.no_such_key=1").returncode == 2
    assert subprocess.run([sys.executable, "-m", "ainerd_hpc.cli", "no-such-verb"], capture_output=True).returncode == 2
    assert _ingest(config).returncode == 0
    assert (_record(config)["state"], _record(config)["exit_code"]) == ("done", 0)
    with locked(tmp_path / "archive" / ".lock"):
        busy = _ingest(config)
    assert busy.returncode == 1
    assert "is at work on it" in busy.stderr
    damaged = sorted(source.glob("sim_*.h5"))[2]
    damaged.write_bytes(damaged.read_bytes()[:3000])
    some = _ingest(config)
    assert some.returncode == 3, some.stderr
    assert (_record(config)["state"], _record(config)["exit_code"]) == ("quarantined", 3)
    text = " ".join(verb("--help").stdout.split())
    assert "0 all done, 1 failed, 2 wrong usage or config, 3 some scans are in quarantine, 130 interrupted" in text


def _has_begun(archive: Path) -> bool:
    return any(entry["event"] == "begun" for log in journals(archive) for entry in log)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_says_so(number: signal.Signals, tmp_path: Path, simulated_source: Path) -> None:
    config = write_config(tmp_path, simulated_source)
    (tmp_path / "sitecustomize.py").write_text(
        "import time\nfrom ainerd_hpc.stages.ingest import Ingest\nIngest.work = lambda stage, task: time.sleep(60)\n"
    )
    command = [sys.executable, "-m", "ainerd_hpc.cli", "run", str(config)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    archive = tmp_path / "archive"
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: _has_begun(archive), "no task has begun")
        assert (_record(config)["state"], _record(config)["exit_code"]) == ("running", None)
        process.send_signal(number)
        while number == signal.SIGTERM and process.poll() is None:  # as `timeout` does, and people who are in a hurry
            process.send_signal(number)
            time.sleep(0.01)
        assert process.wait(30) == 130
    found = _record(config)
    assert (found["state"], found["exit_code"]) == ("interrupted", 130)
    sums = {"bytes_read": 0, "bytes_written": 0, "cpu_seconds": 0}
    assert found["tasks"]["ingest"] == {"begun": 1, "interrupted": 1, "retried": 0, **sums}
    (log,) = journals(archive)
    events = [entry["event"] for entry in log if entry["event"] != "published"]
    assert events == ["started", "begun", "interrupted"]


def test_an_interrupt_from_the_keyboard_ends_in_one_line(tmp_path: Path, simulated_source: Path) -> None:
    """Ctrl-C goes to all processes of a run; those that it started are ended by it, and say nothing."""
    config = write_config(tmp_path, simulated_source)
    (tmp_path / "sitecustomize.py").write_text(
        "import time\nfrom ainerd_hpc.stages.ingest import Ingest\nIngest.work = lambda stage, task: time.sleep(60)\n"
    )
    workers = ("--set", "executor.kind=local", "--set", "executor.workers=2", "--set", "executor.memory=3 GB")
    command = [sys.executable, "-m", "ainerd_hpc.cli", "run", str(config), *workers]
    options = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True, "start_new_session": True}
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, **options) as process:
        wait_for(lambda: _has_begun(tmp_path / "archive"), "no task has begun")
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "ainerd-hpc: interrupted; the same command goes on where it stopped\n"


def test_a_failed_task_says_why(tmp_path: Path, source: Path) -> None:
    config = write_config(tmp_path, source)
    (tmp_path / "sitecustomize.py").write_text(
        "from ainerd_hpc.stages.ingest import Ingest\nIngest.work = lambda stage, task: 1 / 0\n"
    )
    command = [sys.executable, "-m", "ainerd_hpc.cli", "run", str(config), "--until", "ingest"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 1, "no scan is left"
    (log,) = journals(tmp_path / "archive")
    failed = [entry for entry in log if entry["event"] == "failed"]
    assert [entry["reason"] for entry in failed] == ["ZeroDivisionError: division by zero"] * 6
    assert _record(config)["tasks"]["ingest"]["failed"] == 6
    assert _record(config)["exit_code"] == 1


def test_a_torn_line_takes_no_other_with_it(tmp_path: Path) -> None:
    start(tmp_path, "one", "client", 1)
    (path,) = (tmp_path / "journal").iterdir()
    with path.open("a") as file:
        file.write('{"event": "begun", "stage": "maps", "ke')
    start(tmp_path, "two", "client", 1)
    record(tmp_path, "begun", "maps", "a", "d")
    assert [(entry["event"], entry.get("run")) for entry in json_lines(path)] == [
        ("started", "one"), ("started", "two"), ("begun", None),
    ]  # fmt: skip


def test_a_long_journal_is_folded_soon(tmp_path: Path) -> None:
    """A million lines take about five times as much."""
    number = 100_000
    (tmp_path / "journal").mkdir()
    entry = {"stage": "correlate", "digest": "d" * 32, "time": 1.7e9}
    figures = {"seconds": 1.234, "bytes_read": 10**9, "bytes_written": 10, "peak_bytes": 10**9}
    with (tmp_path / "journal" / "n1-1.jsonl").open("w") as file:
        for key in range(number):
            file.write(f"{json.dumps({'event': 'begun', 'key': str(key), **entry})}\n")
            file.write(f"{json.dumps({'event': 'done', 'key': str(key), **entry, **figures})}\n")
        file.write(f"{json.dumps({'event': 'begun', 'key': 'open', **entry})}\n" * 3)
    began = time.process_time()
    journal = Journal(tmp_path)
    assert time.process_time() - began < 3
    product = tmp_path / "product"
    product.write_bytes(bytes(10))
    assert all(journal.is_done("correlate", str(key), "d" * 32, product) for key in range(0, number, 1000))
    assert not journal.is_done("correlate", "open", "d" * 32, product)


def _rows(text: str, columns: int = 100) -> int:
    """On a terminal of that width."""
    return sum(max(1, math.ceil(len(line) / columns)) for line in text.splitlines())


def test_the_end_of_a_run_is_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a million scans, with ten thousand problems of a few hundred kinds."""
    figures = {"maps": 1234567.0, "dead pixels": 123456.0, "hot pixels": 2345.0, "bad frames": 99999.0}
    reports = [StageReport(name, 10**6, 10**6, 10**4, 123456.7, 123456789012, figures=figures) for name in STAGES]
    kinds = [f"expected {word * 9} in /entry/data, found nothing" for word in "abcdefghijklmnopqrstuvwxyz"]
    problems = [
        Problem(
            f"scan_{number:06d}",
            "ingest" if number % 3 else "correlate",
            f"/a/folder/of/a/facility/scan_{number:06d}/{'x' * 120}.h5: {kinds[number % 26]}; correct source.dataset",
            "digest",
        )
        for number in range(10_000)
    ]
    print_summary(reports, problems)
    said = capsys.readouterr().out
    where = "/an/archive/somewhere"
    told = f"10000 scans are in quarantine, all others are done; see {where}/quarantine.jsonl, mend the scans and"
    whole = f"{said}The map: {where}/report/index.html\nainerd-hpc: {told} run again\n"
    assert _rows(whole) <= 24, whole
    shown = [int(number) + 1 for number in re.findall(r"\(and (\d+) more like this\)", said)]
    (rest,) = re.findall(r"^\.\.\. and (\d+) more, of 47 other kinds$", said, re.MULTILINE)
    assert sum(shown) + int(rest) == 10_000
    assert "; correct source.dataset (and " in said, "the next step is told"


def test_no_verb_leaves_a_process_behind(tmp_path: Path, simulated_source: Path) -> None:
    config, site = write_config(tmp_path, simulated_source), write_site(tmp_path, "slurm")
    verbs = (["plan"], ["status"], ["submit", "--site", str(site), "--dry-run"])
    for name, *more in verbs:
        command = [sys.executable, "-m", "ainerd_hpc.cli", name, str(config), *more]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
            assert process.wait(60) == 0
        left = subprocess.run(["ps", "-o", "pid=,args=", "-s", str(process.pid)], capture_output=True, text=True)
        assert left.stdout == ""
    assert not (tmp_path / "archive").exists()
