"""A q-bin that is masked or dark is NaN, whatever the way of the correlation; the others are as if it were not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ainerd_hpc.correlation.memory import Split
from ainerd_hpc.stages import correlate as correlate_stage
from tests.support.correlation_truth import SHAPE, Arrays, assert_true, correlated, photons, truth, write_source

EMPTY = 1
CHECKED = ("c2", "g2", "g2_err", "g2_c2", "g2_c2_err", "g2_window")
TRUTHS: dict[str, dict[str, Any]] = {
    "plain": {},
    "static": {"static": True},
    "ratio": {"rule": "ratio", "weighting": "pixels"},
}
Source = tuple[Path, dict[str, Arrays]]
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dense": {"correlate": {"form": "dense"}, "ingest": {"form": "none"}},
    "events": {"correlate": {"form": "events"}, "ingest": {"form": "events"}},
    "static": {"correlate": {"normalisation": "static"}},
    "ratio": {"correlate": {"g2_rule": "ratio", "static_weighting": "pixels"}},
    "judged": {"correct": {"hot_pixels": 1000, "bad_frames": 1000}},
    "corrected": {},
    "threads": {"executor": {"kind": "inline", "memory": "4 GB", "threads": 2}},
    "parts": {},
    "blocks": {},
}
SPLITS = {"parts": (3, 1), "blocks": (3, 5)}


@pytest.fixture(scope="module", params=["masked", "dark"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A scan whose second of three q-bins has no valid pixel, or no count, and the truth of the others."""
    folder, frames = tmp_path_factory.mktemp(request.param) / "source", photons(60)
    partition = write_source(folder, frames)
    inside = partition.dynamic_roi_map == EMPTY + 1
    if request.param == "dark":
        frames[:, inside] = 0
        write_source(folder, frames)
    else:
        with h5py.File(folder / "q_map.hdf", "r+") as file:
            file["qmap/mask"][...] = file["qmap/mask"][...] & ~inside
    np.save(folder.parent / "dark.npy", np.zeros(SHAPE))
    return folder, {name: truth(frames, partition, **options) for name, options in TRUTHS.items()}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_others_are_as_ever(source: Source, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, truths = source
    if name in SPLITS:
        monkeypatch.setattr(correlate_stage, "fewest_parts", lambda *sizes: Split(*SPLITS[name], 2**20))
    sections = {"correct": {"dark": folder.parent / "dark.npy"}} if name == "corrected" else OPTIONS[name]
    found, expected = correlated(folder, tmp_path, **sections), truths.get(name, truths["plain"])
    others = np.arange(3) != EMPTY
    assert_true({key: found[key][others] for key in CHECKED}, {key: expected[key][others] for key in CHECKED})
    for key in (*CHECKED, "tau", "contrast"):
        assert np.isnan(found[key][EMPTY]).all(), key
    assert "beyond_speckle" not in found
