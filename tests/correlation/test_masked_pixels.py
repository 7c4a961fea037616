"""Pixels that a scan's own file calls bad, in whole runs: left out as if they were not there, and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ainerd_hpc.archive.groups import reading_group
from ainerd_hpc.errors import QuarantinedError
from ainerd_hpc.pipeline import Run
from tests.correlation.test_correlate import DEFECTIVE, EACH_WAY, forms, with_dead_pixels, without
from tests.support.correlation_truth import (
    SHAPE,
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

DETECTOR = "entry/instrument/detector"
HOT = {(14, 16): 16, (33, 41): 2**31 + 8}
"""Bits of the pixels that are masked: noisy; over-responding and virtual."""


def eiger_scan(folder: Path, frames: np.ndarray, said: dict[str, Any], scan_id: str = "scan") -> Any:
    """A master file that holds its frames; gives the partition."""
    partition = write_source(folder, frames, scan_id=scan_id)
    with h5py.File(folder / f"{scan_id}.h5", "a") as file:
        file.require_group(DETECTOR)
        for name, value in said.items():
            file[f"{DETECTOR}/{name}"] = value
    return partition


def mask_of(places: dict[tuple[int, int], int]) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint32)
    for place, bits in places.items():
        mask[place] = bits
    return mask


def hot_photons() -> np.ndarray:
    """Counts in which the masked pixels are bright, one of them as only wide events hold it."""
    frames = photons(60)
    frames[:, 14, 16] = 900
    frames[:, 33, 41] = np.arange(60) % 7
    return frames


@pytest.mark.parametrize("average", [1, 3])
def test_masked_pixels_are_left_out_as_if_they_were_not_there(average: int, tmp_path: Path) -> None:
    frames = hot_photons()
    partition = eiger_scan(tmp_path / "source", frames, {"pixel_mask": mask_of(HOT), "pixel_mask_applied": 0})
    sums = without(frames, list(HOT)).reshape(60 // average, average, *SHAPE).sum(axis=1)
    expected = truth(sums, partition, dead=list(HOT), average=average)
    first = None
    for ingest, form in EACH_WAY:
        archive = tmp_path / f"{ingest} {average}"
        found = correlated(tmp_path / "source", archive, **forms(ingest, form, average_frames=average))
        assert_true(found, expected)
        assert found["dead_pixels"].tolist() == [14 * 48 + 16, 33 * 48 + 41]
        assert found["dead_pixel_mask"].tolist() == [16, 2**31 + 8]
        assert found["num_pixels"].sum() == SHAPE[0] * SHAPE[1] - 2
        assert_same(found, first or found, but=["method"])
        first = first or found
    with reading_group(archive / "correlation/scan.zarr.zip") as group:
        assert group.attrs["detector_pixels"] == "pixel_mask of /entry/instrument/detector"


def test_a_split_scan_and_corrections_know_the_mask(tmp_path: Path) -> None:
    partition = eiger_scan(tmp_path / "source", hot_photons(), {"pixel_mask": mask_of(HOT)})
    alive = without(hot_photons(), list(HOT))
    np.save(tmp_path / "dark.npy", np.zeros(SHAPE))
    for ingest, _ in EACH_WAY:
        sections = {"ingest": {"form": ingest}, "correct": {"dark": tmp_path / "dark.npy", "hot_pixels": 20}}
        found = correlated(tmp_path / "source", tmp_path / f"{ingest} corrected", **sections)
        assert_true(found, truth(alive, partition, dead=list(HOT)))
        assert found["dead_pixel_mask"].tolist() == list(HOT.values())


def test_a_product_of_ours_keeps_the_mask_and_the_limits(tmp_path: Path) -> None:
    said = {"pixel_mask": mask_of(HOT), "saturation_value": 850}
    frames = hot_photons()
    frames[20, 5, 6] = 851
    partition = eiger_scan(tmp_path / "source", frames, said)
    dead = [*HOT, (5, 6)]
    expected = truth(without(frames, dead), partition, dead=dead)
    for form in ("frames", "events"):
        found = correlated(tmp_path / "source", tmp_path / form, ingest={"form": form})
        assert_true(found, expected)
        assert found["dead_pixel_mask"].tolist() == [0, 16, 2**31 + 8]
        copy = tmp_path / f"copy of {form}"
        copy.mkdir()
        (copy / "scan.zarr.zip").write_bytes((tmp_path / form / "frames/scan.zarr.zip").read_bytes())
        (copy / "q_map.hdf").write_bytes((tmp_path / "source/q_map.hdf").read_bytes())
        again = correlated(copy, tmp_path / f"again {form}", "scan.zarr", ingest={"form": "none"})
        assert_same(again, found, but=["method", "delay", "delay_c2", "delay_window"])


def test_gaps_of_a_mask_are_not_taken_for_another_detector(tmp_path: Path) -> None:
    """More than a tenth of the pixels, at 2^n - 1 like one that was saturated once: only the mask tells them apart."""
    gaps, frames = {(y, x): 1 for y in range(18, 23) for x in range(48)}, photons(60)
    for place in gaps:
        frames[:, *place] = 65535
    frames[9, 3, 4] = 65535
    partition = eiger_scan(tmp_path / "source", frames, {"pixel_mask": mask_of(gaps), "pixel_mask_applied": 1})
    dead = [(3, 4), *gaps]
    found = correlated(tmp_path / "source", tmp_path / "archive")
    assert_true(found, truth(without(frames, dead), partition, dead=dead))
    assert found["dead_pixel_mask"].tolist() == [0] + [1] * len(gaps)
    with h5py.File(tmp_path / "source/scan.h5", "a") as file:
        del file[f"{DETECTOR}/pixel_mask"]
    eiger_scan(tmp_path / "source", photons(60), {}, "good")
    with pytest.raises(QuarantinedError):
        correlated(tmp_path / "source", tmp_path / "archive")
    assert f"dead-pixel values on {len(dead)} of 1920" in only_problem(tmp_path / "archive")["reason"]


def test_defective_pixels_are_left_out_without_a_mask(tmp_path: Path) -> None:
    """2^n - 2, in one frame or in all of them, is as little a count as 2^n - 1; so are gaps that were made floats."""
    for dtype, value in [*DEFECTIVE, ("f4", 2**32 - 1), ("f8", 2**31 - 1)]:
        frames, places = with_dead_pixels(dtype, value)
        frames[:, 20, 20] = value
        places.append((20, 20))
        partition = write_source(tmp_path / dtype, frames)
        expected = truth(without(frames, places), partition, dead=places)
        for ingest, form in EACH_WAY:
            found = correlated(tmp_path / dtype, tmp_path / f"{dtype} {ingest}", **forms(ingest, form))
            assert_true(found, expected)
            assert found["dead_pixels"].tolist() == sorted(y * 48 + x for y, x in places)


def test_what_is_not_acted_on_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {"pixel_mask": h5py.SoftLink("/nowhere"), "flatfield_correction_applied": 0}
    for scan_id in ("first", "second"):
        eiger_scan(tmp_path / "source", photons(60, seed=len(scan_id)), said, scan_id)
    Run(configure(tmp_path / "source", tmp_path / "archive"), until="correlate").execute()
    lines = " ".join(capsys.readouterr().out.split())
    assert "first, second: the file has pixel_mask, a link to what is not there (/nowhere): bad" in lines
    assert "; the file has flatfield_correction_applied 0: counts are not corrected" in lines
    with reading_group(tmp_path / "archive/correlation/first.zarr.zip") as group:
        assert group.attrs["detector_pixels"].count("not used: ") == 2
    assert "dead_pixel_mask" not in read_arrays(tmp_path / "archive", "first")


def test_masks_that_cannot_be_meant_harm_no_other_scan(tmp_path: Path) -> None:
    masks = {"narrow": np.zeros((40, 47), np.uint32), "whole": np.ones(SHAPE, np.uint32), "good": mask_of(HOT)}
    for seed, (scan_id, mask) in enumerate(masks.items()):
        eiger_scan(tmp_path / "source", photons(60, seed), {"pixel_mask": mask}, scan_id)
    with pytest.raises(QuarantinedError):
        correlated(tmp_path / "source", tmp_path / "archive", "good")
    reasons = (tmp_path / "archive/quarantine.jsonl").read_text(encoding="utf-8")
    assert "pixel_mask: expected whole numbers (40, 48), one a pixel, found uint32 (40, 47)" in reasons
    assert "expected good pixels in the partition, found all 1920 in the pixel_mask of the file" in reasons
    assert read_arrays(tmp_path / "archive", "good")["dead_pixel_mask"].tolist() == list(HOT.values())


def test_a_mask_that_changes_is_taken_up(tmp_path: Path) -> None:
    eiger_scan(tmp_path / "source", hot_photons(), {"pixel_mask": mask_of({(14, 16): 1})})
    for ingest in ("events", "none"):
        found = correlated(tmp_path / "source", tmp_path / ingest, ingest={"form": ingest})
        assert found["dead_pixels"].tolist() == [14 * 48 + 16]
    with h5py.File(tmp_path / "source/scan.h5", "a") as file:
        file[f"{DETECTOR}/pixel_mask"][33, 41] = 2
    for ingest in ("events", "none"):
        found = correlated(tmp_path / "source", tmp_path / ingest, ingest={"form": ingest})
        assert found["dead_pixel_mask"].tolist() == [1, 2]


def test_a_q_bin_that_is_masked_whole_harms_no_other(tmp_path: Path) -> None:
    partition = write_source(tmp_path / "whole", photons(60))
    expected = truth(photons(60), partition)
    eiger_scan(tmp_path / "source", photons(60), {"pixel_mask": np.uint32(partition.dynamic_roi_map == 2)})
    for ingest, form in EACH_WAY:
        found = correlated(tmp_path / "source", tmp_path / ingest, **forms(ingest, form))
        assert found["num_pixels"][1] == 0
        assert np.isnan(found["c2"][1]).all()
        for name in ("c2", "g2"):
            np.testing.assert_allclose(found[name][[0, 2]], expected[name][[0, 2]], rtol=1e-6)
