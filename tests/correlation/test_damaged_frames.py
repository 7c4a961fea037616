"""Frames that cannot be read are bad frames, with their own reason; the rest of the scan is as without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from ainerd_hpc.archive.groups import reading_group
from ainerd_hpc.config import CorrectConfig, SourceConfig
from ainerd_hpc.correlation.bad_frames import REASONS
from ainerd_hpc.errors import PlanError
from ainerd_hpc.formats.partitions.partition import Partition
from ainerd_hpc.pipeline import Run
from tests.correlation.test_correlate import EACH_WAY, forms
from tests.formats import test_imm as imm
from tests.formats.test_image_series import edf
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

NUM_FRAMES = 240
DAMAGED = REASONS.index("damaged")


def spoil(path: Path, offset: int, size: int) -> None:
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * size)


def spoil_chunks(path: Path, frames: Sequence[int]) -> None:
    """Overwrite the chunks of HDF5 in which these frames are."""
    with h5py.File(path, "r") as file:
        dataset = file["entry/data/data"]
        every = [dataset.id.get_chunk_info(number) for number in range(dataset.id.get_num_chunks())]
        length = dataset.chunks[0]
    for chunk in every:
        if any(chunk.chunk_offset[0] <= frame < chunk.chunk_offset[0] + length for frame in frames):
            spoil(path, chunk.byte_offset, chunk.size)


def damaged_source(folder: Path, frames: np.ndarray, bad: Sequence[int], place: str = "bitshuffle") -> Partition:
    partition = write_source(folder, frames, place)
    spoil_chunks(folder / "scan.h5", bad)
    return partition


@pytest.mark.parametrize(("ingest", "form"), EACH_WAY)
def test_damaged_frames_are_left_out_like_other_bad_ones(ingest: str, form: str, tmp_path: Path) -> None:
    frames = photons(NUM_FRAMES)
    partition = damaged_source(tmp_path / "source", frames, [17, 130])
    found = correlated(tmp_path / "source", tmp_path / "archive", **forms(ingest, form))
    assert_true(found, truth(frames, partition, bad=[17, 130]))
    assert np.flatnonzero(found["is_bad_frame"]).tolist() == [17, 130]
    assert found["bad_frame_reason"][[17, 130]].tolist() == [DAMAGED] * 2
    assert len(found["dead_pixels"]) == 0
    with reading_group(tmp_path / "archive" / "correlation" / "scan.zarr.zip") as group:
        assert group["bad_frame_reason"].attrs["meanings"] == list(REASONS)
    write_source(tmp_path / "sound", frames)
    named = correlated(tmp_path / "sound", tmp_path / "listed", **forms(ingest, form, bad_frames=[17, 130]))
    assert_same(found, named, but=["bad_frame_reason", "method", "c2_unnormalized"])


def test_chunks_of_several_frames_lose_just_these_and_parts_agree(tmp_path: Path) -> None:
    """Averaged frames are bad where one of theirs is; frames beyond the selection do not count."""
    frames = photons(NUM_FRAMES)
    partition = damaged_source(tmp_path / "source", frames, [70, 239], "gzip, 7 frames")
    options = {"average_frames": 2, "end_frame": 238}
    leave_out = {"damaged_frames": "leave_out"}
    found = correlated(tmp_path / "source", tmp_path / "archive", correct=leave_out, **forms("none", "auto", **options))
    summed = frames[:238].reshape(119, 2, *SHAPE).sum(axis=1)
    assert np.flatnonzero(found["bad_frame_reason"] == DAMAGED).tolist() == [35, 36, 37, 38]
    assert_true(found, truth(summed, partition, bad=range(35, 39), average=2))
    correct = {**leave_out, "hot_pixels": 1000.0}  # looked at as a whole, before
    seen = correlated(tmp_path / "source", tmp_path / "seen", correct=correct, **forms("none", "auto", **options))
    assert_same(seen, found)


def test_more_than_one_in_a_hundred_is_refused_unless_asked_for(tmp_path: Path) -> None:
    frames = photons(NUM_FRAMES)
    partition = damaged_source(tmp_path / "source", frames, [5, 6, 200])
    for ingest in ("none", "frames"):
        with pytest.raises(PlanError):
            correlated(tmp_path / "source", tmp_path / ingest, **forms(ingest, "auto"))
        reason = only_problem(tmp_path / ingest)["reason"]
        assert "expected at most 1% of 240 frames damaged, found more" in reason
        assert "correct.damaged_frames: leave_out" in reason
        found = correlated(
            tmp_path / "source", tmp_path / ingest, correct={"damaged_frames": "leave_out"}, **forms(ingest, "auto")
        )
        assert_true(found, truth(frames, partition, bad=[5, 6, 200]))
    damaged_source(tmp_path / "single", frames, [5])
    with pytest.raises(PlanError):
        correlated(
            tmp_path / "single", tmp_path / "refused", correct={"damaged_frames": "refuse"}, **forms("none", "auto")
        )
    assert "frame 5" in only_problem(tmp_path / "refused")["reason"]


def test_the_key_enters_digests_only_where_it_is_set() -> None:
    plain = CorrectConfig().model_dump(mode="json")
    assert "damaged_frames" not in plain
    assert CorrectConfig(damaged_frames="refuse").model_dump(mode="json")["damaged_frames"] == "refuse"
    assert CorrectConfig().marks != CorrectConfig(damaged_frames="leave_out").marks


def as_zarr(folder: Path, frames: np.ndarray, bad: int) -> None:
    zarr.create_array(folder / "scan.zarr", name="data", data=frames, chunks=(1, *SHAPE), zarr_format=2)
    (folder / "scan.zarr" / "data" / f"{bad}.0.0").write_bytes(b"\xff" * 40)


def as_imm(folder: Path, frames: np.ndarray, bad: int) -> None:
    """A header of a dense file that makes no sense."""
    header = imm.header(frames[0].size, False, rows=SHAPE[0], columns=SHAPE[1])
    (folder / "scan.imm").write_bytes(b"".join(header + frame.astype("<u2").tobytes() for frame in frames))
    spoil(folder / "scan.imm", bad * (len(header) + 2 * frames[0].size), 200)


def as_sparse_imm(folder: Path, frames: np.ndarray, bad: int) -> None:
    """Events on pixels that the detector does not have."""
    content, place = b"", 0
    for number, frame in enumerate(frames.reshape(len(frames), -1)):
        pixel = np.flatnonzero(frame).astype("<u4")
        header = imm.header(len(pixel), True, rows=SHAPE[0], columns=SHAPE[1])
        place = len(content) + len(header) if number == bad else place
        content += header + pixel.tobytes() + frame[pixel].astype("<u2").tobytes()
    (folder / "scan.imm").write_bytes(content)
    spoil(folder / "scan.imm", place, 40)


def as_images(folder: Path, frames: np.ndarray, bad: int) -> None:
    for number, frame in enumerate(frames):
        (folder / f"scan_{number:05d}.edf").write_bytes(b"gone" if number == bad else edf(frame))


@pytest.mark.parametrize("write", [as_zarr, as_imm, as_sparse_imm, as_images])
def test_every_format_leaves_out_what_it_cannot_read(
    write: Callable[[Path, np.ndarray, int], None], tmp_path: Path
) -> None:
    frames = photons(NUM_FRAMES).astype(np.uint16)
    partition = write_source(tmp_path / "source", frames)
    (tmp_path / "source" / "scan.h5").unlink()
    write(tmp_path / "source", frames, 33)
    source = {"path": tmp_path / "source", "dataset": "data", "frame_time": 0.01}
    config = configure(tmp_path / "source", tmp_path / "archive", **forms("none", "auto"))
    Run(config.model_copy(update={"source": SourceConfig.model_validate(source)}), until="correlate").execute()
    (product,) = (tmp_path / "archive" / "correlation").glob("*.zarr.zip")
    found = read_arrays(tmp_path / "archive", product.name.removesuffix(".zarr.zip"))
    assert np.flatnonzero(found["bad_frame_reason"]).tolist() == [33]
    assert found["bad_frame_reason"][33] == DAMAGED
    assert_true(found, truth(frames, partition, bad=[33]))
