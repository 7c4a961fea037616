"""Simulated scans against what they state: fits of g2, C2 against g1, photon statistics, bytes, memory.

Errors come from the data: pixels are independent, so eight groups of them (or leaving out one after the other) give the
standard error of any figure. Limits are 5 standard errors; a second assertion keeps these small.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tracemalloc
from functools import cache

import h5py
import hdf5plugin  # noqa: F401 - plain h5py reads bitshuffle with it
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from ainerd_hpc import simulate
from ainerd_hpc.config import SimulateConfig
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.formats.partitions.partition import read_partition
from ainerd_hpc.formats.registry import describe
from ainerd_hpc.simulate import KINDS, draw_dynamics, field_correlation, instrument, simulate_counts

CONFIG = SimulateConfig(num_scans=10, num_frames=192, height=100, width=120, num_q_bins=2, mean_counts=2.0)
TINY = SimulateConfig(num_scans=3, num_frames=40, height=32, width=40, num_q_bins=3)
GROUPS = 8
INDEX_OF = {draw_dynamics(CONFIG, index).kind: index for index in range(10)}


@cache
def truth() -> dict[tuple[str, int], dict]:
    """Rows of truth.csv by (kind, q_bin), numbers as numbers."""
    header, *rows = simulate.files.truth(CONFIG)
    table = [dict(zip(header, row, strict=True)) for row in rows]
    return {(row["kind"], row["q_bin"]): {**row, **json.loads(row["parameters"])} for row in table}


@cache
def ring(kind: str, q_bin: int) -> np.ndarray:
    """Counts (t, pixel) of one ring, float64, pixels in random order."""
    counts = simulate_counts(CONFIG, INDEX_OF[kind])
    inside = instrument(CONFIG).rings.partition.dynamic_roi_map == q_bin + 1
    return np.random.default_rng(0).permutation(counts[:, inside].astype(np.float64), axis=1)


def two_time(counts: np.ndarray) -> np.ndarray:
    """C2 = <I1 I2> / (<I1> <I2>), means over pixels."""
    mean = counts.mean(axis=1)
    return counts @ counts.T / counts.shape[1] / np.outer(mean, mean)


def stated_g1(row: dict, times: np.ndarray) -> np.ndarray:
    """g1 of a row of truth.csv by the formulas of the README, written out again."""
    first, second = np.meshgrid(times, times, indexing="ij")
    duration = row["duration"]

    def own_time(t):
        if row["kind"] == "ageing":
            return duration * np.log(1 + t / row["initial_age"]) / np.log(1 + duration / row["initial_age"])
        if row["kind"] == "rejuvenating":
            left = np.log(1 + (duration - t) / row["initial_age"]) / np.log(1 + duration / row["initial_age"])
            return duration * (1 - left)
        if row["kind"] == "avalanche":
            done = sum(share * (t >= jump) for jump, share in zip(row["jump_times"], row["jump_shares"], strict=True))
            return row["creep_share"] * t + (1 - row["creep_share"]) * duration * done
        if row["kind"] == "sudden_change":
            change, ratio, jump = row["change_time"], row["rate_ratio"], row["jump_share"]
            before = (1 - jump) * duration / (change + ratio * (duration - change))
            return np.where(t < change, before * t, before * (change + ratio * (t - change)) + jump * duration)
        return t

    g1 = np.exp(-((abs(own_time(first) - own_time(second)) / row["tau"]) ** row["kww_exponent"]))
    scale = row["q"] / row["q_reference"]
    if row["kind"] == "shear_echo":
        strain = [np.sin(2 * np.pi * (t / row["period"] + row["phase"])) for t in (first, second)]
        return g1 * np.exp(-((row["amplitude"] * scale * (strain[0] - strain[1])) ** 2) / 2)
    if row["kind"] == "flow_fringes":
        omega = 2 * np.pi / row["fringe_period"] * scale
        return row["static_share"] + (1 - row["static_share"]) * g1 * np.exp(1j * omega * (first - second))
    return g1


TIMES = np.arange(CONFIG.num_frames) * CONFIG.frame_time


def fit_kww(counts: np.ndarray, start: dict) -> np.ndarray:
    """contrast, tau, kww_exponent from g2(delay) = mean of C2 along its diagonals, delays up to half the scan."""
    c2 = two_time(counts)
    lags = np.arange(1, len(c2) // 2)
    g2 = np.array([np.diagonal(c2, lag).mean() for lag in lags])

    def model(delay, contrast, log_tau, exponent):
        return 1 + contrast * np.exp(-2 * (delay / np.exp(log_tau)) ** exponent)

    guess = [start["contrast"] * 0.8, np.log(start["tau"] * 1.3), start["kww_exponent"] * 1.1]
    found, _ = curve_fit(model, lags * CONFIG.frame_time, g2, guess, sigma=1 / np.sqrt(len(c2) - lags), maxfev=5000)
    return np.array([found[0], np.exp(found[1]), found[2]])


@pytest.mark.parametrize("q_bin", [0, 1])
@pytest.mark.parametrize("kind", ["brownian", "stretched", "compressed"])
def test_contrast_tau_and_exponent_are_recovered(kind, q_bin):
    counts, row = ring(kind, q_bin), truth()[kind, q_bin]
    found = fit_kww(counts, row)
    pixels = np.arange(counts.shape[1]) % GROUPS
    without = np.array([fit_kww(counts[:, pixels != group], row) for group in range(GROUPS)])
    error = without.std(axis=0) * np.sqrt(GROUPS - 1)  # jackknife
    stated = np.array([row["contrast"], row["tau"], row["kww_exponent"]])
    assert np.all(abs(found - stated) < 5 * error), (found, stated, error)
    if q_bin == 0:  # in the outer ring the stretched decay is half over within a frame: its errors are large
        assert np.all(error / stated < [0.06, 0.12, 0.12])


@pytest.mark.parametrize("q_bin", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_c2_is_the_siegert_relation_of_the_stated_g1(kind, q_bin):
    counts, row = ring(kind, q_bin), truth()[kind, q_bin]
    expected = 1 + row["contrast"] * abs(stated_g1(row, TIMES)) ** 2
    groups = np.array([two_time(counts[:, group::GROUPS]) for group in range(GROUPS)])
    error = groups.std(axis=0, ddof=1) / np.sqrt(GROUPS)
    off = ~np.eye(len(expected), dtype=bool)  # the raw diagonal holds shot noise
    residual = (two_time(counts) - expected)[off]
    noise = np.sqrt(np.mean(error[off] ** 2))
    assert noise < 0.03
    assert np.sqrt(np.mean(residual**2)) < 1.6 * noise
    assert abs(residual.mean()) < 5 * groups[:, off].mean(axis=1).std(ddof=1) / np.sqrt(GROUPS)
    signal = [np.diagonal(c2, 1).mean() - 1 for c2 in (expected, *groups)]
    assert signal[0] > 10 * np.std(signal[1:], ddof=1) / np.sqrt(GROUPS)


@pytest.mark.parametrize("kind", KINDS)
def test_field_correlation_is_the_stated_one(kind):
    for q_bin in (0, 1):
        row = truth()[kind, q_bin]
        g1 = field_correlation(draw_dynamics(CONFIG, INDEX_OF[kind]), row["q"], TIMES)
        np.testing.assert_allclose(abs(g1), abs(stated_g1(row, TIMES)), rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(
    index=st.integers(0, 9),
    seed=st.integers(0, 2**40),
    num_frames=st.integers(1, 60),
    scale=st.floats(0.1, 10.0),
)
def test_every_g1_is_a_correlation(index, seed, num_frames, scale):
    config = TINY.model_copy(update={"seed": seed, "num_frames": num_frames, "num_scans": 10})
    dynamics = draw_dynamics(config, index)
    g1 = field_correlation(dynamics, scale * dynamics.q_reference, np.arange(num_frames) * config.frame_time)
    np.testing.assert_allclose(g1, g1.conj().T, rtol=0, atol=1e-14)
    np.testing.assert_allclose(np.diag(g1), 1.0, rtol=0, atol=1e-14)
    assert np.linalg.eigvalsh(g1).min() > -1e-12 * num_frames
    root = simulate.speckle.square_root(g1)
    np.testing.assert_allclose(root @ root.conj().T, g1, rtol=0, atol=3e-5)


@settings(deadline=None, max_examples=40)
@given(index=st.integers(0, 9), seed=st.integers(0, 2**40))
def test_clocks_never_go_back_and_keep_the_mean_rate(index, seed):
    dynamics = draw_dynamics(TINY.model_copy(update={"seed": seed, "num_scans": 10}), index)
    clock = KINDS[dynamics.kind].clock(np.linspace(0, dynamics.duration, 500), dynamics)
    assert np.all(np.diff(clock) >= 0)
    assert clock[[0, -1]] == pytest.approx([0.0, dynamics.duration], abs=1e-12)


def test_shot_noise_is_poisson():
    """In a frozen scan two frames differ by shot noise only: <(n1 - n2)^2> = 2 <n>, plus what the beam's noise adds."""
    for q_bin in (0, 1):
        counts, row = ring("frozen", q_bin), truth()["frozen", q_bin]
        ratio = (np.diff(counts, axis=0) ** 2).mean(axis=0).mean() / (2 * counts.mean())
        beam = row["mean_counts"] * (1 + row["contrast"]) * row["beam_noise"] ** 2
        assert abs(ratio - 1 - beam) < 0.01  # three standard errors: sqrt((2 + 1 / mean) / pairs) = 0.3 %


@pytest.mark.parametrize("kind", ["brownian", "flow_fringes", "frozen"])
def test_photons_follow_the_intensity_of_the_stated_contrast(kind):
    """Factorial moments have no shot noise: <n (n - 1)> / <n>^2 = 1 + contrast; the third is gamma speckle's."""
    counts, row = ring(kind, 0), truth()[kind, 0]
    mean = counts.mean(axis=1, keepdims=True)
    second = (counts * (counts - 1) / mean**2).mean(axis=0)
    third = (counts * (counts - 1) * (counts - 2) / mean**3).mean(axis=0)
    contrast = row["contrast"]
    for moment, stated in ((second, 1 + contrast), (third, (1 + contrast) * (1 + 2 * contrast))):
        error = moment.std() / np.sqrt(moment.size)
        assert abs(moment.mean() - stated) < 5 * error
        assert error < 0.03 * stated


@pytest.mark.parametrize("modes", [1, 6])
def test_contrast_is_one_over_the_number_of_modes(modes):
    config = CONFIG.model_copy(update={"coherent_modes": modes, "num_frames": 16, "mean_counts": 20.0})
    counts = simulate_counts(config, 0)[:, instrument(config).rings.partition.dynamic_roi_map == 1].astype(float)
    moment = (counts * (counts - 1) / counts.mean(axis=1, keepdims=True) ** 2).mean(axis=0)
    assert abs(moment.mean() - 1 - 1 / modes) < 5 * moment.std() / np.sqrt(moment.size)


def test_mean_counts_are_the_stated_ones_and_fall_with_q():
    for kind in ("brownian", "sudden_change"):
        for q_bin in (0, 1):
            pixels = ring(kind, q_bin).mean(axis=0)
            stated = truth()[kind, q_bin]["mean_counts"]
            beam = 0.02 / np.sqrt(CONFIG.num_frames) * stated
            assert abs(pixels.mean() - stated) < 5 * np.hypot(pixels.std() / np.sqrt(pixels.size), beam)
    assert truth()["brownian", 0]["mean_counts"] == 2.0
    assert truth()["brownian", 1]["mean_counts"] < 2.0


def test_defects_are_masked_and_look_like_a_detectors():
    detector, counts = instrument(CONFIG), simulate_counts(CONFIG, 0)
    mask = detector.rings.partition.mask
    bad = detector.dead | detector.hot | detector.beam_stop
    np.testing.assert_array_equal(mask, ~bad)
    assert detector.dead.sum() > 5
    assert np.all(counts[:, detector.dead] == 65535)
    assert counts[:, detector.beam_stop & ~detector.dead & ~detector.hot].mean() == pytest.approx(0.01, rel=0.1)
    assert np.all(counts[:, detector.hot & ~detector.dead] > 1500)
    assert counts[:, mask].max() < 200


def test_kinds_take_turns_in_an_order_that_the_seed_gives():
    orders = []
    for seed in (1, 2):
        config = SimulateConfig(num_scans=50, seed=seed)
        kinds = [draw_dynamics(config, index).kind for index in range(50)]
        assert all(set(kinds[start : start + 10]) == set(KINDS) for start in range(0, 50, 10))
        orders.append(kinds)
    assert orders[0] != orders[1]
    assert orders[0][:10] != orders[0][10:20]
    assert len(KINDS) == 10


def test_dynamics_are_tied_to_the_sample():
    scans = [draw_dynamics(SimulateConfig(num_scans=400), index) for index in range(400)]
    brownian = [scan for scan in scans if scan.kind == "brownian"]
    slope, _ = np.polyfit([1 / (273.15 + s.temperature) for s in brownian], [np.log(s.tau) for s in brownian], 1)
    assert slope == pytest.approx(45e3 / 8.314, rel=0.1)  # 10 % scatter in tau, 40 scans
    assert min(s.stress for s in scans if s.kind in ("shear_echo", "flow_fringes", "avalanche")) >= 40
    assert max(s.stress for s in scans if s.kind in ("brownian", "stretched", "ageing", "frozen")) == 0
    taus = np.array([s.tau / s.duration for s in scans if s.kind != "frozen"])
    assert np.quantile(taus, 0.02) > 0.01
    assert np.quantile(taus, 0.98) / np.quantile(taus, 0.02) > 10**1.5


def test_tau_falls_with_q_by_the_law_of_its_kind():
    for kind, law in {"brownian": 2, "compressed": 1, "ageing": 1}.items():
        inner, outer = truth()[kind, 0], truth()[kind, 1]
        assert inner["tau"] / outer["tau"] == pytest.approx((outer["q"] / inner["q"]) ** law)


_WRITE = """
import sys
from pathlib import Path
from ainerd_hpc import simulate
from ainerd_hpc.config import SimulateConfig
config = SimulateConfig.model_validate_json(sys.argv[2])
for index in (1, 0):
    simulate.write_scan(Path(sys.argv[1]), config, index)
simulate.write_shared_files(Path(sys.argv[1]), config)
"""


def test_same_bytes_and_times_in_another_process_order_and_number_of_threads(tmp_path):
    config = CONFIG.model_copy(update={"num_scans": 2})
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _WRITE, str(tmp_path / "1"), config.model_dump_json()]
    subprocess.run(command, env=environment, check=True)
    simulate.write_shared_files(tmp_path / "2", config)
    for index in (0, 1):
        simulate.write_scan(tmp_path / "2", config, index)
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "2").iterdir())
    assert len(names) == 8
    for name in names:
        first, second = tmp_path / "1" / name, tmp_path / "2" / name
        assert first.read_bytes() == second.read_bytes(), name
        assert first.stat().st_mtime_ns == second.stat().st_mtime_ns, name


def test_files_of_a_scan(tmp_path):
    simulate.write_shared_files(tmp_path, TINY)
    raw = simulate.write_scan(tmp_path, TINY, 2)
    assert raw == tmp_path / "sim_0002.h5"
    with h5py.File(raw) as file:
        assert bool(file.attrs["simulated"])
        np.testing.assert_array_equal(file["entry/data/data"][()], simulate_counts(TINY, 2))
    with h5py.File(tmp_path / "sim_0002_metadata.hdf") as file:
        assert bool(file["entry/simulated"][()])
        assert file["entry/start_time"].asstr()[()] == "2024-01-15T08:02:00.000+00:00"
        assert file["entry/instrument/detector_1/frame_time"][()] == TINY.frame_time
        assert "kind" not in str(list(file["entry/sample"]))
    found = describe(raw)
    assert (found.num_frames, found.height, found.width, found.simulated) == (40, 32, 40, True)
    assert found.metadata.start_time == simulate.start_time(TINY, 2) == raw.stat().st_mtime
    partition = read_partition(tmp_path / "simulated_qmap.hdf")
    assert partition.digest == instrument(TINY).rings.partition.digest
    assert "SIMULATED" in (tmp_path / "README.txt").read_text()
    assert not list(tmp_path.glob(".*"))


def test_truth_and_sample_log(tmp_path):
    simulate.write_shared_files(tmp_path, TINY)
    with (tmp_path / "truth.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["scan_id"], row["q_bin"]) for row in rows] == [
        (s, str(q)) for s in simulate.scan_ids(TINY) for q in range(3)
    ]
    assert {row["simulated"] for row in rows} == {"True"}
    with (tmp_path / "sample_log.csv").open(newline="") as file:
        log = list(csv.DictReader(file))
    assert log[0]["time"] == "2024-01-15T07:59:40+00:00"
    at_start = {row["time"]: row for row in log}
    for index in range(3):
        dynamics = draw_dynamics(TINY, index)
        row = at_start[f"2024-01-15T08:0{index}:00+00:00"]
        assert float(row["temperature"]) == pytest.approx(dynamics.temperature, abs=0.3)
        assert float(row["stress"]) == pytest.approx(dynamics.stress, abs=1.2)


def test_long_scans_do_not_overlap_in_time():
    config = TINY.model_copy(update={"frame_time": 10.0})
    assert simulate.start_time(config, 1) - simulate.start_time(config, 0) >= 400.0


@pytest.mark.parametrize(
    "shape",
    [(256, 24, 24), (24, 256, 256), (128, 64, 160), (1, 40, 40), (64, 20, 400)],
)
def test_projected_memory_is_an_upper_bound(tmp_path, shape):
    config = TINY.model_copy(update=dict(zip(("num_frames", "height", "width"), shape, strict=True)))
    config = config.model_copy(update={"num_scans": 10})
    index = next(index for index in range(10) if draw_dynamics(config, index).kind == "flow_fringes")
    instrument.cache_clear()
    tracemalloc.start()
    simulate.write_scan(tmp_path, config, index)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < simulate.scan_bytes(config) < 3 * peak + 2**23


def test_detector_behind_its_beam_stop_is_refused():
    with pytest.raises(ConfigError, match="1 x 1 pixels"):
        instrument(SimulateConfig(height=1, width=1))
