"""Training in one process: the split, the augmentation, restarts, interruptions and memory."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.archive.standing import read_standing
from ainerd_hpc.config import TrainConfig
from ainerd_hpc.errors import AinerdError, ArchiveError
from ainerd_hpc.kernels.cells import cells
from ainerd_hpc.models.ainerd2024 import Ainerd2024
from ainerd_hpc.models.embedding import embed
from ainerd_hpc.models.registry import NETWORKS, network
from ainerd_hpc.models.weights import build
from ainerd_hpc.training import SourceRecipe, fit, trainee
from ainerd_hpc.training.data import epoch_order, generator, validation_scans
from ainerd_hpc.training.interruption import Interruption
from ainerd_hpc.training.trainee import learning_rate_factor

HERE = Path(__file__)
TRAIN = TrainConfig(epochs=3, batch_size=3, validation_share=0.4, seed=1)


class SimulatedMaps:
    """Maps with decays of random times, one to three a scan; can send its process a signal at the n-th read."""

    def __init__(self, num_maps=7, level=1.0, die_at_read=0, die_by=signal.SIGKILL):
        self.scan_ids = [f"scan{i * 3 // num_maps}" for i in range(num_maps)]
        self.level, self.die_at_read, self.die_by, self.num_reads = level, die_at_read, die_by, 0

    def __len__(self):
        return len(self.scan_ids)

    def __getitem__(self, index):
        self.num_reads += 1
        if self.num_reads == self.die_at_read:
            os.kill(os.getpid(), self.die_by)
        lag = np.abs(np.subtract.outer(np.arange(256), np.arange(256)))
        tau = np.random.default_rng(index).uniform(5, 200)
        return (self.level * np.exp(-lag / tau)).astype(np.float32)

    def column(self, name):
        return np.ones(len(self), np.float32)


class SimulatedCells(SimulatedMaps):
    """The cells of such decays, for a network that reads these."""

    def __getitem__(self, index):
        return cells(1 + super().__getitem__(index)).values


SOURCES = {"maps": SimulatedMaps, "cells": SimulatedCells}
"""By the array that a network reads."""
RECIPE = SourceRecipe("test_training:SimulatedMaps", {})
SCAN_IDS = st.lists(st.text(max_size=12), max_size=30)


def bytes_of(weights):
    return {key: value.numpy().tobytes() for key, value in weights.items()}


@given(SCAN_IDS, st.floats(0, 0.99), st.integers(0, 2**31))
def test_every_split_has_scans_on_both_sides(scan_ids, share, seed):
    held_out = validation_scans(scan_ids, share, seed)
    assert held_out <= set(scan_ids)
    if len(set(scan_ids)) >= 2:
        assert 0 < len(held_out) < len(set(scan_ids))
    else:
        assert not held_out


@given(SCAN_IDS, st.floats(0.05, 0.95), st.integers(0, 2**31), st.randoms())
def test_the_split_does_not_depend_on_order_or_repetition(scan_ids, share, seed, random):
    shuffled = scan_ids + scan_ids[:3]
    random.shuffle(shuffled)
    assert validation_scans(shuffled, share, seed) == validation_scans(scan_ids, share, seed)


@given(st.integers(0, 1000), st.sets(st.integers(0, 500), min_size=60), st.sets(st.integers(500, 900)))
def test_a_scan_s_side_does_not_depend_on_the_other_scans(seed, few, more):
    names = [f"s{i}" for i in few]
    alone = validation_scans(names, 0.4, seed)
    assert alone == validation_scans(names + [f"s{i}" for i in more], 0.4, seed) & set(names)


def test_the_split_takes_the_wanted_share_and_follows_the_seed():
    names = [f"s{i}" for i in range(4000)]
    first, second = validation_scans(names, 0.2, 0), validation_scans(names, 0.2, 1)
    assert abs(len(first) / 4000 - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 4000)
    assert first != second


def augment(image, seed, epoch, index):
    return Ainerd2024.augment(image, generator(seed, epoch, 1 + index))


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(0, 1000), st.integers(0, 10**6))
def test_augmentation_is_an_exact_roll_along_the_diagonal(seed, epoch, index):
    image = np.arange(256 * 256, dtype=np.float32).reshape(256, 256)
    rolled = augment(image, seed, epoch, index)
    shift = int(rolled[0, 0]) // 257
    shift = (256 - shift) % 256
    rows = (np.arange(256) - shift) % 256
    np.testing.assert_array_equal(rolled, image[rows][:, rows])
    np.testing.assert_array_equal(rolled, augment(image, seed, epoch, index))


def test_shifts_are_spread_over_all_256_and_change_with_epoch_map_and_seed():
    line = np.zeros((256, 256), np.float32)
    line[0, 0] = 1

    def shifts(seed, epoch):
        return [int(np.argmax(augment(line, seed, epoch, i).max(axis=0))) for i in range(2000)]

    counts = np.bincount(shifts(0, 0), minlength=256)
    assert abs(np.mean(shifts(0, 0)) - 127.5) < 4 * np.sqrt((256**2 - 1) / 12 / 2000)
    assert (counts > 0).mean() > 0.99
    for other in (shifts(0, 1), shifts(1, 0)):
        assert np.mean(np.array(shifts(0, 0)) == other) < 0.02


def test_each_epoch_takes_every_map_once_in_its_own_order():
    scans = np.repeat(np.arange(25), 4)
    orders = [epoch_order(0, epoch, scans, 1000) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(100))
    assert (orders[0] != orders[1]).any()
    np.testing.assert_array_equal(orders[2], epoch_order(0, 2, scans, 1000))


@settings(max_examples=50)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(1, 40), st.integers(0, 2**31))
def test_an_epoch_reads_each_scan_once_and_shuffles_across_many(sizes, together, seed):
    """At no moment more scans are open than those of one pool, which holds `together` maps and a scan more at most."""
    scans = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    order = epoch_order(seed, 1, scans, together)
    assert sorted(order) == list(range(len(scans)))
    taken = scans[order]
    first = {scan: int(np.argmax(taken == scan)) for scan in range(len(sizes))}
    last = {scan: len(taken) - 1 - int(np.argmax(taken[::-1] == scan)) for scan in range(len(sizes))}
    for scan, count in enumerate(sizes):
        assert last[scan] - first[scan] < together + max(sizes) + count


def test_a_pool_mixes_its_scans_as_chance_would():
    """Neighbours in the order are of one scan as seldom as in a permutation of the pool."""
    scans = np.repeat(np.arange(400), 10)
    taken = scans[epoch_order(3, 0, scans, 500)]
    assert np.mean(taken[1:] == taken[:-1]) == pytest.approx(9 / 499, abs=0.01)


def test_the_learning_rate_rises_and_falls_to_zero():
    factors = np.array([learning_rate_factor(step, 100) for step in range(101)])
    assert factors.argmax() == 20
    assert factors.max() == pytest.approx(1)
    assert (np.diff(factors[:20]) > 0).all()
    assert (np.diff(factors[20:]) < 0).all()
    assert factors[100] == pytest.approx(0)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return fit(SimulatedMaps(), "ainerd2024", TRAIN, tmp_path_factory.mktemp("fit"), "maps")


def test_the_result_belongs_to_the_best_epoch_and_to_unseen_scans(undisturbed):
    source = SimulatedMaps()
    model = build("ainerd2024")
    model.load_state_dict(undisturbed.weights)
    held_out = [i for i, scan_id in enumerate(source.scan_ids) if scan_id in undisturbed.validation_scans]
    assert 0 < len(held_out) < 7
    _, errors, _ = embed(model, np.stack([source[i] for i in held_out]))
    best = min(record["valid_l1"] for record in undisturbed.history)
    assert errors.mean() == pytest.approx(best, rel=1e-6)
    assert not undisturbed.validated_on_training
    assert [record["epoch"] for record in undisturbed.history] == [1, 2, 3]


def test_with_patience_it_ends_when_nothing_gets_better(tmp_path):
    """A learning rate far too high for so few maps; the longer training says where it had to end."""
    options = TRAIN.model_copy(update={"epochs": 12, "learning_rate": 0.02})
    whole = fit(SimulatedCells(), "lag_age", options, tmp_path / "whole", "maps")
    losses = [record["valid_l1"] for record in whole.history]
    in_vain = [epoch - int(np.argmin(losses[:epoch])) - 1 for epoch in range(1, 13)]
    last = in_vain.index(2) + 1
    assert last < 12
    calls = []
    patient = options.model_copy(update={"patience": 2})
    short = fit(SimulatedCells(), "lag_age", patient, tmp_path / "short", "maps", progress=lambda *x: calls.append(x))
    assert [record["valid_l1"] for record in short.history] == losses[:last]
    again = fit(SimulatedCells(), "lag_age", patient, tmp_path / "short", "maps", progress=lambda *x: calls.append(x))
    assert bytes_of(again.weights) == bytes_of(short.weights)
    assert len(calls) == last, "a training that is over is not gone on with"


def test_the_same_seed_gives_the_same_weights(undisturbed, tmp_path):
    calls = []
    again = fit(SimulatedMaps(), "ainerd2024", TRAIN, tmp_path, "maps", progress=lambda *x: calls.append(x))
    assert bytes_of(again.weights) == bytes_of(undisturbed.weights)
    assert calls == [(r["epoch"], 3, r["train_l1"], r["valid_l1"]) for r in undisturbed.history]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "standing.json"]


def test_it_tells_how_far_it_is(tmp_path, monkeypatch):
    """Stopped after its first step, and gone on with: of an epoch, the maps of this process."""
    monkeypatch.setattr(trainee, "_TELL_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        fit(SimulatedMaps(die_at_read=7, die_by=signal.SIGTERM), "ainerd2024", TRAIN, tmp_path, "maps")
    first, told = read_standing(tmp_path), []
    look = lambda *_: told.append(read_standing(tmp_path))  # noqa: E731
    history = fit(SimulatedMaps(), "ainerd2024", TRAIN, tmp_path, "maps", progress=look).history
    assert [standing[:4] for standing in (first, *told)] == [(1, 3, 1, 3), *((epoch, 3, 3, 3) for epoch in (1, 2, 3))]
    whole = (3 * first.train_l1 + 2 * told[0].train_l1) / 5  # 3 maps before the signal, 2 after it
    errors = [whole, *(standing.train_l1 for standing in told[1:])]
    assert errors == pytest.approx([record["train_l1"] for record in history], rel=1e-6)
    assert [standing.valid_l1 for standing in told] == [None, *(record["valid_l1"] for record in history[:-1])]
    assert [standing.seconds_left > 0 for standing in told] == [True, True, False]
    assert all(standing.maps_per_second > 0 for standing in (first, *told))


def test_a_cache_changes_the_reads_and_not_the_weights(undisturbed, tmp_path):
    source = SimulatedMaps()
    cached = fit(source, "ainerd2024", TRAIN, tmp_path, "maps", cache_bytes=7 * 256 * 256 * 4)
    assert source.num_reads == 7
    assert bytes_of(cached.weights) == bytes_of(undisturbed.weights)


def _stop_after(epoch):
    def progress(done, *_):
        if done == epoch:
            raise InterruptedError

    return progress


def test_an_interrupted_training_goes_on_and_ends_with_the_same_weights(undisturbed, tmp_path):
    for epoch in (1, 2):
        with pytest.raises(InterruptedError):
            fit(SimulatedMaps(), "ainerd2024", TRAIN, tmp_path, "maps", progress=_stop_after(epoch))
    epochs = []
    result = fit(SimulatedMaps(), "ainerd2024", TRAIN, tmp_path, "maps", progress=lambda *x: epochs.append(x[0]))
    assert epochs == [3]
    assert bytes_of(result.weights) == bytes_of(undisturbed.weights)
    source = SimulatedMaps()
    again = fit(source, "ainerd2024", TRAIN, tmp_path, "maps")
    assert source.num_reads == 0
    assert bytes_of(again.weights) == bytes_of(undisturbed.weights)


def reached(folder):
    found = torch.load(folder / "last.ckpt", weights_only=True)
    return len(found["history"]), found["step"]


def test_a_signal_stops_it_after_the_step_at_work(undisturbed, tmp_path):
    """Each start reads 5 maps; an epoch 3 and 2 to train, and 2 to validate: three steps."""
    handled = (signal.SIGTERM, signal.SIGINT)
    handlers = [signal.getsignal(number) for number in handled]
    for number, (read, place) in enumerate([(7, (0, 1)), (6, (0, 2)), (6, (1, 0)), (9, (1, 2)), (2, (2, 0))]):
        by = handled[number % 2]
        with pytest.raises(KeyboardInterrupt, match="stopped"):
            fit(SimulatedMaps(die_at_read=read, die_by=by), "ainerd2024", TRAIN, tmp_path, "maps")
        assert reached(tmp_path) == place
    assert handlers == [signal.getsignal(number) for number in handled]
    result = fit(SimulatedMaps(), "ainerd2024", TRAIN, tmp_path, "maps")
    assert bytes_of(result.weights) == bytes_of(undisturbed.weights)
    for ours, theirs in zip(result.history, undisturbed.history, strict=True):
        assert {key: ours[key] for key in ours if key != "seconds"} == {
            key: theirs[key] for key in theirs if key != "seconds"
        }


def test_signalled_in_its_last_step_it_still_stops_the_run(undisturbed, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(SimulatedMaps(die_at_read=26, die_by=signal.SIGTERM), "ainerd2024", TRAIN, tmp_path, "maps")
    source = SimulatedMaps()
    result = fit(source, "ainerd2024", TRAIN, tmp_path, "maps")
    assert source.num_reads == 0
    assert bytes_of(result.weights) == bytes_of(undisturbed.weights)


def test_a_signal_while_a_checkpoint_is_written_leaves_it_whole(tmp_path, monkeypatch):
    """The handler notes that it is asked, and no more: one checkpoint is never written in the middle of another."""
    sync = os.fsync

    def signalled(file):
        os.kill(os.getpid(), signal.SIGTERM)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["last.part", "standing.json"]
        sync(file)

    monkeypatch.setattr(trainee.os, "fsync", signalled)
    monkeypatch.setattr(trainee, "write_standing", lambda *_: (tmp_path / "standing.json").touch())
    with pytest.raises(KeyboardInterrupt):
        fit(SimulatedMaps(), "ainerd2024", TRAIN, tmp_path, "maps")
    assert reached(tmp_path) == (1, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "standing.json"]


def test_a_second_ctrl_c_does_not_wait():
    with Interruption(every=1.0) as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.is_asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
def test_killed_within_an_epoch_it_goes_on_from_the_last_checkpoint(undisturbed, tmp_path):
    train = TRAIN.model_copy(update={"checkpoint_every": 1e-6})
    assert start_fit(tmp_path, train, die_at_read=10).wait(timeout=120) == -signal.SIGKILL
    assert reached(tmp_path) == (0, 1)
    source = SimulatedMaps()
    result = fit(source, "ainerd2024", TRAIN, tmp_path, "maps")
    assert source.num_reads == 5 + 4 + 2 * 7
    assert bytes_of(result.weights) == bytes_of(undisturbed.weights)


def test_validation_is_done_in_float32_whatever_training_is_done_in(tmp_path):
    train = TRAIN.model_copy(update={"precision": "bf16-mixed", "epochs": 1})
    result = fit(SimulatedMaps(), "ainerd2024", train, tmp_path, "maps")
    model = build("ainerd2024")
    model.load_state_dict(result.weights)
    source = SimulatedMaps()
    held_out = [i for i, scan_id in enumerate(source.scan_ids) if scan_id in result.validation_scans]
    _, errors, _ = embed(model, np.stack([source[i] for i in held_out]))
    assert errors.mean() == pytest.approx(result.history[0]["valid_l1"], rel=1e-6)


@pytest.mark.parametrize("what", ["other maps", "other config", "junk"])
def test_a_checkpoint_of_another_training_is_not_continued(undisturbed, tmp_path, what):
    if what == "junk":
        (tmp_path / "last.ckpt").write_bytes(b"junk")
    else:
        train = TRAIN if what == "other maps" else TRAIN.model_copy(update={"learning_rate": 1e-2})
        digest = "others" if what == "other maps" else "maps"
        with pytest.raises(InterruptedError):
            fit(SimulatedMaps(), "ainerd2024", train, tmp_path, digest, progress=_stop_after(1))
    result = fit(SimulatedMaps(), "ainerd2024", TRAIN, tmp_path, "maps")
    assert bytes_of(result.weights) == bytes_of(undisturbed.weights)


def test_a_checkpoint_that_is_code_never_runs(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"ainerd_digest": Bomb()}, tmp_path / "last.ckpt")
    fit(SimulatedMaps(3), "ainerd2024", TRAIN.model_copy(update={"epochs": 1}), tmp_path, "maps")
    assert not (tmp_path / "ran").exists()


def test_one_scan_is_validated_on_itself_and_says_so(tmp_path):
    source = SimulatedMaps(2)
    source.scan_ids = ["only", "only"]
    result = fit(source, "ainerd2024", TRAIN.model_copy(update={"epochs": 1}), tmp_path, "maps")
    assert result.validated_on_training
    assert result.validation_scans == ()


@pytest.mark.parametrize("level", [0.02, 1.0])
def test_the_head_is_alive_from_the_start_even_with_dark_maps(tmp_path, level):
    train = TRAIN.model_copy(update={"learning_rate": 1e-12, "epochs": 1})
    result = fit(SimulatedMaps(level=level), "ainerd2024", train, tmp_path, "maps")
    model = build("ainerd2024")
    model.load_state_dict(result.weights)
    with torch.inference_mode():
        output = model.decode(model.encode(torch.from_numpy(SimulatedMaps(level=level)[0])[None, None]))
    assert (output > 0).float().mean() > 0.9


def test_maps_that_are_not_finite_are_named(tmp_path):
    source = SimulatedMaps(3, level=np.nan)
    with pytest.raises(ArchiveError, match="map 0 of scan scan0: expected 256 x 256 finite values, found 0 in"):
        fit(source, "ainerd2024", TRAIN.model_copy(update={"validation_share": 0.01}), tmp_path, "maps")


def test_no_maps_is_an_error(tmp_path):
    with pytest.raises(AinerdError, match="expected at least one map"):
        fit(SimulatedMaps(0), "ainerd2024", TRAIN, tmp_path, "maps")


def start_fit(folder, train=TRAIN, **death):
    """A process that trains with `train`'s devices in `folder`; `death` says when it kills itself."""
    arguments = {"folder": str(folder), "train": train.model_dump(mode="json")} | death
    return subprocess.Popen([sys.executable, str(HERE), json.dumps(arguments)])


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_weights(undisturbed, tmp_path):
    """In the first reads, within an epoch, in the validation, while or after a checkpoint is written; all in turn.

    Each start reads 5 maps, each epoch 5 to train and 2 to validate.
    """
    points = [{"die_at_read": 2}, {"die_at_read": 9}, {"die_in_checkpoint": True}, {"die_at_read": 12}]
    points += [{"die_after_epoch": 2}, {"die_at_read": 7}]
    (tmp_path / "last.part").write_bytes(b"half a checkpoint")
    for point in points:
        assert start_fit(tmp_path, **point).wait(timeout=120) == -signal.SIGKILL
    result = fit(SimulatedMaps(), "ainerd2024", TRAIN, tmp_path, "maps")
    assert bytes_of(result.weights) == bytes_of(undisturbed.weights)
    assert [record["epoch"] for record in result.history] == [1, 2, 3]


def _peak_code(call):
    return f"""
import sys, numpy as np; sys.path.insert(0, {str(HERE.parent)!r})
from test_training import *
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
before = peak()
{call}
print(peak() - before)
"""


def _measured_peak(call):
    run = subprocess.run([sys.executable, "-c", _peak_code(call)], capture_output=True, text=True, check=True)
    return int(run.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("variant", NETWORKS)
@pytest.mark.parametrize(("batch_size", "precision"), [(2, "32-true"), (12, "32-true"), (12, "bf16-mixed")])
def test_training_stays_below_its_estimate_of_memory(tmp_path, variant, batch_size, precision):
    train = TrainConfig(epochs=1, batch_size=batch_size, precision=precision)
    source = f"SOURCES[{network(variant).reads!r}]({2 * batch_size})"
    arguments = f"{source}, {variant!r}, TrainConfig(**{train.model_dump()!r})"
    call = f"fit({arguments}, Path({str(tmp_path)!r}), '')"
    estimate = network(variant).training_bytes(batch_size, precision)
    assert 0.3 * estimate < _measured_peak(call) < estimate


@pytest.mark.slow
@pytest.mark.parametrize("variant", NETWORKS)
def test_embedding_stays_below_its_estimate_of_memory(variant):
    columns = f"[np.ones(32, np.float32) for _ in {network(variant).columns}]"
    call = f"embed(build({variant!r}), np.zeros((32, *{network(variant).shape}), np.float32), {columns})"
    assert _measured_peak(call) < network(variant).embedding_bytes() + 32 * network(variant).row_bytes


def _die_in_checkpoint(partial, started):
    """Kill this process as soon as a checkpoint is being written."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            if partial.stat().st_mtime > started:
                os.kill(os.getpid(), signal.SIGKILL)


def _main(folder, train, die_at_read=0, die_after_epoch=0, die_in_checkpoint=False):
    def progress(epoch, *_):
        if epoch == die_after_epoch:
            os.kill(os.getpid(), signal.SIGKILL)

    if die_in_checkpoint:
        arguments = (Path(folder) / "last.part", time.time())
        threading.Thread(target=_die_in_checkpoint, args=arguments, daemon=True).start()
    source = SimulatedMaps(die_at_read=die_at_read)
    fit(source, "ainerd2024", TrainConfig(**train), Path(folder), "maps", progress=progress, recipe=RECIPE)


if __name__ == "__main__":
    _main(**json.loads(sys.argv[1]))
