"""A simulated source tree as a beamline leaves it: scans of every format in many folders, among files that are none.

Nothing in it was measured. A scan of each kind is written once, by the writers of the tests of its format; every scan
of the tree is a copy of these bytes in which its name, number, frame period and start are others.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from ainerd_hpc.formats.partitions.partition import Geometry
from tests.formats import test_aps as aps
from tests.formats import test_arrays as arrays
from tests.formats import test_eiger as eiger
from tests.formats import test_esrf_sparse as esrf
from tests.formats import test_image_series as series
from tests.formats import test_imm as imm
from tests.formats import test_partition as partition
from tests.formats import test_partition_legacy as partition_legacy
from tests.formats import test_results as results
from tests.formats import test_rigaku as rigaku

NAME = "run_7"
"""Of the scan that is copied, in names and contents; others are as long."""
_NUMBER = b"scan no."
_FRAME_TIME = struct.unpack("<d", b"frame t.")[0]
_START = b"2024-01-15T08:00:00.500+00:00"
_FIRST_WORD = (0, 77777, 1)
"""Event of a Rigaku file that is another one in each scan."""
SHAPE_3M = (1676, 2100)
DATASET = "counts"
"""Of the Zarr stores."""
SAMPLES = ("silica", "gel one", "água", "gold-5nm")


class Expected(NamedTuple):
    """What is to be found of a scan."""

    format: str
    num_frames: int
    height: int
    width: int
    frame_time: float


class Kind(NamedTuple):
    """Scans of one format and detector."""

    write: Callable[[Path], object]
    """Writes the files of one, called `NAME`, into a folder."""
    format: str
    shape: tuple[int, int, int]
    """Rows and columns are 0 for two-time maps."""
    share: int
    """Scans in a hundred."""
    frame_time: float | None = None
    """As the files say, s; None: it stands in a metadata file of its own."""
    has_own_partition: bool = False


@dataclass
class Tree:
    """A source tree, and what is in it."""

    root: Path
    scans: dict[str, Expected] = field(default_factory=dict)
    """Good scans by scan_id."""

    @property
    def folders(self) -> list[Path]:
        """Of the samples, by year and month."""
        return [
            self.root / f"{2022 + number % 2}/{number // 2 % 6 + 1:02d}/{SAMPLES[number // 12]}" for number in range(48)
        ]

    @property
    def source(self) -> dict[str, Any]:
        """`source` of a config: partitions by the letter with which the names of a detector's files begin."""
        paths = {f"*/{letter}[0-9]*": self.qmap_path(letter) for letter in KINDS}
        partition = {pattern: str(path) for pattern, path in paths.items() if path and path.exists()}
        return {"path": str(self.root), "partition": partition, "dataset": DATASET}

    def qmap_path(self, letter: str) -> Path | None:
        """The partition that all scans of a kind share; None where each has its own, or needs none."""
        _, height, width = KINDS[letter].shape
        is_shared = height and not KINDS[letter].has_own_partition
        return self.root / "qmaps" / f"{height}x{width}.hdf" if is_shared else None

    def write_qmaps(self, letters: Iterable[str]) -> None:
        """The shared partitions of these kinds."""
        (self.root / "qmaps").mkdir(parents=True)
        shapes = {self.qmap_path(letter): KINDS[letter].shape[1:] for letter in letters}
        for path, shape in shapes.items():
            if path:
                write_qmap(path, shape)

    def scan_id(self, folder: Path, name: str) -> str:
        return "--".join((folder.relative_to(self.root) / name).parts)

    def path(self, scan_id: str, suffix: str) -> Path:
        """A file of a scan."""
        return self.root.joinpath(*f"{scan_id}{suffix}".split("--"))

    def write(self, letter: str, folder: Path, name: str, number: int) -> Expected:
        """A good scan of a kind, called `name`, of which there is no second with this number."""
        kind, frame_time = KINDS[letter], 1e-3 * (1 + number % 50)
        start = datetime.fromtimestamp(1.65e9 + 100 * number + 0.5, UTC).isoformat(timespec="milliseconds")
        word = rigaku.words([(0, number % rigaku.AREA, 1)])
        changes = {
            NAME.encode(): name.encode(),
            _NUMBER: struct.pack("<4H", number % 60000, number // 60000, 1, 2),
            struct.pack("<d", _FRAME_TIME): struct.pack("<d", frame_time),
            _START: start.encode(),
            rigaku.words([_FIRST_WORD]): word,
        }
        for relative, content in template(letter).items():
            path = folder / relative.replace(NAME, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_replaced(content, changes))
        return Expected(kind.format, *kind.shape, kind.frame_time or frame_time)


def make_tree(root: Path, num_scans: int = 2000) -> Tree:
    """Write a tree of good scans and of what is no scan."""
    tree = Tree(root)
    for number, letter in enumerate(_letters(num_scans)):
        folder, name = tree.folders[number % 48], f"{letter}{number % 10000:04d}"
        scan_id = f"{tree.scan_id(folder, name)}{'--sample' if letter == 'B' else ''}"
        tree.scans[scan_id] = tree.write(letter, folder, name, number)
    tree.write_qmaps(KINDS)
    _write_others(tree)
    return tree


def write_qmap(path: Path, shape: tuple[int, ...], **changes: Any) -> None:
    """A partition of two bins, to the left and to the right, of two static bins each."""
    dynamic = np.ones(shape, np.uint8)
    dynamic[:, shape[1] // 2 :] = 2
    static = 2 * dynamic
    static[: shape[0] // 2] -= 1
    content = {
        "mask": np.ones(shape, np.uint8),
        "dynamic_roi_map": dynamic,
        "static_roi_map": static,
        "dynamic_num_pts": [2, 1],
        "dynamic_v_list_dim1": [0.0],
        "dynamic_index_mapping": [0, 1],
    }
    partition.write_qmap(path, **{**content, **changes})


def _replaced(content: bytes, changes: Mapping[bytes, bytes]) -> bytes:
    for old, new in changes.items():
        content = content.replace(old, new)
    return content


@lru_cache
def template(letter: str) -> Mapping[str, bytes]:
    """Path and content of each file of a scan of this kind."""
    with tempfile.TemporaryDirectory() as name:
        folder, kind = Path(name), KINDS[letter]
        kind.write(folder)
        if kind.frame_time is None:
            _write_metadata(folder / f"{NAME}_metadata.hdf")
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _letters(num_scans: int) -> Iterator[str]:
    """Kinds in turn, by their shares."""
    turn = [letter for letter, kind in KINDS.items() for _ in range(kind.share)]
    order = np.random.default_rng(8).permutation(len(turn))
    for number in range(num_scans):
        yield turn[order[number % len(turn)]]


def _write_others(tree: Tree) -> None:
    """What lies about in such folders; of the results, those whose frames are there."""
    first = next(iter(tree.folders))
    stamps = "".join(f"{datetime.fromtimestamp(1.65e9 + 900 * n, UTC).isoformat()},{20 + n}\n" for n in range(2000))
    (tree.root / "sample_log.csv").write_text(f"time,temperature\n{stamps}", encoding="utf-8")
    texts = {"README.txt": "read me", "scan_1.log": "1", "scan_2.log": "2", "peaks.csv": "q,height\n1,2\n"}
    for name, text in texts.items():
        (first / name).write_text(text, encoding="utf-8")
    random = np.random.default_rng(1)
    for name, head in {
        "a.png": b"\x89PNG\r\n\x1a\n",
        "a.jpg": b"\xff\xd8\xff",
        "firmware.bin": b"\x7fELF",
        "x.dat": b"",
    }.items():
        (first / name).write_bytes(head + random.bytes(5000))
    (first / "fit.pickle").write_bytes(b"cposix\nsystem\n(S'touch harm'\ntR.")
    with h5py.File(first / "spectrum.h5", "w") as file:
        file["energy"] = np.arange(5.0)
    for hidden in (".snapshot/2022", ".Trash"):
        tree.write("L", tree.root / hidden, "L0000", 0)
    (tree.root / "empty" / "folder").mkdir(parents=True)
    for scan_id in [one for one in tree.scans if one.split("--")[-1].startswith("L")][:5]:
        *parts, name = scan_id.split("--")
        results.write(tree.root.joinpath(*parts, f"{name}_results.hdf"), results.aps(results.c2_of(2)))


def _write_metadata(path: Path) -> None:
    aps.write_metadata(
        path,
        start_time=aps.START,
        frame_time=_FRAME_TIME,
        count_time=5e-4,
        geometry=Geometry(5.0, 10.5, 75e-6, 5.0, 10.0),
        sample={"temperature": (25.5, "degC")},
        simulated=True,
        description="simulated",
    )


# -------------------------------------------------------------------------------------------- one scan of each kind


def frames_of(num_frames: int, height: int, width: int, dtype: str = "<u2") -> np.ndarray:
    """Counts with some photons, of which the first are the number of the scan."""
    frames = np.random.default_rng(height).poisson(0.3, (num_frames, height, width)).astype(dtype)
    frames[0, 0, :4] = np.frombuffer(_NUMBER, "<u2")
    return frames


def _raw(**layout: Any) -> Callable[[Path], None]:
    """A writer of raw HDF5 of 12 frames."""

    def write(folder: Path, shape: tuple[int, int], **options: Any) -> None:
        with h5py.File(folder / f"{NAME}.h5", "w") as file:
            file.create_dataset("entry/data/data", data=frames_of(12, *shape), **options)
            file["entry/number"] = np.frombuffer(_NUMBER, "<u2")

    return lambda folder: write(folder, **layout)


def _with_own_partition(write_map: Callable[..., None]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        _raw(shape=(4, 6))(folder)
        write_map(folder / f"{NAME}_qmap.hdf")

    return write


def _events(num_frames: int, area: int) -> list[rigaku.Event]:
    """Single photons, in all frames."""
    pixels = np.random.default_rng(area).integers(0, area, (num_frames, 4))
    return [(frame, int(pixel), 1) for frame in range(num_frames) for pixel in pixels[frame]]


def _rigaku_500k(folder: Path) -> None:
    rigaku.write(folder / f"{NAME}.bin", [_FIRST_WORD, *_events(6, rigaku.AREA)])


def _rigaku_3m(folder: Path) -> None:
    """Modules with enough photons for one that was cut off to be noticed."""
    photons = [[_FIRST_WORD, *rigaku.photons(5, 60, module=number)] for number in range(6)]
    rigaku.write_3m(folder, photons, NAME)


def _imm_sparse(folder: Path) -> None:
    events = _events(5, imm.ROWS * imm.COLUMNS)
    counts = np.frombuffer(_NUMBER, "<u2").tolist()
    first = [(0, pixel, count) for pixel, count in enumerate(counts)]
    frames = [first] + [[event for event in events if event[0] == number] for number in range(1, 5)]
    content = b"".join(imm.sparse_frame(one, number=n, elapsed=0.02 * n) for n, one in enumerate(frames))
    (folder / f"{NAME}.imm").write_bytes(content)


def _imm_dense(folder: Path) -> None:
    frames = frames_of(5, imm.ROWS, imm.COLUMNS)
    content = b"".join(imm.dense_frames(one[np.newaxis], elapsed=0.02 * n) for n, one in enumerate(frames))
    (folder / f"{NAME}.imm").write_bytes(content)


def _eiger(folder: Path) -> None:
    master = eiger.write_scan(folder, frames_of(8, 8, 12))
    with h5py.File(master, "a") as file:
        file["entry/number"] = np.frombuffer(_NUMBER, "<u2")


def _edf_series(folder: Path) -> None:
    for number, image in enumerate(frames_of(4, *series.SHAPE)):
        image[0, :4] = np.frombuffer(_NUMBER, "<u2")
        (folder / f"{NAME}_{number:04d}.edf").write_bytes(series.edf(image))


def _edf_file(folder: Path) -> None:
    (folder / f"{NAME}.edf").write_bytes(b"".join(series.edf(image) for image in frames_of(4, *series.SHAPE)))


def _cbf_series(folder: Path) -> None:
    """The first eight differences of neighbours are the number."""
    for number, image in enumerate(frames_of(3, *series.SHAPE).astype("<i4")):
        packed = _NUMBER + series.byte_offset(image)[8:]
        (folder / f"{NAME}_{number:04d}.cbf").write_bytes(series.cbf(image, packed, checksum=False))


def _tiff_file(folder: Path) -> None:
    (folder / f"{NAME}.tif").write_bytes(series.tiff(frames_of(4, *series.SHAPE)))


def _tiff_series(folder: Path) -> None:
    for number, image in enumerate(frames_of(3, *series.SHAPE)):
        image[0, :4] = np.frombuffer(_NUMBER, "<u2")
        (folder / f"{NAME}_{number:04d}.tif").write_bytes(series.tiff(image[np.newaxis]))


def _sparse(write: Callable[..., Path]) -> Callable[[Path], Path]:
    """Intensities of the first events are the number."""
    counts = np.frombuffer(_NUMBER, "<u2").tolist()
    first = [(number, number, count) for number, count in enumerate(counts)]
    return lambda folder: write(folder / f"{NAME}.h5", first + [(7, 29, 1)])


def _lima(folder: Path) -> None:
    arrays.lima(folder / f"{NAME}.h5", frames_of(*arrays.SHAPE))
    with h5py.File(folder / f"{NAME}.h5", "a") as file:
        file["entry_0000/number"] = np.frombuffer(_NUMBER, "<u2")


def _bliss(folder: Path) -> None:
    path = arrays.bliss(folder / NAME, frames_of(*arrays.SHAPE))
    with h5py.File(path, "a") as file:
        file["1.1/number"] = np.frombuffer(_NUMBER, "<u2")


def _zarr_v2(folder: Path) -> None:
    arrays.write_v2(folder / f"{NAME}.zarr/{DATASET}", frames_of(*arrays.SHAPE), compressor=None)
    (folder / f"{NAME}.zarr/.zgroup").write_text('{"zarr_format": 2}')
    for number in range(3):
        chunk = folder / f"{NAME}.zarr/{DATASET}/{number}.0.0"
        chunk.write_bytes(frames_of(3, *arrays.SHAPE[1:]).tobytes())


def _zarr_v3(folder: Path) -> None:
    arrays.write_v3(folder / f"{NAME}.zarr/{DATASET}", frames_of(*arrays.SHAPE))
    (folder / f"{NAME}.zarr/zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')


def _npy(folder: Path) -> None:
    c2 = results.c2_of(2).astype(np.float64)
    c2[0, 0, 0] = np.frombuffer(_NUMBER, "<f8")[0]
    np.save(folder / f"{NAME}.npy", c2)


def _c2_hdf5(folder: Path) -> None:
    results.write(folder / f"{NAME}.h5", {"maps/c2": results.c2_of(3), "maps/number": np.frombuffer(_NUMBER, "<u2")})


def _result(layout: str) -> Callable[[Path], Path]:
    content = {**results.LAYOUTS[layout](results.c2_of(3)), "number": np.frombuffer(_NUMBER, "<u2")}
    return lambda folder: results.write(folder / f"{NAME}.hdf", content)


_BITSHUFFLE = {"chunks": (1, 12, 16), **aps.hdf5plugin.Bitshuffle(cname="lz4")}
_MAPS = (results.LENGTH, 0, 0)
KINDS = {
    "L": Kind(_raw(shape=(12, 16), **_BITSHUFFLE), "aps-hdf5", (12, 12, 16), 24),
    "A": Kind(_raw(shape=(10, 14)), "aps-hdf5", (12, 10, 14), 8),
    "C": Kind(_raw(shape=(7, 20), chunks=(4, 7, 10), compression="gzip"), "aps-hdf5", (12, 7, 20), 3),
    "O": Kind(_with_own_partition(partition.write_qmap), "aps-hdf5", (12, 4, 6), 2, has_own_partition=True),
    "P": Kind(_with_own_partition(partition_legacy.write_legacy), "aps-hdf5", (12, 4, 6), 1, has_own_partition=True),
    "R": Kind(_rigaku_500k, "rigaku", (6, rigaku.ROWS, rigaku.COLUMNS), 14),
    "M": Kind(_rigaku_3m, "rigaku", (5, *SHAPE_3M), 2),
    "I": Kind(_imm_sparse, "imm", (5, imm.ROWS, imm.COLUMNS), 7, 0.02),
    "J": Kind(_imm_dense, "imm", (5, imm.ROWS, imm.COLUMNS), 5, 0.02),
    "E": Kind(_eiger, "eiger-hdf5", (8, 8, 12), 5, 0.00134),
    "F": Kind(_edf_series, "image-series", (4, *series.SHAPE), 2),
    "G": Kind(_edf_file, "image-series", (4, *series.SHAPE), 2),
    "K": Kind(_cbf_series, "image-series", (3, *series.SHAPE), 2, 0.1),
    "T": Kind(_tiff_file, "image-series", (4, *series.SHAPE), 2),
    "U": Kind(_tiff_series, "image-series", (3, *series.SHAPE), 1),
    "S": Kind(_sparse(esrf.write_by_frame), "esrf-sparse", esrf.SHAPE, 3),
    "V": Kind(_sparse(esrf.write_by_pixel), "esrf-sparse", esrf.SHAPE, 2),
    "H": Kind(_lima, "esrf-hdf5", arrays.SHAPE, 3, 0.375),
    "B": Kind(_bliss, "esrf-hdf5", arrays.SHAPE, 1, 0.125),
    "Y": Kind(_zarr_v2, f"zarr-array:{DATASET}", arrays.SHAPE, 1),
    "Z": Kind(_zarr_v3, f"zarr-array:{DATASET}", arrays.SHAPE, 1),
    "N": Kind(_npy, "c2-npy", _MAPS, 2),
    "Q": Kind(_c2_hdf5, "c2-hdf5", _MAPS, 1),
    "W": Kind(_result("aps"), "aps-result", _MAPS, 2, 0.06),
    "X": Kind(_result("legacy"), "legacy-result", _MAPS, 2, 0.06),
    "D": Kind(_result("nxxpcs"), "nxxpcs", _MAPS, 2, 0.06),
}
