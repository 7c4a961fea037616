"""What befalls jobs on a real SLURM, and that the archive ends as one that nothing befell."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ainerd_hpc.archive.journal import pace
from tests.conftest import digests
from tests.support.batch_runs import logs, queued, states, verb, wait_for, write_config, write_site
from tests.support.faulty import SCAN, SKEW
from tests.support.places import ROOT
from tests.support.slurm_sandbox import Cluster
from tests.support.slurm_sandbox import cluster as slurm_cluster

pytestmark = pytest.mark.slurm
UNTIL = "correlate"
NODES = {"cores": 1, "memory": "4 GB", "walltime": "00:05:00"}


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 4 MB; mounted before the nodes are there, which see it then."""
    folder = tmp_path_factory.mktemp("disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], capture_output=True)
    yield folder
    if mounted.returncode == 0:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def slurm(small_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm"), nodes=3) as found:
        yield found


@pytest.fixture(scope="module")
def undisturbed(simulated_source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    config = write_config(tmp_path_factory.mktemp("undisturbed"), simulated_source)
    return _run_here(config)


def _run_here(config: Path) -> dict[str, str]:
    result = verb("run", config, "--until", UNTIL)
    assert result.returncode == 0, result.stderr
    return digests(config.parent / "archive")


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler, with which a wrong clock and a quota are made")
    path = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", str(path), str(ROOT / "tests" / "support" / "shim.c"), "-ldl"], check=True
    )
    return path


class Line:
    """A submitted line with a fault in it."""

    def __init__(self, folder: Path, source: Path, fault: str = "pause", **sections: object) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.archive = folder, folder / "archive"
        self.config = write_config(folder, source)
        program = {"command": [sys.executable, str(ROOT / "tests" / "support" / "faulty.py"), str(folder), fault]}
        environment = {**program, **sections.pop("environment", {})}  # type: ignore[dict-item]
        self.site = write_site(folder, "slurm", environment=environment, **sections)

    def submit(self, *options: str) -> None:
        result = verb("submit", self.config, "--site", self.site, "--until", UNTIL, *options)
        assert result.returncode == 0, result.stderr

    def reached(self) -> tuple[int, str, str]:
        """Process, node and job that wait in the middle of a task."""
        path = self.folder / "reached"
        wait_for(lambda: path.exists() and path.read_text(), "no process came so far")
        process, node, job = path.read_text().split()
        return int(process), node, job

    def go_on(self) -> float:
        """Let whoever waits go on; give the time."""
        (self.folder / "go").touch()
        return time.monotonic()

    def end(self) -> None:
        wait_for(lambda: not queued("-j", ",".join(self.jobs())), logs(self.archive))

    def jobs(self) -> list[str]:
        lines = (next(self.archive.glob("jobs/*")) / "jobs.jsonl").read_text().splitlines()
        return [entry["job"] for entry in map(json.loads, lines) if entry["event"] == "submitted"]

    def events(self) -> list[str]:
        """Of the task in whose middle it happened."""
        lines = [line for path in self.archive.glob("journal/*.jsonl") for line in path.read_text().splitlines()]
        entries = sorted(map(json.loads, lines), key=lambda entry: entry["time"])
        return [one["event"] for one in entries if (one.get("stage"), one.get("key")) == ("ingest", SCAN)]

    def check(self, expected: dict[str, str]) -> None:
        assert set(list(states(self.config).values())[:2]) == {"done"}
        assert digests(self.archive) == expected, logs(self.archive)
        assert not list(self.archive.rglob("*.tmp"))


@pytest.fixture
def line(tmp_path: Path, simulated_source: Path) -> Line:
    return Line(tmp_path, simulated_source)


def _tell(fault: str, what: str, since: float) -> None:
    """A row of the table of faults: `pytest -rP` shows it."""
    print(f"FAULT | {fault} | {what} | {time.monotonic() - since:.0f} s until all was done | archive equal: yes")


def test_a_killed_client(slurm: Cluster, line: Line, undisturbed: dict[str, str]) -> None:
    line.submit()
    process, _, job = line.reached()
    os.kill(process, signal.SIGKILL)
    began = line.go_on()
    line.end()
    line.check(undisturbed)
    assert "the program was killed (out of memory?); goes on in another job" in logs(line.archive)
    assert line.events() == ["begun", "begun", "done"]
    _tell("SIGKILL of the client", f"job {job} puts itself back into the queue", began)


def test_a_cancelled_job(slurm: Cluster, line: Line, undisturbed: dict[str, str]) -> None:
    line.submit()
    process, _, job = line.reached()
    subprocess.run(["scancel", job], check=True)
    wait_for(lambda: not Path(f"/proc/{process}").exists(), "the job goes on")
    began = line.go_on()
    line.end()
    assert states(line.config)["ingest"] == "cancelled 1 cancelled"
    line.submit()
    wait_for(lambda: not queued("-n", "correlate"), logs(line.archive))
    line.check(undisturbed)
    assert line.events() == ["begun", "interrupted", "begun", "done"]
    _tell("scancel of a job", "ended in order; the same submission again goes on", began)


def test_preemption(slurm: Cluster, tmp_path: Path, simulated_source: Path, undisturbed: dict[str, str]) -> None:
    line = Line(tmp_path, simulated_source, nodes={**NODES, "queue": "low"})
    line.submit()
    _, node, job = line.reached()
    began = time.monotonic()
    subprocess.run(["sbatch", "-p", "high", "-w", node, "--exclusive", "--wrap", "true"], check=True, cwd=tmp_path)
    line.end()
    line.check(undisturbed)
    assert line.events() == ["begun", "interrupted", "begun", "done"]
    _tell("preemption", f"job {job} ends in order, SLURM puts it back into the queue", began)


def test_two_runs_at_once(slurm: Cluster, line: Line, undisturbed: dict[str, str]) -> None:
    line.submit()
    process, node, job = line.reached()
    other = next(name for name in slurm.nodes if name != node)
    command = [sys.executable, "-m", "ainerd_hpc.cli", "run", str(line.config), "--until", UNTIL]
    there = subprocess.run(["srun", "-w", other, *command], capture_output=True, text=True)
    here = subprocess.run(command, capture_output=True, text=True)
    told = f"process {process} on {node}, job {job}, is at work on it; wait until it has ended"
    assert (there.returncode, here.returncode) == (1, 1)
    assert (told in here.stderr, told in there.stderr) == (True, True), here.stderr + there.stderr
    began = line.go_on()
    line.end()
    line.check(undisturbed)
    _tell("two more runs at once", "both are told who is at work, exit 1", began)


def test_nodes_that_crash_and_hang(
    slurm: Cluster, tmp_path: Path, simulated_source: Path, undisturbed: dict[str, str]
) -> None:
    """The hung one wakes up while its job is at work elsewhere: the old process has lost the lock."""
    if not slurm.is_isolated:
        pytest.skip("without namespaces only slurmd would crash or hang")
    crashing = Line(tmp_path / "crashing", simulated_source, array={"jobs": 2})
    crashing.submit()
    _, dead, _ = crashing.reached()
    hanging = Line(tmp_path / "hanging", simulated_source, nodes={**NODES, "options": [f"--exclude={dead}"]})
    hanging.submit()
    process, hung, job = hanging.reached()
    assert hung != dead
    slurm.crash(dead)
    slurm.hang(hung)
    began = crashing.go_on()
    hanging.go_on()
    try:
        wait_for(lambda: queued("-j", job, "-t", "PD"), "the node is not down")
        wait_for(lambda: len(list(hanging.archive.glob("frames/*.zip"))) > 4, logs(hanging.archive))
    finally:
        slurm.unhang(hung)
    for line in (crashing, hanging):
        line.end()
        line.check(undisturbed)
    wait_for(lambda: not Path(f"/proc/{process}").exists(), "the old process is still there")
    slurm.restart(dead)
    slurm.wait_until_up()
    hanging.check(undisturbed)
    assert not (hanging.archive / "quarantine.jsonl").read_text()
    assert crashing.events() == ["begun", "begun", "done"]
    _tell("node crash", f"{dead} is down after some 20 s, its jobs run on another node", began)
    _tell("node hangs, then wakes up", "down after some 20 s, its job runs elsewhere and takes the lock over", began)


def test_a_task_that_takes_too_much_memory(
    slurm: Cluster, tmp_path: Path, simulated_source: Path, undisturbed: dict[str, str]
) -> None:
    launched = {"launcher": ["srun", "--ntasks=1"]}
    line = Line(tmp_path, simulated_source, "hog", nodes={**NODES, "memory": "1.2 GB"}, environment=launched)
    began = time.monotonic()
    line.submit()
    line.end()
    assert line.events() == ["begun"] * 3
    (problem,) = map(json.loads, (line.archive / "quarantine.jsonl").read_text().splitlines())
    assert problem["scan_id"] == SCAN
    assert problem["reason"] == (
        "its process was killed 3 times; give it more memory, then --retry-failed takes it up again"
    )
    others = {path for path in undisturbed if SCAN not in path and path.startswith(("frames", "correlation"))}
    found = digests(line.archive)
    assert {path: found.get(path) for path in others} == {path: undisturbed[path] for path in others}
    seconds = time.monotonic() - began
    line.go_on()
    line.submit("--retry-failed")
    wait_for(lambda: not queued("-n", "ingest,correlate"), logs(line.archive))
    line.check(undisturbed)
    _tell(f"out of memory (3 kills, {seconds:.0f} s)", "set aside, the others done; --retry-failed", began)


@pytest.mark.parametrize(("fault", "words"), [("fill", "No space left on device"), ("exceed", "Disk quota exceeded")])
def test_a_full_disk(
    fault: str,
    words: str,
    slurm: Cluster,
    small_disk: Path,
    tmp_path: Path,
    simulated_source: Path,
    undisturbed: dict[str, str],
    request: pytest.FixtureRequest,
) -> None:
    if fault == "fill" and not small_disk.is_mount():
        pytest.skip("no small file system can be mounted here")
    variables = {}
    if fault == "exceed":
        variables = {"LD_PRELOAD": str(request.getfixturevalue("shim")), "SHIM_QUOTA": str(tmp_path / "quota")}
    line = Line(tmp_path, simulated_source, fault, environment={"variables": variables})
    if fault == "fill":
        line.archive.symlink_to(small_disk)
    line.submit()
    line.end()
    assert states(line.config)["ingest"] == "failed 1 failed"
    told = [text for text in logs(line.archive).splitlines() if text.startswith("ainerd-hpc: ")]
    assert len(told) == 1
    assert words in told[0]
    assert SCAN in told[0]
    assert not list(line.archive.rglob("*.tmp"))
    quarantine = line.archive / "quarantine.jsonl"
    assert not quarantine.exists() or not quarantine.read_text()
    began = time.monotonic()
    (line.archive / "filler").unlink(missing_ok=True)
    (tmp_path / "quota").unlink(missing_ok=True)
    line.submit()
    wait_for(lambda: not queued("-n", "ingest,correlate"), logs(line.archive))
    line.check(undisturbed)
    _tell(words, "one line, no scan blamed; the same submission, after mending, goes on", began)


def test_a_clock_that_is_hours_off(
    slurm: Cluster, shim: Path, tmp_path: Path, simulated_source: Path, undisturbed: dict[str, str]
) -> None:
    line = Line(tmp_path, simulated_source, "skew", array={"jobs": 2, "at_once": 1})
    shutil.copy(shim, tmp_path / "shim.so")
    began = time.time()
    since = time.monotonic()
    line.submit()
    line.end()
    line.check(undisturbed)
    texts = [path.read_text() for path in line.archive.glob("journal/*.jsonl")]
    times = [json.loads(text)["time"] for lines in texts for text in lines.splitlines()]
    assert max(times) - min(times) > SKEW - 600, "one share had another clock"
    seconds = time.time() - began
    for stage in ("ingest", "correlate"):
        assert 6 / seconds <= pace(line.archive, stage, began - 60) < 100
    _tell(
        f"one share {SKEW / 3600:.0f} h ahead", "nothing: digests decide, not times; rates by the file's clock", since
    )
