"""The plan's projected peak bounds what a process really takes."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ainerd_hpc.config import SimulateConfig
from ainerd_hpc.kernels.clustering.fitting import peak_bytes
from ainerd_hpc.loading import load
from ainerd_hpc.pipeline import Run
from ainerd_hpc.simulate import write_scan, write_shared_files
from ainerd_hpc.types import PROCESS_BYTES
from tests.formats import test_imm as imm

SCRIPT = """
import ctypes, sys
from ainerd_hpc.loading import load
from ainerd_hpc.archive.journal import Journal
from ainerd_hpc.formats.beside import sample_log
from ainerd_hpc.stages.line import Line
from ainerd_hpc.types import PROCESS_BYTES

def status(name):
    line = next(line for line in open('/proc/self/status') if line.startswith(name))
    return int(line.split()[1]) * 1024

name, content, source, archive, *more = sys.argv[1:]
settings = ['executor.kind=inline', 'executor.memory=20 GB', 'maps.windows=[full, 100]', *more]
config = load(None, [f'source.path={source}', f'archive={archive}', *settings])
line = Line(config, Journal(config.archive), sample_log.empty())
stage = line.stage(name)
scans = [scan for scan in stage.archive.read_catalog() if scan.content.value == content]
task = line.tasks(name, scans)[0]
stage.work(task)  # loads and compiles what it needs, which is no part of the plan
ctypes.CDLL(None).malloc_trim(0)
open('/proc/self/clear_refs', 'w').write('5')  # forget the peak
base = status('VmRSS')
stage.work(task)
print(base, status('VmHWM') - base, PROCESS_BYTES, task.peak_bytes)
"""

SHAPES = {
    "long": SimulateConfig(num_scans=1, num_frames=2500, height=40, width=48, num_q_bins=2),
    "wide": SimulateConfig(num_scans=1, num_frames=128, height=400, width=480, num_q_bins=2),
    "sparse": SimulateConfig(num_scans=1, num_frames=1500, height=160, width=192, num_q_bins=4, mean_counts=0.02),
}
MAPS = (12, 900)
"""q-bins and frames of a file of two-time maps."""


CORRELATE: list[tuple[str, tuple[str, ...]]] = [
    ("long", ()),
    ("long", ("correlate.delays_per_level=100",)),
    ("long", ("correlate.form=events", "correlate.normalisation=static")),
    ("long", ("correlate.average_frames=2", "correlate.frame_normalisation=true")),
    ("long", ("maps.windows=[100]", "executor.threads=2")),
    ("wide", ()),
    ("wide", ("ingest.form=none", "executor.threads=2")),
    ("wide", ("correlate.form=events",)),
    ("wide", ("correlate.average_frames=2", "correlate.frame_normalisation=true")),
    ("sparse", ()),
    ("sparse", ("ingest.form=none", "executor.threads=2")),
    ("sparse", ("correlate.form=dense", "correlate.normalisation=static")),
    ("sparse", ("maps.windows=[300]",)),
]
CASES = [("correlate", "frames", *case) for case in CORRELATE] + [
    ("ingest", "frames", "long", ()),
    ("ingest", "frames", "wide", ()),
    ("ingest", "frames", "wide", ("ingest.form=events",)),
    ("ingest", "frames", "sparse", ()),
    ("correlate", "c2", "long", ()),
    ("maps", "frames", "long", ()),
    ("maps", "frames", "wide", ()),
    ("maps", "c2", "long", ()),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """By shape: a source with one scan of frames and one of two-time maps, and an archive in which they are mapped."""

    @functools.cache
    def prepare(shape: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp(shape)
        write_shared_files(folder / "source", SHAPES[shape])
        write_scan(folder / "source", SHAPES[shape], 0)
        t = np.arange(MAPS[1])
        c2 = 1 + 0.3 * np.exp(-np.abs(t[:, None] - t) / np.arange(5, 5 + MAPS[0])[:, None, None])
        np.save(folder / "source" / "c2.npy", c2)
        command = [sys.executable, "-m", "ainerd_hpc.cli", "run", "--until", "maps", "--executor", "inline"]
        places = ["--source", str(folder / "source"), "--archive", str(folder / "archive")]
        subprocess.run([*command, *places, "--set", "source.frame_time=0.1"], check=True, capture_output=True)
        return folder / "source", folder / "archive"

    return prepare


@pytest.mark.parametrize(("stage", "content", "shape", "more"), CASES)
def test_projected_peak_bounds_the_measured_one(
    stage: str, content: str, shape: str, more: tuple[str, ...], prepared: Callable[[str], tuple[Path, Path]]
) -> None:
    size = SHAPES[shape]
    dense = 2 * size.num_frames * size.height * size.width if (stage, shape) == ("correlate", "sparse") else 0
    assert_bound(stage, content, prepared(shape), ("source.frame_time=0.1", *more), dense)


def assert_bound(stage: str, content: str, places: tuple[Path, Path], more: tuple[str, ...], dense: int = 0) -> None:
    """The task of a stage takes less than was planned, measured in a process of its own.

    `dense`: bytes of frames whose counts might be large, and would not go the sparse way then.
    """
    command = [sys.executable, "-c", SCRIPT, stage, content, *map(str, places), *more]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    base, measured, process, planned = map(int, result.stdout.split()[-4:])  # a long task tells how far it is, before
    print(stage, content, more, *(f"{size / 1e6:.0f} MB" for size in (base, process, measured, planned)))
    assert measured < planned
    assert planned < 8 * measured + 2**27 + dense  # a bound, not a guess at infinity


def catalogued(folder: Path, *settings: str) -> tuple[Path, Path]:
    """The source in a folder, and an archive beside it that knows of it."""
    places = [f"source.path={folder / 'source'}", f"archive={folder / 'archive'}"]
    Run(load(None, [*places, "executor.kind=inline", *settings]), until="ingest").execute()
    return folder / "source", folder / "archive"


# Large counts

LARGE = SimulateConfig(num_scans=1, num_frames=400, height=160, width=192, num_q_bins=2)


def large_counts(kind: str) -> np.ndarray:
    """Photons of which a pixel has very many, always or once, or that are counted in large units."""
    frames = np.random.default_rng(0).poisson(0.5 if kind == "units" else 0.03, (400, 160, 192)).astype(np.uint32)
    if kind == "units":
        return frames * np.uint32(3 * 10**6)
    frames[333 if kind == "flash" else slice(None), 60, 70] = 3 * 10**9
    return frames


@pytest.fixture(scope="module")
def prepared_counts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """By kind: a source with one scan of large counts, and an archive that knows of it."""

    @functools.cache
    def prepare(kind: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("counts")
        write_shared_files(folder / "source", LARGE)
        write_scan(folder / "source", LARGE, 0)
        with h5py.File(folder / "source" / "sim_0000.h5", "a") as file:
            del file["entry/data/data"]
            packed = {"chunks": (1, 160, 192), "compression": "gzip", "compression_opts": 1}
            file.create_dataset("entry/data/data", data=large_counts(kind), **packed)
        return catalogued(folder, "ingest.form=none")

    return prepare


@pytest.mark.parametrize(
    ("stage", "kind", "more"),
    [
        ("correlate", "pixel", ("correlate.form=events",)),
        ("correlate", "flash", ()),
        ("correlate", "units", ()),
        ("ingest", "units", ("ingest.form=events",)),
    ],
)
def test_projected_peak_of_large_counts_bounds_the_measured_one(
    stage: str, kind: str, more: tuple[str, ...], prepared_counts: Callable[[str], tuple[Path, Path]]
) -> None:
    assert_bound(stage, "frames", prepared_counts(kind), ("source.frame_time=0.1", "ingest.form=none", *more))


# Files of events

EVENTS = SimulateConfig(num_scans=1, num_frames=1500, height=512, width=1024, num_q_bins=2)
PER_FRAME = 3000


def write_events(folder: Path, kind: str) -> None:
    """Single photons anywhere, as many in each frame."""
    num_frames, rows, columns = EVENTS.num_frames, EVENTS.height, EVENTS.width
    rng = np.random.default_rng(0)
    pixel = np.sort(rng.integers(0, rows * columns, (num_frames, PER_FRAME)), axis=1).astype(np.uint32)
    frame = np.repeat(np.arange(num_frames), PER_FRAME)
    if kind == "rigaku":
        (frame.astype("<u8") << 40 | pixel.ravel().astype("<u8") << 16 | 1).tofile(folder / "scan.bin")
    elif kind == "imm":
        header = imm.header(PER_FRAME, True, rows=rows, columns=columns)
        counts = np.ones(PER_FRAME, "<u2").tobytes()
        (folder / "scan.imm").write_bytes(b"".join(header + one.tobytes() + counts for one in pixel))
    else:
        by_pixel = kind == "esrf by pixel"
        order = np.argsort(pixel.ravel(), kind="stable") if by_pixel else slice(None)
        index = frame if by_pixel else pixel.ravel()
        sizes = np.bincount(pixel.ravel(), minlength=rows * columns) if by_pixel else np.full(num_frames, PER_FRAME)
        names = ("time_index", "pixel_pointer") if by_pixel else ("pixel_index", "frame_pointer")
        with h5py.File(folder / "scan.h5", "w") as file:
            file.attrs["frames_shape"] = (num_frames, rows, columns)
            packed = {"chunks": (2**16,), "compression": "gzip", "compression_opts": 1}
            file.create_dataset("intensity", data=np.ones(index.size, np.uint16), **packed)
            file.create_dataset(names[0], data=index[order].astype(np.int32), **packed)
            file[names[1]] = np.append(0, np.cumsum(sizes))


@pytest.fixture(scope="module")
def prepared_events(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """By kind: a source with one file of events, and an archive that knows of it."""

    @functools.cache
    def prepare(kind: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("events")
        write_shared_files(folder / "source", EVENTS)
        write_events(folder / "source", kind)
        return catalogued(folder, "source.frame_time=0.1", "ingest.form=none")

    return prepare


@pytest.mark.parametrize(
    ("stage", "kind", "more"),
    [
        ("correlate", "rigaku", ("executor.threads=2",)),
        ("correlate", "imm", ()),
        ("correlate", "esrf by frame", ("executor.threads=2",)),
        ("correlate", "esrf by pixel", ("correlate.form=events", "maps.windows=[100]")),
        ("ingest", "esrf by pixel", ("ingest.form=auto",)),
        ("ingest", "rigaku", ("ingest.form=events", "executor.threads=2")),
    ],
)
def test_projected_peak_of_events_bounds_the_measured_one(
    stage: str, kind: str, more: tuple[str, ...], prepared_events: Callable[[str], tuple[Path, Path]]
) -> None:
    assert_bound(stage, "frames", prepared_events(kind), ("source.frame_time=0.1", "ingest.form=none", *more))


PROCESS = """
import torch, pandas, pyarrow.parquet, ainerd_hpc.pipeline, ainerd_hpc.kernels.maps
import ainerd_hpc.correlation.task
from ainerd_hpc.kernels import twotime
twotime.has_exact_int8()

def status(name):
    line = next(line for line in open('/proc/self/status') if line.startswith(name))
    return int(line.split()[1]) * 1024
"""
"""A process with its libraries, and no data."""


COMPILING = 200e6
"""What UMAP takes where it is compiled first."""


def test_projected_peak_of_clusters_bounds_the_measured_one() -> None:
    script = PROCESS + (
        "import numpy as np\nfrom ainerd_hpc.kernels.clustering import density, reduction\n"
        "base, latents = status('VmRSS'), np.random.default_rng(0).normal(size=(2500, 64)).astype(np.float32)\n"
        "density.group(reduction.reduce(latents, 2, 15, 0.1, 0), 10, 5)\n"
        "print(base, status('VmHWM'))"
    )
    result = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    base, peak = map(int, result.stdout.split())
    planned = peak_bytes(2500, 2500, 15)
    print(*(f"{size / 1e6:.0f} MB" for size in (base, peak, PROCESS_BYTES, planned)))
    assert peak < PROCESS_BYTES + planned
    assert planned - COMPILING < 2 * (peak - base)


def test_a_process_without_data_is_within_its_allowance() -> None:
    script = PROCESS + "print(status('VmHWM'))"
    result = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert int(result.stdout) < PROCESS_BYTES
