"""Masks of detectors, from the files that other programs write: EDF, NumPy, TIFF, HDF5.

The convention is that of pyFAI, fabio and silx: what is not zero is masked. Where a program says it the other way, as
those of the APS do (1 = use), ask for it. The mask of a partition file is always taken as 1 = use.
"""

from __future__ import annotations

import warnings
from math import prod
from pathlib import Path

import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.hdf5.reading import MOST_PIXELS, only_dataset, read_array, reading
from ainerd_hpc.formats.images.files import edf_header, edf_image, kind_of
from ainerd_hpc.formats.npy import MAGIC, open_npy
from ainerd_hpc.formats.partitions.partition import is_partition, read_qmap
from ainerd_hpc.formats.source_file import SourceFile

_NAME_IT = "name the one that is the mask: FILE::DATASET"
_NEXT_STEP = "write the mask again as EDF, .npy, TIFF or HDF5, whole numbers or true and false, of the detector's shape"


def read_mask(path: Path, dataset: str = "", *, nonzero_is_masked: bool = True) -> np.ndarray:
    """A mask as (y, x) bool, True = use the pixel.

    Parameters
    ----------
    path : Path
        EDF, .npy, TIFF or HDF5, by content. A stack of modules (m, y, x) gives them one below the other.
    dataset : str
        Which one of an HDF5 file; not needed where it has a single one of two dimensions, or is a partition file.
    nonzero_is_masked : bool
        Whether what is not zero in the file is masked (pyFAI, fabio, silx) or used (APS).

    Raises
    ------
    ScanError
        The file cannot be read as a mask, or holds several.
    """
    with SourceFile(path) as file, reading(str(path), _NEXT_STEP, what="cannot read it as a mask", errors=(Exception,)):
        if file.hdf5 is not None and not dataset and is_partition(file):
            return read_qmap(path).blemish
        values = _values(file, dataset)
        if values.ndim not in (2, 3) or not values.size or not _is_logical(values):
            problem = f"expected a 2-D mask of whole numbers, or of true and false, found {values.dtype} {values.shape}"
            raise ScanError(str(path), problem, _NEXT_STEP)
        is_zero = np.asarray(values.reshape(-1, values.shape[-1]) == 0)
    return is_zero if nonzero_is_masked else ~is_zero


def _is_logical(values: np.ndarray) -> bool:
    """Bool or integers, or floats that are all 0 or 1."""
    return values.dtype.kind in "bui" or (values.dtype.kind == "f" and bool(((values == 0) | (values == 1)).all()))


def _values(file: SourceFile, dataset: str) -> np.ndarray:
    if file.hdf5 is not None:
        return read_array(file.hdf5, dataset or only_dataset(file.hdf5, {2: "two"}, _NAME_IT))
    if file.head.startswith(MAGIC):
        with open_npy(file.path) as array:
            if prod(array.shape) > MOST_PIXELS:
                raise ValueError(f"expected at most {MOST_PIXELS} pixels, found the shape {array.shape}")
            return array[()]
    if kind_of(file.head) == "tiff":
        return _read_tiff(file.path)
    if file.head.lstrip().startswith(b"{"):
        return _read_edf(file.path)
    raise ValueError(file.fault or f"expected EDF, .npy, TIFF or HDF5, found a file that starts with {file.head[:8]!r}")


def _read_tiff(path: Path) -> np.ndarray:
    from PIL import Image

    with warnings.catch_warnings(action="ignore"), Image.open(path, formats=["TIFF"]) as image:
        if prod(image.size) > MOST_PIXELS:
            raise ValueError(f"expected at most {MOST_PIXELS} pixels, found {image.size}")
        return np.asarray(image)


def _read_edf(path: Path) -> np.ndarray:
    """The first image of an EDF file."""
    with path.open("rb") as file:
        header, begin = edf_header(file, 0, path.stat().st_size)
    height, width = int(header["dim_2"]), int(header["dim_1"])
    if not 0 < height * width <= MOST_PIXELS or width < 0:
        raise ValueError(f"expected an image of at most {MOST_PIXELS} pixels, found {height} x {width}")
    image = edf_image(header, begin)
    return np.fromfile(path, image.dtype, height * width, offset=begin).reshape(image.shape)
