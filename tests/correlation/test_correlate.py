"""Correlation of whole scans: the same photons, however stored and gone through, and values that are no photons."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from ainerd_hpc.archive.journal import Journal
from ainerd_hpc.correlation.product import METHODS
from ainerd_hpc.errors import PlanError, QuarantinedError, ScanError
from ainerd_hpc.formats.frames.aps import write_raw
from ainerd_hpc.formats.partitions.partition import Partition
from ainerd_hpc.planning import line_of
from ainerd_hpc.sources.discovery import discover
from ainerd_hpc.sources.shared_products import publish_shared
from tests.support.correlation_truth import (
    PLACES,
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

EACH_WAY = [("none", "dense"), ("frames", "events"), ("events", "auto")]
"""ingest.form, correlate.form: all code that counts go through"""


def forms(ingest: str, correlate: str, **more: object) -> dict[str, object]:
    return {"ingest": {"form": ingest}, "correlate": {"form": correlate, **more}}


def bright_photons() -> np.ndarray:
    """Counts up to 250, the brightest of them in a frame that no sample sees."""
    return photons(220, brightest=250)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Arrays, Partition]:
    """The product of these, as they are most often stored, on one thread."""
    folder = tmp_path_factory.mktemp("reference")
    partition = write_source(folder / "source", bright_photons())
    return correlated(folder / "source", folder / "archive", **forms("none", "dense")), partition


def test_the_product_is_the_truth(reference: tuple[Arrays, Partition]) -> None:
    found, partition = reference
    expected = truth(bright_photons(), partition)
    assert_true(found, expected)
    assert (np.diagonal(found["c2"][0]) > 1).all()
    for name in ("c2", "g2", "g2_c2"):
        assert found[name].dtype == np.float32
    np.testing.assert_array_equal(found["dynamic_q_list"], partition.dynamic_q_list)
    np.testing.assert_array_equal(found["static_q_list"], partition.static_q_list)
    np.testing.assert_array_equal(found["c2"], found["c2"].swapaxes(1, 2))


def test_types_and_places_in_the_file_give_the_same_bits(reference: tuple[Arrays, Partition], tmp_path: Path) -> None:
    stored = [*(("u2", place) for place in PLACES), ("u1", "bitshuffle"), ("u4", "bitshuffle")]
    stored += [("i4", "gzip"), (">u2", "contiguous"), (">u4", "bitshuffle"), ("f4", "gzip"), ("f8", "bitshuffle")]
    stored += [("f2", "gzip"), (">f2", "bitshuffle"), (">i8", "gzip"), ("u8", "bitshuffle")]
    for dtype, place in stored:
        write_source(tmp_path / "source", bright_photons().astype(dtype), place, scan_id=f"{dtype} {place}")
    correlated(tmp_path / "source", tmp_path / "archive", scan_id="u2 gzip", **forms("none", "auto"))
    for dtype, place in stored:
        assert_same(read_arrays(tmp_path / "archive", f"{dtype} {place}"), reference[0], but=["method"])


@pytest.mark.parametrize(
    ("ingest", "correlate", "threads"),
    [*itertools.product(["none", "frames", "events"], ["dense", "events", "auto"], [1])]
    + [("none", "dense", 2), ("frames", "auto", 2), ("events", "events", 2), ("auto", "auto", 2)],
)
def test_forms_and_threads_give_the_same_bits(
    ingest: str, correlate: str, threads: int, reference: tuple[Arrays, Partition], tmp_path: Path
) -> None:
    write_source(tmp_path / "source", bright_photons())
    executor = {"kind": "inline", "memory": "4 GB", "threads": threads}
    found = correlated(tmp_path / "source", tmp_path / "archive", executor=executor, **forms(ingest, correlate))
    assert_same(found, reference[0], but=["method"])


def test_auto_takes_both_forms(reference: tuple[Arrays, Partition], tmp_path: Path) -> None:
    """Or the tests above tell nothing of scans in which dense q-bins stand beside sparse ones."""
    write_source(tmp_path / "source", photons(220))
    found = correlated(tmp_path / "source", tmp_path / "archive")
    pairs = 1 << METHODS.index("pairs")
    assert (found["method"][0], found["method"][2]) == (1 << METHODS.index("int8"), pairs)
    assert reference[0]["method"][2] != pairs


def test_bright_counts_are_as_exact_as_dim_ones(tmp_path: Path) -> None:
    expected = {}
    for dtype, brightest in [("u1", 128), ("u1", 254), ("u2", 65533), ("u4", 65535), ("u4", 2**22), ("i4", 70000)]:
        frames = photons(60).astype(dtype)
        frames[:, 17, 20] = brightest // 2  # seen in any sample
        frames[41, 30:32, 40] = brightest  # in a sparse q-bin, seen in none
        scan_id = f"{dtype} {brightest}"
        partition = write_source(tmp_path / "source", frames, scan_id=scan_id)
        expected[scan_id] = truth(frames, partition)
    for ingest, form in EACH_WAY:
        correlated(tmp_path / "source", tmp_path / ingest, scan_id="u1 128", **forms(ingest, form))
        for scan_id, arrays in expected.items():
            found = read_arrays(tmp_path / ingest, scan_id)
            assert_true(found, arrays)
            assert_same(found, read_arrays(tmp_path / EACH_WAY[0][0], scan_id), but=["method"])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("ingest", ["none", "auto", "events"])
def test_float_frames_are_correlated_as_they_are(ingest: str, dtype: str, tmp_path: Path) -> None:
    frames = (photons(64) * 0.37 + np.random.default_rng(1).random((64, *SHAPE))).astype(dtype)
    partition = write_source(tmp_path / "source", frames)
    found = correlated(tmp_path / "source", tmp_path / "archive", **forms(ingest, "auto"))
    assert_true(found, truth(frames, partition))


DEAD = [("u1", 255), ("u2", 65535), ("u4", 2**32 - 1), ("i4", -3), ("i4", 2**31 - 1), ("f4", np.nan), ("f8", -0.5)]
DEFECTIVE = [("u2", 65534), ("u4", 2**32 - 2)]
"""What DECTRIS detectors give pixels that are defective."""


def with_dead_pixels(dtype: str, value: float) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """One in a dense q-bin and one in a sparse q-bin, each in one frame, and bright in the others."""
    frames, places = photons(60).astype(dtype), [(14, 16), (33, 41)]
    for frame, (y, x) in zip((3, 47), places, strict=True):
        frames[:, y, x] = 90
        frames[frame, y, x] = value
    return frames, places


def without(frames: np.ndarray, places: list[tuple[int, int]]) -> np.ndarray:
    """In float64, with no counts in these places."""
    frames = frames.astype(np.float64)
    for y, x in places:
        frames[:, y, x] = 0
    return frames


@pytest.mark.parametrize("average", [1, 3])
def test_a_pixel_that_is_dead_in_one_frame_is_left_out_everywhere(average: int, tmp_path: Path) -> None:
    expected = {}
    for dtype, value in DEAD:
        frames, places = with_dead_pixels(dtype, value)
        partition = write_source(tmp_path / "source", frames, scan_id=f"{dtype} {value}")
        sums = without(frames, places).reshape(60 // average, average, *SHAPE).sum(axis=1)
        expected[f"{dtype} {value}"] = truth(sums, partition, dead=places, average=average)
    for ingest, form in EACH_WAY:
        settings = forms(ingest, form, average_frames=average)
        correlated(tmp_path / "source", tmp_path / ingest, scan_id="u1 255", **settings)
        for scan_id, arrays in expected.items():
            found = read_arrays(tmp_path / ingest, scan_id)
            assert_true(found, arrays)
            assert found["num_pixels"].sum() == SHAPE[0] * SHAPE[1] - 2
            assert np.isnan(found["saxs_2d"][14, 16])


def test_a_dead_pixel_has_no_part_in_the_normalisation_of_frames(tmp_path: Path) -> None:
    frames, places = with_dead_pixels("u2", 65535)
    frames[::2, 14, 16] = 5000
    frames[3, 14, 16] = 65535
    partition = write_source(tmp_path / "source", frames)
    alive = without(frames, places)
    total = alive[:, partition.dynamic_roi_map > 0].sum(axis=1)
    expected = truth(alive, partition, dead=places, frame_scale=total.mean() / total)
    for ingest, form in EACH_WAY:
        settings = forms(ingest, form, frame_normalisation=True)
        assert_true(correlated(tmp_path / "source", tmp_path / f"{ingest} {form}", **settings), expected)


def test_a_bad_frame_of_sentinels_alone_kills_no_pixel(tmp_path: Path) -> None:
    frames = photons(60)
    frames[20] = 65535  # as a detector gives for a frame that it lost
    partition = write_source(tmp_path / "source", frames)
    frames[20] = 0
    expected = truth(frames, partition, bad=[20])
    for ingest, form in EACH_WAY:
        settings = forms(ingest, form, bad_frames=[20])
        assert_true(correlated(tmp_path / "source", tmp_path / f"{ingest} {form}", **settings), expected)


@pytest.mark.parametrize("ingest", ["none", "frames", "events"])
def test_many_dead_pixels_are_another_detector(ingest: str, tmp_path: Path) -> None:
    frames = photons(60)
    frames[9, :5] = 65535  # an eighth
    write_source(tmp_path / "source", frames)
    write_source(tmp_path / "source", photons(60), scan_id="good")
    with pytest.raises(QuarantinedError):
        correlated(tmp_path / "source", tmp_path / "archive", ingest={"form": ingest})
    problem = only_problem(tmp_path / "archive")
    assert (problem["scan_id"], problem["stage"]) == ("scan", "correlate")
    assert "scan.h5" in problem["reason"]
    assert "240 of 1920" in problem["reason"]
    assert "y 0, x " in problem["reason"] or "y 1, x " in problem["reason"]
    assert "\n" not in problem["reason"]


@pytest.mark.parametrize("ingest", ["none", "frames", "events"])
def test_a_scan_without_a_photon_is_quarantined(ingest: str, tmp_path: Path) -> None:
    write_source(tmp_path / "source", np.zeros((30, *SHAPE), np.uint16))
    with pytest.raises(PlanError, match=r"scan\.h5: expected photons, found none"):
        correlated(tmp_path / "source", tmp_path / "archive", ingest={"form": ingest})


def test_a_q_bin_of_dead_pixels_alone_harms_no_other(tmp_path: Path) -> None:
    mask = np.ones(SHAPE, bool)
    partition = write_source(tmp_path / "source", photons(60), mask=mask, num_q_bins=30, num_static=1)
    small = partition.dynamic_roi_map == 30
    assert small.sum() < 100
    frames = photons(60)
    frames[5, small] = 65535
    partition = write_source(tmp_path / "source", frames, mask=mask, num_q_bins=30, num_static=1)
    others = {}
    for ingest, form in EACH_WAY:
        found = correlated(tmp_path / "source", tmp_path / f"{ingest} {form}", **forms(ingest, form))
        assert found["num_pixels"][29] == 0
        assert np.isnan(found["c2"][29]).all()
        assert np.isnan(found["g2"][29]).all()
        assert np.isnan(found["saxs_1d"][29])
        assert_same(found, others or found, but=["method"])
        others = found
    frames[5] = photons(60)[5]
    expected = truth(frames, partition)
    np.testing.assert_allclose(others["c2"][:29], expected["c2"][:29], rtol=1e-6)
    np.testing.assert_allclose(others["g2"][:29], expected["g2"][:29], rtol=1e-6)


def test_no_scan_left_says_why(tmp_path: Path) -> None:
    frames = np.full((20, *SHAPE), 65535, np.uint16)
    frames[:, 0, 0] = 1  # no frame is lost as a whole
    write_source(tmp_path / "source", frames)
    with pytest.raises(PlanError, match=r"no scan is left.*scan\.h5.*dead-pixel values on 19[12][0-9] of 1920"):
        correlated(tmp_path / "source", tmp_path / "archive")


@pytest.mark.parametrize("ingest", ["none", "frames"])
def test_a_file_that_changed_since_it_was_found_is_not_read(ingest: str, tmp_path: Path) -> None:
    write_source(tmp_path / "source", photons(60))
    config = configure(tmp_path / "source", tmp_path / "archive", ingest={"form": ingest})
    found = discover(config.source)
    line, name = line_of(config, Journal(config.archive), found), "correlate" if ingest == "none" else "ingest"
    stage = line.stage(name)
    publish_shared(stage.config, found)
    (task,) = line.tasks(name, found.scans)
    write_raw(tmp_path / "source" / "scan.h5", np.ones((60, 3, 4), np.uint16), simulated=True)
    with pytest.raises(ScanError, match=r"scan\.h5: expected frames .* found \(60, 3, 4\)"):
        stage.work(task)
