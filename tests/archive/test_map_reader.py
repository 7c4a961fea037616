"""Maps by their row in the index: the same values in any order, one opening a scan where they come in turn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ainerd_hpc.archive import map_reader
from ainerd_hpc.archive.groups import writing_group
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.map_reader import MapReader

EACH = 5


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Eight scans of five maps each, which hold their own place."""
    archive = Archive(tmp_path)
    for scan in range(8):
        with writing_group(archive.maps_path(f"s{scan}"), {"digest": "d"}) as group:
            values = (EACH * scan + np.arange(EACH, dtype=np.float32))[:, None, None] + np.zeros((4, 4), np.float32)
            group.add("maps", values, ("map", "y", "x"))
    return archive


def index() -> pd.DataFrame:
    return pd.DataFrame({"scan_id": np.repeat([f"s{i}" for i in range(8)], EACH), "row": np.tile(np.arange(EACH), 8)})


@pytest.mark.parametrize("room", [2**26, 2 * EACH * 16 * 4, 1], ids=["all", "two scans", "none"])
def test_a_map_is_that_of_its_row_whatever_is_kept(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(map_reader, "READ_AHEAD", room)
    reader = MapReader(archive, index())
    for i in np.random.default_rng(0).integers(0, 40, 200):
        assert reader[i].dtype == np.float32
        assert (reader[i] == i).all()
        assert sum(one.nbytes for one in reader._kept.values()) <= room


def test_maps_of_a_scan_that_come_in_turn_are_read_at_once(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = map_reader.reading_group
    monkeypatch.setattr(map_reader, "reading_group", lambda path: opened.append(path.name) or real(path))
    monkeypatch.setattr(map_reader, "READ_AHEAD", 2 * EACH * 16 * 4)
    reader = MapReader(archive, index())
    pairs = np.random.default_rng(0).permutation(40).reshape(4, 10)  # of any scans: no more than one opening a map
    assert [float(reader[i][0, 0]) for i in range(40)] == list(range(40))
    assert len(opened) == 8
    assert [float(reader[i][0, 0]) for i in pairs.ravel()] == pairs.ravel().tolist()
