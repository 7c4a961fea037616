"""Scans that are correlated in parts, and q-bins in blocks of pixels: the same file, whatever comes between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ainerd_hpc.archive.journal import Journal
from ainerd_hpc.config import RunConfig
from ainerd_hpc.correlation.memory import Split, fewest_parts, peak_bytes
from ainerd_hpc.errors import PlanError, QuarantinedError
from ainerd_hpc.formats.hdf5.frames import Hdf5Frames
from ainerd_hpc.pipeline import Run
from ainerd_hpc.planning import line_of, plan
from ainerd_hpc.sources.discovery import discover
from ainerd_hpc.stages import correlate as correlate_stage
from ainerd_hpc.stages.correlate import Correlate
from ainerd_hpc.types import PROCESS_BYTES, Task
from tests.support.correlation_truth import (
    SHAPE,
    assert_true,
    configure,
    only_problem,
    photons,
    read_arrays,
    truth,
    write_source,
)

NUM_FRAMES = 200
SPLITS = [(2, 1), (3, 1), (3, 5)]
"""Parts of a scan of three q-bins, and blocks of each."""
SplitInto = Callable[[int, int], None]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dense and sparse q-bins, a bright pixel in one place late in the scan, a dead one, bad frames."""
    frames = photons(NUM_FRAMES, brightest=1000)
    frames[100] = 0
    frames[55, 14, 16] = 65535
    folder = tmp_path_factory.mktemp("split") / "source"
    write_source(folder, frames)
    return folder


@pytest.fixture
def split_into(monkeypatch: pytest.MonkeyPatch) -> SplitInto:
    """Divide scans so, whatever the memory."""

    def split(num_parts: int, num_blocks: int) -> None:
        monkeypatch.setattr(correlate_stage, "fewest_parts", lambda *sizes: Split(num_parts, num_blocks, 2**20))

    return split


def product(config: RunConfig) -> Path:
    return config.archive / "correlation" / "scan.zarr.zip"


def correlate(config: RunConfig) -> bytes:
    """The bytes of the product of a run; nothing but it is left."""
    Run(config, until="correlate").execute()
    assert [path.name for path in (config.archive / "correlation").iterdir()] == ["scan.zarr.zip"]
    return product(config).read_bytes()


def by_hand(config: RunConfig, chosen: Sequence[str]) -> list[str]:
    """Do these tasks of those that are to do, as a run that is killed then; the keys of all that were to do."""
    found = discover(config.source)
    line = line_of(config, Journal(config.archive), found)
    stage, tasks = line.stage("correlate"), line.plan("correlate", found.scans).tasks
    for task in tasks:
        if task.key in chosen:
            stage.run_task(task)
    return [task.key for task in tasks]


OPTIONS = {
    "plain": {},
    "static, dense": {"normalisation": "static", "form": "dense", "bad_frames": [7]},
    "events": {"form": "events", "frame_normalisation": True, "average_frames": 2, "begin_frame": 9},
    "ratio, pixels": {"g2_rule": "ratio", "static_weighting": "pixels", "lag_scheme": "scikit-beam"},
}


@pytest.mark.parametrize(("name", "ingest"), [*((name, "none") for name in OPTIONS), ("plain", "events")])
def test_parts_and_blocks_give_the_same_file(
    name: str, ingest: str, source: Path, tmp_path: Path, split_into: SplitInto
) -> None:
    sections = {"ingest": {"form": ingest}, "correlate": OPTIONS[name]}
    split_into(1, 1)
    whole = correlate(configure(source, tmp_path / "whole", **sections))
    for num_parts, num_blocks in SPLITS:
        split_into(num_parts, num_blocks)
        config = configure(source, tmp_path / f"{num_parts} {num_blocks}", **sections)
        assert correlate(config) == whole, f"{num_parts} parts, {num_blocks} blocks"


@pytest.mark.parametrize("ingest", ["none", "events"])
def test_parts_and_blocks_of_a_sparse_scan(ingest: str, tmp_path: Path, split_into: SplitInto) -> None:
    """Most entries of its C2 are 0; one q-bin is brighter than the others."""
    frames = np.random.default_rng(4).poisson(0.004, (100, *SHAPE)).astype(np.uint16)
    partition = write_source(tmp_path / "source", frames)
    frames[:, partition.dynamic_roi_map == 2] *= 3
    write_source(tmp_path / "source", frames)
    files = []
    for split in ((1, 1), (3, 1), (3, 3)):
        split_into(*split)
        config = configure(tmp_path / "source", tmp_path / str(split), ingest={"form": ingest})
        files.append(correlate(config))
    assert files[1] == files[0]
    assert files[2] == files[0]


def test_one_q_bin_in_blocks_of_pixels_bright_and_dim(tmp_path: Path, split_into: SplitInto) -> None:
    """Blocks whose products are made in different ways."""
    frames = photons(80)
    frames[:, 16:20, 12:16] += 500
    partition = write_source(tmp_path / "source", frames, num_q_bins=1, num_static=6)
    for form in ("dense", "auto"):
        files = []
        for num_blocks in (1, 2, 7):
            split_into(1, num_blocks)
            config = configure(tmp_path / "source", tmp_path / f"{form}{num_blocks}", correlate={"form": form})
            files.append(correlate(config))
        assert files[1] == files[0]
        assert files[2] == files[0]
    assert_true(read_arrays(config.archive), truth(frames.astype(float), partition))


def memory_for(config: RunConfig, num_parts: int, num_blocks: int) -> int:
    """The least memory of a worker that allows this division."""
    (scan,) = discover(config.source).scans
    tiles = Correlate(config).tiles(scan)
    return PROCESS_BYTES + peak_bytes(config, scan, tiles, -(-scan.num_q_bins // num_parts), num_blocks)


@pytest.mark.parametrize(("num_parts", "num_blocks"), [(1, 1), (2, 1), (3, 8)])
def test_less_memory_means_more_parts_and_the_same_file(num_parts: int, num_blocks: int, tmp_path: Path) -> None:
    # As events, which are ten bytes each, and beside a small C2: else blocks would save nothing.
    write_source(tmp_path / "source", photons(120), "contiguous")
    sections = {"ingest": {"form": "none"}, "correlate": {"form": "events"}}
    config = configure(tmp_path / "source", tmp_path / "low", **sections)
    memory = memory_for(config, num_parts, num_blocks)
    low = configure(tmp_path / "source", tmp_path / "low", executor={"kind": "inline", "memory": memory}, **sections)
    (scan,) = discover(low.source).scans
    assert fewest_parts(low, scan, Correlate(low).tiles(scan), memory - PROCESS_BYTES)[:2] == (num_parts, num_blocks)
    (planned,) = [one for one in plan(low) if one.stage == "correlate"]
    assert len(planned.tasks) == num_parts
    assert planned.peak_bytes <= memory
    assert correlate(low) == correlate(configure(tmp_path / "source", tmp_path / "high", **sections))


def test_no_memory_at_all_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    write_source(tmp_path / "source", photons(60))
    executor = {"kind": "inline", "memory": PROCESS_BYTES + 2**20}
    config = configure(tmp_path / "source", tmp_path / "archive", ingest={"form": "none"}, executor=executor)
    with pytest.raises(PlanError, match=r"correlate: task scan is projected to need .*raise executor\.memory"):
        correlate(config)


def test_two_threads_give_the_same_file(source: Path, tmp_path: Path, split_into: SplitInto) -> None:
    split_into(1, 1)
    whole = correlate(configure(source, tmp_path / "whole"))
    for num_parts, num_blocks in [(1, 1), (2, 1), (3, 2)]:
        split_into(num_parts, num_blocks)
        executor = {"kind": "inline", "memory": "4 GB", "threads": 2}
        assert correlate(configure(source, tmp_path / f"{num_parts}", executor=executor)) == whole


def test_dask_workers_give_the_same_file(source: Path, tmp_path: Path, split_into: SplitInto) -> None:
    split_into(1, 1)
    whole = correlate(configure(source, tmp_path / "whole"))
    split_into(3, 1)
    executor = {"kind": "local", "memory": "1 GB", "workers": 2}
    assert correlate(configure(source, tmp_path / "local", executor=executor)) == whole


@pytest.fixture
def archives(source: Path, tmp_path: Path, split_into: SplitInto) -> tuple[RunConfig, bytes]:
    """A config whose counts are ingested, and the bytes of the product it should give."""
    split_into(1, 1)
    whole = correlate(configure(source, tmp_path / "whole"))
    config = configure(source, tmp_path / "archive")
    Run(config, until="ingest").execute()
    return config, whole


def test_only_a_part_that_is_missing_is_made_again(archives: tuple[RunConfig, bytes], split_into: SplitInto) -> None:
    config, whole = archives
    split_into(3, 1)
    every = ["scan/0of3", "scan/1of3", "scan/2of3"]
    assert by_hand(config, every) == every
    Correlate(config).product("scan/1of3").unlink()
    run = Run(config, until="correlate")
    run.execute()
    assert [report.num_done for report in run.reports] == [0, 1]
    assert product(config).read_bytes() == whole
    assert not list(config.archive.glob("correlation/*.parts"))
    again = Run(config, until="correlate")
    again.execute()
    assert [report.num_done for report in again.reports] == [0, 0]


@pytest.mark.parametrize("last", [(3, 1), (2, 1), (1, 1), (3, 3)])
def test_memory_may_change_between_two_runs(
    last: tuple[int, int], archives: tuple[RunConfig, bytes], split_into: SplitInto
) -> None:
    """Parts of another division, begun earlier or later, do no harm."""
    config, whole = archives
    for num_parts, done in ((2, ["scan/0of2"]), (3, ["scan/0of3", "scan/1of3"]), (2, ["scan/1of2"])):
        split_into(num_parts, 1)
        by_hand(config, done)
    split_into(*last)
    assert correlate(config) == whole


def test_parts_of_other_options_are_never_joined(
    archives: tuple[RunConfig, bytes], source: Path, split_into: SplitInto
) -> None:
    config, whole = archives
    other = configure(source, config.archive, correlate={"delays_per_level": 3})
    split_into(3, 1)
    by_hand(other, ["scan/0of3", "scan/1of3", "scan/2of3"])
    by_hand(config, ["scan/0of3"])
    assert correlate(config) == whole


def test_a_joined_product_is_done_whatever_was_there_before(
    archives: tuple[RunConfig, bytes], source: Path, tmp_path: Path, split_into: SplitInto
) -> None:
    config, whole = archives
    options = {"delays_per_level": 3}
    other = configure(source, config.archive, correlate=options)
    split_into(1, 1)
    expected = correlate(configure(source, tmp_path / "other", correlate=options))
    assert correlate(config) == whole
    split_into(3, 1)
    assert correlate(other) == expected
    run = Run(other, until="correlate")
    run.execute()
    assert [report.num_done for report in run.reports] == [0, 0]
    split_into(1, 1)
    assert correlate(config) == whole  # the file holds the others' product now, whatever the journal remembers
    assert correlate(other) == expected


def test_a_run_killed_before_its_parts_were_joined_is_not_finished(
    archives: tuple[RunConfig, bytes], split_into: SplitInto
) -> None:
    config, whole = archives
    split_into(2, 1)
    by_hand(config, ["scan/0of2", "scan/1of2"])
    with pytest.raises(PlanError, match="expected `correlate` to be finished"):
        Run(config, "maps", "maps").execute()
    assert not config.archive.joinpath("quarantine.jsonl").read_text(encoding="utf-8")
    assert correlate(config) == whole


def _dead_in_one_q_bin(frames: np.ndarray, y: np.ndarray, x: np.ndarray) -> None:
    """More than a tenth of its pixels, a thirtieth of all."""
    frames[17, y[:60], x[:60]] = 65535


def _dark_q_bin(frames: np.ndarray, y: np.ndarray, x: np.ndarray) -> None:
    frames[:, y, x] = 0


def _dark_and_dead_blocks(frames: np.ndarray, y: np.ndarray, x: np.ndarray) -> None:
    frames[3, y[100:150], x[100:150]] = 65535
    frames[:, y[200:300], x[200:300]] = 0


@pytest.mark.parametrize("split", [(3, 1), (3, 12)])
@pytest.mark.parametrize("damage", [_dead_in_one_q_bin, _dark_q_bin, _dark_and_dead_blocks])
def test_what_is_good_as_a_whole_is_good_in_parts(
    damage: Callable[..., None], split: tuple[int, int], tmp_path: Path, split_into: SplitInto
) -> None:
    frames = photons(60) + np.uint16(1)
    partition = write_source(tmp_path / "source", frames, num_static=1)
    damage(frames, *np.nonzero(partition.dynamic_roi_map == 3))
    write_source(tmp_path / "source", frames, num_static=1)
    split_into(1, 1)
    whole = correlate(configure(tmp_path / "source", tmp_path / "whole"))
    split_into(*split)
    assert correlate(configure(tmp_path / "source", tmp_path / "parts")) == whole


@pytest.mark.parametrize("split", [(1, 1), (3, 1), (3, 4)])
@pytest.mark.parametrize(("place", "words"), [((9, slice(None), slice(0, 6)), "dead-pixel"), (slice(None), "photons")])
def test_what_is_bad_as_a_whole_is_bad_in_parts(
    place: Any, words: str, split: tuple[int, int], tmp_path: Path, split_into: SplitInto
) -> None:
    frames = photons(60)
    frames[place] = 65535 if words == "dead-pixel" else 0
    write_source(tmp_path / "source", frames)
    split_into(*split)
    with pytest.raises(PlanError, match=words):
        correlate(configure(tmp_path / "source", tmp_path / "archive"))
    assert not (tmp_path / "archive" / "correlation" / "scan.zarr.zip").exists()


def test_a_scan_that_fails_in_each_part_is_one_scan(tmp_path: Path, split_into: SplitInto) -> None:
    frames = photons(60)
    frames[5, ::3] = 65535
    write_source(tmp_path / "source", frames)
    write_source(tmp_path / "source", photons(60), scan_id="good")
    split_into(3, 1)
    config = configure(tmp_path / "source", tmp_path / "archive")
    for _ in range(2):
        run = Run(config, until="correlate")
        with pytest.raises(QuarantinedError, match="1 scans are in quarantine"):
            run.execute()
        assert only_problem(config.archive)["scan_id"] == "scan"
        assert run.reports[1].num_quarantined == 1
        assert [path.name for path in (config.archive / "correlation").glob("*.zip")] == ["good.zarr.zip"]


@pytest.mark.parametrize(("num_parts", "num_blocks"), [(1, 1), (3, 1), (3, 4)])
@pytest.mark.parametrize("options", [{}, {"frame_normalisation": True}], ids=str)
def test_frames_are_read_as_often_as_planned(
    options: dict[str, Any],
    num_parts: int,
    num_blocks: int,
    tmp_path: Path,
    split_into: SplitInto,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_source(tmp_path / "source", photons(400))
    split_into(num_parts, num_blocks)
    config = configure(tmp_path / "source", tmp_path / "archive", ingest={"form": "none"}, correlate=options)
    tasks = next(planned for planned in plan(config) if planned.stage == "correlate").tasks
    assert len(tasks) == num_parts
    numbers: list[int] = []
    read = Hdf5Frames.read

    def counting(self: Hdf5Frames, start: int, stop: int, step: int = 1) -> np.ndarray:
        numbers.extend(range(start, min(stop, self.shape[0]), step))
        return read(self, start, stop, step)

    monkeypatch.setattr(Hdf5Frames, "read", counting)
    stage = Correlate(config)
    Run(config, until="ingest").execute()
    for task in tasks:
        numbers.clear()
        stage.run_task(task)
        assert len(numbers) <= task.read_bytes / (2 * SHAPE[0] * SHAPE[1]) + samples(task)
        assert np.bincount(numbers, minlength=400).min() >= 1


def samples(task: Task) -> int:
    """Frames that are read to see how dense they are: 24 once for the task, and before each reading of all."""
    return 24 * (2 if task.args["blocks"] == 1 else 2 * int(task.args["blocks"]) + 1)
