"""Corrections of the counts before correlation, against plain truths, however the counts are kept and gone through."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ainerd_hpc.archive.groups import reading_group
from ainerd_hpc.archive.journal import Journal
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.correlation.bad_frames import REASONS
from ainerd_hpc.correlation.memory import Split
from ainerd_hpc.errors import ConfigError, PlanError, QuarantinedError
from ainerd_hpc.formats.hdf5.frames import Hdf5Frames
from ainerd_hpc.loading import load
from ainerd_hpc.pipeline import Run
from ainerd_hpc.planning import line_of
from ainerd_hpc.simulate import write_scan, write_shared_files
from ainerd_hpc.sources.discovery import discover
from ainerd_hpc.stages import correlate as correlate_stage
from ainerd_hpc.stages.correlate import Correlate
from tests.correlation.test_correction_parts import limit_truth
from tests.support.correlation_truth import (
    SHAPE,
    Arrays,
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
from tests.whole.test_memory import SCRIPT, SHAPES

WAYS = ["none", "frames", "events"]
"""ingest.form"""
RNG = np.random.default_rng
NUM_PIXELS = SHAPE[0] * SHAPE[1]


# Dark and flat fields


def images() -> tuple[np.ndarray, np.ndarray]:
    """A dark of 0..30 counts and a flat field of some 20 % (y, x), in no units."""
    rng = RNG(8)
    return rng.integers(0, 30, SHAPE) + 0.25, 7.0 * rng.uniform(0.8, 1.2, SHAPE)


def measured(num_frames: int) -> np.ndarray:
    """Frames whose corrected counts are above 0."""
    dark, _ = images()
    return (photons(num_frames) + 2 + np.floor(dark)).astype(np.uint16)


def saved(folder: Path, **arrays: np.ndarray) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return {name: folder / f"{name}.npy" for name in arrays}


def grouped(frames: np.ndarray, options: dict[str, int]) -> np.ndarray:
    """The selected frames (n, average, y, x)."""
    used = frames[options.get("begin_frame", 0) : options.get("end_frame")]
    stride, average = options.get("stride_frames", 1), options.get("average_frames", 1)
    num = len(used) // (stride * average)
    return used[: num * stride * average].reshape(num, average, stride, *SHAPE)[:, :, 0]


SELECTIONS: list[dict[str, int]] = [
    {},
    {"begin_frame": 5, "end_frame": -3, "stride_frames": 2, "average_frames": 3},
]


@pytest.mark.parametrize("ingest", WAYS)
@pytest.mark.parametrize("options", SELECTIONS, ids=str)
@pytest.mark.parametrize("threshold", [None, 3.0])
def test_dark_and_flat_are_those_of_plain_numpy(
    threshold: float | None, options: dict[str, int], ingest: str, tmp_path: Path
) -> None:
    (dark, flat), frames = images(), measured(90)
    partition = write_source(tmp_path / "source", frames)
    correct = {**saved(tmp_path, dark=dark, flat=flat), "dark_threshold": threshold}
    sections = {"ingest": {"form": ingest}, "correct": correct, "correlate": {"form": "events", **options}}
    found = correlated(tmp_path / "source", tmp_path / "archive", **sections)
    signal = grouped(frames.astype(float), options) - dark
    if threshold is not None:
        assert 0.05 < (signal < threshold).mean() < 0.95
        signal = np.where(signal < threshold, 0, signal)
    expected = (signal / (flat / flat[partition.dynamic_roi_map > 0].mean())).sum(axis=1)
    assert_true(found, truth(expected, partition, average=options.get("average_frames", 1)))


@pytest.mark.parametrize(("given_image", "options"), [("dark", {"normalisation": "static"}), ("flat", {})])
def test_either_alone_and_pixels_without_one(given_image: str, options: dict[str, str], tmp_path: Path) -> None:
    (dark, flat), frames = images(), measured(60)
    image, dead = {"dark": dark, "flat": flat}[given_image], [(3, 4), (20, 21)]
    image[3, 4] = np.inf
    image[20, 21] = np.nan if given_image == "dark" else -1
    correct = saved(tmp_path, **{given_image: image})
    partition = write_source(tmp_path / "source", frames)
    signal = frames - dark if given_image == "dark" else frames / (flat / np.delete(flat, [148, 981]).mean())
    for place in dead:
        signal[:, *place] = 0
    expected = truth(signal, partition, dead=dead, static="normalisation" in options)
    for ingest in WAYS:
        sections = {"ingest": {"form": ingest}, "correct": correct, "correlate": options}
        found = correlated(tmp_path / "source", tmp_path / ingest, **sections)
        assert_true(found, expected)
        assert found["dead_pixels"].tolist() == [3 * 48 + 4, 20 * 48 + 21]


def test_float_frames_are_corrected_and_dead_pixels_left_out(tmp_path: Path) -> None:
    (dark, flat), frames = images(), measured(60)
    sources = {"f4": frames + np.float32(0.5), "u2": frames, "i4": frames.astype(np.int32)}
    dead = {"f4": np.nan, "u2": 65535, "i4": -1}
    for dtype, one in sources.items():
        one[30, 7, 8] = dead[dtype]
        one[11] = dead[dtype]  # lost
        partition = write_source(tmp_path / "source", one, scan_id=dtype)
    correct = saved(tmp_path, dark=dark, flat=flat)
    for ingest in ("none", "events"):
        correlated(tmp_path / "source", tmp_path / ingest, "u2", ingest={"form": ingest}, correct=correct)
        for dtype, one in sources.items():
            signal = (one - dark) / (flat / flat.mean())
            signal[11], signal[:, 7, 8] = 0, 0
            found = read_arrays(tmp_path / ingest, dtype)
            assert_true(found, truth(signal, partition, dead=[(7, 8)], bad=[11]))
            assert found["dead_pixels"].tolist() == [7 * 48 + 8]
            assert [REASONS[code] for code in found["bad_frame_reason"][[11, 12]]] == ["dark", "good"]


def test_noise_around_a_dark_is_kept_and_frames_below_it_have_no_c2(tmp_path: Path) -> None:
    """Negative values average out; cut at 0, they would add a pedestal."""
    rng, dark = RNG(4), np.full(SHAPE, 50.0)
    frames = rng.poisson(50, (400, *SHAPE)).astype(np.uint16)
    frames[:380] += rng.poisson(0.5, (380, *SHAPE)).astype(np.uint16)
    partition = write_source(tmp_path / "source", frames, num_q_bins=1, num_static=1)
    found = correlated(tmp_path / "source", tmp_path / "archive", correct=saved(tmp_path, dark=dark))
    signal = (frames - dark)[:, partition.dynamic_roi_map > 0]
    total = signal.sum(axis=1)
    below = (total <= 0).nonzero()[0]
    assert 0 < len(below) < 20
    with np.errstate(invalid="ignore"):
        total = np.where(total > 0, total, np.nan)
    np.testing.assert_allclose(found["c2"][0], signal.shape[1] * signal @ signal.T / np.outer(total, total), rtol=1e-5)
    assert np.isnan(found["c2"][0][below]).all()
    upper = found["c2"][0][:380, :380][np.triu_indices(380, 1)]
    assert upper.mean() == pytest.approx(1, abs=4 * float(upper.std()) / 380)


@pytest.mark.parametrize("key", ["dark", "flat"])
def test_an_image_of_another_detector_is_one_line_and_a_missing_one_stops_the_run(key: str, tmp_path: Path) -> None:
    write_source(tmp_path / "source", measured(30))
    with pytest.raises(
        PlanError, match=rf"scan\.h5: expected frames of \(48, 40\) as in correct\.{key} .*\.npy"
    ) as error:
        correlated(tmp_path / "source", tmp_path / "archive", correct=saved(tmp_path, **{key: np.ones(SHAPE[::-1])}))
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=rf"^correct\.{key} .*none\.h5: no such file"):
        correlated(tmp_path / "source", tmp_path / "other", correct={key: tmp_path / "none.h5:/data"})
    with pytest.raises(PlanError, match="expected a finite dark and a flat field above 0"):
        correlated(tmp_path / "source", tmp_path / "zero", correct=saved(tmp_path, flat=np.zeros(SHAPE)))


def two_detectors(root: Path) -> dict[str, Path]:
    """A scan of each of two detectors, with the dark of each, one of them beside its scan."""
    dark, _ = images()
    for name, offset in (("lambda", 0), ("eiger", 20)):
        frames = (photons(30) + offset + np.floor(dark)).astype(np.uint16)
        write_source(root / "source" / name, frames, scan_id=f"{name}_7")
        (root / "source" / name / "q_map.hdf").rename(root / "source" / name / f"{name}_7_qmap.hdf")
    saved(root / "source" / "eiger", eiger_7_dark=dark + 20)
    return saved(root / "darks", **{"lambda": dark}) | {"eiger": root / "source" / "eiger" / "eiger_7_dark.npy"}


def test_each_scan_is_corrected_with_the_dark_of_its_detector(tmp_path: Path) -> None:
    darks = two_detectors(tmp_path)
    rules = {"lambda/*": darks["lambda"], "*": "{stem}_dark.npy"}
    config = configure(tmp_path / "source", tmp_path / "both", correct={"dark": rules})
    Run(config, until="correlate").execute()
    scans = {scan.scan_id: scan for scan in Archive(tmp_path / "both").read_catalog()}
    assert scans.keys() == {"lambda--lambda_7", "eiger--eiger_7"}  # the dark beside its scan is none
    for name, dark in darks.items():
        scan, folder = scans[f"{name}--{name}_7"], tmp_path / "source" / name
        paired = (scan.dark, scan.flat, scan.partition_file, scan.metadata_file)
        assert paired == (str(dark), "", str(folder / f"{name}_7_qmap.hdf"), str(folder / f"{name}_7_metadata.hdf"))
        alone = correlated(folder, tmp_path / name, f"{name}_7", correct={"dark": dark})
        assert_same(read_arrays(tmp_path / "both", scan.scan_id), alone)
    one, other = (read_arrays(tmp_path / "both", scan_id)["c2"] for scan_id in scans)
    np.testing.assert_allclose(one, other, rtol=1e-5)  # the same photons above two darks


def test_a_scan_without_its_dark_is_told_with_all_else_and_the_others_go_on(tmp_path: Path) -> None:
    darks = two_detectors(tmp_path)
    darks["eiger"].rename(tmp_path / "source" / "lambda" / "lost.npy")

    def reasons(**correct: Any) -> dict[str, str]:
        config = configure(tmp_path / "source", tmp_path, correct=correct)
        found = discover(config.source, correct=config.correct)
        assert len(found.scans) == 2
        return {problem.scan_id: problem.reason for problem in found.problems}

    (reason,) = reasons(dark={"lambda/*": darks["lambda"]}).values()
    assert (
        f"{tmp_path}/source/eiger/eiger_7.h5: expected a pattern of correct.dark that matches it, found none" in reason
    )
    (reason,) = reasons(dark={"lambda/*": darks["lambda"], "*": "{stem}_dark.npy"}).values()
    assert f"eiger_7.h5: expected its dark {darks['eiger']}, found no such file; copy it there" in reason
    both = reasons(dark="{stem}_dark.npy", flat={"nobody": darks["lambda"]})
    assert both.keys() == {"lambda--lambda_7", "eiger--eiger_7"}
    assert all("expected its dark" in one and "; also " in one and "correct.flat" in one for one in both.values())
    assert reasons(dark={"lambda/*": darks["lambda"], "*": None}) == {}


def test_a_threshold_needs_a_dark() -> None:
    with pytest.raises(ConfigError, match=r"'correct\.dark_threshold': expected correct\.dark with it"):
        load(None, ["archive=x", "source.path=y", "correct.dark_threshold=3"])


# Hot pixels and frames out of line


def glitchy(num_frames: int = 120) -> np.ndarray:
    """Hot pixels in a dense and a sparse q-bin, one that blinks; frames out of line."""
    frames = photons(num_frames) + RNG(2).poisson(0.2, (num_frames, *SHAPE)).astype(np.uint16)
    frames[:, 14, 20] += 60
    frames[:, 33, 41] += RNG(3).poisson(3, num_frames).astype(np.uint16)
    frames[::7, 30, 45] += 200
    frames[20] *= 3
    frames[71] //= 4
    return frames


HOT, OUT_OF_LINE = [14 * 48 + 20, 30 * 48 + 45, 33 * 48 + 41], [20, 71]


def without_hot(frames: np.ndarray) -> np.ndarray:
    signal = frames.astype(float)
    signal.reshape(-1, NUM_PIXELS)[:, HOT] = 0
    return signal


@pytest.fixture
def split_into(monkeypatch: pytest.MonkeyPatch) -> Any:
    def split(num_parts: int, num_blocks: int) -> None:
        monkeypatch.setattr(correlate_stage, "fewest_parts", lambda *sizes: Split(num_parts, num_blocks, 2**20))

    return split


@pytest.mark.parametrize("ingest", WAYS)
def test_hot_pixels_and_bad_frames_are_found_whatever_the_form_and_the_split(
    ingest: str, tmp_path: Path, split_into: Any
) -> None:
    frames = glitchy()
    partition = write_source(tmp_path / "source", frames)
    sections = {"ingest": {"form": ingest}, "correct": {"hot_pixels": 12, "bad_frames": 6}}
    sections["correlate"] = {"bad_frames": [3], "frame_normalisation": True}
    signal, files = without_hot(frames), []
    bad, dead = [3, *OUT_OF_LINE], [divmod(pixel, 48) for pixel in HOT]
    total = signal[:, partition.dynamic_roi_map > 0].sum(axis=1)
    good = np.delete(total, bad).mean()
    expected = truth(signal, partition, bad=bad, dead=dead, frame_scale=good / total)
    for split in ((1, 1), (3, 1), (3, 4)):
        split_into(*split)
        archive = tmp_path / f"{split}"
        found = correlated(tmp_path / "source", archive, **sections)
        files.append((archive / "correlation" / "scan.zarr.zip").read_bytes())
        assert found["hot_pixels"].tolist() == HOT
        assert found["dead_pixels"].tolist() == []
        reasons = {t: REASONS[code] for t, code in enumerate(found["bad_frame_reason"]) if code}
        assert reasons == {3: "listed", 20: "outlier", 71: "outlier"}
        assert found["num_pixels"].sum() == NUM_PIXELS - 3
        assert_true(found, expected)
    assert files[1:] == files[:1] * 2


@pytest.mark.parametrize("options", [{"average_frames": 2}, {"begin_frame": 10, "stride_frames": 3}], ids=str)
def test_hot_pixels_of_selected_and_corrected_frames(options: dict[str, int], tmp_path: Path, split_into: Any) -> None:
    """Whose likes are sought in counts that are corrected: a flat field hides some and shows others."""
    frames, flat = glitchy(180), np.ones(SHAPE)
    flat[14, 20] = 40  # as bright as it is sensitive
    flat[5, 5] = 0.02
    partition = write_source(tmp_path / "source", frames)
    sums = grouped(frames / (flat / flat.mean()), options).sum(axis=(0, 1)).ravel()
    labels = np.where(partition.dynamic_roi_map > 0, partition.static_roi_map, 0).ravel()
    order = np.lexsort((np.arange(NUM_PIXELS), labels, partition.dynamic_roi_map.ravel()))
    hot = hot_truth_fast(sums[order], partition.dynamic_roi_map.ravel()[order], labels[order])
    expected = sorted(order[hot].tolist())
    assert 5 * 48 + 5 in expected
    assert 14 * 48 + 20 not in expected
    for ingest in WAYS:
        for split in ((1, 1), (2, 1)):
            split_into(*split)
            correct = {"hot_pixels": 12, **saved(tmp_path, flat=flat)}
            sections = {"ingest": {"form": ingest}, "correct": correct, "correlate": options}
            found = correlated(tmp_path / "source", tmp_path / f"{ingest} {split}", **sections)
            assert found["hot_pixels"].tolist() == expected


def hot_truth_fast(sums: np.ndarray, q_bins: np.ndarray, static_bins: np.ndarray) -> list[int]:
    """`hot_truth` at 12, of large static bins."""
    hot = np.zeros(len(sums), bool)
    for _ in range(2):
        found = hot.copy()
        for label in np.unique(static_bins):
            here = static_bins == label
            assert (here & ~hot).sum() >= 8
            found |= here & (sums > limit_truth(sums[here & ~hot].tolist(), 12))
        hot = found
    assert len(np.unique(q_bins)) == 3
    return np.flatnonzero(hot).tolist()


def test_many_hot_pixels_are_speckles(tmp_path: Path) -> None:
    frames = np.ones((40, *SHAPE), np.uint16)
    frames[:, ::4, ::2] = 60
    write_source(tmp_path / "source", frames, num_static=1)
    with pytest.raises(PlanError, match=r"expected single hot pixels, found \d+ of 1920; raise correct\.hot_pixels"):
        correlated(tmp_path / "source", tmp_path / "archive", correct={"hot_pixels": 1})


def test_nothing_is_looked_for_unless_it_is_asked_for(tmp_path: Path) -> None:
    frames = glitchy()
    partition = write_source(tmp_path / "source", frames)
    found = correlated(tmp_path / "source", tmp_path / "archive")
    assert_true(found, truth(frames, partition))
    assert [found[name].size for name in ("hot_pixels", "dead_pixels")] == [0, 0]
    assert not found["bad_frame_reason"].any()
    assert "monitor" not in found


# The beam monitor


@pytest.mark.parametrize("options", SELECTIONS, ids=str)
def test_frames_are_divided_by_their_monitor_before_g2_alone(options: dict[str, int], tmp_path: Path) -> None:
    beam = RNG(5).uniform(0.3, 1, 90)
    frames = RNG(6).poisson((photons(90) + 0.2) * beam[:, None, None]).astype(np.uint16)
    monitor = 1e6 * beam
    monitor[[30, 41, 60]] = 0, np.nan, -3
    partition = write_source(tmp_path / "source", frames)
    with h5py.File(tmp_path / "source" / "scan_metadata.hdf", "a") as file:
        file["entry/i0"] = monitor
    average = options.get("average_frames", 1)
    groups = grouped(np.broadcast_to(monitor[:, None, None], (90, *SHAPE)), options)[:, :, 0, 0]
    bad = np.flatnonzero(~(groups > 0).all(axis=1)).tolist()
    mean = groups.sum(axis=1) / average
    summed = grouped(frames, options).sum(axis=1)
    scale = np.delete(mean, bad).mean() / np.where(np.isin(range(len(mean)), bad), 1, mean)
    expected = truth(summed, partition, frame_scale=scale, bad=bad)
    for ingest in WAYS:
        correlate = {"frame_normalisation": "monitor", "average_frames": average, **options}
        sections = {"ingest": {"form": ingest}, "correct": {"monitor": "/entry/i0"}, "correlate": correlate}
        found = correlated(tmp_path / "source", tmp_path / ingest, **sections)
        for name in ("c2", "g2", "g2_err", "g2_c2"):
            known = expected[name] != 0 if name.endswith("err") else slice(None)
            np.testing.assert_allclose(found[name][known], expected[name][known], rtol=1e-3 if "err" in name else 1e-6)
        np.testing.assert_allclose(found["monitor"], mean)
        reasons = [REASONS[code] for code in found["bad_frame_reason"]]
        assert [t for t, reason in enumerate(reasons) if reason == "monitor"] == bad


def test_a_monitor_that_nothing_is_divided_by_is_kept_and_changes_nothing(tmp_path: Path) -> None:
    frames, monitor = photons(40), np.append(0.0, RNG(0).random(39))
    partition = write_source(tmp_path / "source", frames)
    np.savetxt(tmp_path / "source" / "scan_i0.csv", monitor)
    found = correlated(tmp_path / "source", tmp_path / "archive", correct={"monitor": "{stem}_i0.csv"})
    assert_true(found, truth(frames, partition))
    np.testing.assert_allclose(found["monitor"], monitor)
    np.savetxt(tmp_path / "source" / "scan_i0.csv", 2 * monitor + 1)
    found = correlated(tmp_path / "source", tmp_path / "archive", correct={"monitor": "{stem}_i0.csv"})
    np.testing.assert_allclose(found["monitor"], 2 * monitor + 1)


def test_a_monitor_of_another_length_is_one_scan_set_aside(tmp_path: Path) -> None:
    for scan_id, num_frames in (("good", 30), ("scan", 40)):
        write_source(tmp_path / "source", photons(num_frames), scan_id=scan_id)
        with h5py.File(tmp_path / "source" / f"{scan_id}.h5", "a") as file:
            file["i0"] = np.ones(30)
    with pytest.raises(QuarantinedError):
        correlated(tmp_path / "source", tmp_path / "archive", correct={"monitor": "i0"})
    problem = only_problem(tmp_path / "archive")
    assert problem["scan_id"] == "scan"
    assert "scan.h5:/i0: expected a beam monitor of 40 numbers, one a frame, found float64 (30,)" in problem["reason"]


def test_to_divide_by_a_monitor_there_has_to_be_one(tmp_path: Path) -> None:
    write_source(tmp_path / "source", photons(30))
    with pytest.raises(ConfigError, match=r"correlate\.frame_normalisation: monitor: expected correct\.monitor"):
        correlated(tmp_path / "source", tmp_path / "archive", correlate={"frame_normalisation": "monitor"})
    with pytest.raises(ConfigError, match=r"'correlate\.frame_normalisation': expected false, true or monitor"):
        load(None, ["archive=x", "source.path=y", "correlate.frame_normalisation=beam"])


# Values that are no counts


def flawed() -> tuple[np.ndarray, list[tuple[int, int]]]:
    """A pixel with the sentinel of a 12-bit counter and a saturated one; a lost frame."""
    frames, places = photons(60), [(14, 16), (33, 41)]
    frames[3, 14, 16] = 4095
    frames[47, 33, 41] = 1000
    frames[50] = 4095
    return frames, places


@pytest.mark.parametrize("average", [1, 3])
def test_sentinels_and_saturated_counts_are_dead(average: int, tmp_path: Path) -> None:
    frames, places = flawed()
    correct = {"sentinels": [4095, 70000], "saturation": 1000}
    expected = {}
    for dtype in ("u2", "i4", "f4"):
        partition = write_source(tmp_path / "source", frames.astype(dtype), scan_id=dtype)
        signal = frames.astype(float)
        signal[50], signal[:, [14, 33], [16, 41]] = 0, 0
        sums = signal.reshape(60 // average, average, *SHAPE).sum(axis=1)
        if average > 1:
            sums[50 // average] = 0
        expected[dtype] = truth(sums, partition, dead=places, bad=[50 // average], average=average)
    for ingest in WAYS:
        if ingest == "events" and average > 1:
            continue  # events know of no frame that was lost: the others of its group are kept
        sections = {"ingest": {"form": ingest}, "correct": correct, "correlate": {"average_frames": average}}
        correlated(tmp_path / "source", tmp_path / ingest, "u2", **sections)
        for dtype, arrays in expected.items():
            found = read_arrays(tmp_path / ingest, dtype)
            assert_true(found, arrays)
            assert found["dead_pixels"].tolist() == [y * 48 + x for y, x in places]


def ingested(config: Any) -> None:
    Run(config, until="correlate").execute()


@pytest.mark.parametrize("form", ["events", "frames"])
def test_new_sentinels_are_ingested_anew_and_nothing_else_is(form: str, tmp_path: Path) -> None:
    frames, places = flawed()
    frames[50] = 0
    write_source(tmp_path / "source", frames)

    def config(**correct: Any) -> Any:
        return configure(tmp_path / "source", tmp_path / "archive", ingest={"form": form}, correct=correct)

    numbers = [y * 48 + x for y, x in places]
    ingested(config())
    stamps = []
    assert read_arrays(tmp_path / "archive")["dead_pixels"].tolist() == []
    ingested(config(sentinels=[4095]))
    assert read_arrays(tmp_path / "archive")["dead_pixels"].tolist() == numbers[:1]
    product = tmp_path / "archive" / "frames" / "scan.zarr.zip"
    for same in ({"sentinels": [4095]}, {"sentinels": [4095], "hot_pixels": 30.0}):
        ingested(config(**same))
        stamps.append(product.stat().st_mtime_ns)
    assert len(set(stamps)) == 1
    ingested(config(sentinels=[4095], saturation=1000))
    assert read_arrays(tmp_path / "archive")["dead_pixels"].tolist() == numbers


# The whole


def test_parts_of_a_corrected_scan_give_the_same_file_and_blocks_all_but_the_last_bit(
    tmp_path: Path, split_into: Any
) -> None:
    dark, flat = images()
    write_source(tmp_path / "source", measured(150))
    correct = {**saved(tmp_path, dark=dark, flat=flat), "hot_pixels": 12.0, "bad_frames": 6.0}
    archives: dict[tuple[int, int, str], Path] = {}
    for ingest in ("none", "events"):
        for parts, blocks in ((1, 1), (2, 1), (3, 1), (3, 4)):
            split_into(parts, blocks)
            archive = archives[parts, blocks, ingest] = tmp_path / f"{ingest} {parts} {blocks}"
            correlated(tmp_path / "source", archive, correct=correct, ingest={"form": ingest})
    whole = (archives[1, 1, "none"] / "correlation" / "scan.zarr.zip").read_bytes()
    for (_, blocks, ingest), archive in archives.items():
        if blocks == 1:
            assert (archive / "correlation" / "scan.zarr.zip").read_bytes() == whole, archive.name
        else:
            assert_close(read_arrays(archive), read_arrays(archives[1, 1, ingest]))


def assert_close(found: Arrays, expected: Arrays) -> None:
    exact = ("hot_pixels", "dead_pixels", "is_bad_frame", "num_pixels", "lag")
    assert_same({name: found[name] for name in exact}, {name: expected[name] for name in exact})
    for name in ("c2", "g2", "g2_c2", "intensity", "saxs_2d"):
        np.testing.assert_allclose(found[name], expected[name], rtol=3e-7, err_msg=name)


def test_two_threads_give_the_same_file(tmp_path: Path) -> None:
    dark, flat = images()
    write_source(tmp_path / "source", measured(150))
    correct = {**saved(tmp_path, dark=dark, flat=flat), "hot_pixels": 12.0, "bad_frames": 6.0, "saturation": 1000}
    files = []
    for threads in (1, 2):
        executor = {"kind": "inline", "memory": "4 GB", "threads": threads}
        correlated(tmp_path / "source", tmp_path / f"{threads}", correct=correct, executor=executor)
        files.append((tmp_path / f"{threads}" / "correlation" / "scan.zarr.zip").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize(("num_parts", "num_blocks"), [(1, 1), (3, 4)])
def test_frames_are_read_as_often_as_planned(
    num_parts: int, num_blocks: int, tmp_path: Path, split_into: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = glitchy(200)
    frames[7, 8, 9] = 65535
    write_source(tmp_path / "source", frames)
    split_into(num_parts, num_blocks)
    correct = {**saved(tmp_path, dark=np.zeros(SHAPE)), "hot_pixels": 12, "bad_frames": 6}
    config = configure(tmp_path / "source", tmp_path / "archive", ingest={"form": "none"}, correct=correct)
    Run(config, until="ingest").execute()
    numbers: list[int] = []
    read = Hdf5Frames.read

    def counting(self: Hdf5Frames, start: int, stop: int, step: int = 1) -> np.ndarray:
        numbers.extend(range(start, min(stop, self.shape[0]), step))
        return read(self, start, stop, step)

    monkeypatch.setattr(Hdf5Frames, "read", counting)
    found = discover(config.source, correct=config.correct)
    stage = Correlate(config)
    for task in line_of(config, Journal(config.archive), found).tasks("correlate", found.scans):
        numbers.clear()
        stage.run_task(task)
        assert len(numbers) == task.read_bytes / (2 * NUM_PIXELS)


def test_what_is_corrected_is_told_and_changes_are_made_anew(tmp_path: Path) -> None:
    dark, flat = images()
    write_source(tmp_path / "source", measured(30))

    def stage(**correct: Any) -> Correlate:
        return Correlate(configure(tmp_path / "source", tmp_path / "archive", correct=correct))

    paths, moved = saved(tmp_path / "a", dark=dark, flat=flat), saved(tmp_path / "b", dark=dark)

    def digest_of(**correct: Any) -> str:
        config = stage(**correct).config
        found = discover(config.source, correct=config.correct)
        return line_of(config, Journal(config.archive), found).of_scan("correlate", *found.scans)

    every = [{}, {"dark": paths["dark"]}, {"flat": paths["flat"]}, {"dark": paths["dark"], "dark_threshold": 0.0}]
    every += [{"hot_pixels": 5.0}, {"hot_pixels": 6.0}, {"bad_frames": 5.0}, {"sentinels": [5]}, {"saturation": 5}]
    every += [{"monitor": "i0"}, {"monitor": "i0.csv"}]
    assert len({digest_of(**correct) for correct in every}) == len(every)

    stat = paths["dark"].stat()
    before = digest_of(dark=paths["dark"])
    os.utime(moved["dark"], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert digest_of(dark=moved["dark"]) == before
    os.utime(moved["dark"], ns=(0, 0))
    assert digest_of(dark=moved["dark"]) != before

    config = configure(tmp_path / "source", tmp_path / "archive", correct={"dark": paths["dark"], "saturation": 7000})
    Run(config, until="correlate").execute()
    with reading_group(tmp_path / "archive" / "correlation" / "scan.zarr.zip") as group:
        corrections: Any = group.attrs["corrections"]
    assert (corrections["dark"], corrections["flat"], corrections["saturation"]) == ("dark.npy", None, 7000)


MEMORY = [
    ("wide", ("ingest.form=none", "executor.threads=2", "correct.hot_pixels=20", "correct.saturation=60000")),
    ("wide", ("ingest.form=events",)),
]


@pytest.mark.parametrize(("shape", "more"), MEMORY)
def test_projected_peak_of_corrected_counts_bounds_the_measured_one(
    shape: str, more: tuple[str, ...], tmp_path: Path
) -> None:
    settings, source, archive = SHAPES[shape], tmp_path / "source", tmp_path / "archive"
    write_shared_files(source, settings)
    write_scan(source, settings, 0)
    dark = saved(tmp_path, dark=np.zeros((settings.height, settings.width)))["dark"]
    chosen = [f"correct.dark={dark}", *more]
    config = load(None, [f"source.path={source}", f"archive={archive}", "executor.kind=inline", *chosen])
    Run(config, until="ingest").execute()
    command = [sys.executable, "-c", SCRIPT, "correlate", "frames", str(source), str(archive), *chosen]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    _, found, _, planned = map(int, result.stdout.split()[-4:])
    print(shape, more, f"measured {found / 1e6:.0f} MB, planned {planned / 1e6:.0f} MB")
    assert found < planned
    assert planned < 8 * found + 2**27
