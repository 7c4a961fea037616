"""The cost model of this machine: measured once by `ainerd-hpc calibrate`, else the stated constants."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ainerd_hpc.kernels.choice import Costs
from ainerd_hpc.publishing import write_json

_FRAMES, _PIXELS = 1000, 4000
_DENSITY = 0.03
"""Density of the events that are timed: near where the two forms are equally fast."""


def costs_path() -> Path:
    """The file that keeps the measured costs of this kind of processor."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "ainerd_hpc" / f"costs-{_processor()}.json"


def load_costs() -> Costs:
    """The measured costs where there are any, and they are sound; else the stated ones."""
    try:
        stored = json.loads(costs_path().read_text(encoding="utf-8"))
        costs = Costs(**{name: float(stored[name]) for name in Costs._fields})
    except (OSError, ValueError, KeyError, TypeError):
        return Costs()
    return costs if all(0 < value < 1 for value in costs) else Costs()


def calibrate() -> Costs:
    """Measure the costs on one thread, in some seconds, and keep them."""
    costs = measure()
    costs_path().parent.mkdir(parents=True, exist_ok=True)
    write_json(costs_path(), costs._asdict())
    return costs


def measure() -> Costs:
    """The costs of one thread of this machine; simulated counts without any correlation."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            return _measure()
    finally:
        torch.set_num_threads(threads)


def _measure() -> Costs:
    from ainerd_hpc.kernels import lags, multitau, twotime
    from ainerd_hpc.kernels.counts import to_events
    from ainerd_hpc.kernels.gather import by_pixel, find_events, take

    rng = np.random.default_rng(0)
    frames = rng.poisson(_DENSITY, (_FRAMES, _PIXELS)).astype(np.uint16)
    dense, bright, events = frames.astype(np.int8), frames.astype(np.float64), to_events(frames)
    bounds, labels, lag_level = np.array([0, _PIXELS]), np.ones(_PIXELS, np.int64), lags.delays(_FRAMES)
    norm = twotime.normalisation(twotime.sums(dense, bounds), bounds, False)
    order, position = np.arange(_PIXELS, dtype=np.int32), np.arange(_PIXELS, dtype=np.int32)
    is_dead = np.zeros(_PIXELS, dtype=bool)
    num_products = sum(strip.size for strip in twotime.product_strips(dense, norm))
    num_pairs = float((np.diff(events.pointer) ** 2).sum()) / 2
    times = {
        "int8": least_seconds(lambda: list(twotime.product_strips(dense, norm))),
        "float64": least_seconds(lambda: list(twotime.product_strips(bright, norm))),
        "pairs": least_seconds(lambda: list(twotime.product_strips(events, norm))),
        "take": least_seconds(lambda: take(frames, order, bounds, is_dead, [np.empty_like(dense)])),
        "find": least_seconds(lambda: by_pixel([find_events(frames, position, is_dead)], _PIXELS)),
        "dense g2": least_seconds(lambda: multitau.sums(dense, labels, *lag_level)),
        "events g2": least_seconds(lambda: multitau.sums(events, labels, *lag_level)),
    }
    return Costs(
        pair=times["pairs"] / num_pairs,
        event=(times["find"] + times["events g2"]) / len(events.time),
        int8_product=times["int8"] / (num_products * _PIXELS),
        float64_product=times["float64"] / (num_products * _PIXELS),
        dense_count=(times["take"] + times["dense g2"]) / dense.size,
    )


def least_seconds(function: Callable[[], object], repeats: int = 3) -> float:
    """The least seconds of some calls, after one that is not timed: it loads and compiles."""
    function()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _processor() -> str:
    """A name for this kind of processor, fit for a file name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name).split())
