"""The options of correlation against a plain truth: which frames, which normalisation, what is read off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.map_reader import MapReader
from ainerd_hpc.archive.tables import read_table
from ainerd_hpc.correlation.counts import pixels as pixels_module
from ainerd_hpc.errors import PlanError, QuarantinedError
from ainerd_hpc.kernels.fitting import kww
from ainerd_hpc.pipeline import Run
from ainerd_hpc.stages import ingest as ingest_stage
from tests.support.correlation_truth import (
    FRAME_TIME,
    GEOMETRY,
    SHAPE,
    START,
    assert_same,
    assert_true,
    configure,
    correlated,
    only_problem,
    photons,
    read_arrays,
    truth,
    write_source,
)

FORMS = [("none", "dense"), ("events", "events")]
"""ingest.form, correlate.form: frames all the way, and events all the way"""


def products(frames: np.ndarray, folder: Path, **options: Any) -> Any:
    """The partition, and the product of each form."""
    partition = write_source(folder / "source", frames)
    for ingest, form in FORMS:
        sections = {"ingest": {"form": ingest}, "correlate": {"form": form, **options}}
        yield partition, correlated(folder / "source", folder / ingest, **sections)


SELECTIONS = [
    {"begin_frame": 7, "end_frame": -5},
    {"begin_frame": -41},
    {"end_frame": 50, "begin_frame": -90},
    {"stride_frames": 3},
    {"average_frames": 4},
    {"begin_frame": 5, "end_frame": 90, "stride_frames": 2, "average_frames": 3},
    {"end_frame": 1000, "begin_frame": 2},
]


@pytest.mark.parametrize("options", SELECTIONS, ids=str)
def test_frames_are_selected_like_a_slice_and_added_up(options: dict[str, int], tmp_path: Path) -> None:
    frames = photons(100).astype(np.float64)
    begin, end = options.get("begin_frame", 0), options.get("end_frame")
    stride, average = options.get("stride_frames", 1), options.get("average_frames", 1)
    used = frames[begin:end]
    num = len(used) // (stride * average)
    summed = used[: num * stride * average].reshape(num, average, stride, *SHAPE)[:, :, 0].sum(axis=1)
    for partition, found in products(frames.astype(np.uint8), tmp_path, **options):
        assert_true(found, truth(summed, partition, average=average))
        period = FRAME_TIME * stride * average
        np.testing.assert_allclose(found["delay"], found["lag"] * period)
        np.testing.assert_allclose(found["delay_c2"], np.arange(1, num) * period)
        np.testing.assert_allclose(found["delay_window"], np.arange(1, num // 5) * period)


def test_sums_of_frames_may_be_larger_than_their_type(tmp_path: Path) -> None:
    frames = photons(160)
    frames[:, 17:19, 20] = 65000
    frames[100:, 17:19, 20] = 0
    for partition, found in products(frames, tmp_path, average_frames=8):
        summed = frames.reshape(20, 8, *SHAPE).sum(axis=1, dtype=np.float64)
        assert_true(found, truth(summed, partition, average=8))


def test_maps_know_the_times_of_the_selection(tmp_path: Path) -> None:
    write_source(tmp_path / "source", photons(200))
    options = {"begin_frame": 10, "stride_frames": 2, "average_frames": 2}
    config = configure(tmp_path / "source", tmp_path / "archive", correlate=options, maps={"windows": ["full", 16]})
    Run(config, until="maps").execute()
    index = read_table(tmp_path / "archive" / "maps" / "index.parquet")
    ages = list(zip(index["age_start"], index["age_stop"], strict=True))
    assert ages == 3 * [(0, 47), (0, 16), (16, 32)]
    middle, length = (index["age_start"] + index["age_stop"]) / 2, index["age_stop"] - index["age_start"]
    np.testing.assert_allclose(index["time"], START + (10 + 4 * middle) * FRAME_TIME, rtol=0, atol=1e-5)
    np.testing.assert_allclose(index["seconds_per_pixel"], length * 4 * FRAME_TIME / 256)
    np.testing.assert_allclose(index["frame_time"], 4 * FRAME_TIME)


@pytest.mark.parametrize("normalisation", ["plain", "static"])
def test_bad_and_dark_frames_are_left_out_exactly(normalisation: str, tmp_path: Path) -> None:
    frames = photons(100) + np.random.default_rng(2).poisson(0.2, (100, *SHAPE)).astype(np.uint16)
    frames[[30, 31, 77]] = 0  # a shutter
    frames[12] *= 5  # a glitch
    bad = [12, 30, 31, 50, 77]
    for partition, found in products(frames, tmp_path, bad_frames=[12, 50, 5000], normalisation=normalisation):
        assert_true(found, truth(frames.astype(float), partition, bad=bad, static=normalisation == "static"))
        assert np.flatnonzero(np.isnan(found["c2"][1]).all(axis=1)).tolist() == bad


def test_a_closed_shutter_is_closed_for_sparse_q_bins_too(tmp_path: Path) -> None:
    """Six photons a frame alone do not tell it from chance; those of the other q-bins do."""
    frames = photons(100) + np.random.default_rng(0).poisson(0.004, (100, *SHAPE)).astype(np.uint16)
    frames[30:50] = 0
    for partition, found in products(frames, tmp_path):
        np.testing.assert_allclose(found["g2"], truth(frames, partition, bad=range(30, 50))["g2"], rtol=1e-6)


def test_bad_frames_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    frames = photons(100).astype(np.float64)
    summed = frames[10:100].reshape(15, 2, 3, *SHAPE)[:, :, 0].sum(axis=1)
    options = {"begin_frame": 10, "stride_frames": 3, "average_frames": 2, "bad_frames": [4, 11, 13, 21, 28]}
    for partition, found in products(frames.astype(np.uint16), tmp_path, **options):
        # 13 is the second of the first pair, 28 the first of the fourth; 11 and 21 are not used.
        assert_true(found, truth(summed, partition, bad=[0, 3], average=2))


def test_frames_that_are_empty_by_chance_are_not_bad(tmp_path: Path) -> None:
    frames = np.random.default_rng(3).poisson(0.004, (200, *SHAPE)).astype(np.uint16)
    empty = 0
    for partition, found in products(frames, tmp_path):
        assert not found["is_bad_frame"].any()
        assert_true(found, truth(frames.astype(float), partition))
        empty += np.isnan(np.diagonal(found["c2"], axis1=1, axis2=2)).sum()
    assert empty > 20


@pytest.mark.parametrize(
    ("options", "meaning"),
    [
        ({"normalisation": "static"}, {"static": True}),
        ({"lag_scheme": "scikit-beam"}, {"scheme": "scikit-beam"}),
        ({"delays_per_level": 3, "lag_scheme": "scikit-beam"}, {"scheme": "scikit-beam", "per_level": 3}),
        ({"delays_per_level": 2}, {"per_level": 2}),
        ({"delays_per_level": 100}, {"per_level": 100}),
        ({"static_weighting": "pixels"}, {"weighting": "pixels"}),
        ({"g2_rule": "ratio"}, {"rule": "ratio"}),
        ({"g2_rule": "ratio", "normalisation": "static"}, {"rule": "ratio", "static": True}),
        ({"age_windows": 3}, {"age_windows": 3}),
        ({"age_windows": 70}, {"age_windows": 70}),
    ],
    ids=str,
)
def test_options_mean_what_they_say(options: dict[str, Any], meaning: dict[str, Any], tmp_path: Path) -> None:
    frames = photons(90)
    frames[:, 20:] //= 2
    for partition, found in products(frames, tmp_path, **options):
        expected = truth(frames.astype(float), partition, **meaning)
        assert_true(found, expected)
        assert len(found["lag"]) == expected["g2"].shape[1]


def test_frames_are_divided_by_their_mean_before_g2_alone(tmp_path: Path) -> None:
    beam = np.random.default_rng(5).uniform(0.3, 1, 80)
    frames = np.random.default_rng(6).poisson((photons(80) + 0.2) * beam[:, None, None]).astype(np.uint16)
    frames[40] = 0
    for partition, found in products(frames, tmp_path, frame_normalisation=True):
        total = frames[:, partition.dynamic_roi_map > 0].sum(axis=1).astype(float)
        with np.errstate(divide="ignore"):
            scale = np.where(total > 0, total.mean() / total, 0)
        assert_true(found, truth(frames.astype(float), partition, frame_scale=scale, bad=[40]))


@pytest.mark.parametrize("num_frames", [2, 3, 9, 10, 17])
def test_scans_of_few_frames(num_frames: int, tmp_path: Path) -> None:
    frames = photons(40)[20 : 20 + num_frames]
    for partition, found in products(frames, tmp_path):
        assert_true(found, truth(frames.astype(float), partition))
        assert found["tau"].shape == (3,)
        assert found["tau_window"].shape == (3, min(5, num_frames))


def test_one_pixel_in_a_q_bin_and_one_q_bin(tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[16, [11, 25, 40]] = True
    frames = photons(60) + np.uint16(1)
    for num_q_bins in (3, 1):
        partition = write_source(tmp_path / f"{num_q_bins}", frames, mask=mask, num_q_bins=num_q_bins, num_static=1)
        expected = truth(frames.astype(float), partition)
        for ingest, form in FORMS:
            sections = {"ingest": {"form": ingest}, "correlate": {"form": form}}
            found = correlated(tmp_path / f"{num_q_bins}", tmp_path / f"{num_q_bins} {ingest}", **sections)
            assert_true(found, expected)
            assert found["num_pixels"].tolist() == num_q_bins * [3 // num_q_bins]
            if num_q_bins == 3:
                assert (found["c2"] == 1).all()
                assert np.isnan(found["g2_err"]).all()


@pytest.mark.parametrize("options", [{"begin_frame": 30}, {"end_frame": -30}, {"average_frames": 16}], ids=str)
def test_a_scan_too_short_for_the_selection_is_quarantined_alone(options: dict[str, int], tmp_path: Path) -> None:
    write_source(tmp_path / "source", photons(60), scan_id="long")
    write_source(tmp_path / "source", photons(30), scan_id="short")
    with pytest.raises(QuarantinedError):
        correlated(tmp_path / "source", tmp_path / "archive", correlate=options)
    problem = only_problem(tmp_path / "archive")
    assert (problem["scan_id"], problem["stage"]) == ("short", "correlate")
    assert "expected two frames or more" in problem["reason"]
    assert "\n" not in problem["reason"]
    assert read_arrays(tmp_path / "archive", "long")["c2"].shape[1] >= 2


def test_maps_of_windows_are_those_of_a_full_c2(tmp_path: Path) -> None:
    """Without `full` only tiles along the diagonal are made; inside them nothing is different."""
    write_source(tmp_path / "source", photons(700) + np.uint16(1))
    windows = [100, 64]
    maps = {"windows": windows, "overlap": 0.3}
    both = {"windows": ["full", *windows], "overlap": 0.3}
    for name, section in (("band", maps), ("full", both)):
        config = configure(tmp_path / "source", tmp_path / name, maps=section, ingest={"form": "none"})
        Run(config, until="maps").execute()
    band, full = (read_arrays(tmp_path / name)["c2"] for name in ("band", "full"))
    made = np.isfinite(band[0])
    assert 0.3 < made.mean() < 0.85
    np.testing.assert_array_equal(made, np.isfinite(band[2]))
    np.testing.assert_array_equal(made, made.T)
    np.testing.assert_array_equal(band[:, made], full[:, made])
    index = {name: read_table(tmp_path / name / "maps" / "index.parquet") for name in ("band", "full")}
    same = index["full"][index["full"]["age_stop"] - index["full"]["age_start"] < 700].reset_index(drop=True)
    assert same.drop(columns="row").equals(index["band"].drop(columns="row"))
    readers = [MapReader(Archive(tmp_path / name), rows) for name, rows in (("band", index["band"]), ("full", same))]
    assert len(readers[0]) == 3 * ((700 - 100) // 70 + 1 + (700 - 64) // 45 + 1)
    for one, other in zip(*readers, strict=True):
        np.testing.assert_array_equal(one, other)
    for start, stop in zip(index["band"]["age_start"], index["band"]["age_stop"], strict=True):
        assert made[start:stop, start:stop].all()


def speckle(num_frames: int, tau: np.ndarray, mean: float) -> np.ndarray:
    """Simulated photons (t, y, x) of two modes of Gaussian fields with g1 = exp(-t / tau), tau (y, x) in frames."""
    rng = np.random.default_rng(11)
    decay, shape = np.exp(-1 / tau), (2, *tau.shape)
    field, frames = rng.normal(size=(2, *shape)), np.empty((num_frames, *tau.shape))
    for frame in frames:
        frame[...] = mean * (field**2).sum(axis=(0, 1)) / 4
        field = decay * field + np.sqrt(1 - decay**2) * rng.normal(size=(2, *shape))
    return rng.poisson(frames).astype(np.uint16)


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The product of a scan with tau = 0.08 s (q / q_max)^-1.5, and these tau."""
    folder = tmp_path_factory.mktemp("diffusion")
    q = GEOMETRY.q_map(*SHAPE)
    mask = q > 0.3 * q.max()
    frames = speckle(600, 8 * (q / q.max()) ** -1.5, mean=1.0)
    partition = write_source(folder / "source", frames, mask=mask, num_q_bins=5, num_static=1)
    found = correlated(folder / "source", folder / "archive", maps={"windows": [64]})
    return found, 0.08 * (partition.dynamic_q_list / q.max()) ** -1.5


def test_fits_find_the_dynamics(diffusion: tuple[dict[str, np.ndarray], np.ndarray]) -> None:
    found, tau = diffusion
    assert (abs(found["tau"] - tau) < 4 * found["tau_err"] + 0.03 * tau).all()
    assert (found["tau_err"] < 0.1 * tau).all()
    np.testing.assert_allclose(found["contrast"], 0.5, atol=0.05)
    np.testing.assert_allclose(found["kww_exponent"], 1, atol=0.12)
    assert (found["reduced_chi2"] < 5).all()
    prefactor, exponent, _, exponent_err = found["power_law"][:4]
    assert exponent == pytest.approx(1.5, abs=max(0.1, 4 * exponent_err))
    q = found["dynamic_q_list"]
    np.testing.assert_allclose(prefactor * q**-exponent, tau, rtol=0.12)
    assert exponent_err < 0.1


def test_fits_are_those_of_the_stored_g2(diffusion: tuple[dict[str, np.ndarray], np.ndarray]) -> None:
    found, _ = diffusion
    delay, lag = found["delay"], np.arange(1, found["g2_window"].shape[2] + 1)
    for q_bin in range(5):
        g2, g2_err = (found[name][q_bin].astype(float) for name in ("g2", "g2_err"))
        used = g2_err > 0  # of one pair of frames the g2 of every pixel is 1, which says nothing
        one = kww.fit(delay[used], g2[used], g2_err[used])
        assert found["tau"][q_bin] == pytest.approx(one.tau, abs=0.3 * one.tau_err)
        assert found["tau_err"][q_bin] == pytest.approx(one.tau_err, rel=0.3)
        for window in range(5):
            g2, g2_err = (found[name][q_bin, window].astype(float) for name in ("g2_window", "g2_window_err"))
            binned, g2, g2_err = kww.log_bin(lag, g2, g2_err)
            one = kww.fit(binned * FRAME_TIME, g2, g2_err)
            for name in ("tau", "contrast", "kww_exponent", "baseline", "tau_err", "reduced_chi2"):
                expected = getattr(one, name)
                assert found[f"{name}_window"][q_bin, window] == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_a_new_q_map_needs_no_second_ingest_and_reads_its_own_pixels_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_stage, "_EVENTS_PER_CHUNK", 64)
    monkeypatch.setattr(ingest_stage, "_CHUNKS_PER_SHARD", 4)
    frames = photons(100)
    write_source(tmp_path / "source", frames)
    correlated(tmp_path / "source", tmp_path / "archive", ingest={"form": "events"})
    product = tmp_path / "archive" / "frames" / "scan.zarr.zip"
    before = product.stat().st_mtime_ns

    mask = np.zeros(SHAPE, bool)
    mask[[4, 20], 5:30], mask[30:33, 40:44] = True, True
    partition = write_source(tmp_path / "other", frames, mask=mask, num_q_bins=2)
    (tmp_path / "other" / "q_map.hdf").replace(tmp_path / "source" / "q_map.hdf")

    slices: dict[str, list[slice]] = {"time": [], "count": []}
    found = pixels_module.array

    class Watched:
        """An array that notes which parts of it are read."""

        def __init__(self, stored: Any, seen: list[slice]) -> None:
            self.stored, self.seen, self.chunks, self.shape = stored, seen, stored.chunks, stored.shape

        def __getitem__(self, part: slice) -> Any:
            self.seen.append(part)
            return self.stored[part]

    monkeypatch.setattr(
        pixels_module,
        "array",
        lambda group, name: Watched(found(group, name), slices[name]) if name in slices else found(group, name),
    )
    again = correlated(tmp_path / "source", tmp_path / "archive", ingest={"form": "events"})
    assert product.stat().st_mtime_ns == before
    assert_true(again, truth(frames.astype(float), partition))

    events = (frames > 0).transpose(1, 2, 0).reshape(-1)  # in the order of the store: by pixel, then time
    wanted = np.flatnonzero(np.repeat(mask.ravel(), len(frames))[events]) // 64
    for seen in slices.values():
        chunks = [chunk for part in seen for chunk in range(part.start // 64, (part.stop - 1) // 64 + 1)]
        assert len(chunks) == len(set(chunks))
        assert set(chunks) == set(wanted)
        assert len(chunks) < events.sum() / 64 / 4


def test_the_same_again_makes_nothing(tmp_path: Path) -> None:
    write_source(tmp_path / "source", photons(60))
    first = correlated(tmp_path / "source", tmp_path / "archive")
    config = configure(tmp_path / "source", tmp_path / "archive", correlate={"form": "events"})
    run = Run(config, until="correlate")
    run.execute()
    assert [report.num_done for report in run.reports] == [0, 0]
    assert_same(read_arrays(tmp_path / "archive"), first)


def test_all_scans_too_short_end_the_run_with_one_line(tmp_path: Path) -> None:
    write_source(tmp_path / "source", photons(30))
    with pytest.raises(PlanError, match="no scan is left"):
        correlated(tmp_path / "source", tmp_path / "archive", correlate={"begin_frame": 40})
