"""What all readers of HDF5 share: errors in one line, and no way out of the folder of the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ainerd_hpc.errors import ScanError

_LONGEST_VALUE = 2**16
"""Bytes."""
READ_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError, OverflowError)
"""What h5py and NumPy make of damaged files."""
NEXT_STEP = "copy the file again from where it was measured, or take it out of the source folder"


@contextmanager
def reading(where: str, next_step: str = NEXT_STEP) -> Iterator[None]:
    """Turn what goes wrong into a ScanError that says where."""
    try:
        yield
    except READ_ERRORS as error:
        raise ScanError(where, f"cannot read it: {' '.join(str(error).split())}", next_step) from None


@contextmanager
def open_hdf5(path: Path, next_step: str = NEXT_STEP) -> Iterator[h5py.File]:
    """An HDF5 file for reading.

    Raises
    ------
    ScanError
        It cannot be opened.
    """
    with reading(str(path), next_step):
        file = h5py.File(path, "r")
    with file:
        yield file


def get_dataset(file: h5py.File, name: str) -> h5py.Dataset | None:
    """The dataset of this name, whose data lie in this file or in files below its folder; None where there is none.

    Raises
    ------
    ScanError
        A link, a virtual source or an external storage leads out of the folder of the file, or to a file that is
        missing.
    """
    folder = Path(file.filename).parent
    parts = [part for part in name.split("/") if part]
    for number in range(1, len(parts) + 1):
        here = "/".join(parts[:number])
        link = file.get(here, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            check_inside(folder, link.filename, f"{file.filename}:/{here}")
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        return None
    sources = [entry[0] for entry in found.external or []]
    sources += [source.file_name for source in found.virtual_sources()] if found.is_virtual else []
    for source in sources:
        if source != ".":
            check_inside(folder, source, f"{file.filename}:/{name}")
    return found


def need_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """The same, where there has to be one.

    Raises
    ------
    ScanError
        There is none, or as for `get_dataset`.
    """
    found = get_dataset(file, name)
    if found is None:
        raise ScanError(f"{file.filename}:/{name}", "expected a dataset, found none", NEXT_STEP)
    return found


def check_inside(folder: Path, target: str, where: str) -> Path:
    """The file that a link in `folder` leads to.

    Raises
    ------
    ScanError
        It lies outside of the folder, or is missing.
    """
    path = folder / target
    if not path.resolve().is_relative_to(folder.resolve()):
        problem = f"expected links to files below {folder}, found {target}"
        raise ScanError(where, problem, "copy the linked file beside this one and link it by its name alone")
    if not path.is_file():
        raise ScanError(where, f"expected the linked file {path}, found none", "copy it to where the link leads")
    return path


def number(file: h5py.File, name: str) -> float:
    """A single number; NaN where there is none."""
    value = _single(file, name)
    return float("nan") if value is None else float(value)


def text(file: h5py.File, name: str) -> str:
    """A single text; empty where there is none."""
    value = _single(file, name)
    return "" if value is None else value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _single(file: h5py.File, name: str) -> Any:
    """The only value of a dataset, which is looked at before it is read: it may claim to be of any size."""
    found = get_dataset(file, name)
    if found is None:
        return None
    if np.prod(found.shape or (1,), dtype=float) != 1 or found.dtype.itemsize > _LONGEST_VALUE:
        raise ScanError(f"{file.filename}:/{name}", f"expected one value, found {found.dtype} {found.shape}", NEXT_STEP)
    return np.asarray(found[()]).item()
