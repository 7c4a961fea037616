"""Which frames are correlated, and which tiles of C2 are made."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ainerd_hpc.config import CorrelateConfig, MapsConfig
from ainerd_hpc.correlation.selection import Selection, as_correlated, selection
from ainerd_hpc.correlation.tiles import SHORTEST_WINDOW, Tiles, tiles_for, window_lengths
from ainerd_hpc.kernels.windows import window_starts
from ainerd_hpc.types import Content, Scan

SCAN = Scan("scan", "scan.h5", "aps-hdf5", Content.FRAMES, 100, 40, 48, 2, 3, frame_time=0.5, start_time=1000.0)

selections = st.builds(
    CorrelateConfig,
    begin_frame=st.integers(-60, 60),
    end_frame=st.one_of(st.none(), st.integers(-60, 60)),
    stride_frames=st.integers(1, 5),
    average_frames=st.integers(1, 5),
)


def groups_truth(config: CorrelateConfig, num_frames: int) -> list[list[int]]:
    """The frames of the file that make each frame of the selection."""
    frames = list(range(num_frames))[config.begin_frame : config.end_frame]
    span = config.stride_frames * config.average_frames
    return [frames[i : i + span : config.stride_frames] for i in range(0, len(frames) // span * span, span)]


@given(selections, st.integers(0, 50))
def test_a_selection_is_a_slice_in_groups(config: CorrelateConfig, num_frames: int) -> None:
    chosen, groups = selection(config, num_frames), groups_truth(config, num_frames)
    assert chosen.num_frames == len(groups)
    assert (chosen.stride, chosen.average) == (config.stride_frames, config.average_frames)
    assert all(len(group) == config.average_frames for group in groups)
    if groups:
        assert chosen.first == groups[0][0]


@given(selections, st.integers(1, 50), st.data())
def test_blocks_of_a_selection_are_read_by_steps(config: CorrelateConfig, num_frames: int, data: st.DataObject) -> None:
    chosen, groups = selection(config, num_frames), groups_truth(config, num_frames)
    start = data.draw(st.integers(0, len(groups)))
    stop = data.draw(st.integers(start, len(groups)))
    if start < stop:
        first, last = chosen.raw(start, stop)
        assert 0 <= first < last <= num_frames
        assert list(range(first, last, chosen.stride)) == list(chain(*groups[start:stop]))


@given(selections, st.integers(0, 50))
def test_times_follow_the_selection(config: CorrelateConfig, num_frames: int) -> None:
    scan, groups = replace(SCAN, num_frames=num_frames), groups_truth(config, num_frames)
    found = as_correlated(config, scan)
    assert found.num_frames == len(groups)
    assert found.frame_time == 0.5 * config.stride_frames * config.average_frames
    if groups:
        assert found.start_time == 1000 + 0.5 * groups[0][0]
    same = replace(found, num_frames=num_frames, frame_time=0.5, start_time=1000.0)
    assert same == scan


def test_a_default_selection_is_everything_and_maps_have_none() -> None:
    assert selection(CorrelateConfig(), 100) == Selection(0, 100, 1, 1)
    assert as_correlated(CorrelateConfig(), SCAN) == SCAN
    maps = replace(SCAN, content=Content.C2)
    assert as_correlated(CorrelateConfig(begin_frame=10, stride_frames=2), maps) == maps


window = st.one_of(st.just("full"), st.integers(8, 3000))
sections = st.builds(
    MapsConfig,
    windows=st.lists(window, min_size=1, max_size=3).map(tuple),
    overlap=st.sampled_from([0.0, 0.1, 0.5, 0.75, 0.99]),
)


def squares(config: MapsConfig, num_frames: int) -> list[tuple[int, int]]:
    """[start, stop) of all windows of a scan."""
    lengths = window_lengths(config, num_frames) or [num_frames]
    return [
        (start, start + length)
        for length in lengths
        for start in window_starts(num_frames, length, config.overlap).tolist()
    ]


def made_by(tiles: Tiles, num_frames: int) -> np.ndarray:
    """(row of tiles, column of tiles) whether a tile is made, the mirror image below the diagonal included."""
    num = len(tiles.ends)
    made = np.array([[i <= j and j * tiles.edge < tiles.ends[i] for j in range(num)] for i in range(num)])
    return made.reshape(num, num) | made.reshape(num, num).T


@given(sections, st.integers(2, 3000))
def test_tiles_are_those_that_a_window_touches(config: MapsConfig, num_frames: int) -> None:
    tiles = tiles_for(config, num_frames)
    assert tiles.edge == num_frames or tiles.edge in (256, 512, 768, 1024)
    assert len(tiles.ends) == -(-num_frames // tiles.edge)
    furthest = np.minimum(np.arange(1, len(tiles.ends) + 1) * tiles.edge, num_frames)
    for start, stop in squares(config, num_frames):
        rows = slice(start // tiles.edge, (stop - 1) // tiles.edge + 1)
        furthest[rows] = np.maximum(furthest[rows], min(num_frames, -(-stop // tiles.edge) * tiles.edge))
    np.testing.assert_array_equal(tiles.ends, furthest)
    assert tiles.is_full == made_by(tiles, num_frames).all()
    for row in range(len(tiles.ends)):
        assert tiles.reach(row * tiles.edge) == tiles.ends[row]


@given(sections, st.integers(2, 3000))
def test_sizes_of_tiles_are_counted(config: MapsConfig, num_frames: int) -> None:
    tiles = tiles_for(config, num_frames)
    edges = [*range(0, num_frames, tiles.edge), num_frames]
    rows = [(stop - start) * (int(end) - start) for (start, stop), end in zip(pairwise(edges), tiles.ends, strict=True)]
    assert tiles.num_entries == sum(rows)
    assert tiles.largest_row >= max(rows)
    strips = range(0, num_frames, 256)
    products = [min(256, num_frames - row) * (tiles.reach(row // tiles.edge * tiles.edge) - row) for row in strips]
    assert tiles.num_products == sum(products)


@given(sections, st.integers(0, 3000))
def test_windows_that_fit_are_named_once(config: MapsConfig, num_frames: int) -> None:
    lengths = window_lengths(config, num_frames)
    wanted = {num_frames if one == "full" else one for one in config.windows}
    assert set(lengths) == {length for length in wanted if SHORTEST_WINDOW <= length <= num_frames}
    assert len(lengths) == len(set(lengths))


@pytest.mark.parametrize(
    ("windows", "num_frames", "edge", "ends"),
    [
        (("full",), 100, 100, [100]),
        (("full",), 1000, 1000, [1000]),
        (("full",), 2500, 1024, [2500, 2500, 2500]),
        ((100,), 700, 256, [512, 700, 700]),
        ((128,), 1024, 256, [256, 512, 768, 1024]),
        ((600,), 1300, 768, [1300, 1300]),
        ((5000,), 300, 300, [300]),
    ],
)
def test_tiles_of_known_scans(windows: tuple[Any, ...], num_frames: int, edge: int, ends: list[int]) -> None:
    tiles = tiles_for(MapsConfig(windows=windows), num_frames)
    assert tiles.edge == edge
    assert tiles.ends.tolist() == ends


@pytest.mark.parametrize("num_frames", [0, 1])
@pytest.mark.parametrize("windows", [("full",), (8,)])
def test_no_frames_need_no_tiles(windows: tuple[Any, ...], num_frames: int) -> None:
    tiles = tiles_for(MapsConfig(windows=windows), num_frames)
    assert tiles.num_entries == tiles.num_products == num_frames
    assert tiles.largest_row <= 1
    assert tiles.is_full
