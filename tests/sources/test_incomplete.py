"""Files that look like scans and are none as they are: each is counted, named with its shape, or taken as asked."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.config import SourceConfig
from ainerd_hpc.errors import QuarantinedError
from ainerd_hpc.pipeline import Run
from ainerd_hpc.sources.discovery import Discovery, discover
from tests.formats.test_eiger import write_header, write_scan
from tests.support.correlation_truth import (
    SHAPE,
    assert_same,
    configure,
    correlated,
    only_problem,
    photons,
    read_arrays,
    write_source,
)

FRAMES = "entry/data/data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good scan, with its partition."""
    write_source(tmp_path / "source", photons(12), scan_id="good")
    return tmp_path / "source"


def put(path: Path, values: np.ndarray, name: str = FRAMES) -> None:
    with h5py.File(path, "a") as file:
        file[name] = values


def found_in(folder: Path, **more: object) -> Discovery:
    return discover(SourceConfig(path=folder, frame_time=0.1, **more))


@pytest.mark.parametrize(
    ("values", "name", "reason"),
    [
        (np.ones(SHAPE, "u2"), FRAMES, r"odd.h5: expected frames in time, found a single one of (40, 48)"),
        (np.ones((1, *SHAPE), "u2"), FRAMES, r"odd.h5: expected frames in time, found a single one of (40, 48)"),
        (np.ones((40, 9)), FRAMES, r"odd.h5:/entry/data/data: expected counts (t, y, x), found float64 (40, 9)"),
        (np.ones((2, 9, *SHAPE), "u2"), FRAMES, r"expected counts (t, y, x), found uint16 (2, 9, 40, 48)"),
        (np.ones((3, *SHAPE), "u2"), "1.1/img", "at a place that is known, found uint16 (3, 40, 48) at /1.1/img"),
        (np.ones((3, 2, *SHAPE), "u4"), "a/b", "at a place that is known, found uint32 (3, 2, 40, 48) at /a/b"),
    ],
)  # fmt: skip
def test_a_file_that_looks_like_a_scan_is_one_problem(folder: Path, values, name: str, reason: str) -> None:
    put(folder / "odd.h5", values, name)
    found = found_in(folder)
    (problem,) = found.problems
    assert problem.scan_id == "odd"
    assert reason in problem.reason
    assert not found.ignored


def test_other_hdf5_is_left_aside_as_before(folder: Path) -> None:
    put(folder / "table.h5", np.ones((5, 3)), "entry/table")
    found = found_in(folder)
    assert not found.problems
    assert [path.name for path, _ in found.ignored] == ["table.h5"]


def test_the_exit_code_tells(folder: Path, tmp_path: Path) -> None:
    put(folder / "odd.h5", np.ones(SHAPE, "u2"))
    with pytest.raises(QuarantinedError):
        Run(configure(folder, tmp_path / "archive"), until="correlate").execute()
    assert "found a single one of (40, 48)" in only_problem(tmp_path / "archive")["reason"]
    assert len(read_arrays(tmp_path / "archive", "good")["lag"])


def test_a_master_of_damaged_images_is_one_problem(folder: Path) -> None:
    master = write_scan(folder, np.ones((20, *SHAPE), "u2"), 1)
    for number in range(1, 21):
        path = folder / f"run_7_data_{number:06d}.h5"
        path.unlink()
        put(path, np.ones(SHAPE, "f4"))
    found = found_in(folder)
    assert [problem.scan_id for problem in found.problems] == [master.stem]
    assert "expected counts (t, y, x), found float32 (40, 48)" in found.problems[0].reason
    assert not found.ignored


def test_a_threshold_is_chosen(folder: Path, tmp_path: Path) -> None:
    """The first by default, which is said; each gives what a scan of its frames alone gives."""
    low = photons(30)
    high = (low // 2).astype(np.uint16)
    put(folder / "scan.h5", np.stack([low, high], axis=1))
    (folder / "good_metadata.hdf").rename(folder / "scan_metadata.hdf")
    (folder / "good.h5").unlink()
    archive = tmp_path / "archive"  # one archive: another threshold is made anew
    for number, frames in ((1, low), (2, high)):
        write_source(tmp_path / f"alone{number}", frames)
        expected = correlated(tmp_path / f"alone{number}", tmp_path / f"expected{number}", ingest={"form": "none"})
        config = configure(folder, archive, ingest={"form": "none"})
        source = SourceConfig(path=folder, threshold=number)
        Run(config.model_copy(update={"source": source}), until="correlate").execute()
        assert_same(read_arrays(archive), expected)
        assert Archive(archive).read_catalog()[0].format == ("aps-hdf5" if number == 1 else "aps-hdf5@2")
    found = found_in(folder)
    assert "1 scans have up to 2 thresholds: number 1 is taken of each (source.threshold)" in found.notes
    (problem,) = found_in(folder, threshold=3).problems
    assert "expected threshold 3, found 2 of them; correct source.threshold" in problem.reason


def test_another_threshold_with_a_mask_of_its_own_is_another_scan(folder: Path) -> None:
    (folder / "good.h5").unlink()
    both = np.stack([photons(30)] * 2, axis=1)
    digests = set()
    for masked in ((), (1,), (2,), (1, 2)):
        (folder / "scan.h5").unlink(missing_ok=True)
        put(folder / "scan.h5", both)
        for number in masked:
            channel = f"entry/instrument/detector/threshold_{number}_channel"
            put(folder / "scan.h5", np.eye(*SHAPE, dtype="u4"), f"{channel}/pixel_mask")
        for number in (1, 2):
            (scan,) = found_in(folder, threshold=number).scans
            assert scan.pixels == (
                f"pixel_mask of /entry/instrument/detector/threshold_{number}_channel" if number in masked else ""
            )
            digests.add((number, number in masked, scan.digest))
    assert len({digest for *_, digest in digests}) == len(digests)


def test_an_aborted_run_is_refused_or_taken(folder: Path) -> None:
    (folder / "good.h5").unlink()
    master = write_scan(folder, np.ones((12, *SHAPE), "u2"))
    (folder / "run_7_data_000003.h5").unlink()
    refused = found_in(folder)
    (problem,) = refused.problems
    assert "expected the linked file" in problem.reason
    assert "or take what is there: source.incomplete: take" in problem.reason
    taken = found_in(folder, incomplete="take")
    assert not taken.problems
    (scan,) = taken.scans
    assert (scan.scan_id, scan.num_frames) == ("run_7", 8)
    assert scan.missing == "all that was to follow frame 7"
    assert taken.notes == ("not in any file, left out: of run_7 (all that was to follow frame 7)",)
    write_scan(folder, np.ones((12, *SHAPE), "u2"))  # the file came after all
    whole = discover(SourceConfig(path=folder, incomplete="take"), {one.path: one for one in taken.records})
    assert (whole.scans[0].num_frames, whole.scans[0].missing) == (12, "")
    assert whole.scans[0].digest != scan.digest
    assert Path(whole.scans[0].source) == master


def test_a_file_that_comes_into_another_folder_is_seen(folder: Path) -> None:
    """The master and its folder stay as they are."""
    (folder / "good.h5").unlink()
    (folder / "data").mkdir()
    with h5py.File(folder / "run_master.h5", "w") as file:
        write_header(file, 8)
        for number in (1, 2):
            file[f"entry/data/data_{number:06d}"] = h5py.ExternalLink(f"data/run_{number}.h5", FRAMES)
    put(folder / "data" / "run_1.h5", np.ones((4, *SHAPE), "u2"))
    before = found_in(folder)
    assert len(before.problems) == 1
    put(folder / "data" / "run_2.h5", np.ones((4, *SHAPE), "u2"))
    after = discover(SourceConfig(path=folder), {one.path: one for one in before.records})
    assert not after.problems
    assert [scan.num_frames for scan in after.scans] == [8]
