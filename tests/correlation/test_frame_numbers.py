"""A scan with lost and swapped frames is the whole scan without the lost ones: the same C2, g2 and delays."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from ainerd_hpc.archive.groups import reading_group
from ainerd_hpc.config import SourceConfig
from ainerd_hpc.sources.discovery import discover
from tests.formats.test_imm import sparse_frame
from tests.support.correlation_truth import FRAME_TIME, SHAPE, Arrays, correlated, write_source

FRAMES = np.random.default_rng(11).poisson(0.4, (40, *SHAPE)).astype(np.uint16)
LOST, AVERAGED = [7, 8, 21, 36], {"average_frames": 2}
ORDER = [number for number in range(40) if number not in LOST]
ORDER[3], ORDER[4], ORDER[30], ORDER[31] = ORDER[4], ORDER[3], ORDER[31], ORDER[30]


def write_imm(path: Path, order: list[int], elapsed: float = FRAME_TIME) -> None:
    """Sparse frames with their numbers and a clock."""
    body = []
    for number in order:
        flat = FRAMES[number].ravel()
        events = [(0, int(pixel), int(flat[pixel])) for pixel in np.flatnonzero(flat)]
        clock = {"number": 1000 + number, "elapsed": 5e3 + elapsed * number}
        body.append(sparse_frame(events, rows=SHAPE[0], columns=SHAPE[1], **clock))
    path.write_bytes(b"".join(body))


def write_lossy(folder: Path, kind: str) -> None:
    """The scan as somebody wrote it who lost and swapped frames."""
    write_source(folder, FRAMES[ORDER])
    if kind == "imm":
        (folder / "scan.h5").unlink()
        write_imm(folder / "scan.imm", ORDER)
        return
    with h5py.File(folder / "scan.h5", "a") as file:
        file["entry/data/frame_id"] = np.array(ORDER, np.uint32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Arrays]:
    """The whole scan, with the lost frames declared bad."""
    folder = tmp_path_factory.mktemp("whole")
    write_source(folder / "raw", FRAMES)
    return {
        name: correlated(folder / "raw", folder / name, correlate={"bad_frames": LOST, **options})
        for name, options in (("single", {}), ("averaged", AVERAGED))
    }


@pytest.mark.parametrize(
    ("kind", "form", "name"),
    [
        ("imm", "none", "single"),
        ("imm", "events", "single"),
        ("hdf5", "none", "single"),
        ("hdf5", "frames", "averaged"),
        ("hdf5", "events", "averaged"),
    ],
)
def test_lost_and_swapped_frames(tmp_path: Path, whole: dict[str, Arrays], kind: str, form: str, name: str) -> None:
    write_lossy(tmp_path / "raw", kind)
    options = AVERAGED if name == "averaged" else {}
    found = correlated(tmp_path / "raw", tmp_path / "arch", correlate=options, ingest={"form": form})
    expected = whole[name]
    for array in ("c2", "g2", "g2_err", "g2_c2", "g2_window", "delay", "intensity", "is_bad_frame", "saxs_2d", "tau"):
        np.testing.assert_array_equal(found[array], expected[array], err_msg=array)
    bad = sorted({frame // (2 if options else 1) for frame in LOST})
    assert np.flatnonzero(found["bad_frame_reason"] == 5).tolist() == bad
    with reading_group(tmp_path / "arch/correlation/scan.zarr.zip") as group:
        assert group["bad_frame_reason"].attrs["meanings"][5] == "missing"
        assert group.attrs["missing"] == "4 frames (7..8, 21, 36)"
        assert str(group.attrs["notes"]).startswith("not stored in the order of its numbers (first: frame 4 of the")


def test_what_was_put_in_order_is_told(tmp_path: Path) -> None:
    write_lossy(tmp_path / "raw", "imm")
    found = discover(SourceConfig(path=tmp_path / "raw"))
    assert found.notes == (
        "not in any file, left out: of scan (4 frames (7..8, 21, 36))",
        "scan: not stored in the order of its numbers (first: frame 4 of the file): put in order",
    )
    assert found.scans[0].num_frames == 40


def test_the_clock_gives_the_period_and_one_that_the_metadata_contradict_is_told(tmp_path: Path) -> None:
    write_lossy(tmp_path / "raw", "imm")
    (tmp_path / "raw/scan_metadata.hdf").unlink()
    (scan,) = discover(SourceConfig(path=tmp_path / "raw")).scans
    assert scan.frame_time == pytest.approx(FRAME_TIME, rel=1e-9)
    write_lossy(tmp_path / "other", "imm")
    write_imm(tmp_path / "other/scan.imm", ORDER, 0.012)
    (scan,) = discover(SourceConfig(path=tmp_path / "other")).scans
    assert scan.frame_time == FRAME_TIME
    assert "frame period 0.01 s by its metadata, which is taken, 0.012 s by the frames themselves" in scan.notes


def test_a_clock_that_is_of_no_use_is_told_where_a_period_is_missing(tmp_path: Path) -> None:
    write_lossy(tmp_path, "imm")
    (tmp_path / "scan_metadata.hdf").unlink()
    write_imm(tmp_path / "scan.imm", list(range(20)), 0.001)
    content = bytearray((tmp_path / "scan.imm").read_bytes())
    content[136:144] = np.float64(0.004).tobytes()  # the exposure
    (tmp_path / "scan.imm").write_bytes(content)
    (problem,) = discover(SourceConfig(path=tmp_path)).problems
    words = "found none (its clock gives a period of 0.001 s, with an exposure of 0.004 s: not used); give source."
    assert words in problem.reason


def test_scans_in_order_are_what_they_were(tmp_path: Path) -> None:
    """Numbers that say nothing new change nothing, and nothing is told."""
    write_source(tmp_path / "raw", FRAMES)
    (before,) = discover(SourceConfig(path=tmp_path / "raw")).scans
    shutil.copytree(tmp_path / "raw", tmp_path / "other")
    with h5py.File(tmp_path / "other/scan.h5", "a") as file:
        file["entry/data/uid"] = np.arange(40) + 77
    found = discover(SourceConfig(path=tmp_path / "other"))
    assert (found.notes, found.scans[0].missing, found.scans[0].notes) == ((), "", "")
    assert found.scans[0].num_frames == before.num_frames
