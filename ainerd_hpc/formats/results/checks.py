"""What the readers of results share: two-time maps and their numbers, checked.

A result holds what a correlation gave: two-time maps, g2, mean intensities. Where it holds two-time maps it is a source
of the line like any other, whether the raw file still exists or not.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

import h5py
import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.hdf5.chunks import read_rows
from ainerd_hpc.formats.hdf5.reading import NEXT_STEP, get_dataset, get_inner, need_dataset, open_hdf5, reading
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.formats.units import unlikely_q
from ainerd_hpc.types import Content

_LARGEST_RATIO = 2000
"""No filter makes noise so much smaller: a map that claims to be larger was never written, or its shape is damaged."""
_MOST_NUMBERS = 2**24


def no_maps(path: Path, found: str) -> ScanError:
    """What a result without two-time maps is told."""
    problem = f"expected two-time maps, found {found}"
    return ScanError(str(path), problem, "correlate its raw file, or take it out of the source folder")


def numbered(file: h5py.File, group: str, prefix: str) -> dict[int, str]:
    """Number -> full name of the members `<prefix><number>` of a group, ascending; none where there is no group."""
    found = get_inner(file, group)
    members = found if isinstance(found, h5py.Group) else ()
    matches = [re.fullmatch(rf"{prefix}(\d{{1,9}})", name) for name in members]
    return dict(sorted((int(match[1]), f"{group}/{match[0]}") for match in matches if match))


def need_maps(file: h5py.File, names: Sequence[str]) -> list[h5py.Dataset]:
    """The two-time maps (t, t) of these names, all of one length.

    Raises
    ------
    ScanError
        One is missing, is no square of real numbers, differs from the first in length, or holds no data.
    """
    maps = [need_dataset(file, name) for name in names]
    for name, one in zip(names, maps, strict=True):
        length = maps[0].shape[0] if maps[0].ndim else 0
        check_map(one, f"{file.filename}:/{name}", (length, length))
    return maps


def check_map(dataset: h5py.Dataset, where: str, shape: tuple[int, ...]) -> None:
    """Refuse what cannot be two-time maps of this shape, without reading it.

    Raises
    ------
    ScanError
        It is of another shape, is no array of real numbers, or holds no data.
    """
    if dataset.shape != shape or min(shape) < 1 or shape[-1] < 2 or dataset.dtype.kind != "f":
        problem = f"expected two-time maps of {shape} real numbers, found {dataset.dtype} {dataset.shape}"
        raise ScanError(where, problem, NEXT_STEP)
    stored, size = dataset.id.get_storage_size(), prod(shape) * dataset.dtype.itemsize
    if not dataset.is_virtual and dataset.external is None and size > _LARGEST_RATIO * stored:
        problem = f"expected two-time maps of {size} bytes, found {stored} bytes of data"
        raise ScanError(where, problem, NEXT_STEP)


class NumberedMaps(ABC):
    """Readers of the maps `<prefix><number>` of a group."""

    content = Content.C2
    baseline = 1
    group: str
    prefix: str
    g2: str
    """Where g2 lies, to be told where there are no maps."""

    @staticmethod
    @abstractmethod
    def q_list(file: h5py.File, places: Sequence[int]) -> np.ndarray:
        """q of the maps with these numbers, (q_bin,) float64, 1/angstrom."""

    @staticmethod
    @abstractmethod
    def metadata(file: h5py.File) -> Metadata:
        """What the file says of the frames that were correlated."""

    @classmethod
    def describe(cls, file: SourceFile) -> Description:
        hdf5 = file.need_hdf5()
        with reading(str(file.path)):
            names = numbered(hdf5, cls.group, cls.prefix)
            if not names:
                raise no_maps(file.path, "g2 only" if cls.g2 in hdf5 else "none")
            maps = need_maps(hdf5, list(names.values()))
            notes = tuple(unlikely_q(cls.q_list(hdf5, list(names))))
            metadata, simulated = cls.metadata(hdf5), is_simulated(hdf5)
        length, num = maps[0].shape[0], len(maps)
        return Description(length, 4, num_q_bins=num, metadata=metadata, simulated=simulated, notes=notes)

    @classmethod
    def read_c2(cls, path: Path) -> np.ndarray:
        with open_hdf5(path) as file, reading(str(path)):
            names = list(numbered(file, cls.group, cls.prefix).values())
            maps = need_maps(file, names)
            length = maps[0].shape[0] if maps else 0
            return read_stack(len(maps), length, lambda q_bin: (f"{path}:/{names[q_bin]}", read_rows(maps[q_bin])))

    @classmethod
    def read_q(cls, path: Path) -> np.ndarray:
        with open_hdf5(path) as file, reading(str(path)):
            return cls.q_list(file, list(numbered(file, cls.group, cls.prefix)))


def read_stack(num: int, length: int, read: Callable[[int], tuple[str, np.ndarray]]) -> np.ndarray:
    """Two-time maps, (q_bin, t1, t2) float32, complete and symmetric; those stored as one triangle are completed.

    A map that holds nothing but NaN, or no finite number, is NaN: its q-bin is empty.

    Parameters
    ----------
    num, length : int
        Maps, and their frames.
    read : callable
        Where the map of a q-bin lies, for errors, and its values (t, t); what it raises goes on to the caller.

    Raises
    ------
    ScanError
        A map is neither symmetric nor one triangle, or none holds a finite number.
    """
    from ainerd_hpc.kernels.diagonals import complete_triangle

    maps, is_empty = np.full((num, length, length), np.nan, dtype=np.float32), True
    for q_bin in range(num):
        where, c2 = read(q_bin)
        c2 = c2.astype(np.float32, copy=False)
        if not np.isfinite(c2).any():
            continue
        is_empty = False
        try:
            maps[q_bin] = complete_triangle(c2)
        except ValueError as error:
            raise ScanError(where, str(error), "check that the file holds two-time maps") from None
    if num and is_empty:
        raise ScanError(where, "expected a two-time map, found only NaN", "export it again")
    return maps


def whole_number(file: h5py.File, name: str) -> int:
    """A single number above 0.

    Raises
    ------
    ScanError
        There is none, or another.
    """
    need_dataset(file, name)
    found = numbers(file, name)
    if found is None or found.size != 1 or not 1 <= found[0] < 2**31 or found[0] % 1:
        problem = f"expected a whole number above 0, found {found}"
        raise ScanError(f"{file.filename}:/{name}", problem, NEXT_STEP)
    return int(found[0])


def numbers(file: h5py.File, name: str) -> np.ndarray | None:
    """All numbers of a dataset, in a row; None where there is none.

    Raises
    ------
    ScanError
        They are no numbers, or more than could be read.
    """
    found = get_dataset(file, name)
    if found is None:
        return None
    if found.dtype.kind not in "uif" or prod(found.shape) > _MOST_NUMBERS:
        problem = f"expected numbers, found {found.dtype} {found.shape}"
        raise ScanError(f"{file.filename}:/{name}", problem, NEXT_STEP)
    return read_rows(found).ravel()


def check_labels(where: str, labels: np.ndarray, num_labels: int) -> np.ndarray:
    """The labels as indices from 0, where all of them are labels 1..num_labels.

    Raises
    ------
    ScanError
        One is not.
    """
    with np.errstate(invalid="ignore"):
        index = labels.astype(np.int64) - 1
    if not np.array_equal(index + 1, labels) or (index < 0).any() or (index >= num_labels).any():
        problem = f"expected numbers of q-bins from 1 to {num_labels}, found {labels[:5].tolist()}"
        raise ScanError(where, problem, NEXT_STEP)
    return index


def is_simulated(file: h5py.File) -> bool:
    """Whether we have written it, from a scan that was simulated."""
    scan = get_inner(file, "ainerd_hpc/scan")
    return isinstance(scan, h5py.Group) and bool(scan.attrs.get("simulated", False))
