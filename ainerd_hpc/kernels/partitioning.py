"""Bins of q and phi out of the geometry of a detector: arrays in, arrays out.

q = 2 k0 sin(alpha / 2) with k0 = 2 pi E / (h c); phi = -atan2(v, h) in degrees, v rows below and h columns right of the
direct beam. A bin is found by `np.digitize` on values and edges rounded to 12 decimals; the last edge belongs to the
last bin. The natural index of a bin is i_q * n_phi + i_phi; labels count those that hold a pixel, from 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

HC = 12.39841984
"""Planck constant times speed of light, keV angstrom."""
Spacing = Literal["linear", "log"]
_DECIMALS = 12
_CIRCLE = 360.0
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def _unknown() -> Array:
    return np.empty(0)


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """A grid of bins of q and phi, and which of them have a label."""

    q: Array
    """(n_q,) centres, 1/angstrom; geometric means of the edges in log spacing."""
    phi: Array
    """(n_phi,) centres, degrees; a single one where the bins are rings."""
    index_mapping: NDArray[np.int64]
    """(n,) natural index i_q * n_phi + i_phi of each label - 1."""
    q_edges: Array = field(default_factory=_unknown)
    """(n_q + 1,), empty where nothing says."""
    phi_edges: Array = field(default_factory=_unknown)
    """(n_phi + 1,), empty where nothing says."""

    @property
    def q_list(self) -> Array:
        """q of each label, (n,)."""
        return self.q[self.index_mapping // self.phi.size]

    @property
    def phi_list(self) -> Array:
        """phi of each label, (n,), degrees; NaN for rings, which lie at no phi."""
        if self.phi.size == 1:
            return np.full(self.index_mapping.size, np.nan)
        return self.phi[self.index_mapping % self.phi.size]


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Label maps of a detector with their bins."""

    mask: Mask
    """(y, x), True = use the pixel."""
    dynamic_roi_map: NDArray[np.int32]
    """(y, x), labels of `dynamic`, 0 = unused."""
    static_roi_map: NDArray[np.int32]
    """(y, x), labels of `static`, 0 = unused."""
    dynamic: Bins
    static: Bins
    blemish: Mask
    """(y, x), True = the pixel counts well, whether it is used or not."""


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """Bins along q or phi: the static ones, `per_bin` of which make a dynamic one."""

    static_edges: Array
    """(n * per_bin + 1,), increasing."""
    per_bin: int = 1
    spacing: Spacing = "linear"

    @property
    def edges(self) -> Array:
        """Edges of the dynamic bins, (n + 1,)."""
        return self.static_edges[:: self.per_bin]


RING = Axis(np.array([-_CIRCLE / 2.0, _CIRCLE / 2.0]))
"""The whole circle of phi as one bin."""


def scattering_vector(
    height: int,
    width: int,
    beam_center_x: float,
    beam_center_y: float,
    pixel_size: float,
    distance: float,
    energy: float,
) -> Array:
    """q of every pixel, (height, width), 1/angstrom, of a detector normal to the beam.

    A beam centre at whole numbers is the middle of that pixel (pyFAI counts from the corner: half a pixel more).
    """
    y, x = np.arange(height)[:, np.newaxis] - beam_center_y, np.arange(width) - beam_center_x
    alpha = np.arctan(np.hypot(x, y) * pixel_size / distance)
    return np.asarray(4.0 * np.pi * energy / HC * np.sin(alpha / 2.0))


def azimuth(height: int, width: int, beam_center_x: float, beam_center_y: float) -> Array:
    """phi of every pixel, (height, width), degrees in [-180, 180]: 0 to the right, 90 upwards."""
    y, x = np.arange(height)[:, np.newaxis] - beam_center_y, np.arange(width) - beam_center_x
    return np.asarray(-np.degrees(np.arctan2(y, x)))


def even_axis(low: float, high: float, num: int, per_bin: int = 1, spacing: Spacing = "linear") -> Axis:
    """`num` bins from low to high, each of `per_bin` static ones, equally wide or (log) of equal ratio."""
    space = np.linspace if spacing == "linear" else np.geomspace
    return Axis(np.asarray(space(low, high, num * per_bin + 1)), per_bin, spacing)


def axis_over(q: Array, mask: Mask, num: int, per_bin: int = 1, spacing: Spacing = "linear") -> Axis:
    """`num` bins of q from the smallest to the largest of the valid pixels; in log spacing without q = 0.

    Raises
    ------
    ValueError
        No pixel is valid.
    """
    valid = q[mask & np.isfinite(q)].round(_DECIMALS)
    valid = valid[valid > 0.0] if spacing == "log" else valid
    if not valid.size:
        raise ValueError(f"expected valid pixels, found none in {mask.shape}")
    return even_axis(valid.min(), valid.max(), num, per_bin, spacing)


def given_axis(edges: Array, per_bin: int = 1, spacing: Spacing = "linear") -> Axis:
    """Bins between given edges (n + 1,), each divided into `per_bin` static ones."""
    space = np.linspace if spacing == "linear" else np.geomspace
    inner = np.asarray(space(edges[:-1], edges[1:], per_bin, endpoint=False)).T
    return Axis(np.append(inner.ravel(), edges[-1]), per_bin, spacing)


def centres(edges: Array, spacing: Spacing) -> Array:
    """Arithmetic or (log) geometric means of neighbouring edges."""
    low, high = edges[:-1], edges[1:]
    return np.asarray((low + high) / 2.0 if spacing == "linear" else np.sqrt(low * high))


def edges_around(middle: Array) -> Array:
    """The edges (n + 1,) of bins whose n centres are evenly spaced, linear or log; NaN where that is not known.

    Two centres fit either spacing, so it takes three.
    """
    if (edges := _even_edges(middle)) is not None:
        return edges
    if (middle > 0.0).all() and (edges := _even_edges(np.log(middle))) is not None:
        return np.exp(edges)
    return np.full(middle.size + 1, np.nan)


def _even_edges(middle: Array) -> Array | None:
    if middle.size < 3 or not np.isfinite(middle).all():
        return None
    step = (middle[-1] - middle[0]) / (middle.size - 1)
    if not np.allclose(np.diff(middle), step, rtol=1e-6, atol=0.0):
        return None
    return np.asarray(middle[0] + (np.arange(middle.size + 1) - 0.5) * step)


def fold(phi: Array, symmetry: int, start: float) -> Array:
    """phi - start modulo 360 / symmetry, degrees: 0 where it comes within rounding of a whole period."""
    period = _CIRCLE / symmetry
    turned = np.mod(phi - start, period)
    return np.asarray(np.where(turned.round(_DECIMALS) >= round(period, _DECIMALS), 0.0, turned))


def bin_numbers(values: Array, edges: Array) -> NDArray[np.int64]:
    """The bin 0..n-1 of each value between n + 1 edges; -1 outside of them, and for NaN."""
    values, edges = values.round(_DECIMALS), edges.round(_DECIMALS)
    numbers = np.digitize(values, edges) - 1
    numbers[values == edges[-1]] = edges.size - 2
    return np.where(numbers < edges.size - 1, numbers, -1)


def label_bins(mask: Mask, q: Array, phi: Array, q_axis: Axis, phi_axis: Axis, symmetry: int = 1) -> Labels:
    """Labels of the pixels between the edges.

    Parameters
    ----------
    mask : ndarray of bool, (y, x)
        True = the pixel counts well.
    q, phi : ndarray, (y, x)
        1/angstrom; degrees.
    q_axis, phi_axis : Axis
        Bins of both; of phi within one fold of the symmetry.
    symmetry : int
        Pixels whose phi differs by a multiple of 360 / symmetry share a bin.

    Raises
    ------
    ValueError
        No pixel of the mask lies between the edges.
    """
    i_q = bin_numbers(q, q_axis.static_edges)
    start = float(phi_axis.static_edges[0])
    i_phi = bin_numbers(fold(phi, symmetry, start), phi_axis.static_edges - start)
    used = mask & (i_q >= 0) & (i_phi >= 0)
    if not used.any():
        low, high = q_axis.static_edges[[0, -1]]
        raise ValueError(
            f"expected valid pixels with q of {low:.4g} to {high:.4g} 1/angstrom, found none of {mask.size}"
        )
    dynamic = _label(
        i_q // q_axis.per_bin, i_phi // phi_axis.per_bin, used, q_axis.edges, phi_axis.edges, q_axis.spacing
    )
    static = _label(i_q, i_phi, used, q_axis.static_edges, phi_axis.static_edges, q_axis.spacing)
    return Labels(used, dynamic[0], static[0], dynamic[1], static[1], mask)


def _label(
    i_q: NDArray[np.int64], i_phi: NDArray[np.int64], used: Mask, q_edges: Array, phi_edges: Array, spacing: Spacing
) -> tuple[NDArray[np.int32], Bins]:
    """Labels 1..n in natural order without the empty bins, and the bins."""
    natural = i_q * (phi_edges.size - 1) + i_phi
    mapping = np.unique(natural[used])
    labels = np.where(used, np.searchsorted(mapping, natural) + 1, 0).astype(np.int32)
    return labels, Bins(centres(q_edges, spacing), centres(phi_edges, "linear"), mapping, q_edges, phi_edges)
