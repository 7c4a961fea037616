"""`ainerd-hpc doctor` on real machines, batch systems and file systems, good ones and broken ones."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ainerd_hpc.doctor import batch, files, libraries, machine
from ainerd_hpc.doctor.finding import Check, Finding, examined
from ainerd_hpc.doctor.node import judged_mpi, judged_network, judged_ranks
from ainerd_hpc.doctor.trial import Jobs, Trial, tried
from ainerd_hpc.site.site_file import load_site
from tests.support import pbs_front
from tests.support.batch_runs import queued, verb, wait_for, write_site
from tests.support.slurm_sandbox import Cluster, cluster

_NARROW = """
import sys
from ainerd_hpc.cli import main
from ainerd_hpc.doctor import examination

examination._of_machine = examination._of_programs = lambda *_: []
sys.exit(main(["doctor", *sys.argv[1:]]))
"""
NARROW = [sys.executable, "-c", _NARROW]
"""Without the checks of the machine itself: torch alone takes seconds to load."""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("slurm")) as found:
        yield found


@pytest.fixture
def pbs(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if not Path("/usr/bin/qsub").exists():
        pytest.skip("no qsub: apt-get install slurm-wlm-torque")
    prolog = pbs_front.install(tmp_path / "bin", tmp_path / "home")
    with cluster(tmp_path_factory.mktemp("pbs"), task_prolog=prolog), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
        yield


def states(result: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {one["check"]: one["state"] for one in json.loads(result.stdout)}


def lines(result: subprocess.CompletedProcess[str], *states: str) -> dict[str, str]:
    """What is found and the next step, by check."""
    return {one["check"]: f"{one['found']}; {one['next_step']}" for one in json.loads(result.stdout)
            if one["state"] in states}  # fmt: skip


@pytest.mark.slurm
def test_a_good_site(slurm: Cluster, tmp_path: Path) -> None:
    began = time.monotonic()
    result = verb(
        "doctor", "--site", write_site(tmp_path, "slurm"), "--archive", tmp_path / "a", "--two-nodes", "--json"
    )
    assert time.monotonic() - began < 60
    assert result.returncode == 0, result.stdout + result.stderr
    found = states(result)
    ours = ["rename", "lock", "HDF5 locks", "MPI", "torch", "commands", "array jobs", "ddp jobs", "single jobs",
            "single job", "program, single job", "lock, single job", "scratch, single job", "clock, single job",
            "ranks, single job", "MPI, single job", "ddp job", "ranks, ddp job", "MPI, ddp job"]  # fmt: skip
    assert {name: found[name] for name in ours} == dict.fromkeys(ours, "ok"), result.stdout
    told = lines(result, "ok", "warning")
    assert re.match(r"2 by srun, on n1, n2; $", told["ranks, ddp job"])
    assert re.match(r"n\d to n\d: [\d.]+ ms, [\d.]+ [MG]B/s; ", told["network, ddp job"])
    assert [path.name for path in tmp_path.iterdir()] == ["slurm.yaml"], "something was left behind"
    assert not queued()


@pytest.mark.slurm
def test_a_broken_site(slurm: Cluster, tmp_path: Path) -> None:
    site = write_site(tmp_path, "slurm", array={"queue": "nosuch"}, environment={"scratch": "/dev/null/scratch"})
    words = [*NARROW, "--site", str(site), "--archive", str(tmp_path), "--json"]
    result = subprocess.run(words, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("ainerd-hpc: doctor: 2 of ")
    assert result.stderr.endswith(" checks failed: array jobs, single job\n")
    failed = lines(result, "failed")
    assert re.fullmatch(
        r"sbatch refused \(exit 1\): .*invalid partition.*; correct array \(or nodes\) in the site file",
        failed["array jobs"],
    )
    assert re.match(
        r"\d+ ended without an answer: mkdir: .*/dev/null.*; correct environment in the site file", failed["single job"]
    )
    assert not any("\n" in line for line in failed.values())
    assert [path.name for path in tmp_path.iterdir()] == ["slurm.yaml"]


def _try(site: Path, folder: Path, patience: float = 20) -> list[Finding]:
    found = load_site(site)
    return list(tried(Trial("single", 1, True, "torchrun"), found, folder / "trial", Jobs(found), patience))


@pytest.mark.parametrize(
    ("given", "state"), [(None, "ok"), ("FALSE", "ok"), ("TRUE", "warning"), ("BEST_EFFORT", "warning")]
)
def test_locks_while_reading_are_told(
    given: str | None, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if given is None:
        monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    else:
        monkeypatch.setenv("HDF5_USE_FILE_LOCKING", given)
    (found,) = files.hdf5_locks(tmp_path)
    assert (found.state, f"is {given or 'not set'}" in found.found) == (state, True)
    assert ("holds up a detector" in found.found) == (state == "warning")


@pytest.mark.slurm
def test_a_job_that_waits_is_cancelled_and_told(slurm: Cluster, tmp_path: Path) -> None:
    (late,) = _try(write_site(tmp_path, "slurm", single={"options": ["--begin=now+1hour"]}), tmp_path, 2)
    assert (late.check, late.state) == ("single job", "warning")
    assert re.fullmatch(r"\d+ is still queued after 2 s; cancelled; run doctor again .*", str(late))
    assert not queued()


@pytest.mark.slurm
def test_jobs_that_cannot_work_are_told(slurm: Cluster, tmp_path: Path) -> None:
    (refused,) = _try(write_site(tmp_path, "slurm", nodes={"queue": "nosuch"}), tmp_path / "1")
    assert refused.state == "failed"
    assert "invalid partition" in refused.found
    command = {"command": ["/no/such/ainerd-hpc"]}
    (ended,) = _try(write_site(tmp_path, "slurm", environment=command), tmp_path / "2")
    assert re.fullmatch(r"\d+ ended without an answer: .*/no/such/ainerd-hpc.*; correct environment .*", str(ended))


@pytest.mark.slurm
def test_it_leaves_nothing_when_it_is_ended(slurm: Cluster, tmp_path: Path) -> None:
    site = write_site(tmp_path, "slurm", single={"options": ["--begin=now+1hour"]})
    command = [*NARROW, "--site", str(site), "--archive", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        wait_for(queued, "no job")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130
    wait_for(lambda: not queued(), "its job is still there")
    assert [path.name for path in tmp_path.iterdir()] == ["slurm.yaml"]


@pytest.mark.pbs
@pytest.mark.usefixtures("pbs")
def test_a_job_through_qsub(tmp_path: Path) -> None:
    site = load_site(write_site(tmp_path, "pbs", environment={"interface": "lo"}))
    findings = [
        *batch.commands(site),
        *tried(Trial("single", 1, True, "mpiexec"), site, tmp_path / "t", Jobs(site), 30),
    ]
    found = {finding.check: finding for finding in findings}
    good = [name for name, finding in found.items() if finding.state == "ok"]
    assert set(good) >= {"commands", "single job", "program, single job", "lock, single job", "ranks, single job",
                         "MPI, single job"}, findings  # fmt: skip
    assert re.match(r"2 by mpiexec, on n\d", found["ranks, single job"].found)
    assert found["interface, single job"].state == "warning"
    assert "lo is 127.0.0.1, which other nodes cannot reach" in found["interface, single job"].found


@pytest.mark.pbs
@pytest.mark.usefixtures("pbs")
def test_what_starts_one_process_on_each_node_elsewhere(tmp_path: Path) -> None:
    """As pbsdsh does, in the home folder: enough for torchrun."""
    site = load_site(write_site(tmp_path, "pbs", environment={"spread": ["pbsdsh", "--"], "interface": "lo"}))
    trials = (Trial("single", 1, False, "torchrun"), Trial("ddp", 2, False, "torchrun"))
    findings = [one for trial in trials for one in tried(trial, site, tmp_path / trial.kind, Jobs(site), 60)]
    found = {finding.check: finding for finding in findings}
    assert found["ranks, single job"].state == found["ranks, ddp job"].state == "ok", findings
    assert re.match(r"1 by pbsdsh, on n\d$", found["ranks, single job"].found)
    assert re.match(r"2 by pbsdsh, on n1, n2$", found["ranks, ddp job"].found)
    assert re.match(r"n1 to n2 over lo: ", found["network, ddp job"].found), findings


def test_missing_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = batch.commands(load_site(write_site(tmp_path, "slurm")))
    assert str(finding).startswith(
        "no sbatch, squeue, scancel, scontrol, sacct, srun on the PATH; run this where the batch"
    )
    assert finding.state == "failed"


def test_an_archive_that_cannot_be_written(tmp_path: Path) -> None:
    folder, site = tmp_path / "read_only", write_site(tmp_path, "slurm")
    folder.mkdir()
    mount = f'mount --bind {folder} {folder} && mount -o remount,ro,bind {folder} && PATH=/no/such exec "$@"'
    command = ["unshare", "--mount", "bash", "-c", mount, "doctor"]
    if subprocess.run([*command, "/bin/true"], capture_output=True).returncode:
        pytest.skip("needs root and mount namespaces")
    words = [*command, *NARROW, "--site", str(site), "--archive", str(folder / "archive"), "--json"]
    result = subprocess.run(words, capture_output=True, text=True)
    assert result.returncode == 1, result.stderr
    failed = lines(result, "failed")
    assert re.match(r"cannot write there: \[Errno 30\] Read-only file system.*; give a folder that ", failed["archive"])
    assert list(failed) == ["archive", "commands"], "no job is submitted"


def test_what_is_found_on_this_machine(tmp_path: Path) -> None:
    """Against what Linux says itself."""
    rename, lock, room = (next(iter(look(tmp_path))) for look in (files.rename, files.lock, files.room))
    assert (rename.state, lock.state) == ("ok", "ok")
    assert int(re.findall(r"whole in (\d+) reads", rename.found)[0]) > 10
    kind = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True).stdout.strip()
    assert room.found.split(",")[0] in kind.replace("ext2/ext3", "ext2/ext3/ext4")
    soft = subprocess.run(["bash", "-c", "ulimit -n"], capture_output=True, text=True).stdout.strip()
    assert next(machine.limits()).found.startswith(f"{soft} open files")


def test_limits_of_a_shell_are_seen(tmp_path: Path) -> None:
    shell = "ulimit -n 1024; umask 077; export OMP_NUM_THREADS=999 LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0;"
    script = (
        "import json; from ainerd_hpc.doctor import machine as m\n"
        "print(json.dumps([[f.state, f.found] for look in (m.limits, m.threads, m.words) for f in look()]))"
    )
    result = subprocess.run(["bash", "-c", f'{shell} exec "$@"', "x", sys.executable, "-c", script],
                            capture_output=True, text=True, check=True)  # fmt: skip
    (files_state, files_found), (threads_state, threads_found), (words_state, words_found) = json.loads(result.stdout)
    assert (files_state, threads_state, words_state) == ("warning", "warning", "warning")
    assert files_found.startswith("1024 open files")
    assert "OMP_NUM_THREADS is 999" in threads_found
    assert "umask 077" in words_found


def test_a_check_that_hangs_or_breaks_takes_no_other_down() -> None:
    def breaks() -> Iterator[Finding]:
        yield Finding("never told", "ok", "")
        raise RuntimeError("two\nlines")

    checks = [
        Check("hangs", lambda: time.sleep(60) or [], 0.5),
        Check("breaks", breaks),
        Check("works", lambda: [Finding("works", "ok", "well")]),
    ]
    began = time.monotonic()
    found = list(examined(checks))
    assert time.monotonic() - began < 5
    assert [(one.check, one.state) for one in found] == [("hangs", "failed"), ("breaks", "failed"), ("works", "ok")]
    assert found[1].found == "RuntimeError: two lines"


def test_a_lock_that_is_not_seen_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        files, "mount_of", lambda _: files.Mount("m@tcp:/fs", "lustre", frozenset({"rw", "localflock"}))
    )
    (finding,) = files.lock(tmp_path)
    assert finding.state == "failed"
    assert "mounted with localflock: nodes do not see each other's locks" in finding.found


def test_libraries_that_do_not_fit_are_named() -> None:
    from packaging.requirements import Requirement

    assert libraries._wrong(Requirement("numpy>=99")).startswith("numpy: expected >=99, found 2.")
    assert libraries._wrong(Requirement("no-such-thing>=1")) == "no-such-thing: expected >=1, found none"
    assert libraries._wrong(Requirement("numpy>=2")) == ""


QUOTA = """Disk quotas for user u (uid 7):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
      /dev/sdb1   95000* 90000  100000  1700000000     100       0       0       0
      /dev/sdc1    1000      0       0       0    1000    900    1000       0
      /dev/sdd1    1000  90000  100000       0     100       0       0       0
"""
LUSTRE = "/lus/fs1  1000  2000 3000 - 10 0 0 -\n"


@pytest.mark.parametrize(
    ("text", "device", "state", "found"),
    [
        (QUOTA, "/dev/sdb1", "failed", "97.3 MB of 92.2 MB, 100 files used, no limit"),
        (QUOTA, "/dev/sdc1", "failed", "1.0 MB used, no limit, 1,000 of 900 files"),
        (QUOTA, "/dev/sdd1", "ok", "1.0 MB of 92.2 MB, 100 files used, no limit"),
        (QUOTA, "/dev/sde1", "ok", "none on this file system"),
        (LUSTRE, "", "ok", "1.0 MB of 2.0 MB, 10 files used, no limit"),
    ],
)
def test_quota(text: str, device: str, state: str, found: str) -> None:
    finding = files.judged_quota(text, device)
    assert (finding.state, finding.found) == (state, found)


QUEUE = """Queue: workq
    queue_type = Execution
    resources_max.walltime = 24:00:00
    enabled = True
    started = {started}
"""


@pytest.mark.parametrize(
    ("started", "hours", "state"), [("True", 24, "ok"), ("True", 25, "failed"), ("False", 1, "failed")]
)
def test_queues_of_pbs(started: str, hours: int, state: str) -> None:
    finding = batch.judged_queue("array", QUEUE.format(started=started), 3600 * hours, "queue workq")
    assert finding.state == state


def _gpu(error: str = "") -> dict[str, str]:
    return {"name": "NVIDIA H100", "capability": "9.0", "error": error}


@pytest.mark.parametrize(
    ("built_for", "gpus", "num_devices", "state"),
    [
        ("CPUs", [], 0, "ok"),
        ("CPUs", [], 4, "warning"),
        ("CUDA 12.8", [], 4, "warning"),
        ("CUDA 12.8", [_gpu()], 1, "ok"),
        ("CUDA 11.3", [_gpu("no kernel image is available")], 1, "failed"),
    ],
)
def test_torch_and_gpus(built_for: str, gpus: list[dict[str, str]], num_devices: int, state: str) -> None:
    facts = {"version": "2.7", "built_for": built_for, "gpus": gpus}
    assert libraries.judged_torch(facts, num_devices).state == state


def test_ranks_that_are_alone_are_told() -> None:
    alone = [{"host": "n1", "srun": None}, {"host": "n2", "srun": None}]
    assert judged_ranks(alone, 2, 1, "mpiexec", "torchrun", "").state == "ok"
    assert judged_ranks(alone, 2, 1, "mpiexec", "srun", "").state == "failed"
    assert judged_ranks(alone[:1], 2, 1, "srun", "srun", "srun: error: no").state == "failed"
    size_one = [[0, 1, "MPICH 5"], [0, 1, "MPICH 5"]]
    assert judged_mpi(size_one, "srun", True).state == "failed"
    assert "each of size 1, 1" in judged_mpi(size_one, "srun", True).found
    assert judged_mpi(size_one, "srun", False).state == "skipped"
    assert judged_mpi([[0, 2, "MPICH 5"], [1, 2, "MPICH 5"]], "srun", True).state == "ok"


def test_a_slow_network_is_told() -> None:
    fast, slow = ({"round_trip": 1e-4, "rate": rate} for rate in (2e9, 9e7))
    assert judged_network(fast, ["n1", "n2"], "hsn0").state == "ok"
    assert judged_network(slow, ["n1", "n2"], "").state == "warning"
    broken = judged_network({"error": "n2 cannot reach n1 at 10.0.0.1: timed out"}, ["n1", "n2"], "eth1")
    assert str(broken).startswith("n2 cannot reach n1 at 10.0.0.1: timed out over eth1; set environment.interface")


@pytest.mark.parametrize(("ahead", "state"), [(0.2, "ok"), (-4.0, "ok"), (6.0, "warning"), (-3600.0, "warning")])
def test_clocks(ahead: float, state: str) -> None:
    assert files.judged_clock("clock", ahead, "the file system").state == state


def test_the_site_of_a_config_is_taken(tmp_path: Path) -> None:
    site = write_site(tmp_path, "slurm")
    config = {"archive": str(tmp_path / "archive"), "source": {"path": str(tmp_path)},
              "executor": {"kind": "elastic", "site": str(site)}}  # fmt: skip
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(config))
    environment = {**os.environ, "PATH": "/no/such", "SLURM_CONF": "/no/such"}
    words = [*NARROW, str(tmp_path / "my.yaml")]
    result = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert result.returncode == 1, result.stderr
    assert re.search(r"^ok +archive +\S+/archive can be made$", result.stdout, re.MULTILINE)
    assert re.search(r"^failed +commands +no sbatch, .*; run this where ", result.stdout, re.MULTILINE)
