"""Two-time correlation C2 of one q-bin: exact sums of products, then their normalisation.

The sums are the work, N T^2 / 2 products of counts, and there are three ways to them, all exact for counts: int8
products (dense counts up to 127), float64 products (any other dense array), and pairs of events (sparse counts). Which
one is taken follows from the form of the counts; `kernels.choice` tells which form is the fastest.

The sums S(t1, t2) = sum_p I_p(t1) I_p(t2) are symmetric: only t1 <= t2 is made, in strips of 256 rows t1, and mirrored.

                t2 ->
        t1   a a a a a a       Dense counts: a strip is one matrix product, (rows, p) times (p, frames from there on).
        |    . a a a a a       Operands of int8 with sums of int32 are exact as long as 127^2 p < 2^31: pixels are taken
        v    . . b b b b       in blocks. Integers may be added in any order, so threads and blocks change no bit.
             . . . b b b
             . . . . c c       Events: for each pixel, every event with itself and with all later ones: one addition to
             . . . . . c       S(t1, t2) a pair. With d events a pixel and frame, pairs are d^2 times as many as dense
                               products, and each costs some 500 times as much: the border is near d = 0.05.

Smoothing by static bins keeps the integers: S is made for each static bin s and multiplied by w_s(t1) w_s(t2) after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.kernels.counts import LARGEST_INT8, Counts, Dense, Events

_PIXELS_PER_INT8_BLOCK = 2**17
"""Products of counts up to 127 over so many pixels stay below 2^31."""
_PIXELS_PER_FLOAT_BLOCK = 4096
"""float64 copies of 4096 pixel series at a time: 32 MB for 1000 frames."""
_ROWS = 256
"""Rows of products at a time: with t1 <= t2 alone, 1/2 + 128/T of the square."""
_DEVICE_MULTIPLE = 16
"""What CUDA's int8 product wants of every edge."""
_TRANSPOSED = 64
"""Edge of the pieces in which a square is transposed, to stay in the cache."""


def c2(
    counts: Counts,
    starts: NDArray[np.integer[Any]] | None = None,
    valid: NDArray[np.bool_] | None = None,
    device: str = "cpu",
) -> NDArray[np.float32]:
    """Two-time correlation of the pixels of one q-bin.

    c2(t1, t2) = N sum_p X_p(t1) X_p(t2) / (sum_p X_p(t1) sum_p X_p(t2))

    with X = I in the plain definition, and X_p(t) = I_p(t) / <I(t)>_s with static bins ("sqmap" smoothing), where
    <I(t)>_s is the mean over the static bin of p in that frame; static bins without photons in a frame count as 0 there
    and are left out of its sum. The sums over the pixels of a static bin, or of all pixels in the plain definition, are
    exact integers for integer counts, hence the same for every form, order and blocking of the pixels, every number of
    threads and device; what follows is float64 in a fixed order.

    Parameters
    ----------
    counts : (t, p) array or Events
        Photons, or any non-negative intensity, of the p valid pixels of the q-bin in t frames.
    starts : (s,) array of integers, optional
        First pixel of each static bin, ascending from 0; the pixels of a static bin lie side by side.
    valid : (t,) array of bool, optional
        False for bad frames.
    device : str
        Where dense products are made, as torch names it.

    Returns
    -------
    (t, t) float32
        Baseline 1, exactly symmetric. The diagonal is raw: it holds the shot noise. Rows and columns of bad frames, and
        of frames without photons, are NaN.

    References
    ----------
    boost_corr (Argonne), twotime.py: smoothing "sqmap", and "dqmap" for the plain definition, which is also that of
    scikit-beam, xpcs-correlator and NXxpcs (two_time_corr_func).
    """
    num_frames, num_pixels = counts.shape
    bounds = np.append(0 if starts is None else starts, num_pixels).astype(np.int64)
    norm = normalisation(sums(counts, bounds), bounds, starts is not None, valid)
    strips = product_strips(counts, norm, device=device)
    for _, square in tile_rows(strips, num_frames, max(1, num_frames)):
        return normalise(square, norm.scale, norm.scale)
    return np.empty((0, 0), dtype=np.float32)


class Normalisation(NamedTuple):
    """What turns sums of products into C2."""

    bounds: NDArray[np.int64]
    """(s + 1,) first pixel of each static bin, and the end of the last; plain: (0, p)."""
    weights: NDArray[np.float64] | None
    """(s, t) 1 / mean of each static bin in each frame, 0 where it has no photons; None in the plain definition."""
    scale: NDArray[np.float64]
    """(t,) sqrt(N) / sum_p X_p(t); NaN for frames without photons and for bad ones."""


def normalisation(
    sums: NDArray[Any], bounds: NDArray[np.int64], smoothed: bool, valid: NDArray[np.bool_] | None = None
) -> Normalisation:
    """The normalisation of a q-bin, from the counts of each of its static bins in every frame, sums (s, t)."""
    sizes = np.diff(bounds).astype(np.float64)
    weights = None
    if smoothed:
        filled = sums > 0
        weights = np.divide(sizes[:, np.newaxis], sums, out=np.zeros(sums.shape), where=filled)
        total = sizes @ filled
    else:
        total = sums.sum(axis=0).astype(np.float64)
    total[total == 0] = np.nan
    if valid is not None:
        total[~valid] = np.nan
    return Normalisation(bounds, weights, np.sqrt(sizes.sum()) / total)


def normalise(
    sums: NDArray[np.float32], scale_1: NDArray[np.float64], scale_2: NDArray[np.float64]
) -> NDArray[np.float32]:
    """C2 of sums of products (t1, t2), in place: sums x scale(t1) x scale(t2), the scale being of `Normalisation`."""
    _scale(sums, scale_1, scale_2)
    return sums


def tile_rows(
    strips: Iterator[NDArray[Any]], num_frames: int, edge: int, reach: Callable[[int], int] | None = None
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Sums of products by rows of square tiles, from the diagonal to the right; never more of them in memory than one
    row of tiles.

    Parameters
    ----------
    strips : iterator
        Sums of products, from `product_strips` with the same reach.
    num_frames : int
    edge : int
        Frames in a tile, a multiple of 256 or t; the last tile may be smaller.
    reach : callable, optional
        Frame at which the row of tiles that begins at the given frame ends; default: the last one.

    Yields
    ------
    start : int
        First frame of the row.
    sums : (edge, stop - start) float32
        Of frames start : start + edge with start : stop; the square on the diagonal is complete, symmetric.
    """
    for start in range(0, num_frames, edge):
        height = min(edge, num_frames - start)
        rows = np.empty((height, (reach(start) if reach else num_frames) - start), dtype=np.float32)
        for first in range(0, height, _ROWS):
            rows[first : first + _ROWS, first:] = next(strips)
        _mirror(rows)
        yield start, rows


def product_strips(
    counts: Counts,
    norm: Normalisation,
    edge: int = _ROWS,
    reach: Callable[[int], int] | None = None,
    device: str = "cpu",
) -> Iterator[NDArray[Any]]:
    """Sums over p of X_p(t1) X_p(t2), 256 rows t1 at a time, from t2 = the first of them to the end of their tiles.

    Integers in the plain definition of integer counts (int32 or int64, float64 where they came from float64 products),
    else float64. Sums over disjoint sets of pixels add up to that of all. Below the diagonal the entries are undefined.
    """
    products = _pair_products(counts) if isinstance(counts, Events) else _dense_products(counts, device)
    for row in range(0, counts.shape[0], _ROWS):
        rows = row, min(row + _ROWS, counts.shape[0])
        columns = row, reach(row // edge * edge) if reach else counts.shape[0]
        if norm.weights is None:
            yield products(rows, columns, slice(0, counts.shape[1]))
        else:
            total = np.zeros((rows[1] - rows[0], columns[1] - columns[0]))
            for weight, start, stop in zip(norm.weights, norm.bounds[:-1], norm.bounds[1:], strict=True):
                _add_weighted(products(rows, columns, slice(start, stop)), weight, row, total)
            yield total


def methods(counts: Counts) -> set[str]:
    """How the products of these counts are made: `pairs`, `int8`, `float64`, or both of these where some are bright."""
    if isinstance(counts, Events):
        return {"pairs"} if counts.shape[1] else set()
    bright = _needs_float64(counts)
    return {name for name, used in (("float64", bright.any()), ("int8", not bright.all())) if used}


def _needs_float64(counts: Dense) -> NDArray[np.bool_]:
    """Pixels (p,) whose counts int8 cannot hold."""
    if counts.dtype.kind == "f" or not has_exact_int8():
        return np.ones(counts.shape[1], dtype=bool)
    if counts.dtype == np.int8:
        return np.zeros(counts.shape[1], dtype=bool)
    return np.asarray((counts.max(axis=0, initial=0) > LARGEST_INT8) | (counts.min(axis=0, initial=0) < 0))


def sums(counts: Counts, bounds: NDArray[np.int64]) -> NDArray[Any]:
    """Counts of each static bin in each frame, (s, t): int64, float64 for float counts; bins as in `Normalisation`."""
    total = np.zeros((len(bounds) - 1, counts.shape[0]), dtype=np.int64)
    if isinstance(counts, Events):
        _event_sums(counts.pointer, counts.time, counts.count, bounds, total)
    elif counts.dtype == np.int8 and counts.flags.c_contiguous and counts.flags.writeable:
        _int8_sums(counts, bounds, total)
    elif counts.shape[1]:
        dtype = np.float64 if counts.dtype.kind == "f" else np.int64
        return np.asarray(np.add.reduceat(counts, bounds[:-1], axis=1, dtype=dtype).T)
    return total


_Products = Callable[[tuple[int, int], tuple[int, int], slice], NDArray[Any]]


def _pair_products(events: Events) -> _Products:
    """Products by pairs of events; to be called for ascending rows, since each pixel remembers how far it has come."""
    pointer, time, count = _merged(events)
    cursor, stops = pointer[:-1].copy(), pointer[1:]
    most = int(count.max(initial=0)) ** 2 * max(1, events.shape[1])  # in a sum over all pixels
    dtype = np.dtype(np.int32 if most < 2**31 else np.int64 if most < 2**63 else np.float64)
    if dtype == np.float64:
        count = count.astype(dtype)

    def products(rows: tuple[int, int], columns: tuple[int, int], part: slice) -> NDArray[Any]:
        out = np.zeros((rows[1] - rows[0], columns[1] - columns[0]), dtype=dtype)
        _add_pairs(cursor[part], stops[part], time, count, *rows, columns[1], out)
        return out

    return products


def _merged(events: Events) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Pointer, time and count with one event a pixel and frame; of a hot pixel there may be hundreds in each."""
    pointer = np.empty_like(events.pointer)
    _count_distinct(events.pointer, events.time, pointer)
    if pointer[-1] == len(events.time):
        return events.pointer, events.time, events.count
    time, count = np.empty(pointer[-1], np.int32), np.zeros(pointer[-1], np.int64)
    _merge(events.pointer, events.time, events.count, time, count)
    return pointer, time, count


def _dense_products(counts: Dense, device: str) -> _Products:
    """Products of the dim pixels by int8, of the bright ones by float64."""
    import torch

    bright = _needs_float64(counts)
    if bright.all():
        return lambda rows, columns, part: _float_products(counts[slice(*columns), part], rows[1] - rows[0])
    dim = counts if counts.dtype == np.int8 else np.zeros(counts.shape, dtype=np.int8)
    if dim is not counts:
        np.copyto(dim, counts, casting="unsafe", where=~bright)
    tensor = torch.from_numpy(dim if dim.flags.writeable else dim.copy()).to(device)

    def products(rows: tuple[int, int], columns: tuple[int, int], part: slice) -> NDArray[Any]:
        frames, height, is_bright = slice(*columns), rows[1] - rows[0], bright[part]
        total = _int8_products(tensor[frames, part], height)
        return total + _float_products(counts[frames, part], height, is_bright) if is_bright.any() else total

    return products


def _float_products(counts: Dense, height: int, chosen: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Products of the first `height` frames with all, of the chosen pixels: float64, where sums of integers below 2^53
    are exact."""
    products = np.zeros((height, len(counts)))
    pixels = None if chosen is None else np.flatnonzero(chosen)
    for start in range(0, counts.shape[1] if pixels is None else len(pixels), _PIXELS_PER_FLOAT_BLOCK):
        some = slice(start, start + _PIXELS_PER_FLOAT_BLOCK)
        block = np.ascontiguousarray(counts[:, some if pixels is None else pixels[some]], dtype=np.float64)
        products += block[:height] @ block.T
    return products


def _int8_products(counts: Any, height: int) -> NDArray[Any]:
    """The same of an int8 tensor, with int32 sums, on its device."""
    parts = [_int8_product(block, height) for block in counts.split(_PIXELS_PER_INT8_BLOCK, dim=1)]
    return parts[0] if len(parts) == 1 else np.asarray(np.sum(parts, axis=0, dtype=np.int64))


def _int8_product(counts: Any, height: int) -> NDArray[Any]:
    import torch

    if min(counts.shape) == 1:  # torch 2.13 multiplies these wrongly: it cannot tell rows from columns
        return _float_products(counts.cpu().numpy(), height)
    product = torch._int_mm(counts[:height], counts.T) if counts.device.type == "cpu" else _padded(counts, height)
    return np.asarray(product.cpu().numpy())


def _padded(counts: Any, height: int) -> Any:
    """The int8 product as CUDA takes it: with zeros up to multiples of 16."""
    import torch

    num_frames, num_pixels = counts.shape
    more = (0, _multiple(num_pixels) - num_pixels, 0, _multiple(num_frames) - num_frames)
    padded = torch.nn.functional.pad(counts, more)
    return torch._int_mm(padded[: _multiple(height)], padded.T)[:height, :num_frames]


def _multiple(edge: int) -> int:
    return max(2, -(-edge // _DEVICE_MULTIPLE)) * _DEVICE_MULTIPLE


@cache
def has_exact_int8() -> bool:
    """Whether this processor's int8 product is exact: without VNNI instructions, libraries may saturate at 16 bits."""
    import torch

    block = torch.full((64, 256), LARGEST_INT8, dtype=torch.int8)
    return bool((torch._int_mm(block, block.T) == 256 * LARGEST_INT8**2).all())


@numba.njit(nogil=True, cache=True)
def _add_pairs(
    cursor: Any, stops: Any, time: Any, count: Any, row_start: int, row_stop: int, column_stop: int, out: Any
) -> None:
    """Add I(t1) I(t2) of every pixel, t1 in [row_start, row_stop), t2 in [t1, column_stop), to out, from row_start on.

    cursor (p,) is the first event of each pixel at row_start or later; it moves to the first at row_stop or later.
    """
    for pixel in range(cursor.size):
        first, stop = cursor[pixel], stops[pixel]
        while first < stop and time[first] < row_stop:
            row = time[first] - row_start
            photons = np.int64(count[first])
            second = first
            while second < stop and time[second] < column_stop:
                out[row, time[second] - row_start] += photons * count[second]
                second += 1
            first += 1
        cursor[pixel] = first


@numba.njit(nogil=True, cache=True)
def _count_distinct(pointer: Any, time: Any, merged: Any) -> None:
    """merged (p + 1,): where the events of each pixel would begin if those of one frame were one."""
    num = 0
    for pixel in range(pointer.size - 1):
        merged[pixel] = num
        for event in range(pointer[pixel], pointer[pixel + 1]):
            num += event == pointer[pixel] or time[event] != time[event - 1]
    merged[pointer.size - 1] = num


@numba.njit(nogil=True, cache=True)
def _merge(pointer: Any, time: Any, count: Any, merged_time: Any, merged_count: Any) -> None:
    place = -1
    for pixel in range(pointer.size - 1):
        for event in range(pointer[pixel], pointer[pixel + 1]):
            if event == pointer[pixel] or time[event] != time[event - 1]:
                place += 1
                merged_time[place] = time[event]
            merged_count[place] += count[event]


@numba.njit(nogil=True, cache=True)
def _event_sums(pointer: Any, time: Any, count: Any, bounds: Any, total: Any) -> None:
    for static in range(bounds.size - 1):
        row = total[static]
        for event in range(pointer[bounds[static]], pointer[bounds[static + 1]]):
            row[time[event]] += count[event]


@numba.njit(nogil=True, cache=True)
def _int8_sums(counts: Any, bounds: Any, total: Any) -> None:
    for frame in range(counts.shape[0]):
        row = counts[frame]
        for static in range(bounds.size - 1):
            one = np.int32(0)
            for pixel in range(bounds[static], bounds[static + 1]):
                one += np.int32(row[pixel])
            total[static, frame] = one


@numba.njit(nogil=True, cache=True)
def _add_weighted(products: Any, weight: Any, start: int, total: Any) -> None:
    """total += products x weight(t1) x weight(t2), on and above the diagonal; both axes begin at frame start."""
    for row in range(total.shape[0]):
        for column in range(row, total.shape[1]):
            total[row, column] += products[row, column] * (weight[start + row] * weight[start + column])


@numba.njit(nogil=True, cache=True)
def _scale(sums: Any, scale_1: Any, scale_2: Any) -> None:
    for row in range(sums.shape[0]):
        for column in range(sums.shape[1]):
            sums[row, column] *= scale_1[row] * scale_2[column]


@numba.njit(nogil=True, cache=True)
def _mirror(rows: Any) -> None:
    """Complete the square at the left end of rows (n, m >= n) from its upper triangle."""
    edge = rows.shape[0]
    for top in range(0, edge, _TRANSPOSED):
        for left in range(top, edge, _TRANSPOSED):
            for row in range(top, min(top + _TRANSPOSED, edge)):
                for column in range(max(left, row + 1), min(left + _TRANSPOSED, edge)):
                    rows[column, row] = rows[row, column]
