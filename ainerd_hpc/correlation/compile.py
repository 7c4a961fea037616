"""Compiling the kernels of correlation, which takes half a minute once a machine and much memory."""

from __future__ import annotations

import numpy as np

from ainerd_hpc.kernels import diagonals, event_frames, lags, multitau, twotime
from ainerd_hpc.kernels.bits.bitshuffle import ChunkReader
from ainerd_hpc.kernels.counts import Counts, select, to_dense
from ainerd_hpc.kernels.fitting import kww
from ainerd_hpc.kernels.gather import by_pixel, find_events, pixel_sums, take

_TYPES = (np.uint8, np.uint16, np.uint32, np.int32)
"""The types of frames, as detectors write them."""
_FRAMES = 300
"""More than one strip of products: Numba has a type for pieces of arrays and one for whole ones."""


def compile_kernels(is_corrected: bool = False, has_events: bool = False) -> None:
    """Call every kernel on next to nothing, those for corrected counts and for files of events too where there will be
    some; what is compiled already is only loaded."""
    compile_reading(has_events)
    order, is_dead, labels = np.arange(8, dtype=np.int32), np.zeros(8, dtype=bool), np.repeat([1, 2], 4)
    bounds, valid, (lag, level) = np.array([0, 4, 8]), np.ones(_FRAMES, dtype=bool), lags.delays(_FRAMES)
    dense = np.empty((_FRAMES, 8), dtype=np.int8)
    for dtype in _TYPES:
        frames = np.random.default_rng(0).poisson(1.0, (_FRAMES, 8)).astype(dtype)
        take(frames, order, np.array([0, 8]), is_dead, [dense])
        events = by_pixel([find_events(frames, order, is_dead)], 8)
        if is_corrected:
            take(frames, order, np.array([0, 8]), is_dead, [np.empty_like(frames)])
    corrected = [dense.astype(np.float64)] if is_corrected else []
    every: tuple[Counts, ...] = (dense, events, to_dense(events, np.uint32), *corrected)
    for counts in every:
        select(counts, order)
        pixel_sums(counts, valid)
        multitau.sums(counts, labels, lag, level, valid=valid)
        for smoothed in (False, True):
            norm = twotime.normalisation(twotime.sums(counts, bounds), bounds, smoothed)
            rows = list(twotime.tile_rows(twotime.product_strips(counts, norm), _FRAMES, _FRAMES))
    g2, g2_err = diagonals.g2_from_c2(rows[0][1])
    kww.fit_many(np.arange(1.0, _FRAMES), g2[np.newaxis], g2_err[np.newaxis])


def compile_reading(has_events: bool = False) -> None:
    """Those that read counts, where these are copied only."""
    order, is_dead = np.arange(8, dtype=np.int32), np.zeros(8, dtype=bool)
    for dtype in _TYPES:
        by_pixel([find_events(np.ones((2, 8), dtype=dtype), order, is_dead)], 8)
    for itemsize in (1, 2, 4):
        chunk = b"".join(size.to_bytes(width, "big") for size, width in ((8 * itemsize, 8), (8 * itemsize, 4), (0, 4)))
        ChunkReader(8, itemsize).unpack(chunk, np.empty(8, dtype=f"u{itemsize}"))
    ChunkReader(8, 4).find(chunk, order, np.empty(8, np.int32), np.empty(8, np.uint8), 0)
    if has_events:
        _compile_events(order, is_dead)


def _compile_events(order: np.ndarray, is_dead: np.ndarray) -> None:
    """Those of files of events, in the types of their readers."""
    word = np.array([1 << 16 | 1], dtype=np.uint64)
    block = event_frames.join([event_frames.unpack_rigaku(word, (0, 1))] * 2)
    event_frames.unpack_imm(np.zeros(3, np.uint16), np.zeros(1, np.int64), np.ones(1, np.int64))
    event_frames.to_frames(block, 8)
    event_frames.find(block, order, is_dead)
    event_frames.count_frames(np.zeros(1, np.int32), np.zeros(1, np.int64))
    out = np.empty(1, np.int32), np.empty(1, np.uint32)
    event_frames.pick_frames(block.pixel[:1], block.count[:1], 0, np.arange(9), 0, np.zeros(1, np.int64), out)
