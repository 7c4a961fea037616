"""Beam monitors: one value a frame, from a dataset of a scan's own files, or from a text or .npy file beside it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.hdf5.reading import get_dataset, reading
from ainerd_hpc.formats.opening import READ_ERRORS
from ainerd_hpc.formats.source_file import SourceFile

COLUMN = "monitor"
_FILES = {".csv", ".npy"}
_NEXT_STEP = "correct correct.monitor, or leave it out"


def is_file(monitor: str) -> bool:
    """Whether a monitor is a file beside the scan, not a dataset."""
    return Path(monitor).suffix.lower() in _FILES


def file_of(monitor: str, scan: Path) -> Path:
    """The file of a scan's monitor."""
    return scan.parent / monitor.replace("{stem}", scan.stem)


def read_monitor(monitor: str, scan: Path, metadata: Sequence[Path], num_frames: int) -> np.ndarray:
    """The monitor of a scan, (t,) float64, one value for every frame of the file; NaN where there is no number.

    Parameters
    ----------
    monitor : str
        A .csv or .npy file, or the path of a dataset.
    scan : Path
        The raw file, in which the dataset is looked for first.
    metadata : sequence of Path
        Files in which it is looked for then; they need not exist.
    num_frames : int

    Raises
    ------
    ScanError
        It is not there, cannot be read, or is no list of num_frames numbers.
    """
    where, values = (
        _from_file(file_of(monitor, scan)) if is_file(monitor) else _from_dataset(monitor, [scan, *metadata])
    )
    if values.shape != (num_frames,) or values.dtype.kind not in "uif":
        problem = f"expected a beam monitor of {num_frames} numbers, one a frame, found {values.dtype} {values.shape}"
        raise ScanError(where, problem, _NEXT_STEP)
    return values.astype(np.float64)


def _from_dataset(name: str, paths: Sequence[Path]) -> tuple[str, np.ndarray]:
    for path in paths:
        with SourceFile(path) as file:
            if file.hdf5 is None:
                continue
            where = f"{path}:/{name.strip('/')}"
            with reading(where, _NEXT_STEP):
                found = get_dataset(file.hdf5, name)
                if found is not None:
                    return where, _squeezed(found)
    looked = ", ".join(path.name for path in paths if path.is_file())
    raise ScanError(str(paths[0]), f"expected the beam monitor {name} in {looked}, found no such dataset", _NEXT_STEP)


def _squeezed(dataset: object) -> np.ndarray:
    """The values without axes of length 1, which the APS puts before and after its lists."""
    values = np.asarray(dataset[()])  # type: ignore[index]
    return values.reshape(-1) if max(values.shape, default=1) == values.size else values


def _from_file(path: Path) -> tuple[str, np.ndarray]:
    errors = (*READ_ERRORS, EOFError, csv.Error)
    with reading(str(path), _NEXT_STEP, what="cannot read it as a beam monitor", errors=errors):
        if path.suffix.lower() == ".npy":
            return str(path), np.asarray(np.load(path, allow_pickle=False))
        with path.open(encoding="utf-8-sig", newline="") as file:
            return str(path), _column([row for row in csv.reader(file) if row])


def _column(rows: Sequence[Sequence[str]]) -> np.ndarray:
    """The only column, or the one that is called monitor; a first line that is no number is the header."""
    if not rows:
        return np.empty(0)
    header = [name.strip().lower() for name in rows[0]]
    column = header.index(COLUMN) if COLUMN in header else 0
    if len(header) > 1 and COLUMN not in header:
        raise ValueError(f"expected one column, or one called {COLUMN}, found {', '.join(header[:5])}")
    first = 0 if _is_number(header[column]) else 1
    return np.array([float(row[column]) if row[column].strip() else np.nan for row in rows[first:]], dtype=np.float64)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
