"""The q maps of 8-ID-I before 2025: `/data/dynamicMap` of a partition file, `/xpcs/dqmap` of a result.

Their lists hold q and phi of every bin, NaN for the empty ones, in the order in which the others are labelled: q slow
(pySimpleMask) or phi slow (the Matlab programs before it). Some list the labelled bins alone. Edges are in `*span`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import h5py
import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.hdf5.quantities import scale_of, unit_of
from ainerd_hpc.formats.hdf5.reading import MOST_PIXELS, get_dataset, get_inner, read_array
from ainerd_hpc.formats.units import PER_ANGSTROM
from ainerd_hpc.kernels.partitioning import Array, Bins, Labels, centres, edges_around


class _Names(NamedTuple):
    root: str
    dynamic: str
    static: str
    suffix: str
    """Names of the lists: `dqval`, `dqlist`."""


_LAYOUTS = (_Names("data", "dynamicMap", "staticMap", "val"), _Names("xpcs", "dqmap", "sqmap", "list"))


def is_legacy(file: h5py.File) -> bool:
    """Whether the file is a partition file of this layout; results are none, though they hold a partition."""
    return isinstance(get_inner(file, "data/dynamicMap"), h5py.Dataset)


def legacy_root(file: h5py.File) -> str:
    """The group of a partition file or a result of this layout; empty where the file is neither."""
    held = (
        names.root for names in _LAYOUTS if isinstance(get_inner(file, f"{names.root}/{names.dynamic}"), h5py.Dataset)
    )
    return next(held, "")


def read_legacy(file: h5py.File) -> tuple[Labels, float, float]:
    """The labels as they stand, and the column and row of the direct beam (NaN where the file does not say).

    Raises
    ------
    ScanError
        A map or a list is missing, or the lists do not fit the labels.
    """
    names = next(names for names in _LAYOUTS if names.root == legacy_root(file))
    mask = read_array(file, f"{names.root}/mask").astype(bool)
    dynamic = _labels(file, f"{names.root}/{names.dynamic}")
    static = _labels(file, f"{names.root}/{names.static}")
    bins = [_read_bins(file, names, "d", int(dynamic.max(initial=0)))]
    bins += [_read_bins(file, names, "s", int(static.max(initial=0)))]
    beam = [_list(file, f"{names.root}/{name}") for name in ("x0", "y0")]
    x, y = (float(value[0]) if value.size == 1 else float("nan") for value in beam)
    return Labels(mask, dynamic, static, bins[0], bins[1], mask), x, y


def legacy_datasets(labels: Labels, beam_center_x: float, beam_center_y: float) -> Mapping[str, Any]:
    """What a partition file of this layout holds in `/data`."""
    content: dict[str, Any] = {
        "mask": labels.mask.astype(np.uint8),
        "dynamicMap": labels.dynamic_roi_map.astype(np.uint32),
        "staticMap": labels.static_roi_map.astype(np.uint32),
        "x0": np.full((1, 1), beam_center_x),
        "y0": np.full((1, 1), beam_center_y),
    }
    for kind, word, bins in (("d", "dynamic", labels.dynamic), ("s", "static", labels.static)):
        place, size = _places(bins)
        for axis, values in (("q", bins.q_list), ("phi", bins.phi[bins.index_mapping % bins.phi.size])):
            content[f"{kind}{axis}val"] = np.full((1, size), np.nan)
            content[f"{kind}{axis}val"][0, place] = values
        content[f"{word}QList"] = np.append(0, place + 1)[np.newaxis]
        for axis, middle, edges in (("q", bins.q, bins.q_edges), ("phi", bins.phi, bins.phi_edges)):
            content[f"{kind}{axis}span"] = (edges if edges.size else edges_around(middle))[np.newaxis]
            content[f"{kind}no{axis}"] = np.full((1, 1), middle.size)
    return content


def _places(bins: Bins) -> tuple[np.ndarray, int]:
    """Where each label stands in the lists, and how long these are: labels have to come in their order."""
    num_q, num_phi = bins.q.size, bins.phi.size
    q_slow = bins.index_mapping
    phi_slow = (q_slow % num_phi) * num_q + q_slow // num_phi
    for place in (q_slow, phi_slow):
        if (np.diff(place) > 0).all():
            return place, num_q * num_phi
    return np.arange(q_slow.size), q_slow.size


def _labels(file: h5py.File, name: str) -> np.ndarray:
    """A map of labels; the Matlab programs wrote -1 for unused, and doubles."""
    labels = read_array(file, name)
    is_whole = labels.dtype.kind in "ui" or (labels.dtype.kind == "f" and (labels == np.round(labels)).all())
    if labels.ndim != 2 or not is_whole or labels.max(initial=0) > MOST_PIXELS:
        problem = f"expected a 2-D map of labels, found {labels.dtype} {labels.shape}"
        raise ScanError(f"{file.filename}:/{name}", problem, "write the partition again")
    return np.asarray(np.maximum(labels, 0), dtype=np.int32)


def _list(file: h5py.File, name: str) -> Array:
    """A list of numbers, however it lies; empty where there is none."""
    return read_array(file, name).astype(np.float64).ravel() if get_dataset(file, name) is not None else np.empty(0)


def _q_list(file: h5py.File, name: str, otherwise: str) -> Array:
    """The same of q, 1/angstrom; `otherwise`: its unit where it gives none."""
    return np.asarray(_list(file, name) * scale_of(file, name, PER_ANGSTROM, otherwise))


def _read_bins(file: h5py.File, names: _Names, kind: str, num_labels: int) -> Bins:
    q_name, phi = f"{names.root}/{kind}q{names.suffix}", _list(file, f"{names.root}/{kind}phi{names.suffix}")
    unit = unit_of(found) if (found := get_dataset(file, q_name)) is not None else ""
    q = _q_list(file, q_name, unit)
    used = np.flatnonzero(np.isfinite(q))
    if used.size != num_labels or phi.size not in (0, q.size):
        problem = (
            f"expected q and phi of {num_labels} labels, found {used.size} finite q of {q.size} and {phi.size} phi"
        )
        raise ScanError(f"{file.filename}:/{names.root}/{kind}q{names.suffix}", problem, "write the partition again")
    phi = phi if phi.size else np.full(q.size, np.nan)
    spans = [_q_list(file, f"{names.root}/{kind}qspan", unit), _list(file, f"{names.root}/{kind}phispan")]
    counts = [_list(file, f"{names.root}/{kind}no{axis}") for axis in ("q", "phi")]
    num_q, num_phi = (int(count[0]) if count.size == 1 and np.isfinite(count[0]) else 0 for count in counts)
    if num_phi == 1 and num_q == q.size:
        same = np.unique(phi[used])
        phi = np.full(q.size, same[0] if same.size == 1 and np.isfinite(same[0]) else 0.0)
    if num_q > 0 and num_phi > 0 and num_q * num_phi == q.size:
        for is_q_slow in (True, False):
            if (bins := _on_grid(q, phi, used, (num_q, num_phi), is_q_slow, spans)) is not None:
                return bins
    return _off_grid(q[used], phi[used])


def _on_grid(
    q: Array, phi: Array, used: np.ndarray, shape: tuple[int, int], is_q_slow: bool, spans: list[Array]
) -> Bins | None:
    """The bins, if all of one ring have one q and all of one sector one phi."""
    num_q, num_phi = shape
    grids = [values.reshape(shape) if is_q_slow else values.reshape(num_phi, num_q).T for values in (q, phi)]
    axes = [_common(grids[0]), _common(grids[1].T)]
    if axes[0] is None or axes[1] is None:
        return None
    mapping = used if is_q_slow else (used % num_q) * num_phi + used // num_q
    edges = [
        span if span.size == axis.size + 1 and np.isfinite(span).all() else np.empty(0)
        for span, axis in zip(spans, (axes[0], axes[1]), strict=True)
    ]
    return Bins(_filled(axes[0], edges[0]), _filled(axes[1], edges[1]), mapping, edges[0], edges[1])


def _common(grid: Array) -> Array | None:
    """What the finite values of each row have in common, NaN where a row has none; None where they differ."""
    low = np.where(np.isfinite(grid), grid, np.inf).min(axis=1)
    high = np.where(np.isfinite(grid), grid, -np.inf).max(axis=1)
    return np.where(low == high, low, np.nan) if ((low == high) | (low > high)).all() else None


def _filled(middle: Array, edges: Array) -> Array:
    """Centres of the bins that are empty all along, from the edges in the spacing of the others."""
    unknown = ~np.isfinite(middle)
    if not edges.size or not unknown.any():
        return middle
    linear = centres(edges, "linear")
    is_log = edges[0] > 0.0 and not np.allclose(linear[~unknown], middle[~unknown], rtol=1e-9, atol=0.0)
    return np.where(unknown, centres(edges, "log") if is_log else linear, middle)


def _off_grid(q: Array, phi: Array) -> Bins:
    """Bins of any q and phi, one a label: the grid of all their q and all their phi holds them."""
    q_axis, i_q = np.unique(q, return_inverse=True)
    phi_axis, i_phi = np.unique(phi, return_inverse=True)
    return Bins(q_axis, phi_axis, i_q * phi_axis.size + i_phi)
