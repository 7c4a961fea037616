"""How the page of a large archive opens and moves: its size, seconds to the first picture, memory, frames.

    python -m benchmarks.page [--maps 10000 100000 1000000]

It is opened from a file in headless Chromium without a GPU, 1440 x 1000. The maps are SYNTHETIC: places in twenty
clusters, the columns that an archive has, and thumbnails of a few kinds of C2 with noise.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ainerd_hpc.report.content import ReportData
from ainerd_hpc.report.page import render
from ainerd_hpc.report.thinning import choose
from tests.support.browser import browser, show, state

NUM_CLUSTERS, NUM_Q_BINS, NUM_WINDOWS = 20, 10, 3
_KINDS = 200
"""Different thumbnails."""
_FIT = ("kww_exponent", "contrast", "baseline", "reduced_chi2", "ageing", "bursts", "unevenness", "suddenness")
_FRAMES = """const done = arguments[arguments.length - 1], stage = document.getElementById('stage'), at = [];
const step = (now) => {
  at.push(now);
  if (at.length > 24) return done(at.slice(1).map((t, i) => t - at[i]));
  const key = at.length % 2 ? (at.length % 4 === 1 ? 'ArrowLeft' : 'ArrowRight') : (at.length % 4 ? '-' : '+');
  stage.dispatchEvent(new KeyboardEvent('keydown', { key }));
  requestAnimationFrame(step);
};
requestAnimationFrame(step);"""
"""Pans and zooms as fast as pictures come, and tells the ms between them."""


class Opened(NamedTuple):
    """What a page took."""

    megabytes: float
    first_picture: float
    """Seconds from the start of the navigation."""
    complete: float
    """Seconds until all around the map is there too."""
    heap: float
    """Megabytes of JavaScript's heap; arrays come on top."""
    frame: float
    """Milliseconds between pictures while the map is moved, median."""
    cpu: float
    """Seconds of the processor, of the thread that draws, until the page is complete."""
    frame_cpu: float
    """Milliseconds of the processor for a picture while the map is moved."""


def synthetic(num: int, seed: int = 0) -> ReportData:
    """A report over so many maps, one in a thousand of them in each of the ten smallest clusters."""
    rng = np.random.default_rng(seed)
    row = np.arange(num)
    scan, window, q_bin = row // (NUM_Q_BINS * NUM_WINDOWS), row // NUM_Q_BINS % NUM_WINDOWS, row % NUM_Q_BINS
    share = np.r_[np.full(10, 0.001), np.full(10, 0.099)]
    label = rng.choice(NUM_CLUSTERS, num, p=share)
    centre = np.c_[np.cos(np.arange(NUM_CLUSTERS)), np.sin(np.arange(NUM_CLUSTERS))] * np.arange(3, 23)[:, None]
    place = centre[label] + rng.normal(0, 1, (num, 2)) * rng.uniform(0.3, 1.2, NUM_CLUSTERS)[label, None]
    whole = pd.DataFrame(
        {
            "map_id": [f"s{s:06d}:{b}:{512 * w}-{512 * w + 512}" for s, b, w in zip(scan, q_bin, window, strict=True)],
            "scan_id": np.char.add("s", np.char.zfill(scan.astype(str), 6)),
            "q_bin": q_bin,
            "q": 0.003 * 1.2**q_bin,
            "age_start": 512 * window,
            "age_stop": 512 * (window + 1),
            "frame_time": 0.01,
            "time": 1.76e9 + 20.0 * scan + 5.12 * window,
            "label": np.where(rng.random(num) < 0.05, -1, label),
            "probability": rng.beta(8, 1.5, num),
            "novelty": rng.beta(1.3, 9, num),
            "x": place[:, 0],
            "y": place[:, 1],
            "tau": np.exp(rng.normal(0, 0.3, num) + label - 8),
            "half_decay": np.exp(rng.normal(0, 0.3, num) + label - 9),
            "temperature": 300 + scan / 1000 + rng.normal(0, 0.02, num),
            "stress": np.round(40 + 20 * np.sin(scan / 5000), 2),
            **{name: rng.normal(0, 1, num) for name in _FIT},
        }
    )
    shown = choose(whole, 10**6, 10_000, 500)
    return ReportData(
        title="Synthetic",
        subtitle=f"{num} maps",
        simulated=True,
        table=whole.iloc[shown.pictured].reset_index(drop=True),
        thumbnails=_thumbnails(rng)[shown.pictured % _KINDS],
        details=[],
        exemplars={},
        quarantine=[],
        doubts=[],
        notes=[],
        facts={},
        sample_columns=("temperature", "stress"),
        whole=whole,
        others=shown.others,
        stands_for=shown.stands_for,
        thinned=shown.text,
    )


def _thumbnails(rng: np.random.Generator, edge: int = 32) -> np.ndarray:
    lag = np.abs(np.subtract.outer(np.arange(edge), np.arange(edge)))
    decay = np.exp(-lag / np.geomspace(0.5, 100, _KINDS)[:, None, None])
    return np.clip(255 * (decay + rng.normal(0, 0.03, decay.shape)), 0, 255).astype(np.uint8)


def measure(driver: Any, path: Path) -> Opened:
    """Open a page and move its map."""
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    start = time.perf_counter()
    show(driver, path)
    complete, cpu = time.perf_counter() - start, _cpu(driver)
    heap = driver.execute_script("return performance.memory.usedJSHeapSize / 1e6")
    frames = driver.execute_async_script(_FRAMES)
    frame_cpu = 1e3 * (_cpu(driver) - cpu) / len(frames)
    size, first = path.stat().st_size / 1e6, state(driver)["firstMs"] / 1e3
    return Opened(size, first, complete, heap, median(frames), cpu, frame_cpu)


def _cpu(driver: Any) -> float:
    """Seconds that the thread of the page has worked since it was loaded."""
    metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(one["value"] for one in metrics if one["name"] == "TaskDuration")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    options = parser.parse_args(arguments)
    print("| maps | MB | first picture s | complete s | heap MB | frame ms | CPU s | CPU ms a frame |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, browser() as driver:
        for num in options.maps:
            path = Path(folder) / "index.html"
            path.write_text(render(synthetic(num)), encoding="utf-8")
            found = measure(driver, path)
            print(f"| {num:,} | {' | '.join(f'{value:.3g}' for value in found)} |")


if __name__ == "__main__":
    main()
