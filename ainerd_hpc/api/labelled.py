"""Arrays of a correlation as xarray has them: with coordinates, each with its unit."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ainerd_hpc.correlation.product import Arrays

_NAMES = {"dynamic_q_list": "q"}
_DIMS = {"lag": "delay", "lag_c2": "delay_c2", "lag_window": "delay_window", "age_window": "age"}
"""Dimensions of the product by the coordinate that is looked up along them."""
_COORDINATES = ("q", "lag")
"""Coordinates besides those along a dimension."""
_LONG_NAMES = {
    "delay_c2": "delay",
    "delay_window": "delay",
    "tau": "relaxation time",
    "kww_exponent": "KWW exponent",
}
"""What plots are to call by another name than its own."""


def as_dataset(arrays: Arrays, frame_time: float, num_frames: int) -> xr.Dataset:
    """Arrays of a correlation with their coordinates.

    Parameters
    ----------
    arrays : dict
        name -> (values, dimensions, attributes), as the product has them.
    frame_time : float
        Time between frames as correlated, s.
    num_frames : int
        As correlated.

    Returns
    -------
    Dataset
        Along delay, delay_c2 and delay_window (s), age (s from the first frame, the middle of a window), t1 and t2 (s
        from the first frame), q_bin, with q (1/angstrom) beside it, and law, what is told of the power law.
    """
    found = xr.Dataset({_NAMES.get(name, name): _variable(name, *one) for name, one in arrays.items()})
    found = found.set_coords([name for name in _COORDINATES if name in found])
    if "age" in found.sizes:
        length = num_frames // found.sizes["age"]
        middles = (np.arange(found.sizes["age"]) + 0.5) * length * frame_time
        found = found.assign_coords(age=("age", middles, _attributes("age", {"units": "s"})))
    for name in {"t1", "t2"} & set(found.sizes):
        found = found.assign_coords({name: (name, np.arange(num_frames) * frame_time, {"units": "s"})})
    if "law" in found.sizes:
        found = found.assign_coords(law=found["power_law"].attrs["of"])
    return found.assign_coords(q_bin=np.arange(found.sizes["q_bin"]))


def _variable(
    name: str, values: np.ndarray, dims: tuple[str, ...], attributes: dict[str, object]
) -> tuple[tuple[str, ...], np.ndarray, dict[str, object]]:
    return tuple(_DIMS.get(dim, dim) for dim in dims), values, _attributes(_NAMES.get(name, name), attributes)


def _attributes(name: str, attributes: dict[str, object]) -> dict[str, object]:
    return {"long_name": _LONG_NAMES[name], **attributes} if name in _LONG_NAMES else dict(attributes)
