"""Folders of two-time correlation maps: NumPy and HDF5 files of square arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.description import Description
from ainerd_hpc.formats.hdf5.chunks import Chunks, read_rows
from ainerd_hpc.formats.hdf5.reading import need_dataset, open_hdf5, reading
from ainerd_hpc.formats.npy import NpyArray, open_npy
from ainerd_hpc.formats.opening import READ_ERRORS
from ainerd_hpc.formats.results.checks import no_maps, read_stack
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.types import Content

_SMALLEST = 16
"""Shorter square arrays are hardly two-time maps."""
_NEXT_STEP = "copy it again from its origin, or take it out of the source folder"


def _is_square(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """(t, t) or (q_bin, t, t) of real numbers."""
    square = len(shape) in (2, 3) and shape[-1] == shape[-2]
    return square and shape[-1] >= _SMALLEST and shape[0] > 0 and dtype.kind == "f"


def _num_maps(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) == 3 else 1


def _read(path: Path, maps: Sequence[Any] | np.ndarray) -> np.ndarray:
    """The maps, each an array (t, t) in memory or in the file, as of `read_stack`."""
    length = maps[0].shape[-1]
    return read_stack(len(maps), length, lambda q_bin: (f"{path}: q_bin {q_bin}", maps[q_bin][...]))


@contextmanager
def _open(path: Path) -> Iterator[NpyArray]:
    with reading(str(path), _NEXT_STEP, errors=(Exception,)), open_npy(path) as array:
        yield array


class C2Npy:
    """One .npy file: a map (t, t) or one for each q-bin (q_bin, t, t)."""

    name = "c2-npy"
    content = Content.C2
    baseline = None

    @staticmethod
    def matches(file: SourceFile) -> bool:
        if file.path.suffix.lower() != ".npy":
            return False
        try:
            with _open(file.path) as array:
                return _is_square(array.shape, array.dtype)
        except ScanError as error:
            file.fault = str(error)
            return False

    @staticmethod
    def describe(file: SourceFile) -> Description:
        with _open(file.path) as array:
            return Description(array.shape[-1], array.dtype.itemsize, num_q_bins=_num_maps(array.shape))

    @staticmethod
    def read_c2(path: Path) -> np.ndarray:
        with _open(path) as array:
            if not _is_square(array.shape, array.dtype):
                raise no_maps(path, f"{array.dtype} {array.shape}")
            stored = array[()]
        return _read(path, stored.reshape(-1, *stored.shape[-2:]))

    @staticmethod
    def read_q(path: Path) -> np.ndarray:
        with _open(path) as array:
            return np.full(_num_maps(array.shape), np.nan)


class C2Hdf5:
    """An HDF5 file with square datasets: one (q_bin, t, t), or one (t, t) a q-bin, ordered by their names."""

    name = "c2-hdf5"
    content = Content.C2
    baseline = None

    @staticmethod
    def matches(file: SourceFile) -> bool:
        try:
            return file.hdf5 is not None and bool(_square_datasets(file.hdf5))
        except READ_ERRORS as error:
            file.fault = " ".join(str(error).split())
            return False

    @staticmethod
    def describe(file: SourceFile) -> Description:
        with reading(str(file.path), _NEXT_STEP):
            shapes = _shapes(file.need_hdf5())
        return Description(num_frames=shapes[0][-1], itemsize=4, num_q_bins=sum(map(_num_maps, shapes)))

    @staticmethod
    def read_c2(path: Path) -> np.ndarray:
        with open_hdf5(path, _NEXT_STEP) as file, reading(str(path), _NEXT_STEP):
            stored = [need_dataset(file, name) for name in _square_datasets(file)]
            if not stored:
                raise no_maps(path, "none")
            if stored[0].ndim == 3:
                return _read(path, read_rows(stored[0]))
            for one in stored:
                Chunks(one).check(0, one.shape[0])
            return _read(path, stored)

    @staticmethod
    def read_q(path: Path) -> np.ndarray:
        with open_hdf5(path, _NEXT_STEP) as file, reading(str(path), _NEXT_STEP):
            return np.full(sum(map(_num_maps, _shapes(file))), np.nan)


def _shapes(file: h5py.File) -> list[tuple[int, ...]]:
    return [need_dataset(file, name).shape for name in _square_datasets(file)]


def _dtype(dataset: h5py.Dataset) -> np.dtype:
    """The dtype; object for types that NumPy has no equal of."""
    try:
        dtype: np.dtype = dataset.dtype
    except TypeError:
        return np.dtype(object)
    return dtype


def _square_datasets(file: h5py.File) -> list[str]:
    """Names of the square datasets of the commonest length, sorted; a 3-D one wins alone."""
    found: dict[str, tuple[int, ...]] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.shape and _is_square(item.shape, _dtype(item)):
            found[name] = item.shape

    file.visititems(visit)
    stacks = sorted(name for name, shape in found.items() if len(shape) == 3)
    if stacks:
        return stacks[:1]
    lengths = [shape[-1] for shape in found.values()]
    common = max(lengths, key=lengths.count, default=0)
    return sorted(name for name, shape in found.items() if shape[-1] == common)
