"""The costs and rates of one thread of this machine, measured on simulated counts without any correlation."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ainerd_hpc.kernels.choice import Costs
from ainerd_hpc.site.calibration import Machine, Rates, keep

_FRAMES, _PIXELS = 1000, 4000
_DENSITY = 0.03
"""Density of the events that are timed: near where the two forms are equally fast."""
_STORED, _BRIGHT = (128, 256, 256), 0.3
"""Frames (t, y, x) that are read and stored, one shard; their photons a pixel and frame: too many for events."""
_WINDOW, _CHANNELS, _EDGE = 1024, 16, 256
"""Frames of a window that is made a map; channels and edge of the image of a convolution."""


def calibrate() -> Machine:
    """Measure this machine on one thread, in some seconds, and keep what was found."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            machine = Machine(_costs(), _rates())
    finally:
        torch.set_num_threads(threads)
    keep(machine)
    return machine


def _costs() -> Costs:
    from ainerd_hpc.kernels import lags, multitau, twotime
    from ainerd_hpc.kernels.counts import to_events
    from ainerd_hpc.kernels.gather import by_pixel, find_events, take

    frames = _counts((_FRAMES, _PIXELS), _DENSITY)
    dense, bright, events = frames.astype(np.int8), frames.astype(np.float64), to_events(frames)
    bounds, labels, lag_level = np.array([0, _PIXELS]), np.ones(_PIXELS, np.int64), lags.delays(_FRAMES)
    norm = twotime.normalisation(twotime.sums(dense, bounds), bounds, False)
    order, position = np.arange(_PIXELS, dtype=np.int32), np.arange(_PIXELS, dtype=np.int32)
    is_dead = np.zeros(_PIXELS, dtype=bool)
    num_products = sum(strip.size for strip in twotime.product_strips(dense, norm))
    num_pairs = float((np.diff(events.pointer) ** 2).sum()) / 2
    times = {
        "int8": cpu_seconds(lambda: list(twotime.product_strips(dense, norm))),
        "float64": cpu_seconds(lambda: list(twotime.product_strips(bright, norm))),
        "pairs": cpu_seconds(lambda: list(twotime.product_strips(events, norm))),
        "take": cpu_seconds(lambda: take(frames, order, bounds, is_dead, [np.empty_like(dense)])),
        "find": cpu_seconds(lambda: by_pixel([find_events(frames, position, is_dead)], _PIXELS)),
        "dense g2": cpu_seconds(lambda: multitau.sums(dense, labels, *lag_level)),
        "events g2": cpu_seconds(lambda: multitau.sums(events, labels, *lag_level)),
    }
    return Costs(
        pair=times["pairs"] / num_pairs,
        event=(times["find"] + times["events g2"]) / len(events.time),
        int8_product=times["int8"] / (num_products * _PIXELS),
        float64_product=times["float64"] / (num_products * _PIXELS),
        dense_count=(times["take"] + times["dense g2"]) / dense.size,
    )


def _rates() -> Rates:
    from ainerd_hpc.archive.groups import array, reading_group, writing_group
    from ainerd_hpc.formats.frames.aps import ApsHdf5, write_raw
    from ainerd_hpc.kernels.maps import make_map

    window = 1 + np.exp(-np.abs(np.subtract.outer(np.arange(_WINDOW), np.arange(_WINDOW))) / 100)
    num_counts = float(np.prod(_STORED))
    with tempfile.TemporaryDirectory() as folder:
        raw, product = Path(folder) / "raw.h5", Path(folder) / "frames.zarr.zip"
        write_raw(raw, _counts(_STORED, _BRIGHT), simulated=True)

        def read() -> np.ndarray:
            with ApsHdf5.open(raw) as source:
                return np.asarray(source.read(0, _STORED[0]))

        def store() -> None:
            with writing_group(product, {}) as group:
                frames = group.create("frames", _STORED, np.uint16, ("t", "y", "x"), (16, *_STORED[1:]), _STORED)
                frames[...] = read()

        def read_again() -> np.ndarray:
            with reading_group(product) as group:
                return np.asarray(array(group, "frames")[...])

        return Rates(
            read_count=cpu_seconds(read) / num_counts,
            stored_count=cpu_seconds(store) / num_counts,
            archived_count=cpu_seconds(read_again) / num_counts,
            map_entry=cpu_seconds(lambda: make_map(window, "robust")) / window.size,
            network_product=_convolution_seconds() / (9 * _CHANNELS**2 * _EDGE**2),
        )


def _convolution_seconds() -> float:
    """Time of one 3x3 convolution of an image, as the networks do it."""
    import torch

    convolution = torch.nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.rand(1, _CHANNELS, _EDGE, _EDGE).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        return cpu_seconds(lambda: convolution(image))


def _counts(shape: tuple[int, ...], mean: float) -> np.ndarray:
    return np.random.default_rng(0).poisson(mean, shape).astype(np.uint16)


def cpu_seconds(function: Callable[[], object]) -> float:
    """The least CPU time of some calls: what else is at work on this machine does not count."""
    return least_seconds(function, clock=time.process_time)


def least_seconds(
    function: Callable[[], object], repeats: int = 3, clock: Callable[[], float] = time.perf_counter
) -> float:
    """The least seconds of some calls, after one that is not timed: it loads and compiles."""
    function()
    seconds = []
    for _ in range(repeats):
        began = clock()
        function()
        seconds.append(clock() - began)
    return min(seconds)
