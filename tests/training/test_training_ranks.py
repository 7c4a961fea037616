"""Training in several processes of this machine: the same weights, the same ends, and what is refused."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import torch
from torch.distributed import TCPStore

from ainerd_hpc.archive.standing import read_standing
from ainerd_hpc.config import TrainConfig
from ainerd_hpc.errors import AinerdError
from ainerd_hpc.site.allocation import cores_here
from ainerd_hpc.training import SourceRecipe, fit
from ainerd_hpc.training.rank import Place, arrive, check_place, find_place
from tests.training.test_training import HERE, RECIPE, TRAIN, SimulatedMaps, bytes_of, reached, start_fit, undisturbed

__all__ = ["undisturbed"]


@pytest.fixture
def tests_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]))


def _fit_in_ranks(folder, recipe=RECIPE, **more):
    train = TRAIN.model_copy(update={"devices": 2})
    return fit(SimulatedMaps(), "ainerd2024", train, folder, "maps", recipe=recipe, **more)


def _assert_like(history, weights, undisturbed):
    for ours, theirs in zip(history, undisturbed.history, strict=True):
        for key in ("train_l1", "valid_l1", "learning_rate"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-4)
    for key, value in weights.items():  # Adam turns a rounding error of a tiny gradient into a step
        torch.testing.assert_close(value, undisturbed.weights[key], rtol=0, atol=2e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("tests_importable")
def test_two_ranks_train_like_one(undisturbed, tmp_path):
    """The last batch and the validation set have odd sizes: no map may count twice.

    Then once more, but both ranks get SIGTERM, at different steps of an epoch; from there on with two, and with one.
    """
    epochs = []
    result = _fit_in_ranks(tmp_path / "whole", progress=lambda *x: epochs.append(x[0]))
    assert epochs == [1, 2, 3]
    assert read_standing(tmp_path / "whole").epochs == 3
    _assert_like(result.history, result.weights, undisturbed)

    signalled = SourceRecipe(RECIPE.factory, {"die_at_read": 8, "die_by": signal.SIGTERM})
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        _fit_in_ranks(tmp_path / "parts", signalled)
    assert reached(tmp_path / "parts") == (0, 2)
    shutil.copytree(tmp_path / "parts", tmp_path / "alone")
    gone_on = _fit_in_ranks(tmp_path / "parts")
    assert bytes_of(gone_on.weights) == bytes_of(result.weights)
    alone = fit(SimulatedMaps(), "ainerd2024", TRAIN, tmp_path / "alone", "maps")
    _assert_like(alone.history, alone.weights, undisturbed)


@pytest.mark.slow
@pytest.mark.usefixtures("tests_importable")
def test_a_rank_that_fails_is_reported_in_one_line(tmp_path):
    recipe = SourceRecipe("test_training:no_such_function", {})
    train = TRAIN.model_copy(update={"devices": 2})
    with pytest.raises(AinerdError, match="no_such_function") as error:
        fit(SimulatedMaps(), "ainerd2024", train, tmp_path, "maps", recipe=recipe)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.usefixtures("tests_importable")
def test_a_launcher_that_fails_before_the_ranks_have_met_is_started_again(tmp_path):
    """Once it fails, then it starts both ranks; with a launcher that always fails it is tried three times."""
    pytest.importorskip("mpi4py")
    mpiexec = Path(sys.executable).parent / "mpiexec"
    once = f'echo x >> {tmp_path}/starts; [ -e {tmp_path}/failed ] && exec {mpiexec} -n 2 "$@"; touch {tmp_path}/failed'
    told = {"devices": 2, "launcher": "mpiexec", "epochs": 1}
    spread = ("bash", "-c", f'{once}; echo "no route to host" >&2; exit 1', "start")
    train = TRAIN.model_copy(update={**told, "spread": spread})
    result = fit(SimulatedMaps(), "ainerd2024", train, tmp_path / "whole", "maps", recipe=RECIPE)
    assert len(result.history) == 1
    assert (tmp_path / "starts").read_text().split() == ["x", "x"]
    assert (tmp_path / "whole" / "ranks.log").read_text().startswith("no route to host")

    never = ("bash", "-c", f'echo x >> {tmp_path}/never; echo "no route to host" >&2; exit 1', "start")
    train = TRAIN.model_copy(update={**told, "spread": never})
    with pytest.raises(AinerdError, match="no route to host; the same command goes on"):
        fit(SimulatedMaps(), "ainerd2024", train, tmp_path / "parts", "maps", recipe=RECIPE)
    assert (tmp_path / "never").read_text().split() == ["x", "x", "x"]


@pytest.mark.slow
@pytest.mark.usefixtures("tests_importable")
def test_the_ranks_end_with_the_process_that_started_them(tmp_path):
    process = start_fit(tmp_path, train=TRAIN.model_copy(update={"devices": 2, "epochs": 1000}))
    deadline = time.monotonic() + 120
    while not (tmp_path / "last.ckpt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    ranks = psutil.Process(process.pid).children(recursive=True)
    assert len(ranks) >= 3  # the launcher and two ranks
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(ranks, timeout=20)
    assert not alive


@pytest.mark.parametrize(
    ("place", "launcher", "expected"),
    [
        (Place(0, 1, 0), "mpiexec", "mpiexec: expected 4 ranks, found 1; train.spread has to start the ranks with the"),
        (Place(0, 1, 0), "srun", "srun: expected 4 ranks, found 1; train.spread has to start the ranks with srun"),
        (Place(5, 8, 1), "srun", "srun: expected 4 ranks, found 8"),
        (Place(2, 4, 2), "mpiexec", r"mpiexec: expected 2 ranks on a node, found number 2 \(from 0\) on "),
    ],
)
def test_a_wrong_number_of_ranks_is_refused(place, launcher, expected):
    train = TrainConfig(nodes=2, devices=2, launcher=launcher)
    check_place(Place(3, 4, 1), train)
    with pytest.raises(AinerdError, match=f"train: launcher {expected}"):
        check_place(place, train)


def test_srun_says_where_a_rank_is_and_a_batch_script_does_not(monkeypatch):
    train = TrainConfig(nodes=2, launcher="srun")
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_LOCALID", "0")
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    assert find_place(train) == Place(0, 1, 0)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    assert find_place(train) == Place(1, 2, 0)


def test_the_cores_of_a_job_count_even_where_nothing_binds_it_to_them():
    here = len(os.sched_getaffinity(0))
    assert cores_here({}) == here
    assert cores_here({"SLURM_CPUS_ON_NODE": "1"}) == cores_here({"NCPUS": "1"}) == 1
    assert cores_here({"SLURM_CPUS_ON_NODE": str(here + 1), "NCPUS": ""}) == here


def test_ranks_that_do_not_come_and_too_many_are_told():
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    with pytest.raises(AinerdError, match=r"expected 2 ranks to begin, found 1; correct train\.spread"):
        arrive(store, "ranks", 2, timedelta(milliseconds=50))
    arrive(store, "ranks", 2, timedelta(milliseconds=50))
    with pytest.raises(AinerdError, match="expected 2 ranks to begin, found 3"):
        arrive(store, "ranks", 2, timedelta(milliseconds=50))


def test_more_nodes_than_the_job_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n1")
    train = TRAIN.model_copy(update={"nodes": 2})
    with pytest.raises(AinerdError, match=r"train.nodes: expected 1 at most, as job 7 has, found 2"):
        fit(SimulatedMaps(), "ainerd2024", train, tmp_path, "maps", recipe=RECIPE)


@pytest.mark.slow
def test_an_mpi4py_without_an_mpi_harms_nobody_who_does_not_ask_for_it(tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(HERE.parent)!r})
from test_training import *
from ainerd_hpc.training.rank import find_place
fit(SimulatedMaps(), "ainerd2024", TRAIN.model_copy(update={{"epochs": 1}}), Path({str(tmp_path)!r}), "maps")
print("mpi4py" in sys.modules)
try:
    find_place(TrainConfig(nodes=2, launcher="mpiexec"))
except AinerdError as error:
    print(error)
"""
    environment = {**os.environ, "MPI4PY_LIBMPI": str(tmp_path / "no_such_library.so")}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    said = run.stdout.splitlines()
    assert said[0] == "False", run.stderr
    assert re.match("train: launcher mpiexec: expected mpi4py with an MPI, found .*; pip install", said[1]), run.stdout


def test_ranks_without_a_recipe_are_refused(tmp_path):
    with pytest.raises(AinerdError, match="2 ranks need a recipe"):
        fit(SimulatedMaps(), "ainerd2024", TRAIN.model_copy(update={"devices": 2}), tmp_path, "maps")
