"""Files made to do harm: nothing in a config, an archive, weights or a source is run, nor does it fill the memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ainerd_hpc.archive.groups import array, reading_group
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.tables import read_table
from ainerd_hpc.cli import main
from ainerd_hpc.config import SourceConfig
from ainerd_hpc.errors import AinerdError, ArchiveError, ConfigError
from ainerd_hpc.loading import load
from ainerd_hpc.models import weights
from ainerd_hpc.models.weights import load_weights
from ainerd_hpc.site.site_file import load_site
from ainerd_hpc.sources.discovery import discover


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """What is there if something was run."""
    return tmp_path / "ran"


# configs

TAGS = ["!!python/object/apply:os.mkdir [RAN]", "!!python/object/new:os.mkdir [RAN]", "!!python/name:os.mkdir ''"]
DOUBLED = "".join(f"b{n}: &a{n + 1} {{p: *a{n}, q: *a{n}}}\n" for n in range(40))
ALIASES = [f"a: &a0 {{x: 1}}\n{DOUBLED}", "a: &a [*a]\n", "a: &a {b: *a}\n", "a: &a {<<: *a}\n"]


@pytest.mark.parametrize("text", [f"a: {tag}\n" for tag in TAGS] + ALIASES)
@pytest.mark.parametrize("read", [load, load_site], ids=["config", "site"])
def test_yaml_is_data(tmp_path: Path, ran: Path, text: str, read: Callable[[Path], Any]) -> None:
    (tmp_path / "my.yaml").write_text(text.replace("RAN", str(ran)), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"my\.yaml: not valid YAML: "):
        read(tmp_path / "my.yaml")
    assert not ran.exists()


@pytest.mark.parametrize("value", [*TAGS, "{a: &a0 [x], b: &a1 [*a0, *a0], c: &c [*c]}"])
def test_what_is_set_is_data(ran: Path, value: str) -> None:
    text = value.replace("RAN", str(ran))
    assert str(load(None, ["archive=a", f"source.path={text}"]).source.path) == text
    assert not ran.exists()


# weights


def _npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def _header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _pickled(path: Path) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Bomb(path)]), allow_pickle=True)
    return file.getvalue()


def _safetensors(path: Path, header: bytes, size: int | None = None) -> Path:
    path.write_bytes(struct.pack("<Q", len(header) if size is None else size) + header)
    return path


def test_weights_are_numbers(tmp_path: Path, ran: Path) -> None:
    claimed = {"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    deep = b'{"w":' + b"[" * 100_000
    crafted = {
        "pickle.npz": lambda path: _npz(path, w=_pickled(ran)),
        "bare.npz": lambda path: path.write_bytes(pickle.dumps(Bomb(ran))),
        "claims.npz": lambda path: _npz(path, w=_header((2**45,))),
        "long.safetensors": lambda path: _safetensors(path, b"{}", 2**62),
        "claims.safetensors": lambda path: _safetensors(path, json.dumps(claimed).encode()),
        "deep.safetensors": lambda path: _safetensors(path, deep),
        "pickle.safetensors": lambda path: path.write_bytes(pickle.dumps(Bomb(ran))),
    }
    for name, make in crafted.items():
        make(tmp_path / name)
        with pytest.raises(ArchiveError, match=rf"{name}: cannot read the weights: .*; check model\.weights"):
            load_weights(tmp_path / name)
    assert not ran.exists()


def test_weights_that_unpack_to_too_much_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_LARGEST", 2**20)
    path = _npz(tmp_path / "w.npz", w=_header((2**18,)) + bytes(2**20))
    assert path.stat().st_size < 3000
    with pytest.raises(ArchiveError, match="expected at most 1048576 bytes, found 1048704 when unpacked"):
        load_weights(path)


# an archive that somebody else made


def _store(path: Path, documents: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for name, content in documents.items():
            file.writestr(name, content if isinstance(content, bytes) else json.dumps(content))
    return path


GROUP = {"zarr_format": 3, "node_type": "group", "attributes": {}}
ARRAY_2 = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "order": "C", "fill_value": None}
PICKLES_2 = {"compressor": {"id": "pickle"}, "filters": [{"id": "vlen-utf8"}]}
ARRAY_3 = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [1],
    "data_type": "float64",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0,
    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "numcodecs.pickle"}],
    "attributes": {},
}


@pytest.mark.parametrize(
    "documents",
    [
        {".zgroup": {"zarr_format": 2}, "q/.zarray": ARRAY_2 | PICKLES_2, "q/0": b""},
        {"zarr.json": GROUP, "q/.zarray": ARRAY_2 | PICKLES_2, "q/0": b""},
        {"zarr.json": GROUP, "q/zarr.json": ARRAY_3, "q/c/0": b""},
    ],
    ids=["version 2", "version 2 within 3", "version 3"],
)
def test_no_product_names_a_codec_that_unpickles(tmp_path: Path, ran: Path, documents: dict[str, Any]) -> None:
    bomb = {name: pickle.dumps(Bomb(ran)) for name in documents if name.startswith("q/") and name[-1] == "0"}
    path = _store(tmp_path / "s.zarr.zip", documents | bomb)
    with pytest.raises((AinerdError, ValueError)), reading_group(path) as group:
        array(group, "q")[...]
    assert not ran.exists()


def test_names_in_a_zip_lead_nowhere(source: Path, tmp_path: Path) -> None:
    """Members that would lie outside of the folder if anybody unpacked them: of a source, and of a product."""
    before = {path.name for path in tmp_path.iterdir()}
    names = {
        "../../evil": b"x",
        "/tmp/evil": b"x",
        "c:\\evil": b"x",
        "zarr.json": GROUP | {"attributes": {"form": "frames"}},
    }
    _store(source / "evil.zarr.zip", names | {"zarr.json": GROUP | {"attributes": {"form": "frames"}}})
    found = discover(SourceConfig(path=source))
    assert [problem.scan_id for problem in found.problems] == ["evil.zarr"]
    with pytest.raises(ValueError, match="path"), reading_group(source / "evil.zarr.zip") as group:
        list(group.arrays())
    assert {path.name for path in tmp_path.iterdir()} == before
    assert not Path("/tmp/evil").exists()


def _parquet_with(path: Path, ran: Path) -> None:
    """A column whose type is said to be a pickled Python class, as pyarrow once took it from a file."""
    metadata = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Bomb(ran)),
    }
    table = pq.read_table(path)
    field = pa.field("more", pa.int64(), metadata=metadata)
    pandas = {"columns": [{"name": "more", "field_name": "more", "pandas_type": "object", "numpy_type": "object"}]}
    known = {**(table.schema.metadata or {}), b"pandas": json.dumps(pandas | {"index_columns": []}).encode()}
    table = table.append_column(field, pa.array([1] * len(table))).replace_schema_metadata(known)
    path.unlink()
    pq.write_table(table, path)


def test_no_table_of_an_archive_is_run(
    source: Path, tmp_path: Path, ran: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is a reader imported that a catalog names."""
    archive = Archive(tmp_path / "archive")
    assert main(["catalog", str(source), "--archive", str(archive.root)]) == 0
    for path in (archive.catalog_path, archive.records_path, archive.scan_ids_path):
        _parquet_with(path, ran)
    assert len(read_table(archive.catalog_path)) == 6
    table = read_table(archive.catalog_path).assign(format="os:mkdir", source=str(ran))
    pq.write_table(pa.Table.from_pandas(table), archive.catalog_path)
    assert main(["catalog", "query", "format == 'os:mkdir'", "--archive", str(archive.root)]) == 0
    assert "6 of 6 scans" in capsys.readouterr().out
    assert main(["export", "--archive", str(archive.root), "--format", "csv", "--output", str(tmp_path / "out")]) != 0
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert not ran.exists()
