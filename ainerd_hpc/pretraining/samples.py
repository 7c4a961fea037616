"""Simulated windows as cells: what would be measured, beside what their g1 says.

The speckle is that of few pixels, whose deviation from the expected C2 is scaled to that of many, and the noise of the
photons is a normal deviate with the variance of Poisson counts: much faster than counting, and the same to a cell that
more than a few entries fall into. The yardstick of `evaluation` counts photons.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ainerd_hpc.evaluation.kinds import KINDS, UNSEEN, Field, log_uniform
from ainerd_hpc.evaluation.speckle import half_decay, intensities, two_time
from ainerd_hpc.kernels.cells import cells, expected_cells
from ainerd_hpc.pretraining.compositions import compose

KNOWN = tuple(name for name in KINDS if name not in UNSEEN)
"""The kinds that are learned; a label is a place in here, from `len(KNOWN)` on that of a composition."""
VIEWS = 4
"""Windows of each composition, which differ in all but the dynamics."""

_LENGTHS = (32, 48, 64, 96, 128, 192, 256, 384, 512)
_LENGTH_SHARES = (0.05, 0.08, 0.1, 0.1, 0.2, 0.1, 0.22, 0.08, 0.07)
"""Frames of a window, and how often."""
_NUM_PIXELS = 256
_FEWEST_SIGMA = 3.0
"""Signal to noise below which a window tells nothing, and is drawn anew."""
_SHARE_WITH_BAD_FRAMES, _MOST_BAD_FRAMES = 0.33, 0.05


class Samples(NamedTuple):
    """Windows, (n, ...)."""

    cells: NDArray[np.float16]
    """(n, 3, 60, 16)."""
    expected: NDArray[np.float16]
    """(n, 60, 16): |g1|^2 in the same cells."""
    half_decay: NDArray[np.float32]
    """(n,): ln of the half decay of |g1|^2 over that which the cells count in; NaN where there is none."""
    label: NDArray[np.int64]
    """(n,)."""

    def of(self, rows: NDArray[np.bool_]) -> Samples:
        """Some of them."""
        return Samples(self.cells[rows], self.expected[rows], self.half_decay[rows], self.label[rows])


_Window = tuple[NDArray[np.float16], NDArray[np.float16], np.float32]


class _Photons(NamedTuple):
    modes: int
    pixels: float
    mean: float
    """Photons per pixel and frame."""


def make_samples(num_each: int, num_compositions: int, seed: int, workers: int) -> Samples:
    """`num_each` windows of every known kind and `VIEWS` of every composition; `workers` processes, the same values."""
    jobs = [(seed, i, i < num_each) for i in range(num_each + num_compositions)]
    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        parts = [row for rows in pool.map(_draw, jobs, chunksize=16) for row in rows]
    columns: Sequence[Sequence[NDArray[np.generic]]] = list(zip(*parts, strict=True))
    return Samples(*(np.stack(column) for column in columns))


def _draw(job: tuple[int, int, bool]) -> list[tuple[*_Window, np.int64]]:
    seed, index, is_known = job
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
    drawn = _known(random) if is_known else _composed(random, len(KNOWN) + index)
    with threadpool_limits(1):
        return [(*_window(g1, random), np.int64(label)) for g1, label in drawn]


def _known(random: np.random.Generator) -> Iterator[tuple[Field, int]]:
    for label, name in enumerate(KNOWN):
        kind, num_frames = KINDS[name], _num_frames(random)
        least = max(kind.tau[0], 0.7 / num_frames)
        tau = log_uniform(random, least, max(kind.tau[1], least))
        yield kind.form(np.arange(num_frames) / num_frames, tau, kind.draw(random, tau)), label


def _composed(random: np.random.Generator, label: int) -> Iterator[tuple[Field, int]]:
    form, tau = compose(random), log_uniform(random, 0.01, 2.0)
    for _ in range(VIEWS):
        num_frames = _num_frames(random)
        yield form(num_frames, max(tau, 0.7 / num_frames)), label


def _num_frames(random: np.random.Generator) -> int:
    return int(random.choice(_LENGTHS, p=_LENGTH_SHARES))


def _window(g1: Field, random: np.random.Generator) -> _Window:
    """What a sample is but for its label: a window that was measured with photons drawn by chance."""
    share = random.uniform(0, _MOST_BAD_FRAMES) if random.random() < _SHARE_WITH_BAD_FRAMES else 0.0
    c2 = _measured(g1, _photons(g1, random), random)
    bad = random.random(len(c2)) < share
    c2[bad], c2[:, bad] = np.nan, np.nan
    found = cells(c2)
    expected = expected_cells(np.abs(g1) ** 2, found.half_decay)
    ratio = np.float32(np.log(half_decay(g1) / found.half_decay))
    return found.values.astype(np.float16), expected.astype(np.float16), ratio


def _photons(g1: Field, random: np.random.Generator) -> _Photons:
    """Contrast 0.02-0.5, 300-30,000 pixels, 0.003-5 photons, so that the decay can be seen at all."""
    squared = np.abs(np.triu(g1, 1)) ** 2
    pairs = max(int((squared > 0.5).sum()), 1)
    for _ in range(100):
        modes = round(log_uniform(random, 2, 50))
        drawn = _Photons(modes, log_uniform(random, 300, 30_000), log_uniform(random, 0.003, 5))
        noise = np.sqrt((1 / drawn.mean**2 + 2 / drawn.mean) / drawn.pixels / pairs)
        if 1 / modes > _FEWEST_SIGMA * noise:
            break
    return drawn


def _measured(g1: Field, photons: _Photons, random: np.random.Generator) -> NDArray[np.float32]:
    expected = 1 + np.abs(g1) ** 2 / photons.modes
    speckle = two_time(intensities(g1, photons.modes, _NUM_PIXELS, random))
    c2 = expected + (speckle - expected) * np.sqrt(_NUM_PIXELS / photons.pixels)
    variance = (1 / photons.mean**2 + 2 * (1 + 1 / photons.modes) / photons.mean) / photons.pixels
    noise = np.triu(random.standard_normal(g1.shape), 1)
    return np.asarray(c2 + np.sqrt(variance * expected) * (noise + noise.T), dtype=np.float32)
