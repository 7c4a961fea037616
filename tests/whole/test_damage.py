"""Damaged products of an archive: a run that meets one makes it anew, and ends with the same archive."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ainerd_hpc.config import RunConfig
from ainerd_hpc.loading import load
from ainerd_hpc.pipeline import Run
from tests.conftest import digests
from tests.support.golden_archive import write_golden

OPTIONS = (
    *("executor.kind=inline", "executor.memory=4 GB", "source.frame_time=0.01", "train.epochs=1", "train.threads=1"),
    *("cluster.min_cluster_size=2", "cluster.min_samples=2", "cluster.num_neighbours=2", "train.batch_size=4"),
)
SCAN = "frames_1"


def configure(source: Path, archive: Path, *options: str) -> RunConfig:
    return load(None, [f"archive={archive}", f"source.path={source}", *OPTIONS, *options])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """The config of a small source, with an archive that nothing went wrong with. Read-only."""
    folder = tmp_path_factory.mktemp("finished")
    write_golden(folder)
    config = configure(folder / "source", folder / "archive")
    Run(config).execute()
    return config


@pytest.fixture
def config(finished: RunConfig, tmp_path: Path) -> RunConfig:
    """The same source, with a copy of the archive that a test may damage."""
    return configure(finished.source.folder, shutil.copytree(finished.archive, tmp_path / "archive"))


def flip(path: Path) -> None:
    """Change one bit of the data, in their largest piece."""
    raw = bytearray(path.read_bytes())
    raw[_place(path)] ^= 0x10
    path.write_bytes(raw)


def _place(path: Path) -> int:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as file:
            entry = max(file.infolist(), key=lambda one: one.file_size)
            return entry.header_offset + 30 + len(entry.filename) + entry.file_size // 2
    if path.suffix == ".parquet":
        group = pq.ParquetFile(path).metadata.row_group(0)
        columns = [group.column(number) for number in range(group.num_columns)]
        largest = max(columns, key=lambda one: one.total_compressed_size)
        return int(largest.data_page_offset + largest.total_compressed_size) - 3
    return path.stat().st_size // 2


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


WAYS: Mapping[str, Callable[[Path], None]] = {"flip": flip, "halve": halve, "empty": empty, "delete": Path.unlink}
READ_BY = {
    f"frames/{SCAN}.zarr.zip": f"correlation/{SCAN}.zarr.zip",
    "partitions/*.zarr.zip": f"correlation/{SCAN}.zarr.zip",
    f"correlation/{SCAN}.zarr.zip": f"maps/{SCAN}.zarr.zip",
    f"maps/{SCAN}.zarr.zip": "embedding/default.parquet",
    "maps/index.parquet": "clusters/default.parquet",
    "models/default/weights.safetensors": "embedding/default.parquet",
    "models/default/model.json": "embedding/default.parquet",
    "embedding/default.parquet": "clusters/default.parquet",
    "clusters/default.parquet": "report/index.html",
    "catalog.parquet": "report/index.html",
    "sample_log.parquet": "clusters/default.parquet",
    "journal/files.parquet": "report/index.html",
}
"""A product, and one that is made from it, and is deleted so that a run reads the first."""


def only(root: Path, pattern: str) -> Path:
    (path,) = root.glob(pattern)
    return path


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("product", READ_BY)
def test_a_run_makes_damaged_products_anew(product: str, way: str, config: RunConfig) -> None:
    expected = digests(config.archive)
    path = only(config.archive, product)
    WAYS[way](path)
    (config.archive / READ_BY[product]).unlink()
    Run(config).execute()
    assert digests(config.archive) == expected
    assert {report.num_done for report in Run(config).execute()} == {0}
