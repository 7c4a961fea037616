"""The scripts in jobs/: static checks, and what they do, run as they are with a stand-in for the program they start."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from tests.support.pbs_rules import check_script
from tests.support.places import ROOT

JOBS = ROOT / "jobs"
SCRIPTS = sorted([*JOBS.glob("*.sbatch"), *JOBS.glob("*.pbs")])
KINDS = ["array", "ddp", "single"]
STUB = """#!/bin/bash
echo "$(pwd): $*" >> calls
echo "$TMPDIR $GLOO_SOCKET_IFNAME $EXTRA $MODULE $ACTIVE" >> environment
if [ "$1" = requeue ]; then exit; fi
trap 'echo ended in order >> calls; exit 130' TERM
if [ -f kill ]; then kill -KILL $$; fi
if [ -f sleep ]; then sleep 30 >/dev/null 2>&1 & wait; fi
exit "$(cat code)"
"""


SCONTROL = """#!/bin/bash
echo "scontrol $*" >> calls
code=$(head -n 1 requeue 2>/dev/null)
sed -i 1d requeue 2>/dev/null
exit "${code:-0}"
"""
"""Ends as the next line of `requeue` says."""


def test_there_are_three_kinds_for_each_batch_system() -> None:
    assert [path.name for path in SCRIPTS] == sorted(
        f"{kind}.{suffix}" for kind in KINDS for suffix in ("pbs", "sbatch")
    )


@pytest.mark.parametrize("path", [*SCRIPTS, JOBS / "env.sh"], ids=lambda path: path.name)
def test_every_script_is_plain_bash(path: Path) -> None:
    raw = path.read_bytes()
    assert b"\r" not in raw
    assert path.suffix == ".sh" or raw.startswith(b"#!/bin/bash\n")
    assert not subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True).stderr
    assert max(len(line) for line in raw.splitlines()) <= 130


def test_shellcheck_finds_nothing() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck missing: apt-get install shellcheck")
    command = [
        "shellcheck",
        "--external-sources",
        *(str(path.relative_to(ROOT)) for path in [*SCRIPTS, JOBS / "env.sh"]),
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.suffix == ".pbs"], ids=lambda path: path.name)
def test_pbs_scripts_keep_the_rules_of_openpbs(path: Path) -> None:
    assert check_script(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.suffix == ".sbatch"], ids=lambda path: path.name)
def test_slurm_directives_stand_where_sbatch_reads_them(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    directives = [number for number, line in enumerate(lines) if re.match(r"#\s*SBATCH\b", line)]
    assert directives
    assert max(directives) < first_command
    assert all(re.match(r"#SBATCH --[a-z-]+(=\S+)?$", lines[number]) for number in directives)
    assert "PBS" not in "".join(lines)


@pytest.mark.parametrize("path", [*SCRIPTS, JOBS / "env.sh"], ids=lambda path: path.name)
def test_nothing_in_a_script_belongs_to_one_site(path: Path) -> None:
    code = [line.partition("#")[0] for line in path.read_text(encoding="utf-8").splitlines()]
    resources = r"walltime|--time|ncpus|--mem|--gres|ngpus|--constraint"
    places = r"--account|-A |--partition|-q |--qos|mpiexec|module load \w"
    assert not [line for line in code if re.search(f"{resources}|{places}", line)]


def test_an_installed_package_finds_the_scripts(tmp_path: Path) -> None:
    assert sorted(path.name for path in (files("ainerd_hpc") / "jobs").iterdir()) == sorted(
        path.name for path in JOBS.iterdir()
    )
    shutil.copytree(ROOT, tmp_path / "source", symlinks=True, ignore=_all_but_what_is_built)
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    result = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=tmp_path / "source", capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {name: wheel.read(name) for name in wheel.namelist() if name.startswith("ainerd_hpc/jobs/")}
    assert packed == {f"ainerd_hpc/jobs/{path.name}": path.read_bytes() for path in JOBS.iterdir()}


def _all_but_what_is_built(folder: str, names: list[str]) -> list[str]:
    wanted = {"ainerd_hpc", "jobs", "pyproject.toml", "README.md"}
    return (
        [name for name in names if name not in wanted]
        if Path(folder) == ROOT
        else ["__pycache__"] * ("__pycache__" in names)
    )


class Stage:
    """A folder in which a script runs, with stand-ins for the program, and for what puts a job back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("logs", "bin", "home"):
            (folder / name).mkdir()
        for path in JOBS.iterdir():
            shutil.copy(path, folder)
        self.program("ainerd-hpc", STUB)
        self.program("scontrol", SCONTROL)
        self.program("sleep", 'case $1 in 10 | 60) echo "sleep $1" >> calls ;; *) exec /bin/sleep "$1" ;; esac')
        self.write("code", "0")

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text if text.startswith("#!") else f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text + "\n")

    def start(self, script: str, **variables: str) -> subprocess.Popen[str]:
        """As the batch system does: a copy elsewhere, PBS jobs in the home folder, no arguments."""
        spooled = shutil.copy(self.folder / script, self.folder / "home" / "script")
        told = {"AINERD_JOBS": ".", "AINERD_STAGE": "maps", "AINERD_CONFIG": "my.yaml", **variables}
        set_by_slurm = {"SLURM_JOB_ID": "12", "SLURM_CPUS_PER_TASK": "4"}
        set_by_pbs = {"PBS_JOBID": "12.server", "PBS_O_WORKDIR": str(self.folder)}
        is_pbs = script.endswith(".pbs")
        environment = {"PATH": f"{self.folder / 'bin'}:/usr/bin:/bin", "HOME": str(self.folder / "home")}
        environment |= (set_by_pbs if is_pbs else set_by_slurm) | told
        return subprocess.Popen(
            ["bash", spooled],
            cwd=self.folder / "home" if is_pbs else self.folder,
            env={key: value for key, value in environment.items() if value},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, script: str, **variables: str) -> tuple[int, str]:
        process = self.start(script, **variables)
        text = process.communicate(timeout=30)[0]
        return process.returncode, text

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


EXPECTED = {
    "array": "maps my.yaml",
    "ddp": "train my.yaml",
    "single": "run my.yaml --from maps --until maps",
}


@pytest.mark.parametrize("script", [path.name for path in SCRIPTS])
def test_a_script_starts_the_stage_where_it_was_submitted(script: str, stage: Stage) -> None:
    code, text = stage.run(script)
    assert (code, stage.calls()) == (0, [f"{stage.folder}: {EXPECTED[script.partition('.')[0]]}"])
    assert re.search(r"^ainerd-hpc job 12: exit 0, \d{4}-", text, flags=re.MULTILINE)


@pytest.mark.parametrize("suffix", ["sbatch", "pbs"])
def test_elements_of_an_array_do_their_share(suffix: str, stage: Stage) -> None:
    slurm = {"SLURM_ARRAY_JOB_ID": "11", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}
    pbs = {"PBS_ARRAY_INDEX": "3", "PBS_JOBID": "11[3].server", "AINERD_SHARES": "8"}
    code, text = stage.run(f"array.{suffix}", **(pbs if suffix == "pbs" else slurm))
    assert (code, stage.calls()) == (0, [f"{stage.folder}: maps my.yaml --share 3/8"])
    assert "ainerd-hpc job 11_3: exit 0" in text


@pytest.mark.parametrize("suffix", ["sbatch", "pbs"])
def test_elements_of_a_later_array_do_theirs(suffix: str, stage: Stage) -> None:
    slurm = {"SLURM_ARRAY_JOB_ID": "11", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"}
    pbs = {"PBS_ARRAY_INDEX": "3", "PBS_JOBID": "11[3].server"}
    told = {"AINERD_SHARES": "8", "AINERD_SHARES_BEFORE": "4"}
    code, _ = stage.run(f"array.{suffix}", **told, **(pbs if suffix == "pbs" else slurm))
    assert (code, stage.calls()) == (0, [f"{stage.folder}: maps my.yaml --share 7/8"])


@pytest.mark.parametrize(("told", "code"), [("0", 0), ("1", 1), ("2", 2), ("3", 0), ("130", 130)])
@pytest.mark.parametrize("suffix", ["sbatch", "pbs"])
def test_exit_codes(suffix: str, told: str, code: int, stage: Stage) -> None:
    """3, some scans are set aside, lets the line go on."""
    stage.write("code", told)
    assert stage.run(f"single.{suffix}")[0] == code
    assert not any("scontrol" in call or "requeue" in call for call in stage.calls())


def _wait_for(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_before_the_walltime_the_run_is_ended_in_order_and_put_back(kind: str, stage: Stage) -> None:
    stage.write("sleep", "")
    process = stage.start(f"{kind}.sbatch", SLURM_RESTART_COUNT="2")
    _wait_for(stage.calls)
    process.send_signal(signal.SIGUSR1)
    text = process.communicate(timeout=20)[0]
    assert stage.calls()[1:] == ["ended in order", "scontrol requeue 12"]
    assert "time is up; goes on in another job" in text
    assert "ainerd-hpc job 12: exit 130" in text


@pytest.mark.parametrize("kind", KINDS)
def test_pbs_scripts_keep_the_time_themselves_and_are_submitted_again(kind: str, stage: Stage) -> None:
    stage.write("sleep", "")
    code, text = stage.run(f"{kind}.pbs", AINERD_SECONDS="1")
    assert code == 124
    assert stage.calls()[1:] == ["ended in order", f"{stage.folder}: requeue . 12.server"]
    assert "time is up; goes on in another job" in text


@pytest.mark.parametrize("suffix", ["sbatch", "pbs"])
def test_a_cancelled_job_is_ended_in_order_and_not_put_back(suffix: str, stage: Stage) -> None:
    stage.write("sleep", "")
    process = stage.start(f"single.{suffix}")
    _wait_for(stage.calls)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode > 128 or process.returncode == 124
    assert stage.calls()[1:] == ["ended in order"]


@pytest.mark.parametrize("suffix", ["sbatch", "pbs"])
def test_a_program_that_is_killed_goes_on_in_another_job(suffix: str, stage: Stage) -> None:
    """By the kernel, say, for the memory that it takes; the script lives on."""
    stage.write("kill", "")
    code, text = stage.run(f"array.{suffix}")
    assert code == 137
    put_back = "scontrol requeue 12" if suffix == "sbatch" else f"{stage.folder}: requeue . 12.server"
    assert stage.calls()[1:] == [put_back]
    assert "the program was killed (out of memory?); goes on in another job" in text
    assert stage.run(f"array.{suffix}", SLURM_RESTART_COUNT="10")[1].count("after 10 restarts") == (suffix == "sbatch")


def test_a_job_goes_on_only_so_often(stage: Stage) -> None:
    stage.write("sleep", "")
    stage.write("site.sh", "AINERD_RESTARTS=2")
    process = stage.start("single.sbatch", SLURM_RESTART_COUNT="2")
    _wait_for(stage.calls)
    process.send_signal(signal.SIGUSR1)
    text = process.communicate(timeout=20)[0]
    assert stage.calls()[1:] == ["ended in order"]
    assert "time is up, after 2 restarts" in text


@pytest.mark.parametrize(
    ("codes", "told"),
    [("1\n1\n1", "`ainerd-hpc submit` goes on where it stopped"), ("1\n1", "time is up; goes on in another job")],
)
def test_what_cannot_be_put_back_now_is_tried_again(codes: str, told: str, stage: Stage) -> None:
    stage.write("sleep", "")
    stage.write("requeue", codes)
    process = stage.start("single.sbatch")
    _wait_for(stage.calls)
    process.send_signal(signal.SIGUSR1)
    assert told in process.communicate(timeout=20)[0]
    tried = ["scontrol requeue 12", "sleep 10", "scontrol requeue 12", "sleep 60", "scontrol requeue 12"]
    assert stage.calls()[1:] == ["ended in order", *tried]


def test_the_site_says_what_a_job_finds(stage: Stage) -> None:
    stage.write("activate", "ACTIVE=$MODULE-activated; export ACTIVE")
    stage.program("starter", 'echo "started on $1" >> calls; exec "$@"')
    more = (
        'module() { MODULE="$*"; export MODULE; }\nAINERD_MODULES=(conda cuda/12)\nAINERD_ACTIVATE=./activate\n'
        'AINERD_VARIABLES=(EXTRA="two words")\nAINERD_SCRATCH=$HOME/scratch\nAINERD_INTERFACE=hsn0\n'
        "AINERD_LAUNCHER=(starter)"
    )
    stage.write("site.sh", more)
    code, text = stage.run("ddp.sbatch")
    assert code == 0, text
    found = (stage.folder / "environment").read_text().strip()
    assert found == f"{stage.folder}/home/scratch hsn0 two words load conda cuda/12 load conda cuda/12-activated"
    assert stage.calls()[0] == "started on ainerd-hpc"


def test_by_hand_a_script_runs_from_the_folder_of_jobs(stage: Stage) -> None:
    (stage.folder / "jobs").mkdir()
    shutil.move(stage.folder / "env.sh", stage.folder / "jobs")
    process = stage.start("single.sbatch", AINERD_JOBS="")
    assert "exit 0" in process.communicate(timeout=20)[0]
    assert stage.calls() == [f"{stage.folder}: run my.yaml --from maps --until maps"]
