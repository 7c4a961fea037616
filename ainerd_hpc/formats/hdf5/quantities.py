"""Physical quantities in HDF5, in our units, whatever their attribute `units` (or `unit`, of the APS) says."""

from __future__ import annotations

from math import nan

import h5py
import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.hdf5.reading import get_dataset, number_of, read_array
from ainerd_hpc.formats.units import factor, is_known

_NEXT_STEP = "correct the unit that the file gives"


def unit_of(item: h5py.Dataset) -> str:
    """The unit that a dataset gives; empty where it gives none."""
    key = next((key for key in ("units", "unit") if key in item.attrs), "")
    value = np.atleast_1d(item.attrs[key] if key else "")
    text = value[0] if value.size == 1 else ""
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)


def quantity(file: h5py.File, name: str, unit: str, otherwise: str = "") -> float:
    """A single number in our unit, as of `units.factor`; NaN where there is none.

    Parameters
    ----------
    otherwise : str
        Its unit where the file gives none; ours by default.

    Raises
    ------
    ScanError
        Its unit is not known, or as for `number`.
    """
    found, where = get_dataset(file, name), f"{file.filename}:/{name}"
    if found is None:
        return nan
    value, scale = number_of(found, where), _scale(unit_of(found) or otherwise, unit, where)
    return value if scale == 1.0 else value * scale


def quantities(file: h5py.File, name: str, unit: str, otherwise: str = "") -> np.ndarray:
    """All numbers of a dataset that has to be there in our unit, float64.

    Raises
    ------
    ScanError
        Their unit is not known, or as for `read_array`.
    """
    return np.asarray(read_array(file, name).astype(np.float64) * scale_of(file, name, unit, otherwise))


def beam_center(file: h5py.File, name: str, pixel_size: float) -> float:
    """Where the direct beam is, in pixels; a length is divided by the size of a pixel, m.

    Raises
    ------
    ScanError
        As for `quantity`.
    """
    found, where = get_dataset(file, name), f"{file.filename}:/{name}"
    if found is None:
        return nan
    value, given = number_of(found, where), unit_of(found)
    return value if is_known(given, "pixel") else value * _scale(given, "m", where) / pixel_size


def scale_of(file: h5py.File, name: str, unit: str, otherwise: str = "") -> float:
    """How many of our units one of a dataset's is.

    Raises
    ------
    ScanError
        Its unit is not known.
    """
    found = get_dataset(file, name)
    return _scale("" if found is None else unit_of(found) or otherwise, unit, f"{file.filename}:/{name}")


def _scale(given: str, unit: str, where: str) -> float:
    try:
        return factor(given, unit)
    except ValueError as error:
        raise ScanError(where, str(error), _NEXT_STEP) from None
