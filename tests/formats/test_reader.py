"""Every reader fulfils the contract, and those of other distributions are used like the ones here."""

from __future__ import annotations

import os
import subprocess
import sys
from inspect import Parameter, getmembers, isfunction, signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats import registry
from ainerd_hpc.formats.reader import C2Reader, FrameReader, LatentReader, checked
from ainerd_hpc.formats.registry import READERS, reader
from ainerd_hpc.sources.catalog import publish_records, read_records
from ainerd_hpc.sources.walk import FileRecord, Kind, Stamp
from ainerd_hpc.types import Content
from tests.support.correlation_truth import assert_same, correlated, photons, read_arrays, write_source
from tests.support.places import ROOT

PROTOCOLS = {Content.FRAMES: FrameReader, Content.C2: C2Reader, Content.LATENTS: LatentReader}
ARRAYS = ("hdf5-array:some/where", "zarr-array:some/where")


@pytest.mark.parametrize("name", [*READERS, *ARRAYS])
def test_every_reader_does_all_that_its_content_asks_of_it(name: str) -> None:
    found = reader(name)
    asked = {method for method, _ in getmembers(PROTOCOLS[found.content], isfunction) if not method.startswith("_")}
    assert {"matches", "describe" if found.content is not Content.LATENTS else "describe_all"} < asked
    for method in asked:
        expected = list(signature(getattr(PROTOCOLS[found.content], method)).parameters)[1:]
        given = signature(getattr(found, method)).parameters
        assert list(given)[: len(expected)] == expected, method
        assert all(given[more].default is not Parameter.empty for more in list(given)[len(expected) :]), method
    assert found.name == name
    assert checked(found, name) is found


def test_every_reader_of_maps_states_their_baseline() -> None:
    stated = {name: reader(name).baseline for name in READERS if reader(name).content is Content.C2}
    unknown = dict.fromkeys(("c2-hdf5", "c2-npy", "esrf-result"))
    assert stated == unknown | dict.fromkeys(("aps-result", "legacy-result", "nxxpcs"), 1)


def test_maps_alone_say_nothing_of_q(tmp_path: Path) -> None:
    c2 = np.ones((3, 20, 20))
    np.save(tmp_path / "maps.npy", c2)
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file["maps"] = c2
    for name, path in (("c2-npy", tmp_path / "maps.npy"), ("c2-hdf5", tmp_path / "maps.h5")):
        found = reader(name)
        assert found.content is Content.C2
        np.testing.assert_array_equal(found.read_q(path), [np.nan] * 3)


def complete(**changes: Any) -> SimpleNamespace:
    """A reader of maps, but for some changes; what is `...` is missing."""
    one = {"name": "toy", "content": Content.C2, "baseline": 1, "matches": lambda file: True}
    one |= {name: lambda file: None for name in ("describe", "read_c2", "read_q")}
    return SimpleNamespace(**{name: value for name, value in (one | changes).items() if value is not ...})


def test_what_a_reader_lacks_is_named() -> None:
    assert checked(complete(), "toy").name == "toy"
    assert checked(complete(baseline=None), "toy").name == "toy"
    for changes, problem in (
        ({"name": "other"}, "expected the name 'toy' in it, found 'other'"),
        ({"content": "c2"}, "expected a Content as its content, found 'c2'"),
        ({"content": ...}, "found None"),
        ({"baseline": ...}, "expected a baseline of 0, 1 or None"),
        ({"baseline": 2}, "found 2"),
        ({"read_q": ...}, r"expected read_q\(path\) in it, found none"),
        ({"describe": lambda: None}, r"expected describe\(file\) in it"),
        ({"content": Content.FRAMES}, r"expected open\(path\)"),
        ({"content": Content.LATENTS}, r"expected describe_all\(path\)"),
    ):
        with pytest.raises(TypeError, match=problem):
            checked(complete(**changes), "toy")


def test_a_reader_that_is_not_installed_is_named() -> None:
    with pytest.raises(ScanError, match=r"format nowhere: expected a reader .* install the package"):
        reader("nowhere")


TOY = '''
from contextlib import contextmanager
from io import BytesIO

import numpy as np

from ainerd_hpc.formats.description import Description
from ainerd_hpc.types import Content


class _Frames:
    per_chunk = 1

    def __init__(self, frames):
        self._frames, self.shape, self.dtype = frames, frames.shape, frames.dtype

    def read(self, start, stop, step=1):
        return self._frames[start:stop:step]


def _load(path):
    return np.load(BytesIO(path.read_bytes()[4:]))


class ToyFrames:
    """Frames as .npy behind four letters."""

    name = "toy-frames"
    content = Content.FRAMES

    @staticmethod
    def matches(file):
        return file.head.startswith(b"TOYF")

    @staticmethod
    def describe(file):
        frames = _load(file.path)
        return Description(frames.shape[0], frames.itemsize, *frames.shape[1:])

    @staticmethod
    @contextmanager
    def open(path):
        yield _Frames(_load(path))


class ToyMaps:
    """An object, whose maps start at 0, and whose q are known."""

    name = "toy-maps"
    content = Content.C2
    baseline = 0

    def matches(self, file):
        return file.head.startswith(b"TOYC")

    def describe(self, file):
        return Description(_load(file.path).shape[-1], 4, num_q_bins=len(_load(file.path)))

    def read_c2(self, path):
        return _load(path).astype(np.float32)

    def read_q(self, path):
        return 0.01 * np.arange(1, 1 + len(_load(path)))


toy_maps = ToyMaps()


class Fails(ToyFrames):
    name = "fails"

    @staticmethod
    def matches(file):
        raise ZeroDivisionError("over every file")


class NoOpen:
    name = "no-open"
    content = Content.FRAMES
    matches, describe = ToyFrames.matches, ToyFrames.describe


class Imm(ToyFrames):
    name = "imm"
'''
ENTRIES = """
[ainerd_hpc.readers]
toy-frames = toy_formats:ToyFrames
toy-maps = toy_formats:toy_maps
fails = toy_formats:Fails
absent = toy_formats:Absent
exits = toy_exits
imm = toy_formats:Imm
no-open = toy_formats:NoOpen
"""
LEFT_OUT = {
    "absent": "module 'toy_formats' has no attribute 'Absent'",
    "exits": "it ends the process",
    "imm": "there is one of this name",
    "no-open": "expected open(path) in it, found none or of other arguments",
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """What `pip install toy-formats` leaves behind."""
    site = tmp_path / "site"
    (site / "toy_formats-1.2.dist-info").mkdir(parents=True)
    (site / "toy_formats.py").write_text(TOY, encoding="utf-8")
    (site / "toy_exits.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    info = {"METADATA": "Metadata-Version: 2.1\nName: toy-formats\nVersion: 1.2\n", "entry_points.txt": ENTRIES}
    for name, text in info.items():
        (site / "toy_formats-1.2.dist-info" / name).write_text(text, encoding="utf-8")
    return site


def run(archive: Path, source: Path, *site: Path) -> subprocess.CompletedProcess[str]:
    """`ainerd-hpc run --until correlate` in a process of its own."""
    command = [sys.executable, "-m", "ainerd_hpc.cli", "run", "--until", "correlate", "--executor", "local"]
    command += ["--source", str(source), "--archive", str(archive), "--set", "source.frame_time=0.01 s"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*site, ROOT)))}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def toy(array: np.ndarray, letters: bytes, path: Path) -> None:
    with path.open("wb") as file:
        file.write(letters)
        np.save(file, array)


def test_readers_of_another_distribution_are_used_like_those_here(tmp_path: Path, site: Path) -> None:
    counts = photons(64)
    write_source(tmp_path / "source", counts)
    expected = correlated(tmp_path / "source", tmp_path / "expected")
    (tmp_path / "source" / "scan.h5").unlink()
    toy(counts, b"TOYF", tmp_path / "source" / "scan.imm")
    decay = np.exp(-np.abs(np.subtract.outer(np.arange(20), np.arange(20))) / 5) * np.array([0.1, 0.3])[:, None, None]
    toy(decay, b"TOYC", tmp_path / "source" / "maps.dat")

    alone = run(tmp_path / "archive", tmp_path / "source")
    assert alone.returncode == 1  # whatever is called .imm is refused by the reader of that format, asked afterwards
    assert "scan.imm frame 0: expected compression 0 or 6" in alone.stderr
    assert "left out" not in alone.stdout + alone.stderr
    done = run(tmp_path / "archive", tmp_path / "source", site)

    assert done.returncode == 0, done.stdout + done.stderr
    assert_same(read_arrays(tmp_path / "archive"), expected)
    maps = read_arrays(tmp_path / "archive", "maps")
    np.testing.assert_allclose(maps["c2"], 1 + decay, rtol=1e-6)
    np.testing.assert_array_equal(maps["dynamic_q_list"], [0.01, 0.02])
    told = [line for line in done.stdout.splitlines() if "left out" in line]
    assert told == [
        f"reader '{name}' of toy-formats 1.2: left out, {reason}; update or uninstall it"
        for name, reason in LEFT_OUT.items()
    ]
    again = run(tmp_path / "archive", tmp_path / "source", site)
    assert again.returncode == 0
    assert_same(read_arrays(tmp_path / "archive"), expected)


def test_files_are_looked_at_again_when_readers_come_or_go(
    tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(tmp_path / "archive")
    record = FileRecord(tmp_path / "scan.toy", Stamp(1, 2, 3), Kind.OTHER)
    publish_records(archive, [record], tmp_path)
    assert read_records(archive, tmp_path) == {record.path: record}
    monkeypatch.syspath_prepend(site)
    registry._entries.cache_clear()
    try:
        assert registry.registered() == "fails of toy-formats 1.2, " + ", ".join(
            f"{name} of toy-formats 1.2" for name in ("toy-frames", "toy-maps")
        )
        assert read_records(archive, tmp_path) == {}
    finally:
        monkeypatch.undo()
        registry._entries.cache_clear()
        for name in ("toy_formats", "toy_exits"):
            sys.modules.pop(name, None)
    assert read_records(archive, tmp_path) == {record.path: record}
    assert registry.registered() == ""
