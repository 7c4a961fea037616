"""The engine of multi-tau g2: moments of every pixel at every lag, added up over pixels, in compiled loops.

How it is fast. Pixels are taken in tiles of `_WIDTH`. A tile holds its frames one after the other in one flat array:
every loop over pixels then has a constant length and one address to start from, and becomes vector instructions, with
16-bit integers as long as no sum can leave them, then with float64, which holds integers exactly up to 2^53. Nothing
is transposed. Events are paired one by one at the levels where they are rare, and laid out as a tile where they no
longer are.

How it is exact. Sums over frames are integers, whatever their order. Sums over pixels are unevaluated pairs
high + low of float64 (Knuth; Neumaier, ZAMM 54, 39 (1974)): exact for integers up to about 2^86, good to 1e-30 else.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

_WIDTH = 192  # pixels of a tile: 1000 frames of them stay in the second-level cache
_STRIDE = _WIDTH + 16  # between two moments of a pixel: by no power of two, for which caches have few places
_LARGEST = 45  # count in a 16-bit tile: 32 products of them stay below 2^16
_RARE = 64  # frames to an event, from which on pairing events beats a tile
MARGIN = 8  # frames beyond the largest lag that loops by 4 frames and 4 lags reach


class Plan(NamedTuple):
    """What the pairs of frames have in common for all pixels."""

    first: Any
    """(level,) smallest lag, in frames of the level."""
    num: Any
    """(level,) lags; they are consecutive."""
    begin: Any
    """(level,) index of the first among all lags."""
    num_frames: Any
    """(level,)"""
    margin: int
    """Frames before and after those of a level, at least, where there are none."""
    row: Any
    """(level,) where the frames of the level begin in the next two."""
    valid: Any
    """(frame,) bool."""
    inner: Any
    """(frame,) whether a frame and all its partners are valid."""
    num_pairs: Any
    """(lag,) pairs of valid frames."""


@numba.njit(nogil=True, cache=True)
def relate(valid: Any, plan: Plan) -> None:
    """Fill in what follows from the valid frames, (t,) bool."""
    for level in range(plan.first.size):
        num, row, first = plan.num_frames[level], plan.row[level], plan.first[level]
        plan.valid[row : row + num] = True
        for t in range(num << level):
            plan.valid[row + (t >> level)] &= valid[t]
        plan.inner[row : row + num] = True
        for steps in range(first, first + plan.num[level]):
            for t in range(row, row + num):
                is_pair = plan.valid[t] and plan.valid[t + steps]
                plan.num_pairs[plan.begin[level] + steps - first] += is_pair
                plan.inner[t] &= is_pair and plan.valid[t - steps]


def no_lanes(num_lags: int) -> Any:
    """Memory of `dense` and `events` for the sums of ratios, by place in the tile; `fold` adds it up."""
    return np.zeros(5 * num_lags * _WIDTH)


@numba.njit(nogil=True, cache=True)
def fold(lanes: Any, num_ratios: Any, ratios: Any) -> None:
    """Add to num_ratios (lag,) the number of ratios r, and to ratios (2, 2, lag) their sums, see `multitau.Sums`."""
    for j in range(num_ratios.size):
        lane = lanes[5 * j * _WIDTH : 5 * (j + 1) * _WIDTH]
        for i in range(_WIDTH):
            for kind in range(2):
                ratios[0, kind, j], rest = _two_sum(ratios[0, kind, j], lane[i + 2 * kind * _WIDTH])
                ratios[1, kind, j] += rest + lane[i + (2 * kind + 1) * _WIDTH]
            num_ratios[j] += np.int64(lane[i + 4 * _WIDTH])


@numba.njit(nogil=True, cache=True)
def add_terms(pairs: Any, terms: Any) -> None:
    """Add terms (n,) to pairs (2, n) of high + low."""
    for i in range(terms.size):
        pairs[0, i], rest = _two_sum(pairs[0, i], terms[i])
        pairs[1, i] += rest


@numba.njit(nogil=True, cache=True)
def _two_sum(one: Any, other: Any) -> Any:
    """Sum, and what its rounding left out."""
    total = one + other
    added = total - one
    return total, (one - (total - added)) + (other - added)


@numba.njit(nogil=True, cache=True)
def dense(
    counts: Any, stride: Any, index: Any, scale: Any, whole: Any, exact: Any, plan: Plan, totals: Any, lanes: Any
) -> Any:
    """Add the moments of all pixels to those of their static bins, index, in totals (2, bin, 3 lag).

    Counts are flat, stride from frame to frame. They are whole numbers, and scale (t,) is 1 if they are exact. Returns
    the largest of whole counts in valid frames.
    """
    narrow, wide, moments = _tile(plan)
    highest, top = 0.0, 0.0
    for start in range(0, index.size, _WIDTH):
        here, num = counts[start:], min(_WIDTH, index.size - start)
        if whole:
            top = _fill_narrow(here, stride, num, plan, narrow)
        highest = max(highest, top)
        largest = np.int64(min(top, _LARGEST + 1.0)) if exact else np.int64(_LARGEST + 1)
        if largest > _LARGEST:
            _fill_wide(here, stride, num, scale, wide)
        _levels(narrow, wide, np.int64(0), largest, plan, moments)
        _collect(moments, index[start : start + num], plan.num_pairs, largest <= _LARGEST, totals, lanes)
    return highest


@numba.njit(nogil=True, cache=True)
def _tile(plan: Plan) -> Any:
    """Memory for a tile as uint16 and as float64, and for the moments of its pixels."""
    size = (plan.num_frames[0] + plan.margin) * _WIDTH
    return np.empty(size, np.uint16), np.empty(size, np.float64), np.zeros(3 * plan.num_pairs.size * _STRIDE)


@numba.njit(nogil=True, cache=True)
def _fill_narrow(counts: Any, stride: Any, num: Any, plan: Plan, narrow: Any) -> Any:
    """Copy the valid frames; the largest count in them."""
    largest, valid = np.zeros(_WIDTH, counts.dtype), plan.valid[plan.row[0] :]
    for t in range(plan.num_frames[0]):
        frame, source = narrow[t * _WIDTH : (t + 1) * _WIDTH], counts[t * stride : t * stride + num]
        frame[num:] = 0
        if valid[t]:
            for i in range(num):
                frame[i] = np.uint16(source[i])
                largest[i] = max(largest[i], source[i])
    return _top(largest)


@numba.njit(nogil=True, cache=True)
def _fill_wide(counts: Any, stride: Any, num: Any, scale: Any, wide: Any) -> None:
    for t in range(scale.size):
        frame, source = wide[t * _WIDTH : (t + 1) * _WIDTH], counts[t * stride : t * stride + num]
        for i in range(num):
            frame[i] = source[i] * scale[t]
        frame[num:] = 0


@numba.njit(nogil=True, cache=True)
def _top(lanes: Any) -> Any:
    largest = 0.0
    for i in range(lanes.size):
        largest = max(largest, np.float64(lanes[i]))
    return largest


@numba.njit(nogil=True, cache=True)
def _levels(narrow: Any, wide: Any, level: Any, largest: Any, plan: Plan, moments: Any) -> None:
    """Moments of this and all higher levels from its frames, in narrow if the largest count allows, else in wide."""
    while level < plan.first.size and largest <= _LARGEST:
        _level(narrow, level, (2**16 - 1) // max(largest, 1) ** 2 // 4 * 4, plan, moments)
        level, largest = level + 1, 2 * largest
        if level < plan.first.size:
            _halve(narrow, plan.num_frames[level])
            if largest > _LARGEST:  # it might have been
                largest = _largest(narrow, plan.num_frames[level])
            if largest > _LARGEST:
                for i in range(plan.num_frames[level] * _WIDTH):
                    wide[i] = narrow[i]
    while level < plan.first.size:
        _level(wide, level, plan.num_frames[level], plan, moments)
        level += 1
        if level < plan.first.size:
            _halve(wide, plan.num_frames[level])


@numba.njit(nogil=True, cache=True)
def _halve(frames: Any, num: Any) -> None:
    """Put the num frames of the next level in the place of these."""
    for t in range(num):
        pair, one = frames[2 * t * _WIDTH : 2 * (t + 1) * _WIDTH], frames[t * _WIDTH : (t + 1) * _WIDTH]
        for i in range(_WIDTH):
            one[i] = pair[i] + pair[i + _WIDTH]


@numba.njit(nogil=True, cache=True)
def _largest(frames: Any, num: Any) -> Any:
    largest = np.zeros(_WIDTH, frames.dtype)
    for t in range(num):
        frame = frames[t * _WIDTH : (t + 1) * _WIDTH]
        for i in range(_WIDTH):
            largest[i] = max(largest[i], frame[i])
    return np.int64(_top(largest))


@numba.njit(nogil=True, cache=True)
def _level(frames: Any, level: Any, span: Any, plan: Plan, moments: Any) -> None:
    """Moments of one level; sums over span frames, a multiple of 4 or all, can be held by the type of the frames."""
    num_frames, num, lags = plan.num_frames[level], plan.num[level], plan.num_pairs.size
    padded = (num + 3) // 4 * 4
    parts, always = np.empty((3 * padded + 1) * _WIDTH, frames.dtype), np.bool_(True)
    _blank(frames, level, plan)
    for start in range(0, num_frames, span):
        stop, more = min(start + span, num_frames), start > 0
        parts[:] = 0
        _products(frames, start, stop, plan.first[level], padded, parts)
        _marginals(frames, start, stop, level, plan, padded, parts)
        for j in range(num):
            product = moments[(plan.begin[level] + j) * _STRIDE :]
            past, future = product[lags * _STRIDE :], product[2 * lags * _STRIDE :]
            _store(parts, j, product, more)
            _store(parts, padded + j, past, more)
            _store(parts, 3 * padded - 1 - j, future, more)
            _store(parts, 3 * padded, past, always)
            _store(parts, 3 * padded, future, always)


@numba.njit(nogil=True, cache=True)
def _blank(frames: Any, level: Any, plan: Plan) -> None:
    """Zero the frames that are not valid, and those after the last: then no pair with them counts."""
    num_frames, row, valid = plan.num_frames[level], plan.row[level], plan.valid
    for t in range(num_frames):
        if not valid[row + t]:
            frames[t * _WIDTH : (t + 1) * _WIDTH] = 0
    frames[num_frames * _WIDTH : (num_frames + plan.margin) * _WIDTH] = 0


@numba.njit(nogil=True, cache=True)
def _products(frames: Any, start: Any, stop: Any, first: Any, num: Any, parts: Any) -> None:
    """Add I(t) I(t + first + j) to parts, of 4 frames t and 4 lags j at a time: few loads and stores a product.

    One product alone takes two loads of counts, and a load and a store of the sum for its lag. Sixteen products that
    lie together share them. With p the frames t to t + 3, and q the frames from t + first + j on, the number in the
    picture is the lag, less first + j, to whose sum a product goes:

             q0  q1  q2  q3  q4  q5  q6
        p0    0   1   2   3                    11 loads of counts instead of 32: 4 p and 7 q.
        p1        0   1   2   3                4 loads and stores of sums instead of 16: the products of one lag, a
        p2            0   1   2   3            diagonal of the picture, are added up before they are stored.
        p3                0   1   2   3

    The loop over i does this for the pixels of the tile side by side, which is what becomes vector instructions. Where
    frames are missing or not valid they are zeros (`_blank`), so that no pair needs to be asked for.
    """
    for t in range(start, stop, 4):
        p = frames[t * _WIDTH : (t + 4) * _WIDTH]
        for j in range(0, num, 4):
            q = frames[(t + first + j) * _WIDTH : (t + first + j + 7) * _WIDTH]
            out = parts[j * _WIDTH : (j + 4) * _WIDTH]
            for i in range(_WIDTH):
                p0, p1, p2, p3 = p[i], p[i + _WIDTH], p[i + 2 * _WIDTH], p[i + 3 * _WIDTH]
                q0, q1, q2, q3 = q[i], q[i + _WIDTH], q[i + 2 * _WIDTH], q[i + 3 * _WIDTH]
                q4, q5, q6 = q[i + 4 * _WIDTH], q[i + 5 * _WIDTH], q[i + 6 * _WIDTH]
                out[i] += p0 * q0 + p1 * q1 + p2 * q2 + p3 * q3
                out[i + _WIDTH] += p0 * q1 + p1 * q2 + p2 * q3 + p3 * q4
                out[i + 2 * _WIDTH] += p0 * q2 + p1 * q3 + p2 * q4 + p3 * q5
                out[i + 3 * _WIDTH] += p0 * q3 + p1 * q4 + p2 * q5 + p3 * q6


@numba.njit(nogil=True, cache=True)
def _marginals(frames: Any, start: Any, stop: Any, level: Any, plan: Plan, num: Any, parts: Any) -> None:
    """Add to parts, behind the products, I(t) of the past frames of each lag, then, from the last lag to the first, of
    the future frames; frames that are both for all lags go once to the end of parts."""
    first, row, valid, inner = plan.first[level], plan.row[level], plan.valid, plan.inner
    inside = parts[3 * num * _WIDTH :]
    for t in range(start, stop, 4):
        p = frames[t * _WIDTH : (t + 4) * _WIDTH]
        if inner[row + t] and inner[row + t + 1] and inner[row + t + 2] and inner[row + t + 3]:
            for i in range(_WIDTH):
                inside[i] += p[i] + p[i + _WIDTH] + p[i + 2 * _WIDTH] + p[i + 3 * _WIDTH]
        else:
            for j in range(0, num, 4):
                _weigh(p, valid, row + t + first + j, parts, num + j)
                _weigh(p, valid, row + t - first - num + 1 + j, parts, 2 * num + j)


@numba.njit(nogil=True, cache=True)
def _weigh(p: Any, valid: Any, row: Any, parts: Any, lag: Any) -> None:
    """Sum products as `_products` does, with whether a partner is valid in place of its counts."""
    q0, q1, q2, q3 = int(valid[row]), int(valid[row + 1]), int(valid[row + 2]), int(valid[row + 3])
    q4, q5, q6 = int(valid[row + 4]), int(valid[row + 5]), int(valid[row + 6])
    out = parts[lag * _WIDTH : (lag + 4) * _WIDTH]
    for i in range(_WIDTH):
        p0, p1, p2, p3 = p[i], p[i + _WIDTH], p[i + 2 * _WIDTH], p[i + 3 * _WIDTH]
        out[i] += p0 * q0 + p1 * q1 + p2 * q2 + p3 * q3
        out[i + _WIDTH] += p0 * q1 + p1 * q2 + p2 * q3 + p3 * q4
        out[i + 2 * _WIDTH] += p0 * q2 + p1 * q3 + p2 * q4 + p3 * q5
        out[i + 3 * _WIDTH] += p0 * q3 + p1 * q4 + p2 * q5 + p3 * q6


@numba.njit(nogil=True, cache=True)
def _store(parts: Any, row: Any, to: Any, more: Any) -> None:
    part = parts[row * _WIDTH : (row + 1) * _WIDTH]
    if more:
        for i in range(_WIDTH):
            to[i] += part[i]
    else:
        for i in range(_WIDTH):
            to[i] = part[i]


@numba.njit(nogil=True, cache=True, fastmath={"reassoc"})
def _sum(values: Any) -> Any:
    """Sum of small integers, or of one value: exact in any order, which makes vector instructions of it."""
    total = 0.0
    for value in values:
        total += value
    return total


@numba.njit(nogil=True, cache=True)
def _collect(moments: Any, index: Any, num_pairs: Any, are_small: Any, totals: Any, lanes: Any) -> None:
    """Add the moments of the pixels of a tile to those of their static bins, and to the sums of ratios.

    Small integers are first added up over the neighbours in a static bin, which is exact.
    """
    num_lags, start = num_pairs.size, 0
    while start < _WIDTH:
        label = index[start] if start < index.size else -1
        stop = start + 1
        while are_small and stop < index.size and index[stop] == label:
            stop += 1
        for m in range(3 * num_lags if label >= 0 else 0):
            total = _sum(moments[m * _STRIDE + start : m * _STRIDE + stop])
            totals[0, label, m], rest = _two_sum(totals[0, label, m], total)
            totals[1, label, m] += rest
        for m in range(num_lags, 2 * num_lags if label < 0 else num_lags):
            moments[m * _STRIDE + start : m * _STRIDE + stop] = 0  # without photons no ratio
        start = stop
    for j in range(num_lags):
        product, lane = moments[j * _STRIDE :], lanes[5 * j * _WIDTH : 5 * (j + 1) * _WIDTH]
        past, future = product[num_lags * _STRIDE :], product[2 * num_lags * _STRIDE :]
        _collect_ratios(product, past, future, num_pairs[j], lane)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _collect_ratios(product: Any, past: Any, future: Any, num_pairs: Any, lane: Any) -> None:
    """High and low of the sum of r - 1 and of that of its square, and the number of ratios r, by place in the tile."""
    for i in range(_WIDTH):
        norm = past[i] * future[i]
        excess = product[i] * num_pairs / norm - 1 if norm > 0 else 0.0
        lane[i], rest = _two_sum(lane[i], excess)
        lane[i + _WIDTH] += rest
        lane[i + 2 * _WIDTH], rest = _two_sum(lane[i + 2 * _WIDTH], excess * excess)
        lane[i + 3 * _WIDTH] += rest
        lane[i + 4 * _WIDTH] += norm > 0


@numba.njit(nogil=True, cache=True)
def events(
    pointer: Any, time: Any, count: Any, index: Any, scale: Any, exact: Any, plan: Plan, totals: Any, lanes: Any
) -> None:
    """Do what `dense` does, for the pixels that have events."""
    narrow, wide, moments = _tile(plan)
    pixels, begin = np.empty(_WIDTH, np.int64), 0
    while begin < index.size:
        num, begin = _lit(pointer, index, begin, pixels)
        chosen = pixels[:num]
        num_events, brightest = _photons(pointer, count, chosen)
        level = np.int64(0)
        while level < plan.first.size and (num_events << level) * _RARE < num * plan.num_frames[0]:
            _pair_events(pointer, time, count, chosen, scale, level, plan, moments)
            level += 1
        if level < plan.first.size:
            largest = np.int64(_LARGEST + 1)
            if exact and brightest < 2**16:
                largest = _lay_out(pointer, time, count, chosen, scale, level, plan, narrow)
            if largest > _LARGEST:
                _lay_out(pointer, time, count, chosen, scale, level, plan, wide)
            _levels(narrow, wide, level, largest, plan, moments)
        _collect(moments, index[chosen], plan.num_pairs, exact and brightest < 2**16, totals, lanes)


@numba.njit(nogil=True, cache=True)
def _lit(pointer: Any, index: Any, begin: Any, pixels: Any) -> Any:
    """Fill pixels with those from begin on that have events and a static bin; their number, and where to go on."""
    num = 0
    while num < pixels.size and begin < index.size:
        if index[begin] >= 0 and pointer[begin + 1] > pointer[begin]:
            pixels[num] = begin
            num += 1
        begin += 1
    return num, begin


@numba.njit(nogil=True, cache=True)
def _photons(pointer: Any, count: Any, pixels: Any) -> Any:
    """Number of events of all pixels, and photons of the brightest one."""
    num_events, brightest = 0, 0
    for pixel in pixels:
        photons = 0
        for event in range(pointer[pixel], pointer[pixel + 1]):
            photons += count[event]
        num_events += pointer[pixel + 1] - pointer[pixel]
        brightest = max(brightest, photons)
    return num_events, brightest


@numba.njit(nogil=True, cache=True)
def _lay_out(pointer: Any, time: Any, count: Any, pixels: Any, scale: Any, level: Any, plan: Plan, tile: Any) -> Any:
    """The frames of a level as a tile; the largest count."""
    valid, row, num_frames = plan.valid, plan.row[level], plan.num_frames[level]
    tile[: num_frames * _WIDTH] = 0
    largest = 0.0
    for i in range(pixels.size):
        for event in range(pointer[pixels[i]], pointer[pixels[i] + 1]):
            t = np.int64(time[event] >> level)
            if t < num_frames and valid[row + t]:
                total = tile[t * _WIDTH + i] + count[event] * scale[time[event]]
                tile[t * _WIDTH + i] = total
                largest = max(largest, total)
    return np.int64(largest)


@numba.njit(nogil=True, cache=True)
def _pair_events(
    pointer: Any, time: Any, count: Any, pixels: Any, scale: Any, level: Any, plan: Plan, moments: Any
) -> None:
    """Moments of each pixel at one level, from pairs of its events."""
    first, num, row, num_frames = plan.first[level], plan.num[level], plan.row[level], plan.num_frames[level]
    valid, inner = plan.valid, plan.inner
    product = moments[plan.begin[level] * _STRIDE :]
    past, future = product[plan.num_pairs.size * _STRIDE :], product[2 * plan.num_pairs.size * _STRIDE :]
    product[: num * _STRIDE] = 0
    past[: num * _STRIDE] = 0
    future[: num * _STRIDE] = 0
    for i in range(pixels.size):
        inside, begin = 0.0, pointer[pixels[i]]
        for event in range(begin, pointer[pixels[i] + 1]):
            t = np.int64(time[event] >> level)
            if t >= num_frames:
                break
            if not valid[row + t]:
                continue
            photons = count[event] * scale[time[event]]
            if inner[row + t]:
                inside += photons
            else:
                for j in range(num):
                    past[j * _STRIDE + i] += photons * valid[row + t + first + j]
                    future[j * _STRIDE + i] += photons * valid[row + t - first - j]
            for other in range(event - 1, begin - 1, -1):
                steps = t - np.int64(time[other] >> level)
                if steps >= first + num:
                    break
                if steps >= first and valid[row + t - steps]:
                    product[(steps - first) * _STRIDE + i] += photons * count[other] * scale[time[other]]
        for j in range(num):
            past[j * _STRIDE + i] += inside
            future[j * _STRIDE + i] += inside
