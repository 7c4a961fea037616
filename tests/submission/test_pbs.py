"""The line through qsub, with the manners of OpenPBS in front of SLURM's look-alike of it (`pbs_front`)."""

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

from ainerd_hpc.submission.record import last_submission
from tests.conftest import digests
from tests.support.batch_runs import (
    begin_local_run,
    local_digests,
    logs,
    pbs_sandbox,
    queued,
    states,
    verb,
    wait_for,
    write_config,
    write_site,
)
from tests.support.places import ROOT

pytestmark = pytest.mark.pbs

# Stands for ainerd-hpc: every share of ingest, and its end, need two attempts.
SLOW = """#!/bin/bash
if [ "$1" = requeue ]; then
    exec {python} -m ainerd_hpc.cli "$@"
fi
echo "$*" >> calls
mark="seen.${{*//[^a-z0-9]/_}}"
if [ "$1" != ingest ] || [ -f "$mark" ]; then
    exit 0
fi
touch "$mark"
trap 'exit 130' TERM
sleep 60 >/dev/null 2>&1 &
wait
"""


@pytest.fixture(scope="module", autouse=True)
def pbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pbs_sandbox(tmp_path_factory):
        yield


@pytest.fixture
def config(tmp_path: Path, simulated_source: Path) -> Path:
    return write_config(tmp_path, simulated_source)


def test_the_whole_line_ends_as_a_local_run(config: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    site = write_site(config.parent, "pbs", array={"jobs": 2})
    result = verb("submit", config, "--site", site)
    assert result.returncode == 0, result.stderr
    begin_local_run(config, tmp_path_factory)
    jobs = re.findall(r"^([\w-]+): job (\d+\S*)$", result.stdout, flags=re.MULTILINE)
    arrays = {"ingest", "correlate", "maps"}
    assert [name for name, _ in jobs] == [
        *(f"{name}{end}" for name in ("ingest", "correlate", "maps") for end in ("", "-end")),
        *("train", "embed", "cluster", "report"),
    ]
    assert all(re.fullmatch(r"\d+\[\]\.sandbox" if name in arrays else r"\d+\.sandbox", job) for name, job in jobs)
    assert states(config)["report"] == "waiting 1 waiting"
    archive = config.parent / "archive"
    wait_for(lambda: not queued(), logs(archive))
    assert set(states(config).values()) == {"done"}, logs(archive)
    assert digests(archive) == local_digests(config, tmp_path_factory), logs(archive)
    names = sorted({re.sub(r"\d+", "N", path.name) for path in archive.glob("jobs/*/logs/*.log")})
    assert names == sorted(f"{name}.N{'_N' * (name in arrays)}.log" for name, _ in jobs)


def test_steps_whose_time_is_up_go_on_in_new_jobs(config: Path, tmp_path: Path) -> None:
    program = tmp_path / "slow"
    program.write_text(SLOW.format(python=sys.executable))
    program.chmod(0o755)
    nodes = {"cores": 1, "memory": "4 GB", "walltime": 60}
    command = {"command": [str(program)]}
    site = write_site(tmp_path, "pbs", lead=58, array={"jobs": 2}, nodes=nodes, environment=command)
    result = verb("submit", config, "--site", site, "--until", "correlate")
    assert result.returncode == 0, result.stderr
    archive = config.parent / "archive"
    wait_for(lambda: not queued(), logs(archive))
    submission = last_submission(archive)
    events = [json.loads(line) for line in (submission.folder / "jobs.jsonl").read_text().splitlines()][1:]
    line = ["ingest", "ingest-end", "correlate", "correlate-end"]
    told = [entry["step"]["name"] if "step" in entry else len(entry["jobs"]) for entry in events]
    assert told == [*line, 3, *line, 2, *line[1:]], logs(archive)
    assert sorted((submission.folder / "calls").read_text().splitlines()) == sorted(
        [
            *["ingest array.yaml --share 1/2", "ingest array.yaml --share 2/2", "ingest array.yaml"] * 2,
            *["correlate array.yaml --share 1/2", "correlate array.yaml --share 2/2", "correlate array.yaml"],
        ]
    )
    assert "goes on in job" in logs(archive)


def _before_qsub(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Put a qsub before the other one, which does something first and then calls it as `$qsub`."""
    own = folder / "bin"
    own.mkdir()
    (own / "qsub").write_text("\n".join(["#!/bin/bash", f"qsub={shutil.which('qsub')}", *lines, ""]))
    (own / "qsub").chmod(0o755)
    monkeypatch.setenv("PATH", f"{own}:{os.environ['PATH']}")


def test_no_job_ends_before_another_one_depends_on_it(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server forgets a job as soon as it has ended, and then drops those that are to begin after it."""
    _before_qsub(tmp_path, monkeypatch, "sleep 2", 'exec "$qsub" "$@"')
    program = {"command": ["bash", "-c", 'echo "$1" >> calls', "bash"]}
    site = write_site(tmp_path, "pbs", environment=program)
    result = verb("submit", config, "--site", site, "--until", "correlate")
    assert result.returncode == 0, result.stderr
    archive = config.parent / "archive"
    wait_for(lambda: not queued(), logs(archive))
    assert (last_submission(archive).folder / "calls").read_text() == "ingest\ncorrelate\n"


def test_a_job_that_is_dropped_after_it_got_an_id_takes_the_line_with_it(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = 'id=$("$qsub" "$@") && echo "$id" && case "$*" in *STEP=correlate*) qdel "$id" ;; esac'
    _before_qsub(tmp_path, monkeypatch, dropped)
    result = verb("submit", config, "--site", write_site(tmp_path, "pbs"), "--until", "maps")
    assert result.returncode == 1
    assert re.fullmatch(
        r"ainerd-hpc: (\d+\.sandbox)(, \d+\.sandbox)?: expected in the queue, found that pbs dropped it; "
        r"jobs (\d+\.sandbox(, |(?=, sub))){3}, submitted before it, are cancelled\n",
        result.stderr,
    ), result.stderr
    wait_for(lambda: not queued(), "jobs are still there")


def test_a_queue_that_is_refused_is_named_with_its_key(config: Path) -> None:
    nodes = {"queue": "fast", "cores": 1, "memory": "4 GB", "walltime": "00:05:00"}
    result = verb("submit", config, "--site", write_site(config.parent, "pbs", nodes=nodes, array={"jobs": 2}))
    assert result.returncode == 1
    assert result.stderr == (
        "ainerd-hpc: ingest: qsub refused (exit 170): qsub: Unknown queue; the site file asks for nodes.cores 1, "
        "nodes.memory 4.0GB, nodes.queue fast, nodes.walltime 00:05:00, array.jobs 2; nothing is submitted\n"
    )
    assert last_submission(config.parent / "archive") is None


def test_cancel_and_refusal(config: Path) -> None:
    site = write_site(config.parent, "pbs", array={"jobs": 2}, single={"cores": 64, "memory": "4 GB"})
    refused = verb("submit", config, "--site", site)
    assert refused.returncode == 1
    assert re.fullmatch(
        r"ainerd-hpc: cluster: qsub refused \(exit 1\): qsub: .*; the site file asks for .*single\.cores 64.*; "
        r"jobs \d+\S*(, \d+\S*){7}, submitted before it, are cancelled\n",
        refused.stderr,
    )
    wait_for(lambda: not queued(), "jobs are still there")
    assert verb("submit", config, "--site", site, "--until", "train").returncode == 0
    result = verb("cancel", config)
    assert result.stdout.count(",") == 6, result.stdout + result.stderr
    wait_for(lambda: not queued(), "cancelled jobs are still there")
    assert states(config)["train"] == "cancelled 1 cancelled"


def test_the_front_refuses_what_openpbs_would(config: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "jobs", tmp_path / "jobs")
    for words in (["-l", "nodes=1:ppn=2"], ["-l", "select=1:ncpus=1", "-W", "depend=afterok:7"]):
        command = ["qsub", *words, "-j", "oe", "-o", "jobs/x", "jobs/array.pbs"]
        assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 2
