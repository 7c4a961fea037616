"""Each benchmark, small: the simulated photons hold what they promise, and every side gives what it defines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  the bitshuffle/LZ4 filter
import numpy as np
import pytest

from ainerd_hpc.archive.tables import read_table
from ainerd_hpc.config import SourceConfig
from ainerd_hpc.loading import load
from ainerd_hpc.pipeline import Run
from ainerd_hpc.sources.discovery import discover
from ainerd_hpc.stages.registry import STAGES
from benchmarks import (
    archive_form,
    archive_scale,
    asking,
    correlation,
    decoding,
    floor,
    photons,
    predictions,
    reference,
    scaling,
    sides,
    throughput,
)
from benchmarks.photons import Photons

SMALL = Photons(96, 64, 64, num_q_bins=3, num_static_per_q=2, mean_counts=1.0)
FLICKER = Photons(600, 96, 96, num_q_bins=2, mean_counts=0.5, fall=4.0, contrast=0.5, tau_renewal=5.0)


@pytest.fixture(autouse=True)
def bench(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One folder of simulated data for all tests here."""
    folder = tmp_path_factory.getbasetemp() / "bench"
    monkeypatch.setattr(sides, "BENCH", folder)
    return folder


def labels_of(content: Photons) -> np.ndarray:
    return photons.rings(content).partition.dynamic_roi_map


def test_photons_have_the_stated_means_and_c2() -> None:
    frames, labels = photons.dense(FLICKER), labels_of(FLICKER)
    assert frames[:, labels > 0].mean() == pytest.approx(FLICKER.mean_counts, rel=0.01)
    assert not frames[:, labels == 0].any()
    lag = np.array([1, 2, 5, 10, 40])
    means = [frames[:, labels == ring].mean() for ring in (1, 2)]
    assert means[0] / means[1] == pytest.approx(FLICKER.fall, rel=0.02)
    for ring in (1, 2):
        c2 = reference.c2_plain(frames[:, labels == ring].astype(float), labels)
        found = np.array([np.diagonal(c2, k).mean() for k in lag])
        np.testing.assert_allclose(found, FLICKER.c2(lag), atol=0.01)


def test_counts_are_poisson_for_few_and_for_many_photons() -> None:
    """Without beam noise and almost without contrast the variance of counts is their mean."""
    for mean in (0.05, 3.0):
        still = replace(FLICKER, mean_counts=mean, fall=1.0, contrast=1e-4, beam_noise=0.0)
        counts = photons.dense(still)[:, labels_of(still) > 0]
        assert counts.var() / counts.mean() == pytest.approx(1, abs=0.01)


def test_photons_are_the_same_in_every_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    frames = photons.dense(SMALL)
    pointer, frame = photons.events(SMALL)
    for pixel in np.flatnonzero(labels_of(SMALL))[:50]:
        times = frame[pointer[pixel] : pointer[pixel + 1]]
        assert np.all(np.diff(times) >= 0)
        y, x = divmod(int(pixel), SMALL.width)
        np.testing.assert_array_equal(np.bincount(times, minlength=SMALL.num_frames), frames[:, y, x])
    monkeypatch.setattr(photons, "_THREADS", 1)
    for name, largest in (("dense", 2**31), ("events", 0)):
        monkeypatch.setattr(photons, "_LARGEST_DENSE", largest)
        with h5py.File(photons.write(tmp_path / name, SMALL), "r") as file:
            data = file["entry/data/data"]
            assert data.chunks == (1, 64, 64)
            np.testing.assert_array_equal(data[()], frames)


def test_the_scan_is_found_as_simulated_frames(tmp_path: Path) -> None:
    photons.write(tmp_path / "scan", SMALL)
    (scan,) = discover(SourceConfig(path=tmp_path / "scan")).scans
    assert scan.simulated
    assert (scan.num_frames, scan.num_q_bins, scan.num_pixels) == (96, 3, (labels_of(SMALL) > 0).sum())


def test_definitions_give_1_for_light_without_fluctuations() -> None:
    counts, static = np.full((40, 12), 3.0), np.repeat([1, 2], 6)
    for name in ("c2_plain", "c2_sqmap", "g2_static", "g2_dynamic", "g2_every_lag"):
        np.testing.assert_allclose(getattr(reference, name)(counts, static), 1, rtol=1e-12)


def test_our_results_are_what_they_are_defined_as() -> None:
    (outcome,) = correlation.compare([sides.OURS], SMALL, repeats=1)
    assert set(outcome.best["deviation"]) == {"c2", "g2"}
    assert "| 1.0 | ainerd_hpc |" in correlation.table([outcome])
    assert "SIMULATED" in correlation.about(SMALL, floor.Floor(1, 1e11, 1e10, 1e9, 5e9), outcome)


@pytest.mark.slow
@pytest.mark.skipif(not sides.has_peers(), reason="the peers are not installed; make bench-setup")
@pytest.mark.parametrize(
    "side", [*sides.PEERS, sides.scikit_beam_c2(24)], ids=lambda side: f"{side.name} {side.computes}"
)
def test_peers_results_are_what_they_are_defined_as(side: sides.Side) -> None:
    (outcome,) = correlation.compare([side], SMALL, repeats=1)
    assert outcome.seconds > 0


@pytest.mark.parametrize("deviation", [2e-6, float("nan")])
def test_a_wrong_result_ends_the_benchmark(deviation: float) -> None:
    with pytest.raises(ValueError, match="c2 is off by"):
        correlation.check(sides.OURS, {"deviation": {"c2": deviation}})


def test_scaling_measures_and_fits() -> None:
    scans = {T: replace(SMALL, num_frames=T) for T in (32, 64)}
    points = scaling.series(scans, repeats=1)
    assert all(0 < correlating < whole for whole, correlating in points.values())
    assert "| exponent, all |" in scaling.table("frames", points)
    square = {float(T): (1e-6 * T**2, 1e-3 * T) for T in (250, 500, 1000)}
    assert [scaling.exponent(square, column, last) for column in (0, 1) for last in (0, 2)] == pytest.approx(
        [2, 2, 1, 1]
    )


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
def test_decoders_give_the_same_frames(dtype: str, tmp_path: Path) -> None:
    ours, theirs, filtered = decoding.rates(tmp_path / "frames.h5", 2, dtype, 0.3, None)
    assert min(ours, filtered) > 0
    assert theirs == 0


def test_floor_measures_something() -> None:
    measured = floor.measure(1, SMALL)
    assert min(measured.products, measured.copied, measured.pairs, measured.decoded) > 1e6
    assert "| pair of photons, ns |" in floor.table([measured])
    assert min(floor.c2_seconds(measured, SMALL)) > 0


def test_throughput_prints_each_way(capsys):
    throughput.main(["--scans", "6", "--frames", "32"])
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert rows == ["way", "bare", "1 Dask workers", "2 Dask workers"]


def test_asking_measures_each_question(capsys):
    asking.main(["--maps", "600", "--q-bins", "3"])
    rows = [line.rpartition(": ") for line in capsys.readouterr().out.splitlines()]
    assert [row[0].partition(":")[0] for row in rows] == ["similar"] * 3 + ["relate"]
    assert all(0 <= float(row[2].split()[0]) < 60 for row in rows)


def test_forms_of_the_archive_are_compared(capsys, monkeypatch):
    monkeypatch.setattr(archive_form, "MEANS", (0.01,))
    archive_form.main(["--frames", "100"])
    rows = [line.split("|")[1:5] for line in capsys.readouterr().out.splitlines() if line.startswith("| 0.01 ")]
    share = {form.strip(): float(share) for _, form, _, share in rows}
    assert share["raw, h5py"] == 1
    assert share["events by pixel"] < share["frames, chunks of 16"] < 1


def test_predictions_are_set_against_what_was_measured(capsys):
    predictions.main(["--sizes", "tiny"])
    rows = [line.split("|")[2:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| tiny ")]
    assert [row[0].strip() for row in rows] == list(STAGES)
    for stage, num_tasks, predicted, seconds, ratio, cpu, of_cpu in rows:
        assert int(num_tasks) in (1, 6), stage
        assert float(ratio) == pytest.approx(float(seconds) / float(predicted), rel=0.1, abs=0.1), stage
        assert 0.05 < float(of_cpu) < 20, f"{stage}: {cpu} CPU seconds"


def test_a_faked_archive_has_nothing_left_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load(archive_scale.make(tmp_path, 3))
    run = Run(config)
    run.execute()
    assert [(report.num_done, report.num_kept) for report in run.reports] == [(0, 3)] * 3 + [(0, 1)] * 4
    index = read_table(config.archive / "maps" / "index.parquet")
    assert archive_scale._finish(config) >= 0
    after = read_table(config.archive / "maps" / "index.parquet")
    assert after["scan_id"].tolist() == index["scan_id"].tolist()
    assert after["tau"].iloc[0] == 1.0
    assert after["tau"].iloc[1:].equals(index["tau"].iloc[1:])
    cost = archive_scale.Cost(2.0, 10**9)
    archive_scale.print_table([10, 1000], [{"plan": cost}, {"plan": cost._replace(seconds=20.0)}])
    assert "| plan | 2.0 | 1.00 | 20.0 | 1.00 | 0.50 | 0.00 |" in capsys.readouterr().out
