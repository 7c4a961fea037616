"""After any change, what must be made anew is made anew, and what must not is kept; however the model came about."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ainerd_hpc.archive.tables import read_table
from ainerd_hpc.config import RunConfig
from ainerd_hpc.loading import load
from ainerd_hpc.pipeline import Run
from tests.conftest import digests
from tests.support.golden_archive import write_golden, write_imm

MODELS = ("trained", "given", "adopted")
COMMON = (
    "model.variant=ainerd2024",
    *("executor.kind=inline", "executor.memory=4 GB", "source.frame_time=0.01", "train.epochs=1", "train.threads=1"),
    *("cluster.min_cluster_size=2", "cluster.min_samples=2", "cluster.num_neighbours=2", "train.batch_size=4"),
)
Change = Callable[[Path], Any]
"""Does something to the source folder, or nothing."""


def write_scan(name: str, number: int) -> Change:
    """A scan of frames that is new, or another than before."""
    return lambda source: write_imm(source / f"{name}.imm", number)


def remove(name: str) -> Change:
    return lambda source: (source / name).unlink()


def write_log(source: Path) -> None:
    """Other values of the sample log."""
    (source / "sample_log.csv").write_text("time,stress\n0,5.0\n10,7.0\n100000,9.0\n")


def nothing(source: Path) -> None:
    """The source stays as it is."""


def made(
    ingest: int, correlate: int, maps: int, model: str = "kept", embed: str = "", page: str = "made"
) -> dict[str, int]:
    """How many products each stage makes, `train` and what follows by a word; `embed` as `model` unless given."""
    scans = {"ingest": ingest, "correlate": correlate, "maps": maps}
    embedded = (embed or model) == "made"
    return scans | {"train": model == "made", "embed": embedded, "cluster": page != "kept", "report": page != "kept"}


NEW_MAPS = {"trained": "made", "given": "kept", "adopted": "kept"}
"""What becomes of the model when the maps are others."""
CHANGES: Mapping[str, tuple[Change, list[str], Callable[[str], dict[str, int]]]] = {
    "nothing": (nothing, [], lambda how: made(0, 0, 0, page="kept")),
    "a scan comes": (write_scan("new", 5), [], lambda how: made(1, 1, 1, NEW_MAPS[how], "made")),
    "two-time maps come": (
        lambda source: shutil.copy(source / "maps_3.npy", source / "maps_4.npy"),
        [],
        lambda how: made(0, 1, 1, NEW_MAPS[how], "made"),
    ),
    "a scan leaves": (remove("frames_2.imm"), [], lambda how: made(0, 0, 0, NEW_MAPS[how], "made")),
    "a scan is another": (write_scan("frames_1", 7), [], lambda how: made(1, 1, 1, NEW_MAPS[how], "made")),
    "the sample log is another": (write_log, [], lambda how: made(0, 0, 0)),
    "source.frame_time": (nothing, ["source.frame_time=0.02"], lambda how: made(0, 1, 1, NEW_MAPS[how], "made")),
    "source.select": (nothing, ["source.select=height > 0"], lambda how: made(0, 0, 0, NEW_MAPS[how], "made")),
    "ingest": (nothing, ["ingest.frames_per_chunk=8"], lambda how: made(2, 0, 0, page="kept")),
    "ingest.form": (nothing, ["ingest.form=none"], lambda how: made(0, 0, 0, page="kept")),
    "correct": (nothing, ["correct.saturation=100"], lambda how: made(2, 2, 2, NEW_MAPS[how], "made")),
    "correlate": (nothing, ["correlate.age_windows=3"], lambda how: made(0, 3, 3, NEW_MAPS[how], "made")),
    "maps": (nothing, ["maps.scaling=minmax"], lambda how: made(0, 0, 3, NEW_MAPS[how], "made")),
    "model.name": (nothing, ["model.name=other"], lambda how: made(0, 0, 0, "made")),
    "train": (nothing, ["train.seed=3"], lambda how: made(0, 0, 0, NEW_MAPS[how], page=_page(how))),
    "train, where": (nothing, ["train.checkpoint_every=5 s"], lambda how: made(0, 0, 0, page="kept")),
    "embed": (nothing, ["embed.maps_per_task=1"], lambda how: made(0, 0, 0, page="kept")),
    "cluster": (nothing, ["cluster.min_dist=0.2"], lambda how: made(0, 0, 0)),
    "report": (nothing, ["report.title=Another"], lambda how: made(0, 0, 0) | {"cluster": 0}),
    "executor": (nothing, ["executor.threads=2"], lambda how: made(0, 0, 0, page="kept")),
}


def _page(how: str) -> str:
    return "made" if how == "trained" else "kept"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each way in which a model comes about, a folder with a source and an archive that is finished."""
    folders = {}
    for how in MODELS:
        folder = folders[how] = tmp_path_factory.mktemp(how)
        write_golden(folder)
        if how == "given":
            _write_weights(folder / "weights.npz")
        elif how == "adopted":
            shutil.copy2(
                folders["trained"] / "archive/models/default/weights.safetensors", folder / "theirs.safetensors"
            )
        Run(configure(folder, how)).execute()
    return folders


def _write_weights(path: Path) -> None:
    import torch

    from ainerd_hpc.models.weights import build

    torch.manual_seed(0)
    network = build("ainerd2024")
    np.savez(path, **{key: value.numpy() for key, value in network.state_dict().items()})


def configure(folder: Path, how: str, *options: str, archive: str = "archive") -> RunConfig:
    weights = {"given": "weights.npz", "adopted": "theirs.safetensors"}
    model = [f"model.weights={folder / weights[how]}"] if how in weights else []
    return load(None, [f"archive={folder / archive}", f"source.path={folder / 'source'}", *COMMON, *model, *options])


@pytest.mark.slow
@pytest.mark.parametrize("how", MODELS)
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_made_anew(change: str, how: str, places: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(places[how], tmp_path / "place")
    act, options, expected = CHANGES[change]
    act(tmp_path / "place" / "source")
    config = configure(tmp_path / "place", how, *options)
    reports = Run(config).execute()
    assert {report.stage: report.num_done for report in reports} == expected(how)
    assert_consistent(config)


def assert_consistent(config: RunConfig) -> None:
    """All tables are about the scans of the catalog, and about the same maps."""
    name, root = config.model.name, config.archive
    catalog = read_table(root / "catalog.parquet")
    tables = [
        root / "maps/index.parquet",
        root / "embedding" / f"{name}.parquet",
        root / "clusters" / f"{name}.parquet",
    ]
    maps = [read_table(path, ["map_id"])["map_id"].tolist() for path in tables]
    assert maps[0] == maps[1] == maps[2]
    assert {map_id.rpartition(":")[0].rpartition(":")[0] for map_id in maps[0]} == set(catalog["scan_id"])


OPTIONS = (
    "maps.scaling=minmax",
    "correlate.age_windows=3",
    "cluster.min_dist=0.2",
    "ingest.form=events",
    "train.seed=3",
)
STEPS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(["frames_1", "new", "newer"]), st.integers(1, 9)),
    st.tuples(st.just("remove"), st.sampled_from(["frames_2.imm", "new.imm", "maps_3.npy"]), st.just(0)),
    st.tuples(st.just("set"), st.sampled_from(OPTIONS), st.just(0)),
    st.tuples(st.just("unset"), st.sampled_from(OPTIONS), st.just(0)),
)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["trained", "given"])
@settings(max_examples=5, suppress_health_check=list(HealthCheck), derandomize=True)
@given(steps=st.lists(STEPS, min_size=2, max_size=4))
def test_any_history_ends_as_made_from_nothing(
    how: str, steps: list[tuple[str, str, int]], places: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("history") / "place"
    shutil.copytree(places[how], place)
    options = set[str]()
    for number, (what, name, value) in enumerate(steps):
        _take(place / "source", options, what, name, value, number)
        Run(configure(place, how, *sorted(options))).execute()
    Run(configure(place, how, *sorted(options), archive="fresh")).execute()
    aged, fresh = digests(place / "archive"), digests(place / "fresh")
    assert {name: aged.get(name) for name in fresh} == fresh
    shutil.rmtree(place)


def _take(source: Path, options: set[str], what: str, name: str, value: int, number: int) -> None:
    """Take one step; what is written gets a date of its own."""
    if what == "write":
        path = source / f"{name}.imm"
        write_imm(path, value)
        date = 1_700_000_100_000_000_000 + number
        os.utime(path, ns=(date, date))
    elif what == "remove":
        (source / name).unlink(missing_ok=True)
    else:
        (options.add if what == "set" else options.discard)(name)
