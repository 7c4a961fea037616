"""Which files may be parts of the scan of another one, by their names alone: they are looked at after the others."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from ainerd_hpc.formats.images.series import split_name
from ainerd_hpc.formats.suffixes import HDF5_SUFFIXES

_PART = re.compile(r".*_data_\d+\.h(df)?5|.*\.bin\.00[1-5]|(sector|scan_start_s)\.npy", re.IGNORECASE)
"""Data files of a master, modules of a detector, two files of the published latents."""
_IMAGES = {".edf", ".cbf", ".tif", ".tiff"}


def parts_of_others(paths: Collection[Path]) -> set[Path]:
    """Data files of masters, modules but the first, images but the first of their series, HDF5 files in a folder below
    another one.

    A wrong guess does no harm: a file that turns out to belong to nobody is looked at like any other.
    """
    with_hdf5 = {path.parent for path in paths if path.suffix.lower() in HDF5_SUFFIXES}
    first: dict[tuple[Path, str, str], int] = {}
    for path in paths:
        prefix, number, rest = split_name(path.name)
        key = path.parent, prefix, rest
        first[key] = min(number, first.get(key, number))
    return {path for path in paths if _is_part(path, with_hdf5, first)}


def _is_part(path: Path, with_hdf5: Collection[Path], first: dict[tuple[Path, str, str], int]) -> bool:
    if _PART.fullmatch(path.name):
        return True
    suffix, (prefix, number, rest) = path.suffix.lower(), split_name(path.name)
    if suffix in _IMAGES:
        return number > first[path.parent, prefix, rest]
    return suffix in HDF5_SUFFIXES and path.parent.parent in with_hdf5
