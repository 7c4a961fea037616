"""Submission without a batch system: site files, steps, command lines, what is kept and told; shares of a stage."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from ainerd_hpc.archive.journal import Journal
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.run_record import last_run
from ainerd_hpc.config import ExecutorConfig, RunConfig
from ainerd_hpc.console import time_text
from ainerd_hpc.errors import ArchiveError, ConfigError, PlanError, QuarantinedError, SubmissionError
from ainerd_hpc.pipeline import Run, _share
from ainerd_hpc.planning import plan
from ainerd_hpc.site.site_file import KINDS, SiteConfig, load_site
from ainerd_hpc.site.workers import worker_memory
from ainerd_hpc.submission import pbs, slurm
from ainerd_hpc.submission.batch import State
from ainerd_hpc.submission.chain import cancel, requeue, submit
from ainerd_hpc.submission.files import site_text, texts
from ainerd_hpc.submission.record import Submission, exit_code, last_error, last_submission, new_folder
from ainerd_hpc.submission.status import rate_text, stage_statuses
from ainerd_hpc.submission.steps import Step, config_of, node_hours, steps
from ainerd_hpc.types import Task
from tests.conftest import digests
from tests.support.golden_submission import GOLDEN, SITES, plans, submitted, text
from tests.support.golden_submission import KINDS as GOLDEN_KINDS
from tests.support.pbs_rules import check_command, check_options
from tests.support.places import ROOT

MakeConfig = Callable[..., RunConfig]
COMMAND = [sys.executable, "-m", "ainerd_hpc.cli"]
LOCAL = ExecutorConfig(kind="local")
README = ROOT / "configs" / "sites" / "README.md"


def site(system: str = "slurm", **sections: object) -> SiteConfig:
    nodes = {"cores": 4, "memory": "8 GB", "walltime": "00:30:00"}
    return SiteConfig.model_validate({"system": system, "nodes": nodes, **sections})


# Site files


@pytest.mark.parametrize("path", SITES, ids=lambda path: path.stem)
def test_every_shipped_site_loads_and_fits_the_schema(path: Path) -> None:
    loaded = load_site(path)
    assert all(loaded.of(kind).walltime > loaded.lead for kind in KINDS)
    data = {key: value or {} for key, value in yaml.safe_load(path.read_text(encoding="utf-8")).items()}
    for section in data.values():
        if isinstance(section, dict):
            section.pop("walltime", None)  # YAML reads 01:00:00 as a text or as seconds, and both are taken
    data["lead"] = loaded.lead
    jsonschema.validate(data, SiteConfig.model_json_schema())


def test_the_reference_of_sites_names_every_key() -> None:
    keys = set(re.findall(r"^\| `([\w.]+)` \|", README.read_text(encoding="utf-8"), flags=re.MULTILINE))
    fields = {name: field.annotation for name, field in SiteConfig.model_fields.items()}
    sections = {name: set(kind.model_fields) for name, kind in fields.items() if hasattr(kind, "model_fields")}
    expected = set(fields) - set(sections) | {f"nodes.{key}" for key in sections["nodes"]}
    for name in ("array", "ddp", "single", "environment"):
        expected |= {f"{name}.{key}" for key in sections[name] - sections["nodes"]}
    assert keys == expected


def _write(folder: Path, body: str) -> Path:
    path = folder / "site.yaml"
    path.write_text(body, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("system: slurm\nnodes:\n  quue: a\n", r"site.yaml, line 3: unknown key 'nodes.quue'; did you mean 'queue'\?"),
        ("nodes: {}\n", "'system' is missing; give it in the file"),
        ("system: lsf\n", "line 1: 'system': Input should be 'slurm' or 'pbs'"),
        ("system: pbs\nnodes: {qos: high}\n", "line 2: 'nodes': expected no qos: PBS has none"),
        ("system: pbs\narray: {jobs: 4, at_once: 2}\n", "line 2: 'array': expected no at_once: PBS has none"),
        ("system: pbs\nnodes: {memory_per_cpu: true}\n", "line 2: 'nodes': expected no memory_per_cpu: PBS has none"),
        ("system: slurm\nnodes: {queue: a b}\n", "line 2: 'nodes.queue': String should match"),
        ("system: slurm\nnodes: {queue: 'a,b'}\n", "line 2: 'nodes.queue': String should match"),
        ("system: slurm\nlead: 1 h\n", "array.walltime: expected more than the lead, found 3600 s, the lead is 3600 s"),
        ("system: slurm\nddp: {memory: 4 GB}\n", "ddp.memory: expected ddp.cores with it, found none; give both"),
        ("system: slurm\nnodes: {walltime: soon}\n", "line 2: 'nodes.walltime': expected a duration"),
        ("system: slurm\nenvironment: {variables: {A-B: x}}\n", "String should match pattern"),
        ("system: slurm\nenvironment: {scratch: '$(rm x)'}\n", "String should match pattern"),
    ],
)
def test_mistakes_in_a_site_file_are_one_line(body: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        load_site(_write(tmp_path, body))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("01:30:00", 5400), ("'12:00:00'", 43200), ("12:00:00", 43200), ("05:00", 300), ("2 h", 7200), ("90", 90)],
)
def test_walltimes(written: str, seconds: float, tmp_path: Path) -> None:
    body = f"system: slurm\nlead: 1 s\nnodes: {{walltime: {written}}}\n"
    assert load_site(_write(tmp_path, body)).of("single").walltime == seconds


def test_what_a_kind_says_goes_before_what_all_nodes_say() -> None:
    found = site(ddp={"gpus": 4, "cores": 8}, single={"walltime": "1 h"})
    assert [found.of(kind).cores for kind in KINDS] == [4, 8, 4]
    assert [found.of(kind).gpus for kind in KINDS] == [0, 4, 0]
    assert [found.of(kind).walltime for kind in KINDS] == [1800, 1800, 3600]


def test_what_is_special_about_a_site_is_plain_bash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.setenv("PBS_CONF_FILE", "/etc/my pbs.conf")
    environment = {
        "modules": ["conda", "cuda/12"],
        "activate": "/a path/activate",
        "variables": {"QUOTED": 'it\'s "$HOME"'},
        "command": ["/opt/it's/ainerd-hpc"],
        "launcher": ["srun", "--ntasks=1"],
        "scratch": "/scratch/$USER",
    }
    (tmp_path / "site.sh").write_text(site_text(site(environment=environment)), encoding="utf-8")
    show = "USER=me; source site.sh; printf '%s|' " + " ".join(
        f'"${{AINERD_{name}[@]}}"' for name in ("COMMAND", "LAUNCHER", "MODULES", "VARIABLES", "ACTIVATE", "SCRATCH")
    )
    found = subprocess.run(["bash", "-c", show], cwd=tmp_path, capture_output=True, text=True).stdout
    assert found.split("|")[:-1] == [
        "/opt/it's/ainerd-hpc", "srun", "--ntasks=1", "conda", "cuda/12", "PBS_CONF_FILE=/etc/my pbs.conf",
        "QUOTED=it's \"$HOME\"", "/a path/activate",
        "/scratch/me",
    ]  # fmt: skip


# Steps and command lines


def test_a_stage_of_many_tasks_is_an_array_and_a_job_that_finishes_it() -> None:
    line = steps(plans(correlate=2, maps=1), site(array={"jobs": 3}), LOCAL)
    assert [(step.name, step.kind, step.num_shares, step.needs_success) for step in line] == [
        ("ingest", "array", 3, True),
        ("ingest-end", "array", 0, False),
        ("correlate", "array", 2, True),
        ("correlate-end", "array", 0, False),
        ("maps", "array", 0, True),
        ("train", "ddp", 0, True),
        ("embed", "array", 3, True),
        ("embed-end", "array", 0, False),
        ("cluster", "single", 0, True),
        ("report", "single", 0, True),
    ]
    assert [step.name for step in steps(plans(), site(), LOCAL)] == [
        "ingest", "correlate", "maps", "train", "embed", "cluster", "report",
    ]  # fmt: skip


def test_more_shares_than_an_array_may_have_are_several_arrays() -> None:
    line = steps(plans(ingest=8, correlate=2, maps=1), site(array={"jobs": 8}), LOCAL, largest_array=3)
    assert [
        (step.name, step.num_shares, step.shares_before, step.all_shares, step.needs_success) for step in line[:7]
    ] == [
        ("ingest", 2, 0, 8, True),
        ("ingest-2", 3, 2, 8, False),
        ("ingest-3", 3, 5, 8, False),
        ("ingest-end", 0, 0, 0, False),
        ("correlate", 2, 0, 2, True),
        ("correlate-end", 0, 0, 0, False),
        ("maps", 0, 0, 0, True),
    ]
    words = slurm.command(line[1], site(array={"jobs": 8}))
    assert "--array=1-3" in words
    assert words[[word.startswith("--export") for word in words].index(True)].endswith(
        "SHARES=8,AINERD_SHARES_BEFORE=2"
    )
    assert steps(plans(), site(array={"jobs": 3}), LOCAL, largest_array=1) == steps(plans(), site(), LOCAL)


@given(st.integers(1, 40), st.integers(3, 12))
@examples(max_examples=30)
def test_arrays_share_a_stage_without_a_gap(num_tasks: int, largest: int) -> None:
    line = steps(plans(ingest=num_tasks), site(array={"jobs": 40}), LOCAL, largest_array=largest)
    arrays = [step for step in line if step.first == "ingest" and step.num_shares]
    shares = [step.shares_before + number for step in arrays for number in range(1, step.num_shares + 1)]
    assert shares == list(range(1, num_tasks + 1))[: len(shares)]
    assert (len(shares) == num_tasks) == (num_tasks > 1)
    assert all(2 <= step.num_shares <= largest for step in arrays)


@pytest.mark.parametrize(
    ("system", "command", "said", "largest"),
    [
        (slurm, "scontrol", "MailProg                = /bin/mail\nMaxArraySize            = 1001\n", 1000),
        (slurm, "scontrol", "MaxArraySize            = 0\n", 1),
        (slurm, "scontrol", "nothing of it\n", None),
        (pbs, "qstat", "Server: here\n    server_state = Active\n    max_array_size = 10000\n", 10000),
        (pbs, "qstat", "Server: here\n    server_state = Active\n", None),
    ],
)
def test_how_long_an_array_may_be(
    system: Any, command: str, said: str, largest: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / command).write_text(f"#!/bin/sh\nprintf '{said}'\n".replace("\n'", "\\n'"))
    (tmp_path / command).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert system.largest_array() == largest
    (tmp_path / command).unlink()
    assert system.largest_array() is None


@given(st.integers(1, 60), st.integers(1, 12), st.sampled_from(["slurm", "pbs"]))
@examples(max_examples=50)
def test_a_line_fits_into_the_queue_with_as_many_shares_as_may_be(most: int, jobs: int, system: str) -> None:
    def queued(num_jobs: int) -> int:
        line = steps(plans(), site(system, array={"jobs": num_jobs}), LOCAL)
        again = max(step.num_shares for step in line) if system == "pbs" else 0
        return again + sum(max(1, step.num_shares) for step in line)

    if most < queued(1):
        with pytest.raises(ConfigError, match=f"most_jobs: expected 7 or more for these stages, found {most}; "):
            steps(plans(), site(system, array={"jobs": jobs}, most_jobs=most), LOCAL)
        return
    fitting = max(number for number in range(1, jobs + 1) if queued(number) <= most)
    line = steps(plans(), site(system, array={"jobs": jobs}, most_jobs=most), LOCAL)
    assert line == steps(plans(), site(system, array={"jobs": fitting}), LOCAL)


def test_memory_by_core() -> None:
    found = site(nodes={"cores": 4, "memory": "8 GB", "walltime": "00:30:00", "memory_per_cpu": True})
    words = slurm.command(_step("maps"), found)
    assert [word for word in words if "mem" in word] == [f"--mem-per-cpu={8 * 10**9 // 2**20 // 4}M"]


def test_what_is_done_is_finished_by_one_job() -> None:
    line = steps(plans(ingest=0, correlate=0, maps=0), site(), LOCAL)
    assert (line[0].name, line[0].first, line[0].until) == ("resume", "ingest", "maps")
    assert [step.first for step in line[1:]] == ["train", "embed", "cluster", "report"]
    nothing = dict.fromkeys(("ingest", "correlate", "maps", "train", "embed", "cluster", "report"), 0)
    assert steps(plans(**nothing), site(), LOCAL) == []


def test_node_hours_are_those_of_all_elements() -> None:
    found = site(array={"jobs": 4, "walltime": "2 h"}, ddp={"walltime": "30 min"})
    line = steps(plans(), found, LOCAL)
    assert node_hours(line, found) == 4 * (4 * 2 + 2) + 0.5 + 2 * 0.5


def test_configs_of_jobs(simulated_source: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(simulated_source)
    config = make_config(Path("here"), archive="there", executor={"kind": "local", "threads": 2})
    found = site(array={"cores": 8, "memory": "40 GB"}, ddp={"ranks": 4}, single={"memory": "20 GB"})
    on_workers, one = config_of("array", config, found), config_of("single", config, found)
    assert (on_workers.archive, on_workers.source.path) == (simulated_source / "there", simulated_source / "here")
    assert (on_workers.executor.workers, on_workers.executor.memory) == (4, 9 * 10**9)
    assert (one.executor.workers, one.executor.memory, one.executor.threads) == (1, 18 * 10**9, 2)
    assert config_of("ddp", config, found).train.devices == 4
    assert config_of("array", config, SiteConfig(system="slurm")).executor == config.executor
    assert (one.executor.kind, on_workers.executor.kind) == ("inline", "local")


def test_where_dask_workers_are_elsewhere_a_stage_is_one_job(
    simulated_source: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text("system: slurm\narray: {cores: 8, memory: 40 GB, jobs: 5}\n", encoding="utf-8")
    found = load_site(tmp_path / "mine.yaml")
    elastic = make_config(simulated_source, executor={"kind": "elastic", "threads": 2, "site": tmp_path / "mine.yaml"})
    line = steps(plans(), found, elastic.executor)
    assert [(step.name, step.kind, step.config, step.num_shares, step.worker_jobs) for step in line[:3]] == [
        (name, "single", "array", 0, 5) for name in ("ingest", "correlate", "maps")
    ]
    assert node_hours(line[:1], found) == 6  # its own, and as long those of five jobs with workers
    asked = config_of("array", elastic, found, tmp_path / "jobs")
    assert (asked.executor.site, asked.executor.workers) == (tmp_path / "jobs" / "site.yaml", None)
    assert worker_memory(config_of("array", elastic, found).executor) == 9 * 10**9
    files = texts(elastic, found, tmp_path)
    (tmp_path / "site.yaml").write_text(files["site.yaml"], encoding="utf-8")
    assert load_site(tmp_path / "site.yaml") == found
    assert [
        step.worker_jobs for step in steps(plans(), found, ExecutorConfig(kind="scheduler", address="a", memory=1))[:1]
    ] == [0]


def test_an_allocation_is_one_job_of_several_nodes(simulated_source: Path, make_config: MakeConfig) -> None:
    config = make_config(simulated_source, executor={"kind": "allocation", "threads": 2})
    nodes = {"nodes": 3, "cores": 8, "memory": "40 GB", "jobs": 5}
    found = site(array=nodes, ddp={"nodes": 2}, environment={"spread": ["mpirun"]})
    line = steps(plans(), found, config.executor)
    assert [(step.name, step.kind, step.num_shares) for step in line[:2]] == [
        ("ingest", "array", 0), ("correlate", "array", 0),
    ]  # fmt: skip
    assert node_hours(line[:1], found) == 1.5
    asked = config_of("array", config, found).executor
    assert (asked.workers, asked.memory, asked.spread) == (4, 9 * 10**9, ("mpirun",))
    assert config_of("ddp", config, found).train.nodes == 2


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"array": {"nodes": 2}}, "array.nodes: expected 1 without executor.kind: allocation, found 2"),
        ({"single": {"nodes": 3}}, "single.nodes: expected 1, found 3; give single.nodes: 1"),
        ({"nodes": {"nodes": 2}}, "array.nodes: expected 1 without executor.kind: allocation, found 2"),
    ],
)
def test_jobs_of_one_process_take_one_node(
    sections: dict[str, object], words: str, simulated_source: Path, make_config: MakeConfig
) -> None:
    with pytest.raises(ConfigError, match=f"^site file: {words}"):
        submit(make_config(simulated_source), SiteConfig.model_validate({"system": "slurm", **sections}), dry_run=True)


@pytest.mark.parametrize("path", SITES, ids=lambda path: path.stem)
def test_command_lines_are_the_golden_ones(path: Path) -> None:
    assert text(path) == (GOLDEN / f"{path.stem}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path", [path for path in SITES if load_site(path).system == "pbs"], ids=lambda path: path.stem
)
@pytest.mark.parametrize("kind", GOLDEN_KINDS)
def test_qsub_lines_keep_the_rules_of_openpbs(path: Path, kind: str) -> None:
    line, commands = submitted(path, kind)
    ids = {f"ID_OF_{step.name}": "7[].server" if step.num_shares else "7.server" for step in line}
    for words in commands:
        told = [re.sub(r"ID_OF_[\w-]+", lambda match: ids[match[0]], word) for word in words]
        assert check_command(told) == []


@pytest.mark.parametrize(
    "line",
    [
        "-l select=1:ncpus=2:mem=4gb:nodes",
        "-l nodes=2:ppn=2",
        "-l select=1:ncpus=2,walltime=1h",
        "-l select=1:ncpus=2:mpiprocs=2:ompthreads=2",
        "-N correlate-finish-it",
        "-J 0-7%2",
        "-J 3-3",
        "-W depend=afterok:7",
        "-W depend=afterok:7[].server",
        "-v A=b c",
        "-j eo2",
        "-k oed",
        "-o a b",
    ],
)
def test_the_rules_refuse_what_openpbs_would(line: str) -> None:
    assert check_options(line.split(" ", 1)) != []


def test_ids_of_jobs() -> None:
    assert [slurm.job_of(output) for output in ("12\n", "12;cluster\n", "", "error: 12")] == ["12", "12", "", ""]
    assert [pbs.job_of(output) for output in ("12.server-1.site\n", "12[].server\n", "12\n", "", "qsub: 12")] == [
        "12.server-1.site", "12[].server", "12", "", "",
    ]  # fmt: skip
    assert pbs.dependency("12[].server", needs_success=False) == ["-W", "depend=afterany:12[].server"]


SQUEUE = """\
7_1|COMPLETED|None
7_2|RUNNING|None
7_3|PENDING|JobArrayTaskLimit
8|PENDING|Dependency
9|PENDING|Nodes required for job are DOWN, DRAINED or reserved
10|CANCELLED|DependencyNeverSatisfied
11|OUT_OF_MEMORY|OutOfMemory
12|TIMEOUT|TimeLimit
99|RUNNING|None
"""
SACCT = "7_1|COMPLETED\n7_2|CANCELLED by 1000\n8|NODE_FAIL\n9|CANCELLED+\n"
QSTAT = """\
Job Id: 7[].server-1
    Job_Name = correlate
    job_state = B
    array_state_count = Queued:4 Running:2 Exiting:1 Expired:1 \n\
    comment = Job Array Began at Mon Mar  4 at 10:00
\ta continuation line

Job Id: 8.server-1
    job_state = H
    comment = Not Running: Job held by user on

Job Id: 9[].server-1
    job_state = H
    array_state_count = Queued:8 Running:0 Exiting:0 Expired:0 \n\

Job Id: 10.server-1
    job_state = F
    Exit_status = 1
"""


def test_states_of_slurm() -> None:
    jobs = [str(number) for number in range(7, 13)]
    assert slurm.parse(SQUEUE, jobs) == {
        "7": Counter({State.DONE: 1, State.RUNNING: 1, State.QUEUED: 1}),
        "8": Counter({State.WAITING: 1}),
        "9": Counter({State.QUEUED: 1}),
        "10": Counter({State.CANCELLED: 1}),
        "11": Counter({State.FAILED: 1}),
        "12": Counter({State.FAILED: 1}),
    }
    assert slurm.parse(SACCT, jobs) == {
        "7": Counter({State.DONE: 1, State.CANCELLED: 1}),
        "8": Counter({State.FAILED: 1}),
        "9": Counter({State.CANCELLED: 1}),
    }


def test_states_of_pbs() -> None:
    assert pbs.parse(QSTAT) == {
        "7[].server-1": Counter({State.QUEUED: 4, State.RUNNING: 3}),
        "8.server-1": Counter({State.WAITING: 1}),
        "9[].server-1": Counter({State.WAITING: 8}),
    }


# What is kept and told


@pytest.fixture
def no_batch_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def test_without_a_batch_system_nothing_is_left(
    no_batch_system: None, simulated_source: Path, make_config: MakeConfig
) -> None:
    config = make_config(simulated_source)
    with pytest.raises(SubmissionError, match=r"^ingest: sbatch: no such command here; .*; nothing is submitted$"):
        submit(config, site(), yes=True)
    assert last_submission(config.archive) is None
    assert stage_statuses(config.archive, plan(config)) == ([], [])


def test_a_dry_run_prints_everything_and_does_nothing(
    simulated_source: Path, make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(simulated_source)
    submit(config, site("pbs", array={"jobs": 2}), until="maps", dry_run=True)
    printed = capsys.readouterr().out
    assert [line.split()[2] for line in printed.splitlines() if line.startswith("qsub ")] == [
        "ingest", "ingest-end", "correlate", "correlate-end", "maps", "maps-end",
    ]  # fmt: skip
    names = [
        "array.yaml",
        "ddp.yaml",
        "single.yaml",
        "site.yaml",
        "site.sh",
        "array.pbs",
        "ddp.pbs",
        "env.sh",
        "single.pbs",
    ]
    assert re.findall(r"^===== (.*)$", printed, flags=re.MULTILINE) == names
    assert 'cd "$PBS_O_WORKDIR"' in printed
    assert not config.archive.exists()


def test_many_node_hours_need_a_yes(simulated_source: Path, make_config: MakeConfig) -> None:
    config = make_config(simulated_source)
    with pytest.raises(SubmissionError, match=r"^the line may take 3\.5 node-hours, more than the 3 .*; say --yes"):
        submit(config, site(ask_above=3))
    assert not config.archive.exists()


def test_a_task_that_does_not_fit_into_a_job_is_refused(simulated_source: Path, make_config: MakeConfig) -> None:
    with pytest.raises(PlanError, match=r"task .* is projected to need .* of memory, a worker has 630 MB"):
        submit(make_config(simulated_source), site(single={"cores": 1, "memory": "700 MB"}), yes=True)


def test_a_part_of_the_line_asks_for_what_is_before_it(simulated_source: Path, make_config: MakeConfig) -> None:
    with pytest.raises(PlanError, match="correlate: expected `ingest` to be finished, found 6 tasks to do"):
        submit(make_config(simulated_source), site(), "correlate", dry_run=True)


def _spoil(path: Path) -> None:
    """Damage all counts of a raw file whose size and date stay as they are: it is told when they are read."""
    before = path.stat()
    with h5py.File(path, "r+") as file:
        frames = file["entry/data/data"].id
        for number in range(frames.shape[0]):
            size = frames.get_chunk_info_by_coord((number, 0, 0)).size
            frames.write_direct_chunk((number, 0, 0), b"\xff" * size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def test_retrying_takes_scans_out_of_quarantine(
    no_batch_system: None, source: Path, make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(source, ingest={"form": "none"})
    Run(config, until="ingest").execute()
    _spoil(source / "sim_0002.h5")
    with pytest.raises(QuarantinedError):
        Run(config, until="correlate").execute()
    submit(config, site(), dry_run=True)
    assert "1 scans in quarantine are left out; --retry-failed takes them up again" in capsys.readouterr().out
    submit(config, site(), retry_failed=True, dry_run=True)
    assert Journal(config.archive).problems, "a dry run changes nothing"
    with pytest.raises(SubmissionError):
        submit(config, site(), retry_failed=True)
    assert Journal(config.archive).problems == []
    assert [len(planned.tasks) for planned in plan(config, until="correlate")] == [0, 1]


def _put_before(monkeypatch: pytest.MonkeyPatch, folder: Path, programs: dict[str, str]) -> None:
    """Programs of bash, the first that are found."""
    folder.mkdir()
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_a_second_submission_is_refused_with_what_to_do(
    simulated_source: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = make_config(simulated_source)
    submission = Submission.create(new_folder(config.archive), "pbs", 3, {})
    submission.note_job("7[].server-1", _step("ingest", num_shares=8), ["qsub"])
    _put_before(monkeypatch, tmp_path / "bin", {"qstat": f"cat <<'END'\n{QSTAT}END"})
    found = r"^archive \S+: expected no jobs of it, found 7\[\]\.server-1"
    with pytest.raises(SubmissionError, match=f"{found}; wait, or `ainerd-hpc cancel` first$"):
        submit(config, site("pbs"), yes=True)
    submission.note("cancelled", jobs=["7[].server-1"])
    with pytest.raises(SubmissionError, match=f"{found}, cancelled and leaving; try again in a minute$"):
        submit(config, site("pbs"), yes=True)


STUB_PBS = {
    "qsub": """
echo "qsub $*" >> calls
number=$(grep -c ^qsub calls)
if [ "$number" = 2 ]; then echo "qsub: cannot connect to server" >&2; exit 111; fi
echo "$((20 + number)).server"
""",
    "qstat": 'for job in "${@:2}"; do printf "Job Id: %s\\n    job_state = H\\n" "$job"; done',
    "qdel": 'echo "qdel $*" >> "$CALLS"; echo "qdel: Unknown Job Id $1" >&2; exit 153',
    "qrls": 'echo "qrls $*" >> "$CALLS"',
}


def test_going_on_succeeds_where_it_failed_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All jobs behind it have ended meanwhile, and the server is away for a moment."""
    submission = Submission.create(new_folder(tmp_path), "pbs", 1, {"site.yaml": "system: pbs\n"})
    for number, name in enumerate(("maps", "maps-end", "train"), 7):
        submission.note_job(f"{number}.server", _step(name), ["qsub", "-N", name])
    _put_before(monkeypatch, tmp_path / "bin", STUB_PBS)
    monkeypatch.setenv("CALLS", str(submission.folder / "calls"))
    with pytest.raises(
        SubmissionError, match=r"^maps-end: qsub refused \(exit 111\): .*; jobs 21\.server, .* cancelled$"
    ):
        requeue(submission.folder, "7.server")
    requeue(submission.folder, "7.server")
    calls = [line.split() for line in (submission.folder / "calls").read_text(encoding="utf-8").splitlines()]
    assert [(words[0], words[2] if words[0] == "qsub" else words[1]) for words in calls] == [
        ("qdel", "9.server"), ("qdel", "8.server"), ("qsub", "maps"), ("qsub", "maps-end"), ("qdel", "21.server"),
        ("qdel", "9.server"), ("qdel", "8.server"), ("qsub", "maps"), ("qsub", "maps-end"), ("qsub", "train"),
        ("qrls", "23.server"),
    ]  # fmt: skip
    assert [job.id for job in last_submission(tmp_path).jobs] == ["23.server", "24.server", "25.server"]
    with pytest.raises(SubmissionError, match=r"^maps: went on 1 times already"):
        requeue(submission.folder, "23.server")


def test_nothing_to_cancel(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="expected a submission, found none"):
        cancel(tmp_path)


def _step(name: str, **more: object) -> Step:
    return Step(**{"name": name, "kind": "array", "first": name, "until": name, **more})  # type: ignore[arg-type]


def _log(submission: Submission, name: str, *lines: str) -> Path:
    path = submission.folder / "logs" / f"{name}.log"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_a_submission_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = Submission.create(new_folder(tmp_path), "pbs", 3, {"array.yaml": "a"})
    written.note_job("7[].server", _step("maps", num_shares=4), ["qsub", "-N", "maps"])
    written.note_job("8.server", _step("maps-end", needs_success=False), ["qsub"])
    written.note_job("9[].server", _step("maps", num_shares=4), ["qsub", "-N", "maps"])
    with (written.folder / "jobs.jsonl").open("a") as file:
        file.write('{"event": "cancel')  # torn by a kill
    found = last_submission(tmp_path)
    assert (found.system, found.restarts) == ("pbs", 3)
    assert [(job.id, job.number, job.step.name) for job in found.jobs] == [
        ("9[].server", "9", "maps"), ("8.server", "8", "maps-end"),
    ]  # fmt: skip
    assert [job.id for job in found.all_jobs] == ["7[].server", "8.server", "9[].server"]
    assert found.all_jobs[0].step == _step("maps", num_shares=4)
    second = Submission.create(new_folder(tmp_path), "pbs", 3, {})
    assert last_submission(tmp_path).folder == second.folder != written.folder


def test_a_log_tells_how_its_job_ended(tmp_path: Path) -> None:
    submission = Submission.create(new_folder(tmp_path), "slurm", 3, {})
    good = _log(submission, "a", "ainerd-hpc job 7: 2026 on n1", "work", "ainerd-hpc job 7: exit 0, 2026-01-01")
    bad = _log(submission, "b", "ainerd-hpc: disk full; mend this", "Traceback", "ainerd-hpc job 7_2: exit 1, 2026")
    killed = _log(submission, "c", "ainerd-hpc job 7: 2026 on n1", "maps: 3 of 9", "slurmstepd: error: killed")
    assert [exit_code(path) for path in (good, bad, killed)] == [0, 1, None]
    assert [last_error(path) for path in (bad, killed)] == ["disk full; mend this", "slurmstepd: error: killed"]
    again = _log(submission, "d", "ainerd-hpc job 7: exit 130, 2026", "x" * 9000, "ainerd-hpc job 7: exit 0, 2026")
    assert exit_code(again) == 0


def test_standings_from_logs_and_products(no_batch_system: None, tmp_path: Path) -> None:
    """Where the batch system cannot be asked, too."""
    submission = Submission.create(new_folder(tmp_path), "slurm", 3, {})
    for number, name in enumerate(("ingest", "correlate", "correlate-end", "maps", "train"), 1):
        stage = name.removesuffix("-end")
        shares = 3 if name == "correlate" else 0
        submission.note_job(str(number), _step(name, first=stage, until=stage, num_shares=shares), [])
    _log(submission, "ingest.1", "ainerd-hpc job 1: exit 0, x")
    _log(submission, "correlate.2_1", "ainerd-hpc job 2_1: exit 0, x")
    _log(submission, "correlate.2_2", "ainerd-hpc: no space left", "ainerd-hpc job 2_2: exit 1, x")
    _log(submission, "correlate.2_3", "killed in the middle")
    _log(submission, "correlate-end.3", "ainerd-hpc: no space left", "ainerd-hpc job 3: exit 1, x")
    submission.note("cancelled", jobs=["5"])
    rows, notes = stage_statuses(tmp_path, plans(ingest=0))
    assert [(row.state, row.jobs) for row in rows] == [
        ("", ""),
        ("failed", "1 done, 2 failed"),
        ("not run: correlate failed", ""),
        ("cancelled", "1 cancelled"),
        ("", ""),
        ("", ""),
        ("", ""),
    ]
    assert "correlate, job 2: no space left (correlate.2_2.log)" in notes
    assert notes[0].startswith("the batch system cannot be asked: squeue: no such command here")
    _log(submission, "correlate-end.3", "ainerd-hpc job 3: exit 0, x")
    _log(submission, "maps.4", "ainerd-hpc job 4: exit 1, x")
    rows, _ = stage_statuses(tmp_path, plans(ingest=0, correlate=0))
    assert [row.state for row in rows[:4]] == ["", "", "failed", "cancelled"]


def test_texts_of_rates_and_times() -> None:
    assert [rate_text(rate) for rate in (25.0, 0.5, 0.002)] == ["25/s", "30/min", "7.2/h"]
    assert [time_text(seconds) for seconds in (3.2, 42, 900, 12_600, 200_000)] == [
        "3.2 s",
        "42 s",
        "15.0 min",
        "3.5 h",
        "2.3 d",
    ]


def test_only_jobs_of_a_submission_go_on(tmp_path: Path) -> None:
    submission = Submission.create(new_folder(tmp_path), "pbs", 0, {})
    submission.note_job("7.server", _step("maps"), ["qsub"])
    with pytest.raises(SubmissionError, match=r"expected job 8\.server in jobs\.jsonl, found no such job"):
        requeue(submission.folder, "8.server")
    with pytest.raises(SubmissionError, match="maps: went on 0 times already"):
        requeue(submission.folder, "7.server")


# Shares of a stage


def _tasks(parts: list[int]) -> list[Task]:
    """A scan with so many tasks each."""
    names = [(f"scan{index}", number, count) for index, count in enumerate(parts) for number in range(count)]
    keys = [name if count == 1 else f"{name}/{number}of{count}" for name, number, count in names]
    return [Task(key, "digest", 0, 0, 0) for key in keys]


@given(st.lists(st.integers(1, 4), max_size=30), st.integers(1, 7))
@examples(max_examples=50)
def test_every_task_is_in_one_share_and_shares_are_even(parts: list[int], num_shares: int) -> None:
    tasks = _tasks(parts)
    shares = [_share(tasks, number, num_shares) for number in range(1, num_shares + 1)]
    assert sorted(key for share in shares for key in share) == sorted(task.key for task in tasks)
    if set(parts) <= {1}:
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.lists(st.integers(1, 4), min_size=1, max_size=20), st.integers(1, 5), st.data())
@examples(max_examples=50)
def test_a_scan_that_was_joined_moves_no_other_to_another_share(
    parts: list[int], num_shares: int, data: st.DataObject
) -> None:
    joined = data.draw(st.integers(0, len(parts) - 1))
    before, after = _tasks(parts), _tasks([*parts[:joined], 1, *parts[joined + 1 :]])
    others = {task.key for task in before if task.scan_id != f"scan{joined}"}
    for number in range(1, num_shares + 1):
        assert _share(before, number, num_shares) & others == _share(after, number, num_shares) & others


def test_shares_and_a_finish_equal_one_run(simulated_source: Path, make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(simulated_source)
    for stage in ("ingest", "correlate", "maps"):
        for number in (2, 1, 3):
            run = Run(config, stage)
            run.execute_share(number, 3)
            assert (run.reports[0].num_done, run.reports[0].num_kept) == (2, 0)
        finish = Run(config, stage, stage)
        finish.execute()
        assert (finish.reports[0].num_done, finish.reports[0].num_kept) == (0, 6)
    whole = make_config(simulated_source, archive=tmp_path / "whole")
    Run(whole, until="maps").execute()
    assert digests(config.archive) == digests(whole.archive)


def test_a_failed_share_is_done_once_and_told(source: Path, make_config: MakeConfig) -> None:
    config = make_config(source, ingest={"form": "none"})
    Run(config, until="ingest").execute()
    for scan in ("sim_0001", "sim_0004"):
        _spoil(source / f"{scan}.h5")
    for number, failing in ((1, "sim_0004"), (2, "sim_0001")):  # every other scan, from the first or the second on
        run = Run(config, "correlate")
        with pytest.raises(QuarantinedError, match="correlate: 1 scans failed") as error:
            run.execute_share(number, 2)
        assert error.value.exit_code == 3
        assert failing in {problem.scan_id for problem in Journal(config.archive).problems}
    assert (config.archive / "quarantine.jsonl").read_text(encoding="utf-8") == ""
    begun = _begun(config)
    with pytest.raises(QuarantinedError, match="2 scans are in quarantine"):
        Run(config, "correlate", "correlate").execute()
    assert _begun(config) == begun, "the finish tried again what had failed in the shares"
    lines = (config.archive / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["scan_id"] for line in lines] == ["sim_0001", "sim_0004"]
    assert not list((config.archive / "journal" / "failed").iterdir())
    with pytest.raises(QuarantinedError):
        Run(config, "correlate", "correlate", retry_failed=True).execute()
    assert _begun(config) == begun + 2


def _begun(config: RunConfig) -> int:
    lines = [line for path in (config.archive / "journal").glob("*.jsonl") for line in path.read_text().splitlines()]
    return sum('"begun", "stage": "correlate"' in line for line in lines)


def test_shares_work_side_by_side_and_keep_runs_off(simulated_source: Path, make_config: MakeConfig) -> None:
    config = make_config(simulated_source)
    archive = Archive(config.archive)
    with archive.locked(shared=True):
        assert archive.is_locked()
        Run(config, "ingest").execute_share(1, 2)
        with pytest.raises(ArchiveError, match="is at work on it"):
            Run(config, until="ingest").execute()
    assert not archive.is_locked()
    with archive.locked(), pytest.raises(ArchiveError, match="is at work on it"):
        Run(config, "ingest").execute_share(1, 2)


def test_a_look_at_the_lock_disturbs_no_run(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    with archive.locked():
        pass
    looking = (
        "import sys, pathlib\nfrom ainerd_hpc.archive.layout import Archive\n"
        "archive = Archive(pathlib.Path(sys.argv[1]))\n"
    )
    loop = "while True:\n    archive.is_locked()\n"
    with subprocess.Popen([sys.executable, "-c", looking + loop, str(tmp_path)]) as process:
        time.sleep(1)
        for shared in (False, True) * 20:
            with archive.locked(shared):
                pass
        process.kill()


def test_stages_of_one_task_are_not_shared(simulated_source: Path, make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="train: has one task, which cannot be shared"):
        Run(make_config(simulated_source), "train").execute_share(1, 2)
    command = [*COMMAND, "maps", "--source", "x", "--archive", "y", "--share", "3/2"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, "argument --share: invalid" in result.stderr) == (2, True)


def test_a_terminated_run_ends_in_order(simulated_source: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    options = ["--source", str(simulated_source), "--archive", str(archive), "--set", "executor.workers=2"]
    process = subprocess.Popen(
        [*COMMAND, "ingest", *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    while not list(archive.glob("frames/*.zip")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=30)[1]
    assert (process.returncode, error) == (130, "ainerd-hpc: interrupted; the same command goes on where it stopped\n")
    assert not Archive(archive).is_locked()
    assert ": interrupted, started" in last_run(Archive(archive))
    quarantine = archive / "quarantine.jsonl"
    assert not quarantine.exists() or quarantine.read_text(encoding="utf-8") == ""
