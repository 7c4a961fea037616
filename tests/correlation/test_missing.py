"""What no file holds of a scan is left out of its correlation: against the plain truth of what is there."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from ainerd_hpc.archive.groups import reading_group
from ainerd_hpc.correlation.bad_frames import REASONS
from ainerd_hpc.formats.zarr.arrays import AinerdFrames
from tests.support.correlation_truth import SHAPE, assert_true, correlated, photons, truth, write_source

NUM_FRAMES = 100
MODULES = [(slice(0, 20), 0, 96), (slice(20, 32), 3, 100)]
"""Rows of each module, and its frames; a third one has no file."""
LOST = [0, 1, 2, 96, 97, 98, 99]
UNSEEN = [(y, x) for y in range(32, 40) for x in range(SHAPE[1])]


def write_holes(folder: Path, frames: np.ndarray, fill: int):
    """The scan of `write_source` as a virtual dataset of modules."""
    partition = write_source(folder, frames)
    layout = h5py.VirtualLayout(frames.shape, frames.dtype)
    for number, (rows, start, stop) in enumerate(MODULES):
        (folder / "modules").mkdir(exist_ok=True)
        with h5py.File(folder / "modules" / f"{number}.h5", "w") as file:
            file["m"] = frames[start:stop, rows]
            layout[start:stop, rows] = h5py.VirtualSource(f"modules/{number}.h5", "m", file["m"].shape)
    with h5py.File(folder / "scan.h5", "w") as file:
        file.create_virtual_dataset("entry/data/data", layout, fillvalue=fill)
    return partition


@pytest.mark.parametrize("form", ["none", "frames", "events"])
@pytest.mark.parametrize("fill", [0, 65535], ids=["dark", "dead"])
def test_holes_are_bad_frames_and_pixels_left_out(form: str, fill: int, tmp_path: Path, capsys) -> None:
    """Whatever the holes are filled with: counts of 0, or the value of dead pixels."""
    frames = photons(NUM_FRAMES)
    partition = write_holes(tmp_path / "source", frames, fill)
    found = correlated(tmp_path / "source", tmp_path / "archive", ingest={"form": form})
    assert_true(found, truth(frames.astype(float), partition, bad=LOST, dead=UNSEEN))
    assert np.flatnonzero(found["bad_frame_reason"] == REASONS.index("missing")).tolist() == LOST
    on_mask = [y * SHAPE[1] + x for y, x in UNSEEN if partition.dynamic_roi_map[y, x]]
    assert found["missing_pixels"].tolist() == on_mask
    assert not len(found["dead_pixels"])
    text = f"7 frames (0..2, 96..99) and {len(UNSEEN)} pixels of all frames"
    with reading_group(tmp_path / "archive" / "correlation" / "scan.zarr.zip") as group:
        assert group.attrs["missing"] == text
        assert group["bad_frame_reason"].attrs["meanings"] == list(REASONS[: REASONS.index("missing") + 1])
    assert f"not in any file, left out: of scan ({text})" in " ".join(capsys.readouterr().out.split())
    if form != "none":
        product = tmp_path / "archive" / "frames" / "scan.zarr.zip"
        with AinerdFrames.open(product) as stored:
            assert stored.missing.frames.tolist() == LOST
            assert len(stored.missing.pixels) == len(UNSEEN)


def test_a_sum_of_frames_lacks_what_one_of_them_lacks(tmp_path: Path) -> None:
    frames = photons(NUM_FRAMES)
    partition = write_holes(tmp_path / "source", frames, 65535)
    options = {"begin_frame": 2, "average_frames": 4}
    found = correlated(tmp_path / "source", tmp_path / "archive", ingest={"form": "none"}, correlate=options)
    summed = frames[2:98].reshape(24, 4, *SHAPE).sum(axis=1, dtype=np.float64)
    assert_true(found, truth(summed, partition, bad=[0, 23], dead=UNSEEN, average=4))


def test_a_sound_scan_says_nothing_of_it(tmp_path: Path) -> None:
    write_source(tmp_path / "source", photons(20))
    found = correlated(tmp_path / "source", tmp_path / "archive", ingest={"form": "frames"})
    assert "missing_pixels" not in found
    with reading_group(tmp_path / "archive" / "correlation" / "scan.zarr.zip") as group:
        assert "missing" not in group.attrs
        assert group["bad_frame_reason"].attrs["meanings"] == ["good", "listed", "monitor", "dark", "outlier"]
    with reading_group(tmp_path / "archive" / "frames" / "scan.zarr.zip") as group:
        assert sorted(group.array_keys()) == ["frames"]
