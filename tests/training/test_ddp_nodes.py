"""Ranks on the nodes of real batch systems: two ranks on two nodes end with the very weights of two ranks on one.

As a program, one such training: a JSON object with its folder and what differs from `TRAIN`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml

from ainerd_hpc.config import TrainConfig
from ainerd_hpc.loading import load
from ainerd_hpc.pipeline import Run
from ainerd_hpc.training import SourceRecipe, fit
from tests.conftest import digests
from tests.support.batch_runs import pbs_sandbox, queued, wait_for, write_config
from tests.support.places import ROOT
from tests.support.slurm_sandbox import cluster
from tests.training.test_training import SimulatedMaps, bytes_of

HERE = Path(__file__)
TRAIN = {"epochs": 3, "batch_size": 3, "validation_share": 0.4, "seed": 1, "checkpoint_every": 1e-6}
"""A checkpoint after each step."""
ON_TWO_NODES = {"nodes": 2, "threads": 1}


class SlowMaps(SimulatedMaps):
    """Takes its time, so that a fault hits it at work."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def __getitem__(self, index: int) -> np.ndarray:
        time.sleep(self.seconds)
        return super().__getitem__(index)


def _main(folder: str, seconds: float = 0.0, **train: object) -> None:
    recipe = SourceRecipe("tests.training.test_ddp_nodes:SlowMaps", {"seconds": seconds})
    config = TrainConfig.model_validate(TRAIN | train)
    result = fit(recipe.build(), "ainerd2024", config, Path(folder), "maps", recipe=recipe)
    weights = b"".join(value for _, value in sorted(bytes_of(result.weights).items()))
    (Path(folder) / "weights").write_bytes(weights)


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        yield


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with cluster(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture(scope="module")
def on_one_node(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Weights of an undisturbed training."""
    folder = tmp_path_factory.mktemp("one_node")
    told = json.dumps({"folder": str(folder), "devices": 2, "threads": 2})
    subprocess.run([sys.executable, str(HERE), told], check=True)
    return (folder / "weights").read_bytes()


class Training:
    """One training in a folder, each attempt in a job of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.attempts = 0

    def begin(self, launcher: str, seconds: float = 0.0, **more: object) -> str:
        """Submit an attempt, and give the id of its job."""
        self.attempts += 1
        told = {"folder": str(self.folder), "seconds": seconds, "launcher": launcher, **ON_TWO_NODES, **more}
        script = f"#!/bin/bash\nexec {sys.executable} {HERE} '{json.dumps(told)}'\n"
        options = ["--nodes=2", "--ntasks-per-node=1", "--parsable", f"--output={self.output}"]
        result = subprocess.run(["sbatch", *options], input=script, capture_output=True, text=True, check=True)
        return result.stdout.strip()

    @property
    def output(self) -> Path:
        return self.folder / f"attempt{self.attempts}.log"

    def end(self, job: str, within: float = 150.0) -> str:
        """Wait for a job, and give the last line of what it said."""
        began = time.monotonic()
        wait_for(lambda: not queued("-j", job), "the job does not end")
        assert time.monotonic() - began < within
        assert not self.ranks()
        return (self.output.read_text().splitlines() or [""])[-1]

    def ranks(self) -> list[psutil.Process]:
        """Of all nodes, in the order of their start."""
        words = ["rank", str(self.folder / "job.json")]
        found = [one for one in psutil.process_iter(["cmdline", "create_time"]) if _has(one, words)]
        return sorted(found, key=lambda one: one.info["create_time"])

    def steps(self) -> float:
        """Epochs that are done, and steps of the next one as digits behind the point."""
        path = self.folder / "last.ckpt"
        if not path.exists():
            return 0.0
        found = torch.load(path, weights_only=True)
        return len(found["history"]) + found["step"] / 10

    def wait_for_a_step_after(self, steps: float) -> None:
        wait_for(lambda: self.steps() > steps, self.output.read_text() if self.output.exists() else "")


def _has(process: psutil.Process, words: list[str]) -> bool:
    command = process.info["cmdline"] or []
    return any(command[start : start + 2] == words for start in range(len(command)))


@pytest.mark.slurm
@pytest.mark.usefixtures("slurm")
def test_killed_ranks_and_a_killed_starter(on_one_node: bytes, tmp_path: Path) -> None:
    training = Training(tmp_path)
    job = training.begin("mpiexec", seconds=0.2)
    training.wait_for_a_step_after(0)
    training.ranks()[-1].kill()
    said = training.end(job, within=60)
    assert said.startswith("ainerd_hpc.errors.AinerdError: train: the ranks ended before the training did: ")
    reached = training.steps()

    job = training.begin("srun", seconds=0.2)
    training.wait_for_a_step_after(reached)
    subprocess.run(["scancel", "--batch", "--signal=KILL", job], check=True)
    training.end(job, within=60)
    assert reached < training.steps() < 3

    assert training.end(training.begin("mpiexec")) == ""
    assert (tmp_path / "weights").read_bytes() == on_one_node


@pytest.mark.slurm
@pytest.mark.usefixtures("slurm")
def test_ended_in_order_and_gone_on_with(on_one_node: bytes, tmp_path: Path) -> None:
    training = Training(tmp_path)
    job = training.begin("torchrun", seconds=0.2)
    training.wait_for_a_step_after(0)
    subprocess.run(["scancel", "--batch", "--signal=TERM", job], check=True)
    assert training.end(job, within=60).startswith("KeyboardInterrupt: stopped")
    assert 0 < training.steps() < 3
    assert training.end(training.begin("torchrun")) == ""
    assert (tmp_path / "weights").read_bytes() == on_one_node


@pytest.mark.slurm
@pytest.mark.usefixtures("slurm")
def test_ranks_that_each_think_they_are_alone_are_refused(tmp_path: Path) -> None:
    training = Training(tmp_path)
    wrong = ["srun", "--mpi=none", "--overlap", "--nodes={nodes}", "--ntasks={ranks}"]
    said = training.end(training.begin("mpiexec", spread=wrong))
    assert "train: launcher mpiexec: expected 2 ranks, found 1; train.spread has to start the ranks with the" in said
    assert training.steps() == 0


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory, simulated_source: Path) -> Path:
    """An archive in which nothing is left to do before training."""
    path = write_config(tmp_path_factory.mktemp("maps"), simulated_source)
    Run(load(path, ["executor.memory=3 GB"]), until="maps").execute()
    return path


def _copy(maps: Path, folder: Path, **train: object) -> Path:
    """Config of a copy of the archive, both in a folder."""
    data = yaml.safe_load(maps.read_text())
    data["archive"] = str(shutil.copytree(maps.parent / "archive", folder / "archive"))
    data["train"] = {"epochs": 2, "batch_size": 2, **train}
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture(scope="module")
def expected(maps: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the model of two ranks on one node."""
    path = _copy(maps, tmp_path_factory.mktemp("expected"), devices=2, threads=2)
    subprocess.run(["ainerd-hpc", "train", str(path)], stdout=subprocess.DEVNULL, check=True)
    return digests(path.parent / "archive" / "models")


@pytest.mark.slurm
@pytest.mark.usefixtures("slurm")
def test_the_script_for_slurm_goes_on_after_its_time_was_up(
    maps: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "jobs", tmp_path / "jobs")
    path = _copy(maps, tmp_path, launcher="srun", **ON_TWO_NODES, checkpoint_every=1e-6)
    archive = tmp_path / "archive"
    told = f"--export=ALL,AINERD_CONFIG={path}"
    options = [
        "--nodes=2",
        "--ntasks=2",
        "--cpus-per-task=1",
        "--mem=4G",
        "--time=60",
        "--output=log",
        "--parsable",
        told,
    ]
    command = ["sbatch", *options, "jobs/ddp.sbatch"]
    job = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    log = tmp_path / "log"
    wait_for(lambda: list(archive.glob("models/*/checkpoints/last.ckpt")), "no checkpoint")
    subprocess.run(["scancel", "--batch", "--signal=USR1", job], check=True)
    wait_for(lambda: not queued(), "the job does not end")
    text = log.read_text()
    assert [line.split()[4] for line in text.splitlines() if f"job {job}: exit" in line] == ["130,", "0,"], text
    assert "interrupted; the same command goes on" in text
    assert digests(archive / "models") == expected


@pytest.fixture
def pbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pbs_sandbox(tmp_path_factory):
        yield


@pytest.mark.pbs
@pytest.mark.usefixtures("pbs")
def test_the_script_for_pbs_trains_on_two_nodes(maps: Path, expected: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(ROOT / "jobs", tmp_path / "jobs")
    path = _copy(maps, tmp_path, launcher="mpiexec", **ON_TWO_NODES)
    site = f"AINERD_COMMAND=({sys.executable} -m ainerd_hpc.cli)\nAINERD_VARIABLES=(OMP_NUM_THREADS=1)\n"
    (tmp_path / "site.sh").write_text(site)
    asked = "select=2:ncpus=1:mem=4gb,walltime=00:05:00,place=scatter"
    command = ["qsub", "-l", asked, "-j", "oe", "-o", "log", "-v", f"AINERD_CONFIG={path}", "jobs/ddp.pbs"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    wait_for(lambda: not queued(), "the job does not end")
    of_ranks = (tmp_path / "archive").glob("models/*/checkpoints/ranks.log")
    said = "\n".join(path.read_text() for path in [tmp_path / "log", *of_ranks])
    assert digests(tmp_path / "archive" / "models") == expected, said


if __name__ == "__main__":
    _main(**json.loads(sys.argv[1]))
